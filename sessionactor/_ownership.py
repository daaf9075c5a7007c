"""One owner per session file, across processes and within one.

Between processes: a POSIX byte-range lock on one lock file of the directory, on the byte
at a hash of the session's id part. The kernel drops it when its owner dies, and tells the
owner's pid. POSIX locks vanish when a process closes *any* descriptor of the file, so all
registries of a process on one directory share one descriptor. Within the process, a table.

The lock file's size counts the changes that anyone made to the set of session files.

Who only reads makes no lock file and takes no lock, but can ask who holds one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sessionactor import _files as files
from sessionactor import _names as names
from sessionactor._errors import SessionOwnedError
from sessionactor._files import BUSY_TIMEOUT_S

_ASKING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
logger = logging.getLogger("sessionactor")

_OWNING: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
_FIRST_BYTE: Final = 1 << 61  # far above any size of the file
_CATALOG_BYTE: Final = _FIRST_BYTE - 1
_PAUSE_S: Final = 0.01
_LINUX: Final = struct.Struct("hhqqi4x")
_DARWIN: Final = struct.Struct("qqihh")


class _LockFile:
    """The process's descriptors of a directory's lock file, and who holds what in it.

    One is for owners, one for those who only ask; both are closed when nobody uses them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: dict[int, int] = {}
        self.users = 0
        self.owners: dict[str, Ownership] = {}
        self.replacing = threading.Lock()

    def open(self, flags: int) -> int:
        """The descriptor for owning, or for asking."""
        if flags not in self._open:
            if not files.is_file_or_missing(self._path):
                raise OSError(errno.ELOOP, "it is not a file; remove it", os.fspath(self._path))
            self._open[flags] = os.open(self._path, flags, 0o644)
        return self._open[flags]

    @property
    def descriptor(self) -> int:
        """The one that locks are taken with."""
        return self.open(_OWNING)

    def holder(self, start: int) -> int | None:
        """The process, another one than this, that holds the lock on a byte."""
        try:
            descriptor = self._open.get(_OWNING) or self.open(_ASKING)
        except FileNotFoundError:
            return None  # nobody ever owned anything here
        if sys.platform == "darwin":
            question = _DARWIN.pack(start, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)
            answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, question)
            _, _, pid, kind, _ = _DARWIN.unpack(answer)
        else:
            question = _LINUX.pack(fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0)
            answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, question)
            kind, _, _, _, pid = _LINUX.unpack(answer)
        return None if kind == fcntl.F_UNLCK else int(pid)

    def close(self) -> None:
        """Close all descriptors, which drops all locks."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()


_files: dict[tuple[int, int], _LockFile] = {}
_guard = threading.Lock()


class Ownership:
    """What one registry owns in one directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / names.LOCK_FILE
        status = os.stat(directory)
        self._place = (status.st_dev, status.st_ino)
        with _guard:
            self._file = _files.get(self._place) or _LockFile(self._path)
            self._get_ready()
            self._file.users += 1
            _files[self._place] = self._file
        self._own_changes = 0

    def _get_ready(self) -> None:
        self._file.open(_OWNING)

    def close(self) -> None:
        """Release everything; idempotent."""
        with _guard:
            if _files.get(self._place) is not self._file:
                return
            for part in [part for part, owner in self._file.owners.items() if owner is self]:
                self._unlock(part)
            self._file.users -= 1
            if not self._file.users:
                del _files[self._place]
                self._file.close()

    def claim(self, session_id: str) -> None:
        """Become the owner of a session, or stay it. Never blocks.

        Raises:
            SessionOwnedError: somebody else is the owner.
        """
        part = names.id_part(session_id)
        with _guard:
            owner = self._file.owners.get(part)
            if owner is self:
                return
            if owner is not None:
                raise _owned(session_id, os.getpid(), "another registry of this process")
            start = _byte(names.part_hash(part))
            try:
                fcntl.lockf(self._file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, start)
            except (BlockingIOError, PermissionError):
                holder = self._file.holder(start) or 0  # it may just have gone
                raise _owned(session_id, holder, "another process") from None
            self._file.owners[part] = self

    def release(self, session_id: str) -> None:
        """Give a session up."""
        part = names.id_part(session_id)
        with _guard:
            if self._file.owners.get(part) is self:
                self._unlock(part)

    def holder(self, part: str) -> int | None:
        """The process that owns the session of an id part: this one, another one, or none."""
        with _guard:
            if part in self._file.owners:
                return os.getpid()
            return self._file.holder(_byte(names.part_hash(part)))

    @contextlib.contextmanager
    def replacing_catalog(self) -> Iterator[None]:
        """Alone among all processes; blocks, because it takes moments.

        Raises:
            TimeoutError: another process, perhaps a stopped one, is at it for seconds.
        """
        descriptor = self._file.descriptor
        with self._file.replacing:
            self._wait_for_catalog(descriptor)
            try:
                yield
            finally:
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _CATALOG_BYTE)

    def _wait_for_catalog(self, descriptor: int) -> None:
        until = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _CATALOG_BYTE)
            except (BlockingIOError, PermissionError):
                if time.monotonic() > until:
                    holder = self._file.holder(_CATALOG_BYTE)
                    raise TimeoutError(f"process {holder} holds it for seconds") from None
                time.sleep(_PAUSE_S)
            else:
                return

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Tell other registries, afterwards, that the set of session files changed."""
        try:
            yield
        finally:
            with _guard:
                self._own_changes += self._count_a_change()

    def _count_a_change(self) -> bool:
        """Let the lock file grow; whether that went well: what changed has changed anyway."""
        descriptor = self._file.descriptor
        with contextlib.suppress(OSError):
            # Appending is atomic, so that the size counts the changes of all processes.
            os.write(descriptor, b".")
            return True
        try:
            # A hole takes no room. Of two at once one may not count: the directory's time does.
            os.ftruncate(descriptor, os.fstat(descriptor).st_size + 1)
        except OSError as error:
            logger.warning("cannot tell others of a change in %s: %s", self._path.parent, error)
            return False
        return True

    def foreign_changes(self) -> int:
        """How often other registries told of a change."""
        with _guard:
            return os.fstat(self._file.descriptor).st_size - self._own_changes

    def remove_drafts(self) -> None:
        """Remove the drafts that creators left behind when they died."""
        directory = self._path.parent
        for entry in os.listdir(directory):
            hashed = names.parse_draft(entry)
            if hashed is None:
                continue
            with _guard:
                if hashed in map(names.part_hash, self._file.owners):
                    continue
                with contextlib.suppress(OSError):  # its creator lives
                    fcntl.lockf(
                        self._file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(hashed)
                    )
                    try:
                        os.unlink(directory / entry)
                    finally:
                        fcntl.lockf(self._file.descriptor, fcntl.LOCK_UN, 1, _byte(hashed))

    def stale_drafts(self) -> list[str]:
        """The drafts that creators left behind when they died."""
        hashes = {entry: names.parse_draft(entry) for entry in os.listdir(self._path.parent)}
        with _guard:
            owned = set(map(names.part_hash, self._file.owners))
            return [
                entry
                for entry, hashed in hashes.items()
                if hashed is not None
                and hashed not in owned
                and not self._file.holder(_byte(hashed))
            ]

    def _unlock(self, part: str) -> None:
        start = _byte(names.part_hash(part))
        fcntl.lockf(self._file.descriptor, fcntl.LOCK_UN, 1, start)
        del self._file.owners[part]


class Onlooker(Ownership):
    """What one registry sees of a directory in which it owns nothing."""

    def _get_ready(self) -> None:
        return None

    def claim(self, session_id: str) -> None:
        """Nothing: who only reads needs nobody's leave."""

    def release(self, session_id: str) -> None:
        """Nothing."""

    def foreign_changes(self) -> int:
        """How often registries told of a change."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self._path).st_size
        return 0

    def remove_drafts(self) -> None:
        """Nothing: they are not its own."""


def _byte(hashed: int) -> int:
    return _FIRST_BYTE + hashed


def _owned(session_id: str, pid: int, owner: str) -> SessionOwnedError:
    return SessionOwnedError(
        f"session {session_id!r} is owned by {owner}, pid {pid}; ask its owner, or wait until"
        " that has stopped",
        session_id=session_id,
        pid=pid,
    )


def _forget() -> None:
    """In a forked child: its parent's locks are not its own."""
    global _guard
    _guard = threading.Lock()
    _files.clear()


os.register_at_fork(after_in_child=_forget)
