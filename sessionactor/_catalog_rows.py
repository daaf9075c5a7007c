"""A session as a row of the catalog, and back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, get_args

from sessionactor import _names as names
from sessionactor._changes import StateName, StoredInfo, are_sound
from sessionactor._records import SessionInfo
from sessionactor._requests import MAX_ID
from sessionactor._terms import storable
from sessionactor._times import EARLIEST, LATEST, from_microseconds

COLUMNS: Final = ("part", "entry", *StoredInfo._fields)
INFO: Final = ", ".join(f"s.{field}" for field in ("id", *StoredInfo._fields))
"""What `infos` is to be given."""

IsLive: TypeAlias = Callable[[str, str | None], bool]
"""Whether a session's `running`, of a registry with that token, is true."""


class Here(NamedTuple):
    """What of a session is not stored, because it is so only here and now; in any thread."""

    directory: Path | None
    """Where its file is; in memory `None`."""
    is_live: IsLive
    is_active: Callable[[str], bool]
    """Whether its actor runs in this registry."""


def columns(info: StoredInfo, revision: int) -> tuple[Any, ...]:
    """The values of `COLUMNS`, as of a revision."""
    part = names.id_part(info.session_id)
    entry = names.file_name(info.session_id, info.name)
    return (part, entry, *info._replace(revision=revision))


def infos(found: Collection[tuple[Any, ...]], here: Here) -> list[SessionInfo]:
    """Rows as what they tell here and now: what ran in a process that is gone does not run.

    Column by column, which takes half the time: pages of them are made.

    Raises:
        sqlite3.DatabaseError: they are damaged.
    """
    if not found:
        return []
    _, *fields = zip(*found, strict=True)
    if not are_sound(fields):
        raise sqlite3.DatabaseError("the catalog is damaged")
    stored: Any = StoredInfo._make(fields)
    states = stored.state
    if "running" in states:
        states = [
            "interrupted" if state == "running" and not here.is_live(session_id, token) else state
            for state, session_id, token in zip(
                states, stored.session_id, stored.token, strict=True
            )
        ]
    paths: Iterable[Path | None] = repeat(None)
    if here.directory is not None:
        paths = map(_path, repeat(here.directory), stored.session_id, stored.name)
    rows = zip(
        stored.session_id,
        stored.name,
        paths,
        map(from_microseconds, stored.created_at),
        map(from_microseconds, stored.last_at),
        *(stored.message_count, stored.agent_alias),
        *(stored.channel_id, stored.room_id, stored.sender_id),
        *(states, stored.turn_id),
        [None if at is None else from_microseconds(at) for at in stored.turn_started_at],
        *(stored.parent, stored.revision),
        map(here.is_active, stored.session_id),
        strict=False,  # in memory there are any number of no paths
    )
    new = tuple.__new__  # as SessionInfo(…), without a call in between
    return [new(SessionInfo, one) for one in rows]


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


@lru_cache(maxsize=1024)  # one takes as long as the rest of a row, and pages come again
def _path(directory: Path, session_id: str, name: str) -> Path:
    return directory / names.file_name(session_id, name)


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


__all__ = ["COLUMNS", "INFO", "Here", "IsLive", "clean", "columns", "infos", "text", "time"]
