"""What subscribers are told of the steps in which a session changes: a pure function.

Steps are taken apart first, once for all subscribers, and made events of one at a time by
each of them, so that a message is decoded where it is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from sessionactor._changes import (
    ChangeContext,
    ChangeName,
    ChangeStatus,
    FinishRestoring,
    InsertRows,
    MergeMetadata,
    RemoveRows,
    Status,
    Step,
    StoredRow,
    UpdateRow,
)
from sessionactor._events import (
    Appended,
    Cleared,
    Event,
    MetadataChanged,
    Removed,
    Renamed,
    StateChanged,
    Truncated,
    Updated,
)
from sessionactor._rows import decoded_one
from sessionactor._times import from_microseconds


class Insertion(NamedTuple):
    """A row that was added."""

    revision: int
    row: StoredRow


class Update(NamedTuple):
    """A row that has another message."""

    revision: int
    row: StoredRow


Change: TypeAlias = (
    Insertion | Update | Truncated | Removed | Cleared | Renamed | MetadataChanged | StateChanged
)
"""An event, but for the messages of rows: those are not decoded yet."""


def weigh(steps: Iterable[Step]) -> tuple[int, int]:
    """How many events steps make, at most, and how many bytes their messages have."""
    count = size = 0
    for step in steps:
        if isinstance(step, InsertRows):
            count += len(step.rows)
            for row in step.rows:
                size += len(row[2])
        else:
            count += 1
            if isinstance(step, UpdateRow):
                size += len(step.row[2])
    return count, size


def dated(steps: Iterable[Step]) -> Iterator[tuple[int, Step]]:
    """Steps as they were decided, each row of them by itself, with their revisions."""
    for step in steps:
        if isinstance(step, InsertRows):
            for row in step.rows:
                yield row[9], InsertRows([row], [])
        else:
            yield step.revision, step


def changes(steps: Iterable[tuple[int, Step]]) -> list[Change]:
    """What subscribers are told of steps; one write's removals, or metadata, in one event."""
    found: list[Change] = []
    for revision, step in steps:
        for change in _changes(revision, step):
            last = found[-1] if found else None
            merged = None if last is None or last.revision != revision else _merged(last, change)
            if merged is None:
                found.append(change)
            else:
                found[-1] = merged
    return found


def event(change: Change, agent_id: str | None, session_id: str) -> Event | None:
    """The event of a change, with a message of its own; `None`: it concerns another agent.

    Raises:
        CorruptRowError: the message cannot be decoded.
    """
    if isinstance(change, MetadataChanged):
        return MetadataChanged(change.revision, dict(change.metadata), dict(change.context))
    if not isinstance(change, Insertion | Update):
        return change
    if agent_id is not None and change.row[1] != agent_id:
        return None
    row = decoded_one(change.row, session_id)
    kind = Appended if type(change) is Insertion else Updated
    return kind(change.revision, row)


def weight(change: Change) -> int:
    """Bytes that making the event takes."""
    data = change.row[2] if isinstance(change, Insertion | Update) else None
    return len(data) if type(data) is bytes else 0  # a corrupt row may hold anything


def _changes(revision: int, step: Step) -> Iterator[Change]:
    match step:
        case InsertRows(rows):
            for row in rows:
                yield Insertion(revision, row)
        case UpdateRow(row):
            yield Update(revision, row)
        case RemoveRows():
            yield _removal(revision, step)
        case _:
            yield from _session_changes(revision, step)


def _removal(revision: int, step: RemoveRows) -> Change:
    first_id, last_id, _ = step
    if last_id is not None:
        return Removed(revision, tuple(range(first_id, last_id + 1)))
    return Truncated(revision, first_id) if first_id else Cleared(revision)


def _session_changes(revision: int, step: Step) -> Iterator[Change]:
    match step:
        case MergeMetadata(items):
            yield MetadataChanged(revision, dict(items), {})
        case ChangeContext(fields):
            yield MetadataChanged(revision, {}, dict(fields))
        case ChangeName(name):
            yield Renamed(revision, name)
        case ChangeStatus(status):
            yield _state(revision, status)
        case FinishRestoring(restored):
            yield MetadataChanged(revision, {}, dict(restored.context))
            yield _state(revision, restored.status)


def _merged(last: Change, change: Change) -> Change | None:
    match last, change:
        case Removed(revision, db_ids), Removed(_, more):
            return Removed(revision, db_ids + more)
        case MetadataChanged(revision, metadata, context), MetadataChanged():
            return MetadataChanged(
                revision, {**metadata, **change.metadata}, {**context, **change.context}
            )
    return None


def _state(revision: int, status: Status) -> StateChanged:
    started_at = status.turn_started_at
    return StateChanged(
        revision,
        status.state,
        status.turn_id,
        None if started_at is None else from_microseconds(started_at),
    )


__all__ = ["Change", "changes", "dated", "event", "weigh", "weight"]
