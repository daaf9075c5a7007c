from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from gate import Gate
from waiting import eventually

from sessionactor import Session, SessionNotFoundError, SessionRegistry

HELLO = {"role": "user", "content": "hello"}
SOON_S = 0.02


def say(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


async def contents(session: Session) -> list[Any]:
    return [row.message["content"] for row in await session.messages()]


async def test_a_session_that_nobody_asks_closes_its_file_and_comes_back(
    place: Path | None,
) -> None:
    async with SessionRegistry(place, idle_timeout_s=SOON_S) as registry:
        session = await registry.start("a", name="n")
        await session.append("one", HELLO)
        await session.save_metadata({"n": 1})
        await eventually(lambda: registry.whereis("a") is None)
        await eventually(lambda: registry.statistics().active == 0)
        assert registry.statistics().passivations >= 1  # more on a slow machine
        if place:
            assert [entry for entry in os.listdir(place) if "n.db" in entry] == ["a_n.db"]
        assert await session.append("one", HELLO) == 2
        assert await session.get_metadata() == {"n": "1"}
        assert registry.statistics().activations >= 2  # more on a slow machine


async def test_a_session_in_use_is_not_idle(place: Path | None) -> None:
    async with SessionRegistry(place, idle_timeout_s=0.3) as registry:
        busy, idle = await registry.start("busy"), await registry.start("idle")
        async with asyncio.timeout(20):
            while registry.whereis("idle") is not None:
                await busy.append("one", HELLO)
        assert registry.whereis("busy") is busy
        assert await idle.append("one", HELLO) == 1


async def test_requests_that_race_with_the_idle_timeout_are_never_lost(
    place: Path | None,
) -> None:
    async with SessionRegistry(place, idle_timeout_s=0.001) as registry:
        session = await registry.start("a")
        for n in range(1, 151):
            assert await session.append("one", say(n)) == n
            # A real clock has to pass: somewhere around the end of the idle time.
            await asyncio.sleep(0.0005 * (n % 5))
        assert await contents(session) == list(range(1, 151))
        assert registry.statistics().activations > 1


async def test_without_an_idle_timeout_sessions_stay(place: Path | None) -> None:
    async with SessionRegistry(place, idle_timeout_s=None) as registry:
        await registry.start("a")
        async with SessionRegistry(None, idle_timeout_s=SOON_S) as clock:
            await clock.start("a")
            await eventually(lambda: clock.statistics().passivations)
        assert registry.whereis("a") is not None
        assert registry.statistics().passivations == 0


async def test_the_least_recently_used_gives_way(place: Path | None) -> None:
    async with SessionRegistry(place, max_active=2) as registry:
        first, second = await registry.start("1"), await registry.start("2")
        await first.append("one", HELLO)
        third = await registry.start("3")
        assert registry.whereis("2") is None
        assert registry.whereis("1") is first
        assert registry.whereis("3") is third
        await second.append("one", HELLO)
        assert registry.whereis("1") is None
        assert registry.statistics().active == 2


@pytest.mark.parametrize("max_active", [1, 2, 5])
async def test_many_sessions_with_few_files_lose_nothing(
    place: Path | None, max_active: int
) -> None:
    async with SessionRegistry(place, max_active=max_active) as registry:

        async def talk(session_id: str) -> None:
            session = await registry.start(session_id, name=f"n{session_id}")
            for n in range(8):
                assert await session.append("one", say(n)) == n + 1
                assert registry.statistics().active <= max_active
                if n % 4 == 3:
                    assert len((await session.messages_from_latest_checkpoint()).rows) == n + 1

        await asyncio.gather(*(talk(str(n)) for n in range(25)))
        assert registry.statistics().passivations > 25 - max_active - 1
        for n in range(25):
            assert await contents(registry.session(str(n))) == list(range(8))
        assert len(await registry.find("n*")) == 25


async def test_threads_are_bounded_however_many_sessions_there_are(place: Path | None) -> None:
    before = threading.active_count()
    most = 0
    async with SessionRegistry(place, max_active=3) as registry:

        async def touch(session_id: str) -> None:
            nonlocal most
            await (await registry.start(session_id)).append("one", HELLO)
            most = max(most, threading.active_count())

        await asyncio.gather(*(touch(str(n)) for n in range(60)))
    # A thread for each file, two of the catalog, and a few of the registry's own.
    assert 0 < most - before <= 3 + 2 + 3


async def test_concurrent_callers_of_many_sessions_all_get_on(place: Path | None) -> None:
    async with SessionRegistry(place, max_active=2) as registry:
        sessions = [await registry.start(str(n)) for n in range(6)]
        await asyncio.gather(
            *(session.append("one", say(n)) for n in range(50) for session in sessions)
        )
        for session in sessions:
            assert await contents(session) == list(range(50))


async def test_a_queue_waits_for_its_session_to_be_activated_again(place: Path | None) -> None:
    async with SessionRegistry(place, max_active=1, mailbox_size=3) as registry:
        first, second = await registry.start("1"), await registry.start("2")
        answers = await asyncio.gather(
            *(session.append("one", say(n)) for n in range(40) for session in (first, second))
        )
        assert answers[0::2] == answers[1::2] == list(range(1, 41))


async def test_everything_at_once_with_one_file_gets_on(place: Path | None) -> None:
    async with SessionRegistry(place, max_active=1) as registry:

        async def life(session_id: str) -> None:
            session = await registry.start(session_id, name="young")
            await session.append("one", HELLO)
            await session.rename(f"old{session_id}")
            await registry.stop(session_id)
            assert await session.append("one", HELLO) == 2
            async for row in session.stream():
                assert row.message == HELLO
            assert await registry.delete(session_id) is True
            with pytest.raises(SessionNotFoundError):
                await session.append("one", HELLO)
            await registry.start(session_id)
            assert await session.append("one", HELLO) == 1

        async with asyncio.timeout(30):
            await asyncio.gather(*(life(str(n)) for n in range(15)))
        assert registry.statistics().active <= 1
        assert len(await registry.find("*")) == 15


async def test_a_long_read_goes_on_when_its_session_was_passivated_in_between(
    place: Path | None,
) -> None:
    async with SessionRegistry(place, max_active=1) as registry:
        session = await registry.start("long")
        await session.extend("one", [say(n) for n in range(5000)])
        seen = []
        async for row in session.stream():
            if row.db_id % 1000 == 0:
                await (await registry.start("other")).append("one", HELLO)
                assert registry.whereis("long") is None
            seen.append(row.message["content"])
        assert seen == list(range(5000))

        async def crowd() -> None:
            for _ in range(10):
                await registry.session("other").messages()

        rows, _ = await asyncio.gather(session.messages(), crowd())
        assert len(rows) == 5000


@pytest.mark.parametrize(
    "leave",
    [
        lambda registry: registry.stop("a"),
        lambda registry: registry.start("b"),
    ],
    ids=["stop", "crowded out"],
)
async def test_in_memory_a_passive_session_keeps_its_content(
    leave: Callable[[SessionRegistry], Awaitable[object]],
) -> None:
    async with SessionRegistry(None, max_active=1) as registry:
        session = await registry.start("a", name="n")
        await session.append("one", HELLO, key="k", turn="t")
        await session.extend("one", [say({1, 2}), {"role": "summary"}])
        await session.truncate_from(3)
        await session.save_metadata({"n": None})
        rows, revision = await session.messages(), await session.revision()
        await leave(registry)
        assert registry.whereis("a") is None
        assert await session.messages() == rows
        assert await session.revision() == revision
        assert await session.get_metadata() == {"n": None}
        assert await session.append("one", HELLO, key="k") == 1
        assert await session.append("one", HELLO) == 4
        assert (await registry.find_by_name("n")).session_id == "a"


# backpressure


async def test_a_full_mailbox_makes_callers_wait_and_drops_nothing(place: Path | None) -> None:
    gate = Gate()
    async with SessionRegistry(place, mailbox_size=5, open_store=gate.open_store) as registry:
        session = await registry.start("a")
        with gate.shut():
            calls = [asyncio.create_task(session.append("one", say(n))) for n in range(300)]
            late = asyncio.create_task(session.messages())
            await gate.reached.wait()
            await asyncio.sleep(0)  # let them all ask
            assert registry.statistics().queued > 200
            assert not any(call.done() for call in (*calls, late))
        assert await asyncio.gather(*calls) == list(range(1, 301))
        assert len(await late) == 300
        assert await contents(session) == list(range(300))


async def test_a_full_mailbox_of_one_session_does_not_stop_another(place: Path | None) -> None:
    gate = Gate()
    async with SessionRegistry(place, mailbox_size=1, open_store=gate.open_store) as registry:
        session, other = await registry.start("a"), await registry.start("b")
        with gate.shut():
            calls = [asyncio.create_task(session.append("one", say(n))) for n in range(10)]
            await gate.reached.wait()
            assert await other.messages() == []
            assert (await registry.find_by_id("b")).session_id == "b"
            assert not any(call.done() for call in calls)
        assert await asyncio.gather(*calls) == list(range(1, 11))


async def test_a_caller_who_gives_up_waiting_for_room_was_not_accepted(
    place: Path | None,
) -> None:
    gate = Gate()
    async with SessionRegistry(place, mailbox_size=2, open_store=gate.open_store) as registry:
        session = await registry.start("a")
        with gate.shut():
            first = asyncio.create_task(session.append("one", say("first")))
            await gate.reached.wait()  # it is being committed
            calls = [asyncio.create_task(session.append("one", say(n))) for n in range(6)]
            await asyncio.sleep(0)  # let them ask: two find room
            for call in calls[2:4]:
                call.cancel()
            await asyncio.wait(calls[2:4])
            assert registry.statistics().queued == 4
        assert await first == 1
        await asyncio.wait(calls)
        assert [call.cancelled() for call in calls] == [False, False, True, True, False, False]
        assert await contents(session) == ["first", 0, 1, 4, 5]


async def test_the_smallest_mailbox_works(place: Path | None) -> None:
    async with SessionRegistry(place, mailbox_size=1, max_active=1) as registry:
        session = await registry.start("a")
        db_ids = await asyncio.gather(*(session.append("one", HELLO) for _ in range(200)))
        assert db_ids == list(range(1, 201))
        _, rows, stopped = await asyncio.gather(
            session.append("one", HELLO), session.messages(), registry.stop("a")
        )
        assert len(rows) == 201 or stopped
        assert len(await session.messages()) == 201
