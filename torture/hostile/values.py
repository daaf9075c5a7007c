"""Messages, metadata and all other arguments of calls: stored as they are, or refused by us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random
from types import TracebackType
from typing import Any, Final, Self

from sessionactor import Session, SessionError, SessionRegistry
from sessionactor._nesting import MAX_DEPTH
from torture.hostile import garbage, messages
from torture.hostile.area import Bystander, Places, answer, broken, said
from torture.hostile.comparing import depth, is_known, same

_AT_ONCE: Final = 15


class Values:
    """A session that is called with what it should not be called with."""

    def __init__(self, places: Places) -> None:
        self._directory = places.sessions
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        registry = SessionRegistry(self._directory, durability="normal", max_message_bytes=1 << 20)
        self._registry = await self._stack.enter_async_context(registry)
        self._bystander = await Bystander.start(registry)
        self._session = await registry.start("called")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def round(self, chance: Random) -> int:
        for _ in range(_AT_ONCE):
            await self._plain(messages.plain(chance))
            await self._deep(messages.deep(chance))
            await self._evil(messages.evil(chance))
            await self._metadata(chance)
            await self._arguments(chance)
        await self._bystander.check()
        await self._session.clear()
        return 5 * _AT_ONCE

    async def _plain(self, message: dict[Any, Any]) -> None:
        db_id = await self._session.append("one", message)
        row = await self._session.get(db_id)
        if row is None or not same(row.message, message):
            broken(f"a message came back as {row!r:.200}", message)

    async def _deep(self, message: dict[str, Any]) -> None:
        levels = depth(message)
        stored = await answer(self._session.append("one", message))
        if isinstance(stored, SessionError) != (levels > MAX_DEPTH):
            broken(f"of {levels} levels, where {MAX_DEPTH} may be, came {stored!r:.100}", levels)
        if isinstance(stored, int):
            row = await self._session.get(stored)
            if row is None or not same(row.message, message):
                broken("a deep message came back as another one", levels)

    async def _evil(self, message: Any) -> None:
        stored = await answer(self._session.append("one", message))
        if isinstance(stored, int):
            row = await self._session.get(stored)
            if row is None or type(row.message) is not dict or not is_known(row.message):
                broken(f"what was stored came back as {row!r:.200}", type(message))

    async def _metadata(self, chance: Random) -> None:
        given = chance.choice([garbage.odd(chance), {garbage.text(chance, 2): garbage.odd(chance)}])
        before = await self._session.get_metadata()
        saved = await answer(self._session.save_metadata(given))
        after = await self._session.get_metadata()
        if isinstance(saved, SessionError):
            if after != before:
                broken("metadata that was refused is stored", given)
        elif not all(isinstance(value, str | None) for value in after.values()):
            broken(f"metadata became {after!r:.200}", given)
        elif set(after) != set(before) | set(given):
            broken(f"of metadata there is {after!r:.200}", given)

    async def _arguments(self, chance: Random) -> None:
        def any_of(*more: Any) -> Any:
            return chance.choice(more) if more and chance.random() < 0.4 else garbage.odd(chance)

        await answer(chance.choice(_CALLS)(self._session, any_of))
        await answer(self._session.set_state("idle"))
        await answer(
            self._registry.sessions(limit=any_of(5), state=any_of("idle"), active=any_of())
        )
        said(lambda: self._session.subscribe(since=any_of(0), agent_id=any_of("a")))


_AnyOf = Callable[..., Any]
_CALLS: Final[tuple[Callable[[Session, _AnyOf], Awaitable[Any]], ...]] = (
    lambda s, of: s.append(of("a"), {}, key=of("k"), turn=of("t")),
    lambda s, of: s.append("a", {}, parent=of(1), keep_from=of(1)),
    lambda s, of: s.append("a", {}, checkpoint=of(True), keep_from=of(1)),
    lambda s, of: s.append("a", {}, expected_head=of(0)),
    lambda s, of: s.extend(of("a"), of([{}]), keys=of(["k"])),
    lambda s, of: s.messages(agent_id=of("a"), after=of(1), limit=of(1)),
    lambda s, of: s.messages(before=of(1), on_corrupt=of("skip")),
    lambda s, of: s.messages_before_checkpoint(of(1), agent_id=of(None)),
    lambda s, of: s.get(of(1), key=of(None)),
    lambda s, of: s.update(of(1), of({})),
    lambda s, of: s.truncate_from(of(10**6)),
    lambda s, of: s.remove(of([10**6])),
    lambda s, of: s.set_context(room_id=of("r"), channel_id=of(None)),
    lambda s, of: s.set_state(of("idle"), of("t")),
    lambda s, of: s.rename(of("a name")),
)
