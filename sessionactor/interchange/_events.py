"""Event records: `{"id", "session_id", "parent_id", "timestamp", "event"}` in each line.

A record's event is a row's message, its id the row's key. What a row has no place for, a time
more exact than microseconds above all, is kept beside the row, as its origin.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sessionactor._changes import WholeRow
from sessionactor._codec import decode
from sessionactor.interchange._content import DEFAULT_AGENT, Heading, Item, plain_heading
from sessionactor.interchange._foreign import Losses, Named, Reading, new_row
from sessionactor.interchange._from_json import BadLineError, parse
from sessionactor.interchange._lines import Seen
from sessionactor.interchange._members import Members
from sessionactor.interchange._moments import nanoseconds_of, short_text_of
from sessionactor.interchange._reports import Problems
from sessionactor.interchange._to_json import message_text, quoted, value_text

_EVENT: Final = "$event"
"""The only member of a message that stands for an event that is no object."""
_NAMESPACE: Final = uuid.UUID("5e551011-ac70-5000-8000-65766e747300")
_LATEST: Final = "9999-12-31T23:59:59.999999Z"


class EventsReader:
    """Makes rows of records."""

    def __init__(self, problems: Problems, reading: Reading, seen: Seen) -> None:
        self._problems = problems
        self._reading = reading
        self._seen = seen
        self._named = Named(reading.file_name)
        self._rows = 0
        self._first_at = self._at = 0

    def take(self, number: int, text: str) -> Sequence[Item]:
        """The row of a record.

        Raises:
            BadLineError: it is no record, or not of this file.
        """
        members = Members(parse(text, foreign=True))
        record_id = members.text("id")
        session_id = members.text("session_id")
        parent_id = members.optional_text("parent_id")
        timestamp = members.text("timestamp")
        nanoseconds = nanoseconds_of(timestamp)
        if nanoseconds is None:
            raise BadLineError(f"'timestamp' is no time as RFC 3339 has them: {timestamp[:40]!r}")
        at = nanoseconds // 1000
        if self._rows:
            at = max(at, self._at)  # a session's times never go backwards
        event = members.value("event")
        kept = members.rest().copy()
        if short_text_of(at) != timestamp:
            kept["timestamp"] = timestamp
        if type(event) is not dict:
            event, kept["event"] = {_EVENT: event}, _EVENT
        origin = value_text(kept, foreign=True)[0] if kept else None
        if origin is not None and len(origin) > self._reading.max_message_bytes:
            raise BadLineError("its further members are larger than a message may be")
        row = new_row(
            self._rows + 1,
            self._reading,
            event,
            at,
            revision=self._rows + 1,
            key=record_id,
            parent=parent_id,
            origin=origin,
        )
        self._named.check(session_id)
        first = self._seen.first_line(record_id, number)
        if first is not None:
            raise BadLineError(f"the id {record_id!r} was used before, in line {first}")
        if not self._rows:
            self._first_at = at
        self._at = at
        self._rows += 1
        return (row,)

    def finish(self) -> Heading | None:
        """The heading, once all lines were taken."""
        session_id = self._named.session_id
        if session_id is None or not self._rows:
            self._problems.add(None, "there is no event in it")
            return None
        return plain_heading(
            session_id, self._rows, self._rows, self._first_at, self._at, timeless=False
        )


def record_id_of(session_id: str, db_id: int, key: str | None) -> str:
    """The id of the record of a row: its key, or one that is always the same."""
    return key or str(uuid.uuid5(_NAMESPACE, f"{session_id}/{db_id}"))


class EventsWriter:
    """Makes records of rows."""

    def __init__(self, heading: Heading) -> None:
        self._session_id = heading.session_id
        self._quoted_id = quoted(heading.session_id)
        self.losses = Losses()
        self.losses.of_session(heading)

    def begin(self) -> bytes:
        """What stands before the first item."""
        return b""

    def line(self, item: Item, parent_ids: Mapping[str, str]) -> bytes:
        """The line of an item, empty where it has none; `parent_ids`: records of parents.

        Raises:
            UndecodableError: the row's message cannot be decoded.
        """
        if not isinstance(item, WholeRow):
            self.losses.add(f"items of its {_PLACES[type(item).__name__]}")
            return b""
        row = item.row
        db_id, agent_id, data, at, _, _, key, parent, *_ = row
        origin = {} if item.origin is None else _origin(item.origin)
        text, is_tagged = message_text(data, foreign=True)
        message = None
        if row[4] or b"summary" in data or "event" in origin:
            message = decode(data)
        if origin.pop("event", None) == _EVENT and message is not None and [*message] == [_EVENT]:
            text = value_text(message[_EVENT], foreign=True)[0]
        self.losses.of_row(row, message)
        self.losses.add("agents of messages", agent_id != DEFAULT_AGENT)
        self.losses.add("messages with values that JSON cannot hold, written as tags", is_tagged)
        self.losses.add("messages without a key, which got an id", not key)
        if parent is not None and parent in parent_ids:
            parent = parent_ids[parent]
            self.losses.add("parents, which became the ids of their records")
        timestamp = origin.pop("timestamp", None) or short_text_of(at) or _LATEST
        line = (
            f'{{"id":{quoted(record_id_of(self._session_id, db_id, key))},'
            f'"session_id":{self._quoted_id},"parent_id":{quoted(parent)},'
            f'"timestamp":{quoted(timestamp)},"event":{text}'
        )
        if origin:
            line += f",{value_text(origin, foreign=True)[0][1:-1]}"
        return f"{line}}}\n".encode()

    def end(self) -> bytes:
        """What stands after the last item."""
        return b""


def _origin(text: str) -> dict[str, Any]:
    """What a record had besides; nothing, where something else was kept."""
    origin: Any = parse(text, foreign=True)
    if type(origin) is not dict or not _OWN.isdisjoint(origin):
        return {}
    return origin if isinstance(origin.get("timestamp", ""), str) else {}


_OWN: Final = {"id", "session_id", "parent_id"}
_PLACES: Final = {
    "StoredMetadata": "metadata",
    "StoredTurn": "turns",
    "RemoveRows": "log of removals",
    "StoredKey": "keys of removed messages",
}

__all__ = ["EventsReader", "EventsWriter", "record_id_of"]
