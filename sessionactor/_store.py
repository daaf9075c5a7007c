"""The store: the one object that speaks SQL to one session's file, a thread hop a call."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

import aiosqlite

from sessionactor import _sql as sql
from sessionactor._changes import StoredInfo
from sessionactor._content import Content
from sessionactor._deciding import Decision
from sessionactor._errors import SessionError
from sessionactor._loading import DAMAGE
from sessionactor._opening import Connector, Opening, storage_error
from sessionactor._requests import Read, Write

_T = TypeVar("_T")


class Store(Protocol):
    """What an actor needs of a store. Only its actor calls it, one call at a time."""

    async def commit(self, group: Sequence[Write]) -> Decision:
        """Store a group in one transaction: what it came to, an answer for each write.

        Raises:
            StorageError: nothing of the group is stored.
        """

    async def read(self, request: Read, max_rows: int) -> Any:
        """Answer a read, with at most `max_rows` rows unless it asks for the whole."""

    def info(self) -> StoredInfo:
        """What the session is, after the newest commit; no I/O."""

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
        if isinstance(error, DAMAGE) and not isinstance(error, SessionError):
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
        self._database = database
        self._connector = connector
        self._content = Content(opening.session_id, connector.loaded, opening.token)

    async def commit(self, group: Sequence[Write]) -> Decision:
        decision = await self._call(partial(self._commit, group))
        self._content.follow(decision)
        return decision

    def _commit(self, group: Sequence[Write], connection: sql.Connection) -> Decision:
        decision = self._content.commit(group, connection)
        self._connector.check_place()
        return decision

    async def read(self, request: Read, max_rows: int) -> Any:
        known = self._content.known(request)
        if known is not None:
            return known
        return await self._call(partial(self._content.read, request, max_rows))

    def info(self) -> StoredInfo:
        return self._content.info

    async def close(self) -> None:
        try:
            if self._opening.keep is not None:
                self._opening.keep(await self._call(sqlite3.Connection.serialize))
            elif not self._connector.is_in_place():
                await self._call(self._connector.settle)
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

    async def _call(self, procedure: Callable[[sql.Connection], _T]) -> _T:
        """Run a procedure in the connection's thread."""
        try:
            result: Any = await self._database.execute_fetchall(sql.CALL, (procedure,))
        except SessionError:
            raise
        except (sqlite3.Error, OSError, MemoryError, UnicodeDecodeError) as error:
            # The last one is of SQLite's own words, which quote what is damaged.
            raise storage_error(self._opening, error) from error
        answer: _T = result
        return answer
