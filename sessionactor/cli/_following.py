"""A session's last messages, and what happens to it then: what `tail` prints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Literal

from rich.text import Text

from sessionactor import (
    Appended,
    Cleared,
    CorruptRowError,
    Deleted,
    Event,
    Lagged,
    MetadataChanged,
    Removed,
    Renamed,
    Row,
    Session,
    StateChanged,
    Truncated,
    Updated,
)
from sessionactor.cli import _json as json
from sessionactor.cli import _messages as messages
from sessionactor.cli._output import Output
from sessionactor.cli._text import clean, counted


async def follow(
    session: Session,
    output: Output,
    *,
    count: int,
    agent_id: str | None,
    live: bool,
    full: bool,
    on_corrupt: Literal["raise", "skip"],
) -> None:
    """Print the last `count` messages, and if `live` every event from then on."""
    since = await session.revision()
    rows = (
        await session.messages(agent_id=agent_id, limit=count, newest=True, on_corrupt=on_corrupt)
        if count
        else []
    )
    shown = {row.db_id: row.revision for row in rows}
    teller = _Teller(output, full=full)
    for row in rows:
        teller.appended(row)
    output.flush()
    while live:
        live = False  # it ends when the session is deleted
        async for event in _events(session.subscribe(since=since, agent_id=agent_id), on_corrupt):
            if isinstance(event, Lagged):
                live, since = True, event.revision
            elif _is_news(event, shown):
                teller.tell(event)
                output.flush()


async def _events(
    events: AsyncIterator[Event], on_corrupt: Literal["raise", "skip"]
) -> AsyncIterator[Event]:
    while True:
        try:
            yield await anext(events)
        except StopAsyncIteration:
            return
        except CorruptRowError:
            if on_corrupt == "raise":
                raise


def _is_news(event: Event, shown: dict[int, int]) -> bool:
    """Whether it is not among what was printed at first, and happened after `since`."""
    if not isinstance(event, Appended | Updated):
        return True
    return shown.pop(event.row.db_id, -1) != event.row.revision


class _Teller:
    """Prints events; the text that a row has grown by, where it is the last one printed."""

    def __init__(self, output: Output, *, full: bool) -> None:
        self._output = output
        self._full = full
        self._last: tuple[int, str] | None = None

    def appended(self, row: Row) -> None:
        """A row, at first or when it comes."""
        if self._output.as_json:
            self._output.record(json.event(Appended(row.revision, row)))
        else:
            self._row(row, "")

    def tell(self, event: Event) -> None:
        """What happened."""
        if self._output.as_json:
            self._output.record(json.event(event))
        elif isinstance(event, Appended):
            self._row(event.row, "")
        elif isinstance(event, Updated):
            self._updated(event.row)
        else:
            self._last = None
            self._output.line(Text(f"* {_happened(event)}", style="dim"))

    def _row(self, row: Row, note: str) -> None:
        body = messages.body(row, whole=self._full)
        self._output.line(messages.header(row, note=note))
        self._output.line(body)
        self._last = row.db_id, body.plain

    def _updated(self, row: Row) -> None:
        """Streamed replies grow: what was printed is not printed again."""
        body = messages.body(row, whole=self._full)
        db_id, before = self._last or (0, "")
        if db_id == row.db_id and before and body.plain.startswith(before):
            added = body.plain[len(before) :]
            if added:
                self._output.line(body[len(before) :])
            self._last = row.db_id, body.plain
        else:
            self._row(row, "new text")


def _happened(event: Event) -> str:
    match event:
        case Truncated(from_db_id=db_id):
            return f"removed: {db_id} and all later messages"
        case Removed(db_ids=db_ids):
            ids = ", ".join(map(str, db_ids[:20])) + (", …" if len(db_ids) > 20 else "")
            return f"removed: {counted(len(db_ids), 'message')}: {ids}"
        case Cleared():
            return "cleared: all messages were removed"
        case Renamed(name=name):
            return f"renamed: {clean(name)}"
        case MetadataChanged(metadata=metadata, context=context):
            return f"metadata: {_pairs({**context, **metadata})}"
        case StateChanged(state=state, turn_id=turn_id):
            return f"state: {state}" + (f", turn {clean(turn_id)}" if turn_id else "")
        case Deleted():
            return "deleted"
    return type(event).__name__.lower()


def _pairs(pairs: Mapping[str, str | None]) -> str:
    return ", ".join(
        f"{clean(key)} = {'-' if value is None else clean(value)}" for key, value in pairs.items()
    )


__all__ = ["follow"]
