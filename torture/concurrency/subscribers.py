"""Whether what a subscriber was told is what happened, in the order that was found.

Told live, it is every change, each once, in order: a copy that is kept by the events alone is,
after each revision, what the model was. What is read from the past is the difference that it
made; there the copy has to be right at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal, NamedTuple

from sessionactor import (
    Appended,
    Cleared,
    Deleted,
    Event,
    Lagged,
    MetadataChanged,
    Removed,
    Renamed,
    Row,
    StateChanged,
    Truncated,
    Updated,
)
from torture.concurrency.linearizability import Moment
from torture.concurrency.states import State, Stored

Ending = Literal["closed", "left", "failed"]


def stored(row: Row) -> Stored:
    """A row, as the model has it."""
    text = row.message["content"]
    return Stored(row.db_id, row.agent_id, text, row.checkpoint, row.turn, row.key, row.revision)


@dataclass
class Follower:
    """What a subscriber asked for and was told."""

    session_id: str
    since: int | None
    began: int
    """The moment at which it subscribed."""
    rereads: bool = False
    """Whether it may read the past at any time: after a fault, or for it lags while it reads."""
    events: list[Event] = field(default_factory=list)
    first_at: int | None = None
    """When the first event came, or the end."""
    ending: Ending = "left"
    """How it ended, if not by an event: with the registry, by leaving, by an error."""


class Life(NamedTuple):
    """A session between its creation and its end: its states by revision."""

    states: dict[int, State]
    began: dict[int, int]
    """When the calls began that led there …"""
    ended: dict[int, int]
    """… and, of those that were answered, ended."""
    deleted: bool


def facts_told(followers: Sequence[Follower]) -> Iterator[tuple[tuple[object, ...], int]]:
    """What became so, and at which revision, as far as subscribers were told."""
    for follower in followers:
        for event in follower.events:
            match event:
                case Appended(_, row) | Updated(_, row):
                    if row.key is None:
                        yield ("row", row.db_id, row.message["content"]), row.revision
                case MetadataChanged(revision, metadata, _):
                    for pair in metadata.items():
                        yield ("pair", *pair), revision
                case Renamed(revision, name) if not follower.rereads:
                    yield ("name", name), revision


def disagreement(follower: Follower, at: int, order: Sequence[Moment]) -> str:
    """What a subscriber was told wrongly, or not at all; nothing if all of it fits.

    Args:
        follower: The subscriber.
        at: The place of its session in the model.
        order: The calls to it, and what they left.
    """
    if not follower.events and follower.ending != "closed":
        return ""
    found = ["it follows a session that never was"]
    for life in _lives(at, order):
        for base in _bases(follower, life):
            wrong = _Reading(follower, life, base).wrong()
            if not wrong:
                return ""
            found.append(wrong)
    if len(found) == 1 and not follower.events:
        return ""
    since = "now" if follower.since is None else follower.since
    told = "".join(f"\n  {event}" for event in follower.events)
    return f"a subscriber to {follower.session_id} since {since}: {'; '.join(found[1:])}{told}"


def _lives(at: int, order: Sequence[Moment]) -> list[Life]:
    lives: list[Life] = []
    before = State()
    for moment in order:
        state = moment.world.sessions[at]
        if state == before:
            continue
        if not state.exists:
            lives[-1] = lives[-1]._replace(deleted=True)
        else:
            if not before.exists:
                lives.append(Life({}, {}, {}, False))
            lives[-1].states[state.revision] = state
            lives[-1].began[state.revision] = moment.done.began
            if moment.done.answered:
                lives[-1].ended[state.revision] = moment.done.ended
        before = state
    return lives


def _bases(follower: Follower, life: Life) -> list[int]:
    """Revisions after which it may have begun."""
    revisions = list(life.states)
    if follower.since is not None:
        return [follower.since] if follower.since <= revisions[-1] else []
    after = [n for n in revisions if life.began[n] > follower.began]
    over = [n for n, ended in life.ended.items() if ended < follower.began]
    least = max(over, default=revisions[0])
    return [n for n in revisions if n >= least and not (after and n >= after[0])] or [revisions[0]]


class _Reading:
    """One way to read what a subscriber was told."""

    def __init__(self, follower: Follower, life: Life, base: int) -> None:
        self._follower = follower
        self._life = life
        self._base = base
        state = life.states.get(base)
        if state is None:  # before a fork began, nothing of it was known
            state = State()
        self._copy = _Copy(state, whole=base in life.states)
        self._exact_from = base
        if follower.since is not None and follower.first_at is not None:
            late = [n for n, began in life.began.items() if began > follower.first_at]
            self._exact_from = min(late, default=max(life.states) + 1) - 1
        if follower.rereads:
            self._exact_from = max(life.states) + 1

    def wrong(self) -> str:
        told = [event for event in self._follower.events if not isinstance(event, Lagged | Deleted)]
        last: Any = self._follower.events[-1] if self._follower.events else None
        revision = self._base
        groups = [(n, list(events)) for n, events in groupby(told, lambda event: event.revision)]
        for number, (group, events) in enumerate(groups):
            whole = number < len(groups) - 1 or self._follower.ending == "closed"
            if group <= revision:
                return f"revision {group} after {revision}"
            if group > self._exact_from and (missed := self._missed(revision, group)):
                return missed
            for event in events:
                if wrong := self._copy.take(event):
                    return wrong
            revision = group
            if whole and group > self._exact_from and (wrong := self._copy.unlike(self._at(group))):
                return f"at revision {group} {wrong}"
        return self._ending(revision, last)

    def _ending(self, revision: int, last: Event | None) -> str:
        newest = max(self._life.states)
        complete = self._follower.ending == "closed" and not isinstance(last, Lagged | Deleted)
        if isinstance(last, Deleted):
            if not self._life.deleted:
                return "it was told of a deletion that was none"
            complete = newest > self._exact_from
        if complete and (missed := self._missed(revision, newest + 1, everything=True)):
            return missed
        if complete and (wrong := self._copy.unlike(self._life.states[newest])):
            return f"at the end {wrong}"
        return ""

    def _missed(self, revision: int, group: int, *, everything: bool = False) -> str:
        """A change between two revisions of which it was not told."""
        between = [n for n in self._life.states if revision < n < group]
        for n in between:
            if not everything and n <= self._exact_from:
                continue
            if self._copy.unlike(self._life.states[n]):
                return f"it was not told of revision {n}: {self._copy.unlike(self._life.states[n])}"
        return ""

    def _at(self, revision: int) -> State | None:
        return self._life.states.get(revision)


class _Copy:
    """A session, as events tell of it."""

    def __init__(self, state: State, *, whole: bool) -> None:
        self._rows = {row.db_id: row for row in state.rows}
        self._metadata = dict(state.metadata)
        self._name = state.name if whole else None
        self._status = state.status[:2] if whole else None

    def take(self, event: Event) -> str:
        match event:
            case Appended(_, row):
                if row.db_id in self._rows:
                    return f"row {row.db_id} was added twice"
                self._rows[row.db_id] = stored(row)
            case Updated(_, row):
                self._rows[row.db_id] = stored(row)
            case Truncated(_, first_id):
                self._rows = {n: row for n, row in self._rows.items() if n < first_id}
            case Removed(_, db_ids):
                self._rows = {n: row for n, row in self._rows.items() if n not in db_ids}
            case Cleared():
                self._rows = {}
            case Renamed(_, name):
                self._name = name
            case MetadataChanged(_, metadata, _):
                self._metadata.update({key: str(value) for key, value in metadata.items()})
            case StateChanged(_, name, turn_id, _):
                self._status = (name, turn_id)
        return ""

    def unlike(self, state: State | None) -> str:
        """How it differs from what was."""
        if state is None:
            return "nothing happened"
        rows = tuple(self._rows[n] for n in sorted(self._rows))
        for what, mine, theirs in (
            ("rows are", rows, state.rows),
            ("metadata is", tuple(sorted(self._metadata.items())), state.metadata),
            ("the name is", self._name or state.name, state.name),
            ("the state is", self._status or state.status[:2], state.status[:2]),
        ):
            if mine != theirs:
                return f"{what} {mine}, where there is {theirs}"
        return ""
