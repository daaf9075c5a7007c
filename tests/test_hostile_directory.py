"""Damaged files, and links that lead out: an error of their own session, and of nobody else."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sessionactor import SessionRegistry, StorageError, checkup
from sessionactor import _names as names

HELLO = {"role": "user", "content": "hello"}


async def two_sessions(directory: Path) -> tuple[Path, Path]:
    """Their files, closed."""
    async with SessionRegistry(directory) as registry:
        one, other = await registry.start("one"), await registry.start("other")
        await one.append("a", HELLO)
        await other.append("a", HELLO)
        assert one.path is not None
        assert other.path is not None
        return one.path, other.path


NO_SESSION = [
    "high_water = 'many'",
    "high_water = x'ff'",
    "created_at = 9223372036854775807",
    "last_at = 'late'",
    "state = 'flying'",
    "agent_alias = x'05'",
    "turn_started_at = 'now'",
    "name = x'00'",
]


@pytest.mark.parametrize("change", NO_SESSION)
async def test_a_session_that_makes_no_sense_is_left_out_alone(tmp_path: Path, change: str) -> None:
    damaged, _ = await two_sessions(tmp_path)
    (tmp_path / names.CATALOG_FILE).unlink()
    with closing(sqlite3.connect(damaged)) as connection, connection:
        connection.execute(f"UPDATE session SET {change}")
    async with SessionRegistry(tmp_path) as registry:
        assert [info.session_id for info in (await registry.sessions()).sessions] == ["other"]
        with pytest.raises(StorageError) as caught:
            await registry.session("one").append("a", HELLO)
        assert caught.value.session_id == "one"
        assert await registry.session("other").append("a", HELLO) == 2
        assert len(await registry.search("hello")) == 2
    assert {found.path for found in checkup.check(tmp_path)} == {damaged}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE removals SET first_id = 'one'",
        "UPDATE removals SET first_id = 9223372036854775807",
        "UPDATE removals SET last_id = x'ff'",
        "UPDATE metadata SET value = x'ff'",
    ],
)
async def test_a_log_that_makes_no_sense_is_left_out_alone(tmp_path: Path, change: str) -> None:
    damaged, _ = await two_sessions(tmp_path)
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("one")
        await session.append("a", HELLO)
        await session.truncate_from(2)
        await session.save_metadata({"key": "value"})
    (tmp_path / names.CATALOG_FILE).unlink()
    with closing(sqlite3.connect(damaged)) as connection, connection:
        connection.execute(change)
    async with SessionRegistry(tmp_path) as registry:
        assert "other" in [info.session_id for info in (await registry.sessions()).sessions]
        with pytest.raises(StorageError):
            await anext(registry.session("one").subscribe(since=0))
        assert len(await registry.session("one").messages()) == 1
        assert len(await registry.search("hello", session_id="other")) == 1


async def test_what_sqlite_says_of_a_damaged_schema_may_be_no_text(tmp_path: Path) -> None:
    damaged, _ = await two_sessions(tmp_path)
    (tmp_path / names.CATALOG_FILE).unlink()
    whole = damaged.read_bytes()
    assert b"CREATE INDEX checkpoints" in whole
    damaged.write_bytes(whole.replace(b"CREATE INDEX checkpoints", b"CREAT\xc5 INDEX checkpoints"))
    async with SessionRegistry(tmp_path) as registry:
        assert [info.session_id for info in (await registry.sessions()).sessions] == ["other"]
        with pytest.raises(StorageError):
            await registry.session("one").messages()
        assert await registry.session("other").append("a", HELLO) == 2
    assert {found.problem for found in checkup.check(tmp_path)} == {"damaged"}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sessions SET last_at = 'late'",
        "UPDATE sessions SET state = 'flying'",
        "UPDATE sessions SET message_count = 'many', room_id = x'ff'",
        "UPDATE sessions SET turn_started_at = 1 << 62",
        "DELETE FROM docs",
        "UPDATE docs SET inserted_at = 'late'",
        "UPDATE catalog SET generation = x'ff', seq = 'many'",
    ],
)
async def test_a_catalog_that_makes_no_sense_is_made_anew(tmp_path: Path, change: str) -> None:
    await two_sessions(tmp_path)
    with closing(sqlite3.connect(tmp_path / names.CATALOG_FILE)) as connection, connection:
        connection.execute(change)
    async with SessionRegistry(tmp_path) as registry:
        assert len(await registry.search("hello")) == 2
        listed = (await registry.sessions()).sessions
        assert [(info.state, info.message_count, info.turn_started_at) for info in listed] == [
            ("idle", 1, None)
        ] * 2
        assert await registry.session("other").append("a", HELLO) == 2
        assert len(await registry.search("hello")) == 3


def outside(directory: Path) -> Path:
    """A file beside the directory, which is nobody's business."""
    path = directory.parent / "outside"
    path.write_bytes(b"keep out\n" * 1000)
    return path


@pytest.mark.parametrize("suffix", names.SIDE_FILES)
async def test_a_log_that_is_a_link_is_not_followed(tmp_path: Path, suffix: str) -> None:
    directory = tmp_path / "sessions"
    linked, _ = await two_sessions(directory)
    secret = outside(directory)
    Path(f"{linked}{suffix}").symlink_to(secret)
    async with SessionRegistry(directory) as registry:
        with pytest.raises(StorageError, match=f"{suffix}'.*|not a file"):
            await registry.session("one").append("a", HELLO)
        assert await registry.session("other").append("a", HELLO) == 2
        await registry.sessions()
    assert secret.read_bytes() == b"keep out\n" * 1000


async def test_a_draft_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    directory = tmp_path / "sessions"
    secret = outside(directory)
    async with SessionRegistry(directory) as registry:
        for draft in (names.draft_name("new"), names.draft_name("fork"), names.CATALOG_DRAFT):
            (directory / draft).unlink(missing_ok=True)
            (directory / draft).symlink_to(secret)
        session = await registry.start("new")
        await session.append("a", HELLO)
        await session.fork("fork")
        await registry.rebuild_catalog()
        assert len(await registry.search("hello")) == 2
    assert secret.read_bytes() == b"keep out\n" * 1000
    assert not [entry for entry in os.listdir(directory) if entry.endswith(".draft")]


async def test_a_catalog_that_is_a_link_is_replaced_by_one(tmp_path: Path) -> None:
    await two_sessions(tmp_path / "a")
    async with SessionRegistry(tmp_path / "b") as registry:
        await (await registry.start("theirs")).append("a", HELLO)
    theirs, ours = tmp_path / "b" / names.CATALOG_FILE, tmp_path / "a" / names.CATALOG_FILE
    before = theirs.read_bytes()
    ours.unlink()
    ours.symlink_to(theirs)
    async with SessionRegistry(tmp_path / "a", read_only=True) as reader:
        assert len((await reader.sessions()).sessions) == 2
    async with SessionRegistry(tmp_path / "a") as registry:
        assert len(await registry.search("hello")) == 2
    assert theirs.read_bytes() == before
    assert not ours.is_symlink()


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
async def test_a_lock_file_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    directory = tmp_path / "sessions"
    directory.mkdir()
    secret, lock = outside(directory), directory / names.LOCK_FILE
    if kind == "link":
        lock.symlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    with pytest.raises(StorageError, match="not a file"):
        await SessionRegistry(directory).open()
    assert secret.read_bytes() == b"keep out\n" * 1000


async def test_what_nobody_asked_for_is_found_nowhere(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        await (await registry.start("one")).append("a", HELLO)
        assert await registry.search("hello", session_id="") == []
        assert len((await registry.sessions(limit=2**63)).sessions) == 1
