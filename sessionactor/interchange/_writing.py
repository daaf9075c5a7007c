"""The lossless format, written: a line for the session, then one for each thing that it holds.

`docs/import-export.md` describes it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final, Protocol

from sessionactor._changes import RemoveRows, StoredKey, StoredMetadata, StoredTurn, WholeRow
from sessionactor._codec import UndecodableError
from sessionactor.interchange._content import Heading, Item
from sessionactor.interchange._foreign import Losses
from sessionactor.interchange._from_json import parse
from sessionactor.interchange._moments import text_of
from sessionactor.interchange._to_json import message_text, quoted, value_text

VERSION: Final = 1
END: Final = b'{"type":"end"}\n'


class Writer(Protocol):
    """Makes lines of a session."""

    losses: Losses

    def begin(self) -> bytes:
        """What stands before the first item."""

    def line(self, item: Item, parent_ids: Mapping[str, str]) -> bytes:
        """The line of an item."""

    def end(self) -> bytes:
        """What stands after the last item."""


class NativeWriter:
    """The lossless format."""

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self.losses = Losses()

    def begin(self) -> bytes:
        """The line of the session."""
        return heading_line(self._heading)

    def line(self, item: Item, parent_ids: Mapping[str, str]) -> bytes:
        """The line of an item."""
        return item_line(item)

    def end(self) -> bytes:
        """The line that tells that the file is whole."""
        return END


def heading_line(heading: Heading) -> bytes:
    """The first line."""
    kept = heading.restored
    line = (
        f'{{"type":"session","version":{VERSION},"session_id":{quoted(heading.session_id)},'
        f'"name":{quoted(heading.name)},"message_count":{heading.message_count},'
        f'"created_at":{_time(kept.created_at)},"last_activity":{_time(kept.last_at)},'
        f'"revision":{kept.revision},"high_water":{kept.high_water},'
        f'"name_revision":{kept.name_revision},"context_revision":{kept.context_revision},'
        f'"state_revision":{kept.state_revision}'
    )
    line += _optional("parent", kept.parent)
    context = {field: value for field, value in kept.context if value is not None}
    members = ",".join(f"{quoted(field)}:{quoted(value)}" for field, value in context.items())
    line += f',"context":{{{members}}}'
    state, turn_id, started_at = kept.status
    line += f',"state":{quoted(state)}{_optional("turn_id", turn_id)}'
    if started_at is not None:
        line += f',"turn_started_at":{_time(started_at)}'
    return f"{line}}}\n".encode()


def item_line(item: Item) -> bytes:
    """The line of an item."""
    match item:
        case WholeRow():
            line = _message(item)
        case StoredMetadata(key, value, revision):
            line = (
                f'{{"type":"metadata","key":{quoted(key)},"value":{quoted(value)},'
                f'"revision":{revision}'
            )
        case StoredTurn(turn_id, agent_id, opened_at, closed_at):
            line = (
                f'{{"type":"turn","turn_id":{quoted(turn_id)},"agent_id":{quoted(agent_id)},'
                f'"opened_at":{_time(opened_at)}'
            )
            if closed_at is not None:
                line += f',"closed_at":{_time(closed_at)}'
        case RemoveRows(first_id, last_id, revision):
            line = f'{{"type":"removal","revision":{revision},"from":{first_id}'
            if last_id is not None:
                line += f',"to":{last_id}'
        case StoredKey(key, db_id, digest):
            line = f'{{"type":"key","key":{quoted(key)},"id":{db_id},"digest":"{digest.hex()}"'
    return f"{line}}}\n".encode()


def _message(item: WholeRow) -> str:
    row, inserted_revision, digest, origin = item
    db_id, agent_id, data, at, checkpoint, keep_from, key, parent, turn, revision, updated_at = row
    try:
        message = f'"message":{message_text(data)[0]}'
    except UndecodableError:
        message = f'"data":"{base64.b64encode(data).decode()}"'
    line = (
        f'{{"type":"message","id":{db_id},"agent_id":{quoted(agent_id)},{message},'
        f'"inserted_at":{_time(at)},"revision":{revision}'
    )
    if checkpoint:
        line += ',"checkpoint":true'
    if keep_from is not None:
        line += f',"keep_from":{keep_from}'
    line += _optional("key", key) + _optional("parent", parent) + _optional("turn", turn)
    if updated_at is not None:
        line += f',"updated_at":{_time(updated_at)},"inserted_revision":{inserted_revision}'
    if digest is not None:
        line += f',"digest":"{digest.hex()}"'
    if origin is not None:
        line += f',"origin":{value_text(parse(origin, foreign=True))[0]}'
    return line


def _optional(name: str, value: str | None) -> str:
    return "" if value is None else f',"{name}":{quoted(value)}'


def _time(microseconds: int) -> str:
    text = text_of(microseconds)
    return str(microseconds) if text is None else f'"{text}"'


__all__ = ["END", "VERSION", "NativeWriter", "Writer", "heading_line"]
