"""Damaged files of exports: imported whole, or refused, and nothing half made."""

from __future__ import annotations

import contextlib
import os
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Final, Self

from sessionactor import SessionError, SessionRegistry
from sessionactor.interchange import (
    Format,
    ImportedFile,
    export_session,
    import_session,
    import_sessions,
)
from torture.hostile import garbage, messages
from torture.hostile.area import Bystander, Places, answer, broken

_FORMATS: Final[tuple[Format, ...]] = ("sessionactor", "events", "loop")
_AT_ONCE: Final = 3


class Lines:
    """A registry that files of lines are imported into."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._stack = AsyncExitStack()
        self._whole: dict[Format, bytes] = {}

    async def __aenter__(self) -> Self:
        registry = SessionRegistry(self._places.sessions, durability="normal")
        self._registry = await self._stack.enter_async_context(registry)
        self._bystander = await Bystander.start(registry)
        await self._make_exports(registry)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _make_exports(self, registry: SessionRegistry) -> None:
        """Of one session, in which there is all that a session can have."""
        session = await registry.start("in", name="put")
        async with session.turn("t1", agent_id="one") as turn:
            await turn.append({"role": "user", "content": "hello"}, key="k1")
            await turn.append({"role": "summary", "content": "all"}, checkpoint=True)
        chance = Random(5)
        await session.extend(
            "two", [messages.plain(chance, 2) for _ in range(4)], keys=list("abcd")
        )
        await session.update(1, {"role": "user", "content": "hello again"})
        await session.truncate_from(6)
        await session.save_metadata({"a": "b", "c": None})
        await session.set_context(room_id="r")
        for form in _FORMATS:
            path = self._places.sources / f"{form}.jsonl"
            await export_session(registry, "in", path, format=form)
            self._whole[form] = path.read_bytes()
            path.unlink()
        await registry.delete("in")

    async def round(self, chance: Random) -> int:
        for _ in range(_AT_ONCE):
            form = chance.choice(_FORMATS)
            data = garbage.lines(self._whole[form], chance)
            if chance.random() < 0.1:
                data = self._whole[chance.choice(_FORMATS)]  # of another form, perhaps
            await self._import(data, form, chance)
        await self._bystander.check()
        return _AT_ONCE

    async def _import(self, data: bytes, form: Format, chance: Random) -> None:
        before = await self._all()
        path = self._put(data, chance)
        skip_bad = chance.random() < 0.5
        files: list[ImportedFile]
        try:
            if chance.random() < 0.8:
                done = await answer(
                    import_session(self._registry, path, format=form, skip_bad=skip_bad)
                )
                files = [] if isinstance(done, SessionError) else [done]
            else:
                report = await answer(
                    import_sessions(self._registry, path.parent, format=form, skip_bad=skip_bad)
                )
                files = [] if isinstance(report, SessionError) else [*report.files]
        except OSError as error:
            broken(f"a file that is there raised {error!r}", data)
        finally:
            path.unlink()
        imported = [file.session_id for file in files if file.status == "imported"]
        for file in files:
            if file.status == "refused" and not file.problem_count:
                broken("a file was refused, and nobody says why", data)
        after = await self._all()
        if after != before | set(imported):
            broken(f"there were {before}, imported {imported}, there are {after}", data)
        for session_id in imported:
            assert session_id is not None
            session = self._registry.session(session_id)
            rows = await session.messages(on_corrupt="skip")
            count = (await session.info()).message_count
            if count < len(rows):
                broken(f"of {count} messages {len(rows)} are read", data)
            await answer(session.append("one", {}))
            await self._registry.delete(session_id)

    async def _all(self) -> set[str | None]:
        return {file.session_id for file in await self._registry.find("*")}

    def _put(self, data: bytes, chance: Random) -> Path:
        name = chance.choice(
            ["in", "IN", "%2e%2e%2fx", "a_b", "%00", "\ud800", "é", "x" * 240, "-"]
        )
        if chance.random() < 0.3:
            name = garbage.text(chance, 2).replace("/", "").replace("\0", "")[:60] or "in"
        path = self._places.sources / f"{name}.jsonl"
        with contextlib.suppress(OSError, UnicodeEncodeError):
            path.write_bytes(data)
            return path
        path = Path(os.fsdecode(os.fsencode(self._places.sources) + b"/in\xff.jsonl"))
        path.write_bytes(data)
        return path
