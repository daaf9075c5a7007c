"""What a file in the directory is, and which of them this process has open.

Closing any descriptor of a database drops the locks that SQLite holds on it in the process
(https://sqlite.org/howtocorrupt.html, 2.2), so that a file has to be known before it is touched.
"""

from __future__ import annotations

import contextlib
import enum
import os
import stat
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sessionactor._schema import APPLICATION_ID, VERSION

_MAGIC: Final = b"SQLite format 3\0"


class Kind(enum.Enum):
    """What a file with the name of a session is."""

    SESSION = "a session"
    FOREIGN = "not a session file"
    NEWER = "a session written by a newer version"
    REPLACED = "not the file that its owner has open"
    MISSING = "missing"


_open_here: Counter[tuple[int, int]] = Counter()
_owned_here: dict[Path, tuple[int, int]] = {}
_being_opened: Counter[Path] = Counter()
_being_closed: set[tuple[int, int]] = set()
_guard = threading.Condition()
_settling = threading.RLock()
_PATIENCE_S: Final = 5.0  # with another one that closes the same file, if its disk hangs


def inspect(path: Path) -> Kind:
    """Tell by its header what a file is, without SQLite and without following links.

    A file that a store of this process has open is not touched: closing any descriptor of it
    would drop the locks that SQLite holds (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    with _guard:
        return _inspect(path)[0]


def enter(path: Path, *, owning: bool = False) -> tuple[Kind, tuple[int, int]]:
    """Tell what a file is and, if it is a session, take note that this process has it open.

    Who does not own it is told when the owner has another file open, in whose place this one was
    put: the log beside it is still the other one's, and would be moved into this one.
    """
    with _guard:
        kind, key = _inspect(path)
        if kind is not Kind.SESSION:
            return kind, key
        if owning:
            _owned_here[path] = key
        elif _owned_here.get(path, key) != key:
            return Kind.REPLACED, key
        _open_here[key] += 1
        return kind, key


@contextlib.contextmanager
def opening(path: Path | None) -> Iterator[None]:
    """Surround the opening of a session, perhaps by who has been given up: it is not removed.

    A connection that is just made would leave an index beside a name that is gone.
    """
    if path is None:
        yield
        return
    with _guard:
        _being_opened[path] += 1
    try:
        yield
    finally:
        with _guard:
            _being_opened[path] -= 1
            if not _being_opened[path]:
                del _being_opened[path]
                _guard.notify_all()


def leave(key: tuple[int, int], owned: Path | None = None) -> None:
    """Take note that a file is closed, once for each time that it was entered."""
    with _guard:
        if owned is not None and _owned_here.get(owned) == key:
            del _owned_here[owned]
        _open_here[key] -= 1
        if _open_here[key] <= 0:
            del _open_here[key]
            _guard.notify_all()


@contextlib.contextmanager
def closing(key: tuple[int, int]) -> Iterator[None]:
    """Surround the closing of a connection: those of one file are closed one after the other.

    The last one tidies the log up. Of two that close in the same moment each would take the other
    for one that goes on reading, and the log would stay.
    """
    with _guard:
        _guard.wait_for(lambda: key not in _being_closed, _PATIENCE_S)
        _being_closed.add(key)
    try:
        yield
    finally:
        with _guard:
            _being_closed.discard(key)
            _guard.notify_all()


@contextlib.contextmanager
def settling() -> Iterator[None]:
    """Surround what opens a file beside its owner's connection, its first read included.

    Not while files are removed or moved: that read makes a log where there is none, and one
    beside a name that is just going would stay behind.
    """
    with _settling:
        yield


@contextlib.contextmanager
def removing(path: Path, timeout_s: float) -> Iterator[None]:
    """Surround the removal of a session's files: nobody in this process opens it meanwhile.

    Whoever does so just now is waited for.
    """
    with settling(), _guard:
        _guard.wait_for(lambda: path not in _being_opened, timeout_s)
        yield


@contextlib.contextmanager
def shut(key: tuple[int, int]) -> Iterator[bool]:
    """Let nobody in this process enter a file meanwhile; whether none has this one open."""
    with _guard:
        yield key not in _open_here


def wait_for_leaving(key: tuple[int, int], timeout_s: float) -> None:
    """Wait until nobody in this process has a file open any more."""
    with _guard:
        _guard.wait_for(lambda: key not in _open_here, timeout_s)


def _inspect(path: Path) -> tuple[Kind, tuple[int, int]]:
    try:
        status = os.lstat(path)
        key = status.st_dev, status.st_ino
        if not stat.S_ISREG(status.st_mode):
            return Kind.FOREIGN, key
        if key in _open_here:
            return Kind.SESSION, key
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return Kind.MISSING, (0, 0)
    try:
        header = os.read(descriptor, 100)
    finally:
        os.close(descriptor)
    if header[:16] != _MAGIC or int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        return Kind.FOREIGN, key
    newer = int.from_bytes(header[60:64], "big") > VERSION
    return Kind.NEWER if newer else Kind.SESSION, key


def _forget() -> None:
    """In a forked child, in which no other thread goes on: nobody holds what one of them held."""
    global _guard, _settling
    _guard, _settling = threading.Condition(), threading.RLock()
    _open_here.clear()
    _owned_here.clear()
    _being_opened.clear()
    _being_closed.clear()


os.register_at_fork(after_in_child=_forget)

__all__ = [
    "Kind",
    "closing",
    "enter",
    "inspect",
    "leave",
    "opening",
    "removing",
    "settling",
    "shut",
    "wait_for_leaving",
]
