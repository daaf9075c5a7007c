"""The session file: its tables, its version, and how an older one becomes the newest.

`docs/file-format.md` describes the tables for readers with other tools.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import cache
from typing import Final

MINIMUM_SQLITE: Final = (3, 36, 0)
"""The first in which `serialize` and `deserialize` are part of every build."""

APPLICATION_ID: Final = 0x53416374  # "SAct"
PAGE_BYTES: Final = 2048
WAL_PAGES: Final = (1 << 20) // PAGE_BYTES
"""A megabyte of log: the size at which SQLite moves it into the file."""
SHORT_WAL_PAGES: Final = WAL_PAGES // 8
"""The same as long as little is written at once: to sync a log while it grows takes half as long
again as to write over what was moved."""
WAL_MARK_AT: Final = 18
WAL_MARK: Final = b"\x02\x02"
"""What the header of a database in WAL mode has there, by the file format."""
_ROLLBACK_MARK: Final = b"\x01\x01"

_CREATE: Final = """
CREATE TABLE session(
    one INTEGER PRIMARY KEY CHECK (one = 1),
    session_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    high_water INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    last_at INTEGER NOT NULL
);
CREATE TABLE messages(
    id INTEGER PRIMARY KEY,
    agent_id TEXT NOT NULL,
    data BLOB NOT NULL,
    inserted_at INTEGER NOT NULL,
    checkpoint INTEGER NOT NULL DEFAULT 0,
    keep_from INTEGER,
    key TEXT,
    parent TEXT,
    turn TEXT,
    revision INTEGER NOT NULL
);
CREATE INDEX checkpoints ON messages(id) WHERE checkpoint = 1;
CREATE INDEX agent_checkpoints ON messages(agent_id, id) WHERE checkpoint = 1;
CREATE TABLE keys(
    key TEXT PRIMARY KEY,
    message_id INTEGER NOT NULL,
    digest BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE removals(
    revision INTEGER NOT NULL,
    first_id INTEGER NOT NULL
);
CREATE TABLE metadata(
    key TEXT PRIMARY KEY,
    value TEXT,
    revision INTEGER NOT NULL
) WITHOUT ROWID;
"""

_STATES_TURNS_AND_UPDATES: Final = """
ALTER TABLE messages ADD COLUMN updated_at INTEGER;
ALTER TABLE messages ADD COLUMN first_revision INTEGER;
CREATE INDEX updates ON messages(revision) WHERE updated_at IS NOT NULL;
CREATE INDEX turn_rows ON messages(turn, id) WHERE turn IS NOT NULL;
ALTER TABLE removals ADD COLUMN last_id INTEGER;
CREATE INDEX removals_by_revision ON removals(revision);
ALTER TABLE session ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN agent_alias TEXT;
ALTER TABLE session ADD COLUMN channel_id TEXT;
ALTER TABLE session ADD COLUMN room_id TEXT;
ALTER TABLE session ADD COLUMN sender_id TEXT;
ALTER TABLE session ADD COLUMN state TEXT NOT NULL DEFAULT 'idle';
ALTER TABLE session ADD COLUMN turn_id TEXT;
ALTER TABLE session ADD COLUMN turn_started_at INTEGER;
ALTER TABLE session ADD COLUMN token TEXT;
ALTER TABLE session ADD COLUMN parent TEXT;
ALTER TABLE session ADD COLUMN name_revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN context_revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN state_revision INTEGER NOT NULL DEFAULT 0;
CREATE TABLE turns(
    turn TEXT PRIMARY KEY,
    agent_id TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    closed_at INTEGER,
    interrupted INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE origins(
    message_id INTEGER PRIMARY KEY,
    record TEXT NOT NULL
);
CREATE INDEX open_turns ON turns(opened_at) WHERE closed_at IS NULL;
UPDATE session SET removed =
    max(high_water, (SELECT coalesce(max(id), 0) FROM messages)) - (SELECT count(*) FROM messages);
"""

MIGRATIONS: Final[tuple[str, ...]] = (_CREATE, _STATES_TURNS_AND_UPDATES)
"""Each brings a file from the version of its index to the next one."""

VERSION: Final = len(MIGRATIONS)

if sqlite3.sqlite_version_info < MINIMUM_SQLITE:  # pragma: no cover
    raise ImportError(
        f"sessionactor needs SQLite {'.'.join(map(str, MINIMUM_SQLITE))} or newer;"
        f" this Python has {sqlite3.sqlite_version}"
    )


def image(
    session_id: str,
    name: str,
    created_at: int,
    fill: Callable[[sqlite3.Connection], object] | None = None,
) -> bytes:
    """A whole database file of a new session, in the rollback-journal mode that memory needs.

    `fill` gives it its first content.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.deserialize(_template())
        connection.execute(
            "INSERT INTO session (one, session_id, name, created_at, high_water, revision, last_at)"
            " VALUES (1, ?, ?, ?, 0, 0, ?)",
            (session_id, name, created_at, created_at),
        )
        if fill is not None:
            fill(connection)
        return connection.serialize()
    finally:
        connection.close()


def as_wal(database: bytes) -> bytes:
    """The same database in WAL mode."""
    return _marked(database, WAL_MARK)


def for_memory(database: bytes) -> bytes:
    """The same database in the mode that memory needs."""
    return _marked(database, _ROLLBACK_MARK)


def _marked(database: bytes, mark: bytes) -> bytes:
    return b"".join((database[:WAL_MARK_AT], mark, database[WAL_MARK_AT + len(mark) :]))


def migrate(
    connection: sqlite3.Connection, version: int, migrations: tuple[str, ...] = MIGRATIONS
) -> None:
    """Bring an open session file from `version` to the newest one, in one transaction."""
    if version >= len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Whoever fills the catalog brings files up to date as well, perhaps just now.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for script in migrations[version:]:
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {max(version, len(migrations))}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@cache
def _template() -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection, 0)
        return connection.serialize()
    finally:
        connection.close()


def _statements(script: str) -> list[str]:
    statements, statement = [], ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return statements


__all__ = [
    "APPLICATION_ID",
    "MIGRATIONS",
    "MINIMUM_SQLITE",
    "VERSION",
    "as_wal",
    "for_memory",
    "image",
    "migrate",
]
