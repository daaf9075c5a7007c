"""Loop sessions: an optional header in the first line, then a message in each line.

The header is `{"session_id", "created_at_ms", "agent_loop_version", "message_count"}`. Id and
count are what the session itself says; its other members become metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sessionactor import _names as names
from sessionactor._changes import StoredMetadata, WholeRow
from sessionactor._codec import decode
from sessionactor._times import LATEST
from sessionactor.interchange._content import DEFAULT_AGENT, Heading, Item, plain_heading
from sessionactor.interchange._foreign import Losses, Named, Reading, new_row
from sessionactor.interchange._from_json import BadLineError, parse
from sessionactor.interchange._lines import Seen
from sessionactor.interchange._members import Members
from sessionactor.interchange._reports import Problems
from sessionactor.interchange._to_json import message_text, value_text

CREATED_AT: Final = "created_at_ms"
VERSION: Final = "agent_loop_version"
REST: Final = "loop_header"
"""Metadata: further members of the header, as JSON."""

_HEADER: Final = frozenset({"session_id", CREATED_AT, VERSION, "message_count"})
_LATEST_MS: Final = LATEST // 1000


class LoopReader:
    """Makes rows of messages."""

    def __init__(self, problems: Problems, reading: Reading, seen: Seen) -> None:
        self._problems = problems
        self._reading = reading
        self._named = Named(reading.file_name)
        self._created_at: int | None = None
        self._header_line = 0
        self._said_count: int | None = None
        self._is_first = True
        self._rows = 0

    def take(self, number: int, text: str) -> Sequence[Item]:
        """The row of a message, or the metadata of the header.

        Raises:
            BadLineError: it is neither.
        """
        is_first, self._is_first = self._is_first, False
        value = parse(text, foreign=True)
        if is_first and type(value) is dict and _is_header(value):
            self._header_line = number
            return self._header(Members(value))
        if type(value) is not dict:
            raise BadLineError(f"a message is an object, not {text[:40]!r}")
        at = self._reading.modified_at if self._created_at is None else self._created_at
        row = new_row(self._rows + 1, self._reading, value, at, revision=self._revision + 1)
        self._rows += 1
        return (row,)

    def finish(self) -> Heading | None:
        """The heading, once all lines were taken."""
        session_id = self._named.session_id
        if session_id is None or (not self._rows and self._created_at is None):
            self._problems.add(None, "there is no message in it")
            return None
        if self._said_count is not None and self._said_count != self._rows:
            self._problems.add(
                self._header_line,
                f"'message_count' is {self._said_count}, the messages are {self._rows}",
            )
        at = self._reading.modified_at if self._created_at is None else self._created_at
        return plain_heading(
            session_id, self._rows, self._revision, at, at, timeless=self._created_at is None
        )

    @property
    def _revision(self) -> int:
        return self._rows + (self._created_at is not None)  # the header's metadata came first

    def _header(self, members: Members) -> Sequence[Item]:
        session_id = members.text("session_id")
        created_at_ms = members.integer(CREATED_AT, 0, _LATEST_MS)
        version = members.text(VERSION)
        said_count = members.integer("message_count")
        metadata = {VERSION: version, CREATED_AT: str(created_at_ms)}
        if members.rest():
            metadata[REST] = json.dumps(members.rest())
        self._named.check(session_id)
        self._created_at = created_at_ms * 1000
        self._said_count = said_count
        return [StoredMetadata(key, metadata[key], 1) for key in sorted(metadata)]


def _is_header(value: Mapping[str, Any]) -> bool:
    """Whether the first line is a header, whole or damaged, and no message."""
    return value.keys() >= _HEADER or (
        len(value.keys() & _HEADER) > 1 and value.keys().isdisjoint({"role", "content"})
    )


class LoopWriter:
    """Makes lines of rows."""

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self._metadata: dict[str, str | None] = {}
        self._began = False
        file_name = names.export_name(heading.session_id, plain=True)
        self._is_nameless = names.exported_id(file_name) != heading.session_id
        self._created_at_ms = heading.restored.created_at // 1000
        self.losses = Losses()
        self.losses.of_session(heading)

    def begin(self) -> bytes:
        """What stands before the first item."""
        return b""

    def line(self, item: Item, parent_ids: Mapping[str, str]) -> bytes:
        """The line of an item, empty where it has none.

        Raises:
            UndecodableError: the row's message cannot be decoded.
        """
        if isinstance(item, StoredMetadata):
            self._metadata[item.key] = item.value
            return b""
        if not isinstance(item, WholeRow):
            self.losses.add("turns, removals and keys of removed messages")
            return b""
        row = item.row
        text, is_tagged = message_text(row[2], foreign=True)
        message = decode(row[2]) if row[4] or b"summary" in row[2] else None
        header = b""
        if not self._began:
            first = message or decode(row[2])
            header = self._header(needed=self._is_nameless or _is_header(first))
        self.losses.of_row(row, message)
        self.losses.add("agents of messages", row[1] != DEFAULT_AGENT)
        self.losses.add("times of messages", row[3] != self._created_at_ms * 1000)
        self.losses.add("keys of messages", row[6] is not None)
        self.losses.add("records that messages were", item.origin is not None)
        self.losses.add("parents of messages", row[7] is not None)
        self.losses.add("messages with values that JSON cannot hold, written as tags", is_tagged)
        return header + f"{text}\n".encode()

    def end(self) -> bytes:
        """What stands after the last item."""
        return b"" if self._began else self._header(needed=True)

    def _header(self, *, needed: bool) -> bytes:
        """The header that the session came with; `needed`: or one at any rate."""
        self._began = True
        metadata = self._metadata
        version, created_at_ms = metadata.pop(VERSION, None), metadata.pop(CREATED_AT, None)
        rest = _members(metadata.pop(REST, None))
        self.losses.add("pairs of metadata", len(metadata))
        if version is None and not needed:
            return b""
        if created_at_ms is not None and created_at_ms.isdecimal():
            self._created_at_ms = int(created_at_ms)
        header = {
            "session_id": self._heading.session_id,
            CREATED_AT: self._created_at_ms,
            VERSION: version or "",
            "message_count": self._heading.message_count,
            **rest,
        }
        return f"{value_text(header, foreign=True)[0]}\n".encode()


def _members(text: str | None) -> dict[str, Any]:
    try:
        value = parse(text or "{}", foreign=True)
    except BadLineError:
        return {}
    return value if type(value) is dict and _HEADER.isdisjoint(value) else {}


__all__ = ["LoopReader", "LoopWriter"]
