"""Files that an earlier version wrote."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessionactor import Session, SessionRegistry, StorageError
from sessionactor._codec import encode
from sessionactor._digest import digest
from sessionactor._schema import APPLICATION_ID, MIGRATIONS, migrate

AT = 1_700_000_000_000_000


def say(text: object) -> dict[str, Any]:
    return {"role": "user", "content": text}


def data(text: object) -> bytes:
    return encode(say(text), max_bytes=1000, session_id="s")


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def schema_of(path: Path) -> set[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]
        return {
            (table, column)
            for table in tables
            for (_, column, *_) in connection.execute(f"PRAGMA table_info({table})")
        } | {("", table) for table in tables}


def first_version(directory: Path, *scripts: str) -> Path:
    """A session as version 1 left it: ten rows used, a truncation from 4, then 8 to 10."""
    path = directory / "s_old.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 2048")
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection, 0, MIGRATIONS[:1])
        connection.execute(
            "INSERT INTO session VALUES (1, 's', 'old', ?, 7, 8, ?)", (AT, AT + 8_000_000)
        )
        rows = [(db_id, db_id) for db_id in (1, 2, 3)] + [(8, 10), (9, 11), (10, 12)]
        for db_id, revision in rows:
            checkpoint = db_id == 9
            connection.execute(
                "INSERT INTO messages VALUES (?, 'a', ?, ?, ?, NULL, ?, 'p/1', ?, ?)",
                (db_id, data(db_id), AT + db_id * 1_000_000, checkpoint, f"k{db_id}",
                 "t" if db_id > 8 else None, revision),
            )  # fmt: skip
        for db_id in range(1, 11):
            connection.execute(
                "INSERT INTO keys VALUES (?, ?, ?)", (f"k{db_id}", db_id, digest("a", data(db_id)))
            )
        connection.execute("INSERT INTO removals VALUES (8, 4)")
        connection.execute("INSERT INTO metadata VALUES ('m', 'v', 9)")
        for script in scripts:
            connection.execute(script)
    return path


async def everything(session: Session) -> tuple[Any, ...]:
    return (
        await session.messages(),
        await session.get_metadata(),
        await session.revision(),
        [page async for page in session.chapters()],
        (await session.info()).message_count,
    )


async def test_a_file_of_the_first_version_keeps_all_and_learns_the_rest(tmp_path: Path) -> None:
    path = first_version(tmp_path)
    async with SessionRegistry(tmp_path) as registry:
        assert [file.session_id for file in await registry.find("old")] == ["s"]
        session = registry.session("s")
        rows = await session.messages()
        assert [(row.db_id, row.message, row.key) for row in rows] == [
            (db_id, say(db_id), f"k{db_id}") for db_id in (1, 2, 3, 8, 9, 10)
        ]
        assert [row.revision for row in rows] == [1, 2, 3, 10, 11, 12]
        assert {(row.parent, row.updated_at) for row in rows} == {("p/1", None)}
        assert await session.get_metadata() == {"m": "v"}
        info = await session.info()
        assert (info.message_count, info.revision, info.state) == (6, 12, "idle")
        assert (info.turn_id, info.agent_alias, info.parent) == (None, None, None)
        assert info.last_activity == rows[-1].inserted_at
        page = await session.messages_from_latest_checkpoint()
        assert [row.db_id for row in page.rows] == [9, 10]

        assert await session.append("a", say(5), key="k5") == 5  # it was stored, and removed
        assert await session.append("a", say("next")) == 11
        assert await session.update(2, say("two"))
        assert await session.remove([1]) == 1
        async with session.turn("u", agent_id="a") as turn:
            await turn.append(say("in a turn"))
        await session.set_context(room_id="r")
        whole = await session.messages(limit=3, newest=True, whole_turns=True)
        assert [row.db_id for row in whole] == [11, 12]  # a turn of 9 and 10 would not fit
        assert (await session.info()).message_count == 7
        before = await everything(session)
    assert version_of(path) == len(MIGRATIONS)
    async with SessionRegistry(tmp_path) as registry:
        assert await everything(registry.session("s")) == before


async def test_a_migrated_file_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        first_version(tmp_path)
        await registry.session("s").messages()
        new = (await registry.start("new")).path
        assert new is not None
        migrated, created = schema_of(tmp_path / "s_old.db"), schema_of(new)
    assert migrated == created


@pytest.mark.parametrize(
    ("script", "count"),
    [
        ("DELETE FROM messages", 0),
        ("DELETE FROM messages WHERE id > 7", 3),
        ("UPDATE session SET high_water = 0, revision = 0", 6),
    ],
)
async def test_the_rows_of_a_file_of_the_first_version_are_counted(
    tmp_path: Path, script: str, count: int
) -> None:
    first_version(tmp_path, script)
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("s")
        assert (await session.info()).message_count == len(await session.messages()) == count
        await session.append("a", say("more"))
        assert (await session.info()).message_count == len(await session.messages()) == count + 1


async def test_a_file_that_cannot_be_migrated_stays_as_it_was(tmp_path: Path) -> None:
    path = first_version(tmp_path, "CREATE TABLE turns(theirs)")
    before = schema_of(path)
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("s")
        for _ in range(2):
            with pytest.raises(StorageError, match="turns"):
                await session.messages()
    assert (schema_of(path), version_of(path)) == (before, 1)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE turns")
    async with SessionRegistry(tmp_path) as registry:
        assert len(await registry.session("s").messages()) == 6


def test_a_file_that_was_just_brought_up_to_date_by_another_is_left_alone(tmp_path: Path) -> None:
    path = first_version(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, 1)
        migrate(connection, 1)  # its version was asked for before
    assert version_of(path) == len(MIGRATIONS)
