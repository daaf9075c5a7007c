"""A backup is the session at one moment, in one file, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from copying import begun, held
from entries import entries
from processes import output_of, owner, process, reader
from waiting import eventually

from sessionactor import (
    InvalidTypeError,
    InvalidValueError,
    RegistryClosedError,
    Session,
    SessionError,
    SessionNotFoundError,
    SessionOwnedError,
    SessionRegistry,
    StorageError,
    TargetExistsError,
)
from sessionactor.checkup import check, repair
from sessionactor.testing import memory_registry


def says(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


async def said(session: Session) -> list[Any]:
    return [row.message["content"] for row in await session.messages()]


async def filled(registry: SessionRegistry, count: int = 5) -> Session:
    session = await registry.start("a", name="n")
    for n in range(1, count + 1):
        await session.append("agent", says(n), key=f"k{n}", turn=f"t{n}")
    await session.save_metadata({"model": "m"})
    await session.set_context(room_id="r")
    return session


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Where backups go."""
    path = tmp_path / "shelf"
    path.mkdir()
    return path


async def test_a_backup_is_the_session(place: Path | None, shelf: Path) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        await session.update(2, says("two"))
        await session.remove([3])
        rows, info = await session.messages(), await session.info()
        await session.backup(shelf / "a_n.db")
        assert entries(shelf) == ["a_n.db"]
        assert await session.info() == info
        await session.append("agent", says("later"))
    async with SessionRegistry(shelf) as registry:
        copy = registry.session("a")
        assert await copy.messages() == rows
        assert await copy.get_metadata() == {"model": "m"}
        there = await copy.info()
        for field in ("created_at", "last_activity", "message_count", "room_id", "revision"):
            assert getattr(there, field) == getattr(info, field)
        assert await copy.append("agent", says(3), key="k3") == 3
        assert await copy.append("agent", says("next")) == 6
    assert entries(shelf) == ["a_n.db"]


async def test_a_backup_under_another_id_is_another_session(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await filled(registry)
        await session.backup(tmp_path / "b_m.db")
        copy = registry.session("b")
        assert await said(copy) == [1, 2, 3, 4, 5]
        assert copy.name == "m"
        await copy.append("agent", says("apart"))
        assert await said(session) == [1, 2, 3, 4, 5]


async def test_a_backup_is_a_sqlite_database_by_itself(tmp_path: Path, shelf: Path) -> None:
    async with SessionRegistry(tmp_path / "d") as registry:
        session = await filled(registry)
        await session.backup(shelf / "x")
    with closing(sqlite3.connect(shelf / "x")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (5,)
        assert connection.execute("SELECT session_id, name FROM session").fetchone() == ("a", "n")


async def test_a_backup_while_many_append_is_a_prefix(place: Path | None, shelf: Path) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry, 300)
        done = asyncio.Event()

        async def caller(n: int) -> None:
            while not done.is_set():
                async with session.batch() as batch:
                    batch.append(f"caller {n}", says(n))
                    batch.append(f"caller {n}", says(n))

        callers = [asyncio.ensure_future(caller(n)) for n in range(100)]
        copies = []
        for number in range(3):
            answered = len(await session.messages())
            await session.backup(shelf / f"a{number}_n.db")
            copies.append((f"a{number}", answered))
        done.set()
        await asyncio.gather(*callers)
        rows = await session.messages()
    async with SessionRegistry(shelf) as registry:
        for session_id, answered in copies:
            taken = await registry.session(session_id).messages()
            assert taken == rows[: len(taken)]
            assert len(taken) >= answered
            assert len(taken) % 2 == 0  # no half of a batch


async def test_what_is_rewritten_meanwhile_is_as_at_one_moment(
    tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(tmp_path / "d") as registry:
        session = await filled(registry, 9)
        async with held(monkeypatch) as hold:
            copy = await begun(hold, lambda: session.backup(shelf / "a_n.db"))
            await session.update(2, says("two"))
            await session.remove([4, 5])
            await session.truncate_from(8)
            await session.append("a", says("ten"))
            rows = await session.messages()
            hold.released.set()
            await copy
    async with SessionRegistry(shelf) as registry:
        assert await registry.session("a").messages() == rows


# where it goes


@pytest.mark.parametrize("kind", ["file", "directory", "session", "link to nothing"])
async def test_nothing_is_ever_overwritten(place: Path | None, shelf: Path, kind: str) -> None:
    target = shelf / "target.db"
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        if kind == "file":
            target.write_text("precious")
        elif kind == "directory":
            target.mkdir()
        elif kind == "link to nothing":
            target.symlink_to(shelf / "nothing")
        else:
            await session.backup(target)
        before = os.lstat(target)
        with pytest.raises(TargetExistsError) as caught:
            await session.backup(target)
        error = caught.value
        assert isinstance(error, FileExistsError)
        assert (error.path, error.session_id) == (target, "a")
        assert str(target) in str(error)
        assert os.lstat(target) == before
        assert entries(shelf) == ["target.db"]
        await session.backup(shelf / "another")


async def test_the_session_s_own_file_is_not_overwritten(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await filled(registry)
        assert session.path is not None
        with pytest.raises(TargetExistsError):
            await session.backup(session.path)
        assert await said(session) == [1, 2, 3, 4, 5]


async def test_of_two_backups_to_one_place_one_wins(place: Path | None, shelf: Path) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        answers = await asyncio.gather(
            *(session.backup(shelf / "x") for _ in range(4)), return_exceptions=True
        )
        kinds = [type(answer) for answer in answers]
        assert kinds.count(TargetExistsError) == 3
        assert entries(shelf) == ["x"]


async def test_a_directory_that_is_not_there_is_named(place: Path | None, shelf: Path) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        with pytest.raises(StorageError) as caught:
            await session.backup(shelf / "missing" / "x.db")
        assert f"the directory {shelf / 'missing'} does not exist" in str(caught.value)
        assert caught.value.path == shelf / "missing" / "x.db"
        (shelf / "file").write_text("")
        with pytest.raises(StorageError):
            await session.backup(shelf / "file" / "x.db")
        assert entries(shelf) == ["file"]


async def test_a_relative_path_is_from_here_and_now(
    place: Path | None, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        monkeypatch.chdir(shelf)
        copy = session.backup("x.db")
        task = asyncio.ensure_future(copy)
        await asyncio.sleep(0)
        monkeypatch.chdir("/")
        await task
        assert entries(shelf) == ["x.db"]


async def test_what_is_no_path_is_refused(place: Path | None, shelf: Path) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        for bad in (7, None, b"x"):
            with pytest.raises(InvalidTypeError):
                await session.backup(bad)  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError):
            await session.backup("nul\0")
        with pytest.raises(StorageError):
            await session.backup(shelf / ("x" * 600))


async def test_a_log_that_lies_beside_the_target_is_not_replayed_into_it(
    tmp_path: Path, shelf: Path
) -> None:
    async with SessionRegistry(tmp_path / "d") as registry:
        session = await filled(registry)
        await session.append("agent", says("secret"))
        assert session.path is not None
        shutil.copyfile(f"{session.path}-wal", shelf / "a_n.db-wal")
        await session.remove([6])
        await session.backup(shelf / "a_n.db")
    assert entries(shelf) == ["a_n.db"]
    async with SessionRegistry(shelf) as registry:
        assert await said(registry.session("a")) == [1, 2, 3, 4, 5]


async def test_paths_that_uris_would_change_are_what_they_are(tmp_path: Path) -> None:
    place = tmp_path / "q?mode=memory#%41 ü"
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        await session.backup(place / "b_x?y#z%41.db")
        fork = await session.fork("c?d", name="e#f")
        assert await said(fork) == [1, 2, 3, 4, 5]
    assert "b_x?y#z%41.db" in entries(place)


async def test_paths_that_are_no_utf_8_work(tmp_path: Path) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        await session.backup(place / "b_m.db")
        report = await session.compact()
        assert report.size_after > 0
        assert await said(registry.session("b")) == await said(await session.fork())


# states


async def test_nobody_runs_a_copy(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="n")
        async with session.turn("t", agent_id="agent") as turn:
            await turn.append(says(1))
            await session.backup(tmp_path / "b_m.db")
            copy = registry.session("b")
            assert (await copy.info()).state == "interrupted"
            assert [row.db_id for row in await copy.interrupted_turn()] == [1]
            assert (await session.info()).state == "running"


# what happens meanwhile


async def test_a_backup_of_a_session_that_is_stopped_renamed_and_deleted_meanwhile(
    tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(tmp_path / "d") as registry:
        session = await filled(registry)
        async with held(monkeypatch) as hold:
            copy = await begun(hold, lambda: session.backup(shelf / "x"))
            renaming = asyncio.ensure_future(session.rename("other"))
            await registry.stop("a")
            assert await session.append("agent", says(6)) == 6
            assert not renaming.done()
            hold.released.set()
            await copy
            await renaming
            assert session.name == "other"
        async with held(monkeypatch) as hold:
            copy = await begun(hold, lambda: session.backup(shelf / "y"))
            await registry.delete("a")
            hold.released.set()
            await copy
        with pytest.raises(SessionNotFoundError):
            await session.backup(shelf / "z")
    assert entries(shelf) == ["x", "y"]
    assert entries(tmp_path / "d") == []


async def test_a_session_that_is_not_there_or_not_ours_has_no_backup(
    tmp_path: Path, shelf: Path
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        with pytest.raises(SessionNotFoundError):
            await registry.session("nowhere").backup(shelf / "x")
        with owner(tmp_path, "theirs"), pytest.raises(SessionOwnedError):
            await registry.session("theirs").backup(shelf / "x")
    assert entries(shelf) == []


async def test_a_foreign_reader_is_in_nobodys_way(tmp_path: Path, shelf: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await filled(registry)
        assert session.path is not None
        with reader(session.path) as foreign:
            await session.append("agent", says(6))
            await session.backup(shelf / "a_n.db")
            foreign.tell()
            assert foreign.hear() == "5"
    async with SessionRegistry(shelf) as registry:
        assert await said(registry.session("a")) == [1, 2, 3, 4, 5, 6]


async def test_leaving_waits_for_a_backup(
    tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = SessionRegistry(tmp_path / "d")
    await registry.open()
    session = await filled(registry)
    async with held(monkeypatch) as hold:
        copy = await begun(hold, lambda: session.backup(shelf / "x"))
        leaving = asyncio.ensure_future(registry.aclose())
        await eventually(lambda: not _is_open(registry))
        with pytest.raises(RegistryClosedError):
            await session.backup(shelf / "y")
        assert not leaving.done()
        hold.released.set()
        await leaving
        await copy
    assert entries(shelf) == ["x"]
    assert entries(tmp_path / "d") == ["a_n.db"]


async def test_a_backup_asked_for_while_the_registry_closes_is_made_or_refused(
    place: Path | None, shelf: Path
) -> None:
    for turns in range(30):
        registry = SessionRegistry(place)
        await registry.open()
        session = await registry.start("a", name="n")
        await session.append("agent", says(1), key="k")
        copy = asyncio.ensure_future(session.backup(shelf / f"a{turns}_n.db"))
        for _ in range(turns):
            await asyncio.sleep(0)
        await registry.aclose()
        await asyncio.gather(copy, return_exceptions=True)
        assert isinstance(copy.exception(), RegistryClosedError | None)
        assert (shelf / f"a{turns}_n.db").exists() is (copy.exception() is None)


def _is_open(registry: SessionRegistry) -> bool:
    try:
        registry.statistics()
    except RegistryClosedError:
        return False
    return True


async def test_backups_have_threads_of_their_own(
    tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the default ones, nor those that read the directory, nor more than a few."""
    async with SessionRegistry(tmp_path / "d") as registry:
        session = await filled(registry)

        def threads() -> list[str]:
            return sorted(thread.name for thread in threading.enumerate())

        async with held(monkeypatch) as hold:
            copies = [asyncio.ensure_future(session.backup(shelf / f"{n}")) for n in range(8)]
            await eventually(hold.reached.is_set)
            await asyncio.gather(registry.find("*"), registry.find_by_id("a"), session.messages())
            now = threads()
            hold.released.set()
            await asyncio.gather(*copies)
        assert not [name for name in now if name.startswith("asyncio_")]
        assert len([name for name in now if name.startswith("sessionactor-copies")]) <= 2
    assert not [name for name in threads() if name.startswith("sessionactor")]
    assert len(entries(shelf)) == 8


# when it fails, and when nobody waits


@pytest.mark.parametrize("make", [memory_registry, SessionRegistry], ids=["memory", "disk"])
async def test_a_backup_cancelled_at_any_point_is_whole_or_not_there(
    tmp_path: Path, shelf: Path, make: Callable[..., SessionRegistry]
) -> None:
    async with make() if make is memory_registry else make(tmp_path / "d") as registry:
        session = await filled(registry)
        for turns in range(40):
            task = asyncio.ensure_future(session.backup(shelf / f"a{turns}_n.db"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            # What there will be is there when the call returns.
            assert [name for name in entries(shelf) if not name.endswith(".db")] == []
        assert await said(session) == [1, 2, 3, 4, 5]
    async with SessionRegistry(shelf) as registry:
        for file in await registry.find("*"):
            assert await said(registry.session(file.session_id)) == [1, 2, 3, 4, 5]


async def test_a_backup_that_nobody_waits_for_is_given_up(
    tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(tmp_path / "d") as registry:
        session = await filled(registry)
        async with held(monkeypatch) as hold:
            copy = await begun(hold, lambda: session.backup(shelf / "x"))
            assert entries(shelf) != []
            copy.cancel()
            with pytest.raises(asyncio.CancelledError):
                await copy
            assert not hold.released.is_set()
            assert entries(shelf) == []
        await session.backup(shelf / "x")


def test_a_disk_too_full_for_a_backup_leaves_no_half_of_one(tmp_path: Path, shelf: Path) -> None:
    script = """
    import resource

    def limit(size):
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    async def main(directory, shelf):
        async with SessionRegistry(directory) as registry:
            session = await registry.start("a")
            await session.extend("agent", [{"data": b"x" * 10_000}] * 100)
            rows = await session.messages()
            limit(300_000)
            try:
                await session.backup(f"{shelf}/a_n.db")
            except StorageError as error:
                assert error.path.name == "a_n.db", error.path
                assert error.session_id == "a" and error.__cause__ is not None
            else:
                raise AssertionError("there was room")
            assert os.listdir(shelf) == []
            assert await session.messages() == rows
            limit(resource.RLIM_INFINITY)
            await session.backup(f"{shelf}/a_n.db")
        async with SessionRegistry(shelf) as registry:
            assert await registry.session("a").messages() == rows

    asyncio.run(main(*sys.argv[1:]))
    """
    output_of(script, tmp_path / "d", shelf)


async def test_an_error_is_told_as_one_of_ours(
    tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("broken")

    async with SessionRegistry(tmp_path / "d") as registry:
        session = await filled(registry)
        with monkeypatch.context() as patch:
            patch.setattr("sessionactor._files.sync_directory", broken)
            with pytest.raises(SessionError) as caught:
                await session.backup(shelf / "x")
        assert isinstance(caught.value, StorageError)
        assert entries(shelf) == []  # it might not be there after a power loss
        await session.backup(shelf / "x")


KILLED = """
async def main(directory, target):
    async with SessionRegistry(directory) as registry:
        await registry.session("a").backup(target)

import sessionactor._takeover
sessionactor._takeover.Takeover.back_up = lambda _: (say("half-way"), wait())
asyncio.run(main(*sys.argv[1:]))
"""


async def test_what_a_killed_backup_left_is_found_and_replaced(tmp_path: Path, shelf: Path) -> None:
    target = shelf / "a_n.db"
    async with SessionRegistry(tmp_path / "sessions") as registry:
        await filled(registry)
    with process(KILLED, tmp_path / "sessions", target) as killed:
        killed.hear()
        (part,) = entries(shelf)
        assert part == ".a_n.db.part"
        assert list(check(shelf)) == []  # it is being made
        async with SessionRegistry(tmp_path / "sessions", read_only=True) as registry:
            with pytest.raises(TargetExistsError, match="just being made"):
                await registry.session("a").backup(target)
        assert entries(shelf) == [part]
    (finding,) = check(shelf)
    assert (finding.problem, finding.path) == ("draft", shelf / part)
    assert repair(finding)
    assert entries(shelf) == []
    with process(KILLED, tmp_path / "sessions", target) as killed:
        killed.hear()
    async with SessionRegistry(tmp_path / "sessions") as registry:
        await registry.session("a").backup(target)
    assert entries(shelf) == [target.name]
    assert list(check(shelf)) == []


async def test_files_of_others_that_look_alike_are_left_alone(shelf: Path) -> None:
    for name in (".video.mp4.part", ".part", "a_n.db.part"):
        (shelf / name).write_bytes(b"theirs")
    assert list(check(shelf)) == []
