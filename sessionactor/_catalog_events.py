"""What the catalog is told, and what it asks for: plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias, cast

from sessionactor import _names as names
from sessionactor._changes import FinishRestoring, InsertRows, Step, StoredInfo


class Opened(NamedTuple):
    """A session is in use: how its file says it is."""

    info: StoredInfo


class Committed(NamedTuple):
    """What happened to a session in use, on top of a revision."""

    session_id: str
    base_revision: int
    steps: Sequence[Step]
    info: StoredInfo


class Renamed(NamedTuple):
    """A session's file has another name."""

    session_id: str
    name: str


class Deleted(NamedTuple):
    """A session's files are gone."""

    session_id: str


Event: TypeAlias = Opened | Committed | Renamed | Deleted


class Listed(NamedTuple):
    """A session that a directory has."""

    entry: str
    left_open: bool
    """Whether nobody has closed it: then more may have happened than the catalog was told."""


class Wanted(NamedTuple):
    """A session of which the catalog wants to know what happened after a revision."""

    part: str
    since: int


def part_of(event: Event) -> str:
    """The id part of an event's session."""
    return names.id_part(_session_of(event))


class Run(NamedTuple):
    """Commits of a session that follow on each other, or one other event."""

    joined: Event
    """All of them as one."""
    events: list[Event]


def runs(events: Iterable[Event]) -> list[Run]:
    """The same, but commits of a session that follow on each other are together."""
    found: list[tuple[list[Event], list[Step]]] = []
    latest: dict[str, tuple[int, list[Event], list[Step]]] = {}  # where the last event is a commit
    for event in events:
        session_id = _session_of(event)
        revision, run, steps = latest.pop(session_id, (-1, [], []))
        if type(event) is not Committed or FinishRestoring in map(type, event.steps):
            found.append(([event], []))
            continue
        if revision != event.base_revision:
            run, steps = [], []
            found.append((run, steps))
        run.append(event)
        extend(steps, event.steps)
        latest[session_id] = event.info.revision, run, steps
    return [Run(_joined(run, steps), run) for run, steps in found]


def _joined(run: Sequence[Event], steps: Sequence[Step]) -> Event:
    if len(run) == 1:
        return run[0]
    first, last = cast(Committed, run[0]), cast(Committed, run[-1])
    return first._replace(steps=steps, info=last.info)


def extend(steps: list[Step], more: Iterable[Step]) -> None:
    """Add steps; rows that are inserted one after the other become one step."""
    for step in more:
        last = steps[-1] if steps else None
        if not isinstance(step, InsertRows):
            steps.append(step)
        elif isinstance(last, InsertRows):
            last.rows.extend(step.rows)
        else:
            steps.append(InsertRows([*step.rows], []))


def _session_of(event: Event) -> str:
    return event.info.session_id if isinstance(event, Opened) else event.session_id


__all__ = [
    "Committed",
    "Deleted",
    "Event",
    "Listed",
    "Opened",
    "Renamed",
    "Run",
    "Wanted",
    "extend",
    "part_of",
    "runs",
]
