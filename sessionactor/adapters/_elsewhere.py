"""A registry in a thread of its own, for programs that use one from many event loops.

Synchronous frameworks run every call in a loop of its own, close loops by hand, and call from
many threads. A registry belongs to one loop; here that is a loop that outlives them all.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

from sessionactor import (
    ChildRow,
    RegistryClosedError,
    SearchHit,
    Session,
    SessionFile,
    SessionRegistry,
    Subscription,
)
from sessionactor.adapters._exiting import before_threads_are_joined
from sessionactor.adapters._settling import settled

T = TypeVar("T")


class _Answer(Generic[T]):
    """What a call in another loop comes to, awaited in this one."""

    def __init__(self, call: Coroutine[Any, Any, T]) -> None:
        self._here = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._here.create_future()
        self._calls = [call]

    def take(self) -> Coroutine[Any, Any, T] | None:
        """The call, for one of the two threads only: to begin it, or to give it up."""
        try:
            return self._calls.pop()
        except IndexError:
            return None

    def give_up(self) -> None:
        """Have the call not begun, if it has not."""
        call = self.take()
        if call is not None:
            call.close()

    def give(self, task: asyncio.Task[T]) -> None:
        """Hand over what a task of the other loop came to; called there."""
        error = RegistryClosedError("closed") if task.cancelled() else task.exception()
        if error is not None:
            self.refuse(error)
        else:
            self._later(self.future.set_result, task.result())

    def refuse(self, error: BaseException) -> None:
        """Raise that where the answer is awaited; called from another thread."""
        self._later(self.future.set_exception, error)

    def _later(self, call: Callable[[Any], None], value: object) -> None:
        def hand_over() -> None:
            if not self.future.done():
                call(value)

        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._here.call_soon_threadsafe(hand_over)


class Elsewhere:
    """A registry on a directory that can be asked from any event loop of the process.

    What it is asked for takes two wake-ups of a thread more than a registry of one's own.
    """

    def __init__(self, path: str) -> None:
        self.holders: WeakSet[Any] = WeakSet()
        self._path = path
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop
        self._registry: SessionRegistry
        self._leave: asyncio.Event
        self.started: Future[None] = Future()
        self.ended: Future[None] = Future()
        for future in (self.started, self.ended):
            future.set_running_or_notify_cancel()  # whoever waits may be cancelled, it may not
        self.is_ending = False
        self._asked: set[_Answer[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(
            target=self._run, name=f"sessionactor {path}", daemon=True
        )  # a daemon: it is told to end, and waited for, before other threads are
        self._thread.start()

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, or was left behind by the fork of a process."""
        return self.is_ending or self._pid != os.getpid()

    async def start(self, session_id: str | None = None, *, name: str | None = None) -> Session:
        """As `SessionRegistry.start`."""
        return self._handle(await self._there(self._registry.start(session_id, name=name)))

    def session(self, session_id: str) -> Session:
        """As `SessionRegistry.session`."""
        return Session(self, session_id, self._registry.max_message_bytes)

    async def exists(self, session_id: str) -> bool:
        """As `SessionRegistry.exists`."""
        return await self._there(self._registry.exists(session_id))

    async def search(
        self, query: str, *, limit: int = 20, session_id: str | None = None
    ) -> list[SearchHit]:
        """As `SessionRegistry.search`."""
        return await self._there(self._registry.search(query, limit=limit, session_id=session_id))

    async def do(self, call: Callable[[SessionRegistry], Coroutine[Any, Any, T]]) -> T:
        """What a call of the registry comes to, such as `lambda registry: registry.running()`.

        It is made in the registry's own loop, so what it gives should be of use in this one:
        values, not handles.
        """

        async def there() -> T:
            return await call(self._registry)

        return await self._there(there())

    # What handles ask for.

    async def ask(self, session_id: str, request: object) -> Any:
        """Carry a request to a session's actor and its answer back."""
        return await self._there(self._registry.ask(session_id, request))

    async def rename(self, session_id: str, name: str | None) -> None:
        """Give a session another name."""
        await self._there(self._registry.rename(session_id, name))

    async def fork(
        self,
        session_id: str,
        new_id: str | None,
        name: str | None,
        before: int | None,
        whole_turns: bool,
    ) -> Session:
        """Create a session with the history of another one."""
        call = self._registry.fork(session_id, new_id, name, before, whole_turns)
        return self._handle(await self._there(call))

    async def flush(self, session_id: str) -> None:
        """Have all that a session was told in the catalog."""
        await self._there(self._registry.flush(session_id))

    async def children(self, parent: str) -> list[ChildRow]:
        """All rows of all sessions whose `parent` is that."""
        return await self._there(self._registry.children(parent))

    async def back_up(self, session_id: str, path: Path) -> None:
        """Write a copy of a session to a new file."""
        await self._there(self._registry.back_up(session_id, path))

    def subscribe(self, session_id: str, since: int | None, agent_id: str | None) -> Subscription:
        """Refuse: events come in the loop of their registry."""
        raise RegistryClosedError(
            f"to follow {session_id!r}, open a SessionRegistry on this event loop and give that"
            " to the adapter in place of the directory"
        )

    def file_of(self, session_id: str) -> SessionFile:
        """Where a session lives."""

        async def look() -> SessionFile:
            return self._registry.file_of(session_id)

        return asyncio.run_coroutine_threadsafe(look(), self._loop).result()

    def end(self) -> None:
        """Have the registry close and its thread end; `ended` tells when."""
        self.is_ending = True  # which it looks at once it has started
        if self.started.done() and not self.ended.done():
            with suppress(RuntimeError):  # it has ended just now
                self._loop.call_soon_threadsafe(self._leave.set)

    async def finished(self) -> None:
        """Wait until its registry is closed and its thread is gone."""
        await asyncio.wrap_future(self.ended)
        self._thread.join()  # all that is left of it is its return

    def _handle(self, session: Session) -> Session:
        return self.session(session.session_id)

    async def _there(self, call: Coroutine[Any, Any, T]) -> T:
        """Have something done in the registry's loop; once it has begun, it is done whole."""
        answer = _Answer(call)
        self._asked.add(answer)
        try:
            if self.ended.done():  # looked at after it was added: whoever ends it looks there
                raise self._gone()
            try:
                self._loop.call_soon_threadsafe(self._begin, answer)
            except RuntimeError:  # the loop has been closed just now
                raise self._gone() from None
            return await answer.future
        finally:
            self._asked.discard(answer)
            answer.give_up()

    def _begin(self, answer: _Answer[Any]) -> None:
        call = answer.take()
        if call is not None:
            task = self._loop.create_task(call)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(answer.give)

    def _gone(self) -> RegistryClosedError:
        return RegistryClosedError(f"{self._path} was closed")

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self.started.done():
                _logger.exception("the sessions in %s could not be closed", self._path)
            else:
                self.started.set_exception(error)
        finally:
            self.ended.set_result(None)
            for answer in list(self._asked):
                answer.refuse(self._gone())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._leave = asyncio.Event()
        async with SessionRegistry(self._path) as self._registry:
            self.started.set_result(None)
            if not self.is_ending:
                await self._leave.wait()


_logger: Final = logging.getLogger(__name__)
_guard: Final = threading.Lock()
_open: Final[dict[tuple[int, str], Elsewhere]] = {}
"""By process and path: in a forked child none of the threads is there."""


async def join(path: str, holder: object) -> Elsewhere:
    """The registry on that directory, for one more holder.

    Raises:
        StorageError: the directory cannot be used.
    """
    place = (os.getpid(), path)
    while True:
        with _guard:
            found = _open.get(place)
            if found is None or found.ended.done():
                found = _open[place] = Elsewhere(path)
            if not found.is_ending:
                found.holders.add(holder)
        if found.is_ending:
            await found.finished()
            continue
        try:
            await settled(_outcome(found.started))
        except BaseException:
            await leave(found, holder)
            raise
        return found


def let_go(found: Elsewhere, holder: object) -> bool:
    """Let go of a registry; whether it was its last holder, and it begins to close."""
    with _guard:
        if holder not in found.holders:
            return False
        found.holders.discard(holder)
        if found.holders:
            return False
        found.end()
        return True


async def leave(found: Elsewhere, holder: object) -> None:
    """Let go of a registry; its last holder closes it, and waits until that is done."""
    if let_go(found, holder):
        await settled(found.finished())


async def _outcome(future: Future[None]) -> None:
    await asyncio.wrap_future(future)


def _close_what_is_left() -> None:
    for (pid, _), found in list(_open.items()):
        if pid == os.getpid():
            found.end()
            found.ended.result()


before_threads_are_joined(_close_what_is_left)
