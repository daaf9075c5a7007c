"""Taking over the SQLite files of ADK's own services, as they are made now."""

from __future__ import annotations

import json
import os
import sqlite3
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from anyio import to_thread
from google.adk.events.event import Event

from sessionactor import SessionRegistry, StaleRevisionError
from sessionactor.adapters import _google_adk_events as events
from sessionactor.adapters import _google_adk_state as adk
from sessionactor.adapters._google_adk_scopes import Scopes
from sessionactor.adapters._google_adk_state import About, Delta

_SESSIONS: Final = "SELECT app_name, user_id, id, state, update_time FROM sessions"
_EVENTS: Final = (
    "SELECT event_data, id, invocation_id FROM events"
    " WHERE app_name = ? AND user_id = ? AND session_id = ? ORDER BY timestamp, rowid"
)
_STATES: Final = (
    "SELECT app_name, state FROM app_states",
    "SELECT app_name, user_id, state FROM user_states",
)


async def import_sqlite(
    registry: SessionRegistry, shared: Scopes, path: str | os.PathLike[str]
) -> int:
    """Take over what is not there yet, each session whole or not at all; how many came."""
    connection = await to_thread.run_sync(_open, Path(path))

    async def rows(sql: str, *values: str) -> list[Any]:
        return await to_thread.run_sync(lambda: connection.execute(sql, values).fetchall())

    try:
        for sql in _STATES:
            for *names, state in await rows(sql):
                await shared.add_missing(tuple(names), json.loads(state))
        count = 0
        for app, user, session_id, state, updated in await rows(_SESSIONS):
            names = (app, user, session_id)
            found = await rows(_EVENTS, *names)
            made = [_event(*row) for row in found]
            about = About(names, _seconds(updated), adk.escaped(made[-1].id) if made else None)
            count += await _create(registry, about, json.loads(state), made)
        return count
    finally:
        connection.close()


async def _create(
    registry: SessionRegistry, about: About, state: dict[str, Any], made: list[Event]
) -> bool:
    """Create a session with its events, unless it is there."""
    changed: set[str] = set()
    for event in made:
        changed |= event.actions.state_delta.keys()
    initial = {key: value for key, value in state.items() if key not in changed}
    session = await registry.start(adk.session_id_of(*about.names))
    if await session.revision():
        return False
    try:
        async with session.batch(expected_revision=0) as batch:
            for event in made:
                key = adk.escaped(event.id)
                batch.append(adk.escaped(event.author), events.message(event), key=key)
            adk.describe(batch, about)
            batch.save_metadata(adk.beginning(Delta({}, {}, initial)) | adk.as_metadata(state))
    except StaleRevisionError:
        return False
    return True


def _open(path: Path) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    connect = partial(sqlite3.connect, uri, uri=True, check_same_thread=False)
    connection: sqlite3.Connection = connect()
    try:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(events)")}
    except sqlite3.Error:
        connection.close()
        raise
    if "event_data" not in columns:
        connection.close()
        raise ValueError(
            f"{path} has no events as ADK stores them now; if ADK made it, bring it up to date"
            " with google.adk.sessions.migration, and import what that makes"
        )
    return connection


def _event(data: str, event_id: str, invocation_id: str) -> Event:
    known = {"id": event_id, "invocation_id": invocation_id}
    return Event.model_validate(json.loads(data) | known)


def _seconds(time: float | str) -> float:
    if isinstance(time, str):  # of a database: UTC, without saying so
        return datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()
    return time


__all__ = ["import_sqlite"]
