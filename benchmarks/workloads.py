"""Messages, callers and clocks."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import accumulate, cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeAlias

import msgpack

Message: TypeAlias = dict[str, Any]

THIRD, OTHER_THIRD, HUNDREDTH, THOUSANDTH = "refund", "voucher", "upgrade", "lounge"
JAPANESE = "東京行きの便は遅れています"

CONVERSATIONS = Path(__file__).parents[2] / "shared/data/airline-conversations.jsonl"
"""Real agent conversations, which are not part of the repository."""

_PROSE = "The flight leaves at 15:05 from gate B12; a refund needs the passenger's consent. "


def message_of(size: int) -> Message:
    """A message of so many bytes in msgpack."""
    message = {"role": "user", "content": (_PROSE * (size // len(_PROSE) + 1))[:size]}
    excess = len(msgpack.packb(message)) - size
    return {**message, "content": message["content"][: size - excess]}


def varied(count: int, size: int = 300) -> Iterator[Message]:
    """Messages of about so many bytes, of 20,000 words as frequent as in a language.

    Every third one has the word `THIRD`, the ones after them `OTHER_THIRD`, one in a hundred
    `HUNDREDTH`, one in a thousand `THOUSANDTH` and some Japanese; each has its own number.
    """
    chance = random.Random(size)
    syllables = [first + last for first in "bdfgklmnprstvz" for last in "aeiou"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(20_000)]
    weights = [*accumulate(1 / rank for rank in range(1, len(words) + 1))]
    texts = [_text(chance, words, weights, size, number) for number in range(min(count, 20_000))]
    for number in range(count):
        yield {"role": "user", "content": f"{texts[number % len(texts)]} {number}"}


def _text(
    chance: random.Random, words: Sequence[str], weights: Sequence[float], size: int, number: int
) -> str:
    rare = [
        *([THIRD] if number % 3 == 0 else []),
        *([OTHER_THIRD] if number % 3 == 1 else []),
        *([HUNDREDTH] if number % 100 == 0 else []),
        *([THOUSANDTH, JAPANESE] if number % 1000 == 0 else []),
    ]
    text = " ".join([*rare, *chance.choices(words, cum_weights=weights, k=size // 4)])
    return text[: size - 30]


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


def reading(
    call: Callable[[], Awaitable[Sequence[object]]],
    expected: int,
    times: int,
    prepare: Callable[[], Awaitable[object]] | None = None,
) -> Callable[[], Awaitable[float]]:
    """A measure of a call's milliseconds that first looks whether it finds so much."""

    async def measure() -> float:
        found = len(await call())
        if found != expected:
            raise AssertionError(f"it finds {found} instead of {expected}")
        return await milliseconds(call, max(3, times), prepare)

    return measure


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
