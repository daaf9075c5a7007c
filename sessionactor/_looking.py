"""Looking into a session's file without leaving a trace: nothing is written, made or locked.

A connection that only reads finds its way in a log that is there, its owner's or one that was
left behind, and leaves it as it is. Where there is no log it would make one and leave it lying
about, or fail where it may not; told that the file never changes it does neither, and whether
it changed after all is seen by its stamps. Each look is short: while a file is read its owner
can neither move it nor tidy its log up.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from sessionactor import _files as files
from sessionactor import _names as names
from sessionactor import _presence as presence
from sessionactor import _schema as schema
from sessionactor._errors import SchemaVersionError, SessionError, StorageError
from sessionactor._loading import DAMAGE
from sessionactor._opening import not_a_session
from sessionactor._sql import Connection

_T = TypeVar("_T")

_PAUSE_S: Final = 0.005
_PATIENCE_S: Final = 5.0
"""How long it is tried again while the file changes …"""
_OPENING_S: Final = 0.5
"""… and while it seems to be just opened or closed."""
_LOG_HEADER_BYTES: Final = 32
"""What a log begins with, by SQLite's description of its format. When an owner is killed that has
not come further, who may only read gets no further either ("locking protocol", after 10 s)."""
_NO_INDEX: Final = (
    "its log has no index, so that nobody can read it without writing; open it once with a"
    " registry that is not read-only"
)


class _Stamp(NamedTuple):
    inode: int
    size: int
    changed_at_ns: int


class Stamps(NamedTuple):
    """What tells from outside whether a session changed."""

    database: _Stamp | None
    log: _Stamp | None

    @property
    def are_settled(self) -> bool:
        """Whether the next change cannot leave them as they are."""
        newest = max((stamp.changed_at_ns for stamp in self if stamp), default=0)
        return newest + files.CLOCK_GRAIN_NS < time.time_ns()


def stamps(path: Path) -> Stamps:
    """The stamps of a session's file and its log."""
    return Stamps(_stamp(path), _stamp(Path(f"{path}{names.LOG_SUFFIX}")))


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return _Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


def read(path: Path, session_id: str, procedure: Callable[[sqlite3.Connection], _T]) -> _T:
    """Run a procedure in a transaction on a session's file. It may be run again.

    Raises:
        SessionNotFoundError: no session is there (any more).
        SchemaVersionError: another version of this package wrote it.
        StorageError: it cannot be read.
    """

    def see(uri: str) -> _T:
        with opened(uri) as connection:
            ((version,),) = connection.execute("PRAGMA user_version")
            if version < schema.VERSION:
                raise _older_version(path, session_id)
            return procedure(connection)

    return look(path, session_id, see)


@contextlib.contextmanager
def opened(uri: str) -> Iterator[sqlite3.Connection]:
    """A connection in a transaction, that is, at one moment."""
    connection = sqlite3.connect(
        uri, uri=True, timeout=files.BUSY_TIMEOUT_S, isolation_level=None, factory=Connection
    )
    with contextlib.closing(connection):
        connection.execute("BEGIN")
        yield connection


def look(path: Path, session_id: str, see: Callable[[str], _T]) -> _T:
    """See a session's file, by the URI to open it with. Blocks.

    Raises:
        SessionNotFoundError: no session is there (any more).
        StorageError: it cannot be read.
    """

    def enter(uri: str) -> _T:
        kind, key = presence.enter(path)
        if kind is not presence.Kind.SESSION:
            raise not_a_session(kind, path, session_id)
        try:
            return see(uri)
        finally:
            presence.leave(key)

    return still(path, f"session {session_id!r} in {path}", enter)


def still(path: Path, what: str, see: Callable[[str], _T]) -> _T:
    """See a database as it was at one moment, by the URI to open it with. Blocks.

    What was seen while it changed, though it should not have, is seen once more.

    Raises:
        StorageError: it cannot be read.
    """
    began_s = time.monotonic()
    while True:
        before = stamps(path)
        try:
            uri = _uri(path, before)
            if uri is not None:
                seen = see(uri)
                if not _is_fixed(before) or stamps(path) == before:
                    return seen
        except DAMAGE as error:
            if isinstance(error, SessionError):
                raise
            if stamps(path) == before:
                raise _unreadable(path, what, str(error)) from error
        waited_s = time.monotonic() - began_s
        if not _is_fixed(before) and uri is None and waited_s > _OPENING_S:
            raise _unreadable(path, what, _NO_INDEX)
        if waited_s > _PATIENCE_S:
            raise _unreadable(path, what, "it changes all the time")
        time.sleep(_PAUSE_S)


def _is_fixed(found: Stamps) -> bool:
    """Whether all is in the file: nobody changes that without a log."""
    return found.log is None or found.log.size <= _LOG_HEADER_BYTES


def _uri(path: Path, found: Stamps) -> str | None:
    """How to open a file; `None`: not now."""
    if _is_fixed(found):
        return files.uri(path, "ro") + "&immutable=1" if found.are_settled else None
    index = f"{path}{names.INDEX_SUFFIX}"
    return files.uri(path, "ro") if os.path.lexists(index) else None


def _unreadable(path: Path, what: str, reason: str) -> StorageError:
    return StorageError(f"{what} cannot be read: {reason}", path=path)


def _older_version(path: Path, session_id: str) -> SchemaVersionError:
    return SchemaVersionError(
        f"{path} was written by an older version of sessionactor, and is not changed by a registry"
        " that is read-only: open the session once with one that is not",
        path=path,
        session_id=session_id,
    )


__all__ = ["Stamps", "look", "opened", "read", "stamps", "still"]
