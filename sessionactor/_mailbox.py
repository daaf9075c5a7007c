"""The bounded queue in front of an actor.

Plain deques and futures on one event loop: an accepted request costs well under a
microsecond, and nothing here ever runs between a check and what it allows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from sessionactor._requests import Write

MAX_GROUP: Final = 256
"""Writes committed together at most."""
MAX_GROUP_OPERATIONS: Final = 4096
"""Operations in a group at most, a single larger write excepted."""


class Command:
    """Base of what is not for the store but for the activation: it is served in turn too."""

    __slots__ = ()


class Envelope:
    """A request or command, and the future of its answer."""

    __slots__ = ("content", "reply")

    def __init__(self, content: Any, reply: asyncio.Future[Any]) -> None:
        self.content = content
        self.reply = reply

    def answer(self, value: object) -> None:
        """Answer, unless the caller has left."""
        if not self.reply.done():
            self.reply.set_result(value)

    def fail(self, error: BaseException) -> None:
        """Answer with an error, unless the caller has left."""
        if not self.reply.done():
            self.reply.set_exception(error)


class Mailbox:
    """A first-in, first-out queue of envelopes with one taker.

    `put` waits while it is full, in turn. `take` returns nothing when it is interrupted, or
    while a command is what waits first.
    """

    __slots__ = ("_arrival", "_blocked", "_loop", "_queue", "_size", "interrupted")

    def __init__(self, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self._size = size
        self._loop = loop
        self._queue: deque[Envelope] = deque()
        self._blocked: deque[tuple[Envelope, asyncio.Future[None]]] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self.interrupted = False

    def __len__(self) -> int:
        """How many wait, those who wait for room included."""
        return len(self._queue) + len(self._blocked)

    @property
    def full(self) -> bool:
        """Whether `put` would wait now."""
        return len(self._queue) >= self._size or bool(self._blocked)

    def post(self, content: object) -> Envelope:
        """Accept a request, or a command, at once."""
        envelope = Envelope(content, self._loop.create_future())
        self._queue.append(envelope)
        if self._arrival is not None:
            self._wake()
        return envelope

    async def put(self, content: object) -> Envelope:
        """Accept a request as soon as there is room. Cancelled before that, it is not accepted."""
        if not self.full:
            return self.post(content)
        envelope = Envelope(content, self._loop.create_future())
        room = self._loop.create_future()
        waiting = (envelope, room)
        self._blocked.append(waiting)
        try:
            await room
        except asyncio.CancelledError:
            if waiting in self._blocked:
                self._blocked.remove(waiting)
                raise
            # Accepted already: it is carried out, and the caller leaves.
            envelope.reply.cancel()
            raise
        return envelope

    @property
    def commanded(self) -> bool:
        """Whether a command is what waits first."""
        return bool(self._queue) and isinstance(self._queue[0].content, Command)

    def interrupt(self) -> None:
        """Make `take` return nothing, now and from now on, until `resume`."""
        self.interrupted = True
        self._wake()

    def resume(self) -> None:
        """End an interruption."""
        self.interrupted = False

    async def take(self, *, first: bool = False) -> list[Envelope]:
        """The next group of writes, or one read.

        `first`: what already waits is served before an interruption counts, so that a
        session that is crowded out again and again still gets on.
        """
        if not self._queue:
            await asyncio.sleep(0)  # whoever was just answered may ask again
        while not self._queue or (self.interrupted and not first):
            if self.interrupted:
                return []
            self._arrival = self._loop.create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        return [] if self.commanded else self._next()

    def pop(self) -> Envelope:
        """Take what waits first, whatever it is."""
        envelope = self._queue.popleft()
        self._admit()
        return envelope

    def fail_requests(self, error: BaseException, oldest: int | None = None) -> None:
        """Answer requests with an error, those that wait for room included; keep commands.

        `oldest`: of all that wait only so many, those that came first.
        """
        count = len(self) if oldest is None else oldest
        kept = deque(self._queue)
        self._queue.clear()
        while kept and count > 0:
            count -= 1
            envelope = kept.popleft()
            if isinstance(envelope.content, Command):
                self._queue.append(envelope)
            else:
                envelope.fail(error)
        self._queue.extend(kept)
        self._fail_blocked(error, count)
        self._admit()

    def fail_blocked(self, error: BaseException) -> None:
        """Refuse those who still wait for room."""
        self._fail_blocked(error, len(self._blocked))

    def _fail_blocked(self, error: BaseException, count: int) -> None:
        while self._blocked and count > 0:
            count -= 1
            _, room = self._blocked.popleft()
            if not room.done():
                room.set_exception(error)

    def fail_all(self, error: BaseException) -> None:
        """Answer everything, commands too, with an error."""
        self.fail_requests(error)
        while self._queue:
            self._queue.popleft().fail(error)

    def _next(self) -> list[Envelope]:
        queue = self._queue
        group = [queue.popleft()]
        if type(group[0].content) is Write:
            operations = len(group[0].content.operations)
            while queue and len(group) < MAX_GROUP and type(queue[0].content) is Write:
                operations += len(queue[0].content.operations)
                if operations > MAX_GROUP_OPERATIONS:
                    break
                group.append(queue.popleft())
        if self._blocked:
            self._admit()
        return group

    def _admit(self) -> None:
        while self._blocked and len(self._queue) < self._size:
            envelope, room = self._blocked.popleft()
            if not room.done():
                room.set_result(None)
                self._queue.append(envelope)
                self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
