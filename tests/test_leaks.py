"""What a registry takes, it gives back: threads, descriptors, tasks, files, locks, memory."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from processes import output_of
from waiting import eventually

from sessionactor import (
    Session,
    SessionError,
    SessionExistsError,
    SessionOwnedError,
    SessionRegistry,
    StorageError,
)
from sessionactor._opening import Opening
from sessionactor._store import Store, open_store
from sessionactor.testing import Faults, MemoryVault, faulty_store

MANY = 300


def says(text: object) -> dict[str, object]:
    return {"role": "user", "content": text}


class Held(NamedTuple):
    """What this process holds now."""

    threads: int
    descriptors: int
    tasks: int


def held() -> Held:
    gc.collect()
    descriptors = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return Held(threading.active_count(), len(os.listdir(descriptors)), len(asyncio.all_tasks()))


@asynccontextmanager
async def nothing_is_left(directory: Path | None = None) -> AsyncIterator[None]:
    """See that the process holds afterwards what it held before, and no file beside `.db`."""
    # Whatever Python and SQLite keep for good once they are used is there before it counts.
    async with SessionRegistry(None if directory is None else directory / "warm") as registry:
        await (await registry.start()).append("a", says("warm"))
    await settled()
    before = held()
    yield
    await eventually(lambda: held() == before)
    if directory is not None:
        assert side_files(directory) == []


async def settled() -> None:
    """Let threads that have closed a file come to their end."""
    await eventually(
        lambda: not any("connection" in thread.name for thread in threading.enumerate())
    )


def side_files(directory: Path) -> list[str]:
    """All files but sessions, the lock file and the catalog."""
    return [
        path.name
        for path in directory.rglob("*")
        if path.is_file()
        and path.suffix != ".db"
        and path.name not in (".sessionactor.lock", ".sessionactor.catalog")
    ]


async def use(registry: SessionRegistry, numbers: range, callers: int = 20) -> None:
    """Create sessions and write to each, by several callers at once."""
    waiting = iter(numbers)

    async def caller() -> None:
        for n in waiting:
            session = await registry.start(f"s{n}")
            await session.append("a", says(n))
            await session.extend("b", [says(n), says(n)])

    await asyncio.gather(*(caller() for _ in range(callers)))


async def failure(call: Awaitable[Any]) -> BaseException | None:
    (answer,) = await asyncio.gather(call, return_exceptions=True)
    return answer if isinstance(answer, BaseException) else None


async def test_hundreds_of_sessions_hold_what_may_be_active_and_then_nothing(
    place: Path | None,
) -> None:
    async with nothing_is_left(place):
        before = held()
        most = before
        async with SessionRegistry(place, max_active=8) as registry:
            for start in range(0, MANY, 50):
                await use(registry, range(start, start + 50))
                now = held()
                most = Held(*map(max, most, now))
                assert registry.statistics().active <= 8
            for n in range(MANY):
                assert len(await registry.session(f"s{n}").messages()) == 3
        # At most a thread for each open session, the two that read the directory, and the two
        # of the catalog.
        assert most.threads - before.threads <= 8 + 2 + 2
        # A file, its log and the log's index each, for the catalog twice; the lock file, and
        # what a thread just opens.
        assert most.descriptors - before.descriptors <= (8 + 2) * 3 + 6
        # The supervisor, the sweeper, the catalog's two, and those that are just going.
        assert most.tasks - before.tasks <= 8 + 4 + 8


async def test_sessions_that_nobody_asks_hold_nothing_while_the_registry_is_open(
    tmp_path: Path,
) -> None:
    async with (
        nothing_is_left(tmp_path),
        SessionRegistry(tmp_path / "x", idle_timeout_s=0.02) as registry,
    ):
        await registry.sessions()  # the catalog is there
        await settled()
        idle = held()
        await use(registry, range(30))
        await eventually(lambda: registry.statistics().active == 0)
        # Two threads that read the directory may have come.
        await eventually(lambda: held().threads <= idle.threads + 2)
        await eventually(lambda: held().tasks == idle.tasks)
        assert held().descriptors <= idle.descriptors
        assert [name for name in side_files(tmp_path) if "catalog" not in name] == []
        assert len(await registry.session("s0").messages()) == 3


async def test_sessions_that_nobody_asks_take_no_memory_of_their_own(place: Path | None) -> None:
    kinds = ("Session", "SqliteStore", "Mailbox", "Activation")
    before = {kind: alive(kind) for kind in kinds}  # what reports of other tests still hold
    async with nothing_is_left(place), SessionRegistry(place, max_active=4) as registry:
        await use(registry, range(100))
        for kind in kinds:
            assert alive(kind) - before[kind] <= (0 if kind == "Session" else 4), kind


async def test_reading_leaves_nothing_of_what_was_decoded_anew(place: Path | None) -> None:
    """Messages with tuples and sets are given up half-way, and decoded in another way."""
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await session.extend("a", [{"data": [1, [2, (3,), {"k": {4}}]]}] * 10)
        await session.messages()
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(30):
            assert len(await session.messages()) == 10
        gc.collect()
        assert len(gc.get_objects()) - before < 300  # sqlite3 keeps up to 200 cursors in mind


def alive(kind: str) -> int:
    """How many objects of a class of the package there are."""
    gc.collect()
    return sum(
        type(one).__name__ == kind and type(one).__module__.startswith("sessionactor")
        for one in gc.get_objects()
    )


async def test_opening_and_closing_again_and_again_leaves_nothing(place: Path | None) -> None:
    async with nothing_is_left(place):
        registry = SessionRegistry(place)
        for n in range(30):
            async with registry:
                await use(registry, range(n, n + 3))
            await registry.aclose()


async def test_deleting_leaves_no_file(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path, max_active=8) as registry:
        await use(registry, range(50))
        await asyncio.gather(*(registry.delete(f"s{n}") for n in range(50)))
        names = {path.name for path in tmp_path.iterdir()}
        assert {name for name in names if not name.startswith(".sessionactor.")} == set()
        assert await registry.find("*") == []


@pytest.mark.parametrize("store", ["sqlite", "memory"])
async def test_faults_at_every_step_leave_nothing(tmp_path: Path, store: str) -> None:
    chance = random.Random(3)
    place = tmp_path / "x" if store == "sqlite" else None
    faults = Faults()
    stores = faulty_store(faults) if place else faulty_store(faults, MemoryVault().open_store)
    async with (
        nothing_is_left(tmp_path),
        SessionRegistry(place, max_active=4, open_store=stores) as registry,
    ):
        for n in range(150):
            fault = faults.fail if chance.random() < 0.5 else faults.crash
            fault(
                chance.choice(["open", "commit", "read", "close"]),
                OSError(f"fault {n}"),
                when=chance.choice(["before", "after"]),
            )
            session = registry.session(f"s{n % 12}")
            await asyncio.gather(
                registry.start(session.session_id),
                session.append("a", says(n)),
                session.messages(),
                session.rename(f"name-{n}"),
                registry.delete(session.session_id) if n % 5 == 4 else registry.stop("s0"),
                return_exceptions=True,
            )
        assert registry.statistics().active <= 4
        assert registry.statistics().crashes > 5
        faults.clear()
        assert isinstance(await (await registry.start("new")).append("a", says(1)), int)


async def test_openings_that_are_given_up_leave_nothing(place: Path | None) -> None:
    turns = iter(range(60))

    async def open_impatiently(opening: Opening) -> Store:
        task = asyncio.ensure_future(open_store(opening))
        for _ in range(next(turns)):
            await asyncio.sleep(0)
        task.cancel()
        if isinstance(await failure(task), asyncio.CancelledError):
            raise StorageError("given up", session_id=opening.session_id)
        return task.result()

    async with nothing_is_left(place):
        async with SessionRegistry(place, open_store=open_impatiently) as registry:
            for n in range(10):
                await failure(registry.start(f"s{n}"))
                await registry.delete(f"s{n}")
        async with SessionRegistry(place) as registry:
            session = await registry.start("s")
            await session.append("a", says("one"))
            await registry.stop("s")
        turns = iter(range(30))
        async with SessionRegistry(place, open_store=open_impatiently) as registry:
            await failure(registry.start("s"))
            for _ in range(20):
                await failure(registry.session("s").messages())
                await failure(registry.stop("s"))


async def test_refusals_leave_nothing(tmp_path: Path) -> None:
    place = tmp_path / "x"
    async with nothing_is_left(tmp_path), SessionRegistry(place) as registry:
        (place / "foreign_file.db").write_bytes(b"not a session" * 100)
        await registry.start("mine")
        async with SessionRegistry(place) as another:
            for one in (registry, another):
                await one.sessions()  # the catalog is there
            settled_at, settled = held(), asyncio.all_tasks()
            for _ in range(20):
                assert isinstance(await failure(another.start("mine")), SessionOwnedError)
                taken = another.start("foreign", name="file")
                assert isinstance(await failure(taken), SessionExistsError)
                assert isinstance(await failure(another.session("no").messages()), SessionError)
            assert another.statistics().active == 0
            await eventually(lambda: held().descriptors <= settled_at.descriptors)
            # Fewer, if the catalog was still at work then; but none of them new.
            await eventually(lambda: asyncio.all_tasks() <= settled)


async def test_a_registry_that_cannot_open_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    too_long = tmp_path.joinpath(*["x" * 200] * 3)
    async with nothing_is_left(tmp_path / "x"):
        for bad in [tmp_path / "file", tmp_path / "file" / "below", too_long] * 10:
            assert isinstance(await failure(SessionRegistry(bad).open()), StorageError)
    assert (tmp_path / "file").read_text() == "no directory"


async def test_an_exception_in_the_body_leaves_nothing(place: Path | None) -> None:
    calls: list[asyncio.Future[int]] = []

    async def body() -> None:
        async with SessionRegistry(place, max_active=2) as registry:
            for n in range(5):
                session = await registry.start(f"s{n}")
                calls.append(asyncio.ensure_future(session.append("a", says(n))))
            raise ZeroDivisionError("in the body")

    async with nothing_is_left(place):
        assert isinstance(await failure(body()), ZeroDivisionError)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, int | SessionError) for answer in answers)
        calls.clear()
        del answers


async def test_a_cancelled_closing_leaves_nothing(place: Path | None) -> None:
    async with nothing_is_left(place):
        for turns in range(15):
            registry = SessionRegistry(place, max_active=3)
            await registry.open()
            await use(registry, range(5))
            closing = asyncio.ensure_future(registry.aclose())
            for _ in range(turns):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait([closing])
            # Cancelled before it began, it has done nothing, and is still to be done.
            await registry.aclose()


async def test_cancelled_callers_leave_nothing(place: Path | None) -> None:
    chance = random.Random(5)
    async with (
        nothing_is_left(place),
        SessionRegistry(place, max_active=3, mailbox_size=2) as registry,
    ):

        async def caller(session: Session) -> None:
            async with asyncio.timeout(0.01 * chance.random()):
                for n in range(1000):
                    await session.append("a", says(n))
                    async for _ in session.stream():
                        break

        sessions = [await registry.start(f"s{n}") for n in range(6)]
        outcomes = await asyncio.gather(
            *(caller(session) for session in sessions * 10), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {TimeoutError}
        for session in sessions:
            assert await registry.stop(session.session_id) in (True, False)
        assert registry.statistics().queued == 0


async def test_copies_leave_nothing(place: Path | None, tmp_path: Path) -> None:
    async with nothing_is_left(place), SessionRegistry(place, max_active=3) as registry:
        await use(registry, range(5))
        sessions = [registry.session(f"s{n}") for n in range(5)]
        for number, session in enumerate(sessions):
            calls = [
                *(asyncio.ensure_future(session.fork(before=n)) for n in range(5)),
                *(asyncio.ensure_future(session.backup(tmp_path / "backup")) for _ in range(3)),
                asyncio.ensure_future(session.compact()),
            ]
            for _ in range(number * 3):
                await asyncio.sleep(0)
            calls[number].cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            (tmp_path / "backup").unlink(missing_ok=True)


async def test_no_lock_is_left(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await use(registry, range(20))
    script = """
    async def main(directory):
        async with SessionRegistry(directory) as registry:
            for n in range(20):
                session = await registry.start(f"s{n}")
                assert await session.append("a", {"n": n}) == 4
            say("all are free")

    asyncio.run(main(sys.argv[1]))
    """
    assert output_of(script, tmp_path) == '"all are free"'
