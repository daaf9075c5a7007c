"""What goes wrong below a session: everyone is answered, nobody else is hurt, it works again."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat

import pytest
from processes import output_of
from waiting import PATIENCE_S, eventually

from sessionactor import (
    IdempotencyError,
    InvalidValueError,
    SessionCrashedError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
    SessionRegistry,
    StaleHeadError,
    StaleRevisionError,
    StorageError,
)
from sessionactor.testing import Faults, faulty_store


def disk_full():
    return OSError(errno.ENOSPC, "No space left on device")


def says(text):
    return {"role": "user", "content": text}


def said(rows):
    return [row.message["content"] for row in rows]


async def outcome(call):
    """What a call returned or raised; nothing hangs."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            return await call
        except SessionError as error:
            return error


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "sessions"


@pytest.fixture
def registry(directory, faults):
    return SessionRegistry(directory, open_store=faulty_store(faults))


def is_full(cause):
    return isinstance(cause, OSError) and cause.errno == errno.ENOSPC


def is_disk_full(answer, session):
    return (
        isinstance(answer, StorageError)
        and answer.path == session.path
        and answer.session_id == session.session_id
        and is_full(answer.__cause__)
        and session.session_id in str(answer)
    )


async def queue_behind_a_read(session, faults, *calls):
    """Make calls while a read is served, so that the actor finds them all at once."""
    stall = faults.stall("read")
    read = asyncio.ensure_future(session.revision())
    await stall.reached.wait()
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    stall.release()
    await read
    return [await outcome(task) for task in tasks]


async def test_a_commit_that_fails_stores_nothing_of_its_group_and_answers_all(registry, faults):
    async with registry:
        session = await registry.start("s")
        await session.append("a", says("before"))
        faults.fail("commit", disk_full())
        calls = [session.append("a", says(n), key=f"k{n}") for n in range(10)]
        answers = await queue_behind_a_read(session, faults, *calls)
        assert all(is_disk_full(answer, session) for answer in answers)
        assert said(await session.messages()) == ["before"]
        assert await session.revision() == 1
        again = [session.append("a", says(n), key=f"k{n}") for n in range(10)]
        assert await asyncio.gather(*again) == list(range(2, 12))
        assert registry.statistics().crashes == 0


@pytest.mark.parametrize("fault", ["fail", "crash"])
async def test_a_commit_whose_answer_is_lost_is_repeated_by_key(registry, faults, fault):
    async with registry:
        session = await registry.start("s")
        getattr(faults, fault)("commit", disk_full(), when="after")
        calls = [session.append("a", says(n), key=f"k{n}") for n in range(10)]
        answers = await queue_behind_a_read(session, faults, *calls)
        assert all(isinstance(answer, SessionError) for answer in answers)
        again = [session.append("a", says(n), key=f"k{n}") for n in range(10)]
        assert await asyncio.gather(*again) == list(range(1, 11))
        assert said(await session.messages()) == list(range(10))


async def test_what_waits_behind_a_commit_that_fails_is_served(registry, faults):
    async with registry:
        session = await registry.start("s")
        faults.fail("commit", disk_full())
        failed, read, late = await queue_behind_a_read(
            session,
            faults,
            session.append("a", says("failed")),
            session.messages(),
            session.append("a", says("late")),
        )
        assert is_disk_full(failed, session)
        assert read == []
        assert late == 1


async def test_a_read_that_fails_answers_its_caller_alone(registry, faults):
    async with registry:
        session = await registry.start("s")
        await session.append("a", says("one"))
        faults.fail("read", disk_full())
        failed, read = await asyncio.gather(
            outcome(session.messages()), outcome(session.messages())
        )
        assert is_disk_full(failed, session)
        assert said(read) == ["one"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_opening_that_fails_answers_all_who_wait_for_it(registry, faults, when):
    async with registry:
        session = await registry.start("s")
        await session.append("a", says("one"))
        await registry.stop("s")
        faults.fail("open", disk_full(), when=when)
        answers = await asyncio.gather(
            outcome(session.append("a", says("two"))),
            outcome(session.messages()),
            outcome(session.revision()),
        )
        assert all(is_disk_full(answer, session) for answer in answers)
        assert registry.whereis("s") is None
        assert await session.append("a", says("two")) == 2
        faults.fail("open", disk_full(), when=when)
        await registry.stop("s")
        assert is_disk_full(await outcome(registry.start("s")), session)
        assert await registry.start("s") is session
        assert said(await session.messages()) == ["one", "two"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_creation_that_fails_can_be_repeated(registry, faults, directory, when):
    async with registry:
        faults.fail("open", disk_full(), when=when)
        failed = await outcome(registry.start("s", name="n"))
        assert isinstance(failed, StorageError)
        assert failed.path == directory / "s_n.db"
        assert is_full(failed.__cause__)
        assert os.path.exists(failed.path) == (when == "after")
        session = await registry.start("s", name="n")
        assert await session.append("a", says("one")) == 1


@pytest.mark.parametrize("step", ["fsync", "link", "open"])
async def test_a_file_system_that_fails_a_creation_leaves_nothing(
    registry, directory, monkeypatch, step
):
    async with registry:
        neighbour = await registry.start("other")
        await neighbour.flush()  # the catalog is there
        before = sorted(os.listdir(directory))

        def fail(*args, **kwargs):
            raise disk_full()

        with monkeypatch.context() as patch:
            if step == "open":
                patch.setattr("builtins.open", fail)
            else:
                patch.setattr(os, step, fail)
            failed = await outcome(registry.start("s", name="n"))
        assert isinstance(failed, StorageError)
        assert failed.path == directory / "s_n.db"
        assert is_full(failed.__cause__)
        assert sorted(os.listdir(directory)) == before
        assert await registry.exists("s") is False
        assert await neighbour.append("a", says("one")) == 1
        assert await (await registry.start("s", name="n")).append("a", says("one")) == 1


async def test_a_creation_whose_directory_cannot_be_synced_can_be_repeated(
    registry, directory, monkeypatch
):
    async with registry:
        await (await registry.start("other")).flush()  # the catalog is there
        real, failures = os.fsync, [disk_full()]

        def fail_once_it_is_in_place(descriptor):
            is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            if is_directory and failures and (directory / "s_n.db").exists():
                raise failures.pop()
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail_once_it_is_in_place)
            failed = await outcome(registry.start("s", name="n"))
        assert isinstance(failed, StorageError)
        assert is_full(failed.__cause__)
        session = await registry.start("s", name="n")
        assert await session.append("a", says("one")) == 1
        assert sorted(file.session_id for file in await registry.find("*")) == ["other", "s"]


async def test_a_name_that_was_stored_without_an_answer_is_not_the_session_s(directory):
    faults = Faults()
    async with SessionRegistry(directory, open_store=faulty_store(faults)) as registry:
        session = await registry.start("s", name="old")
        subscription = session.subscribe()
        faults.fail("rename", disk_full(), when="after")
        assert isinstance(await outcome(session.rename("new")), StorageError)
        # The name stands in the file, which has not moved: opened again, it has its file's name.
        assert (await session.info()).name == session.name == "old"
        await session.append("a", says("hello"))
        told = [await anext(subscription) for _ in range(2)]
        revision = await session.revision()
        assert [event.revision for event in told] == [revision - 1, revision]
        assert told[0].name == "old"


async def test_a_rename_that_fails_moves_nothing(registry, faults, directory, monkeypatch):
    async with registry:
        session = await registry.start("s", name="old")
        await session.append("a", says("one"))

        def fail(*args, **kwargs):
            raise disk_full()

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", fail)
            patch.setattr(os, "link", fail)
            failed = await outcome(session.rename("new"))
        assert isinstance(failed, StorageError)
        assert is_full(failed.__cause__)
        assert failed.path is not None
        assert session.name == "old"
        assert said(await session.messages()) == ["one"]
        await session.rename("new")
        assert session.path == directory / "s_new.db"
        assert said(await session.messages()) == ["one"]


async def test_a_deletion_that_fails_keeps_the_session_and_what_waits(registry, monkeypatch):
    async with registry:
        session = await registry.start("s")
        await session.append("a", says("one"))
        real = os.unlink

        def fail(path, *args, **kwargs):
            if os.fspath(path).endswith(".db"):
                raise disk_full()
            real(path, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", fail)
            failed, late = await asyncio.gather(
                outcome(registry.delete("s")), outcome(session.append("a", says("two")))
            )
        assert isinstance(failed, StorageError)
        assert is_full(failed.__cause__)
        assert failed.path == session.path
        assert late == 2
        assert said(await session.messages()) == ["one", "two"]
        assert await registry.delete("s") is True
        assert await registry.exists("s") is False


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fault", ["fail", "crash"])
async def test_a_close_that_fails_loses_nothing(registry, faults, when, fault):
    async with registry:
        session = await registry.start("s")
        await session.append("a", says("one"))
        getattr(faults, fault)("close", disk_full(), when=when)
        assert await registry.stop("s") is True
        assert said(await session.messages()) == ["one"]
        assert await session.append("a", says("two")) == 2
        getattr(faults, fault)("close", disk_full(), when=when)
    assert faults.pending() == 0
    async with registry:
        assert said(await registry.session("s").messages()) == ["one", "two"]


async def test_a_commit_and_the_close_after_it_may_both_fail(registry, faults):
    async with registry:
        session = await registry.start("s")
        faults.fail("commit", disk_full())
        faults.fail("close", disk_full())
        faults.fail("open", disk_full())
        failed, unopened = await queue_behind_a_read(
            session, faults, session.append("a", says("one")), session.messages()
        )
        assert is_disk_full(failed, session)
        assert is_disk_full(unopened, session)
        assert await session.append("a", says("one")) == 1


async def test_failures_use_up_no_places(directory, faults):
    async with SessionRegistry(
        directory, max_active=1, open_store=faulty_store(faults)
    ) as registry:
        one, other = await registry.start("one"), await registry.start("other")
        for step in ("open", "commit", "read", "close") * 3:
            for when in ("before", "after"):
                faults.fail(step, disk_full(), when=when)
                await outcome(one.append("a", says(step)))
                await outcome(one.messages())
                await outcome(registry.stop("one"))
                assert isinstance(await outcome(other.append("a", says(step))), int)
                faults.clear()
        assert registry.statistics().active == 1


@pytest.mark.parametrize("step", ["open", "commit", "read", "close"])
async def test_a_session_that_stalls_keeps_no_other_waiting(registry, faults, step):
    async with registry:
        one, other = await registry.start("one"), await registry.start("other")
        await registry.stop("one")
        if step != "open":
            await one.revision()
        stall = faults.stall(step, session_id="one")
        slow = asyncio.ensure_future(
            registry.stop("one")
            if step == "close"
            else one.messages()
            if step == "read"
            else one.append("a", says("slow"))
        )
        await stall.reached.wait()
        for n in range(20):
            assert await other.append("a", says(n)) == n + 1
        assert said(await other.messages()) == list(range(20))
        await registry.start("third")
        assert await registry.delete("third") is True
        assert not slow.done()
        stall.release()
        assert await slow in (1, [], True)


async def test_a_command_does_not_keep_a_session_from_giving_way(directory, faults):
    async with SessionRegistry(
        directory, max_active=1, open_store=faulty_store(faults)
    ) as registry:
        waiting = await registry.start("waiting")
        session = await registry.start("s", name="n")
        stall = faults.stall("commit", session_id="s")
        append = asyncio.ensure_future(session.append("a", says("one")))
        await stall.reached.wait()
        place = asyncio.ensure_future(outcome(waiting.append("a", says("one"))))
        commands = [
            asyncio.ensure_future(outcome(call))
            for call in (registry.start("s"), session.rename("n"), registry.start("s", name="x"))
        ]
        await eventually(lambda: registry.statistics().queued == 4)
        stall.release()
        assert await append == 1
        try:
            assert await place == 1
        finally:
            await registry.stop("s")  # lets the registry close if it failed
        assert isinstance((await asyncio.gather(*commands))[2], SessionExistsError)


@pytest.mark.parametrize("step", ["commit", "read"])
async def test_a_crash_fails_what_was_in_flight_and_the_next_request_restarts(
    registry, faults, step, caplog
):
    async with registry:
        one, other = await registry.start("one"), await registry.start("other")
        await one.append("a", says("before"))
        cause = ZeroDivisionError("a bug")
        faults.crash(step, cause, session_id="one")
        call = one.append("a", says("lost")) if step == "commit" else one.messages()
        crashed, spared = await asyncio.gather(
            outcome(call), outcome(other.append("a", says("one")))
        )
        assert isinstance(crashed, SessionCrashedError)
        assert crashed.session_id == "one"
        assert crashed.__cause__ is cause
        assert "'one'" in str(crashed)
        assert "ZeroDivisionError" in str(crashed)
        assert spared == 1
        assert await one.append("a", says("after")) == 2
        assert said(await one.messages()) == ["before", "after"]
        assert registry.statistics().crashes == 1
        assert registry.whereis("other") is other
    assert "the actor of session 'one' crashed" in caplog.text


async def test_a_crash_fails_the_whole_group_and_nothing_behind_it(registry, faults):
    async with registry:
        session = await registry.start("s")
        faults.crash("commit")
        *crashed, read, late = await queue_behind_a_read(
            session,
            faults,
            *(session.append("a", says(n)) for n in range(5)),
            session.messages(),
            session.append("a", says("late")),
        )
        assert all(isinstance(answer, SessionCrashedError) for answer in crashed)
        assert (read, late) == ([], 1)


async def test_a_crash_frees_the_file_and_its_lock(registry, faults, directory):
    async with registry, SessionRegistry(directory) as neighbour:
        session = await registry.start("s")
        faults.crash("commit")
        assert isinstance(await outcome(session.append("a", says(1))), SessionCrashedError)
        await eventually(lambda: registry.whereis("s") is None and not registry.statistics().active)
        theirs = await neighbour.start("s")
        assert await theirs.append("a", says("theirs")) == 1
        await neighbour.stop("s")
        assert await session.append("a", says("mine")) == 2


class Panic(BaseException):
    """What some native libraries raise: no `Exception`."""


@pytest.mark.parametrize("error", [Panic("worse"), asyncio.CancelledError("not asked for")])
@pytest.mark.parametrize("step", ["commit", "read"])
async def test_a_crash_by_no_exception_still_answers_all_and_stays_in_its_session(
    registry, faults, step, error
):
    async with registry:
        one, other = await registry.start("one"), await registry.start("other")
        stall = faults.stall("commit", session_id="other")
        neighbour = asyncio.ensure_future(other.append("a", says("spared")))
        await stall.reached.wait()
        faults.crash(step, error, session_id="one")
        append, read = await asyncio.gather(
            outcome(one.append("a", says("one"))), outcome(one.messages())
        )
        hit, behind = (append, read) if step == "commit" else (read, append)
        # An actor cannot tell a cancellation that it was not meant for.
        assert isinstance(hit, SessionCrashedError if type(error) is Panic else SessionError)
        assert behind is not None
        stall.release()
        assert await outcome(neighbour) == 1
        assert isinstance(await one.append("a", says("again")), int)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), Panic("worse")])
async def test_a_crash_while_opening_answers_all_who_wait(registry, faults, error):
    async with registry:
        session, other = await registry.start("s"), await registry.start("other")
        await registry.stop("s")
        faults.crash("open", error)
        answers = await asyncio.gather(
            outcome(session.append("a", says(1))), outcome(session.messages())
        )
        assert all(isinstance(answer, SessionError) for answer in answers)
        assert all(answer.__cause__ is error for answer in answers)
        assert await other.append("a", says(1)) == 1
        assert await session.append("a", says(1)) == 1


async def test_a_refused_write_takes_no_neighbour_of_its_group_with_it(registry, faults):
    async def batch(session, **expected):
        async with session.batch(**expected) as batch:
            batch.save_metadata({"never": "seen"})
            batch.truncate_from(1)
            batch.append("a", says("never"))

    async with registry:
        session = await registry.start("s")
        await session.append("a", says("first"), key="k")
        commits = registry.statistics().commits
        answers = await queue_behind_a_read(
            session,
            faults,
            session.append("a", says("one")),
            session.append("a", says("never"), expected_head=1),
            session.append("a", says("two"), key="two"),
            session.append("a", says("never"), key="k"),
            session.append("a", says("never"), key="two"),
            session.append("a", says("never"), checkpoint=True, keep_from=99),
            session.extend("a", [says("never"), says("never")], keys=["new", "k"]),
            batch(session, expected_head=1),
            batch(session, expected_revision=1),
            session.append("a", says("three"), expected_head=3),
        )
        assert registry.statistics().commits == commits + 1
        assert [answer if isinstance(answer, int) else type(answer) for answer in answers] == [
            2, StaleHeadError, 3, IdempotencyError, IdempotencyError, InvalidValueError,
            IdempotencyError, StaleHeadError, StaleRevisionError, 4,
        ]  # fmt: skip
        assert said(await session.messages()) == ["first", "one", "two", "three"]
        assert await session.get(key="new") is None
        assert await session.get_metadata() == {}
        assert await session.revision() == 4


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
async def test_a_foreign_lock_that_outlasts_the_busy_timeout_is_a_storage_error(
    directory, monkeypatch, lock
):
    monkeypatch.setattr("sessionactor._files.BUSY_TIMEOUT_S", 0.05)
    async with SessionRegistry(directory) as registry:
        session, other = await registry.start("s"), await registry.start("other")
        await session.append("a", says("before"))
        foreign = sqlite3.connect(session.path, isolation_level=None)
        try:
            foreign.execute(f"BEGIN {lock}")
            failed, spared = await asyncio.gather(
                outcome(session.append("a", says("failed"))),
                outcome(other.append("a", says("one"))),
            )
            assert isinstance(failed, StorageError)
            assert failed.path == session.path
            assert isinstance(failed.__cause__, sqlite3.OperationalError)
            assert spared == 1
            assert said(await session.messages()) == ["before"]
            foreign.execute("ROLLBACK")
        finally:
            foreign.close()
        assert await session.append("a", says("after")) == 2


async def test_a_foreign_lock_that_ends_in_time_is_waited_for(directory):
    async with SessionRegistry(directory) as registry:
        session, other = await registry.start("s"), await registry.start("other")
        foreign = sqlite3.connect(session.path, isolation_level=None)
        try:
            foreign.execute("BEGIN IMMEDIATE")
            append = asyncio.ensure_future(session.append("a", says("one")))
            for n in range(10):
                assert await other.append("a", says(n)) == n + 1
            assert not append.done()
            foreign.execute("ROLLBACK")
            assert await outcome(append) == 1
        finally:
            foreign.close()


async def test_a_corrupt_page_is_a_storage_error_until_it_is_mended(directory):
    async with SessionRegistry(directory) as registry:
        session, other = await registry.start("s"), await registry.start("other")
        await session.extend("a", [says("x" * 500)] * 50)
        await registry.stop("s")
        whole = session.path.read_bytes()
        session.path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
        failed = await outcome(session.messages())
        assert isinstance(failed, StorageError)
        assert failed.path == session.path
        assert isinstance(failed.__cause__, sqlite3.DatabaseError)
        assert await other.append("a", says("one")) == 1
        await registry.stop("s")
        session.path.write_bytes(whole)
        assert said(await session.messages()) == ["x" * 500] * 50
        assert await session.append("a", says("next")) == 51


async def test_a_session_whose_file_went_away_is_not_found(directory):
    async with SessionRegistry(directory) as registry:
        session = await registry.start("s")
        await session.append("a", says("one"))
        await registry.stop("s")
        session.path.unlink()
        assert isinstance(await outcome(session.messages()), SessionNotFoundError)
        assert await registry.exists("s") is False
        assert await (await registry.start("s")).append("a", says("new")) == 1


async def test_leaving_waits_for_a_commit_that_stalls_and_answers_it(registry, faults):
    async with registry:
        session = await registry.start("s")
        stall = faults.stall("commit")
        append = asyncio.ensure_future(session.append("a", says("one")))
        await stall.reached.wait()
        leaving = asyncio.ensure_future(registry.aclose())
        queued = asyncio.ensure_future(outcome(session.append("a", says("late"))))
        await asyncio.sleep(0)
        assert not leaving.done()
        stall.release()
        await leaving
        assert await append == 1
        assert isinstance(await queued, int | SessionError)


def test_a_full_disk_is_a_storage_error_until_there_is_room(directory):
    script = """
    import resource

    def limit(size):
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    async def main():
        async with SessionRegistry(sys.argv[1]) as registry:
            one, other = await registry.start("one"), await registry.start("other")
            stored, failures = [], 0
            await other.append("a", {"n": 0})
            limit(300_000)
            for n in range(200):
                try:
                    stored.append(await one.append("a", {"n": n, "data": b"x" * 10_000}))
                except StorageError as error:
                    assert error.path == one.path and error.__cause__ is not None, error
                    assert error.session_id == "one"
                    failures += 1
                    if failures == 5:
                        break
            assert failures == 5, failures
            assert stored == list(range(1, len(stored) + 1)) and len(stored) >= 10, stored
            assert [row.db_id for row in await one.messages()] == stored
            assert await other.append("a", {"n": 1}) == 2
            limit(resource.RLIM_INFINITY)
            assert await one.append("a", {"n": "after"}) == len(stored) + 1
            rows = await one.messages()
        async with SessionRegistry(sys.argv[1]) as registry:
            assert await registry.session("one").messages() == rows

    asyncio.run(main())
    """
    output_of(script, directory)
    with sqlite3.connect(next(directory.glob("one_*.db"))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_disk_too_full_to_create_a_session_leaves_no_half_of_one(directory):
    script = """
    import resource

    def limit(size):
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    async def main():
        async with SessionRegistry(sys.argv[1], catalog=False) as registry:
            await registry.start("other")
            before = sorted(os.listdir(sys.argv[1]))
            limit(5_000)
            try:
                await registry.start("s", name="n")
            except StorageError as error:
                assert error.path.name == "s_n.db", error.path
                assert isinstance(error.__cause__, OSError), error.__cause__
            else:
                raise AssertionError("there was room")
            assert sorted(os.listdir(sys.argv[1])) == before
            assert not await registry.exists("s")
            limit(resource.RLIM_INFINITY)
            session = await registry.start("s", name="n")
            assert await session.append("a", {"n": 1}) == 1

    asyncio.run(main())
    """
    output_of(script, directory)
    assert (directory / "s_n.db").exists()


async def test_an_error_that_somebody_keeps_keeps_no_file_open(directory):
    async with SessionRegistry(directory) as registry:
        session = await registry.start("s", name="n")
        await session.append("a", says("one"))
        foreign = sqlite3.connect(session.path, isolation_level=None)
        foreign.execute(
            "CREATE TRIGGER t BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        foreign.close()
        kept = [await outcome(session.append("a", says(n))) for n in range(3)]
        assert all(isinstance(one, StorageError) for one in kept)
        await registry.stop("s")
        assert sorted(name for name in os.listdir(directory) if name.startswith("s_")) == ["s_n.db"]


def test_too_little_memory_is_a_storage_error_and_what_a_message_took_is_given_back(directory):
    script = """
    import resource

    def used():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()

    async def main():
        async with SessionRegistry(sys.argv[1]) as registry:
            session = await registry.start("s")
            await session.append("a", {"n": 1})
            huge = {"data": bytes(64 << 20)}
            before = used()
            try:
                await session.append("a", huge)
            except MessageTooLargeError:
                pass
            assert used() - before < 16 << 20, used() - before
            resource.setrlimit(resource.RLIMIT_AS, (used() + (32 << 20), resource.RLIM_INFINITY))
            try:
                await session.append("a", huge)
            except StorageError as error:
                assert isinstance(error.__cause__, MemoryError), error
                assert error.session_id == "s"
            assert await session.append("a", {"n": 2}) == 2
            assert len(await session.messages()) == 2

    asyncio.run(main())
    """
    output_of(script, directory)
