"""The SQL that inserts rows: several in a statement, and in one with their keys.

Each statement hands Python's lock back and forth, for which a hundred sessions that commit at
once stand in line; and what one statement can do needs no others to be a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from sessionactor._changes import InsertRows, StoredRow

COLUMNS: Final = (
    "id, agent_id, data, inserted_at, checkpoint, keep_from, key, parent, turn, revision,"
    " updated_at"
)
AT_ONCE: Final = (16, 8, 4, 3, 2, 1)
"""Rows of one statement."""

_PLAIN: Final = "id, agent_id, data, inserted_at, checkpoint, revision"
_NOTHING: Final = (None, None, None, None)
"""What a plain row, as nearly all are, has for `keep_from`, key, parent and turn."""
_SHORT_BYTES: Final = 8 * 1024
"""Of a message that may be copied, and that a statement may hold on to until it runs again."""

Statement: TypeAlias = tuple[str, Sequence[object]]
"""A statement and its values."""


def _several(table: str, columns: str) -> dict[int, str]:
    row = f"({', '.join('?' * len(columns.split(',')))})"
    return {
        count: f"INSERT INTO {table} ({columns}) VALUES {', '.join([row] * count)}"
        for count in AT_ONCE
    }


INSERT: Final = _several("messages", COLUMNS)
"""By how many rows it inserts."""
INSERT_PLAIN: Final = _several("messages", _PLAIN)
INSERT_KEYED: Final = _several("keyed", f"{COLUMNS}, digest")
"""Rows and, where there is a digest, their keys; by a view that a connection has to have."""
KEYED: Final = (
    f"CREATE TEMP VIEW IF NOT EXISTS keyed AS SELECT {COLUMNS}, NULL AS digest FROM main.messages",
    "CREATE TEMP TRIGGER IF NOT EXISTS insert_keyed INSTEAD OF INSERT ON keyed BEGIN"
    " INSERT INTO keys (key, message_id, digest)"
    " SELECT NEW.key, NEW.id, NEW.digest WHERE NEW.digest IS NOT NULL;"
    f" INSERT INTO messages ({COLUMNS})"
    f" VALUES ({', '.join(f'NEW.{column.strip()}' for column in COLUMNS.split(','))}); END",
)
"""Makes that view."""


def inserts(rows: Sequence[StoredRow]) -> Iterator[Statement]:
    """The statements that insert rows."""
    if not _are_short(rows):
        yield from ((INSERT[1], row) for row in rows)
        return
    start = 0
    while start < len(rows):
        count = next(count for count in AT_ONCE if count <= len(rows) - start)
        yield _at_once(rows[start : start + count])
        start += count


def lone_insert(step: InsertRows, *, keyed: bool) -> Statement | None:
    """The one statement that does the whole step, if there is one; `keyed`: with its keys."""
    rows, keys = step
    if len(rows) not in INSERT or not _are_short(rows):
        return (INSERT[1], rows[0]) if len(rows) == 1 and not keys else None
    if not keys:
        return _at_once(rows)
    digests = {key.db_id: key.digest for key in keys}
    if not keyed or not digests.keys() <= {row[0] for row in rows}:
        return None
    return INSERT_KEYED[len(rows)], [value for row in rows for value in (*row, digests.get(row[0]))]


def _are_short(rows: Sequence[StoredRow]) -> bool:
    return max([len(row[2]) for row in rows], default=0) <= _SHORT_BYTES


def _at_once(rows: Sequence[StoredRow]) -> Statement:
    """The one statement that inserts rows, as many as there is one for."""
    if [row for row in rows if row[5:9] != _NOTHING]:
        return INSERT[len(rows)], [value for row in rows for value in row]
    return INSERT_PLAIN[len(rows)], _plain(rows)


def _plain(rows: Sequence[StoredRow]) -> list[object]:
    values: list[object] = []
    for db_id, agent_id, data, at, checkpoint, _, _, _, _, revision, _ in rows:
        # Of `bytes`, as of `None`, sqlite3 asks each time how to adapt it: dearer than a copy.
        values += (db_id, agent_id, bytearray(data), at, checkpoint, revision)
    return values


__all__ = [
    "AT_ONCE",
    "COLUMNS",
    "INSERT",
    "INSERT_KEYED",
    "INSERT_PLAIN",
    "KEYED",
    "Statement",
    "inserts",
    "lone_insert",
]
