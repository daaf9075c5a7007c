"""Events as rows, and ADK's session object made of them."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

from google.adk.errors import StaleSessionError
from google.adk.events.event import Event
from google.adk.sessions import Session as AdkSession
from google.adk.sessions import State
from google.adk.sessions.base_session_service import GetSessionConfig
from pydantic import PrivateAttr

from sessionactor import Row, Session
from sessionactor.adapters._google_adk_state import About, escaped

PAGE: Final = 500
"""So many sessions or events are made at once; then others have their turn."""
_PATIENCE: Final = 3


_set = object.__setattr__


class StoredSession(AdkSession):
    """An ADK session that knows which event was the newest when it was read."""

    _head: int | None = PrivateAttr(default=None)

    @classmethod
    def made(cls, about: About, state: dict[str, Any], head: int | None = None) -> StoredSession:
        """A session without its events."""
        app, user, session_id = about.names
        made = cls(
            id=session_id,
            app_name=app,
            user_id=user,
            state=state,
            last_update_time=about.updated,
        )
        made._head = head
        return made

    @classmethod
    def listed(
        cls, app: str, user: str, session_id: str, state: dict[str, Any], updated: float
    ) -> StoredSession:
        """One of thousands in a listing: as `made`, of what needs no validation."""
        made = cls.__new__(cls)
        fields = {
            **_FIELDS,
            "id": session_id,
            "app_name": app,
            "user_id": user,
            "state": state,
            "events": [],
            "last_update_time": updated,
        }
        # As pydantic copies a model.
        _set(made, "__dict__", fields)
        _set(made, "__pydantic_extra__", None)
        _set(made, "__pydantic_fields_set__", _FIELDS_SET)
        _set(made, "__pydantic_private__", _PRIVATE.copy())
        return made


# What one that was validated has.
_PICKLED: Final = StoredSession(
    id="", app_name="", user_id="", state={}, events=[], last_update_time=0.0
).__getstate__()
_FIELDS: Final = _PICKLED["__dict__"]
_FIELDS_SET: Final = set(StoredSession.model_fields)
"""One for all: every field is in it, so that setting one changes nothing."""
_PRIVATE: Final = _PICKLED["__pydantic_private__"]

_DUMPED: Final = Event().model_dump(mode="json", exclude_none=True)
_PLAIN: Final[dict[str, dict[str, Any]]] = {
    part: _DUMPED[part] for part in ("actions", "node_info")
}
"""Parts of an event as they are in most events."""


def stale() -> StaleSessionError:
    """The error for a session object that does not know the newest events."""
    return StaleSessionError(
        "The session has been modified in storage since it was loaded."
        " Please reload the session before appending more events."
    )


def message(event: Event) -> dict[str, Any]:
    """An event as a message, without the state that is not to be stored.

    Neither what every event has nor its id, which is the row's key, is said again.
    """
    made = event.model_dump(mode="json", exclude_none=True)
    delta = made["actions"]["state_delta"]
    for key in [key for key in delta if key.startswith(State.TEMP_PREFIX)]:
        del delta[key]
    for part, plain in _PLAIN.items():
        said = made.pop(part)
        if said != plain:
            made[part] = {
                key: value for key, value in said.items() if key not in plain or value != plain[key]
            }
    if escaped(event.id) == event.id:
        del made["id"]
    return made


async def events(rows: list[Row]) -> list[Event]:
    """The events that rows are."""
    made: list[Event] = []
    for start in range(0, len(rows), PAGE):
        if start:
            await asyncio.sleep(0)
        made += map(_event, rows[start : start + PAGE])
    return made


def _event(row: Row) -> Event:
    message = row.message
    if row.key is not None:
        message.setdefault("id", row.key)
    return Event.model_validate(message)


class Content(NamedTuple):
    """What a conversation holds, at one moment."""

    rows: list[Row]
    """Those that were asked for."""
    metadata: dict[str, str | None]
    about: About
    head: int
    """The newest row; 0 for none."""


async def content(session: Session, config: GetSessionConfig) -> Content:
    """Rows and metadata as they were together."""
    wanted, after = config.num_recent_events, config.after_timestamp
    for _ in range(_PATIENCE):
        rows = await _newest(session, wanted, after)
        metadata = await session.get_metadata()
        about = About.read(metadata)
        if (rows[-1].key if rows else None) == about.newest:
            break  # else somebody wrote in between, or rows were removed by hand
    head = rows[-1].db_id if rows else 0
    return Content(_kept(rows, wanted, after), metadata, about, head)


async def known_head(known: AdkSession, session: Session) -> int:
    """The newest event that a session object knows of.

    Raises:
        StaleSessionError: it knows too little.
    """
    if isinstance(known, StoredSession) and known._head is not None:
        return known._head
    # It was made by hand: its time, or its last event, says how much it knows.
    newest = await session.head()
    about = About.read(await session.get_metadata())
    if known.last_update_time < about.updated:
        last = escaped(known.events[-1].id) if known.events else None
        if last != (newest.key if newest else None):
            raise stale()
    return newest.db_id if newest else 0


def saw(known: AdkSession, event: Event, head: int) -> None:
    """Have a session object know of an event that is stored now."""
    known.last_update_time = event.timestamp
    if isinstance(known, StoredSession):
        known._head = head


async def _newest(session: Session, wanted: int | None, after: float | None) -> list[Row]:
    """The newest row, and at least those that are wanted."""
    if after is None:
        if wanted is None:
            return await session.messages()
        return await session.messages(limit=max(wanted, 1), newest=True)
    rows: list[Row] = []
    while True:
        before = rows[0].db_id if rows else None
        page = await session.messages(before=before, limit=PAGE, newest=True)
        rows[:0] = page
        if len(page) < PAGE or page[0].message["timestamp"] < after:
            return rows


def _kept(rows: list[Row], wanted: int | None, after: float | None) -> list[Row]:
    """Those that are wanted: so many, and of them those behind the last that is too old."""
    if wanted is not None:
        rows = rows[-wanted:] if wanted else []
    if after is not None:
        for index in range(len(rows) - 1, -1, -1):
            if rows[index].message["timestamp"] < after:
                return rows[index + 1 :]
    return rows


__all__ = [
    "PAGE",
    "Content",
    "StoredSession",
    "content",
    "events",
    "known_head",
    "message",
    "saw",
    "stale",
]
