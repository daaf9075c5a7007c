"""Copies of a session, made while it goes on: what a fork begins with, and a backup.

All of it blocks. A copy reads through a connection of its own, which sees one moment of what
is committed. That connection may write: the last one of a file to close tidies its log up, and
one for reading only would leave it behind.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from sessionactor import _files as files
from sessionactor import _names as names
from sessionactor import _paging as paging
from sessionactor._errors import SessionBusyError, SessionNotFoundError
from sessionactor._sql import COLUMNS

Stopped: TypeAlias = Callable[[], bool]
"""Whether nobody wants the copy any more."""

_OPERATIONS: Final = 200_000
"""Of SQLite, a few milliseconds, after which a copy asks whether it is still wanted."""

IDENTITY: Final = "SELECT session_id, created_at FROM session"
NEW_ID: Final = "SELECT session_id FROM main.session"
STATE: Final = (
    "SELECT one.session_id, one.created_at, one.state, max(one.high_water, coalesce(head.id, 0)),"
    " max(one.revision, coalesce(head.revision, 0)), one.last_at FROM origin.session AS one"
    " LEFT JOIN (SELECT id, revision FROM origin.messages ORDER BY id DESC LIMIT 1) AS head"
)
NEWEST: Final = "SELECT coalesce(max(id), 0) FROM main.messages"
TURN_SPANS: Final = (
    "SELECT min(id), max(id) FROM origin.messages WHERE turn IS NOT NULL GROUP BY turn"
    " ORDER BY max(id) DESC"
)
_REST: Final = "substr(parent, length(:own) + 1)"
_PARENT: Final = (
    f"CASE WHEN substr(parent, 1, length(:own)) = :own"
    f" AND CAST(CAST({_REST} AS INTEGER) AS TEXT) = {_REST}"
    f" AND CAST({_REST} AS INTEGER) BETWEEN 1 AND :bound - 1"
    f" THEN :new || {_REST} ELSE parent END"
)
"""A reference to a message of the origin's that comes along becomes one to the copy of it."""
TAKE_ROWS: Final = (
    f"INSERT INTO main.messages ({COLUMNS}, first_revision)"
    f" SELECT {COLUMNS.replace('parent', _PARENT)}, first_revision"
    " FROM origin.messages WHERE id < :bound ORDER BY id"
)
TAKE_KEYS: Final = (
    "INSERT INTO main.keys (key, message_id, digest)"
    " SELECT key, message_id, digest FROM origin.keys WHERE message_id < :bound"
)
TAKE_TURNS: Final = (
    "INSERT INTO main.turns (turn, agent_id, opened_at, closed_at)"
    " SELECT turn, agent_id, opened_at, coalesce(closed_at, :now) FROM origin.turns AS one"
    " WHERE EXISTS (SELECT 1 FROM main.messages WHERE turn = one.turn)"
    " OR (:whole AND closed_at IS NOT NULL)"
)
TAKE_REMOVALS: Final = (
    "INSERT INTO main.removals (revision, first_id, last_id)"
    " SELECT revision, first_id, last_id FROM origin.removals WHERE first_id < :bound"
    " ORDER BY rowid"
)
LOG_CUT: Final = (
    "INSERT INTO main.removals (revision, first_id) SELECT :revision, :bound"
    " WHERE EXISTS (SELECT 1 FROM origin.messages WHERE id >= :bound)"
)
TAKE_METADATA: Final = (
    "INSERT INTO main.metadata (key, value, revision)"
    " SELECT key, value, revision FROM origin.metadata"
)
TAKE_SESSION: Final = (
    "UPDATE main.session SET high_water = :bound - 1, revision = :revision, last_at = :last_at,"
    " removed = :bound - 1 - :count, parent = :own || :newest, name_revision = :revision,"
    " agent_alias = one.agent_alias, channel_id = one.channel_id, room_id = one.room_id,"
    " sender_id = one.sender_id, context_revision = one.context_revision, state_revision ="
    " CASE WHEN one.state = 'idle' THEN one.state_revision ELSE :revision END"
    " FROM origin.session AS one"
)
DISOWN: Final = "UPDATE session SET token = NULL WHERE token IS NOT NULL"


class Origin(NamedTuple):
    """The session that a copy is made of."""

    session_id: str
    created_at: int
    """Tells it from another one that is created under its id later."""
    path: Path | None = None
    """`None`: in memory."""
    image: bytes | None = None
    """In memory: its content."""
    before: int | None = None
    """Only rows with smaller ids come along; `None`: all."""
    whole_turns: bool = False
    """The bound moves down until no turn lies on both sides of it."""


def fork_image(image: bytes, origin: Origin, now: int) -> bytes:
    """The image of a new session with the history of another one, all in memory.

    Raises:
        SessionBusyError: the origin is being imported.
    """
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.deserialize(image)
        connection.execute("ATTACH ':memory:' AS origin")
        connection.deserialize(origin.image or b"", name="origin")
        _take_over(origin, now, connection)
        return connection.serialize()


def fork_file(image: bytes, origin: Origin, now: int, stopped: Stopped, draft: Path) -> None:
    """Make a new session's file, of its image and with the history of another one, and sync it.

    Raises:
        SessionNotFoundError: the origin is not at its path (any more).
        SessionBusyError: it is being imported.
    """
    draft.write_bytes(image)
    with _entered(origin) as path, _connected(draft, stopped) as connection:
        # What fails is thrown away: nothing is ever rolled back, and synced is all at once.
        connection.execute("PRAGMA main.journal_mode = OFF")
        connection.execute("PRAGMA main.synchronous = OFF")
        connection.execute("ATTACH ? AS origin", (files.uri(path),))
        _take_over(origin, now, connection)
    files.seal(draft)


def back_up(origin: Origin, target: Path, stopped: Stopped) -> None:
    """Put a copy of a session in place, as one file, or nothing.

    Raises:
        SessionNotFoundError: it is not at its path (any more).
        FileExistsError: the target is something already; it is left as it is.
    """
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the directory {target.parent} does not exist; make it first")
    files.create(
        target,
        target.with_name(names.part_file_name()),
        partial(_write_backup, origin, stopped),
    )


def _write_backup(origin: Origin, stopped: Stopped, draft: Path) -> None:
    if origin.image is None:
        with _entered(origin) as path, _connected(path, stopped) as connection:
            _check(origin, *connection.execute(IDENTITY).fetchone())
            _copy_into(draft, connection)
    else:
        with contextlib.closing(sqlite3.connect(":memory:", uri=True)) as connection:
            connection.deserialize(origin.image)
            _copy_into(draft, connection)
    with _connected(draft, stopped) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute(DISOWN)  # nobody runs a copy
    files.seal(draft)


def _copy_into(draft: Path, connection: sqlite3.Connection) -> None:
    with open(draft, "xb"):
        pass  # for SQLite to fill
    connection.execute("VACUUM INTO ?", (files.uri(draft),))


def _take_over(origin: Origin, now: int, connection: sqlite3.Connection) -> None:
    """Fill a new session (`main`) with the history of another one (`origin`)."""
    connection.execute("BEGIN")  # from the first read on, the origin is as it was at one moment
    session_id, created_at, state, high_water, revision, last_at = connection.execute(
        STATE
    ).fetchone()
    _check(origin, session_id, created_at)
    if state == "importing":
        raise SessionBusyError(
            f"session {session_id!r} is being imported; fork it when that is finished",
            session_id=session_id,
        )
    ((new_id,),) = connection.execute(NEW_ID)
    bound = high_water + 1 if origin.before is None else min(origin.before, high_water + 1)
    if origin.whole_turns:
        bound = paging.uncut(bound, connection.execute(TURN_SPANS))
    bound = max(bound, 1)
    values = {
        "bound": bound,
        "whole": bound > high_water,
        "own": f"{session_id}/",
        "new": f"{new_id}/",
        "now": now,
        "revision": revision + 1,
        "last_at": max(now, last_at),
    }
    values["count"] = connection.execute(TAKE_ROWS, values).rowcount
    ((values["newest"],),) = connection.execute(NEWEST)
    for statement in (TAKE_KEYS, TAKE_TURNS, TAKE_REMOVALS, LOG_CUT, TAKE_METADATA, TAKE_SESSION):
        connection.execute(statement, values)
    connection.execute("COMMIT")


def _check(origin: Origin, session_id: str, created_at: int) -> None:
    if (session_id, created_at) != (origin.session_id, origin.created_at):
        raise vanished(origin)


def vanished(origin: Origin) -> SessionNotFoundError:
    """The error for a session that is not there any more."""
    return SessionNotFoundError(
        f"session {origin.session_id!r} does not exist any more", session_id=origin.session_id
    )


@contextlib.contextmanager
def _entered(origin: Origin) -> Iterator[Path]:
    """Take note, for as long as it is read, that this process has the origin's file open."""
    assert origin.path is not None
    kind, key = files.enter(origin.path)
    if kind is not files.Kind.SESSION:
        raise vanished(origin)
    try:
        yield origin.path
    finally:
        files.leave(key)


@contextlib.contextmanager
def _connected(path: Path, stopped: Stopped) -> Iterator[sqlite3.Connection]:
    """A connection to a file that is there, which gives up once the copy is not wanted."""
    connection = sqlite3.connect(
        files.uri(path), uri=True, timeout=files.BUSY_TIMEOUT_S, isolation_level=None
    )
    try:
        connection.set_progress_handler(stopped, _OPERATIONS)
        yield connection
    finally:
        connection.close()


__all__ = ["Origin", "Stopped", "back_up", "fork_file", "fork_image", "vanished"]
