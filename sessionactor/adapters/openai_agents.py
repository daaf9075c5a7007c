"""Sessions of OpenAI Agents, kept here: `ActorSession` in the place of `SQLiteSession`.

An item is a message of an ordinary session, as it is; items that compaction makes are
checkpoints, so that `chapters` end where it took place.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self, cast

from agents import SessionSettings, TResponseInputItem
from agents.memory.session_settings import coerce_session_settings, resolve_session_limit

from sessionactor import (
    Batch,
    Page,
    RegistryClosedError,
    Row,
    SearchHit,
    Session,
    SessionExistsError,
    SessionNotFoundError,
    SessionRegistry,
    StaleRevisionError,
)
from sessionactor.adapters._elsewhere import Elsewhere, join, leave, let_go
from sessionactor.adapters._holding import Where
from sessionactor.adapters._openai_items import (
    Items,
    expired,
    item_of,
    items_of,
    newest,
    versions,
)
from sessionactor.adapters._openai_sqlite import ImportedSession, import_sqlite
from sessionactor.adapters._settling import settled

DEFAULT_AGENT: Final = "agent"


class ActorSession:
    """A session of OpenAI Agents: give it to `Runner.run(…, session=…)`.

    What a call returned for is on disk. A call that is cancelled is carried out whole, and
    cancelled then. The session is created by the first item; before, it is empty.

    It needs no closing: the sessions on one directory share a registry, which closes when the
    program ends. Where there is a place for it, `async with` or `aclose` close it earlier.

    On a directory it can be used from any event loop and thread, one loop after another or
    several at once, as `Runner.run_sync` does. With a registry that was given it belongs to the
    registry's loop, and is faster.

    Any call raises what its registry raises: `SessionOwnedError`, `StorageError`,
    `CorruptRowError`, …

    Args:
        session_id: 1 to 200 characters.
        where: An open registry, or the directory of one.
        name: The session's name, if it is created; `None`: a readable one.
        agent_id: Who the items are stored as being of.
        session_settings: `limit`: how many items `get_items` gives without one of its own.
    """

    session_id: str
    session_settings: SessionSettings | None

    def __init__(
        self,
        session_id: str,
        where: Where,
        *,
        name: str | None = None,
        agent_id: str = DEFAULT_AGENT,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings = coerce_session_settings(session_settings or SessionSettings())
        self.agent_id = agent_id
        self._name = name
        self._where = where
        self._path = "" if isinstance(where, SessionRegistry) else os.path.realpath(where)
        self._joined: Elsewhere | None = None
        self._closed = False
        self._is_there = False  # as far as is known: it may be deleted meanwhile

    def __repr__(self) -> str:
        return f"<ActorSession {self.session_id!r}>"

    async def __aenter__(self) -> Self:
        self._closed = False
        await self.registry()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the session, and with the last one on a directory its registry.

        A registry that was given stays open. Calls raise `RegistryClosedError` then, until the
        session is entered again.
        """
        self._closed = True
        if self._joined is not None:
            await leave(self._joined, self)

    def close(self) -> None:
        """As `aclose`, without waiting until files are closed: what `SQLiteSession` has."""
        self._closed = True
        if self._joined is not None:
            let_go(self._joined, self)

    async def get_items(self, limit: int | None = None) -> Items:
        """The items, oldest first; of a session that does not exist, none.

        Args:
            limit: The newest so many, or somewhat fewer: no output of a tool comes without its
                call. The calls and outputs that the newest item belongs to come whole, even if
                they are more. `None`: the limit of `session_settings`, or all. Negative: all.
        """
        session = await self._handle()
        limit = resolve_session_limit(limit, self.session_settings)
        if limit is not None and limit < 0:
            limit = None
        try:
            rows = await (session.messages() if limit is None else newest(session, limit))
        except SessionNotFoundError:
            return []
        return items_of(rows)

    async def add_items(self, items: Items) -> None:
        """Store items, all or none, in one commit.

        Raises:
            MessageEncodingError: something in an item cannot be stored; a `TypeError`.
        """
        registry = await self.registry()
        if items:
            await settled(self._add(registry, list(items)))

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the newest item and return it; `None` where there is none."""
        return await settled(self._pop())

    async def clear_session(self) -> None:
        """Remove all items."""
        await settled(self._clear())

    async def registry(self) -> SessionRegistry | Elsewhere:
        """The registry that was given, or what can be asked of the one on the directory."""
        if self._closed:
            raise RegistryClosedError(f"{type(self).__name__} is closed: {self.session_id!r}")
        if isinstance(self._where, SessionRegistry):
            return self._where
        if self._joined is None or self._joined.is_gone:
            self._joined = await join(self._path, self)
        return self._joined

    async def session(self) -> Session:
        """The session itself, created if it does not exist: rows, turns, metadata, events."""
        registry = await self.registry()
        if self._name is not None and not await registry.exists(self.session_id):
            with suppress(SessionExistsError):  # somebody else was quicker, with another name
                return await registry.start(self.session_id, name=self._name)
        return await registry.start(self.session_id)

    async def chapters(self) -> AsyncIterator[Page]:
        """What lies between compactions or summaries, newest first."""
        async for page in (await self.session()).chapters():
            yield page

    async def search(self, query: str, *, limit: int = 20) -> list[SearchHit]:
        """The items in whose text all words of a query are, newest first."""
        registry = await self.registry()
        return await registry.search(query, limit=limit, session_id=self.session_id)

    async def fork(
        self, session_id: str | None = None, *, name: str | None = None, before: int | None = None
    ) -> ActorSession:
        """Another session that begins with this one's items; this one is not changed.

        Args:
            session_id: Of the new one; `None`: a fresh random one.
            name: Of the new one; `None`: a readable one.
            before: Only rows with a smaller `db_id` come along.

        Raises:
            SessionExistsError: there is a session of that id already.
        """
        new = await (await self.session()).fork(session_id, name=name, before=before)
        return ActorSession(
            new.session_id,
            self._where,
            agent_id=self.agent_id,
            session_settings=self.session_settings,
        )

    async def _handle(self) -> Session:
        return (await self.registry()).session(self.session_id)

    async def _add(self, registry: SessionRegistry | Elsewhere, items: Items) -> None:
        if self._is_there:
            with suppress(SessionNotFoundError):
                return await self._append(registry.session(self.session_id), items)
        if isinstance(registry, SessionRegistry):
            with suppress(SessionExistsError):  # mostly it is new: then it begins with these
                async with registry.create(self.session_id, name=self._name) as batch:
                    self._collect(batch, items)
                self._is_there = True
                return None
        session = await self.session()
        self._is_there = True
        return await self._append(session, items)

    async def _append(self, session: Session, items: Items) -> None:
        async with session.batch() as batch:
            self._collect(batch, items)

    def _collect(self, batch: Batch, items: Items) -> None:
        for item in items:
            message = cast("Mapping[str, Any]", item)
            is_compaction = isinstance(item, Mapping) and message.get("type") == "compaction"
            batch.append(self.agent_id, message, checkpoint=True if is_compaction else None)

    async def _pop(self) -> TResponseInputItem | None:
        session = await self._handle()
        while True:
            try:
                revision = await session.revision()
                head = await session.head()
                if head is None:
                    return None
                async with session.batch(expected_revision=revision) as batch:
                    batch.truncate_from(head.db_id)
            except SessionNotFoundError:
                return None
            except StaleRevisionError:
                continue  # somebody else was quicker: what is newest now?
            return item_of(head)

    async def _clear(self) -> None:
        try:
            await (await self._handle()).clear()
        except SessionNotFoundError:
            return

    # What the framework's compaction asks a store for, where it offers it.

    async def _atomic_replace_items(self, items: Items) -> bool:
        """Replace all items; `False`: a subclass may store them in a way of its own."""
        if not self._stores_as_is():
            return False
        await settled(self._replace_all(items))
        return True

    async def _get_compaction_snapshot(
        self, limit: int, *, prune_prefix: Callable[[TResponseInputItem], bool] | None = None
    ) -> CompactionSnapshot | None:
        """The newest items, and how to replace the end of them if it is still the same."""
        if not self._stores_as_is():
            return None
        session = await self._handle()
        try:
            rows = await session.messages(limit=limit + 1, newest=True)
        except SessionNotFoundError:
            rows = []
        complete = len(rows) <= limit
        rows = rows[-limit:] if limit else []

        async def replace_suffix(start: int, output: Items) -> bool:
            if not rows[start:]:
                return False
            return await settled(self._replace_suffix(rows[start:], output, prune_prefix))

        return CompactionSnapshot(items_of(rows), complete, replace_suffix)

    def _stores_as_is(self) -> bool:
        mine = ActorSession
        return type(self).add_items is mine.add_items and type(self).get_items is mine.get_items

    async def _replace_all(self, items: Items) -> None:
        async with (await self.session()).batch() as batch:
            batch.clear()
            self._collect(batch, items)

    async def _replace_suffix(
        self,
        expected: Sequence[Row],
        output: Items,
        prune_prefix: Callable[[TResponseInputItem], bool] | None,
    ) -> bool:
        session = await self._handle()
        first = expected[0].db_id
        while True:
            try:
                revision = await session.revision()
                if versions(await session.messages(after=first - 1)) != versions(expected):
                    return False
                async with session.batch(expected_revision=revision) as batch:
                    if prune_prefix is not None:
                        batch.remove(await expired(session, first, prune_prefix))
                    batch.truncate_from(first)
                    self._collect(batch, output)
            except SessionNotFoundError:
                return False
            except StaleRevisionError:
                continue  # something changed since: perhaps not what is to be replaced
            return True


@dataclass(frozen=True, slots=True)
class CompactionSnapshot:
    """The newest items of a session, in the shape in which the framework's compaction asks."""

    items: Items
    complete: bool
    """Whether these are all."""
    replace_suffix: Callable[[int, Items], Awaitable[bool]]
    """Replace all from that item on in one commit, unless it has changed: whether it was done."""


__all__ = ["ActorSession", "CompactionSnapshot", "ImportedSession", "import_sqlite"]
