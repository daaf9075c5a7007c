"""What a subscriber is told: one immutable value per change, each with its revision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from sessionactor._records import Row


@dataclass(frozen=True, slots=True)
class Appended:
    """A row was added."""

    revision: int
    row: Row


@dataclass(frozen=True, slots=True)
class Updated:
    """A row has another message; all else in it stayed."""

    revision: int
    row: Row


@dataclass(frozen=True, slots=True)
class Truncated:
    """A row and all later ones, of all agents, were removed."""

    revision: int
    from_db_id: int


@dataclass(frozen=True, slots=True)
class Removed:
    """These rows were removed."""

    revision: int
    db_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cleared:
    """All rows were removed."""

    revision: int


@dataclass(frozen=True, slots=True)
class Renamed:
    """The session has another name, and its file another path."""

    revision: int
    name: str


@dataclass(frozen=True, slots=True)
class MetadataChanged:
    """Pairs were merged into the metadata, or fields of the routing context were set."""

    revision: int
    metadata: Mapping[str, str | None]
    """The pairs that changed."""
    context: Mapping[str, str | None]
    """The fields that changed, of `agent_alias`, `channel_id`, `room_id` and `sender_id`."""


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The session is in another state, or in another turn."""

    revision: int
    state: str
    turn_id: str | None
    turn_started_at: datetime | None


@dataclass(frozen=True, slots=True)
class Deleted:
    """The session is gone: nothing follows."""

    revision: int


@dataclass(frozen=True, slots=True)
class Lagged:
    """The subscriber was too slow, and nothing follows: subscribe again, `since=revision`."""

    revision: int


Event: TypeAlias = (
    Appended
    | Updated
    | Truncated
    | Removed
    | Cleared
    | Renamed
    | MetadataChanged
    | StateChanged
    | Deleted
    | Lagged
)

__all__ = [
    "Appended",
    "Cleared",
    "Deleted",
    "Event",
    "Lagged",
    "MetadataChanged",
    "Removed",
    "Renamed",
    "StateChanged",
    "Truncated",
    "Updated",
]
