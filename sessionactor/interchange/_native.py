"""The lossless format, read: every line is checked, for anybody may have written it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

from sessionactor._changes import (
    RemoveRows,
    Restored,
    Status,
    StoredKey,
    StoredMetadata,
    StoredRow,
    StoredTurn,
    WholeRow,
)
from sessionactor._codec import encode
from sessionactor._errors import InvalidNameError, SessionError
from sessionactor._names import check
from sessionactor._requests import MAX_ID
from sessionactor.interchange._content import CONTEXT, Heading, Item
from sessionactor.interchange._from_json import BadLineError, parse
from sessionactor.interchange._lines import Seen
from sessionactor.interchange._members import Members
from sessionactor.interchange._reports import Problems
from sessionactor.interchange._to_json import value_text
from sessionactor.interchange._writing import VERSION

_ORDER: Final = ("metadata", "turn", "removal", "key", "message", "end")
_DIGEST_HEX: Final = 32


class BadFileError(BadLineError):
    """A line that leaves nothing to be made of the rest of the file."""


class NativeReader:
    """Makes items of the lines of a file."""

    def __init__(self, problems: Problems, max_message_bytes: int, seen: Seen) -> None:
        self._problems = problems
        self._max_message_bytes = max_message_bytes
        self._seen = seen
        self._heading: Heading | None = None
        self._kind = ""
        self._newest: tuple[Any, ...] = ()
        self._rows = 0
        self._row: WholeRow | None = None

    def take(self, number: int, text: str) -> Sequence[Item]:
        """The items of a line.

        Raises:
            BadLineError: the line is not what it has to be.
        """
        if self._heading is None:
            self._heading = _read_heading(text)
            return ()
        members = Members(parse(text))
        kind = members.text("type")
        if kind not in _ORDER:
            raise BadLineError(f"there is no type {kind!r}")
        if self._kind and (self._kind == "end" or _ORDER.index(kind) < _ORDER.index(self._kind)):
            raise BadLineError(f"a {kind} after a {self._kind}")
        if kind != self._kind:
            self._newest = ()
        item = self._item(kind, members, number)
        members.end()
        self._kind = kind
        return () if item is None else (item,)

    def finish(self) -> Heading | None:
        """The heading, once all lines were taken; what is missing is a problem."""
        heading = self._heading
        if heading is None:
            return None
        if self._kind != "end":
            self._problems.add(None, "the file is cut off: its end is missing")
        if heading.message_count != self._rows:
            self._problems.add(
                1, f"'message_count' is {heading.message_count}, the messages are {self._rows}"
            )
        return heading._replace(message_count=self._rows)

    def _item(self, kind: str, members: Members, number: int) -> Item | None:
        match kind:
            case "metadata":
                key = members.text("key")
                return self._after(
                    (key,),
                    StoredMetadata(key, members.optional_text("value"), self._revision(members)),
                )
            case "turn":
                turn_id = members.text("turn_id")
                turn = StoredTurn(
                    turn_id,
                    members.text("agent_id"),
                    members.time("opened_at"),
                    members.optional_time("closed_at"),
                )
                return self._after((turn_id,), turn)
            case "removal":
                return self._removal(members)
            case "key":
                key = members.text("key")
                db_id = members.integer("id", 1, self._kept.high_water)
                item = self._after((key,), StoredKey(key, db_id, _digest(members)))
                members.end()
                self._check_key(key, number)
                return item
            case "message":
                return self._message(members, number)
        return None

    @property
    def _kept(self) -> Restored:
        assert self._heading is not None
        return self._heading.restored

    def _revision(self, members: Members, name: str = "revision") -> int:
        return members.integer(name, 0, self._kept.revision)

    def _after(self, place: tuple[Any, ...], item: Item) -> Item:
        """Items of a kind stand in order, each of them once."""
        if self._newest and place <= self._newest:
            raise BadLineError(f"{place[0]!r} after {self._newest[0]!r}")
        self._newest = place
        return item

    def _removal(self, members: Members) -> RemoveRows:
        removal = RemoveRows(
            members.integer("from"),
            members.optional_integer("to", 1),
            self._revision(members),
        )
        if self._newest and removal.revision < self._newest[0]:
            raise BadLineError(f"revision {removal.revision} after {self._newest[0]}")
        self._newest = (removal.revision,)
        return removal

    def _check_key(self, key: str, number: int) -> None:
        first = self._seen.first_line(key, number)
        if first is not None:
            raise BadLineError(f"the key {key!r} was used before, in line {first}")

    def _message(self, members: Members, number: int) -> WholeRow:
        item = self._row_of(members)
        row, inserted_revision, *_ = item
        before = self._row
        if before is not None:
            if row[0] <= before.row[0]:
                raise BadLineError(f"id {row[0]} after {before.row[0]}")
            if row[3] < before.row[3]:
                raise BadLineError("its time is before that of the message before")
            if inserted_revision < before.inserted_revision:
                raise BadLineError("its revision is below that of the message before")
        if row[3] > self._kept.last_at:
            raise BadLineError("its time is after the session's last activity")
        members.end()
        if row[6] is not None:
            self._check_key(row[6], number)
        self._row = item
        self._rows += 1
        return item

    def _row_of(self, members: Members) -> WholeRow:
        db_id = members.integer("id", 1, self._kept.high_water)
        agent_id = members.text("agent_id")
        data = self._data(members)
        revision = self._revision(members)
        row: StoredRow = (
            db_id,
            agent_id,
            data,
            members.time("inserted_at"),
            int(members.flag("checkpoint")),
            members.optional_integer("keep_from", -MAX_ID),
            members.optional_text("key"),
            members.optional_text("parent"),
            members.optional_text("turn"),
            revision,
            members.optional_time("updated_at"),
        )
        origin = None
        if "origin" in members.rest():
            origin = value_text(members.object("origin"), foreign=True)[0]
        if row[10] is None:
            return WholeRow(row, revision, None, origin)
        inserted_revision = members.integer("inserted_revision", 0, revision)
        digest = None if row[6] is None else _digest(members)
        return WholeRow(row, inserted_revision, digest, origin)

    def _data(self, members: Members) -> bytes:
        if "message" not in members.rest():
            try:
                return base64.b64decode(members.text("data"), validate=True)
            except ValueError as error:
                raise BadLineError(f"'data' is not base64: {error}") from error
        try:
            return encode(members.value("message"), max_bytes=self._max_message_bytes)
        except SessionError as error:
            raise BadLineError(str(error)) from error


def _digest(members: Members) -> bytes:
    text = members.text("digest")
    try:
        if len(text) == _DIGEST_HEX:
            return bytes.fromhex(text)
    except ValueError:
        pass
    raise BadLineError(f"'digest' is not {_DIGEST_HEX} hexadecimal digits")


def _read_heading(text: str) -> Heading:
    try:
        members = Members(parse(text))
        if members.rest().get("type") != "session":
            raise BadFileError(
                "the file does not begin with a session: it is of another format, or its"
                " beginning is lost"
            )
        members.text("type")
        version = members.integer("version", 1)
        if version > VERSION:
            raise BadFileError(
                f"version {version} of the format is newer than {VERSION}, which is read here:"
                " upgrade to import it"
            )
        heading = _heading(members)
        members.end()
    except BadFileError:
        raise
    except BadLineError as error:
        raise BadFileError(str(error)) from error
    return heading


def _heading(members: Members) -> Heading:
    try:
        session_id = check(members.text("session_id"), "id")
        name = check(members.text("name"), "name")
    except InvalidNameError as error:
        raise BadLineError(str(error)) from error
    revision = members.integer("revision")
    context = Members(members.value("context"))
    state = members.text("state")
    if state not in ("idle", "error", "interrupted"):
        raise BadLineError(f"there is no state {state!r}")
    restored = Restored(
        members.integer("high_water"),
        revision,
        members.moment("created_at"),
        members.moment("last_activity"),
        members.optional_text("parent"),
        tuple((field, context.optional_text(field)) for field in CONTEXT),
        Status(
            state,  # type: ignore[arg-type]
            members.optional_text("turn_id"),
            members.optional_moment("turn_started_at"),
        ),
        members.integer("name_revision", 0, revision),
        members.integer("context_revision", 0, revision),
        members.integer("state_revision", 0, revision),
    )
    context.end()
    if restored.last_at < restored.created_at:
        raise BadLineError("'last_activity' is before 'created_at'")
    return Heading(session_id, name, members.integer("message_count"), restored)


__all__ = ["BadFileError", "NativeReader"]
