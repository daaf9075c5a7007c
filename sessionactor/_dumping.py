"""The SQL that reads all that a session holds, for whoever copies it out."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from typing import Any, Final

from sessionactor._changes import (
    RemoveRows,
    Restored,
    Status,
    StoredInfo,
    StoredKey,
    StoredMetadata,
    StoredTurn,
    WholeRow,
)
from sessionactor._inserting import COLUMNS
from sessionactor._reading import CHANGED_AT
from sessionactor._requests import LostKeys, Outline, ReadWholeRows, WholeSlice
from sessionactor._sql import fetch

SLICE_BYTES: Final = 1 << 20
"""Of messages in a slice of rows, the last one excepted."""
_KEYS: Final = 4096
_STEP: Final = 64

ALL_METADATA: Final = "SELECT key, value, revision FROM metadata ORDER BY key"
ALL_TURNS: Final = "SELECT turn, agent_id, opened_at, closed_at FROM turns ORDER BY turn"
ALL_REMOVALS: Final = "SELECT first_id, last_id, revision FROM removals ORDER BY rowid"
KEYS: Final = (
    "SELECT key, message_id, digest, NOT EXISTS (SELECT 1 FROM messages WHERE id = message_id)"
    " FROM keys WHERE key >= ? ORDER BY key LIMIT ?"
)
WHOLE_ROWS: Final = (
    f"SELECT {COLUMNS}, coalesce(first_revision, revision), CASE WHEN updated_at IS NULL THEN NULL"
    " ELSE (SELECT digest FROM keys WHERE keys.key = messages.key) END,"
    " (SELECT record FROM origins WHERE message_id = id)"
    " FROM messages WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
)


def read_outline(info: StoredInfo, rewritten_at: int, connection: sqlite3.Connection) -> Outline:
    """All but the rows and keys."""
    restored = Restored(
        info.high_water,
        info.revision,
        info.created_at,
        info.last_at,
        info.parent,
        (
            ("agent_alias", info.agent_alias),
            ("channel_id", info.channel_id),
            ("room_id", info.room_id),
            ("sender_id", info.sender_id),
        ),
        Status(info.state, info.turn_id, info.turn_started_at),
        *connection.execute(CHANGED_AT).fetchone(),
    )
    return Outline(
        info.session_id,
        info.name,
        info.message_count,
        restored,
        tuple(map(StoredMetadata._make, connection.execute(ALL_METADATA))),
        tuple(map(StoredTurn._make, connection.execute(ALL_TURNS))),
        tuple(map(RemoveRows._make, connection.execute(ALL_REMOVALS))),
        rewritten_at,
    )


def read_lost_keys(start: str, rewritten_at: int, connection: sqlite3.Connection) -> LostKeys:
    """Keys whose rows are gone, of a bounded number of keys in their order."""
    found = connection.execute(KEYS, (start, _KEYS + 1)).fetchall()
    lost = [StoredKey(*key) for *key, is_lost in found[:_KEYS] if is_lost]
    return LostKeys(lost, found[_KEYS][0] if len(found) > _KEYS else None, rewritten_at)


def read_whole_rows(
    read: ReadWholeRows, max_rows: int, rewritten_at: int, connection: sqlite3.Connection
) -> WholeSlice:
    """The first of the rows asked for, and how to read the rest."""
    limit, most_bytes = (-1, sys.maxsize) if read.whole else (max_rows, SLICE_BYTES)
    rows: list[WholeRow] = []
    size = 0
    for row in _rows((read.after, read.before, limit), connection):
        rows.append(WholeRow(row[:11], *row[11:]))
        size += sys.getsizeof(row[2])
        if size >= most_bytes or len(rows) == limit:
            rest = read._replace(after=row[0], goes_on=True)
            return WholeSlice(rows, rest, rewritten_at)
    return WholeSlice(rows, None, rewritten_at)


def _rows(bounds: tuple[int, int, int], connection: sqlite3.Connection) -> Iterator[Any]:
    """Rows one by one, so that no more are in memory than are wanted."""
    after, before, _ = bounds
    try:
        for row in connection.execute(WHOLE_ROWS, bounds):
            yield row
            after = row[0]
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
        while found := fetch(connection, WHOLE_ROWS, (after, before, _STEP)):
            yield from found
            after = found[-1][0]
