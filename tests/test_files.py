from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from entries import entries
from processes import output_of, process, reader
from waiting import eventually

from sessionactor import (
    Session,
    SessionBusyError,
    SessionNotFoundError,
    SessionRegistry,
    StorageError,
)

HELLO = {"role": "user", "content": "hello"}


def say(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


async def contents(session: Session) -> list[Any]:
    return [row.message["content"] for row in await session.messages()]


def query(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


# the format


async def test_a_session_file_is_a_sqlite_database_with_the_tables_of_the_design(
    tmp_path: Path,
) -> None:
    from sessionactor._schema import APPLICATION_ID, VERSION

    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="n")
        await session.append("one", HELLO)
        await session.append("one", {"role": "summary"})
        await session.save_metadata({"k": "v", "none": None})
    path = tmp_path / "a_n.db"
    columns = query(path, "PRAGMA table_info(messages)")
    assert [column[1:6] for column in columns[:5]] == [
        ("id", "INTEGER", 0, None, 1),
        ("agent_id", "TEXT", 1, None, 0),
        ("data", "BLOB", 1, None, 0),
        ("inserted_at", "INTEGER", 1, None, 0),
        ("checkpoint", "INTEGER", 1, "0", 0),
    ]
    columns = query(path, "PRAGMA table_info(metadata)")
    assert [column[1:3] for column in columns[:2]] == [("key", "TEXT"), ("value", "TEXT")]
    rows = query(
        path, "SELECT id, agent_id, typeof(data), typeof(inserted_at), checkpoint FROM messages"
    )
    assert rows == [(1, "one", "blob", "integer", 0), (2, "one", "blob", "integer", 1)]
    assert query(path, "SELECT key, value FROM metadata ORDER BY key") == [
        ("k", "v"),
        ("none", None),
    ]
    assert query(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert query(path, "PRAGMA user_version") == [(VERSION,)]
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert APPLICATION_ID != 0 != VERSION
    tables = [name for (name,) in query(path, "SELECT name FROM sqlite_schema")]
    assert "sqlite_sequence" not in tables  # no AUTOINCREMENT


async def test_times_in_the_file_are_microseconds_since_the_epoch(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="n")
        await session.append("one", HELLO)
        (row,) = await session.messages()
    ((stored,),) = query(tmp_path / "a_n.db", "SELECT inserted_at FROM messages")
    assert stored == round(row.inserted_at.timestamp() * 1e6)


async def test_connections_wait_for_foreign_locks_and_shut_out_no_readers(
    tmp_path: Path,
) -> None:
    from sessionactor._store import open_store

    pragmas: dict[str, Any] = {}

    async def spying(opening: Any) -> Any:
        store: Any = await open_store(opening)
        for pragma in ("busy_timeout", "journal_mode", "locking_mode"):
            rows = await store._database.execute_fetchall(f"PRAGMA {pragma}")
            ((pragmas[pragma],),) = rows
        return store

    async with SessionRegistry(tmp_path, open_store=spying) as registry:
        await registry.start("a")
    assert pragmas["busy_timeout"] >= 1000
    assert pragmas["journal_mode"] == "wal"
    assert pragmas["locking_mode"] == "normal"


def test_migrations_happen_in_one_transaction_or_not_at_all() -> None:
    from sessionactor._schema import MIGRATIONS, migrate

    def version() -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    first = len(MIGRATIONS)
    later = "CREATE TABLE later(x);\n"
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        assert version() == first
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, first, (*MIGRATIONS, later, "CREATE TABLE messages(again);\n"))
        assert version() == first
        assert connection.execute("PRAGMA table_info(later)").fetchall() == []
        assert not connection.in_transaction
        migrate(connection, first, (*MIGRATIONS, later))
        assert version() == first + 1
        assert connection.execute("PRAGMA table_info(later)").fetchall() != []


def test_an_older_sqlite_than_the_oldest_supported_is_refused_at_import() -> None:
    said = output_of(
        """
        import subprocess
        script = (
            "import sqlite3; sqlite3.sqlite_version_info = (3, 7, 0);"
            "import sessionactor"
        )
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        say([run.returncode, run.stderr.splitlines()[-1]])
        """
    )
    assert said.startswith("[1, ")
    assert "ImportError" in said
    assert "SQLite" in said


async def test_removals_are_logged_with_their_revision(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="n")
        await session.extend("one", [HELLO] * 5)
        await session.truncate_from(4)
        await session.append("one", HELLO)
        await session.truncate_from(2)
        await session.truncate_from(99)  # removes nothing
    rows = query(tmp_path / "a_n.db", "SELECT revision, first_id FROM removals ORDER BY revision")
    assert rows == [(2, 4), (4, 2)]


@pytest.mark.parametrize("name", ["a?b#c%41 d&e=f", "ünï 🥭", "x.db-wal", " ", "-"])
async def test_the_directory_may_have_any_name(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    for n in range(1, 3):
        async with SessionRegistry(directory) as registry:
            session = await registry.start("a?b#c%41", name="n?m#%41")
            assert await session.append("one", HELLO) == n
            assert session.path is not None
            assert session.path.parent == directory
            await session.rename(f"n{n}?")
            await session.rename("n?m#%41")
            assert len(await session.messages()) == n
    assert os.listdir(tmp_path) == [name]
    assert len(entries(directory)) == 1


# leaving nothing behind


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_no_log_is_left_when_nobody_else_reads(tmp_path: Path, durability: Any) -> None:
    async with SessionRegistry(tmp_path, durability=durability, max_active=2) as registry:
        for session_id in "abc":
            session = await registry.start(session_id, name="n")
            await session.extend("one", [HELLO] * 10)
        assert "a_n.db-wal" not in entries(tmp_path)  # crowded out
        await registry.stop("b")
        assert "b_n.db-wal" not in entries(tmp_path)
        assert "b_n.db-shm" not in entries(tmp_path)
    assert entries(tmp_path) == ["a_n.db", "b_n.db", "c_n.db"]
    for session_id in "abc":
        assert query(tmp_path / f"{session_id}_n.db", "SELECT count(*) FROM messages") == [(10,)]


async def test_other_processes_read_a_live_file_at_any_time(tmp_path: Path) -> None:
    script = """
        for _ in range(30):
            connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
            ids = [row[0] for row in connection.execute("SELECT id FROM messages ORDER BY id")]
            ok = connection.execute("PRAGMA integrity_check").fetchone()[0]
            connection.close()
            say([len(ids), ids == list(range(1, len(ids) + 1)), ok])
    """
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="n")
        await session.append("one", HELLO)
        reading = asyncio.create_task(asyncio.to_thread(output_of, script, session.path))
        while not reading.done():
            await asyncio.gather(*(session.append("one", HELLO) for _ in range(10)))
        looks = [json.loads(line) for line in (await reading).splitlines()]
        counts = [count for count, _, _ in looks]
        assert len(looks) == 30
        assert all(complete and ok == "ok" for _, complete, ok in looks)
        assert counts == sorted(counts)
        assert len(await session.messages()) >= counts[-1] >= 1


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_a_log_cut_off_anywhere_leaves_a_prefix_that_goes_on(
    tmp_path: Path, durability: Any
) -> None:
    """What a loss of power may leave: of the log, as much as reached the disk."""
    async with SessionRegistry(tmp_path / "d", durability=durability) as registry:
        session = await registry.start("a", name="n")
        for n in range(1, 31):
            await session.append("one", say(n), key=str(n))
        whole = (tmp_path / "d" / "a_n.db").read_bytes()
        log = (tmp_path / "d" / "a_n.db-wal").read_bytes()
    seen = set()
    for number, size in enumerate(range(0, len(log) + 1, max(1, len(log) // 40))):
        directory = tmp_path / f"cut{number}"
        directory.mkdir()
        (directory / "a_n.db").write_bytes(whole)
        (directory / "a_n.db-wal").write_bytes(log[:size])
        async with SessionRegistry(directory) as registry:
            session = registry.session("a")
            kept = len(await session.messages())
            assert await contents(session) == list(range(1, kept + 1))
            assert await session.revision() == kept
            for n in range(1, 31):  # callers who have had no answer try again
                assert await session.append("one", say(n), key=str(n)) == n
            assert await contents(session) == list(range(1, 31))
            seen.add(kept)
    assert 0 in seen
    assert len(seen) > 10


# a foreign reader


async def test_a_foreign_reader_keeps_the_log_and_nothing_is_lost(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="n")
        await session.extend("one", [say(1), say(2)])
        with reader(tmp_path / "a_n.db") as foreign:
            await session.append("one", say(3))
            assert await registry.stop("a") is True
            assert "a_n.db-wal" in entries(tmp_path)
            assert await session.append("one", say(4)) == 4
            await registry.aclose()
            assert "a_n.db-wal" in entries(tmp_path)
            await registry.open()
            assert await contents(session) == [1, 2, 3, 4]
            foreign.tell()
            assert foreign.hear() == "2"  # what it saw when it began
            assert foreign.end() == 0
        assert await session.append("one", say(5)) == 5
    assert entries(tmp_path) == ["a_n.db"]
    async with SessionRegistry(tmp_path) as registry:
        assert await contents(registry.session("a")) == [1, 2, 3, 4, 5]


async def test_a_session_that_a_foreign_process_reads_cannot_be_renamed(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="old")
        await session.append("one", say(1))
        with reader(tmp_path / "a_old.db") as foreign:
            await session.append("one", say(2))
            with pytest.raises(SessionBusyError) as caught:
                await session.rename("new")
            assert caught.value.session_id == "a"
            assert session.name == "old"
            assert [entry for entry in entries(tmp_path) if "new" in entry] == []
            assert await contents(session) == [1, 2]
            assert await session.append("one", say(3)) == 3
            assert [file.name for file in await registry.find("*")] == ["old"]
            foreign.tell()
            assert foreign.hear() == "1"
            assert foreign.end() == 0
        await session.rename("new")
        assert await contents(session) == [1, 2, 3]
    assert entries(tmp_path) == ["a_new.db"]


async def test_a_session_that_a_foreign_process_reads_can_be_deleted(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="n")
        await session.extend("one", [say(1), say(2)])
        with reader(tmp_path / "a_n.db") as foreign:
            await session.append("one", say(3))
            assert await registry.delete("a") is True
            assert entries(tmp_path) == []
            again = await registry.start("a", name="n")
            assert await again.messages() == []
            assert await again.append("one", say("new")) == 1
            foreign.tell()
            assert foreign.hear() == "2"
            assert foreign.end() == 0
        assert await contents(again) == ["new"]
    assert query(tmp_path / "a_n.db", "PRAGMA integrity_check") == [("ok",)]


# orphans


async def ghost_log(directory: Path, entry: str) -> Path:
    """A log of a session of that file, full of messages that were deleted with it."""
    session_id, name = entry.removesuffix(".db").split("_")
    kept = directory / "ghost-wal"
    async with SessionRegistry(directory / "before") as registry:
        session = await registry.start(session_id, name=name)
        await session.extend("ghost", [say("ghost")] * 3)
        shutil.copyfile(f"{session.path}-wal", kept)
    return kept


async def test_such_a_log_beside_a_new_file_would_bring_its_messages_back(
    tmp_path: Path,
) -> None:
    ghost = await ghost_log(tmp_path, "a_n.db")
    async with SessionRegistry(tmp_path / "d") as registry:
        await registry.start("a", name="n")
    shutil.copyfile(ghost, tmp_path / "d" / "a_n.db-wal")
    with closing(sqlite3.connect(tmp_path / "d" / "a_n.db")) as connection:
        count = connection.execute("SELECT count(*) FROM messages").fetchone()
    assert count == (3,)


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_an_orphan_log_beside_a_new_file_is_not_replayed_into_it(
    tmp_path: Path, durability: Any
) -> None:
    ghost = await ghost_log(tmp_path, "a_n.db")
    directory = tmp_path / "d"
    async with SessionRegistry(directory, durability=durability) as registry:
        shutil.copyfile(ghost, directory / "a_n.db-wal")
        (directory / "a_n.db-shm").write_bytes(b"\0" * 32768)
        session = await registry.start("a", name="n")
        assert await session.messages() == []
        assert await session.append("one", say("new")) == 1
    assert entries(directory) == ["a_n.db"]
    assert query(directory / "a_n.db", "SELECT agent_id FROM messages") == [("one",)]
    assert query(directory / "a_n.db", "PRAGMA integrity_check") == [("ok",)]


async def test_an_orphan_log_at_the_new_name_of_a_renamed_file_is_not_replayed_into_it(
    tmp_path: Path,
) -> None:
    ghost = await ghost_log(tmp_path, "a_new.db")
    directory = tmp_path / "d"
    async with SessionRegistry(directory) as registry:
        session = await registry.start("a", name="old")
        await session.append("one", say("mine"))
        shutil.copyfile(ghost, directory / "a_new.db-wal")
        await session.rename("new")
        assert await contents(session) == ["mine"]
        assert await session.append("one", say("more")) == 2
    assert query(directory / "a_new.db", "SELECT agent_id FROM messages") == [("one",)] * 2


async def test_a_log_without_its_database_is_no_session(tmp_path: Path) -> None:
    ghost = await ghost_log(tmp_path, "a_n.db")
    directory = tmp_path / "d"
    directory.mkdir()
    shutil.copyfile(ghost, directory / "a_n.db-wal")
    (directory / "a_n.db-shm").touch()
    async with SessionRegistry(directory) as registry:
        assert await registry.find("*") == []
        assert not await registry.exists("a")
        with pytest.raises(SessionNotFoundError):
            await registry.session("a").messages()
        assert await registry.delete("a") is False
        session = await registry.start("a", name="n")
        assert await session.messages() == []
    assert entries(directory) == ["a_n.db"]


# creating and removing


class Trace:
    """What is done to files, in order, each with what is in the directory at that moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.steps: list[tuple[str, list[str]]] = []
        self._directory = directory
        for name in ("fsync", "link", "rename", "replace", "unlink"):
            monkeypatch.setattr(os, name, self._traced(name, getattr(os, name)))

    def _traced(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def traced(*arguments: Any, **more: Any) -> Any:
            what = name
            if name == "fsync":
                mode = os.fstat(arguments[0]).st_mode
                what = "sync directory" if stat.S_ISDIR(mode) else "sync file"
            elif name == "unlink":
                what = f"remove {os.path.basename(arguments[0])}"
            self.steps.append((what, entries(self._directory)))
            return call(*arguments, **more)

        return traced


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_a_new_session_is_synced_before_it_is_visible_and_its_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Any
) -> None:
    async with SessionRegistry(tmp_path, durability=durability, catalog=False) as registry:
        trace = Trace(monkeypatch, tmp_path)
        await registry.start("a", name="n")
        invisible = [what for what, there in trace.steps if "a_n.db" not in there]
        visible = [what for what, there in trace.steps if "a_n.db" in there]
        assert invisible.index("sync file") < len(invisible) - 1
        assert "remove a_n.db-wal" in invisible
        assert invisible[-1] in ("link", "rename")
        assert visible[-1] == "sync directory"
        monkeypatch.undo()


async def test_orphan_logs_are_gone_for_good_before_a_file_gets_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(tmp_path, catalog=False) as registry:
        session = await registry.start("a", name="old")
        for entry in ("b_n.db-wal", "a_new.db-wal"):
            (tmp_path / entry).write_bytes(b"of a session that was deleted")
        trace = Trace(monkeypatch, tmp_path)
        await registry.start("b", name="n")
        await session.rename("new")
        done = [what for what, _ in trace.steps]
        for orphan, named in (("b_n.db-wal", "link"), ("a_new.db-wal", "rename")):
            between = done[done.index(f"remove {orphan}") : done.index(named)]
            assert between[-1] == "sync directory"
        monkeypatch.undo()


async def test_a_directory_that_is_made_survives_a_power_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), real(fd)))
    async with SessionRegistry(tmp_path / "a" / "b", catalog=False):
        assert synced == [os.stat(tmp_path).st_ino, os.stat(tmp_path / "a").st_ino]
    async with SessionRegistry(tmp_path / "a" / "b", catalog=False):
        assert len(synced) == 2


async def test_a_removal_that_is_cut_short_leaves_a_whole_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, directory = tmp_path / "elsewhere", tmp_path / "d"
    directory.mkdir()
    async with SessionRegistry(elsewhere) as registry:
        session = await registry.start("a", name="n")
        await session.extend("one", [say("kept")] * 3)
        for entry in ("a_n.db", "a_n.db-wal"):  # as when its owner is killed
            shutil.copyfile(elsewhere / entry, directory / entry)

    def cut_short(path: Any) -> None:
        if os.fspath(path).endswith(".db"):
            raise OSError("the power goes")
        os.remove(path)

    async with SessionRegistry(directory, catalog=False) as registry:
        monkeypatch.setattr(os, "unlink", cut_short)
        with pytest.raises(StorageError):
            await registry.delete("a")
        monkeypatch.undo()
        assert await contents(registry.session("a")) == ["kept"] * 3


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_removal_takes_the_logs_first_then_the_database_and_syncs_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Any
) -> None:
    async with SessionRegistry(tmp_path, durability=durability, catalog=False) as registry:
        await registry.start("a", name="n")
        trace = Trace(monkeypatch, tmp_path)
        await registry.delete("a")
        done = [what for what, _ in trace.steps if what != "remove a_n.db-journal"]
        assert done == [
            "remove a_n.db-wal",
            "remove a_n.db-shm",
            "remove a_n.db",
            "sync directory",
        ]
        monkeypatch.undo()


@pytest.mark.parametrize("step", ["fsync", "link", "unlink"])
async def test_a_process_that_dies_while_it_creates_leaves_no_half_made_session(
    tmp_path: Path, step: str
) -> None:
    script = """
        import signal
        from pathlib import Path

        async def main():
            async with SessionRegistry(sys.argv[1], catalog=False) as registry:
                real = getattr(os, sys.argv[2])
                def die(*arguments, **more):
                    if sys.argv[2] == "unlink" and not str(arguments[0]).endswith(".draft"):
                        return real(*arguments, **more)
                    os.kill(os.getpid(), signal.SIGKILL)
                setattr(os, sys.argv[2], die)
                await registry.start("a", name="n")

        asyncio.run(main())
    """
    with process(script, tmp_path, step) as creator:
        assert creator.end() == -9
    made = "a_n.db" in entries(tmp_path)
    assert made == (step == "unlink")
    assert len(entries(tmp_path)) == 1 + made  # with the draft
    async with SessionRegistry(tmp_path) as registry:
        assert entries(tmp_path) == ["a_n.db"] * made
        assert len(await registry.find("*")) == made
        assert await registry.exists("a") == made
        session = await registry.start("a", name="n")
        assert await session.messages() == []
        assert await session.append("one", HELLO) == 1
    assert entries(tmp_path) == ["a_n.db"]
    assert query(tmp_path / "a_n.db", "PRAGMA integrity_check") == [("ok",)]


async def test_the_draft_of_a_living_creator_is_left_to_it(tmp_path: Path) -> None:
    script = """
        async def main():
            async with SessionRegistry(sys.argv[1], catalog=False) as registry:
                real = os.link
                def pause(*arguments, **more):
                    say("about to link")
                    wait()
                    return real(*arguments, **more)
                os.link = pause
                session = await registry.start("a", name="n")
                await session.append("one", {"n": 1})
                say("made")

        asyncio.run(main())
    """
    with process(script, tmp_path) as creator:
        assert "link" in creator.hear()
        async with SessionRegistry(tmp_path) as registry:
            assert await registry.find("*") == []
            assert not await registry.exists("a")
            creator.tell()
            assert "made" in creator.hear()
            assert creator.end() == 0
            (row,) = await registry.session("a").messages()
            assert row.message == {"n": 1}
    assert entries(tmp_path) == ["a_n.db"]


async def test_the_draft_of_another_registry_of_this_process_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    link = os.link

    def pausing(*arguments: Any, **more: Any) -> None:
        reached.set()
        assert go_on.wait(20)
        link(*arguments, **more)

    monkeypatch.setattr(os, "link", pausing)
    async with SessionRegistry(tmp_path) as first:
        starting = asyncio.create_task(first.start("a", name="n"))
        await eventually(reached.is_set)
        async with SessionRegistry(tmp_path) as second:
            assert await second.find("*") == []
            go_on.set()
            session = await starting
            assert await session.append("one", HELLO) == 1
            assert len(await second.find("*")) == 1


async def test_a_creation_that_fails_leaves_nothing_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(tmp_path) as registry:

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "link", full)
        with pytest.raises(OSError, match="No space") as caught:
            await registry.start("a", name="n")
        assert getattr(caught.value, "session_id", None) == "a"
        assert entries(tmp_path) == []
        assert not await registry.exists("a")
        monkeypatch.undo()
        assert await (await registry.start("a", name="n")).append("one", HELLO) == 1
