"""A session as a row of the catalog, and back."""

from __future__ import annotations

from typing import Any, Final, get_args

from sessionactor import _names as names
from sessionactor._changes import StateName, StoredInfo
from sessionactor._requests import MAX_ID
from sessionactor._terms import storable

COLUMNS: Final = ("part", "entry", *StoredInfo._fields)
INFO: Final = ", ".join(f"s.{field}" for field in StoredInfo._fields)

EARLIEST: Final = -62_135_596_800_000_000
LATEST: Final = 253_402_300_799_000_000
"""The microseconds that a `datetime` can tell."""


def columns(info: StoredInfo, revision: int) -> tuple[Any, ...]:
    """The values of `COLUMNS`, as of a revision."""
    part = names.id_part(info.session_id)
    entry = names.file_name(info.session_id, info.name)
    return (part, entry, *info._replace(revision=revision))


def clean(info: StoredInfo) -> StoredInfo:
    """The same, as far as its file holds what it should: files come from other hands too."""
    state: StateName = info.state if info.state in get_args(StateName) else "idle"
    return StoredInfo(
        session_id=info.session_id,
        name=info.name,
        created_at=time(info.created_at),
        last_at=time(info.last_at),
        message_count=_whole(info.message_count),
        agent_alias=text(info.agent_alias),
        channel_id=text(info.channel_id),
        room_id=text(info.room_id),
        sender_id=text(info.sender_id),
        state=state,
        turn_id=text(info.turn_id),
        turn_started_at=None if info.turn_started_at is None else time(info.turn_started_at),
        token=text(info.token),
        parent=text(info.parent),
        high_water=_whole(info.high_water),
        revision=_whole(info.revision),
    )


def time(value: object) -> int:
    """Microseconds that a `datetime` can tell."""
    if type(value) is int and EARLIEST <= value <= LATEST:  # as every one, in a sound file
        return value
    return max(EARLIEST, min(_whole(value), LATEST))


def text(value: object) -> str | None:
    """Text that SQLite can hold."""
    return storable(value) if isinstance(value, str) else None


def _whole(value: object) -> int:
    """A number that SQLite can hold, which a difference of two that it held may not be."""
    return int(value) if isinstance(value, int) and abs(value) <= MAX_ID else 0


__all__ = ["COLUMNS", "INFO", "clean", "columns", "text", "time"]
