from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import eventually

from sessionactor import RegistryClosedError, Session, SessionError, SessionRegistry
from sessionactor._scan import scan

HELLO = {"role": "user", "content": "hello"}


def say(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


async def stream(session: Session) -> list[Any]:
    return [row async for row in session.stream()]


async def chapters(session: Session) -> list[Any]:
    return [page async for page in session.chapters()]


async def batch(session: Session) -> None:
    async with session.batch() as collected:
        collected.append("one", HELLO)


async def now(value: Callable[[], object]) -> object:
    return value()


CALLS: dict[str, Callable[[SessionRegistry, Session], Awaitable[Any]]] = {
    "start": lambda r, s: r.start("a"),
    "start another": lambda r, s: r.start(),
    "session": lambda r, s: now(lambda: r.session("a")),
    "whereis": lambda r, s: now(lambda: r.whereis("a")),
    "stop": lambda r, s: r.stop("a"),
    "delete": lambda r, s: r.delete("a"),
    "exists": lambda r, s: r.exists("a"),
    "find_by_id": lambda r, s: r.find_by_id("a"),
    "find_by_name": lambda r, s: r.find_by_name("n"),
    "find": lambda r, s: r.find("*"),
    "statistics": lambda r, s: now(r.statistics),
    "append": lambda r, s: s.append("one", HELLO),
    "extend": lambda r, s: s.extend("one", [HELLO]),
    "batch": lambda r, s: batch(s),
    "messages": lambda r, s: s.messages(),
    "stream": lambda r, s: stream(s),
    "latest": lambda r, s: s.messages_from_latest_checkpoint(),
    "before": lambda r, s: s.messages_before_checkpoint(1),
    "chapters": lambda r, s: chapters(s),
    "get": lambda r, s: s.get(1),
    "get by key": lambda r, s: s.get(key="k"),
    "truncate_from": lambda r, s: s.truncate_from(1),
    "save_metadata": lambda r, s: s.save_metadata({"n": 1}),
    "get_metadata": lambda r, s: s.get_metadata(),
    "revision": lambda r, s: s.revision(),
    "rename": lambda r, s: s.rename("other"),
    "name": lambda r, s: now(lambda: s.name),
    "path": lambda r, s: now(lambda: s.path),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_after_leaving_every_call_says_that_the_registry_is_closed(
    place: Path | None, call: Callable[[SessionRegistry, Session], Awaitable[Any]]
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a", name="n")
    with pytest.raises(RegistryClosedError) as caught:
        await call(registry, session)
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, SessionError)
    assert session.session_id == "a"


async def test_before_entering_a_registry_is_not_open(place: Path | None) -> None:
    registry = SessionRegistry(place)
    for call in (
        lambda: registry.start("a"),
        lambda: registry.exists("a"),
        lambda: registry.find("*"),
        lambda: now(lambda: registry.session("a")),
        lambda: now(registry.statistics),
    ):
        with pytest.raises(RegistryClosedError):
            await call()
    assert place is None or not place.exists()


@pytest.mark.parametrize(
    "name",
    ["append", "messages", "name", "statistics", "start", "session", "find", "stream", "rename"],
)
async def test_from_another_event_loop_a_call_is_refused(place: Path | None, name: str) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a", name="n")
        failures: list[BaseException] = []

        def elsewhere() -> None:
            async def ask() -> None:
                await CALLS[name](registry, session)

            try:
                asyncio.run(ask())
            except BaseException as error:
                failures.append(error)

        await asyncio.get_running_loop().run_in_executor(None, elsewhere)
        (failure,) = failures
        assert isinstance(failure, RegistryClosedError)
        assert "loop" in str(failure)
        assert await session.messages() == []


async def test_closing_from_another_event_loop_is_refused(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        failures: list[BaseException] = []

        def elsewhere() -> None:
            try:
                asyncio.run(registry.aclose())
            except BaseException as error:
                failures.append(error)

        await asyncio.get_running_loop().run_in_executor(None, elsewhere)
        assert [type(failure) for failure in failures] == [RegistryClosedError]
        assert await session.append("one", HELLO) == 1


async def test_entering_and_leaving_may_happen_in_different_tasks(place: Path | None) -> None:
    registry = SessionRegistry(place)
    await asyncio.create_task(registry.open())
    session = await asyncio.create_task(registry.start("a"))
    assert await session.append("one", HELLO) == 1
    await asyncio.create_task(registry.aclose())
    with pytest.raises(RegistryClosedError):
        await session.messages()


async def test_a_task_that_entered_may_be_gone_when_another_leaves(place: Path | None) -> None:
    registry = SessionRegistry(place)

    async def enter() -> Session:
        await registry.__aenter__()
        return await registry.start("a")

    session = await asyncio.create_task(enter())
    pending = [asyncio.create_task(session.append("one", HELLO)) for _ in range(10)]
    assert await asyncio.gather(*pending) == list(range(1, 11))
    await asyncio.create_task(registry.__aexit__(None, None, None))
    assert len(asyncio.all_tasks()) == 1


async def test_a_registry_can_be_opened_again_after_leaving(tmp_path: Path) -> None:
    registry = SessionRegistry(tmp_path)
    for n in range(1, 4):
        async with registry:
            session = await registry.start("a")
            assert await session.append("one", HELLO) == n


async def test_leaving_serves_what_was_accepted(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a")
        calls = [asyncio.create_task(session.append("one", say(n))) for n in range(500)]
        await asyncio.sleep(0)  # let them ask
    assert [call.done() for call in calls] == [True] * 500
    assert [call.result() for call in calls] == list(range(1, 501))
    async with SessionRegistry(tmp_path) as registry:
        assert len(await registry.session("a").messages()) == 500


async def end_by_return() -> None:
    return


async def end_by_exception() -> None:
    raise KeyError("of the caller")


async def end_by_cancellation() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


@pytest.mark.parametrize("end", [end_by_return, end_by_exception, end_by_cancellation])
@pytest.mark.parametrize("mailbox_size", [1, 7, 1024])
async def test_however_a_registry_is_left_everyone_who_waits_is_answered(
    tmp_path: Path, end: Callable[[], Awaitable[None]], mailbox_size: int
) -> None:
    calls: list[asyncio.Task[Any]] = []
    tasks = asyncio.all_tasks()

    async def use() -> None:
        async with SessionRegistry(tmp_path, mailbox_size=mailbox_size, max_active=2) as registry:
            sessions = [await registry.start(name) for name in "abc"]
            for n in range(30):
                for session in sessions:
                    calls.append(asyncio.create_task(session.append("one", say(n))))
                    calls.append(asyncio.create_task(session.messages()))
                calls.append(asyncio.create_task(registry.start(f"new{n}")))
                calls.append(asyncio.create_task(registry.find("*")))
            await asyncio.sleep(0)  # let them ask
            await end()

    (ended,) = await asyncio.gather(asyncio.create_task(use()), return_exceptions=True)
    assert {
        end_by_return: type(None),
        end_by_exception: KeyError,
        end_by_cancellation: asyncio.CancelledError,
    }[end] is type(ended)
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert asyncio.all_tasks() == tasks
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    assert all(isinstance(failure, RegistryClosedError) for failure in failures), failures
    assert [entry for entry in os.listdir(tmp_path) if entry.endswith(("-wal", "-shm"))] == []
    stored = [answer for answer in answers if isinstance(answer, int)]
    async with SessionRegistry(tmp_path) as registry:
        kept = [len(await registry.session(name).messages()) for name in "abc"]
    assert sum(kept) == len(stored)


async def test_who_waits_for_a_listing_is_told_that_the_registry_was_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scan_for_a_minute(*args: Any) -> Any:
        return scan(*args)._replace(took_s=60)

    monkeypatch.setattr("sessionactor._disk.scan", scan_for_a_minute)
    descriptors = len(os.listdir("/dev/fd"))
    async with SessionRegistry(tmp_path) as registry:
        (tmp_path / "by_other_hands.db").touch()
        calls = [
            asyncio.create_task(call)
            for call in (
                registry.find("*"),
                registry.find_by_name("n"),
                registry.find_by_prefix("a"),
                registry.find_by_id("a"),
                registry.exists("a"),
            )
        ]
        await asyncio.sleep(0)  # let them ask
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [RegistryClosedError] * len(calls)
    assert len(os.listdir("/dev/fd")) == descriptors


async def test_leaving_while_sessions_are_being_opened_answers_their_callers(
    tmp_path: Path,
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        for n in range(20):
            await registry.start(str(n))
    async with SessionRegistry(tmp_path, max_active=3) as registry:
        calls = [asyncio.create_task(registry.session(str(n)).revision()) for n in range(20)]
        await asyncio.sleep(0)  # let them ask
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(answer == 0 or isinstance(answer, RegistryClosedError) for answer in answers)


async def test_calls_made_while_the_registry_closes_are_refused(tmp_path: Path) -> None:
    registry = SessionRegistry(tmp_path)
    await registry.open()
    session = await registry.start("a")
    accepted = [asyncio.create_task(session.append("one", HELLO)) for _ in range(100)]
    await asyncio.sleep(0)  # let them ask
    closing = asyncio.create_task(registry.aclose())
    await asyncio.sleep(0)  # let it begin
    refused = await asyncio.gather(
        session.append("one", HELLO),
        registry.start("b"),
        registry.find("*"),
        return_exceptions=True,
    )
    assert all(isinstance(answer, RegistryClosedError) for answer in refused)
    assert await asyncio.gather(*accepted) == list(range(1, 101))
    await closing


async def test_cancelling_the_close_does_not_cut_it_short(tmp_path: Path) -> None:
    registry = SessionRegistry(tmp_path)
    await registry.open()
    session = await registry.start("a", name="n")
    calls = [asyncio.create_task(session.append("one", HELLO)) for _ in range(300)]
    await asyncio.sleep(0)  # let them ask
    closing = asyncio.create_task(registry.aclose())
    await asyncio.sleep(0)  # let it begin
    for _ in range(3):
        closing.cancel()
        await asyncio.sleep(0)
    (ended,) = await asyncio.gather(closing, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError)
    assert await asyncio.gather(*calls) == list(range(1, 301))
    assert [entry for entry in os.listdir(tmp_path) if not entry.startswith(".")] == ["a_n.db"]
    with pytest.raises(RegistryClosedError):
        await session.messages()


async def test_leaving_ends_its_tasks_and_threads(place: Path | None) -> None:
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    async with SessionRegistry(place) as registry:
        for n in range(10):
            await (await registry.start(str(n))).append("one", HELLO)
        await registry.find("*")
    assert asyncio.all_tasks() == tasks
    await eventually(lambda: set(threading.enumerate()) <= threads)


async def test_the_frameworks_thread_pool_is_not_touched(
    place: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    run_in_executor = loop.run_in_executor
    executors = []

    def recording(executor: Any, *arguments: Any) -> Any:
        executors.append(executor)
        return run_in_executor(executor, *arguments)

    monkeypatch.setattr(loop, "run_in_executor", recording)
    async with SessionRegistry(place) as registry:
        for call in CALLS.values():
            session = await registry.start("a")
            await asyncio.gather(call(registry, session), return_exceptions=True)
        assert registry.statistics().requests > 10
    monkeypatch.undo()
    assert None not in executors
