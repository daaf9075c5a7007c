"""Files of a directory that are not ours disturb nobody, and nobody touches them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessionactor import (
    SchemaVersionError,
    SessionExistsError,
    SessionNotFoundError,
    SessionRegistry,
    StorageError,
)
from sessionactor._schema import as_wal, image

HELLO = {"role": "user", "content": "hello"}


def text(directory: Path) -> None:
    (directory / "x_y.db").write_text("not a database\n")


def empty(directory: Path) -> None:
    (directory / "x_y.db").touch()


def cut_header(directory: Path) -> None:
    (directory / "x_y.db").write_bytes(b"SQLite format 3\0" + b"\0" * 20)


def a_directory(directory: Path) -> None:
    (directory / "x_y.db").mkdir()
    (directory / "x_y.db" / "inside").write_text("kept")


def link_out(directory: Path) -> None:
    outside = directory.parent / "outside_session.db"
    outside.write_bytes(as_wal(image("x", "y", 0)))  # a session, but not of this directory
    (directory / "x_y.db").symlink_to(outside)


def link_to_nowhere(directory: Path) -> None:
    (directory / "x_y.db").symlink_to(directory / "nowhere")


def fifo(directory: Path) -> None:
    os.mkfifo(directory / "x_y.db")


def other_program(directory: Path, entry: str = "x_y.db") -> None:
    with closing(sqlite3.connect(directory / entry)) as connection, connection:
        connection.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, body TEXT)")
        connection.execute("INSERT INTO messages (body) VALUES ('theirs')")


def other_program_with_a_log(directory: Path) -> None:
    """As its files are while it runs: what it wrote is in the log only."""
    with closing(sqlite3.connect(directory.parent / "theirs.db")) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        with connection:
            connection.execute("CREATE TABLE notes(body)")
            connection.execute("INSERT INTO notes VALUES ('theirs')")
        for suffix in ("", "-wal", "-shm"):
            shutil.copyfile(directory.parent / f"theirs.db{suffix}", directory / f"x_y.db{suffix}")


FOREIGN: dict[str, Callable[[Path], None]] = {
    "text": text,
    "empty": empty,
    "cut header": cut_header,
    "directory": a_directory,
    "link out": link_out,
    "link to nowhere": link_to_nowhere,
    "fifo": fifo,
    "database of another program": other_program,
    "database of another program with a log": other_program_with_a_log,
}


def state(directory: Path) -> dict[str, Any]:
    """Everything about the files named `x_y.db…` and what they link to."""
    found: dict[str, Any] = {}
    for path in (*directory.glob("x_y.db*"), *directory.parent.glob("outside_session.db*")):
        status = path.lstat()
        content: Any = None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif path.is_symlink():
            content = os.readlink(path)
        elif path.is_dir():
            content = sorted(os.listdir(path))
        found[path.name] = (status.st_mode, status.st_ino, status.st_mtime_ns, content)
    return found


@pytest.fixture(params=FOREIGN.values(), ids=FOREIGN)
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    made = tmp_path / "sessions"
    made.mkdir()
    request.param(made)
    return made


async def test_a_foreign_file_is_no_session(directory: Path) -> None:
    before = state(directory)
    assert before
    async with SessionRegistry(directory) as registry:
        assert await registry.find("*") == []
        assert not await registry.exists("x")
        assert registry.whereis("x") is None
        assert not await registry.delete("x")
        for call in (
            lambda: registry.find_by_id("x"),
            lambda: registry.find_by_name("y"),
            lambda: registry.stop("x"),
            lambda: registry.session("x").messages(),
            lambda: registry.session("x").append("one", HELLO),
            lambda: registry.session("x").rename("z"),
        ):
            with pytest.raises(SessionNotFoundError):
                await call()
    assert state(directory) == before


async def test_a_foreign_file_is_never_replaced_by_a_new_session(directory: Path) -> None:
    before, entries = state(directory), set(os.listdir(directory))
    async with SessionRegistry(directory) as registry:
        with pytest.raises(SessionExistsError, match=r"x_y\.db"):
            await registry.start("x", name="y")
        assert state(directory) == before
        assert await registry.find("*") == []
        assert registry.statistics().active == 0
    ours = {".sessionactor.lock", ".sessionactor.catalog"}
    assert set(os.listdir(directory)) == {*entries, *ours}


async def test_sessions_live_beside_a_foreign_file_even_one_of_the_same_id(
    directory: Path,
) -> None:
    before = state(directory)
    for _ in range(2):
        async with SessionRegistry(directory) as registry:
            same_id = await registry.start("x", name="mine")
            same_name = await registry.start("other", name="y")
            await same_id.append("one", HELLO)
            await same_name.append("one", HELLO)
            assert [file.session_id for file in await registry.find("*")] == ["x", "other"]
            assert (await registry.find_by_id("x")).name == "mine"
            assert (await registry.find_by_name("y")).session_id == "other"
            with pytest.raises(SessionExistsError):
                await same_id.rename("y")
            assert state(directory) == before
            await registry.stop("x")
            assert same_id.name == "mine"
            assert len(await same_id.messages()) == len(await same_name.messages())
    async with SessionRegistry(directory) as registry:
        assert len(await registry.session("x").messages()) == 2
        assert await registry.delete("x")
        assert not await registry.exists("x")
    assert state(directory) == before


async def test_a_foreign_file_that_appears_later_disturbs_nobody_either(
    tmp_path: Path,
) -> None:
    for number, make in enumerate(FOREIGN.values()):
        directory = tmp_path / str(number) / "sessions"
        directory.mkdir(parents=True)
        async with SessionRegistry(directory) as registry:
            session = await registry.start("x", name="mine")
            make(directory)
            before = state(directory)
            assert [file.name for file in await registry.find("*")] == ["mine"]
            await registry.stop("x")
            assert await session.append("one", HELLO) == 1
            with pytest.raises(SessionNotFoundError):
                await registry.find_by_name("y")
        assert state(directory) == before


# a newer version


async def newer_version(directory: Path) -> None:
    async with SessionRegistry(directory) as registry:
        await (await registry.start("x", name="y")).append("one", HELLO)
    with closing(sqlite3.connect(directory / "x_y.db")) as connection, connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute("ALTER TABLE messages ADD COLUMN from_the_future")
        connection.execute(f"PRAGMA user_version = {version + 1}")


async def test_a_file_of_a_newer_version_is_refused_by_name_and_left_alone(
    tmp_path: Path,
) -> None:
    await newer_version(tmp_path)
    before = state(tmp_path)
    async with SessionRegistry(tmp_path) as registry:
        for call in (
            lambda: registry.start("x"),
            lambda: registry.start("x", name="y"),
            lambda: registry.session("x").messages(),
            lambda: registry.session("x").append("one", HELLO),
            lambda: registry.session("x").rename("z"),
        ):
            with pytest.raises(SchemaVersionError, match=r"x_y\.db.*newer") as caught:
                await call()
            assert isinstance(caught.value, StorageError)
            assert caught.value.path == tmp_path / "x_y.db"
            assert caught.value.session_id == "x"
        assert await registry.exists("x")
        assert await (await registry.start("other")).append("one", HELLO) == 1
    assert state(tmp_path) == before


async def test_a_file_that_becomes_newer_while_its_session_is_passive_is_refused(
    tmp_path: Path,
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("x", name="y")
        await registry.stop("x")
        with closing(sqlite3.connect(tmp_path / "x_y.db")) as connection, connection:
            connection.execute("PRAGMA user_version = 1000")
        before = state(tmp_path)
        with pytest.raises(SchemaVersionError):
            await session.messages()
    assert state(tmp_path) == before


async def test_a_damaged_session_file_is_a_storage_error_and_left_in_place(
    tmp_path: Path,
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("x", name="y")
        await session.append("one", HELLO)
        await registry.start("other", name="n")
        await registry.stop("x")
        whole = (tmp_path / "x_y.db").read_bytes()
        (tmp_path / "x_y.db").write_bytes(whole[:100] + b"\xa5" * (len(whole) - 100))
        with pytest.raises(StorageError) as caught:
            await session.messages()
        assert caught.value.path == tmp_path / "x_y.db"
        assert caught.value.session_id == "x"
        assert caught.value.__cause__ is not None
        assert [entry for entry in os.listdir(tmp_path) if entry.startswith("x_")] == ["x_y.db"]
        assert await registry.session("other").append("one", HELLO) == 1
        (tmp_path / "x_y.db").write_bytes(whole)
        assert len(await session.messages()) == 1


async def test_a_damaged_file_whose_name_was_cut_does_not_hide_the_others(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        damaged = await registry.start("x" * 200, name="n" * 200)
        await registry.start("other", name="n")
        path = damaged.path
    assert path is not None
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xa5" * (len(whole) - 100))
    async with SessionRegistry(tmp_path) as registry:
        assert "other" in [file.session_id for file in await registry.find("*")]
        assert (await registry.find_by_name("n")).session_id == "other"
        assert await registry.session("other").append("one", HELLO) == 1
        with pytest.raises(StorageError):
            await registry.session("x" * 200).messages()
