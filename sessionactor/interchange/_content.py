"""What a session holds, as a heading and a sequence of items: the form between files and sessions.

The items come in the order metadata, turns, removals, keys of rows that are gone, rows.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from sessionactor._changes import (
    IDLE,
    ContextField,
    RemoveRows,
    Restored,
    StoredKey,
    StoredMetadata,
    StoredTurn,
    WholeRow,
)
from sessionactor._digest import digest

Item: TypeAlias = StoredMetadata | StoredTurn | RemoveRows | StoredKey | WholeRow

CONTEXT: Final[tuple[ContextField, ...]] = ("agent_alias", "channel_id", "room_id", "sender_id")

DEFAULT_AGENT: Final = "agent"
"""Who said the messages of formats that know no agents."""


class Heading(NamedTuple):
    """What a session is besides its items."""

    session_id: str
    name: str | None
    """`None`: the format knows no names."""
    message_count: int
    restored: Restored
    timeless: bool = False
    """Whether the times are a guess."""


def plain_heading(
    session_id: str, rows: int, revision: int, created_at: int, last_at: int, *, timeless: bool
) -> Heading:
    """The heading of a session that never was more than its messages."""
    context = tuple((field, None) for field in CONTEXT)
    restored = Restored(rows, revision, created_at, last_at, None, context, IDLE, 0, 0, 0)
    return Heading(session_id, None, rows, restored, timeless)


def key_of(row: WholeRow) -> StoredKey | None:
    """The idempotency key that came with a row."""
    db_id, agent_id, data, *_ = row.row
    key = row.row[6]
    if key is None:
        return None
    return StoredKey(key, db_id, row.digest or digest(agent_id, data))


__all__ = [
    "CONTEXT",
    "DEFAULT_AGENT",
    "Heading",
    "Item",
    "key_of",
    "plain_heading",
]
