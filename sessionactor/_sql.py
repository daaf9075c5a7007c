"""The SQL that opens and changes a session: it runs in the connection's own thread."""

from __future__ import annotations

import contextlib
import sqlite3
import traceback
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sessionactor import _presence as presence
from sessionactor import _schema as schema
from sessionactor._changes import (
    BeginTurn,
    ChangeContext,
    ChangeName,
    ChangeStatus,
    ContextField,
    EndTurn,
    FinishRestoring,
    InsertRows,
    MergeMetadata,
    RemoveRows,
    RestoreHistory,
    State,
    Step,
    StoredKey,
    StoredRow,
    UpdateRow,
)
from sessionactor._deciding import Decision, decide
from sessionactor._errors import SessionError
from sessionactor._inserting import AT_ONCE, COLUMNS, KEYED, inserts, lone_insert
from sessionactor._requests import MAX_ID, Write

INSERT_KEY: Final = "INSERT INTO keys (key, message_id, digest) VALUES (?, ?, ?)"
UPDATE: Final = (
    "UPDATE messages SET data = ?, updated_at = ?,"
    " first_revision = coalesce(first_revision, revision), revision = ? WHERE id = ?"
)
REMOVE: Final = "DELETE FROM messages WHERE id >= ? AND id <= ?"
LOG_REMOVAL: Final = "INSERT INTO removals (first_id, last_id, revision) VALUES (?, ?, ?)"
MERGE: Final = (
    "INSERT INTO metadata (key, value, revision) VALUES (?, ?, ?) ON CONFLICT (key)"
    " DO UPDATE SET value = excluded.value, revision = excluded.revision"
)
SAVE_STATE: Final = (
    "UPDATE session SET high_water = ?, revision = ?, last_at = ?, removed = ? WHERE one = 1"
)
SET_CONTEXT: Final[dict[ContextField, str]] = {
    "agent_alias": "UPDATE session SET agent_alias = ?, context_revision = ? WHERE one = 1",
    "channel_id": "UPDATE session SET channel_id = ?, context_revision = ? WHERE one = 1",
    "room_id": "UPDATE session SET room_id = ?, context_revision = ? WHERE one = 1",
    "sender_id": "UPDATE session SET sender_id = ?, context_revision = ? WHERE one = 1",
}
SET_NAME: Final = "UPDATE session SET name = ?, name_revision = ? WHERE one = 1"
SET_STATUS: Final = (
    "UPDATE session SET state = ?, turn_id = ?, turn_started_at = ?, token = ?,"
    " state_revision = ? WHERE one = 1"
)
BEGIN_TURN: Final = "INSERT INTO turns (turn, agent_id, opened_at) VALUES (?, ?, ?)"
END_TURN: Final = (
    "INSERT INTO turns (turn, agent_id, opened_at, closed_at) VALUES (:turn, '', :at, :at)"
    " ON CONFLICT (turn) DO UPDATE SET closed_at = excluded.closed_at"
)
RESTORE_TURN: Final = (
    "INSERT INTO turns (turn, agent_id, opened_at, closed_at, interrupted)"
    " VALUES (?1, ?2, ?3, ?4, ?4 IS NULL)"
)
RESTORE_ORIGIN: Final = "INSERT INTO origins (message_id, record) VALUES (?, ?)"
REMOVE_ORIGINS: Final = "DELETE FROM origins WHERE message_id >= ? AND message_id <= ?"
RESTORE_SESSION: Final = (
    "UPDATE session SET created_at = ?, parent = ?, name_revision = ?, context_revision = ?"
    " WHERE one = 1"
)
KEY: Final = "SELECT key, message_id, digest FROM keys WHERE key = ?"
ROW: Final = f"SELECT {COLUMNS} FROM messages WHERE id = ?"
COUNT: Final = "SELECT count(*) FROM messages WHERE id >= ? AND id < ?"
EXISTS: Final = "SELECT 1 FROM messages WHERE id = ?"
NEWEST_BELOW: Final = "SELECT id FROM messages WHERE id < ? ORDER BY id DESC LIMIT 1"
NEWEST_OF_AGENT_BELOW: Final = (
    "SELECT id FROM messages WHERE id < ? AND agent_id = ? ORDER BY id DESC LIMIT 1"
)
IS_CLOSED: Final = "SELECT 1 FROM turns WHERE turn = ? AND closed_at IS NOT NULL"
TURN_ROWS: Final = "SELECT id FROM messages WHERE turn = ? AND id >= ? ORDER BY id"
TURNS_BETWEEN: Final = (
    "SELECT turn FROM messages NOT INDEXED WHERE id >= ? AND id < ? AND turn IS NOT NULL"
)

_CALL: Final = "CALL"


class Connection(sqlite3.Connection):
    """A connection that also runs a whole procedure where it would execute a statement.

    aiosqlite sends one public call at a time to its thread; `CALL` makes it carry any
    number of statements in that one hop.
    """

    key: tuple[int, int] | None = None
    """The session's file that it has open, as `presence` knows it."""
    stored_keys = 0
    """How often keys were stored."""
    has_short_log = True
    """Whether never much was written at once."""

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """Execute a statement, or with `CALL` the procedure given as the parameter."""
        if sql is _CALL:
            (procedure,) = parameters
            try:
                return _Result(procedure(self))
            except BaseException as error:
                let_go(error)
                raise
        return super().execute(sql, parameters)

    def close(self) -> None:
        """Close the file, when nobody else in this process is just closing it."""
        with contextlib.nullcontext() if self.key is None else presence.closing(self.key):
            super().close()


def let_go(error: BaseException) -> None:
    """Let an error hold no cursor any more.

    SQLite closes a file only after the last statement is gone, and whoever keeps an error keeps
    all that its frames know. Closed much later, it would remove the log of whatever has the
    file's name by then.
    """
    at: BaseException | None = error
    while at is not None:
        traceback.clear_frames(at.__traceback__)
        at = at.__cause__ or at.__context__


class _Result:
    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def fetchall(self) -> object:
        return self._value


CALL: Final = _CALL


def commit(
    session_id: str,
    group: Sequence[Write],
    state: State,
    now: int,
    token: str,
    connection: Connection,
) -> Decision:
    """Decide and store a group in one transaction; `token` says whose `running` it is."""
    cursor = connection.cursor()
    # Only the owner writes, so that what is looked up here still holds in the transaction.
    assumed = _NewKeys(cursor)
    decision = decide(session_id, group, state, now, assumed)
    if not assumed.were_asked_for:
        _store(decision, token, connection)
        return decision
    if not any(isinstance(answer, SessionError) for answer in decision.answers):
        with contextlib.suppress(sqlite3.IntegrityError):  # one of the keys is not new
            _store(decision, token, connection)
            return decision
    decision = decide(session_id, group, state, now, _Content(cursor))
    _store(decision, token, connection)
    return decision


def _store(decision: Decision, token: str, connection: Connection) -> None:
    steps = decision.steps
    first = steps[0] if len(steps) == 1 else None
    if type(first) is InsertRows:
        statement = lone_insert(first, keyed=bool(first.keys) and _has_keyed(connection))
        if statement is not None:  # which is a transaction by itself
            text, values = statement
            connection.executemany(text, (values,))  # asks for no row id: a handing over less
            return
        if connection.has_short_log and len(first.rows) > AT_ONCE[0]:
            connection.execute(f"PRAGMA wal_autocheckpoint = {schema.WAL_PAGES}")
            connection.has_short_log = False
    if steps:
        apply(decision, token, connection)


def _has_keyed(connection: Connection) -> bool:
    """Whether keys can be stored with their rows: from the second time on it pays."""
    if connection.stored_keys == 1:
        for statement in KEYED:
            connection.execute(statement)
    connection.stored_keys += 1
    return connection.stored_keys > 1


def apply(decision: Decision, token: str, connection: sqlite3.Connection) -> None:
    """Store what was decided, in one transaction."""
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    try:
        _apply(decision, token, cursor)
        cursor.execute("COMMIT")
    finally:
        if connection.in_transaction:
            cursor.execute("ROLLBACK")


def _apply(decision: Decision, token: str, cursor: sqlite3.Cursor) -> None:
    only_rows = True
    for step in decision.steps:
        if type(step) is InsertRows:
            if step.keys:  # first, because a key that is not new is the end of it
                cursor.executemany(INSERT_KEY, step.keys)
            for statement in inserts(step.rows):
                cursor.execute(*statement)
        else:
            only_rows = False
            if isinstance(step, UpdateRow | RemoveRows | BeginTurn | EndTurn | RestoreHistory):
                _change_history(step, cursor)
            else:
                _change_session(step, token, cursor)
    if not only_rows:
        state = decision.state
        values = (state.high_water, state.revision, state.last_at, state.removed)
        cursor.execute(SAVE_STATE, values)


def _change_history(
    step: UpdateRow | RemoveRows | BeginTurn | EndTurn | RestoreHistory, cursor: sqlite3.Cursor
) -> None:
    match step:
        case UpdateRow(row):
            cursor.execute(UPDATE, (row[2], row[10], row[9], row[0]))
        case RemoveRows(first_id, last_id, _):
            bounds = (first_id, MAX_ID if last_id is None else last_id)
            cursor.execute(REMOVE, bounds)
            cursor.execute(REMOVE_ORIGINS, bounds)
            cursor.execute(LOG_REMOVAL, step)
        case BeginTurn(turn, _):
            cursor.execute(BEGIN_TURN, turn[:3])
        case EndTurn(turn_id, at, _):
            cursor.execute(END_TURN, {"turn": turn_id, "at": at})
        case RestoreHistory(turns, removals, origins, _):
            cursor.executemany(RESTORE_TURN, turns)
            cursor.executemany(LOG_REMOVAL, removals)
            cursor.executemany(RESTORE_ORIGIN, origins)


def _change_session(step: Step, token: str, cursor: sqlite3.Cursor) -> None:
    match step:
        case MergeMetadata(items, revision):
            cursor.executemany(MERGE, [(*item, revision) for item in items])
        case ChangeContext(items, revision):
            for field, value in items:
                cursor.execute(SET_CONTEXT[field], (value, revision))
        case ChangeName():
            cursor.execute(SET_NAME, step)
        case ChangeStatus(status, revision):
            owner = token if status.state == "running" else None
            cursor.execute(SET_STATUS, (*status, owner, revision))
        case FinishRestoring(restored, revision):
            origin = (restored.created_at, restored.parent)
            revisions = (restored.name_revision, restored.context_revision)
            for field, value in restored.context:
                cursor.execute(SET_CONTEXT[field], (value, revision))
            cursor.execute(RESTORE_SESSION, (*origin, *revisions))
            cursor.execute(SET_STATUS, (*restored.status, None, restored.state_revision))


class _Content:
    """What the file holds, as deciding looks it up."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    def key(self, key: str) -> StoredKey | None:
        found = self._cursor.execute(KEY, (key,)).fetchone()
        return found and StoredKey._make(found)

    def row(self, db_id: int) -> StoredRow | None:
        return fetch_row(self._cursor.connection, db_id)

    def count(self, start: int, stop: int) -> int:
        (count,) = self._cursor.execute(COUNT, (start, stop)).fetchone()
        return int(count)

    def existing(self, db_ids: Sequence[int]) -> Iterable[int]:
        exists = self._cursor.execute
        return [db_id for db_id in db_ids if exists(EXISTS, (db_id,)).fetchone()]

    def newest_below(self, stop: int, agent_id: str | None = None) -> int:
        if agent_id is None:
            found = self._cursor.execute(NEWEST_BELOW, (stop,)).fetchone()
        else:
            found = self._cursor.execute(NEWEST_OF_AGENT_BELOW, (stop, agent_id)).fetchone()
        return found[0] if found else 0

    def is_closed(self, turn_id: str) -> bool:
        return bool(self._cursor.execute(IS_CLOSED, (turn_id,)).fetchone())

    def turn_rows(self, turn_id: str, start: int) -> Sequence[int]:
        return self._ids(TURN_ROWS, turn_id, start)

    def turns_between(self, start: int, stop: int) -> Iterable[str]:
        found = fetch(self._cursor.connection, TURNS_BETWEEN, (start, stop))
        return {turn for (turn,) in found if type(turn) is str}

    def _ids(self, query: str, *values: object) -> list[int]:
        return [db_id for (db_id,) in self._cursor.execute(query, values)]


class _NewKeys(_Content):
    """The same, if all keys are new, as nearly all are: that is seen when they are stored."""

    were_asked_for = False

    def key(self, key: str) -> StoredKey | None:
        self.were_asked_for = True
        return None


def fetch(connection: sqlite3.Connection, query: str, values: Any) -> list[Any]:
    """All rows of a query whose text may not be UTF-8: a corrupt row has no agent then."""
    try:
        return connection.execute(query, values).fetchall()
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
    # Some text is not UTF-8: read such text as bytes, which makes a corrupt row of its row.
    connection.text_factory = _text_or_bytes
    try:
        rows = connection.execute(query, values).fetchall()
    finally:
        connection.text_factory = str
    return [row if bytes not in map(type, row[5:]) else (row[0], None, *row[2:]) for row in rows]


def fetch_row(connection: sqlite3.Connection, db_id: int | None) -> StoredRow | None:
    """The row of that id."""
    for row in fetch(connection, ROW, (db_id,)):
        return tuple(row)
    return None


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
