"""Many subscribers, slow ones, and those who leave: they cost others nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
from following import Mirror, is_quiet, mirrored, rest, says, take, told
from waiting import eventually

from sessionactor import (
    InvalidTypeError,
    InvalidValueError,
    Lagged,
    SessionRegistry,
    Subscription,
)
from sessionactor.testing import Faults, MemoryVault, faulty_store, memory_registry

# a slow subscriber


async def test_who_is_too_slow_gets_what_waits_and_is_told(place: Path | None) -> None:
    async with SessionRegistry(place, subscriber_buffer=4) as registry:
        session = await registry.start()
        mirror, events = Mirror(), session.subscribe(since=0)
        for n in range(1, 103):
            await session.append("a", says(n))
            if n % 20 == 0:
                for event in await rest(events):
                    if isinstance(event, Lagged):
                        assert event.revision == mirror.revision
                        events = session.subscribe(since=event.revision)
                    else:
                        mirror.take(event)
            elif n % 20 < 3:  # from the second on it is live
                while mirror.revision < n:
                    mirror.take(await anext(events))
        async with mirrored(events, mirror):
            await session.save_metadata({"the": "end"})
            await eventually(lambda: mirror.metadata)
        await mirror.is_true(session)
        assert len(mirror.seen) == 103


async def test_the_buffer_holds_what_it_should() -> None:
    async with memory_registry(subscriber_buffer=10) as registry:
        session = await registry.start()
        events = session.subscribe()
        for n in range(1, 12):
            await session.append("a", says(n))
        assert told(await take(events, 11)) == [("Appended", n, n, n) for n in range(1, 12)]
        for n in range(12, 40):
            await session.append("a", says(n))
        seen = told(await rest(events))
        assert 10 <= len(seen) - 1 <= 13
        assert seen[-1] == ("Lagged", seen[-2][1])
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_one_revision_is_given_whole_however_large(place: Path | None) -> None:
    async with SessionRegistry(place, subscriber_buffer=3) as registry:
        session = await registry.start()
        events = session.subscribe()
        for _ in range(3):
            await session.extend("a", [says(n) for n in range(500)])
        seen = await rest(events)
        assert isinstance(seen[-1], Lagged)
        assert [event.revision for event in seen[:-1]] == [
            n for n in range(1, seen[-1].revision + 1) for _ in range(500)
        ]
        again = await take(session.subscribe(since=seen[-1].revision), 500)
        assert {event.revision for event in again} == {seen[-1].revision + 1}


async def test_large_messages_fill_a_buffer_too() -> None:
    async with memory_registry() as registry:
        session = await registry.start()
        events = session.subscribe()
        for _ in range(20):
            await session.append("a", says("x" * 5_000_000))
        seen = await rest(events)
        assert isinstance(seen[-1], Lagged)
        assert 12 <= len(seen) <= 17


async def test_a_subscriber_that_stopped_keeps_no_more_than_its_buffer() -> None:
    async with memory_registry(subscriber_buffer=50) as registry:
        session = await registry.start()
        stopped = [session.subscribe() for _ in range(20)]
        keeps_up = session.subscribe()
        before = alive("Entry", "_Link", "Insertion")
        for n in range(1000):
            await session.append("a", says(n))
            await take(keeps_up, 1)
        assert alive("Entry", "_Link", "Insertion") - before < 150
        for events in stopped:
            assert isinstance((await rest(events))[-1], Lagged)


async def test_an_invalid_buffer() -> None:
    for bad, error in ((0, InvalidValueError), (1.5, InvalidTypeError), (True, InvalidTypeError)):
        with pytest.raises(error, match="subscriber_buffer"):
            SessionRegistry(None, subscriber_buffer=bad)  # type: ignore[arg-type]


# leaving


def alive(*kinds: str) -> int:
    """How many objects of these classes of the package there are."""
    gc.collect()
    return sum(
        type(one).__name__ in kinds and type(one).__module__.startswith("sessionactor")
        for one in gc.get_objects()
    )


async def leave_by_break(events: Subscription) -> None:
    async for _ in events:
        break


async def leave_by_closing(events: Subscription) -> None:
    async with aclosing(events):
        await anext(events)


async def leave_by_its_own_block(events: Subscription) -> None:
    async with events:
        await anext(events)


async def leave_by_cancellation(events: Subscription) -> None:
    await anext(events)
    following = asyncio.ensure_future(rest(events))
    await asyncio.sleep(0)
    following.cancel()
    await asyncio.wait([following])


async def leave_by_an_error(events: Subscription) -> None:
    with suppress(ZeroDivisionError):
        async for _ in events:
            raise ZeroDivisionError


async def leave_before_anything(events: Subscription) -> None:
    del events


@pytest.mark.parametrize(
    "leave",
    [leave_by_break, leave_by_closing, leave_by_its_own_block, leave_by_cancellation,
     leave_by_an_error, leave_before_anything],
)  # fmt: skip
@pytest.mark.parametrize("since", [None, 0])
async def test_leaving_leaves_nothing(leave: Callable[..., Any], since: int | None) -> None:
    kinds = ("Subscription", "Cursor", "Log", "Entry", "_Link", "Insertion")
    async with memory_registry() as registry:
        session = await registry.start()
        await session.append("a", says("before"))
        before, tasks = alive(*kinds), len(asyncio.all_tasks())
        for n in range(5):
            events = session.subscribe(since=since)
            await session.append("a", says(n))
            await leave(events)
            del events
            await session.append("a", says(n))
        assert alive(*kinds) == before
        assert len(asyncio.all_tasks()) == tasks


async def test_no_task_for_a_subscriber() -> None:
    async with memory_registry() as registry:
        session = await registry.start()
        await session.append("a", says(1))
        tasks = len(asyncio.all_tasks())
        every = [session.subscribe(since=0) for _ in range(50)]
        for events in every:
            await take(events, 1)
        await session.append("a", says(2))
        assert len(asyncio.all_tasks()) == tasks


async def test_a_cancelled_wait_loses_nothing(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start()
        events = session.subscribe(since=0)
        mirror = Mirror()
        writing = asyncio.ensure_future(write_slowly(session.append))
        for turns in range(400):
            waiting = asyncio.ensure_future(anext(events))
            for _ in range(turns % 7):
                await asyncio.sleep(0)
            if waiting.cancel():
                await asyncio.wait([waiting])
            if not waiting.cancelled():
                mirror.take(waiting.result())
        await writing
        await session.save_metadata({"the": "end"})
        async with mirrored(events, mirror):
            await eventually(lambda: mirror.metadata)
        await mirror.is_true(session)
        assert len(mirror.seen) == 51


async def write_slowly(append: Callable[..., Any]) -> None:
    for n in range(50):
        await append("a", says(n))
        for _ in range(n % 5):
            await asyncio.sleep(0)


def futures() -> int:
    return sum(isinstance(one, asyncio.Future) for one in gc.get_objects())


async def test_polling_with_a_timeout_piles_nothing_up() -> None:
    async with memory_registry() as registry:
        session = await registry.start()
        events = session.subscribe()
        gc.collect()
        before = futures()
        for _ in range(3):
            for _ in range(200):
                waiting = asyncio.ensure_future(anext(events))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
            assert futures() - before < 50


async def test_who_waits_is_not_forgotten_with_its_task() -> None:
    async with memory_registry() as registry:
        session = await registry.start()
        seen: list[Any] = []

        async def follow() -> None:
            seen.append(await anext(session.subscribe()))

        asyncio.ensure_future(follow())  # noqa: RUF006 - nobody keeps the task
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()
        await session.append("a", says(1))
        await eventually(lambda: seen)


async def test_closing_ends_the_wait_of_another_task(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start()
        for since in (None, 0):
            events = session.subscribe(since=since)
            following = [asyncio.ensure_future(rest(events)) for _ in range(3)]
            assert await is_quiet(events, session)
            await events.aclose()
            await events.aclose()
            assert await asyncio.gather(*following) == [[], [], []]


async def test_closing_while_the_past_is_read() -> None:
    faults = Faults()
    stores = faulty_store(faults, MemoryVault().open_store)
    async with memory_registry(open_store=stores) as registry:
        session = await registry.start()
        await session.append("a", says(1))
        stall = faults.stall("read", when="after")
        events = session.subscribe(since=0)
        following = asyncio.ensure_future(rest(events))
        await stall.reached.wait()
        await events.aclose()
        stall.release()
        assert await following == []


async def test_tasks_may_share_the_events_of_one(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("a", [says(n) for n in range(100)])
        events = session.subscribe(since=0)
        sharing = [asyncio.ensure_future(rest(events)) for _ in range(5)]
        for n in range(100, 200):
            await session.append("a", says(n))
        await registry.delete("a")
        parts = await asyncio.gather(*sharing)
        seen = sorted(event.revision for part in parts for event in part)
        assert seen == [1] * 100 + [*range(2, 102), 101]


# many


class Ticker:
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.turns = 0
        self._task = asyncio.ensure_future(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turns += 1

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@pytest.mark.parametrize("since", [None, 0])
async def test_who_has_much_to_take_in_lets_others_go_on(since: int | None) -> None:
    async with memory_registry() as registry:
        session = await registry.start()
        events = session.subscribe(since=since)
        for _ in range(4):
            await session.extend("a", [says(n) for n in range(500)])
        ticker = Ticker()
        await take(events, 2000)
        assert ticker.turns >= 2000 / 16
        await ticker.stop()
        large = session.subscribe()
        await session.extend("a", [says("x" * 100_000)] * 50)
        ticker = Ticker()
        await take(large, 50)
        assert ticker.turns >= 50
        await ticker.stop()


async def test_many_who_wait_go_on_a_few_at_a_time_and_after_the_writer() -> None:
    async with memory_registry() as registry:
        session = await registry.start()
        seen: list[int] = []
        ticker = Ticker()

        async def follow() -> None:
            async for _ in session.subscribe():
                seen.append(ticker.turns)  # noqa: PERF401

        following = [asyncio.create_task(follow()) for _ in range(200)]
        for _ in range(10):
            await asyncio.sleep(0)
        for n in range(1, 4):
            await session.append("a", says(n))
            assert len(seen) <= 200 * (n - 1)
            await eventually(lambda n=n: len(seen) == 200 * n)
        most = max(seen.count(turn) for turn in set(seen))
        assert most <= 8
        await ticker.stop()
        for task in following:
            task.cancel()
        await asyncio.wait(following)


async def test_requests_that_never_end_keep_nobody_from_being_told() -> None:
    async with memory_registry() as registry:
        session, other = await registry.start(), await registry.start()
        done = asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                await other.revision()

        asking = [asyncio.ensure_future(ask()) for _ in range(10)]
        every = [session.subscribe() for _ in range(50)]
        for n in range(1, 6):
            await session.append("a", says(n))
            for events in every:
                assert told(await take(events, 1)) == [("Appended", n, n, n)]
        done.set()
        await asyncio.gather(*asking)
