"""What a session shows of itself, small enough to be written down after every call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from zlib import crc32

from sessionactor import Row, Session

SESSIONS = "sessions"
BACKUPS = "backups"
"""The two directories of a victim."""
WORD = "everywhere"
"""In the text of every message, beside one that no other message has."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What everybody can see of a session."""

    name: str
    rows: tuple[tuple[int, int], ...]
    """Ids, and checksums of all that the rows have."""
    metadata: tuple[tuple[str, str | None], ...]

    def __str__(self) -> str:
        ids = [db_id for db_id, _ in self.rows]
        return f"{self.name!r}, rows {ids}, metadata {dict(self.metadata)}"


@dataclass(frozen=True, slots=True)
class State:
    """What a session was at a time, and what it remembers of what went before."""

    shown: Shown
    high: int
    """The highest id that it ever gave a message."""
    keys: tuple[tuple[str, int], ...]
    """Those of `keyed` messages, and the ids that were answered."""

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> State:
        """What `plain` made."""
        shown = plain["shown"]
        rows = tuple((db_id, checksum) for db_id, checksum in shown["rows"])
        metadata = tuple((key, value) for key, value in shown["metadata"])
        keys = tuple((key, db_id) for key, db_id in plain["keys"])
        return cls(Shown(shown["name"], rows, metadata), plain["high"], keys)


async def shown(session: Session) -> Shown:
    """What a session shows now."""
    return showing(session.name, await session.messages(), await session.get_metadata())


def showing(name: str, rows: Sequence[Row], metadata: Mapping[str, str | None]) -> Shown:
    """What a session of these shows."""
    return Shown(
        name,
        tuple((row.db_id, crc32(repr(tuple(row)).encode())) for row in rows),
        tuple(sorted(metadata.items())),
    )


def keyed(key: str) -> dict[str, Any]:
    """The message that is appended with a key, so that it can be appended again."""
    return {"role": "user", "content": f"{WORD} {key}"}
