"""The store: the one object that speaks SQL to one session's file, a thread hop a call."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar
from urllib.parse import quote

import aiosqlite

from sessionactor import _files as files
from sessionactor import _names as names
from sessionactor import _schema as schema
from sessionactor import _sql as sql
from sessionactor._chapters import ChapterCache
from sessionactor._deciding import Answer, StoredRow
from sessionactor._errors import (
    SchemaVersionError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
    StorageError,
)
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
    Write,
)
from sessionactor._sql import Identity
from sessionactor._times import now

Durability: TypeAlias = Literal["full", "normal"]
BUSY_TIMEOUT_S: Final = 5.0
"""How long a write waits for a lock that some other program holds on the file."""

_T = TypeVar("_T")


class Opening(NamedTuple):
    """Which session a store is opened for, and how."""

    session_id: str
    name: str
    path: Path | None
    """`None`: in memory."""
    create: bool
    """Whether to make the session; otherwise it has to be there."""
    durability: Durability
    image: bytes | None = None
    """In memory: the content, as `keep` was given it."""
    keep: Callable[[bytes], None] | None = None
    """In memory: takes the content when the store closes."""


class Slice(NamedTuple):
    """Rows of a read, and how to go on where there are more."""

    rows: list[Row]
    checkpoint_id: int | None
    rest: ReadRows | None
    removed_at: int
    """The revision of the newest removal: where it differs, slices do not belong together."""


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
    connector = _Connector(opening)
    database = aiosqlite.Connection(connector, 64)
    try:
        await database
    except BaseException as error:
        connector.abandon()
        if isinstance(error, sqlite3.Error | OSError) and not isinstance(error, SessionError):
            raise _storage_error(opening, error) from error
        raise
    return SqliteStore(opening, database, connector.loaded)


class SqliteStore:
    """A session in SQLite, through aiosqlite."""

    def __init__(
        self, opening: Opening, database: aiosqlite.Connection, loaded: sql.Loaded
    ) -> None:
        self._opening = opening
        self._session_id = opening.session_id
        self._database = database
        self._state = loaded.state
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
                    rows = sql.decoded(cached.rows, request.on_corrupt, self._session_id)
                    return Slice(rows, cached.checkpoint_id, None, self._state.removed_at)
                limit = MAX_ID if request.whole else max_rows
                return await self._call(partial(self._chapter, request, limit))
            case ReadRow():
                rows = await self._call(partial(self._row, request))
                return rows[0] if rows else None
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
            raise _storage_error(self._opening, error) from error

    def _rows(self, read: ReadRows, limit: int, connection: sqlite3.Connection) -> Slice:
        stored, rest = sql.read_rows(read, limit, connection)
        if rest is not None and rest.before is None:
            rest = rest._replace(before=self._state.head + 1)  # what comes later is not part of it
        return Slice(self._decoded(stored, read.on_corrupt), None, rest, self._state.removed_at)

    def _chapter(self, read: ReadChapter, limit: int, connection: sqlite3.Connection) -> Slice:
        stored, head, rest = sql.read_chapter(read, limit, connection)
        if rest is not None and rest.before is None:
            rest = rest._replace(before=self._state.head + 1)
        if read.before is None and rest is None:
            self._latest.put(read.agent_id, head, stored)
        return Slice(self._decoded(stored, read.on_corrupt), head, rest, self._state.removed_at)

    def _row(self, read: ReadRow, connection: sqlite3.Connection) -> list[Row]:
        return self._decoded(sql.read_row(read, connection), "raise")

    def _decoded(self, stored: Sequence[StoredRow], on_corrupt: OnCorrupt) -> list[Row]:
        return sql.decoded(stored, on_corrupt, self._session_id)

    async def _call(self, procedure: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a procedure in the connection's thread."""
        try:
            result: Any = await self._database.execute_fetchall(sql.CALL, (procedure,))
        except SessionError:
            raise
        except (sqlite3.Error, OSError, MemoryError) as error:
            raise _storage_error(self._opening, error) from error
        answer: _T = result
        return answer


class _Connector:
    """Opens the connection in its own thread, and closes it again if nobody waits any more."""

    loaded: sql.Loaded

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._abandoned = False

    def __call__(self) -> sqlite3.Connection:
        connection = _connect(self._opening)
        try:
            self.loaded = _prepare(self._opening, connection)
            with self._lock:
                if self._abandoned:
                    raise asyncio.CancelledError
                self._connection = connection
        except BaseException:
            connection.close()
            raise
        return connection

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            if self._connection is not None:
                self._connection.close()


def _connect(opening: Opening) -> sqlite3.Connection:
    path = opening.path
    if path is None:
        connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, factory=sql.Connection
        )
        connection.deserialize(
            opening.image or schema.image(opening.session_id, opening.name, now())
        )
        return connection
    if opening.create:
        _create(opening, path)
    else:
        _check_file(opening, path)
    # mode=rw: a file that vanished meanwhile is an error, not an empty database.
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        factory=sql.Connection,
    )


def _create(opening: Opening, path: Path) -> None:
    image = schema.as_wal(schema.image(opening.session_id, opening.name, now()))
    try:
        files.create(path, path.with_name(names.draft_name(names.part_of(path.name))), image)
    except FileExistsError as error:
        raise SessionExistsError(
            f"session {opening.session_id!r} cannot be created: {path} exists already and is"
            f" {files.inspect(path).value}; move it away or use another id or name",
            session_id=opening.session_id,
        ) from error


def _check_file(opening: Opening, path: Path) -> None:
    match files.inspect(path):
        case files.Kind.MISSING:
            raise SessionNotFoundError(
                f"session {opening.session_id!r} has no file {path}", session_id=opening.session_id
            )
        case files.Kind.NEWER:
            raise newer_version(path, opening.session_id)
        case files.Kind.FOREIGN:
            raise SessionNotFoundError(
                f"session {opening.session_id!r} does not exist: {path} is not a session file",
                session_id=opening.session_id,
            )


def _prepare(opening: Opening, connection: sqlite3.Connection) -> sql.Loaded:
    level = "FULL" if opening.durability == "full" else "NORMAL"
    connection.execute(f"PRAGMA synchronous = {level}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {schema.WAL_PAGES}")
    if not opening.create:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > schema.VERSION and opening.path is not None:
            raise newer_version(opening.path, opening.session_id)
        schema.migrate(connection, version)
    loaded = sql.load(connection)
    identity = sql.Identity(opening.session_id, opening.name)
    if loaded.identity != identity:  # the file was copied or renamed by hand
        sql.rename(identity, connection)
    return loaded


def read_identity(path: Path) -> Identity:
    """The true id and name of a session, from its file. Blocks.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)
        try:
            return sql.load(connection).identity
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StorageError(f"cannot read {path}: {error}", path=path) from error


def newer_version(path: Path, session_id: str) -> SchemaVersionError:
    """The error for a file that a newer version of this package wrote."""
    return SchemaVersionError(
        f"{path} was written by a newer version of sessionactor than this one, which reads up"
        f" to version {schema.VERSION}: upgrade to open it",
        path=path,
        session_id=session_id,
    )


def _storage_error(opening: Opening, error: BaseException) -> StorageError:
    place = opening.path or "memory"
    return StorageError(
        f"session {opening.session_id!r} in {place}: {error or type(error).__name__}",
        path=opening.path,
        session_id=opening.session_id,
    )
