"""What is wrong inside of a session's file."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from sessionactor import _loading as loading
from sessionactor import _names as names
from sessionactor import _schema as schema
from sessionactor._changes import StoredRow
from sessionactor._errors import CorruptRowError
from sessionactor._rows import decoded
from sessionactor.checkup._finding import Problem

INTEGRITY: Final = "PRAGMA integrity_check(20)"
VERSION: Final = "PRAGMA user_version"
TABLES: Final = "SELECT type, name FROM sqlite_master"
COUNT: Final = "SELECT count(*) FROM messages"
ROWS: Final = (
    "SELECT id, agent_id, data, inserted_at FROM messages WHERE id > ? ORDER BY id LIMIT ?"
)

_MANY: Final = 256
_LISTED: Final = 10
_OF_INDEX: Final = re.compile(r"(missing from|entries in|non-unique entry in) index")


class Fault(NamedTuple):
    """Something that is wrong inside of a file."""

    problem: Problem
    detail: str
    remedy: str | None = None


def faults(entry: str, connection: sqlite3.Connection) -> Iterator[Fault]:
    """All that is wrong with a database that has the application id of a session.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    said = [str(row[0]) for row in connection.execute(INTEGRITY) if row[0] != "ok"]
    if said:
        detail = "; ".join(said[:_LISTED])
        if all(map(_OF_INDEX.search, said)):
            yield Fault("index", f"its indices are damaged: {detail}", "make them anew")
        else:
            yield Fault("damaged", f"the database is damaged: {detail}")
        return
    missing = _missing(connection)
    if missing:
        yield Fault("damaged", f"it has no {', no '.join(missing)}")
        return
    yield from _identity(entry, connection)
    if connection.execute(VERSION).fetchone()[0] == schema.VERSION:
        yield from _count(connection)
    else:
        yield Fault("older", "an older version of sessionactor wrote it", "bring it up to date")
    yield from _rows(connection)


def _missing(connection: sqlite3.Connection) -> list[str]:
    """The tables and indices that a file of its version has, and this one has not."""
    (version,) = connection.execute(VERSION).fetchone()
    there = set(connection.execute(TABLES).fetchall())
    return [f"{kind} {name}" for kind, name in sorted(_expected(version) - there)]


@cache
def _expected(version: int) -> frozenset[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.migrate(connection, 0, schema.MIGRATIONS[:version])
        return frozenset(connection.execute(TABLES).fetchall())


def _identity(entry: str, connection: sqlite3.Connection) -> Iterator[Fault]:
    session_id, name = loading.read_identity(connection)
    if names.file_name(session_id, name) == entry:
        return
    cut = names.is_cut(entry)  # what is inside counts then, and the file is found by it
    yield Fault(
        "identity",
        f"inside it is session {session_id!r}, named {name!r}: it was copied or renamed by hand,"
        " or a rename was cut short",
        None if cut else "store the id and name of the file",
    )


def _count(connection: sqlite3.Connection) -> Iterator[Fault]:
    said = loading.load(connection).state.message_count
    (counted,) = connection.execute(COUNT).fetchone()
    if said != counted:
        yield Fault(
            "count",
            f"it says that it has {said:,} messages, and has {counted:,}: rows were added or"
            " removed with another program",
            "count them anew",
        )


def _rows(connection: sqlite3.Connection) -> Iterator[Fault]:
    bad = []
    after = 0
    while rows := connection.execute(ROWS, (after, _MANY)).fetchall():
        after = rows[-1][0]
        bad += _undecodable([(*row, 0, None, None, None, None, 0, None) for row in rows])
    if bad:
        ids = ", ".join(map(str, bad[:_LISTED])) + (", …" if len(bad) > _LISTED else "")
        what = "row" if len(bad) == 1 else "rows"
        yield Fault("undecodable", f"{len(bad):,} {what} cannot be decoded: {ids}")


def _undecodable(rows: list[StoredRow]) -> list[int]:
    try:
        decoded(rows, "raise", "")
    except CorruptRowError as error:
        if len(rows) == 1:
            return [error.db_id]
        return [db_id for row in rows for db_id in _undecodable([row])]
    return []


__all__ = ["Fault", "faults"]
