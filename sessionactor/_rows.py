"""Stored rows as calls return them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sessionactor._changes import StoredInfo, StoredRow
from sessionactor._codec import UndecodableError, decode, decode_all
from sessionactor._errors import CorruptRowError
from sessionactor._records import Row, SessionInfo
from sessionactor._requests import OnCorrupt
from sessionactor._times import each_from_microseconds, from_microseconds


def decoded(stored: Sequence[StoredRow], on_corrupt: OnCorrupt, session_id: str) -> list[Row]:
    """Stored rows as calls return them.

    Raises:
        CorruptRowError: one cannot be decoded, and `on_corrupt` is `"raise"`.
    """
    with contextlib.suppress(*_CORRUPT):  # by a row that is large, marked or corrupt
        return _rows(stored, decode_all([row[2] for row in stored]))
    rows = []
    for row in stored:
        try:
            rows.append(decoded_one(row, session_id))
        except CorruptRowError:
            if on_corrupt == "raise":
                raise
    return rows


def decoded_one(stored: StoredRow, session_id: str) -> Row:
    """A stored row as calls return it.

    Raises:
        CorruptRowError: it cannot be decoded.
    """
    db_id, agent_id, data, at, mark, keep_from, key, parent, turn, revision, updated = stored
    try:
        if type(agent_id) is not str:
            raise UndecodableError("its agent is not text")
        return Row(
            *(db_id, agent_id, decode(data), from_microseconds(at), mark == 1),
            *(keep_from, key, parent, turn, revision),
            None if updated is None else from_microseconds(updated),
        )
    except _CORRUPT as error:
        raise CorruptRowError(
            f"row {db_id} of session {session_id!r} cannot be decoded ({error});"
            ' on_corrupt="skip" passes over it',
            db_id=db_id,
            session_id=session_id,
        ) from error


_CORRUPT: Final = (UndecodableError, TypeError, ValueError, OverflowError, OSError)


def _rows(stored: Sequence[StoredRow], messages: Sequence[dict[Any, Any]]) -> list[Row]:
    if not {type(row[1]) for row in stored} <= {str}:
        raise UndecodableError("its agent is not text")
    times = each_from_microseconds(row[3] for row in stored)
    new = tuple.__new__  # as Row(…), without a call in between
    return [
        new(
            Row,
            (db_id, agent_id, message, times[at], mark == 1,
             keep_from, key, parent, turn, revision,
             None if updated is None else from_microseconds(updated)),
        )
        for (db_id, agent_id, _, at, mark, keep_from, key, parent, turn, revision, updated),
            message in zip(stored, messages, strict=True)
    ]  # fmt: skip


def session_info(stored: StoredInfo, path: Path | None, *, active: bool) -> SessionInfo:
    """What is known of a session, as calls return it."""
    began = stored.turn_started_at
    return SessionInfo(
        stored.session_id,
        stored.name,
        path,
        from_microseconds(stored.created_at),
        from_microseconds(stored.last_at),
        stored.message_count,
        stored.agent_alias,
        stored.channel_id,
        stored.room_id,
        stored.sender_id,
        stored.state,
        stored.turn_id,
        None if began is None else from_microseconds(began),
        stored.parent,
        stored.revision,
        active,
    )


class Prepared(NamedTuple):
    """A row without its message decoded: all that reading it again can share."""

    before: tuple[int, str]
    data: bytes
    after: tuple[Any, ...]


def prepared(stored: Iterable[StoredRow]) -> list[Prepared]:
    """Rows as the cache keeps them."""
    return [
        Prepared(
            (db_id, agent_id),
            data,
            (
                *(from_microseconds(at), mark == 1, keep_from, key, parent, turn, revision),
                None if updated is None else from_microseconds(updated),
            ),
        )
        for db_id, agent_id, data, at, mark, keep_from, key, parent, turn, revision, updated in (
            stored
        )
    ]


def finished(rows: Sequence[Prepared]) -> list[Row]:
    """Rows with fresh messages, of rows that were decoded before."""
    datas = [row.data for row in rows]
    try:
        messages = decode_all(datas)
    except UndecodableError:  # large or marked
        messages = [decode(data) for data in datas]
    new = tuple.__new__
    return [
        new(Row, (*before, message, *after))
        for (before, _, after), message in zip(rows, messages, strict=True)
    ]
