"""The catalog's file, shared by processes: two connections, and how it is made anew.

It is derived, so one that is missing, damaged, foreign or of an older version is replaced by
an empty one. Others who have the old one open notice that it is another file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import aiosqlite

from sessionactor import _catalog_schema as schema
from sessionactor import _files as files
from sessionactor import _names as names
from sessionactor._errors import SchemaVersionError, SessionError, StorageError
from sessionactor._sql import CALL, Connection

_T = TypeVar("_T")

_CACHE_KB: Final = 8192
_RUINED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})

_IN_THE_WAY: Final = frozenset(
    {
        *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL),
        *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM),
        *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM),
        *(sqlite3.SQLITE_AUTH, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_NOLFS),
    }
)


class LostError(Exception):
    """There is no catalog, another file has its place, or it `is_ruined`."""

    def __init__(self, *, is_ruined: bool = False) -> None:
        super().__init__("the catalog is lost")
        self.is_ruined = is_ruined


class Place(Protocol):
    """Where a catalog is: it runs procedures on its connections."""

    slice_rows: int
    """So many rows are read and taken in at once."""

    async def open(self) -> None:
        """Be there, empty if there was none, or none that could be used; idempotent.

        Raises:
            StorageError: the disk failed.
        """

    async def write(self, procedure: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run what changes the catalog.

        Raises:
            LostError: there is no catalog any more.
            StorageError: the disk failed.
        """

    async def read(self, procedure: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run what asks the catalog; raises as `write`."""

    async def renew(self) -> None:
        """Be there, and empty."""

    async def aclose(self) -> None:
        """Let go of it; idempotent."""


class CatalogFile:
    """A catalog on disk, a thread for what changes it and one for what asks it."""

    slice_rows = 16384

    def __init__(
        self,
        path: Path,
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._path = path
        self._guard = guard
        self._connections: dict[str, _Opened] = {}
        self._given_up: list[_Opened] = []
        self._is_doubted = False
        """Whether it was given up for what it made of a procedure, not for what SQLite said."""

    async def open(self) -> None:
        await self._open(anew=False)

    async def renew(self) -> None:
        await self._open(anew=True)

    async def write(self, procedure: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._call("write", procedure)

    async def read(self, procedure: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._call("read", procedure)

    async def aclose(self) -> None:
        await self._close()
        for opened in self._given_up:
            opened.join()
        self._given_up.clear()

    async def _close(self) -> None:
        while self._connections:
            _, opened = self._connections.popitem()
            with contextlib.suppress(sqlite3.Error, OSError):
                # What was taken in is there, or comes again from the files.
                await opened.close()

    async def _open(self, *, anew: bool) -> None:
        await self._close()
        try:
            for role, pragma in (
                # Whoever closes a session relies on it: nobody looks at its file again.
                ("write", "PRAGMA synchronous = FULL"),
                ("read", "PRAGMA query_only = 1"),
            ):
                opened = _Opened(partial(self._connect, pragma, anew and role == "write"))
                self._given_up.append(opened)
                await opened.open()
                self._given_up.remove(opened)
                self._connections[role] = opened
        except BaseException as error:
            await self._close()
            if isinstance(error, SessionError) or not isinstance(error, sqlite3.Error | OSError):
                raise
            raise self._failed(error) from error

    async def _call(self, role: str, procedure: Callable[[sqlite3.Connection], _T]) -> _T:
        opened = self._connections.get(role)
        if opened is None:
            raise LostError
        try:
            result: Any = await opened.database.execute_fetchall(
                CALL, (partial(self._run, opened, procedure),)
            )
        except SessionError:
            raise
        except (OSError, MemoryError) as error:
            raise self._failed(error) from error
        except Exception as error:
            if opened is not self._connections.get(role):
                raise LostError from error  # the connection was closed meanwhile
            if isinstance(error, sqlite3.Error) and _is_in_the_way(error):
                raise self._failed(error) from error
            if self._is_doubted and not _is_ruined(error):
                raise  # it is not the file that is to blame
            # Of what is damaged anything may come, and much of it is no error of SQLite.
            self._is_doubted = True
            raise LostError(is_ruined=True) from error
        answer: _T = result
        return answer

    def _run(
        self,
        opened: _Opened,
        procedure: Callable[[sqlite3.Connection], _T],
        connection: sqlite3.Connection,
    ) -> _T:
        if _identity(self._path) != opened.identity:
            raise LostError
        return procedure(connection)

    def _connect(self, pragma: str, anew: bool, opened: _Opened) -> sqlite3.Connection:
        # Guarded: SQLite opens the log by its name, which has to be that of the same file.
        with self._guard():
            draft = self._path.with_name(names.CATALOG_DRAFT)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)  # whoever made it is dead
            connection = None if anew else self._usable()
            if connection is None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
                files.create(self._path, draft, partial(files.write, _image()))
                connection = self._usable()
            if connection is None:
                raise sqlite3.OperationalError("it was just made, and is damaged")
            opened.identity = _identity(self._path)
        try:
            connection.execute(pragma)
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _usable(self) -> sqlite3.Connection | None:
        """A connection, if there is a catalog of this version."""
        if _identity(self._path) is None:
            return None
        connection = sqlite3.connect(
            files.uri(self._path),
            uri=True,
            timeout=files.BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
        )
        usable = False
        try:
            if schema.is_newer(connection):
                raise SchemaVersionError(
                    f"{self._path} was written by a newer version of sessionactor than this one:"
                    " upgrade to use it",
                    path=self._path,
                )
            usable = schema.is_catalog(connection)
        except SessionError:
            raise
        except Exception as error:
            if isinstance(error, sqlite3.Error) and _is_in_the_way(error):
                raise
        finally:
            if not usable:
                connection.close()
        return connection if usable else None

    def _failed(self, error: BaseException) -> StorageError:
        return StorageError(
            f"the catalog {self._path}: {error or type(error).__name__}", path=self._path
        )


class _Opened:
    """A connection, its thread, and which file it has."""

    def __init__(self, connect: Callable[[_Opened], sqlite3.Connection]) -> None:
        self.identity: tuple[int, int] | None = None
        self.database = aiosqlite.Connection(self._connected, 64)
        self._connect = connect
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._abandoned = False

    async def open(self) -> None:
        """Connect; cancelled, the connection is closed whenever it will have been made."""
        try:
            await self.database
        except BaseException:
            with self._lock:
                self._abandoned = True
                if self._connection is not None:
                    self._connection.close()
            raise

    async def close(self) -> None:
        """Close the connection, and wait for its thread to be gone."""
        try:
            await self.database.close()
        finally:
            self.join()

    def join(self) -> None:
        """Wait for the thread, which ends by itself."""
        if self._thread is not None:
            self._thread.join(timeout=1.0)  # one that hangs shall not hang the event loop

    def _connected(self) -> sqlite3.Connection:
        self._thread = threading.current_thread()
        self._thread.name = "sessionactor-catalog"
        connection = self._connect(self)
        with self._lock:
            if self._abandoned:
                connection.close()
                raise asyncio.CancelledError
            self._connection = connection
        return connection


class MemoryCatalog:
    """A catalog in memory: it starts no thread, so what it does is done in small parts."""

    slice_rows = 128

    def __init__(self, image: bytes | None = None) -> None:
        self._image = image
        """Of a catalog to begin with."""
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        if self._connection is None:
            self._connection = sqlite3.connect(
                ":memory:", isolation_level=None, check_same_thread=False
            )
            image, self._image = self._image, None
            if image is None:
                schema.create(self._connection)
            else:
                self._connection.deserialize(image)

    async def write(self, procedure: Callable[[sqlite3.Connection], _T]) -> _T:
        if self._connection is None:
            raise LostError
        return procedure(self._connection)

    async def read(self, procedure: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self.write(procedure)

    async def renew(self) -> None:
        await self.aclose()
        await self.open()

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _is_ruined(error: Exception) -> bool:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _RUINED


def _is_in_the_way(error: sqlite3.Error) -> bool:
    """Whether it is not for the file's content that a procedure failed."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _IN_THE_WAY


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is; `None`: none, or what might lead anywhere."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _image() -> bytes:
    try:
        return schema.image()
    except sqlite3.OperationalError as error:
        raise StorageError(f"this build of SQLite has no full text search: {error}") from error


__all__ = ["CatalogFile", "LostError", "MemoryCatalog", "Place"]
