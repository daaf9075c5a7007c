"""What calls return: plain, immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple


class Row(NamedTuple):
    """A stored message."""

    db_id: int
    """From 1 up, never used again in its session."""
    agent_id: str
    message: dict[Any, Any]
    """A fresh copy: changing it changes nothing stored."""
    inserted_at: datetime
    """Aware, UTC, microseconds; never going backwards within a session."""
    checkpoint: bool
    """Whether the message summarises what came before it."""
    keep_from: int | None
    """On a checkpoint: the summary covers only what is older than this `db_id`."""
    key: str | None
    parent: str | None
    turn: str | None
    revision: int
    """The session's revision that last changed this row."""
    updated_at: datetime | None = None
    """When its message was last replaced; aware, UTC."""


class Page(NamedTuple):
    """A chapter of the history: its rows, and the cursor for the chapter before it."""

    rows: list[Row]
    checkpoint_id: int | None
    """Pass it to `messages_before_checkpoint`; `None`: nothing is earlier."""


class SessionFile(NamedTuple):
    """Where a session lives. In memory `path` is `None`."""

    path: Path | None
    session_id: str
    name: str


class SessionInfo(NamedTuple):
    """What is known of a session; all times aware, UTC."""

    session_id: str
    name: str
    path: Path | None
    """In memory `None`."""
    created_at: datetime
    last_activity: datetime
    """When it was last changed; of one that never was, when it was created."""
    message_count: int
    agent_alias: str | None
    channel_id: str | None
    room_id: str | None
    sender_id: str | None
    state: Literal["idle", "running", "error", "interrupted", "importing"]
    """`interrupted`: it was running, and whoever ran it is gone."""
    turn_id: str | None
    turn_started_at: datetime | None
    parent: str | None
    """Of a fork, the newest message that it took over: `"<session id>/<db_id>"`; 0 for none."""
    revision: int
    active: bool
    """Whether its actor runs now, in this registry."""


class SessionList(NamedTuple):
    """A page of a listing."""

    sessions: list[SessionInfo]
    cursor: str | None
    """For the next page; `None`: this is the end."""


class SearchHit(NamedTuple):
    """A message that a search found."""

    session_id: str
    name: str
    db_id: int
    agent_id: str
    inserted_at: datetime
    snippet: str
    """The text around the first match."""


class ChildRow(NamedTuple):
    """A row, and the session that it is of."""

    session_id: str
    name: str
    row: Row


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """What a clean-up did, or in a dry run would do."""

    deleted: tuple[str, ...]
    """Ids."""
    failed: Mapping[str, Exception]
    """Id -> why it could not be deleted."""


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What compacting came to, in bytes of the session's files."""

    size_before: int
    size_after: int


@dataclass(frozen=True, slots=True)
class RegistryStatistics:
    """Counters of one registry since it was opened, and gauges of this moment."""

    active: int
    """Actors that hold an open file now."""
    max_active: int
    queued: int
    """Requests that wait in mailboxes now."""
    activations: int
    passivations: int
    requests: int
    """Requests that actors served, refusals included."""
    commits: int
    """Groups of writes committed: `requests` over this is the grouping."""
    crashes: int


__all__ = [
    "ChildRow",
    "CleanupReport",
    "CompactReport",
    "Page",
    "RegistryStatistics",
    "Row",
    "SearchHit",
    "SessionFile",
    "SessionInfo",
    "SessionList",
]
