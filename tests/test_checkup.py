"""What a check of a directory finds, and what of it is repaired."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from processes import owner, process

from sessionactor import SessionOwnedError, SessionRegistry
from sessionactor.checkup import Finding, check, repair

MESSAGES = 300


@pytest.fixture
async def place(tmp_path: Path) -> Path:
    """A directory with the sessions `one` and `two`, of 300 messages each."""
    async with SessionRegistry(tmp_path) as registry:
        for session_id in ("one", "two"):
            session = await registry.start(session_id, name="first")
            messages = [{"role": "user", "content": "x" * 100} for _ in range(MESSAGES)]
            await session.extend("agent-1", messages)
    return tmp_path


def execute(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement, values)


def only(place: Path) -> Finding:
    (finding,) = check(place)
    return finding


async def count_of(place: Path, session_id: str) -> tuple[int, int]:
    async with SessionRegistry(place) as registry:
        session = registry.session(session_id)
        return (await session.info()).message_count, len(await session.messages())


async def test_nothing_is_wrong_with_what_registries_leave(place: Path) -> None:
    async with SessionRegistry(place) as registry:
        await registry.session("one").truncate_from(100)
        await registry.session("two").remove([1, 5])
        await registry.session("two").rename("second")
        await registry.start("telegram_user_1", name="日本語/" + "y" * 190)
        assert list(check(place)) == []
    before = sorted(os.listdir(place))
    assert list(check(place)) == []
    assert sorted(os.listdir(place)) == before


async def test_sessions_that_another_process_owns_are_checked_beside_it(place: Path) -> None:
    with owner(place, "three"):
        assert list(check(place)) == []


async def test_it_tells_how_far_it_is(place: Path) -> None:
    told: list[tuple[int, int]] = []
    assert list(check(place, lambda done, of: told.append((done, of)))) == []
    of = len(os.listdir(place))
    assert told == [(done, of) for done in range(1, of + 1)]


async def test_rows_that_went_by_other_hands_are_counted_anew(place: Path) -> None:
    execute(place / "one_first.db", "DELETE FROM messages WHERE id IN (5, 7)")
    finding = only(place)
    assert (finding.problem, finding.session_id) == ("count", "one")
    assert "300" in finding.detail
    assert "298" in finding.detail
    assert repair(finding)
    assert list(check(place)) == []
    assert await count_of(place, "one") == (298, 298)


async def test_undecodable_rows_are_named_and_left(place: Path) -> None:
    execute(place / "one_first.db", "UPDATE messages SET data = x'c1' WHERE id IN (3, 290)")
    execute(place / "one_first.db", "UPDATE messages SET agent_id = x'00' WHERE id = 17")
    finding = only(place)
    assert finding.problem == "undecodable"
    assert finding.detail == "3 rows cannot be decoded: 3, 17, 290"
    assert finding.remedy is None
    assert not repair(finding)


async def test_a_file_renamed_by_hand_takes_over_the_name_that_it_was_given(place: Path) -> None:
    (place / "one_first.db").rename(place / "uno_other.db")
    finding = only(place)
    assert (finding.problem, finding.session_id) == ("identity", "uno")
    assert repair(finding)
    assert list(check(place)) == []
    async with SessionRegistry(place) as registry:
        assert (await registry.session("uno").info()).name == "other"


async def test_of_two_files_of_one_session_neither_is_touched(place: Path) -> None:
    shutil.copy(place / "one_first.db", place / "one_other.db")
    found = list(check(place))
    assert {finding.problem for finding in found} == {"duplicate", "identity"}
    assert "one_other.db" in next(
        finding.detail for finding in found if finding.path.name == "one_first.db"
    )
    assert all(finding.remedy is None for finding in found)


async def test_a_damaged_database_is_told_and_left(place: Path) -> None:
    path = place / "one_first.db"
    data = bytearray(path.read_bytes())
    data[20_000:24_000] = b"\xa5" * 4_000
    path.write_bytes(data)
    finding = only(place)
    assert (finding.problem, finding.remedy) == ("damaged", None)
    path.write_bytes(data[:30_000])
    assert only(place).problem == "damaged"


async def test_a_table_that_is_missing_is_told(place: Path) -> None:
    execute(place / "one_first.db", "DROP TABLE metadata")
    execute(place / "one_first.db", "DROP INDEX checkpoints")
    execute(place / "two_first.db", "CREATE TABLE notes (of_someone_else)")
    finding = only(place)
    assert finding.problem == "damaged"
    assert finding.detail == "it has no index checkpoints, no table metadata"


async def test_damaged_indices_are_made_anew(place: Path) -> None:
    path = place / "one_first.db"
    async with SessionRegistry(place) as registry:
        await registry.session("one").append("agent-1", {"role": "summary", "content": "s"})
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # An index without its entries: forget it, delete a row from the table, remember it.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "CREATE TABLE kept AS SELECT * FROM sqlite_master WHERE name = 'agent_checkpoints'"
        )
        connection.execute("DELETE FROM sqlite_master WHERE name = 'agent_checkpoints'")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE messages SET checkpoint = 1 WHERE id = 4")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master SELECT * FROM kept")
    execute(path, "DROP TABLE kept")
    finding = only(place)
    assert finding.problem == "index"
    assert repair(finding)
    assert list(check(place)) == []


@pytest.mark.parametrize("content", [b"", b"hello" * 100])
async def test_what_only_has_the_name_of_a_session_is_left_alone(
    place: Path, content: bytes
) -> None:
    (place / "three_x.db").write_bytes(content)
    (place / "notes.txt").write_bytes(content)
    finding = only(place)
    assert (finding.problem, finding.remedy) == ("foreign", None)
    (place / "three_x.db").unlink()
    (place / "three_x.db").mkdir()
    assert only(place).problem == "foreign"


async def test_a_file_of_a_newer_version_is_told(place: Path) -> None:
    execute(place / "one_first.db", "PRAGMA user_version = 99")
    assert only(place).problem == "newer"


async def test_logs_without_their_database_are_put_aside_and_never_lost(place: Path) -> None:
    (place / "three_x.db-wal").write_bytes(b"rows")
    (place / "three_x.db-shm").write_bytes(b"index")
    (place / "four_x.db-wal").write_bytes(b"")
    (place / "other-wal").write_bytes(b"of something else")
    found = list(check(place))
    assert [finding.problem for finding in found] == ["log"] * 3
    assert all(map(repair, found))
    assert list(check(place)) == []
    left = {entry for entry in os.listdir(place) if "-wal" in entry or "-shm" in entry}
    assert left == {"three_x.db-wal.orphan", "other-wal"}
    assert (place / "three_x.db-wal.orphan").read_bytes() == b"rows"


DRAFTER = """
from pathlib import Path
from sessionactor import _names as names
from sessionactor._ownership import Ownership

ownership = Ownership(Path(sys.argv[1]))
ownership.claim("three")
Path(sys.argv[1], names.draft_name(names.id_part("three"))).write_bytes(b"half")
say("ready")
wait()
"""


async def test_a_draft_is_stale_only_when_its_maker_is_gone(place: Path) -> None:
    with process(DRAFTER, place) as drafter:
        drafter.hear()
        assert list(check(place)) == []
        drafter.kill()
    finding = only(place)
    assert finding.problem == "draft"
    assert repair(finding)
    assert list(check(place)) == []


async def test_what_another_process_owns_is_not_repaired(place: Path) -> None:
    with owner(place, "three") as other:
        (path,) = place.glob("three_*.db")
        execute(path, "UPDATE session SET removed = removed - 4")
        finding = only(place)
        assert finding.problem == "count"
        with pytest.raises(SessionOwnedError) as caught:
            repair(finding)
        assert caught.value.pid == other.pid


async def test_a_file_of_an_older_version_is_brought_up_to_date(place: Path) -> None:
    from sessionactor import _schema as schema

    path = place / "old_one.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        schema.migrate(connection, 0, schema.MIGRATIONS[:1])
        connection.execute("INSERT INTO session VALUES (1, 'old', 'one', 0, 0, 0, 0)")
        connection.execute("INSERT INTO messages VALUES (1,'a',x'80',0,0,NULL,NULL,NULL,NULL,1)")
    execute(path, "UPDATE messages SET data = x'c1'")
    older, undecodable = check(place)
    assert (older.problem, undecodable.problem) == ("older", "undecodable")
    assert repair(older)
    assert only(place).problem == "undecodable"
    assert await count_of(place, "two") == (300, 300)


async def test_a_log_that_came_without_its_index_is_taken_in(place: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    async with SessionRegistry(place) as registry:
        await registry.session("one").append("agent-1", {"role": "user"})
        for suffix in ("", "-wal"):
            shutil.copy(place / f"one_first.db{suffix}", there / f"one_first.db{suffix}")
    finding = only(there)
    assert finding.problem == "unreadable"
    assert repair(finding)
    assert list(check(there)) == []
    assert await count_of(there, "one") == (301, 301)
