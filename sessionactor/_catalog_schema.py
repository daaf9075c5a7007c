"""The catalog file: its tables, and what makes a file one.

It is derived from the sessions' files, so it is never migrated: one that is not exactly what
is written here is replaced and filled again.
"""

from __future__ import annotations

import secrets
import sqlite3
from functools import cache
from typing import Final

from sessionactor._schema import as_wal

APPLICATION_ID: Final = 0x53416361  # "SAca"
VERSION: Final = 1
"""One up with every change of the tables, of `index_text` or of the marks."""

_TABLES: Final = (
    """CREATE TABLE catalog(
    one INTEGER PRIMARY KEY CHECK (one = 1),
    generation TEXT NOT NULL,
    seq INTEGER NOT NULL,
    last_id INTEGER NOT NULL
)""",
    """CREATE TABLE sessions(
    id INTEGER PRIMARY KEY,
    part TEXT NOT NULL UNIQUE,
    entry TEXT NOT NULL,
    session_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    message_count INTEGER NOT NULL,
    agent_alias TEXT,
    channel_id TEXT,
    room_id TEXT,
    sender_id TEXT,
    state TEXT NOT NULL,
    turn_id TEXT,
    turn_started_at INTEGER,
    token TEXT,
    parent TEXT,
    high_water INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    indexed INTEGER NOT NULL,
    stale INTEGER NOT NULL,
    seq INTEGER NOT NULL
)""",
    "CREATE INDEX by_activity ON sessions(last_at)",
    "CREATE INDEX by_creation ON sessions(created_at, session_id)",
    "CREATE INDEX by_change ON sessions(seq)",
    "CREATE INDEX by_state ON sessions(state, last_at) WHERE state <> 'idle'",
    *(
        f"CREATE INDEX by_{column} ON sessions({column}, last_at) WHERE {column} IS NOT NULL"
        for column in ("agent_alias", "channel_id", "room_id", "sender_id")
    ),
    """CREATE TABLE metadata(
    session INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT,
    PRIMARY KEY (session, key)
) WITHOUT ROWID""",
    "CREATE INDEX by_value ON metadata(key, value)",
    """CREATE TABLE parents(
    parent TEXT NOT NULL,
    session INTEGER NOT NULL,
    db_id INTEGER NOT NULL,
    inserted_at INTEGER NOT NULL,
    PRIMARY KEY (parent, session, db_id)
) WITHOUT ROWID""",
    "CREATE INDEX by_child ON parents(session, db_id)",
    """CREATE TABLE docs(
    session INTEGER NOT NULL,
    db_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    agent_id TEXT NOT NULL,
    inserted_at INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (session, db_id)
) WITHOUT ROWID""",
    """CREATE TABLE places(
    number INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    db_id INTEGER NOT NULL
)""",
    """CREATE TABLE dead(
    session INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (session, first)
) WITHOUT ROWID""",
    "CREATE VIRTUAL TABLE words USING fts5("
    "text, content='', tokenize='unicode61 remove_diacritics 2')",
)

# Fewer and larger segments, because half of the time of filling a catalog went into merging
# them; merged bit by bit, never many of them at once.
_OPTIONS: Final = (("hashsize", 16 << 20), ("automerge", 16), ("crisismerge", 64))


def image() -> bytes:
    """A whole new catalog, in WAL mode."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        create(connection)
        return as_wal(connection.serialize())
    finally:
        connection.close()


def create(connection: sqlite3.Connection) -> None:
    """Make the tables of a catalog in an empty database."""
    connection.execute("BEGIN")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    for statement in _TABLES:
        connection.execute(statement)
    connection.executemany("INSERT INTO words (words, rank) VALUES (?, ?)", _OPTIONS)
    connection.execute("INSERT INTO catalog VALUES (1, ?, 0, 0)", (secrets.token_hex(8),))
    connection.execute("COMMIT")


def is_newer(connection: sqlite3.Connection) -> bool:
    """Whether a database is the catalog of a newer version of this package."""
    return _pragma(connection, "application_id") == APPLICATION_ID and (
        _pragma(connection, "user_version") > VERSION
    )


def is_catalog(connection: sqlite3.Connection) -> bool:
    """Whether a database has exactly the tables of this version."""
    return (
        _pragma(connection, "application_id") == APPLICATION_ID
        and _pragma(connection, "user_version") == VERSION
        and _statements(connection) == _expected()
        and connection.execute("SELECT count(*) FROM catalog").fetchone() == (1,)
    )


@cache
def _expected() -> list[str]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        create(connection)
        return _statements(connection)
    finally:
        connection.close()


def _statements(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
    return [sql for (sql,) in found]


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


__all__ = ["VERSION", "create", "image", "is_catalog", "is_newer"]
