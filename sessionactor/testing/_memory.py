"""A store of plain Python values that lives in the event loop: no thread, no SQLite, no file."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, Final, TypedDict, Unpack

from sessionactor import _paging as paging
from sessionactor._deciding import (
    Answer,
    InsertRows,
    MergeMetadata,
    RemoveRows,
    State,
    Step,
    StoredKey,
    StoredRow,
    decide,
)
from sessionactor._errors import SessionError, SessionNotFoundError
from sessionactor._opening import Durability, Opening
from sessionactor._paging import Bounds, Checkpoint
from sessionactor._records import Row
from sessionactor._registry import SessionRegistry
from sessionactor._requests import (
    OnCorrupt,
    Read,
    ReadChapter,
    ReadMetadata,
    ReadRevision,
    ReadRow,
    ReadRows,
    Slice,
    Write,
)
from sessionactor._rows import decoded
from sessionactor._store import OpenStore, Store
from sessionactor._times import now

_ID: Final = itemgetter(0)


async def _yield() -> None:
    await asyncio.sleep(0)


class MemoryVault:
    """Keeps the content of sessions while no store has them open.

    `open_store` is for a `SessionRegistry(None)`. Two registries, one after the other, that
    are given one vault do not see each other's sessions: which sessions there are is the
    registry's knowledge, not the store's.

    Args:
        hop: Awaited before and after every step of a store, in the place of the way to a
            thread and back: where a scheduler may let others go first. By default each
            is one turn of the event loop.
        clock: Microseconds since the epoch, for `inserted_at`.
    """

    def __init__(
        self, *, hop: Callable[[], Awaitable[None]] = _yield, clock: Callable[[], int] = now
    ) -> None:
        self.hop = hop
        self.clock = clock
        self._contents: dict[str, Content] = {}

    async def open_store(self, opening: Opening) -> Store:
        """Open or create a session.

        Raises:
            SessionNotFoundError: the vault has none of that id, and none is to be created.
        """
        await self.hop()
        if opening.create:
            self._contents[opening.session_id] = Content(self.clock())
        content = self._contents.get(opening.session_id)
        if content is None:
            raise SessionNotFoundError(
                f"session {opening.session_id!r} is not in this vault",
                session_id=opening.session_id,
            )
        await self.hop()
        return MemoryStore(opening.session_id, content, self)


class MemoryStore:
    """One session of a `MemoryVault`, decided and paged by the code that SQLite's is."""

    def __init__(self, session_id: str, content: Content, vault: MemoryVault) -> None:
        self._session_id = session_id
        self._content = content
        self._vault = vault

    async def commit(self, group: Sequence[Write]) -> Sequence[Answer | SessionError]:
        """Decide a group and take it over, at one moment."""
        await self._vault.hop()
        content = self._content
        decision = decide(self._session_id, group, content.state, self._vault.clock(), content)
        content.apply(decision.steps)
        content.state = decision.state
        await self._vault.hop()
        return decision.answers

    async def read(self, request: Read, max_rows: int) -> Any:
        """Answer a read as of one moment."""
        await self._vault.hop()
        answer = self._read(request, max_rows)
        await self._vault.hop()
        return answer

    async def rename(self, name: str) -> None:
        """Do nothing: the registry knows the names."""

    async def close(self) -> None:
        """Leave the content in the vault."""
        await self._vault.hop()

    def _read(self, request: Read, max_rows: int) -> Any:
        content = self._content
        match request:
            case ReadRows():
                stored, rest = content.slice(request, None if request.whole else max_rows)
                return self._slice(stored, None, rest, request.on_corrupt)
            case ReadChapter():
                head, start, stop = content.bounds(request)
                stored, rest = content.slice(
                    ReadRows(request.agent_id, start - 1, stop, without=head),
                    None if request.whole else max_rows,
                )
                if head is not None:
                    stored[:0] = content.row(head)
                return self._slice(stored, head, rest, request.on_corrupt)
            case ReadRow(db_id, key):
                if key is not None:
                    known = content.key(key)
                    db_id = None if known is None else known.db_id
                rows = self._decoded(content.row(db_id), "raise")
                return rows[0] if rows else None
            case ReadMetadata():
                return dict(sorted(content.metadata.items()))
            case ReadRevision():
                return content.state.revision

    def _slice(
        self,
        stored: list[StoredRow],
        head: int | None,
        rest: ReadRows | None,
        on_corrupt: OnCorrupt,
    ) -> Slice:
        rows = self._decoded(stored, on_corrupt)
        if rest is not None:
            rest = rest._replace(on_corrupt=on_corrupt)
        return Slice(rows, head, rest, self._content.state.removed_at)

    def _decoded(self, stored: Sequence[StoredRow], on_corrupt: OnCorrupt) -> list[Row]:
        return decoded(stored, on_corrupt, self._session_id)


class Content:
    """What a session holds; also the look-ups of deciding and of paging."""

    def __init__(self, created_at: int) -> None:
        self.state = State(head=0, high_water=0, revision=0, last_at=created_at, removed_at=0)
        self.metadata: dict[str, str | None] = {}
        self._rows: list[StoredRow] = []  # in the order of their ids
        self._keys: dict[str, StoredKey] = {}

    def apply(self, steps: Sequence[Step]) -> None:
        """Take over what was decided."""
        for step in steps:
            match step:
                case InsertRows(rows, keys):
                    self._rows.extend(rows)
                    self._keys.update((known.key, known) for known in keys)
                case RemoveRows(first_id, _):
                    del self._rows[self._index(first_id) :]
                case MergeMetadata(items, _):
                    self.metadata.update(items)

    def key(self, key: str) -> StoredKey | None:
        """The first use of `key`."""
        return self._keys.get(key)

    def count(self, start: int, stop: int) -> int:
        """How many rows lie in `[start, stop)`."""
        return max(0, self._index(stop) - self._index(start))

    def newest_below(self, stop: int) -> int:
        """The newest row's id below `stop`; 0 where there is none."""
        index = self._index(stop)
        return self._rows[index - 1][0] if index else 0

    def row(self, db_id: int | None) -> list[StoredRow]:
        """The row of that id, if there is one."""
        if db_id is None:
            return []
        index = self._index(db_id)
        return [row for row in self._rows[index : index + 1] if row[0] == db_id]

    def slice(
        self, read: ReadRows, max_rows: int | None
    ) -> tuple[list[StoredRow], ReadRows | None]:
        """At most `max_rows` of the rows asked for, and how to read the rest."""
        start = 0 if read.after is None else self._index(read.after + 1)
        stop = len(self._rows) if read.before is None else self._index(read.before)
        newest = read.newest and read.limit is not None
        order = range(stop - 1, start - 1, -1) if newest else range(start, stop)
        found: Iterator[StoredRow] = islice(self._in_view(read, order), read.limit)
        if newest:
            found = reversed(list(found))
        rows = list(islice(found, max_rows))
        if next(found, None) is None:
            return rows, None
        before = self.state.head + 1 if read.before is None else read.before
        left = None if read.limit is None else read.limit - len(rows)
        return rows, read._replace(after=rows[-1][0], before=before, limit=left, newest=False)

    def bounds(self, read: ReadChapter) -> Bounds:
        """What the chapter holds that is asked for."""
        view = ReadRows(read.agent_id)

        def checkpoints(order: Sequence[int]) -> Iterator[Checkpoint]:
            return (Checkpoint(row[0], row[5]) for row in self._in_view(view, order) if row[4])

        def newest_below(stop: int) -> Checkpoint | None:
            return next(checkpoints(range(self._index(stop) - 1, -1, -1)), None)

        if read.before is None:
            return paging.latest(newest_below(self.state.head + 1))
        index = self._index(read.before)
        at_cursor = next(checkpoints(range(index, self._index(read.before + 1))), None)
        return paging.before(read.before, at_cursor, newest_below)

    def _in_view(self, read: ReadRows, order: Sequence[int]) -> Iterator[StoredRow]:
        for index in order:
            row = self._rows[index]
            if row[0] != read.without and read.agent_id in (None, row[1]):
                yield row

    def _index(self, db_id: int) -> int:
        return bisect_left(self._rows, db_id, key=_ID)


class RegistrySettings(TypedDict, total=False):
    """The keywords of `SessionRegistry`."""

    durability: Durability
    max_active: int | None
    idle_timeout_s: float | None
    mailbox_size: int
    max_message_bytes: int
    open_store: OpenStore


def memory_registry(**settings: Unpack[RegistrySettings]) -> SessionRegistry:
    """A registry for users' tests: in memory, in the event loop, nothing to clean up.

    It behaves as one on disk does, ids, keys, chapters, refusals, passivation and all, but
    nothing outlives it. It starts no threads, so that a test takes microseconds.

        async def test_my_agent_remembers() -> None:
            async with memory_registry() as registry:
                session = await registry.start("chat-1")
                await my_agent(session, "hello")
                assert [row.message["role"] for row in await session.messages()] == [
                    "user", "assistant",
                ]

    Args:
        settings: Keywords of `SessionRegistry`. To make it fail, give
            `open_store=faulty_store(faults, MemoryVault().open_store)`.
    """
    settings.setdefault("open_store", MemoryVault().open_store)
    return SessionRegistry(None, **settings)


__all__ = ["MemoryStore", "MemoryVault", "memory_registry"]
