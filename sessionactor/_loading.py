"""The SQL that tells what a session is when its file is opened, and that sets it right."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from sessionactor._changes import OpenTurn, State, Status, StoredInfo, are_sound
from sessionactor._sql import SAVE_STATE, SET_STATUS
from sessionactor._times import LATEST

DAMAGE: Final = (
    *(sqlite3.Error, OSError, ArithmeticError, LookupError, TypeError, ValueError, MemoryError),
)
"""What reading a damaged file raises: its values, and SQLite's words that quote them, are odd."""

IDENTITY: Final = "SELECT session_id, name FROM session"
STATE: Final = (
    "SELECT session_id, name, created_at, agent_alias, channel_id, room_id, sender_id, token,"
    " parent, high_water, revision, last_at, removed, state, turn_id, turn_started_at FROM session"
)
HEAD: Final = "SELECT id, inserted_at, revision FROM messages ORDER BY id DESC LIMIT 1"
SOUND: Final = (
    "SELECT inserted_at, revision FROM messages WHERE typeof(inserted_at) = 'integer'"
    " AND inserted_at BETWEEN -:latest AND :latest AND typeof(revision) = 'integer'"
    " ORDER BY id DESC LIMIT 1"
)
REMOVED_AT: Final = "SELECT revision FROM removals ORDER BY rowid DESC LIMIT 1"
UPDATED_AT: Final = "SELECT max(revision) FROM messages WHERE updated_at IS NOT NULL"
OPEN_TURNS: Final = (
    "SELECT turn, agent_id, opened_at, interrupted FROM turns WHERE closed_at IS NULL"
    " ORDER BY opened_at"
)
INTERRUPT_TURNS: Final = "UPDATE turns SET interrupted = 1 WHERE closed_at IS NULL"
IDENTIFY: Final = (
    "UPDATE session SET session_id = ?, name = ?, revision = ?, name_revision = ? WHERE one = 1"
)


class Loaded(NamedTuple):
    """What opening a file tells."""

    info: StoredInfo
    state: State


def load(connection: sqlite3.Connection) -> Loaded:
    """Read what a session is and what state it is in.

    Appends write only rows: the head row then knows a newer revision than the table.
    """
    found = connection.execute(STATE).fetchone()
    if found is None:
        raise sqlite3.DatabaseError("the session table is empty")
    session_id, name, created_at, alias, channel, room, sender, token, parent, *rest = found
    high_water, revision, last_at, removed, *status = rest
    head, head_at, head_revision = connection.execute(HEAD).fetchone() or (0, last_at, 0)
    if not (type(head_revision) is int and type(head_at) is int and abs(head_at) <= LATEST):
        # A corrupt row is not to spoil the time and revision of what comes after it.
        sound = connection.execute(SOUND, {"latest": LATEST}).fetchone()
        head_at, head_revision = sound or (last_at, 0)
        head_revision += 1
    (removed_at,) = connection.execute(REMOVED_AT).fetchone() or (0,)
    (updated_at,) = connection.execute(UPDATED_AT).fetchone()
    turns = connection.execute(OPEN_TURNS).fetchall()
    state = State(
        head,
        max(high_water, head),
        max(revision, head_revision),
        max(last_at, head_at),
        max(removed_at, updated_at or 0),
        removed,
        Status._make(status),
        tuple(OpenTurn(turn, agent, at, mark == 1) for turn, agent, at, mark in turns),
    )
    info = StoredInfo(
        *(session_id, name, created_at, 0, 0, alias, channel, room, sender),
        *("idle", None, None, token, parent, 0, 0),
    )
    info = info.at(state, token)
    if not are_sound([(value,) for value in info]):
        raise sqlite3.DatabaseError("the session table is damaged")
    return Loaded(info, state)


def read_identity(connection: sqlite3.Connection) -> tuple[str, str]:
    """The id and name of a session, in a file of any version."""
    found = connection.execute(IDENTITY).fetchone()
    if found is None:
        raise sqlite3.DatabaseError("the session table is empty")
    session_id, name = found
    if not (type(session_id) is type(name) is str):
        raise sqlite3.DatabaseError("the session table is damaged")
    return session_id, name


def identify(session_id: str, name: str, revision: int, connection: sqlite3.Connection) -> None:
    """Store another id and name: the file was copied or renamed by hand."""
    connection.execute(IDENTIFY, (session_id, name, revision, revision))


def interrupted(loaded: Loaded) -> Loaded:
    """A session as it is to be seen whose `running` nobody owns."""
    info, state = loaded
    turns = tuple(turn._replace(interrupted=True) for turn in state.turns)
    state = state._replace(status=state.status._replace(state="interrupted"), turns=turns)
    return Loaded(info.at(state, None), state)


def interrupt(state: State, connection: sqlite3.Connection) -> None:
    """Mark what another registry left running."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        revision = state.revision + 1
        connection.execute(SET_STATUS, ("interrupted", *state.status[1:], None, revision))
        connection.execute(INTERRUPT_TURNS)
        values = (state.high_water, revision, state.last_at, state.removed)
        connection.execute(SAVE_STATE, values)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
