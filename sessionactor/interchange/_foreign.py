"""What the formats of other stores have in common: messages alone, in files named by an id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sessionactor import _names as names
from sessionactor._changes import StoredRow, WholeRow
from sessionactor._codec import encode
from sessionactor._errors import SessionError
from sessionactor.interchange._content import Heading
from sessionactor.interchange._from_json import BadLineError


class Reading(NamedTuple):
    """How a file of another store is to be read."""

    file_name: str
    modified_at: int
    """When the file was changed last, microseconds since the epoch."""
    agent_id: str
    max_message_bytes: int


class Named:
    """The id that a file's name stands for, once the file's content has decided."""

    def __init__(self, file_name: str) -> None:
        self._file_name = file_name
        self._said: str | None = None

    @property
    def session_id(self) -> str | None:
        """The id; `None` where the name can be no id."""
        return self._said or names.exported_id(self._file_name)

    def check(self, session_id: str) -> None:
        """Refuse an id that disagrees with the file's name, or with an earlier line."""
        if session_id != self._said and (
            self._said is not None or not names.is_export_of(session_id, self._file_name)
        ):
            raise BadLineError(
                f"'session_id' is {session_id!r}, which disagrees with the file's name"
                f" {self._file_name!r}"
            )
        self._said = session_id


def encoded(message: Mapping[Any, Any], max_bytes: int) -> bytes:
    """An encoded message."""
    try:
        return encode(message, max_bytes=max_bytes)
    except SessionError as error:
        raise BadLineError(str(error)) from error


def new_row(
    db_id: int,
    reading: Reading,
    message: Mapping[Any, Any],
    at: int,
    *,
    revision: int,
    key: str | None = None,
    parent: str | None = None,
    origin: str | None = None,
) -> WholeRow:
    """A row as an append would have made it."""
    data = encoded(message, reading.max_message_bytes)
    role = message.get("role")
    is_checkpoint = isinstance(role, str) and role == "summary"
    row: StoredRow = (
        *(db_id, reading.agent_id, data, at, int(is_checkpoint)),
        *(None, key, parent, None, revision, None),
    )
    return WholeRow(row, revision, None, origin)


class Losses:
    """Counts what a session holds and a format does not."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, what: str, count: int = 1) -> None:
        """Count something that is lost."""
        if count:
            self._counts[what] += count

    def of_session(self, heading: Heading, kept_metadata: int = 0) -> None:
        """Count what a session has besides its messages."""
        kept = heading.restored
        self.add("ids that removed messages had", kept.high_water - heading.message_count)
        self.add("fields of its context", sum(value is not None for _, value in kept.context))
        self.add("state", kept.status.state != "idle")
        self.add("message that it was forked before", kept.parent is not None)

    def of_row(self, row: StoredRow, message: Mapping[Any, Any] | None) -> None:
        """Count what a row has besides its message."""
        self.add("turns of messages", row[8] is not None)
        self.add("times of updates", row[10] is not None)
        self.add("bounds of checkpoints", row[5] is not None)
        role = None if message is None else message.get("role")
        self.add("checkpoint marks", (role == "summary") != (row[4] == 1))

    def told(self) -> Iterator[str]:
        """What is lost, and how often."""
        for what, count in sorted(self._counts.items()):
            yield f"{what}: {count}"


__all__ = ["Losses", "Named", "Reading", "encoded", "new_row"]
