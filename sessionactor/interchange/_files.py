"""The files that are written and read: blocking calls, for a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, ParamSpec, TypeVar

import anyio

from sessionactor import _names as names
from sessionactor._syncing import sync_directory
from sessionactor._threads import submit

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Worker:
    """A thread that does one thing after another; leaving waits for what it was given."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "sessionactor-interchange")
        self._has_thread = False

    async def __aenter__(self) -> Worker:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._has_thread:
            return
        last = self._submit(bool)
        cancelled = None
        with anyio.CancelScope(shield=True):
            while not last.done():
                try:
                    await asyncio.wait([last])
                except asyncio.CancelledError as error:
                    cancelled = error
        self._executor.shutdown()
        if cancelled is not None:
            raise cancelled

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Have the thread call a function. Cancelled, the function is called all the same.

        Raises:
            OSError: no thread can be started; the function is not called.
        """
        return await asyncio.shield(self._submit(partial(function, *args, **kwargs)))

    def post(self, function: Callable[[], object]) -> None:
        """Have the thread call a function in turn, without waiting for it; after a `run`."""
        submit(self._executor, function)

    def _submit(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        call = submit(self._executor, function)
        self._has_thread = True
        return asyncio.wrap_future(call)


class NewFile:
    """A file that appears under its name when it is whole, or not at all.

    It is written under another name, which a lock keeps to one writer: what a killed one left
    is overwritten by the next.
    """

    _file: BinaryIO | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(names.part_file_name(path.name))

    def open(self) -> None:
        """Begin to write.

        Raises:
            BlockingIOError: another one writes this file.
            OSError: the disk failed, or something else stands there.
        """
        if self._path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self._path))
        while self._file is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.fdopen(os.open(self._draft, flags, 0o666), "wb", buffering=1 << 18)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_draft(file):
                    file.truncate(0)
                    self._file = file
            except BlockingIOError as error:
                raise BlockingIOError(
                    errno.EAGAIN, "it is being written by somebody else", str(self._path)
                ) from error
            finally:
                if self._file is None:  # another writer may just have finished: it was theirs
                    file.close()

    def write(self, data: bytes) -> None:
        """Add bytes."""
        assert self._file is not None
        self._file.write(data)

    def rewind(self) -> None:
        """Begin again."""
        assert self._file is not None
        self._file.seek(0)
        self._file.truncate(0)

    def commit(self) -> None:
        """Make it safe, and give it its name."""
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        os.replace(self._draft, self._path)
        sync_directory(self._path.parent)

    def close(self) -> None:
        """Leave no trace of what was not committed."""
        file, self._file = self._file, None
        if file is None:
            return
        with contextlib.suppress(OSError):
            if self._is_draft(file):
                os.unlink(self._draft)
        with contextlib.suppress(OSError):
            file.close()

    def _is_draft(self, file: BinaryIO) -> bool:
        try:
            there = os.lstat(self._draft)
        except FileNotFoundError:
            return False
        mine = os.fstat(file.fileno())
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


class NewDirectory:
    """A directory for what is needed for a moment."""

    def __init__(self, parent: Path) -> None:
        self.path = Path(tempfile.mkdtemp(names.PART_SUFFIX, ".", parent))

    def remove(self) -> None:
        """Remove it, and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def open_regular(path: Path, *, follow: bool) -> BinaryIO:
    """Open a file to read, if it is one: no device, pipe or directory.

    Raises:
        OSError: it is not, or cannot be read.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return os.fdopen(descriptor, "rb", buffering=1 << 18)
    except BaseException:
        os.close(descriptor)
        raise


def begins_with(path: Path, beginning: bytes, end: bytes) -> bool:
    """Whether a file has this beginning and this end."""
    try:
        with open_regular(path, follow=False) as file:
            if file.read(len(beginning)) != beginning:
                return False
            size = file.seek(0, os.SEEK_END)
            file.seek(max(len(beginning), size - len(end)))
            return file.read() == end
    except OSError:
        return False


def exports_in(directory: Path) -> list[Path]:
    """The files in a directory that may be exports, by their names, sorted."""
    with os.scandir(directory) as entries:
        found = [entry.name for entry in entries if entry.name.endswith(names.EXPORT_SUFFIX)]
    return [directory / name for name in sorted(found)]


def make_directory(directory: Path) -> None:
    """Make a directory and its parents."""
    directory.mkdir(parents=True, exist_ok=True)


__all__ = [
    "NewDirectory",
    "NewFile",
    "Worker",
    "begins_with",
    "exports_in",
    "make_directory",
    "open_regular",
]
