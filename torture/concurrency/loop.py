"""An event loop in which chance, from a seed, says who goes on next, and no time passes.

What is ready is kept in lanes: a task's steps in one, and those of any other object whose methods
are called back. Chance takes the next lane, so that everything may overtake everything, but for
the order of one task's own steps. When nothing is ready, the clock jumps to the next timer; when
there is no timer either, somebody waits for ever.

Three ways to choose find different races: a walk in which all are equal; one that keeps to the
order of arrival most of the time; and priorities that change now and then, which lets some
starve for long (after Burckhardt et al., "A randomized scheduler with probabilistic
guarantees of finding bugs", 2010).
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import AbstractEventLoop, Future, Handle, Task, TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from itertools import count
from random import Random
from typing import Any, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary
from zlib import crc32

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

STEP_S = 10e-6
"""How long a step takes."""
JUMP = 0.02
"""How often a timer rings before its time."""
MOST_STEPS = 30_000
HORIZON_S = 3600.0


class StuckError(Exception):
    """Somebody waits, and nothing will ever happen; or it goes on without an end."""


class Walk:
    """All lanes are equal; or, most of the time, the one in which something waits longest."""

    def __init__(self, random: Random, wild: float) -> None:
        self._random = random
        self._wild = wild

    def choose(self, lanes: list[int], longest: int) -> int:
        return self._random.choice(lanes) if self._random.random() < self._wild else longest


class Priorities:
    """The lane of the highest priority; now and then the chosen one's becomes the lowest."""

    def __init__(self, random: Random, changes: float) -> None:
        self._random = random
        self._changes = changes
        self._of: dict[int, float] = {}
        self._lowest = 0

    def choose(self, lanes: list[int], longest: int) -> int:
        for lane in lanes:
            if lane not in self._of:
                self._of[lane] = self._random.random()
        chosen = max(lanes, key=lambda lane: self._of[lane])
        if self._random.random() < self._changes:
            self._lowest -= 1
            self._of[chosen] = self._lowest
        return chosen


class Loop(AbstractEventLoop):
    """Runs one coroutine and whatever it starts, in an order of its own."""

    def __init__(self, random: Random) -> None:
        self._random = random
        wild = random.choice([0.05, 0.3, 1.0])
        self._way: Walk | Priorities = Walk(random, wild)
        if random.random() < 0.4:
            self._way = Priorities(random, random.choice([0.02, 0.1, 0.3]))
        self._now = 0.0
        self._lanes: dict[int, deque[tuple[int, Handle]]] = {}
        self._numbers: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._counter = count()
        self._timers: list[tuple[float, int, TimerHandle]] = []
        self._running = self._closed = False
        self.steps = 0
        self.trace = 0
        """A sum over what was chosen: the same seed gives the same."""
        self.complaints: list[str] = []
        """What was raised where nobody heard it."""

    def run(self, main: Coroutine[Any, Any, _T]) -> _T:
        """Go on until the coroutine ends.

        Raises:
            StuckError: it never will.
        """
        task: Task[_T] = self.create_task(main)
        asyncio._set_running_loop(self)
        self._running = True
        try:
            while not task.done():
                self._step()
        finally:
            self._running = False
            asyncio._set_running_loop(None)
        return task.result()

    def abandon(self) -> None:
        """Cancel all tasks, and forget those that go on nevertheless."""
        self.complaints = []
        asyncio._set_running_loop(self)
        self.steps = 0
        try:
            for task in asyncio.all_tasks(self):
                task.cancel()
            while asyncio.all_tasks(self) and self.steps < 10_000:
                self._step()
        except StuckError:
            pass
        finally:
            asyncio._set_running_loop(None)
            for task in asyncio.all_tasks(self):
                task._log_destroy_pending = False  # type: ignore[attr-defined]

    def _step(self) -> None:
        self._ring()
        if not self._lanes:
            raise StuckError("nothing is ready, and there is no timer")
        if self.steps > MOST_STEPS or self._now > HORIZON_S:
            raise StuckError(f"no end after {self.steps} steps and {self._now:.0f} s")
        longest = min(self._lanes, key=lambda lane: self._lanes[lane][0][0])
        lane = self._way.choose(sorted(self._lanes), longest)
        waiting = self._lanes[lane]
        _, handle = waiting.popleft()
        if not waiting:
            del self._lanes[lane]
        self.steps += 1
        self.trace = crc32(b"%d" % lane, self.trace)
        self._now += STEP_S
        if not handle.cancelled():
            handle._run()

    def _ring(self) -> None:
        """Make ready whose time has come."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if timers and (not self._lanes or self._random.random() < JUMP):
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            self._ready(heapq.heappop(timers)[2], None)

    def _ready(self, handle: Handle, callback: Any) -> None:
        lane = self._number(getattr(callback, "__self__", callback))
        self._lanes.setdefault(lane, deque()).append((next(self._counter), handle))

    def _number(self, owner: Any) -> int:
        # A task has its number from its creation, not from when it is first seen: sets of tasks
        # are walked in an order that differs from process to process.
        try:
            number = self._numbers.get(owner)
            if number is None:
                number = self._numbers[owner] = next(self._counter)
        except TypeError:
            return next(self._counter)
        return number

    # what asyncio asks of a loop

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, self, context)
        self._ready(handle, callback)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle:
        handle = TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._counter), handle))
        return handle

    def create_future(self) -> Future[Any]:
        return Future(loop=self)

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None
    ) -> Task[Any]:
        return Task(coro, loop=self, name=None if name is None else str(name), context=context)

    def get_task_factory(self) -> None:
        return None

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.complaints.append(f"{context.get('message')}: {error!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
