"""What the catalog is told, and what it asks for: plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from sessionactor import _names as names
from sessionactor._changes import Step, StoredInfo


class Opened(NamedTuple):
    """A session is in use: how its file says it is."""

    info: StoredInfo


class Committed(NamedTuple):
    """What happened to a session in use, on top of a revision."""

    session_id: str
    base_revision: int
    steps: Sequence[Step]
    info: StoredInfo


class Renamed(NamedTuple):
    """A session's file has another name."""

    session_id: str
    name: str


class Deleted(NamedTuple):
    """A session's files are gone."""

    session_id: str


Event: TypeAlias = Opened | Committed | Renamed | Deleted


class Listed(NamedTuple):
    """A session that a directory has."""

    entry: str
    left_open: bool
    """Whether nobody has closed it: then more may have happened than the catalog was told."""


class Wanted(NamedTuple):
    """A session of which the catalog wants to know what happened after a revision."""

    part: str
    since: int


def part_of(event: Event) -> str:
    """The id part of an event's session."""
    return names.id_part(_session_of(event))


def _session_of(event: Event) -> str:
    return event.info.session_id if isinstance(event, Opened) else event.session_id


__all__ = [
    "Committed",
    "Deleted",
    "Event",
    "Listed",
    "Opened",
    "Renamed",
    "Wanted",
    "part_of",
]
