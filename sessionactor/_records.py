"""What calls return: plain, immutable values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple


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


__all__ = ["Page", "RegistryStatistics", "Row", "SessionFile"]
