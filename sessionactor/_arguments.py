"""Checking what callers pass, and making the operations of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import EllipsisType
from typing import Any, TypeVar

from sessionactor._changes import ContextField
from sessionactor._codec import encode
from sessionactor._errors import InvalidTypeError, InvalidValueError, MessageEncodingError, shown
from sessionactor._requests import (
    MAX_ID,
    Append,
    OnCorrupt,
    ReadChapter,
    ReadRow,
    ReadRows,
    Remove,
    SaveMetadata,
    SetContext,
    SetState,
    Truncate,
    Update,
)

_T = TypeVar("_T")


class Arguments:
    """Makes operations for one session, naming it in every error."""

    __slots__ = ("_max_message_bytes", "_session_id")

    def __init__(self, session_id: str, max_message_bytes: int) -> None:
        self._session_id = session_id
        self._max_message_bytes = max_message_bytes

    def append(
        self,
        agent_id: str,
        message: Mapping[Any, Any],
        key: str | None,
        checkpoint: bool | None,
        keep_from: int | None,
        parent: str | int | None,
        turn: str | None,
    ) -> Append:
        """An append; the message is encoded here and now."""
        data = self._encoded(message)
        if checkpoint is None:
            checkpoint = self._is_summary(message)
        if keep_from is not None:
            if not checkpoint:
                raise self._value_error("keep_from is for checkpoints only")
            self._integer("keep_from", keep_from)
        if parent is not None and type(parent) is int:
            parent = f"{self._session_id}/{self._integer('parent', parent)}"
        return Append(
            self.text("agent_id", agent_id),
            data,
            bool(checkpoint),
            keep_from,
            None if key is None else self.text("key", key),
            None if parent is None else self.text("parent", parent),
            None if turn is None else self.text("turn", turn),
        )

    def appends(
        self,
        agent_id: str,
        messages: Iterable[Mapping[Any, Any]],
        keys: Iterable[str | None] | None,
        parent: str | int | None,
        turn: str | None,
    ) -> tuple[Append, ...]:
        """An append for each message."""
        messages = self._list("messages", messages)
        each_key = [None] * len(messages) if keys is None else self._list("keys", keys)
        if len(each_key) != len(messages):
            raise self._value_error(f"{len(each_key)} keys for {len(messages)} messages")
        self.text("agent_id", agent_id)
        return tuple(
            self.append(agent_id, message, key, None, None, parent, turn)
            for message, key in zip(messages, each_key, strict=True)
        )

    def _encoded(self, message: Mapping[Any, Any]) -> bytes:
        return encode(message, max_bytes=self._max_message_bytes, session_id=self._session_id)

    def _is_summary(self, message: Mapping[Any, Any]) -> bool:
        try:
            role = message.get("role")
            return isinstance(role, str) and str.__eq__(role, "summary")
        except Exception as error:  # of a class that hides it
            raise MessageEncodingError(
                f"cannot store role: {error or type(error).__name__}",
                path="role",
                session_id=self._session_id,
            ) from error

    def update(self, db_id: int, message: Mapping[Any, Any]) -> Update:
        """Another message for a row."""
        return Update(self._integer("db_id", db_id), self._encoded(message))

    def update_last(self, message: Mapping[Any, Any], agent_id: str | None) -> Update:
        """Another message for the newest row."""
        return Update(None, self._encoded(message), self.optional_text("agent_id", agent_id))

    def truncate(self, db_id: int, whole_turns: bool = False) -> Truncate:
        """A removal of a row and all later ones."""
        return Truncate(self._integer("db_id", db_id), bool(whole_turns))

    def remove(self, db_ids: Iterable[int]) -> Remove:
        """A removal of rows."""
        each = self._list("db_ids", db_ids)
        return Remove(tuple(self._integer("db_id", db_id) for db_id in each))

    def state(self, state: str, turn_id: str | None) -> SetState:
        """A change of the state."""
        turn_id = self.optional_text("turn_id", turn_id)
        if state == "running":
            return SetState("running", turn_id)
        if state == "idle":
            return SetState("idle")
        if state == "error":
            return SetState("error", turn_id)
        raise self._value_error(f'a state is "idle", "running" or "error", not {shown(state)}')

    def context(self, fields: Mapping[ContextField, str | EllipsisType | None]) -> SetContext:
        """A change of those fields that are given."""
        return SetContext(
            tuple(
                (field, self.optional_text(field, value))
                for field, value in fields.items()
                if value is not ...
            )
        )

    def metadata(self, mapping: Mapping[str, object]) -> SaveMetadata:
        """A merge into the metadata, its values made strings."""
        if not isinstance(mapping, Mapping):
            raise self._type_error("metadata", "a mapping", mapping)
        return SaveMetadata(
            tuple(
                (self.text("a metadata key", key), self._metadata_value(key, value))
                for key, value in mapping.items()
            )
        )

    def text(self, what: str, value: object) -> str:
        """A string that SQLite can hold and find again."""
        if type(value) is not str:
            if not isinstance(value, str):
                raise self._type_error(what, "a str", value)
            value = str.__str__(value)
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise self._value_error(f"{what} {value!r} contains a lone surrogate") from None
        if "\0" in value:
            raise self._value_error(f"{what} {value!r} contains NUL")
        return value

    def optional_text(self, what: str, value: object) -> str | None:
        """Such a string, or nothing."""
        return None if value is None else self.text(what, value)

    def since(self, value: int | None) -> int | None:
        """A revision, or nothing."""
        if value is None:
            return None
        revision = self._integer("since", value)
        if revision < 0:
            raise self._value_error(f"since={value} is no revision: those begin at 0")
        return revision

    def cursor(self, value: object) -> int:
        """A cursor between chapters."""
        return self._integer("checkpoint_id", value)

    def db_id(self, what: str, value: object) -> int | None:
        """A row's number, or nothing; one that no row can have becomes the nearest."""
        if value is None:
            return None
        return self._integer(what, value)

    def rows(
        self,
        agent_id: str | None,
        after: int | None,
        before: int | None,
        limit: int | None,
        newest: bool,
        on_corrupt: OnCorrupt,
        *,
        whole_turns: bool = False,
    ) -> ReadRows:
        """A read of rows."""
        if whole_turns and not (newest and limit is not None):
            raise self._value_error("whole_turns is for the newest rows, up to a limit")
        if limit is not None and self._integer("limit", limit) < 0:
            raise self._value_error(f"limit={limit} is negative")
        return ReadRows(
            self.optional_text("agent_id", agent_id),
            self.db_id("after", after),
            self.db_id("before", before),
            None if limit is None else self._integer("limit", limit),
            bool(newest),
            self._on_corrupt(on_corrupt),
            whole_turns=bool(whole_turns),
        )

    def chapter(
        self, before: int | None, agent_id: str | None, on_corrupt: OnCorrupt
    ) -> ReadChapter:
        """A read of a chapter."""
        return ReadChapter(
            self.db_id("checkpoint_id", before),
            self.optional_text("agent_id", agent_id),
            self._on_corrupt(on_corrupt),
        )

    def row(self, db_id: int | None, key: str | None) -> ReadRow:
        """A read of one row."""
        if (db_id is None) == (key is None):
            raise self._value_error("get takes a db_id or a key")
        return ReadRow(self.db_id("db_id", db_id), self.optional_text("key", key))

    def path(self, what: str, value: object) -> Path:
        """A path of a file, from here."""
        if not isinstance(value, str | os.PathLike):
            raise self._type_error(what, "a str or a path", value)
        path = os.fsdecode(value)
        if "\0" in path:
            raise self._value_error(f"{what} {path!r} contains NUL")
        return Path(os.path.abspath(path))

    def _on_corrupt(self, value: object) -> OnCorrupt:
        if value not in ("raise", "skip"):
            raise self._value_error(f'on_corrupt is "raise" or "skip", not {shown(value)}')
        return "raise" if value == "raise" else "skip"

    def _list(self, what: str, values: Iterable[_T]) -> list[_T]:
        if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping):
            raise self._type_error(what, "an iterable of them", values)
        return list(values)

    def _metadata_value(self, key: str, value: object) -> str | None:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            try:
                return str(value)
            except ValueError as error:  # an int of thousands of digits
                raise self._value_error(f"metadata {key!r}: {error}") from error
        if value is None or isinstance(value, str):
            return self.optional_text(f"metadata {key!r}", value)
        raise self._type_error(f"metadata {key!r}", "a str, a number, a bool or None", value)

    def _integer(self, what: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._type_error(what, "an int", value)
        return max(-MAX_ID, min(int(value), MAX_ID))

    def _value_error(self, reason: str) -> InvalidValueError:
        return InvalidValueError(
            f"session {self._session_id!r}: {reason}", session_id=self._session_id
        )

    def _type_error(self, what: str, wanted: str, value: object) -> InvalidTypeError:
        return InvalidTypeError(
            f"session {self._session_id!r}: {what} is {wanted}, not {type(value).__name__}",
            session_id=self._session_id,
        )
