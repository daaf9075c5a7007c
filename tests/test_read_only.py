"""A registry for reading only: beside an owner or beside nobody, and without a trace."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from following import mirrored, says
from processes import Process, output_of, process
from waiting import eventually

from sessionactor import (
    InvalidTypeError,
    InvalidValueError,
    ReadOnlyError,
    SchemaVersionError,
    Session,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
    SessionRegistry,
    StorageError,
)
from sessionactor._scan import scan as _disk_scan

WRITER = """
async def main(directory):
    async with SessionRegistry(directory) as registry:
        session = await registry.start("a", name="n")
        await session.flush()  # the catalog is there
        say("ready")
        while line := (await asyncio.to_thread(wait)).strip():
            what, *how = json.loads(line)
            if what == "stop":
                say(await registry.stop("a"))
            elif what == "delete":
                say(await registry.delete("a"))
            elif what == "start":
                session = await registry.start("a", name="n")
                say("started")
            elif what == "rename":
                for again in reversed(range(5)):
                    try:
                        await session.rename(*how)
                        break
                    except SessionBusyError:  # on a busy machine who reads it may be slow
                        if not again:
                            raise
                say("done")
            else:
                await getattr(session, what)(*how)
                say("done")

asyncio.run(main(sys.argv[1]))
"""
"""Does to session `a` what it is told."""

TURN = """
async def main(directory):
    async with SessionRegistry(directory, idle_timeout_s=0.01) as registry:
        session = await registry.start("a", name="n")
        async with session.turn("t", agent_id="x") as turn:
            await turn.append({"role": "user", "content": "half"})
            await session.flush()  # the catalog has it
            while registry.whereis("a"):
                await asyncio.sleep(0.005)
            say("passivated in the turn")
            await asyncio.to_thread(wait)
        say("ended")
        await asyncio.to_thread(wait)

asyncio.run(main(sys.argv[1]))
"""
"""Is in a turn, with its session passivated, until it is told to end the turn."""


async def do(writer: Process, *what: Any) -> str:
    """Have the writer do something."""
    writer.tell(json.dumps(what))
    return await asyncio.to_thread(writer.hear)


@contextmanager
def writing(directory: Path) -> Iterator[Process]:
    with process(WRITER, directory) as writer:
        writer.hear()
        yield writer


def listing(directory: Path) -> dict[str, Any]:
    """All files, and what would betray a write to one."""
    found: dict[str, Any] = {}
    for path in sorted(directory.iterdir()):
        status = path.stat()
        found[path.name] = (status.st_ino, status.st_mtime_ns, path.read_bytes())
        if path.name.endswith("-shm"):  # shared memory of those who read too
            found[path.name] = status.st_ino
    return found


def contents(rows: Any) -> list[Any]:
    return [row.message["content"] for row in rows]


@pytest.fixture
async def place(tmp_path: Path) -> Path:
    """A directory of two sessions that nobody has open."""
    directory = tmp_path / "sessions"
    async with SessionRegistry(directory) as registry:
        for session_id in "ab":
            session = await registry.start(session_id, name="n")
            await session.extend("x", [says(n) for n in range(1, 4)])
            await session.append("y", {"role": "summary", "content": "so far"}, key="k")
            await session.save_metadata({"k": session_id})
            await session.set_context(room_id="r")
        await registry.rebuild_catalog()
    return directory


# reading


READS: dict[str, Callable[[Session], Awaitable[Any]]] = {
    "messages": lambda session: session.messages(),
    "newest": lambda session: session.messages(limit=2, newest=True),
    "stream": lambda session: collect(session.stream()),
    "latest": lambda session: session.messages_from_latest_checkpoint(),
    "before": lambda session: session.messages_before_checkpoint(4),
    "chapters": lambda session: collect(session.chapters()),
    "get": lambda session: session.get(2),
    "get by key": lambda session: session.get(key="k"),
    "head": lambda session: session.head(),
    "metadata": lambda session: session.get_metadata(),
    "revision": lambda session: session.revision(),
    "info": lambda session: session.info(),
    "interrupted_turn": lambda session: session.interrupted_turn(),
    "children": lambda session: session.children(1),
    "flush": lambda session: session.flush(),
}


async def collect(values: Any) -> list[Any]:
    return [value async for value in values]


@pytest.mark.parametrize("read", READS)
async def test_every_read_answers_as_the_owner_does(place: Path, read: str) -> None:
    async with SessionRegistry(place, read_only=True) as registry:
        found = await READS[read](await registry.start("a"))
    async with SessionRegistry(place) as registry:
        assert await READS[read](await registry.start("a")) == found


async def test_reading_beside_nobody_leaves_no_trace(place: Path) -> None:
    before = listing(place)
    async with SessionRegistry(place, read_only=True) as registry:
        for read in READS.values():
            await read(registry.session("a"))
        assert [file.session_id for file in await registry.find("*")] == ["a", "b"]
        assert await registry.exists("b")
        assert (await registry.find_by_id("a")).name == "n"
        assert listing(place) == before
    assert listing(place) == before


async def test_reading_beside_an_owner_sees_what_it_committed(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        await do(writer, "append", "x", says(1))
        async with SessionRegistry(tmp_path, read_only=True) as registry:
            names = sorted(path.name for path in tmp_path.iterdir())
            session = await registry.start("a")
            assert contents(await session.messages()) == [1]
            assert contents((await session.messages_from_latest_checkpoint()).rows) == [1]
            for n in range(2, 6):
                await do(writer, "append", "x", says(n))
                every = list(range(1, n + 1))
                assert contents(await session.messages()) == every
                assert contents((await session.messages_from_latest_checkpoint()).rows) == every
                assert (await session.info()).message_count == n
            await do(writer, "update", 2, says("two"))
            await do(writer, "truncate_from", 4)
            assert contents(await session.messages()) == [1, "two", 3]
            assert sorted(path.name for path in tmp_path.iterdir()) == names
        # The owner is the owner still.
        assert json.loads(output_of(TRY, tmp_path)) == ["SessionOwnedError", writer.pid]


TRY = """
async def main(directory):
    async with SessionRegistry(directory) as registry:
        try:
            await registry.session("a").append("other", {})
            say("free")
        except SessionOwnedError as error:
            say([type(error).__name__, error.pid])

asyncio.run(main(sys.argv[1]))
"""


async def test_an_owner_in_the_same_process_keeps_its_locks(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as owning:
        session = await owning.start("a")
        await session.append("x", says(1))
        await session.flush()
        for _ in range(3):
            async with SessionRegistry(tmp_path, read_only=True) as registry:
                assert contents(await registry.session("a").messages()) == [1]
                assert [info.session_id for info in (await registry.sessions()).sessions] == ["a"]
            found = await asyncio.to_thread(output_of, TRY, tmp_path)
            assert json.loads(found) == ["SessionOwnedError", os.getpid()]
        assert session.path is not None
        # SQLite's own lock, of a file in use: nobody else gets it exclusively.
        script = """
        connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            connection.execute("BEGIN EXCLUSIVE")
            say("mine")
        except sqlite3.OperationalError as error:
            say(str(error))
        """
        found = await asyncio.to_thread(output_of, script, session.path)
        assert json.loads(found) == "database is locked"
        await session.append("x", says(2))


async def test_an_owner_may_come_while_others_only_read(place: Path) -> None:
    async with SessionRegistry(place, read_only=True) as registry:
        reading = registry.session("a")
        assert len(await reading.messages()) == 4
        with writing(place) as writer:
            for n in range(5, 8):
                await do(writer, "append", "x", says(n))
                assert len(await reading.messages()) == n
                await do(writer, "stop")
                assert len(await reading.messages()) == n
            assert writer.end() == 0
        assert contents(await reading.messages())[4:] == [5, 6, 7]
    assert not list(place.glob("*-wal"))


async def test_what_a_killed_owner_left_is_read_and_left(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        for n in range(1, 4):
            await do(writer, "append", "x", says(n))
        writer.kill()
    names = sorted(path.name for path in tmp_path.iterdir())
    file = tmp_path / "a_n.db"
    log = Path(f"{file}-wal")
    before = file.read_bytes(), log.read_bytes()
    async with SessionRegistry(tmp_path, read_only=True) as registry:
        assert contents(await registry.session("a").messages()) == [1, 2, 3]
        assert contents(await registry.session("a").messages()) == [1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (file.read_bytes(), log.read_bytes()) == before
    async with SessionRegistry(tmp_path) as registry:
        assert contents(await registry.session("a").messages()) == [1, 2, 3]
        await registry.session("a").rename("other")
    assert not log.exists()


async def test_a_log_without_its_index_cannot_be_read(tmp_path: Path) -> None:
    with writing(tmp_path / "there") as writer:
        await do(writer, "append", "x", says(1))
        writer.kill()
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("a_n.db", "a_n.db-wal"):
        shutil.copy(tmp_path / "there" / name, copy / name)
    before = listing(copy)
    async with SessionRegistry(copy, read_only=True) as registry:
        with pytest.raises(StorageError, match="not read-only") as caught:
            await registry.session("a").messages()
        assert caught.value.path == copy / "a_n.db"
        assert listing(copy) == before


async def test_an_empty_log_is_no_log(place: Path) -> None:
    Path(place / "a_n.db-wal").touch()
    before = listing(place)
    async with SessionRegistry(place, read_only=True) as registry:
        assert len(await registry.session("a").messages()) == 4
    assert listing(place) == before


@pytest.mark.parametrize("left", ["closed", "killed", "killed at its log's first sync"])
async def test_a_directory_that_may_not_be_written(left: str) -> None:
    script = """
    async def main(directory):
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        assert not os.access(directory, os.W_OK)
        async with SessionRegistry(directory, read_only=True) as registry:
            session = await registry.start("a")
            rows = await session.messages()
            found = await registry.sessions()
            say([[row.message["content"] for row in rows], found.sessions[0].message_count])

    asyncio.run(main(sys.argv[1]))
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with writing(directory) as writer:
            for n in range(1, 4):
                await do(writer, "append", "x", says(n))
            if left != "killed":
                await do(writer, "flush")
                headers = {path: path.read_bytes()[:32] for path in directory.glob("*-wal")}
                assert writer.end() == 0
        if left == "killed at its log's first sync":
            assert len(headers) == 2
            for log, header in headers.items():
                log.write_bytes(header)
                Path(f"{str(log).removesuffix('-wal')}-shm").write_bytes(bytes(32768))
        for path in directory.iterdir():
            path.chmod(0o444)
        directory.chmod(0o555)
        before = listing(directory)
        said = await asyncio.to_thread(output_of, script, directory)
        assert json.loads(said) == [[1, 2, 3], 3]
        assert listing(directory) == before
        directory.chmod(0o755)


async def test_reading_while_the_owner_opens_and_closes_all_the_time(tmp_path: Path) -> None:
    script = """
    async def main(directory):
        async with SessionRegistry(directory) as registry:
            await registry.start("a", name="n")
            say("ready")
            reader = asyncio.create_task(asyncio.to_thread(wait))
            count = 0
            read = False
            while not read:
                read = reader.done()  # once more then: who reads while it closes leaves its log
                await registry.session("a").extend("x", [{"content": count}] * 3)
                if count % 7 == 0:
                    await registry.session("a").remove([count * 3 + 1, count * 3 + 2])
                await registry.stop("a")
                count += 1
            say(count)

    asyncio.run(main(sys.argv[1]))
    """
    with process(script, tmp_path) as writer:
        writer.hear()
        async with SessionRegistry(tmp_path, read_only=True) as registry:
            session = registry.session("a")
            revision = 0
            for _ in range(60):
                info = await session.info()
                assert info.revision >= revision
                revision = info.revision
                rows = await session.messages()
                groups: dict[int, int] = {}
                for row in rows:
                    groups[row.message["content"]] = groups.get(row.message["content"], 0) + 1
                assert set(groups.values()) <= {1, 3}
                assert [row.db_id for row in rows] == sorted(row.db_id for row in rows)
            writer.tell()
            count = int(writer.hear())
            assert writer.end() == 0
            await eventually(lambda: not (tmp_path / "a_n.db-wal").exists())
            assert (await session.messages())[-1].message == {"content": count - 1}


# files that come, go and move


async def test_what_the_owner_creates_renames_and_deletes_is_found(tmp_path: Path) -> None:
    async with (
        SessionRegistry(tmp_path) as owning,
        SessionRegistry(tmp_path, read_only=True) as registry,
    ):
        reading = registry.session("a")
        with pytest.raises(SessionNotFoundError):
            await reading.messages()
        session = await owning.start("a", name="one")
        await session.append("x", says(1))
        assert len(await reading.messages()) == 1
        await session.rename("two")
        assert (await reading.info()).name == "two"
        assert reading.path == tmp_path / "a_two.db"
        assert [file.name for file in await registry.find("*")] == ["two"]
        await owning.delete("a")
        with pytest.raises(SessionNotFoundError):
            await reading.messages()
        await (await owning.start("a", name="three")).append("x", says("another"))
        assert contents(await reading.messages()) == ["another"]


async def test_following_does_not_keep_the_owner_from_moving_the_file(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        await do(writer, "append", "x", says(0))
        async with SessionRegistry(tmp_path, read_only=True) as registry:
            session = registry.session("a")
            async with mirrored(session.subscribe(since=0)) as mirror:
                for n in range(12):
                    assert await do(writer, "rename", f"name-{n}") == '"done"'
                    await do(writer, "append", "x", says(n))
                    if n % 3 == 0:
                        assert await do(writer, "stop") == "true"
                        assert len(await session.messages()) == n + 2
                await eventually(lambda: mirror.name == "name-11" and len(mirror.rows) == 13)
        assert writer.end() == 0  # nobody reads it any more, which would keep its log
        assert sorted(path.suffix for path in tmp_path.glob("a_*")) == [".db"]


async def test_a_listing_that_misses_a_file_which_is_moved(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    misses = [True]

    def scan(*arguments: Any) -> Any:
        found = _disk_scan(*arguments)
        if misses[0]:
            misses[0] = False
            (place / "a_on_the_way.db").rename(place / "a_moved.db")
            found.entries.clear()
        return found

    async with SessionRegistry(place, read_only=True) as registry:
        session = registry.session("a")
        assert len(await session.messages()) == 4
        monkeypatch.setattr("sessionactor._disk.scan", scan)
        (place / "a_n.db").rename(place / "a_on_the_way.db")
        assert len(await session.messages()) == 4
        assert misses == [False]
        assert session.name == "moved"


async def test_ids_and_names_that_file_names_cannot_hold(tmp_path: Path) -> None:
    session_id, name = "Ünïcode/" + "x" * 190, "Näme " + "y" * 190
    async with SessionRegistry(tmp_path) as owning:
        session = await owning.start(session_id, name=name)
        await session.append("x", says(1))
        await session.flush()  # the catalog is there
        await owning.stop(session_id)
        async with SessionRegistry(tmp_path, read_only=True) as registry:
            names = sorted(os.listdir(tmp_path))
            (found,) = await registry.find("*")
            assert (found.session_id, found.name) == (session_id, name)
            assert (await registry.session(session_id).info()).name == name
            assert contents(await registry.session(session_id).messages()) == [1]
            assert sorted(os.listdir(tmp_path)) == names


async def test_a_file_that_was_renamed_by_hand_has_the_name_it_has(place: Path) -> None:
    (place / "a_n.db").rename(place / "c_other.db")
    before = listing(place)
    async with SessionRegistry(place, read_only=True) as registry:
        info = await registry.session("c").info()
        assert (info.session_id, info.name) == ("c", "other")
    assert listing(place) == before


@pytest.mark.parametrize(("version", "what"), [(1, "older"), (99, "newer")])
async def test_a_file_of_another_version_is_left_alone(
    place: Path, version: int, what: str
) -> None:
    with closing(sqlite3.connect(place / "a_n.db")) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()
    before = listing(place)
    async with SessionRegistry(place, read_only=True) as registry:
        with pytest.raises(SchemaVersionError, match=what):
            await registry.session("a").messages()
        with pytest.raises(SchemaVersionError, match=what):
            await registry.start("a")
        assert len(await registry.session("b").messages()) == 4
    assert listing(place) == before


async def test_a_damaged_file_is_named(place: Path) -> None:
    file = place / "a_n.db"
    file.write_bytes(file.read_bytes()[:2048] + b"\xff" * 20000)
    (place / "c_x.db").write_bytes(b"no session" * 100)
    async with SessionRegistry(place, read_only=True) as registry:
        with pytest.raises(StorageError, match=r"a_n\.db") as caught:
            await registry.session("a").messages()
        assert caught.value.path == file
        with pytest.raises(SessionNotFoundError):
            await registry.session("c").messages()
        assert len(await registry.session("b").messages()) == 4


# states


async def test_running_is_interrupted_once_its_owner_is_gone(tmp_path: Path) -> None:
    async def states(registry: SessionRegistry) -> list[str]:
        found = await registry.sessions()
        return [(await registry.session("a").info()).state, found.sessions[0].state]

    with process(TURN, tmp_path) as owning:
        await asyncio.to_thread(owning.hear)
        async with SessionRegistry(tmp_path, read_only=True) as registry:
            session = registry.session("a")
            assert await states(registry) == ["running", "running"]
            assert await session.interrupted_turn() == []
            owning.kill()
            before = listing(tmp_path)
            assert await states(registry) == ["interrupted", "interrupted"]
            info = await session.info()
            assert info.turn_id == "t"
            assert info.turn_started_at is not None
            assert contents(await session.interrupted_turn()) == ["half"]
            assert listing(tmp_path) == before
    async with SessionRegistry(tmp_path) as registry:
        assert contents(await registry.session("a").interrupted_turn()) == ["half"]


async def test_a_turn_that_ends_is_never_interrupted(tmp_path: Path) -> None:
    with process(TURN, tmp_path) as owning:
        await asyncio.to_thread(owning.hear)
        async with SessionRegistry(tmp_path, read_only=True) as registry:
            seen = {(await registry.session("a").info()).state}
            owning.tell()
            while "idle" not in seen:
                seen.add((await registry.session("a").info()).state)
            assert seen == {"running", "idle"}


async def test_an_owner_in_this_process_is_an_owner(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as owning:
        session = await owning.start("a")
        await session.set_state("running", "t")
        async with SessionRegistry(tmp_path, read_only=True) as registry:
            assert (await registry.session("a").info()).state == "running"
            await owning.stop("a")
            assert (await registry.session("a").info()).state == "running"


# what would change something


async def turn(session: Session) -> None:
    async with session.turn(agent_id="x"):
        raise AssertionError("it must not begin")


async def batch(session: Session) -> None:
    async with session.batch() as collected:
        collected.append("x", says(1))


CHANGES: dict[str, Callable[[SessionRegistry, Session], Awaitable[Any]]] = {
    "append": lambda _, session: session.append("x", says(1)),
    "extend": lambda _, session: session.extend("x", [says(1)]),
    "batch": lambda _, session: batch(session),
    "update": lambda _, session: session.update(1, says(1)),
    "update_last": lambda _, session: session.update_last(says(1)),
    "remove": lambda _, session: session.remove([1]),
    "remove_last": lambda _, session: session.remove_last(),
    "truncate_from": lambda _, session: session.truncate_from(1),
    "clear": lambda _, session: session.clear(),
    "save_metadata": lambda _, session: session.save_metadata({"k": 1}),
    "set_agent_alias": lambda _, session: session.set_agent_alias("x"),
    "set_context": lambda _, session: session.set_context(room_id="x"),
    "set_state": lambda _, session: session.set_state("running"),
    "turn": lambda _, session: turn(session),
    "discard_turn": lambda _, session: session.discard_turn("t"),
    "finish_turn": lambda _, session: session.finish_turn("t"),
    "rename": lambda _, session: session.rename("other"),
    "rename to a generated name": lambda _, session: session.rename(None),
    "fork": lambda _, session: session.fork("c"),
    "fork to a fresh id": lambda _, session: session.fork(),
    "compact": lambda _, session: session.compact(),
    "start": lambda registry, _: registry.start("new"),
    "start with a name": lambda registry, _: registry.start("new", name="n"),
    "start with a fresh id": lambda registry, _: registry.start(),
    "delete": lambda registry, _: registry.delete("a"),
    "delete what is not there": lambda registry, _: registry.delete("new"),
    "cleanup": lambda registry, _: registry.cleanup(timedelta(0)),
    "rebuild_catalog": lambda registry, _: registry.rebuild_catalog(),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_nothing_is_changed(place: Path, change: str) -> None:
    before = listing(place)
    async with SessionRegistry(place, read_only=True) as registry:
        session = registry.session("a")
        with pytest.raises(ReadOnlyError, match="read_only") as caught:
            await CHANGES[change](registry, session)
        assert isinstance(caught.value, PermissionError)
        assert registry.statistics().requests == 0
        assert registry.statistics().queued == 0
        assert len(await session.messages()) == 4
    assert listing(place) == before


async def test_starting_and_stopping_what_is_there(place: Path) -> None:
    async with SessionRegistry(place, read_only=True) as registry:
        session = await registry.start("a")
        assert await registry.start("a", name="n") is session
        assert registry.whereis("a") is session
        with pytest.raises(SessionExistsError):
            await registry.start("a", name="other")
        assert await registry.stop("a") is True
        assert await registry.stop("a") is False
        with pytest.raises(SessionNotFoundError):
            await registry.stop("new")
        assert len(await session.messages()) == 4


async def test_settings_that_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="read_only"):
        SessionRegistry(None, read_only=True)
    with pytest.raises(InvalidTypeError, match="read_only"):
        SessionRegistry(tmp_path, read_only="yes")  # type: ignore[arg-type]


async def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("none", "file", "file/below"):
        with pytest.raises(StorageError, match=name):
            await SessionRegistry(tmp_path / name, read_only=True).open()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "empty").mkdir()
    async with SessionRegistry(tmp_path / "empty", read_only=True) as registry:
        assert await registry.find("*") == []
        assert (await registry.sessions()).sessions == []
    assert list((tmp_path / "empty").iterdir()) == []


# the catalog


async def overview(registry: SessionRegistry) -> list[Any]:
    found = await registry.sessions(order="created")
    return [
        [(info.session_id, info.message_count, info.revision) for info in found.sessions],
        sorted((hit.session_id, hit.db_id) for hit in await registry.search("far")),
    ]


WANTED = [[("a", 4, 4), ("b", 4, 4)], [("a", 4), ("b", 4)]]


async def test_listing_and_searching_beside_nobody(place: Path) -> None:
    before = listing(place)
    async with SessionRegistry(place, read_only=True) as registry:
        assert await overview(registry) == WANTED
        assert await registry.metadata(["a", "x"]) == {"a": {"k": "a"}}
        report = await registry.cleanup(timedelta(0), dry_run=True)
        assert sorted(report.deleted) == ["a", "b"]
        assert listing(place) == before
    assert listing(place) == before


async def test_listing_and_searching_without_a_catalog(place: Path) -> None:
    (place / ".sessionactor.catalog").unlink()
    before = listing(place)
    async with SessionRegistry(place, read_only=True) as registry:
        assert await overview(registry) == WANTED
        assert listing(place) == before


@pytest.mark.parametrize("damage", ["foreign", "cut off", "its log has no index"])
async def test_listing_and_searching_with_a_catalog_that_cannot_be_read(
    place: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = place / ".sessionactor.catalog"
    if damage == "foreign":
        catalog.write_bytes(b"no catalog" * 1000)
    elif damage == "cut off":
        os.truncate(catalog, catalog.stat().st_size // 2)
    else:
        Path(f"{catalog}-wal").write_bytes(bytes(4096))
    before = listing(place)
    async with SessionRegistry(place, read_only=True) as registry:
        assert await overview(registry) == WANTED
    assert str(catalog) in caplog.text
    assert listing(place) == before


async def test_listing_beside_an_owner_sees_what_it_has_flushed(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        async with SessionRegistry(tmp_path, read_only=True) as registry:
            for n in range(1, 5):
                await do(writer, "append", "x", says(f"word{n}"))
                await do(writer, "flush")
                (info,) = (await registry.sessions()).sessions
                assert info.message_count == n
                (hit,) = await registry.search(f"word{n}")
                assert hit.db_id == n
            await do(writer, "truncate_from", 2)
            await do(writer, "flush")
            assert await registry.search("word3") == []
            names = {path.name for path in tmp_path.iterdir()}
            assert names == {
                *("a_n.db", "a_n.db-wal", "a_n.db-shm", ".sessionactor.lock"),
                *(f".sessionactor.catalog{suffix}" for suffix in ("", "-wal", "-shm")),
            }


async def test_listing_what_a_killed_owner_left(place: Path) -> None:
    script = """
    async def main(directory):
        async with SessionRegistry(directory, catalog=False) as registry:
            await registry.session("a").append("x", {"role": "user", "content": "so near so far"})
            await registry.start("c", name="n")
            os.kill(os.getpid(), 9)

    asyncio.run(main(sys.argv[1]))
    """
    with process(script, place) as owning:
        owning.popen.wait()
    names = sorted(path.name for path in place.iterdir())
    async with SessionRegistry(place, read_only=True) as registry:
        assert await overview(registry) == [
            [("a", 5, 5), ("b", 4, 4), ("c", 0, 0)],
            [("a", 4), ("a", 5), ("b", 4)],
        ]
        assert sorted(path.name for path in place.iterdir()) == names


# copies


async def test_a_backup_beside_an_owner_and_beside_nobody(tmp_path: Path) -> None:
    with writing(tmp_path / "there") as writer:
        for n in range(1, 4):
            await do(writer, "append", "x", says(n))
        async with SessionRegistry(tmp_path / "there", read_only=True) as registry:
            names = sorted(os.listdir(tmp_path / "there"))
            (tmp_path / "beside-owner").mkdir()
            await registry.session("a").backup(tmp_path / "beside-owner" / "a_n.db")
            assert sorted(os.listdir(tmp_path / "there")) == names
        assert writer.end() == 0
    before = listing(tmp_path / "there")
    async with SessionRegistry(tmp_path / "there", read_only=True) as registry:
        (tmp_path / "beside-nobody").mkdir()
        await registry.session("a").backup(tmp_path / "beside-nobody" / "a_n.db")
    assert listing(tmp_path / "there") == before
    for name in ("beside-owner", "beside-nobody"):
        async with SessionRegistry(tmp_path / name) as registry:
            assert contents(await registry.session("a").messages()) == [1, 2, 3]


# what it holds


async def test_reading_many_sessions_holds_nothing(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as owning:
        for n in range(60):
            await (await owning.start(f"s{n}")).append("x", says(n))
    descriptors = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    async with SessionRegistry(tmp_path, read_only=True, max_active=100) as registry:
        await registry.session("s0").messages()
        before = len(os.listdir(descriptors))
        for n in range(60):
            assert contents(await registry.session(f"s{n}").messages()) == [n]
        assert registry.statistics().active == 60
        assert len(os.listdir(descriptors)) == before


async def test_nobody_is_asked_twice_who_fails(place: Path) -> None:
    async with SessionRegistry(place, read_only=True) as registry:
        answers = await asyncio.gather(
            *(registry.session(one).messages() for one in ("a", "no", "b", "no")),
            return_exceptions=True,
        )
        assert [isinstance(answer, SessionError) for answer in answers] == [
            *(False, True, False, True)
        ]
