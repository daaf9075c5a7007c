"""The SQL of a session file: what runs in the connection's own thread, a procedure a hop."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeGuard

from sessionactor import _paging as paging
from sessionactor._deciding import (
    Decision,
    InsertRows,
    MergeMetadata,
    RemoveRows,
    State,
    Step,
    StoredKey,
    StoredRow,
    decide,
)
from sessionactor._paging import Bounds, Checkpoint
from sessionactor._requests import MAX_ID, ReadChapter, ReadRow, ReadRows, Write
from sessionactor._times import now

_COLUMNS: Final = (
    "id, agent_id, data, inserted_at, checkpoint, keep_from, key, parent, turn, revision"
)
_OF_AGENT: Final = "(:agent_id IS NULL OR agent_id = :agent_id)"

_NOTHING: Final = (None, None, None, None)
"""What a plain row, as nearly all are, has for `keep_from`, key, parent and turn."""
_SEVERAL: Final = 16
"""Plain rows of one statement."""
_SHORT_BYTES: Final = 8 * 1024
"""Of a message that may be copied, and that a statement may hold on to until it runs again."""

STATE: Final = "SELECT session_id, name, high_water, revision, last_at FROM session"
HEAD: Final = "SELECT id, inserted_at, revision FROM messages ORDER BY id DESC LIMIT 1"
REMOVED_AT: Final = "SELECT revision FROM removals ORDER BY rowid DESC LIMIT 1"
INSERT: Final = f"INSERT INTO messages ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_PLAIN: Final = (
    "INSERT INTO messages (id, agent_id, data, inserted_at, checkpoint, revision)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
INSERT_SEVERAL_PLAIN: Final = INSERT_PLAIN + ", (?, ?, ?, ?, ?, ?)" * (_SEVERAL - 1)
INSERT_KEY: Final = "INSERT INTO keys (key, message_id, digest) VALUES (?, ?, ?)"
REMOVE: Final = "DELETE FROM messages WHERE id >= ?"
LOG_REMOVAL: Final = "INSERT INTO removals (first_id, revision) VALUES (?, ?)"
MERGE: Final = (
    "INSERT INTO metadata (key, value, revision) VALUES (?, ?, ?) ON CONFLICT (key)"
    " DO UPDATE SET value = excluded.value, revision = excluded.revision"
)
SAVE_STATE: Final = "UPDATE session SET high_water = ?, revision = ?, last_at = ? WHERE one = 1"
RENAME: Final = "UPDATE session SET session_id = ?, name = ? WHERE one = 1"
KEY: Final = "SELECT key, message_id, digest FROM keys WHERE key = ?"
COUNT: Final = "SELECT count(*) FROM messages WHERE id >= ? AND id < ?"
NEWEST_BELOW: Final = "SELECT id FROM messages WHERE id < ? ORDER BY id DESC LIMIT 1"
ROW: Final = f"SELECT {_COLUMNS} FROM messages WHERE id = ?"
ROWS: Final = (
    f"SELECT {_COLUMNS} FROM messages WHERE id > :after AND id < :before AND {_OF_AGENT}"
    " AND id IS NOT :without ORDER BY id LIMIT :limit"
)
NEWEST_ROWS: Final = ROWS.replace("ORDER BY id", "ORDER BY id DESC")
NTH_NEWEST: Final = (
    f"SELECT id FROM messages WHERE id > :after AND id < :before AND {_OF_AGENT}"
    " ORDER BY id DESC LIMIT 1 OFFSET :skip"
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

_CALL: Final = "CALL"


class Connection(sqlite3.Connection):
    """A connection that also runs a whole procedure where it would execute a statement.

    aiosqlite sends one public call at a time to its thread; `CALL` makes it carry any
    number of statements in that one hop.
    """

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """Execute a statement, or with `CALL` the procedure given as the parameter."""
        if sql is _CALL:
            (procedure,) = parameters
            return _Result(procedure(self))
        return super().execute(sql, parameters)


class _Result:
    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def fetchall(self) -> object:
        return self._value


CALL: Final = _CALL


class Identity(NamedTuple):
    """The true id and name of a session, as its file holds them."""

    session_id: str
    name: str


class Loaded(NamedTuple):
    """What opening a file tells."""

    identity: Identity
    state: State


def load(connection: sqlite3.Connection) -> Loaded:
    """Read the session's identity and state.

    Appends write only rows: the head row then knows a newer revision than the table.
    """
    found = connection.execute(STATE).fetchone()
    if found is None:
        raise sqlite3.DatabaseError("the session table is empty")
    session_id, name, high_water, revision, last_at = found
    head, head_at, head_revision = connection.execute(HEAD).fetchone() or (0, 0, 0)
    (removed_at,) = connection.execute(REMOVED_AT).fetchone() or (0,)
    state = State(
        head,
        max(high_water, head),
        max(revision, head_revision),
        max(last_at, head_at),
        removed_at,
    )
    return Loaded(Identity(session_id, name), state)


def commit(
    session_id: str, group: Sequence[Write], state: State, connection: sqlite3.Connection
) -> Decision:
    """Decide and store a group in one transaction."""
    cursor = connection.cursor()
    # Only the owner writes, so that what is looked up here still holds in the transaction.
    decision = decide(session_id, group, state, now(), _Content(cursor))
    steps = decision.steps
    if not steps:
        return decision
    if _is_lone_row(steps):  # one statement is a transaction by itself
        cursor.execute(INSERT, steps[0].rows[0])
        return decision
    cursor.execute("BEGIN IMMEDIATE")
    try:
        _apply(decision, cursor)
        cursor.execute("COMMIT")
    finally:
        if connection.in_transaction:
            cursor.execute("ROLLBACK")
    return decision


def _is_lone_row(steps: list[Step]) -> TypeGuard[list[InsertRows]]:
    first = steps[0]
    return len(steps) == 1 and type(first) is InsertRows and len(first.rows) == 1 and not first.keys


def _apply(decision: Decision, cursor: sqlite3.Cursor) -> None:
    only_rows = True
    for step in decision.steps:
        match step:
            case InsertRows(rows, keys):
                _insert(rows, cursor)
                if keys:
                    cursor.executemany(INSERT_KEY, keys)
            case RemoveRows():
                only_rows = False
                cursor.execute(REMOVE, (step.first_id,))
                cursor.execute(LOG_REMOVAL, step)
            case MergeMetadata(items, revision):
                only_rows = False
                cursor.executemany(MERGE, [(*item, revision) for item in items])
    if not only_rows:
        _, high_water, revision, last_at, _ = decision.state
        cursor.execute(SAVE_STATE, (high_water, revision, last_at))


def _insert(rows: list[StoredRow], cursor: sqlite3.Cursor) -> None:
    if any(row[5:9] != _NOTHING or len(row[2]) > _SHORT_BYTES for row in rows):
        cursor.executemany(INSERT, rows)
        return
    several = len(rows) - len(rows) % _SEVERAL
    for start in range(0, several, _SEVERAL):
        cursor.execute(INSERT_SEVERAL_PLAIN, _plain(rows[start : start + _SEVERAL]))
    cursor.executemany(INSERT_PLAIN, [_plain([row]) for row in rows[several:]])


def _plain(rows: list[StoredRow]) -> list[object]:
    values: list[object] = []
    for db_id, agent_id, data, at, checkpoint, _, _, _, _, revision in rows:
        # Of `bytes`, as of `None`, sqlite3 asks each time how to adapt it: dearer than a copy.
        values += (db_id, agent_id, bytearray(data), at, checkpoint, revision)
    return values


class _Content:
    """What the file holds, as deciding looks it up."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    def key(self, key: str) -> StoredKey | None:
        found = self._cursor.execute(KEY, (key,)).fetchone()
        return found and StoredKey._make(found)

    def count(self, start: int, stop: int) -> int:
        (count,) = self._cursor.execute(COUNT, (start, stop)).fetchone()
        return int(count)

    def newest_below(self, stop: int) -> int:
        found = self._cursor.execute(NEWEST_BELOW, (stop,)).fetchone()
        return found[0] if found else 0


def rename(identity: Identity, connection: sqlite3.Connection) -> None:
    """Store another id and name."""
    connection.execute(RENAME, identity)


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
    newest = read.newest and read.limit is not None
    if newest and read.limit is not None and read.limit > max_rows:
        # Too many for one slice: find where they begin, and read on from there.
        values["skip"] = read.limit - 1
        (first,) = connection.execute(NTH_NEWEST, values).fetchone() or (1,)
        newest, values["after"] = False, max(first - 1, values["after"] or 0)
    take = max_rows if read.limit is None else min(read.limit, max_rows)
    values["limit"] = take
    rows = _fetch(connection, NEWEST_ROWS if newest else ROWS, values)
    if newest:
        rows.reverse()
    if len(rows) < take or take == read.limit:
        return rows, None
    left = None if read.limit is None else read.limit - take
    return rows, read._replace(after=rows[-1][0], limit=left, newest=False, goes_on=True)


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
        rows[:0] = _fetch(connection, ROW, (head,))
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
    return _fetch(connection, ROW, (db_id,))


def _fetch(connection: sqlite3.Connection, query: str, values: Any) -> list[StoredRow]:
    try:
        rows: list[StoredRow] = connection.execute(query, values).fetchall()
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
    else:
        return rows
    # Some text is not UTF-8: read such text as bytes, which makes a corrupt row of its row.
    connection.text_factory = _text_or_bytes
    try:
        rows = connection.execute(query, values).fetchall()
    finally:
        connection.text_factory = str
    return [row if bytes not in map(type, row[5:]) else _without_agent(row) for row in rows]


def _without_agent(row: StoredRow) -> StoredRow:
    values: Any = row
    return (*values[:1], None, *values[2:])


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def read_metadata(connection: sqlite3.Connection) -> dict[str, str | None]:
    """All metadata."""
    return dict(connection.execute(METADATA).fetchall())
