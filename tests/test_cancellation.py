"""Cancelling a caller at every await: its request is not accepted, or is carried out whole."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import random
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from processes import PATIENCE_S as PROCESS_PATIENCE_S
from processes import Process, output_of, process
from waiting import PATIENCE_S, eventually

from sessionactor import (
    RegistryClosedError,
    Session,
    SessionError,
    SessionNotFoundError,
    SessionRegistry,
)
from sessionactor.testing import Faults, MemoryVault, Stall, faulty_store, memory_registry


def says(text: object) -> dict[str, object]:
    return {"role": "user", "content": text}


async def contents(session: Session) -> list[Any]:
    return [row.message["content"] for row in await session.messages()]


async def cancelled(task: asyncio.Future[Any]) -> None:
    """Cancel a call, and see that it was."""
    task.cancel()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(asyncio.CancelledError):
            await task


async def stalled(stall: Stall, call: Awaitable[Any]) -> asyncio.Future[Any]:
    """Make a call and wait until it has come to the stall."""
    task = asyncio.ensure_future(call)
    async with asyncio.timeout(PATIENCE_S):
        await stall.reached.wait()
    return task


async def turns_of_the_loop(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def started(call: Awaitable[Any]) -> asyncio.Future[Any]:
    return asyncio.ensure_future(call)


@pytest.fixture(autouse=True)
def _nothing_goes_unheard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No answer that nobody waits for ends as an error that was never retrieved."""
    yield
    gc.collect()
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def registry(directory: Path, faults: Faults) -> SessionRegistry:
    return SessionRegistry(directory, open_store=faulty_store(faults))


Operation = Callable[[SessionRegistry, Session], Awaitable[object]]


async def batch(_: SessionRegistry, session: Session) -> None:
    async with session.batch() as batch:
        batch.truncate_from(2)
        batch.extend("b", [says("x"), says("y")], keys=["x", "y"])
        batch.save_metadata({"batch": "done"})


OPERATIONS: dict[str, Operation] = {
    "start": lambda registry, _: registry.start("new", name="new"),
    "append": lambda _, session: session.append("a", says("new"), key="k"),
    "append to a stopped session": lambda registry, session: stop_and_append(registry, session),
    "extend": lambda _, session: session.extend("a", [says(n) for n in range(5)]),
    "batch": batch,
    "truncate": lambda _, session: session.truncate_from(2),
    "metadata": lambda _, session: session.save_metadata({"k": "v", "l": 1}),
    "messages": lambda _, session: session.messages(),
    "chapters": lambda _, session: all_chapters(session),
    "stop": lambda registry, _: registry.stop("s"),
    "delete": lambda registry, _: registry.delete("s"),
    "rename": lambda _, session: session.rename("renamed"),
}


async def stop_and_append(registry: SessionRegistry, session: Session) -> int:
    await registry.stop("s")
    return await session.append("a", says("new"))


async def all_chapters(session: Session) -> object:
    return [page async for page in session.chapters()]


async def prepare(registry: SessionRegistry) -> Session:
    session = await registry.start("s", name="first")
    await session.append("a", says("one"))
    await session.append("a", {"role": "summary", "content": "two"})
    await session.append("b", says("three"))
    return session


async def snapshot(registry: SessionRegistry) -> object:
    """All that a caller could see."""
    seen = []
    for session_id in ("s", "new"):
        if await registry.exists(session_id):
            session = registry.session(session_id)
            seen.append(
                (session.name, await contents(session), await session.get_metadata(),
                 await session.revision())
            )  # fmt: skip
        else:
            seen.append(None)
    return seen


async def is_whole_when_cancelled(
    new_registry: Callable[[], SessionRegistry], operation: Operation, turns: int
) -> bool:
    """Cancel an operation after some turns of the loop; whether it had ended by itself."""
    async with new_registry() as registry:
        session = await prepare(registry)
        before = await snapshot(registry)
        await operation(registry, session)
        after = await snapshot(registry)
    async with new_registry() as registry:
        session = await prepare(registry)
        other = started(session.get_metadata())
        task = started(operation(registry, session))
        await turns_of_the_loop(turns)
        ended = task.done()
        task.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([task])
            assert await other == {}
            # What was accepted is carried out before a later command of the same session.
            for session_id in ("s", "new"):
                with contextlib.suppress(SessionNotFoundError):
                    await registry.stop(session_id)
            found = await snapshot(registry)
            assert found == (after if ended else found)
            assert found in (before, after)
            again = await registry.start("s")
            head = max((row.db_id for row in await again.messages()), default=0)
            assert await again.append("c", says("next")) > head
    return ended


@pytest.mark.parametrize("name", OPERATIONS)
async def test_whatever_is_cancelled_after_any_turn_of_the_loop_is_whole(name: str) -> None:
    for turns in itertools.count():
        if await is_whole_when_cancelled(memory_registry, OPERATIONS[name], turns):
            break
    assert turns > 0


@pytest.mark.parametrize("name", OPERATIONS)
async def test_on_disk_too_whatever_is_cancelled_is_whole(name: str, directory: Path) -> None:
    places = itertools.count()

    def new_registry() -> SessionRegistry:
        return SessionRegistry(directory / str(next(places)))

    for turns in (0, 1, 2, 3, 5, 8):
        await is_whole_when_cancelled(new_registry, OPERATIONS[name], turns)
    assert next(places) == 12


@pytest.mark.parametrize("turns", range(8))
async def test_one_who_leaves_as_room_is_made_for_it_disturbs_nobody(turns: int) -> None:
    faults = Faults()
    store = faulty_store(faults, MemoryVault().open_store)
    async with memory_registry(mailbox_size=1, open_store=store) as registry:
        session = await registry.start("s")
        stall = faults.stall("commit")
        first = await stalled(stall, session.append("a", says("in flight")))
        calls = [started(session.append("a", says(n))) for n in range(4)]
        await turns_of_the_loop(2)
        stall.release()
        await turns_of_the_loop(turns)
        calls[1].cancel()
        answers = await asyncio.gather(first, *calls, return_exceptions=True)
        stored = await contents(session)
        assert stored in (["in flight", 0, 1, 2, 3], ["in flight", 0, 2, 3])
        answered = [answer for answer in answers if isinstance(answer, int)]
        assert len(answered) >= 4
        assert set(answered) <= set(range(1, len(stored) + 1))


async def test_one_who_waits_for_room_is_not_accepted(directory: Path, faults: Faults) -> None:
    async with SessionRegistry(
        directory, mailbox_size=1, open_store=faulty_store(faults)
    ) as registry:
        session = await registry.start("s")
        stall = faults.stall("commit")
        first = await stalled(stall, session.append("a", says("in flight")))
        queued, leaving, patient = (
            started(session.append("a", says(text))) for text in ("queued", "leaving", "patient")
        )
        await turns_of_the_loop(2)
        await cancelled(leaving)
        stall.release()
        assert await asyncio.gather(first, queued, patient) == [1, 2, 3]
        assert await contents(session) == ["in flight", "queued", "patient"]


async def test_what_is_queued_or_in_flight_is_carried_out(
    registry: SessionRegistry, faults: Faults
) -> None:
    async with registry:
        session = await registry.start("s")
        stall = faults.stall("commit")
        in_flight = await stalled(stall, session.extend("a", [says(1), says(2)]))
        queued = started(session.extend("a", [says(3), says(4)]))
        queued_too = started(session.append("a", says(5)))
        staying = started(session.append("a", says(6)))
        await turns_of_the_loop(2)
        await cancelled(in_flight)
        await cancelled(queued)
        await cancelled(queued_too)
        stall.release()
        assert await staying == 6
        assert await contents(session) == [1, 2, 3, 4, 5, 6]


async def test_one_who_leaves_its_group_takes_no_other_with_it(
    registry: SessionRegistry, faults: Faults
) -> None:
    async with registry:
        session = await registry.start("s")
        stall = faults.stall("commit", when="after")
        calls = [await stalled(stall, session.append("a", says(0)))]
        calls += [started(session.append("a", says(n))) for n in range(1, 10)]
        await turns_of_the_loop(2)
        stall.release()
        for n in (0, 3, 9):
            calls[n].cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for n, answer in enumerate(answers):
            assert answer == n + 1 or (n in (0, 3, 9) and type(answer) is asyncio.CancelledError)
        assert await contents(session) == list(range(10))


async def test_a_reader_who_leaves_keeps_nobody_waiting(
    registry: SessionRegistry, faults: Faults
) -> None:
    async with registry:
        session = await registry.start("s")
        await session.extend("a", [says(n) for n in range(5000)])
        stall = faults.stall("read")
        read = await stalled(stall, session.messages())
        queued = started(session.messages())
        append = started(session.append("a", says("next")))
        await turns_of_the_loop(2)
        await cancelled(read)
        await cancelled(queued)
        stall.release()
        assert await append == 5001
        async for row in session.stream():
            if row.db_id == 100:
                break
        assert await session.append("a", says("next")) == 5002


async def test_one_who_waits_for_the_opening_leaves_it_to_the_others(
    registry: SessionRegistry, faults: Faults
) -> None:
    async with registry:
        session = await registry.start("s")
        await registry.stop("s")
        stall = faults.stall("open")
        leaving = await stalled(stall, session.append("a", says("carried out")))
        staying = started(session.append("a", says("stays")))
        await turns_of_the_loop(2)
        await cancelled(leaving)
        stall.release()
        assert await staying == 2
        assert await contents(session) == ["carried out", "stays"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_start_that_is_cancelled_made_the_session_whole(
    registry: SessionRegistry, faults: Faults, when: Any
) -> None:
    async with registry:
        stall = faults.stall("open", when=when)
        leaving = await stalled(stall, registry.start("s", name="n"))
        staying = started(registry.start("s"))
        await turns_of_the_loop(2)
        await cancelled(leaving)
        stall.release()
        session = await staying
        assert session.name == "n"
        assert await session.append("a", says("one")) == 1


async def test_one_who_waits_for_a_place_leaves_it_to_the_others(
    directory: Path, faults: Faults
) -> None:
    async with SessionRegistry(
        directory, max_active=1, open_store=faulty_store(faults)
    ) as registry:
        other = await registry.start("other")
        session = await registry.start("s")
        stall = faults.stall("commit")
        holding = await stalled(stall, session.append("a", says("one")))
        leaving = started(other.append("a", says("carried out")))
        starting = started(registry.start("third"))
        await turns_of_the_loop(5)
        await cancelled(leaving)
        await cancelled(starting)
        stall.release()
        assert await holding == 1
        assert await contents(other) == ["carried out"]
        assert await session.append("a", says("two")) == 2
        await registry.start("third")
        assert registry.statistics().active == 1


async def test_a_stop_that_is_cancelled_still_stops(
    registry: SessionRegistry, faults: Faults
) -> None:
    async with registry:
        session = await registry.start("s")
        stall = faults.stall("close")
        stopping = await stalled(stall, registry.stop("s"))
        late = started(session.append("a", says("late")))
        await turns_of_the_loop(2)
        await cancelled(stopping)
        stall.release()
        assert await late == 1
        assert registry.statistics().activations == 2


async def test_a_deletion_that_is_cancelled_is_carried_out(
    registry: SessionRegistry, faults: Faults, directory: Path
) -> None:
    async with registry:
        session = await registry.start("s", name="n")
        await session.append("a", says("secret"))
        stall = faults.stall("close")
        deleting = await stalled(stall, registry.delete("s"))
        await cancelled(deleting)
        stall.release()
        again = await registry.start("s")
        assert await contents(again) == []
        assert not (directory / "s_n.db").exists()
        assert await again.append("a", says("new")) == 1


async def test_a_rename_that_is_cancelled_is_carried_out(
    registry: SessionRegistry, faults: Faults, directory: Path
) -> None:
    async with registry:
        session = await registry.start("s", name="old")
        await session.append("a", says("one"))
        stall = faults.stall("close")
        renaming = await stalled(stall, session.rename("new"))
        await cancelled(renaming)
        stall.release()
        assert await session.append("a", says("two")) == 2
        assert session.name == "new"
        assert [path.name for path in directory.glob("s_*.db")] == ["s_new.db"]


async def test_retrying_by_key_stores_each_message_once_and_in_order(directory: Path) -> None:
    chance = random.Random(7)

    async def caller(session: Session, name: str) -> None:
        for n in range(40):
            # A loop that is never idle leaves hardly any time to the threads that write.
            for patience in (30, 60, 90, None):
                call = started(session.append(name, says(n), key=f"{name}-{n}"))
                if patience is not None:
                    await turns_of_the_loop(chance.randrange(patience))
                    call.cancel()
                await asyncio.wait([call])
                if not call.cancelled():
                    break

    async with SessionRegistry(directory, mailbox_size=2, max_active=3) as registry:
        sessions = [await registry.start(f"s{n}") for n in range(3)]
        async with asyncio.timeout(PROCESS_PATIENCE_S):
            await asyncio.gather(*(caller(s, name) for s in sessions for name in "abc"))
        for session in sessions:
            rows = await session.messages()
            assert [row.db_id for row in rows] == list(range(1, 121))
            for name in "abc":
                mine = [row.message["content"] for row in rows if row.agent_id == name]
                assert mine == list(range(40))


@pytest.mark.parametrize("limit", [asyncio.timeout, anyio.fail_after])
async def test_a_time_limit_of_the_caller_is_a_cancellation(
    registry: SessionRegistry, faults: Faults, limit: Callable[[float], Any]
) -> None:
    async def append_in_time(session: Session) -> None:
        if limit is asyncio.timeout:
            async with asyncio.timeout(0.01):
                await session.append("a", says("one"), key="k")
        with anyio.fail_after(0.01):
            await session.append("a", says("one"), key="k")

    async with registry:
        session = await registry.start("s")
        stall = faults.stall("commit")
        with pytest.raises(TimeoutError):
            await append_in_time(session)
        stall.release()
        assert await session.append("a", says("one"), key="k") == 1
        assert await contents(session) == ["one"]


async def test_in_a_cancelled_scope_a_call_is_cancelled_and_leaving_is_not(
    registry: SessionRegistry, directory: Path
) -> None:
    threads = threading.enumerate()
    with anyio.CancelScope() as scope:
        async with registry:
            session = await registry.start("s")
            await session.append("a", says("one"))
            scope.cancel()
            await session.append("a", says("nobody waits for it"))
    assert scope.cancelled_caught
    await eventually(lambda: threading.enumerate() == threads)
    assert list(directory.glob("*-wal")) == []


async def test_opening_that_is_cancelled_leaves_nothing_open(directory: Path) -> None:
    async with SessionRegistry(directory) as registry:
        await (await registry.start("s")).append("a", says("one"))
    threads = threading.enumerate()
    for turns in range(12):
        registry = SessionRegistry(directory)
        opening = started(registry.open())
        await turns_of_the_loop(turns)
        opening.cancel()
        await asyncio.wait([opening])
        if opening.cancelled():
            await eventually(lambda: threading.enumerate() == threads)
            with pytest.raises(RegistryClosedError):
                registry.session("s")
        async with registry:
            assert await contents(registry.session("s")) == ["one"]
    await eventually(lambda: threading.enumerate() == threads)


async def test_opening_that_is_cancelled_while_it_reads_the_directory_ends_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = threading.enumerate()
    reading, go_on = threading.Event(), threading.Event()
    real = os.scandir

    def scandir(path: Any) -> Any:
        reading.set()
        assert go_on.wait(PATIENCE_S)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    registry = SessionRegistry(directory)
    opening = started(registry.open())
    await eventually(reading.is_set)
    opening.cancel()
    await turns_of_the_loop(3)
    opening.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await eventually(lambda: threading.enumerate() == threads)
    async with registry:
        await registry.start("s")
    await eventually(lambda: threading.enumerate() == threads)


async def test_closing_that_is_cancelled_ends_first(
    registry: SessionRegistry, faults: Faults, directory: Path
) -> None:
    threads = threading.enumerate()
    await registry.open()
    session = await registry.start("s")
    in_commit, in_close = faults.stall("commit"), faults.stall("close")
    append = await stalled(in_commit, session.append("a", says("one")))
    closing, also = started(registry.aclose()), started(registry.aclose())
    for stall in (in_commit, in_close):
        await turns_of_the_loop(3)
        closing.cancel()
        await turns_of_the_loop(3)
        assert not closing.done()
        assert not also.done()
        stall.release()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await also
    assert await append == 1
    await eventually(lambda: threading.enumerate() == threads)
    await registry.aclose()
    async with SessionRegistry(directory) as another:
        assert await contents(another.session("s")) == ["one"]


@pytest.mark.parametrize("library", ["asyncio", "anyio"])
async def test_cancelling_the_body_leaves_nothing_open(directory: Path, library: str) -> None:
    threads = threading.enumerate()
    registry = SessionRegistry(directory)
    inside = asyncio.Event()
    calls: list[asyncio.Future[Any]] = []

    async def body() -> None:
        async with registry:
            sessions = [await registry.start(f"s{n}") for n in range(5)]
            calls.extend(started(session.append("a", says("one"))) for session in sessions)
            inside.set()
            await asyncio.Event().wait()

    if library == "asyncio":
        task = started(body())
        await inside.wait()
        await cancelled(task)
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(body)
            await inside.wait()
            group.cancel_scope.cancel()
    await eventually(lambda: threading.enumerate() == threads)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    with pytest.raises(RegistryClosedError):
        await registry.session("s0").messages()
    async with SessionRegistry(directory) as another:
        for n, answer in enumerate(answers):
            assert isinstance(answer, int | SessionError)
            stored = await contents(another.session(f"s{n}"))
            assert stored == ["one"] or (stored == [] and not isinstance(answer, int))


TORN_DOWN = """
async def main(directory, how):
    registry = SessionRegistry(directory)
    await registry.open()
    sessions = [await registry.start(f"s{n}") for n in range(4)]
    for session in sessions:
        await session.append("a", {"content": "answered"})
    if how == "in flight":
        for session in sessions:
            asyncio.ensure_future(session.append("a", {"content": "in flight"}))
        await asyncio.sleep(0)
    if how == "opening":
        for session in sessions:
            await registry.stop(session.session_id)
            asyncio.ensure_future(session.append("a", {"content": "in flight"}))
        await asyncio.sleep(0)
    if how == "raising":
        raise SystemExit(0)

asyncio.run(main(*sys.argv[1:]))
say("ended")
"""


@pytest.mark.parametrize("how", ["idle", "in flight", "opening", "raising"])
async def test_a_loop_that_ends_without_closing_leaves_no_thread_hanging(
    directory: Path, how: str
) -> None:
    assert output_of(TORN_DOWN, directory, how) == ("" if how == "raising" else '"ended"')
    assert list(directory.glob("*-wal")) == []
    async with SessionRegistry(directory) as registry:
        for n in range(4):
            stored = await contents(registry.session(f"s{n}"))
            assert stored in (["answered"], ["answered", "in flight"])


INTERRUPTED = """
async def caller(session, name):
    for n in range(1_000_000):
        await session.append(name, {"content": n})
        os.write(1, f"{session.session_id} {name} {n}\\n".encode())

async def main(directory):
    async with SessionRegistry(directory, max_active=2) as registry:
        sessions = [await registry.start(f"s{n}") for n in range(3)]
        await asyncio.gather(*(caller(session, name) for session in sessions for name in "ab"))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_an_interrupt_in_mid_traffic_ends_the_process_and_loses_no_answer(
    directory: Path,
) -> None:
    with process(INTERRUPTED, directory) as running:
        answered = [running.hear() for _ in range(50)]
        os.kill(running.pid, signal.SIGINT)
        answered += rest_of(running)
    async with SessionRegistry(directory) as registry:
        stored = {
            f"{n} {row.agent_id} {row.message['content']}"
            for n in ("s0", "s1", "s2")
            for row in await registry.session(n).messages()
        }
    assert set(answered) <= stored


def rest_of(running: Process) -> list[str]:
    """The lines until the process ends, as it should soon."""
    said, _ = running.popen.communicate(timeout=PROCESS_PATIENCE_S)
    assert running.popen.returncode != 0
    return said.split("\n")[:-1]
