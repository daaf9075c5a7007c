"""Files that are opened beside their owner while they are moved or removed."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from entries import entries
from processes import output_of, process, reader
from waiting import PATIENCE_S

from sessionactor import (
    SessionBusyError,
    SessionNotFoundError,
    SessionRegistry,
    StorageError,
)
from sessionactor import _files as files
from sessionactor import _opening as opening
from sessionactor import _presence as presence
from sessionactor import _schema as schema
from sessionactor._copying import back_up
from sessionactor._sql import Connection
from sessionactor._store import Store, open_store
from sessionactor._takeover import Origin


def says(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


async def test_a_file_that_is_opened_while_it_is_removed_leaves_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first read makes a log; the name that it belongs to is just going."""
    place = tmp_path / "d"
    remove_side_files = files.remove_side_files
    raised: list[BaseException] = []

    async with SessionRegistry(place, catalog=False) as registry:
        session = await registry.start("s", name="n")
        await session.append("a", says(1))
        info: Any = await session.info()
        created_at = round(info.created_at.timestamp() * 1e6)
        origin = Origin("s", created_at, session.path)

        def copy() -> None:
            try:
                back_up(origin, tmp_path / "copy", lambda: False)
            except SessionNotFoundError as error:
                raised.append(error)

        copying = threading.Thread(target=copy)

        def removing(path: Path) -> None:
            remove_side_files(path)
            copying.start()
            copying.join(0.2)  # long enough to open the file, if nothing were in the way

        with monkeypatch.context() as patch:
            patch.setattr(files, "remove_side_files", removing)
            await registry.delete("s")
        await asyncio.to_thread(copying.join, PATIENCE_S)
        assert len(raised) == 1
    assert entries(place) == []
    assert not (tmp_path / "copy").exists()


OPENED = """
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode={sys.argv[2]}", uri=True, timeout=60)
say("open")  # but SQLite looks for a log, and makes one, only when it reads
wait()
try:
    say(connection.execute("SELECT count(*) FROM messages").fetchone()[0])
except sqlite3.Error as error:
    say(type(error).__name__)
connection.close()
"""


@pytest.mark.parametrize("mode", ["ro", "rw"])
@pytest.mark.parametrize("what", ["rename", "delete"])
async def test_what_another_process_opens_while_it_goes_leaves_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, mode: str
) -> None:
    async with SessionRegistry(tmp_path, catalog=False) as registry:
        session = await registry.start("s", name="old")
        path = session.path
        await registry.stop("s")
        with process(OPENED, path, mode) as other:
            other.hear()
            said: list[str] = []
            heard = threading.Thread(target=lambda: said.append(other.hear()))
            named = f"remove_{'orphans' if what == 'rename' else 'side_files'}"
            before: Callable[[Path], bool] = getattr(files, named)

            def last_step(path: Path) -> bool:
                """Nothing comes after this but the step that takes the name away."""
                found = before(path)
                if not heard.ident:
                    other.tell()
                    heard.start()
                    heard.join(0.3)  # long enough to read, if nothing were in the way
                return found

            monkeypatch.setattr(files, named, last_step)
            await (session.rename("new") if what == "rename" else registry.delete("s"))
            await asyncio.to_thread(heard.join, PATIENCE_S)
            assert said == ['"OperationalError"']
            assert await asyncio.to_thread(other.end) == 0
    assert entries(tmp_path) == (["s_new.db"] if what == "rename" else [])


async def test_what_is_read_elsewhere_is_removed_all_the_same(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path, catalog=False) as registry:
        session = await registry.start("s", name="n")
        await session.append("a", says(1))
        assert session.path is not None
        with reader(session.path) as other:
            assert await registry.delete("s") is True
            assert entries(tmp_path) == []
            other.tell()
            assert await asyncio.to_thread(other.hear) == "1"
            assert await asyncio.to_thread(other.end) == 0
    assert entries(tmp_path) == []


async def test_a_file_that_is_opened_for_nobody_any_more_is_removed_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opened it was given up, but its thread still has it open, and may make a log."""
    reached, gate = threading.Event(), threading.Event()
    prepare = opening._prepare

    def slow(*arguments: Any) -> Any:
        reached.set()
        assert gate.wait(PATIENCE_S)
        return prepare(*arguments)

    async def impatient(wanted: opening.Opening) -> Store:
        task = asyncio.ensure_future(open_store(wanted))
        await asyncio.to_thread(reached.wait, PATIENCE_S)
        task.cancel()
        await asyncio.wait([task])
        raise StorageError("given up", session_id=wanted.session_id)

    async with SessionRegistry(tmp_path, catalog=False) as registry:
        await registry.start("s", name="n")
    async with SessionRegistry(tmp_path, catalog=False, open_store=impatient) as registry:
        with monkeypatch.context() as patch:
            patch.setattr(opening, "_prepare", slow)
            with pytest.raises(StorageError, match="given up"):
                await registry.session("s").messages()
            deleting = asyncio.create_task(registry.delete("s"))
            await asyncio.wait([deleting], timeout=0.2)  # long enough, if nothing were in the way
            assert not deleting.done()
            gate.set()
            assert await deleting is True
    assert entries(tmp_path) == []


def test_of_connections_that_close_at_once_the_last_one_leaves_no_log(tmp_path: Path) -> None:
    """Without an order among them, in every twelfth try each takes the other for a reader."""
    path = tmp_path / "s_n.db"
    files.write(schema.as_wal(schema.image("s", "n", 0)), path)
    _, key = presence.enter(path)

    def connected() -> Connection:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, factory=Connection
        )
        connection.key = key
        connection.execute("SELECT count(*) FROM messages").fetchone()
        return connection

    both = threading.Barrier(2)

    def close(connection: Connection) -> None:
        both.wait()
        connection.close()

    with ThreadPoolExecutor(2) as pool:
        for _ in range(300):
            owner, reader = connected(), connected()
            owner.execute("UPDATE session SET revision = revision + 1")
            list(pool.map(close, (owner, reader)))
            assert entries(tmp_path) == ["s_n.db"]
    presence.leave(key)


async def test_owner_catalog_and_copies_close_a_file_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "d"
    async with SessionRegistry(place, catalog=False) as registry:
        session = await registry.start("s", name="n")
        await session.append("a", says(1))
    alone = presence.closing
    closed: list[tuple[tuple[int, int], str]] = []

    def noted(key: tuple[int, int]) -> AbstractContextManager[None]:
        closed.append((key, threading.current_thread().name))
        return alone(key)

    monkeypatch.setattr(presence, "closing", noted)
    async with SessionRegistry(place) as registry:
        await registry.sessions()  # what no catalog knows is read
        await registry.session("s").backup(tmp_path / "copy")
        await registry.stop("s")
    status = (place / "s_n.db").stat()
    assert {key for key, _ in closed} == {(status.st_dev, status.st_ino)}
    names = [name.rpartition("-")[2].partition("_")[0] for _, name in closed]
    assert len(names) == len({*names}) == 3  # threads of each


async def test_a_rename_waits_for_what_reads_the_file_in_this_process(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path, catalog=False) as registry:
        session = await registry.start("s", name="old")
        await session.append("a", says(1))
        path = session.path
        assert path is not None
        with presence.settling():
            _, key = presence.enter(path)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            connection.execute("BEGIN")
            connection.execute("SELECT * FROM messages").fetchall()
        with closing(connection):
            await session.append("a", says(2))
            renaming = asyncio.ensure_future(session.rename("new"))
            done, _ = await asyncio.wait([renaming], timeout=0.1)  # were it not to wait, it failed
            assert done == set()
            assert path.exists()
        presence.leave(key)
        await renaming
        assert [row.message["content"] for row in await session.messages()] == [1, 2]
        assert session.name == "new"
    assert entries(tmp_path) == ["s_new.db"]


LOCKED = """
import fcntl
descriptor = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, (1 << 30) + 2)
    say("free")
except OSError:
    say("locked")
"""


async def test_a_rename_that_gives_up_leaves_who_reads_the_file_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing any descriptor of a file drops all locks that the process has on it."""
    monkeypatch.setattr(files, "BUSY_TIMEOUT_S", 0.05)
    async with SessionRegistry(tmp_path, catalog=False) as registry:
        session = await registry.start("s", name="old")
        path = session.path
        assert path is not None
        await registry.stop("s")
        _, key = presence.enter(path)
        connection = sqlite3.connect(path, isolation_level=None)
        with closing(connection):
            connection.execute("BEGIN")
            connection.execute("SELECT * FROM messages").fetchall()
            with pytest.raises(SessionBusyError):
                await session.rename("new")
            assert await asyncio.to_thread(output_of, LOCKED, path) == '"locked"'
        presence.leave(key)
        assert await asyncio.to_thread(output_of, LOCKED, path) == '"free"'
        await session.rename("new")
    assert entries(tmp_path) == ["s_new.db"]
