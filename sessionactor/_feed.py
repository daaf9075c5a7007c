"""The queue in front of the catalog: what happened, and what has to be read again.

Plain deques on one event loop. It is bounded: a session of which too much waits is *wanted*
instead, and its file says what happened when its turn has come. Whoever needs the catalog to
be up to date waits until all is in that was accepted before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple

from sessionactor._catalog_events import Committed, Event, Opened, part_of
from sessionactor._changes import InsertRows, MergeMetadata, Step, UpdateRow

MAX_ROWS: Final = 50_000
"""Rows that wait at most …"""
MAX_BYTES: Final = 32 << 20
"""… and bytes of their messages."""
BATCH_ROWS: Final = 1024
BATCH_BYTES: Final = 2 << 20
"""Taken in together at most: so long it takes before others have their turn."""
_JOINED_ROWS: Final = BATCH_ROWS // 8
_JOINED_BYTES: Final = BATCH_BYTES // 8
"""Of commits that wait as one."""
_EVENT_BYTES: Final = 256
"""What an event takes without rows; it counts as a row, too."""


class Queued:
    """An event that waits; `None`: its session is wanted instead."""

    __slots__ = ("_steps", "event", "is_open", "part", "rows", "size", "ticket")

    def __init__(self, ticket: int, part: str, event: Event, rows: int, size: int) -> None:
        self.ticket = ticket
        self.part = part
        self.event: Event | None = event
        self.rows = rows
        self.size = size
        self.is_open = True
        """Whether what follows may be joined to it."""
        self._steps: list[Step] | None = None

    def join(self, event: Event, rows: int, size: int) -> bool:
        """Have a commit that follows on this one wait as one with it; whether it does.

        What waits is work for Python's collector, and each commit is some for whoever takes
        it in.
        """
        first = self.event
        if (
            not self.is_open
            or type(first) is not Committed
            or type(event) is not Committed
            or event.base_revision != first.info.revision
            or self.rows + rows > _JOINED_ROWS
            or self.size + size > _JOINED_BYTES
        ):
            return False
        if self._steps is None:  # others have those that it came with
            self._steps = []
            _extend(self._steps, first.steps)
        _extend(self._steps, event.steps)
        self.event = Committed(first.session_id, first.base_revision, self._steps, event.info)
        self.rows += rows
        self.size += size
        return True


class _Waiting(NamedTuple):
    done: asyncio.Future[None]
    part: str | None
    queued: int
    """The last ticket in the queue that it waits for."""
    wanted: int
    """The last ticket of those wanted."""


class Feed:
    """What waits for the catalog, in order, and who waits for that."""

    def __init__(self, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._ticket = 0
        self._queue: deque[Queued] = deque()
        self._newest: dict[str, Queued] = {}  # part -> its last one in the queue
        self._rows = 0
        self._bytes = 0
        # part -> ticket; a dict would keep, and walk over, the room of those it once had.
        self._wanted: OrderedDict[str, int] = OrderedDict()
        self._reading: dict[str, int] = {}
        self._waiting: list[_Waiting] = []
        self.is_closed = False
        """Whether it takes in what is there, and ends: nobody begins to rest or to wait."""
        self._arrival: asyncio.Future[None] | None = None
        self._rest: asyncio.Future[None] | None = None

    @property
    def has_events(self) -> bool:
        """Whether something happened that is not in."""
        return bool(self._queue)

    @property
    def is_crowded(self) -> bool:
        """Whether more waits than is taken in together."""
        return self._rows > BATCH_ROWS or self._bytes > BATCH_BYTES

    @property
    def left(self) -> int:
        """How many sessions are to be read."""
        return len(self._wanted) + len(self._reading)

    def waits(self, part: str) -> bool:
        """Whether something that happened to a session is not in."""
        return part in self._newest or part in self._wanted or part in self._reading

    def put(self, event: Event) -> None:
        """Accept what happened."""
        part = part_of(event)
        if part in self._wanted and type(event) is not Opened:
            return  # its file says it
        rows, size = _weight(event)
        newest = self._newest.get(part)
        if newest is None or not newest.join(event, rows, size):
            self._ticket += 1
            rows += 1
            size += _EVENT_BYTES
            newest = self._newest[part] = Queued(self._ticket, part, event, rows, size)
            newest.is_open = part not in self._reading  # or its file may say a part of it
            self._queue.append(newest)
        self._rows += rows
        self._bytes += size
        if self._rows > self._max_rows or self._bytes > self._max_bytes:
            self._shed()
        _wake(self._arrival)

    def want(self, parts: Collection[str]) -> None:
        """Have sessions read from their files."""
        for part in parts:
            if part not in self._wanted:
                self._ticket += 1
                self._wanted[part] = self._ticket
        _wake(self._arrival)

    def wake(self) -> None:
        """End the rest of whoever takes in."""
        _wake(self._arrival)
        _wake(self._rest)

    def close(self) -> None:
        """Have what is there taken in without a rest, and nobody wait who does not yet."""
        self.is_closed = True
        self.wake()

    def batch(self, max_rows: int = BATCH_ROWS) -> list[Queued]:
        """What to take in next; it stays until it is `done`."""
        batch: list[Queued] = []
        rows = size = 0
        for queued in self._queue:
            rows += queued.rows
            size += queued.size
            if batch and (rows > min(max_rows, BATCH_ROWS) or size > BATCH_BYTES):
                break
            queued.is_open = False
            batch.append(queued)
        return batch

    def done(self, batch: Sequence[Queued], behind: Collection[str] = ()) -> None:
        """Take note that these, which are the first ones, are in.

        `behind`: sessions that have to be read before what was told of them is in.
        """
        for queued in batch:
            self._queue.popleft()
            if queued.part in behind:
                self._want(queued.part, queued.ticket)
            self._rows -= queued.rows
            self._bytes -= queued.size
            if self._newest.get(queued.part) is queued:
                del self._newest[queued.part]
        self._answer()

    def read(self, limit: int) -> list[str]:
        """The sessions to read next; those first for which somebody waits."""
        asked = [waiting.part for waiting in self._waiting if waiting.part in self._wanted]
        parts = dict.fromkeys([*asked, *islice(self._wanted, limit)])
        chosen = [part for part in islice(parts, limit) if part is not None]
        for part in chosen:
            # What is committed from now on may not be in what is read: it is queued again.
            self._reading[part] = self._wanted.pop(part)
        return chosen

    def read_done(self, parts: Collection[str]) -> None:
        """Take note that what these files say is in."""
        for part in parts:
            self._reading.pop(part, None)
        self._answer()

    def read_again(self, parts: Collection[str]) -> None:
        """Take note that there is more to read of these."""
        for part in parts:
            self._want(part, self._reading.pop(part, self._ticket))

    def unread(self) -> None:
        """Take note that nothing is being read any more."""
        self.read_again(list(self._reading))

    def _want(self, part: str, ticket: int) -> None:
        self._wanted[part] = min(ticket, self._wanted.get(part, ticket))

    async def arrival(self) -> None:
        """Wait until there is something to take in, or for `wake`."""
        if not self._queue and not self._wanted:
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None

    async def rest(self, seconds: float) -> None:
        """Let the time pass, unless somebody waits."""
        if not self._waiting and not self.is_closed:
            self._rest = asyncio.get_running_loop().create_future()
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._rest
            finally:
                self._rest = None

    async def barrier(self, part: str | None = None) -> None:
        """Wait until all that was accepted by now, of one session or of all, is in.

        Raises:
            StorageError: the catalog could not take it in.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        newest = None if part is None else self._newest.get(part)
        queued = self._ticket if part is None else newest.ticket if newest else 0
        waiting = _Waiting(done, part, queued, self._ticket)
        if self.is_closed or self._is_in(waiting):
            return
        self._waiting.append(waiting)
        _wake(self._rest)
        try:
            await done
        finally:
            self._waiting = [other for other in self._waiting if other is not waiting]

    def fail(self, error: Exception | None) -> None:
        """Let nobody wait any longer; without an error as if all were in."""
        for waiting in self._waiting:
            if not waiting.done.done():
                if error is None:
                    waiting.done.set_result(None)
                else:
                    waiting.done.set_exception(error)
        self._waiting = []

    def _is_in(self, waiting: _Waiting) -> bool:
        _, part, queued, wanted = waiting
        if self._queue and self._queue[0].ticket <= queued:
            return False
        if part is not None:
            return not any(
                parts.get(part, wanted + 1) <= wanted for parts in (self._wanted, self._reading)
            )
        return not any(
            ticket <= wanted for parts in (self._wanted, self._reading) for ticket in parts.values()
        )

    def _answer(self) -> None:
        for waiting in self._waiting:
            if not waiting.done.done() and self._is_in(waiting):
                waiting.done.set_result(None)
        self._waiting = [waiting for waiting in self._waiting if not waiting.done.done()]

    def _shed(self) -> None:
        """Want the sessions of which most waits, instead of what waits of them: half of it."""
        sizes: dict[str, list[int]] = {}
        for queued in self._queue:
            weights = sizes.setdefault(queued.part, [0, 0])
            weights[0] += queued.size
            weights[1] += queued.rows
        shed = set()
        left_rows, left_bytes = self._rows, self._bytes
        for part, (size, rows) in sorted(sizes.items(), key=lambda item: item[1], reverse=True):
            if left_rows <= self._max_rows // 2 and left_bytes <= self._max_bytes // 2:
                break
            shed.add(part)
            left_rows -= rows
            left_bytes -= size
        self.want(shed)
        for queued in self._queue:
            if queued.part in shed:
                queued.event, queued.rows, queued.size = None, 0, 0
        self._rows, self._bytes = left_rows, left_bytes


def _extend(steps: list[Step], more: Iterable[Step]) -> None:
    """Add steps; rows that are inserted one after the other become one step."""
    for step in more:
        last = steps[-1] if steps else None
        if type(step) is not InsertRows:
            steps.append(step)
        elif type(last) is InsertRows:
            last.rows.extend(step.rows)
        else:
            steps.append(InsertRows([*step.rows], []))


def _wake(sleeper: asyncio.Future[None] | None) -> None:
    if sleeper is not None and not sleeper.done():
        sleeper.set_result(None)


def _weight(event: Event) -> tuple[int, int]:
    """How many rows it has, each other step counted as one, and bytes of what they say."""
    rows = size = 0
    for step in event.steps if type(event) is Committed else ():
        if type(step) is InsertRows:
            rows += len(step.rows)
            size += sum([len(row[2]) for row in step.rows])
            continue
        rows += 1
        size += _EVENT_BYTES
        if type(step) is UpdateRow:
            size += len(step.row[2])
        elif type(step) is MergeMetadata:
            size += sum([len(key) + len(value or "") for key, value in step.items])
    return rows, size


__all__ = ["Feed", "Queued"]
