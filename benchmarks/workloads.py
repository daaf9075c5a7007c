"""Messages, callers and clocks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeAlias

import msgpack

Message: TypeAlias = dict[str, Any]

CONVERSATIONS = Path(__file__).parents[2] / "shared/data/airline-conversations.jsonl"
"""Real agent conversations, which are not part of the repository."""

_PROSE = "The flight leaves at 15:05 from gate B12; a refund needs the passenger's consent. "


def message_of(size: int) -> Message:
    """A message of so many bytes in msgpack."""
    message = {"role": "user", "content": (_PROSE * (size // len(_PROSE) + 1))[:size]}
    excess = len(msgpack.packb(message)) - size
    return {**message, "content": message["content"][: size - excess]}


def real_messages() -> list[Message]:
    """All messages of the real conversations; none where the file is absent."""
    if not CONVERSATIONS.exists():
        return []
    with CONVERSATIONS.open(encoding="utf-8") as lines:
        return [message for line in lines for message in json.loads(line)["messages"]]


@contextmanager
def data_directory() -> Iterator[Path]:
    """A directory for one measurement; `TMPDIR` says where."""
    with TemporaryDirectory(prefix="sessionactor-bench-", ignore_cleanup_errors=True) as path:
        yield Path(path)


async def gather(awaitables: Iterable[Awaitable[object]]) -> None:
    """Wait for all, and only then raise what one of them raised."""
    for outcome in await asyncio.gather(*awaitables, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def appends_per_second(
    append: Callable[[Message], Awaitable[object]],
    messages: Sequence[Message],
    callers: int,
    until: Callable[[], bool],
) -> float:
    """The rate at which callers, each waiting for its own answer, get messages stored."""
    appended = 0

    async def caller(number: int) -> None:
        nonlocal appended
        feed = islice(cycle(messages), number % len(messages), None)
        while not until():
            await append(next(feed))
            appended += 1

    start = perf_counter()
    await gather(caller(number) for number in range(callers))
    return appended / (perf_counter() - start)


def batches_per_second(
    extend: Callable[[Sequence[Message]], object],
    messages: Sequence[Message],
    size: int,
    until: Callable[[], bool],
) -> float:
    """The rate at which messages get stored, so many in a transaction, without any callers."""
    appended = 0
    feed = cycle(messages)
    start = perf_counter()
    while not until():
        extend(list(islice(feed, size)))
        appended += size
    return appended / (perf_counter() - start)


def after(seconds: float) -> Callable[[], bool]:
    """Whether so much time has passed."""
    end = perf_counter() + seconds
    return lambda: perf_counter() >= end


async def milliseconds(
    call: Callable[[], Awaitable[object]],
    times: int,
    prepare: Callable[[], Awaitable[object]] | None = None,
) -> float:
    """How long a call takes, awaited one after another; the median. `prepare` is not timed."""
    taken = []
    for _ in range(times):
        if prepare is not None:
            await prepare()
        start = perf_counter()
        await call()
        taken.append(perf_counter() - start)
    return median(taken) * 1000


class Pulse:
    """How late the event loop got round to a task that wants to run every millisecond."""

    def __init__(self) -> None:
        self.longest_block_ms = 0.0

    async def beat(self) -> None:
        """Run until cancelled."""
        while True:
            start = perf_counter()
            await asyncio.sleep(0.001)
            late = (perf_counter() - start - 0.001) * 1000
            self.longest_block_ms = max(self.longest_block_ms, late)


@asynccontextmanager
async def pulse() -> AsyncIterator[Pulse]:
    """Watch the event loop."""
    watching = Pulse()
    task = asyncio.create_task(watching.beat())
    try:
        yield watching
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
