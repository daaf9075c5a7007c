"""The SQL that reads a session: what runs in the connection's own thread, a procedure a hop."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from sessionactor import _files as files
from sessionactor import _paging as paging
from sessionactor._changes import (
    ChangeContext,
    ChangeName,
    ChangeStatus,
    MergeMetadata,
    RemoveRows,
    Step,
    StoredInfo,
    StoredRow,
    UpdateRow,
)
from sessionactor._history import Changes
from sessionactor._inserting import COLUMNS
from sessionactor._loading import Loaded, load
from sessionactor._paging import Bounds, Checkpoint
from sessionactor._requests import MAX_ID, ReadChapter, ReadRow, ReadRows
from sessionactor._sql import KEY, ROW, fetch

_TURNS_AT_ONCE: Final = 256
_OF_AGENT: Final = "(:agent_id IS NULL OR agent_id = :agent_id)"

ROWS: Final = (
    f"SELECT {COLUMNS} FROM messages WHERE id > :after AND id < :before AND {_OF_AGENT}"
    " AND id IS NOT :without ORDER BY id LIMIT :limit"
)
NEWEST_ROWS: Final = ROWS.replace("ORDER BY id", "ORDER BY id DESC")
NTH_NEWEST: Final = (
    f"SELECT id FROM messages WHERE id > :after AND id < :before AND {_OF_AGENT}"
    " ORDER BY id DESC LIMIT 1 OFFSET :skip"
)
TURN_START: Final = (
    f"SELECT min(id) FROM messages WHERE turn = :turn AND id > :after AND {_OF_AGENT}"
)
NEWEST_TURNS: Final = (
    f"SELECT id, turn FROM messages WHERE id > :after AND id < :before AND {_OF_AGENT}"
    " ORDER BY id DESC LIMIT :limit"
)
SOME_ROWS: Final = (
    f"SELECT {COLUMNS} FROM messages WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
)
METADATA: Final = "SELECT key, value FROM metadata ORDER BY key"
CHECKPOINT_AT: Final = (
    "SELECT id, keep_from FROM messages WHERE id = :cursor AND checkpoint = 1 AND " + _OF_AGENT
)
NEWEST_CHECKPOINT: Final = (
    "SELECT id, keep_from FROM messages WHERE checkpoint = 1 AND id < :stop"
    " ORDER BY id DESC LIMIT 1"
)
NEWEST_CHECKPOINT_OF_AGENT: Final = NEWEST_CHECKPOINT.replace(
    "AND id", "AND agent_id = :agent_id AND id"
)
ROWS_OF_TURN: Final = f"SELECT {COLUMNS} FROM messages WHERE turn = ? ORDER BY id"

_INSERTED_AT: Final = "coalesce(first_revision, revision)"
INSERTED_FROM: Final = f"SELECT id, {_INSERTED_AT} FROM messages WHERE id >= ? ORDER BY id LIMIT 1"
INSERTED_ROWS: Final = (
    f"SELECT {COLUMNS}, {_INSERTED_AT} FROM messages WHERE id >= ? ORDER BY id LIMIT ?"
)
UPDATED_ROWS: Final = (
    f"SELECT {COLUMNS} FROM messages WHERE updated_at IS NOT NULL AND revision > ?"
    " ORDER BY revision LIMIT ?"
)
REMOVALS: Final = (
    "SELECT first_id, last_id, revision FROM removals WHERE revision > ? AND revision <= ?"
    " ORDER BY revision, rowid"
)
MERGED: Final = (
    "SELECT key, value, revision FROM metadata WHERE revision > ? AND revision <= ?"
    " ORDER BY revision, key"
)
FILE: Final = "SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'"
_READERS_MS: Final = 250
"""How long compacting waits for those who read the file."""
CHANGED_AT: Final = "SELECT name_revision, context_revision, state_revision FROM session"


def read_rows(
    read: ReadRows, max_rows: int, connection: sqlite3.Connection
) -> tuple[list[StoredRow], ReadRows | None]:
    """At most `max_rows` of the rows asked for, in insertion order, and how to read the rest."""
    values = {
        "agent_id": read.agent_id,
        "after": 0 if read.after is None else read.after,
        "before": MAX_ID if read.before is None else read.before,
        "without": read.without,
        "limit": read.limit,
    }
    if read.whole_turns and read.limit:
        start = _newest_whole(values, read.limit, connection)
        after = MAX_ID if start is None else start - 1
        values["after"] = after
        read = read._replace(after=after, limit=None, whole_turns=False)
    newest = read.newest and read.limit is not None
    if newest and read.limit is not None and read.limit > max_rows:
        # Too many for one slice: find where they begin, and read on from there.
        values["skip"] = read.limit - 1
        (first,) = connection.execute(NTH_NEWEST, values).fetchone() or (1,)
        newest, values["after"] = False, max(first - 1, values["after"] or 0)
    take = max_rows if read.limit is None else min(read.limit, max_rows)
    values["limit"] = take
    rows = fetch(connection, NEWEST_ROWS if newest else ROWS, values)
    if newest:
        rows.reverse()
    if len(rows) < take or take == read.limit:
        return rows, None
    left = None if read.limit is None else read.limit - take
    return rows, read._replace(after=rows[-1][0], limit=left, newest=False, goes_on=True)


def _newest_whole(values: dict[str, Any], limit: int, connection: sqlite3.Connection) -> int | None:
    def first_of(turn: str) -> int:
        (first,) = connection.execute(TURN_START, {**values, "turn": turn}).fetchone()
        return int(first)

    return paging.newest_whole(_turns_downward(values, connection), first_of, limit)


def _turns_downward(
    values: dict[str, Any], connection: sqlite3.Connection
) -> Iterator[tuple[int, str | None]]:
    values = {**values, "limit": _TURNS_AT_ONCE}
    while rows := fetch(connection, NEWEST_TURNS, values):
        yield from ((db_id, turn if type(turn) is str else None) for db_id, turn in rows)
        values["before"] = rows[-1][0]


def read_chapter(
    read: ReadChapter, max_rows: int, connection: sqlite3.Connection
) -> tuple[list[StoredRow], int | None, ReadRows | None]:
    """A chapter's first rows, the checkpoint that heads it, and how to read the rest."""
    head, start, stop = _bounds(read, connection)
    rows, rest = read_rows(
        ReadRows(read.agent_id, start - 1, stop, on_corrupt=read.on_corrupt, without=head),
        max_rows,
        connection,
    )
    if head is not None:
        rows[:0] = fetch(connection, ROW, (head,))
    return rows, head, rest


def _bounds(read: ReadChapter, connection: sqlite3.Connection) -> Bounds:
    def checkpoint(sql: str, **values: int) -> Checkpoint | None:
        found = connection.execute(sql, {"agent_id": read.agent_id, **values}).fetchone()
        return found and Checkpoint._make(found)

    def newest_below(stop: int) -> Checkpoint | None:
        sql = NEWEST_CHECKPOINT if read.agent_id is None else NEWEST_CHECKPOINT_OF_AGENT
        return checkpoint(sql, stop=stop)

    if read.before is None:
        return paging.latest(newest_below(MAX_ID))
    return paging.before(read.before, checkpoint(CHECKPOINT_AT, cursor=read.before), newest_below)


def read_row(read: ReadRow, connection: sqlite3.Connection) -> list[StoredRow]:
    """The row of that id or key, if there is one."""
    db_id = read.db_id
    if read.key is not None:
        _, db_id, _ = connection.execute(KEY, (read.key,)).fetchone() or (None, None, None)
    return fetch(connection, ROW, (db_id,))


def read_some(db_ids: Sequence[int], connection: sqlite3.Connection) -> list[StoredRow]:
    """The rows of those ids, of those that are there."""
    return fetch(connection, SOME_ROWS, (json.dumps(list(db_ids)),))


def read_metadata(connection: sqlite3.Connection) -> dict[str, str | None]:
    """All metadata."""
    return dict(connection.execute(METADATA).fetchall())


def read_turns(turn_ids: list[str], connection: sqlite3.Connection) -> list[StoredRow]:
    """The rows of these turns, in insertion order."""
    rows = [row for turn_id in turn_ids for row in fetch(connection, ROWS_OF_TURN, (turn_id,))]
    return sorted(rows, key=lambda row: row[0])


def size(connection: sqlite3.Connection) -> int:
    """Bytes of the session's file and its log, or of what it takes in memory."""
    ((name,),) = connection.execute(FILE)
    if name.startswith(b"/"):
        return files.size(Path(os.fsdecode(name)))
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * page_bytes)


def compact(connection: sqlite3.Connection) -> tuple[int, int]:
    """Give freed space back: by SQLite's own transaction, so that a crash leaves it as it was."""
    before = size(connection)
    connection.execute("VACUUM")
    ((patience_ms,),) = connection.execute("PRAGMA busy_timeout")
    # Whoever reads an older state for long keeps the log as it is: not to be waited for.
    connection.execute(f"PRAGMA busy_timeout = {_READERS_MS}")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience_ms}")
    return before, size(connection)


def read_changes(since: int, max_rows: int, connection: sqlite3.Connection) -> Changes:
    """What happened after a revision, a bounded number of rows at a time.

    Of one revision it gives all or nothing.
    """
    loaded = load(connection)
    end = loaded.state.revision
    first_id = _first_inserted_after(since, loaded.state.head, connection)
    inserted, insert_end = _whole_revisions(INSERTED_ROWS, first_id, max_rows, 11, connection)
    updated, update_end = _whole_revisions(UPDATED_ROWS, since, max_rows, 9, connection)
    upto = min(end, insert_end or end, update_end or end)
    bounds = (since, upto)
    removals = [RemoveRows._make(row) for row in connection.execute(REMOVALS, bounds)]
    merged = connection.execute(MERGED, bounds).fetchall()
    _check_changes(removals, merged)
    inserted = [row for row in inserted if row[11] <= upto]
    others: list[tuple[int, Step]] = [
        *((step.revision, step) for step in removals),
        *((row[9], UpdateRow(row)) for row in updated if row[9] <= upto),
        *((revision, MergeMetadata(((key, value),), revision)) for key, value, revision in merged),
        *(
            (revision, step)
            for revision, step in _session_changes(loaded, connection)
            if since < revision <= upto
        ),
    ]
    others.sort(key=lambda step: step[0])  # stable: within a revision in the order above
    return Changes(
        [row[:11] for row in inserted],
        [row[11] for row in inserted],
        others,
        upto,
        upto < end,
        loaded.info,
    )


def _check_changes(removals: list[RemoveRows], merged: list[tuple[object, object, int]]) -> None:
    """Refuse what no session has: nobody else shall trip over it."""
    if not (
        all(
            type(first) is int
            and 0 <= first < MAX_ID  # a fork knows of removals above what it took over
            and (last is None or (type(last) is int and last < MAX_ID))
            for first, last, _ in removals
        )
        and {str}.issuperset(type(key) for key, _, _ in merged)
        and {str, type(None)}.issuperset(type(value) for _, value, _ in merged)
    ):
        raise sqlite3.DatabaseError("the log of what changed is damaged")


def _session_changes(loaded: Loaded, connection: sqlite3.Connection) -> list[tuple[int, Step]]:
    info: StoredInfo = loaded.info
    name_at, context_at, state_at = connection.execute(CHANGED_AT).fetchone()
    context = ChangeContext(
        (
            ("agent_alias", info.agent_alias),
            ("channel_id", info.channel_id),
            ("room_id", info.room_id),
            ("sender_id", info.sender_id),
        ),
        context_at,
    )
    return [
        (name_at, ChangeName(info.name, name_at)),
        (context_at, context),
        (state_at, ChangeStatus(loaded.state.status, state_at)),
    ]


def _first_inserted_after(since: int, head: int, connection: sqlite3.Connection) -> int:
    """The first row that was inserted after a revision: revisions rise with ids."""
    low, high = 1, head + 1
    while low < high:
        middle = (low + high) // 2
        db_id, inserted_at = connection.execute(INSERTED_FROM, (middle,)).fetchone()
        if inserted_at > since:
            high = middle
        else:
            low = db_id + 1
    return low


def _whole_revisions(
    query: str, start: int, max_rows: int, column: int, connection: sqlite3.Connection
) -> tuple[list[Any], int | None]:
    """Rows of whole revisions only, and the last of these if there are more rows."""
    while True:
        rows = fetch(connection, query, (start, max_rows + 1))
        if len(rows) <= max_rows:
            return rows, None
        cut = rows[-1][column]
        kept = [row for row in rows if row[column] < cut]
        if kept:
            return kept, cut - 1
        max_rows *= 4  # one revision with more rows than that
