"""The store: the one object that speaks SQL to one session's file, a thread hop a call."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

import aiosqlite

from sessionactor import _rows as rows
from sessionactor import _sql as sql
from sessionactor._chapters import ChapterCache
from sessionactor._deciding import Answer, StoredRow
from sessionactor._errors import SessionError
from sessionactor._opening import Connector, Opening, storage_error
from sessionactor._records import Row
from sessionactor._requests import (
    MAX_ID,
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

_T = TypeVar("_T")


class Store(Protocol):
    """What an actor needs of a store. Only its actor calls it, one call at a time."""

    async def commit(self, group: Sequence[Write]) -> Sequence[Answer | SessionError]:
        """Store a group in one transaction: an answer or a refusal for each write.

        Raises:
            StorageError: nothing of the group is stored.
        """

    async def read(self, request: Read, max_rows: int) -> Any:
        """Answer a read, with at most `max_rows` rows unless it asks for the whole."""

    async def rename(self, name: str) -> None:
        """Store another name for the session."""

    async def close(self) -> None:
        """Let go of the file. What was committed is there when it is opened again."""


OpenStore: TypeAlias = Callable[[Opening], Awaitable[Store]]


async def open_store(opening: Opening) -> Store:
    """Open, or create, a session's file in one thread hop.

    Raises:
        SessionNotFoundError: there is none, and `create` was not asked for.
        SessionExistsError: something else has the new file's name.
        SchemaVersionError: it was written by a newer version.
        StorageError: the disk failed.
    """
    connector = Connector(opening)
    database = aiosqlite.Connection(connector, 64)
    try:
        await database
    except BaseException as error:
        connector.abandon()
        _ended(connector.thread)
        if isinstance(error, sqlite3.Error | OSError) and not isinstance(error, SessionError):
            raise storage_error(opening, error) from error
        raise
    return SqliteStore(opening, database, connector)


def join_threads() -> None:
    """Wait for the threads of closed stores, which end by themselves, to be gone."""
    for thread in _ending.copy():
        thread.join(timeout=1.0)  # a thread that hangs shall not hang the event loop
        _ending.discard(thread)


_ending: set[threading.Thread] = set()


def _ended(thread: threading.Thread | None) -> None:
    _ending.difference_update([other for other in _ending.copy() if not other.is_alive()])
    if thread is not None:
        _ending.add(thread)


class SqliteStore:
    """A session in SQLite, through aiosqlite."""

    def __init__(
        self,
        opening: Opening,
        database: aiosqlite.Connection,
        connector: Connector,
    ) -> None:
        self._opening = opening
        self._session_id = opening.session_id
        self._database = database
        self._connector = connector
        self._state = connector.loaded.state
        self._latest = ChapterCache()

    async def commit(self, group: Sequence[Write]) -> Sequence[Answer | SessionError]:
        decision = await self._call(partial(sql.commit, self._session_id, group, self._state))
        self._state = decision.state
        self._latest.follow(decision.steps)
        return decision.answers

    async def read(self, request: Read, max_rows: int) -> Any:
        match request:
            case ReadRows():
                limit = MAX_ID if request.whole else max_rows
                return await self._call(partial(self._rows, request, limit))
            case ReadChapter():
                cached = self._latest.get(request.agent_id) if request.before is None else None
                if cached is not None:
                    read = rows.finished(cached.rows)
                    return Slice(read, cached.checkpoint_id, None, self._state.removed_at)
                limit = MAX_ID if request.whole else max_rows
                return await self._call(partial(self._chapter, request, limit))
            case ReadRow():
                found = await self._call(partial(self._row, request))
                return found[0] if found else None
            case ReadMetadata():
                return await self._call(sql.read_metadata)
            case ReadRevision():
                return self._state.revision

    async def rename(self, name: str) -> None:
        await self._call(partial(sql.rename, sql.Identity(self._session_id, name)))

    async def close(self) -> None:
        try:
            if self._opening.keep is not None:
                self._opening.keep(await self._call(sqlite3.Connection.serialize))
        finally:
            await self._close()

    async def _close(self) -> None:
        try:
            await self._database.close()
        except (sqlite3.Error, OSError) as error:
            raise storage_error(self._opening, error) from error
        finally:
            self._connector.leave()
            _ended(self._connector.thread)

    def _rows(self, read: ReadRows, limit: int, connection: sqlite3.Connection) -> Slice:
        stored, rest = sql.read_rows(read, limit, connection)
        if rest is not None and rest.before is None:
            rest = rest._replace(before=self._state.head + 1)  # what comes later is not part of it
        return Slice(self._decoded(stored, read.on_corrupt), None, rest, self._state.removed_at)

    def _chapter(self, read: ReadChapter, limit: int, connection: sqlite3.Connection) -> Slice:
        stored, head, rest = sql.read_chapter(read, limit, connection)
        if rest is not None and rest.before is None:
            rest = rest._replace(before=self._state.head + 1)
        found = self._decoded(stored, read.on_corrupt)
        if read.before is None and rest is None and len(found) == len(stored):
            self._latest.put(read.agent_id, head, stored)
        return Slice(found, head, rest, self._state.removed_at)

    def _row(self, read: ReadRow, connection: sqlite3.Connection) -> list[Row]:
        return self._decoded(sql.read_row(read, connection), "raise")

    def _decoded(self, stored: Sequence[StoredRow], on_corrupt: OnCorrupt) -> list[Row]:
        return rows.decoded(stored, on_corrupt, self._session_id)

    async def _call(self, procedure: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a procedure in the connection's thread."""
        try:
            result: Any = await self._database.execute_fetchall(sql.CALL, (procedure,))
        except SessionError:
            raise
        except (sqlite3.Error, OSError, MemoryError) as error:
            raise storage_error(self._opening, error) from error
        answer: _T = result
        return answer
