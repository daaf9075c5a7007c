"""Creating, moving and removing session files, so that no crash leaves half of one.

All of it blocks: it runs in worker threads. The caller owns the session.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from sessionactor import _names as names
from sessionactor import _presence as presence
from sessionactor._errors import SessionBusyError, StorageError
from sessionactor._schema import WAL_MARK, WAL_MARK_AT
from sessionactor._syncing import sync_directory

MAX_PATH_BYTES: Final = 512 - len("-journal")
"""SQLite's `MAX_PATHNAME` less the longest suffix that it appends."""

BUSY_TIMEOUT_S: Final = 5.0
"""How long a connection waits for a lock that some other program holds on the file."""

CLOCK_GRAIN_NS: Final = 50_000_000
"""File systems stamp changes by a clock that ticks this rarely at worst."""

_READERS_FIRST_BYTE: Final = (1 << 30) + 2
_READERS_BYTES: Final = 510
"""Where SQLite locks a database as long as it has it open."""

_LOOKS: Final = 10
_PAUSE_S: Final = 0.02
"""How often, and how long, it is waited for those who read a file that is to be moved."""


def uri(path: Path, mode: Literal["rw", "ro"] = "rw") -> str:
    """How SQLite is told to open a database that is there.

    A file that vanished meanwhile is an error then, not an empty database.

    Raises:
        OSError: what SQLite keeps beside it is no file, and might lead it anywhere.
    """
    for suffix in names.SIDE_FILES:
        beside = f"{path}{suffix}"
        if not is_file_or_missing(beside):
            raise OSError(errno.ELOOP, "it is not a file; remove it", beside)
    return f"file:{quote(os.fsencode(path))}?mode={mode}"


def is_file_or_missing(path: str | Path) -> bool:
    """Whether a file, and no link to one, has that name, or nothing."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return True


def create(path: Path, draft: Path, build: Callable[[Path], None]) -> None:
    """Put a whole new database in place, or nothing.

    Args:
        path: Where it is to be.
        draft: Where it is made, in the same directory.
        build: Makes it there, and syncs it.

    Raises:
        FileExistsError: something has that name; it is left as it is.
        OSError: the disk failed.
    """
    if os.path.lexists(path):
        raise FileExistsError(f"{path} exists already")
    if not is_file_or_missing(draft):
        os.unlink(draft)  # a link, perhaps, to where nothing is to be written
    try:
        build(draft)
        if not os.path.lexists(path):
            remove_orphans(path)
        os.link(draft, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
    try:
        sync_directory(path.parent)
    except BaseException:
        os.unlink(path)  # it might not be there after a power loss: let it never have been
        raise


@contextlib.contextmanager
def making(draft: Path) -> Iterator[None]:
    """Surround what makes a file: whoever else makes it is kept out, whoever died is followed.

    What a killed one left under that name is made anew. Afterwards nothing has it.

    Raises:
        BlockingIOError: somebody else makes this file now.
        OSError: the disk failed, or something else stands there.
    """
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(draft, flags, 0o666)
        try:
            _lock(descriptor, draft)
            if not _is_at(draft, descriptor):
                continue  # another one has just finished: it was theirs
            try:
                yield
            finally:
                if _is_at(draft, descriptor):
                    os.unlink(draft)
            return
        finally:
            os.close(descriptor)


def is_left_over(draft: Path) -> bool:
    """Whether a file was being made by somebody who is dead."""
    try:
        if not stat.S_ISREG(os.lstat(draft).st_mode):
            return False
        descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        _lock(descriptor, draft)
        return _is_at(draft, descriptor)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _lock(descriptor: int, draft: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(
            errno.EAGAIN, "it is being written by somebody else", str(draft)
        ) from error


def _is_at(path: Path, descriptor: int) -> bool:
    mine = os.fstat(descriptor)
    return is_at(path, (mine.st_dev, mine.st_ino))


def write(image: bytes, draft: Path) -> None:
    """Make a new database of its image."""
    with open(draft, "wb") as file:
        file.write(image)
        file.flush()
        os.fsync(file.fileno())


def seal(draft: Path) -> None:
    """Sync a new database that SQLite made and closed, and let it be in WAL mode from now on."""
    descriptor = os.open(draft, os.O_WRONLY)
    try:
        os.pwrite(descriptor, WAL_MARK, WAL_MARK_AT)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_at(path: Path, key: tuple[int, int]) -> bool:
    """Whether a file still has its name."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == key


def has_log(path: Path | None) -> bool:
    """Whether a session was left open, or somebody reads it."""
    return path is not None and os.path.lexists(f"{path}{names.LOG_SUFFIX}")


def size(path: Path) -> int:
    """Bytes of a database and its log."""
    total = 0
    for part in (path, Path(f"{path}{names.LOG_SUFFIX}")):
        with contextlib.suppress(FileNotFoundError):
            total += os.stat(part).st_size
    return total


def remove(path: Path) -> bool:
    """Remove a session's files; whether there was one."""
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE_S)
        with presence.removing(path, BUSY_TIMEOUT_S):
            if _has_side_files(path):
                _tidy(path)  # without its log, what a crash leaves would be a part of the session
            with _alone(path) as alone:
                if not alone and look < _LOOKS - 1:
                    continue
                remove_side_files(path)
                try:
                    os.unlink(path)
                except FileNotFoundError:
                    return False
                break
    sync_directory(path.parent)
    return True


def move(old: Path, new: Path, session_id: str) -> None:
    """Give a closed session's file another name.

    Raises:
        SessionBusyError: someone else reads it; nothing moved.
        FileExistsError: something has the new name; nothing moved.
    """
    with presence.settling():
        status = os.stat(old)
        key = status.st_dev, status.st_ino
        # What reads it here is soon done, and tidies its log up.
        presence.wait_for_leaving(key, BUSY_TIMEOUT_S)
        for look in range(_LOOKS):
            if look:
                time.sleep(_PAUSE_S)  # most who read do so for a moment only
            if _has_side_files(old):
                _tidy(old)
            with _alone(old) as alone:
                if not alone or _has_side_files(old):
                    continue
                if os.path.lexists(new):
                    raise FileExistsError(f"{new.name} exists already")
                remove_orphans(new)
                os.rename(old, new)
                break
        else:
            raise SessionBusyError(
                f"session {session_id!r} cannot be renamed while another process reads"
                f" {old.name}; try again when it has closed the file",
                session_id=session_id,
            )
    sync_directory(new.parent)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether nobody has a session's file open, and nobody opens it meanwhile.

    Whoever did so in this moment would make a log beside a name that is gone. In other
    processes SQLite waits for the lock that it takes before it looks for a log
    (https://sqlite.org/fileformat2.html, 1.4, "The Lock-Byte Page"), and is told then that
    nothing has that name.
    """
    with contextlib.ExitStack() as stack:
        yield _enter_alone(path, stack)


def _enter_alone(path: Path, stack: contextlib.ExitStack) -> bool:
    try:
        status = os.lstat(path)
        if not stack.enter_context(presence.shut((status.st_dev, status.st_ino))):
            return False  # closing a descriptor would drop the locks of who has it open
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError:
        return True  # it is gone, or nobody can lock it
    stack.callback(os.close, descriptor)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _READERS_BYTES, _READERS_FIRST_BYTE)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _has_side_files(path: Path) -> bool:
    return any(os.path.lexists(f"{path}{suffix}") for suffix in names.SIDE_FILES)


def _tidy(path: Path) -> None:
    """Let SQLite move the log of a closed session into its file, unless somebody reads it."""
    with (
        contextlib.suppress(sqlite3.Error, OSError),
        contextlib.closing(sqlite3.connect(uri(path), uri=True, timeout=0)) as connection,
    ):
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def remove_side_files(path: Path) -> bool:
    """Remove the logs beside a database that is not open; whether there were any."""
    found = False
    for suffix in names.SIDE_FILES:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")
            found = True
    return found


def remove_orphans(path: Path) -> None:
    """Remove logs beside a name that a database is to get, for good: SQLite would replay them."""
    if remove_side_files(path):
        sync_directory(path.parent)


def check_path(path: Path, session_id: str | None = None) -> None:
    """Refuse a path that SQLite cannot open.

    Raises:
        StorageError: it is too long.
    """
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise StorageError(
            f"the path {path} has {length} bytes, SQLite opens at most {MAX_PATH_BYTES};"
            " use a directory with a shorter path",
            path=path,
            session_id=session_id,
        )
