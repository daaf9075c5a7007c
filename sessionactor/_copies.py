"""Who copies which session now: a rename waits for copies, which read the file, and they for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar, cast

import anyio

from sessionactor import _copying as copying
from sessionactor import _files as files
from sessionactor import _looking as looking
from sessionactor._directory import Directory
from sessionactor._errors import (
    RegistryClosedError,
    SessionBusyError,
    SessionError,
    SessionNotFoundError,
    StorageError,
    TargetExistsError,
)
from sessionactor._loading import DAMAGE
from sessionactor._takeover import Origin, vanished
from sessionactor._threads import submit

_T = TypeVar("_T")

_THREADS: Final = 2
"""That make copies at once; they come with the first one."""


class Copies:
    """The copies that a registry makes, on one event loop."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._reading: Counter[str] = Counter()
        self._moving: set[str] = set()
        self._change: asyncio.Future[None] | None = None
        self._executor = ThreadPoolExecutor(_THREADS, "sessionactor-copies")
        self._running: set[asyncio.Future[object]] = set()
        self._closed = False

    async def make(self, origin: Origin, copy: Callable[[Origin], Awaitable[_T]]) -> _T:
        """Have a copy made of a session, which may be stopped, renamed or deleted meanwhile.

        Raises:
            SessionNotFoundError: it is gone.
            RegistryClosedError: the registry closes.
        """
        if self._closed:
            raise RegistryClosedError(
                f"the registry was closed before session {origin.session_id!r} was copied",
                session_id=origin.session_id,
            )
        if origin.image is not None:
            return await copy(origin)
        async with self._reading_of(origin.session_id):
            while True:
                file = await self._directory.find(origin.session_id)
                if file is None or file.path == origin.path:
                    raise vanished(origin)
                origin = origin._replace(path=file.path)
                try:
                    return await copy(origin)
                except SessionNotFoundError as error:
                    if error.session_id != origin.session_id:
                        raise  # what was made, not what it was made of

    async def back_up(self, origin: Origin, path: Path) -> None:
        """Write a copy of a session to a new file.

        Raises:
            TargetExistsError: something is there already, or is just being put there.
            StorageError: reading or writing failed.
        """
        files.check_path(path, origin.session_id)

        # A connection that may write would tidy the log up, as an owner does.
        look = looking.look if self._directory.read_only else None

        async def copy(origin: Origin) -> None:
            await self._run(lambda stopped: copying.back_up(origin, path, stopped, look))

        where = f"session {origin.session_id!r} cannot be backed up to {path}"
        try:
            await self.make(origin, copy)
        except (FileExistsError, BlockingIOError) as error:
            told = "exists already" if isinstance(error, FileExistsError) else "is just being made"
            raise TargetExistsError(
                f"{where}: that {told}; remove it or use another name",
                path=path,
                session_id=origin.session_id,
            ) from error
        except DAMAGE as error:
            if isinstance(error, SessionError):
                raise
            raise StorageError(
                f"{where}: {error}", path=path, session_id=origin.session_id
            ) from error

    @contextlib.asynccontextmanager
    async def _reading_of(self, session_id: str) -> AsyncIterator[None]:
        while session_id in self._moving:
            await self._changed()
        self._reading[session_id] += 1
        try:
            yield
        finally:
            self._reading[session_id] -= 1
            if not self._reading[session_id]:
                del self._reading[session_id]
            self._tell()

    def is_read(self, session_id: str) -> bool:
        """Whether copies of a session are being made."""
        return session_id in self._reading

    async def finished(self, session_id: str) -> None:
        """Wait until no copy of a session is being made."""
        while session_id in self._reading:
            await self._changed()

    @contextlib.contextmanager
    def moving(self, session_id: str) -> Iterator[None]:
        """Surround what moves a session's file.

        Raises:
            SessionBusyError: a copy of it is being made.
        """
        if session_id in self._reading:
            raise SessionBusyError(
                f"session {session_id!r} cannot be renamed while it is copied; try again",
                session_id=session_id,
            )
        self._moving.add(session_id)
        try:
            yield
        finally:
            self._moving.discard(session_id)
            self._tell()

    async def aclose(self) -> None:
        """Wait for the copies that are being made, and for their threads."""
        self._closed = True
        while self._reading:
            await self._changed()
        while self._running:
            await asyncio.wait(self._running)
        self._executor.shutdown()

    async def _run(self, procedure: Callable[[Callable[[], bool]], _T]) -> _T:
        """Run a procedure in a thread for copies; it is told whether it is still wanted.

        Cancelled, it returns when the procedure has given up, or is done.
        """
        given_up = threading.Event()
        work = submit(self._executor, procedure, given_up.is_set)
        future = asyncio.wrap_future(work)
        self._running.add(cast("asyncio.Future[object]", future))
        future.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            given_up.set()
            if not work.cancel():
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([future])
                    future.exception()
            raise

    async def _changed(self) -> None:
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._change)

    def _tell(self) -> None:
        change, self._change = self._change, None
        if change is not None:
            change.set_result(None)


__all__ = ["Copies"]
