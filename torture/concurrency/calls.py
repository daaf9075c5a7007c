"""What is asked of a session, and what came of it: plain values, also as lines of JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias


class Append(NamedTuple):
    """A message to store, whose text nobody else has unless it has a key."""

    agent_id: str
    text: str
    key: str | None = None
    checkpoint: bool = False
    turn: str | None = None


class Update(NamedTuple):
    """Another text for a row."""

    db_id: int | None
    """`None`: the newest row."""
    text: str


class Truncate(NamedTuple):
    """That row and all later ones to remove."""

    first_id: int


class Remove(NamedTuple):
    """Rows to remove."""

    db_ids: tuple[int, ...]


class RemoveLast(NamedTuple):
    """The newest row, of that agent if given, to remove."""

    agent_id: str | None = None


class Clear(NamedTuple):
    """All rows to remove."""


class Save(NamedTuple):
    """Metadata to merge."""

    pairs: tuple[tuple[str, str], ...]


class SetState(NamedTuple):
    """A state to be in."""

    state: Literal["idle", "running", "error"]
    turn_id: str | None = None


class Discard(NamedTuple):
    """A turn to close and remove."""

    turn_id: str


class Finish(NamedTuple):
    """A turn to close and keep."""

    turn_id: str


Change: TypeAlias = (
    Append | Update | Truncate | Remove | RemoveLast | Clear | Save | SetState | Discard | Finish
)


class Write(NamedTuple):
    """One request: all of it or nothing."""

    changes: tuple[Change, ...]
    way: Literal["call", "extend", "batch"] = "call"
    """How it is asked for: by a call of its own, by `extend`, in a batch."""
    expected_head: int | None = None
    expected_revision: int | None = None


class Begin(NamedTuple):
    """Open a turn."""

    turn_id: str
    agent_id: str


class End(NamedTuple):
    """Close a turn, as leaving its block does."""

    turn_id: str
    failed: bool


class Rename(NamedTuple):
    """Give the session another name."""

    name: str


class Start(NamedTuple):
    """Open the session, or create it."""

    name: str | None


class Stop(NamedTuple):
    """Close the session."""


class Delete(NamedTuple):
    """Remove the session."""


class Fork(NamedTuple):
    """It happens at two moments: one at which the origin is looked at, one that creates."""

    into: str
    name: str
    before: int | None = None


class Take(NamedTuple):
    """The first half of a fork, done to its origin."""

    number: int


class Make(NamedTuple):
    """The second half, done to what it makes."""

    number: int
    name: str
    before: int | None


class Read(NamedTuple):
    """Look at something."""

    what: Literal["messages", "latest", "info", "metadata", "revision", "key", "head"]
    of: str | None = None
    """The agent, or the key."""


Call: TypeAlias = Write | Begin | End | Rename | Start | Stop | Delete | Fork | Take | Make | Read


class Refused(NamedTuple):
    """An error that says that nothing happened, and what the session was instead."""

    kind: str
    actual: int | str | None = None


COMMANDS = (Start, Delete, Make, Rename)
"""What waits on when a deletion answers all that was asked in the meantime."""

FOREVER = 1 << 62
"""A moment after all others."""


@dataclass(frozen=True, slots=True)
class Done:
    """A call, when it was made and answered, and what it came to."""

    session_id: str
    call: Call
    began: int
    """Moments: of one clock for all who write a history."""
    ended: int
    """When it was answered; where it was not, by when it happened if it did."""
    answer: Any = None
    answered: bool = True
    """Whether it happened for certain: cancelled, killed and failed calls may not have."""


_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Append, Update, Truncate, Remove, RemoveLast, Clear, Save, SetState, Discard, Finish),
        *(Write, Begin, End, Rename, Start, Stop, Delete, Fork, Read, Refused),
    )
}


def to_json(value: Any) -> str:
    """One line."""
    return json.dumps(_named(value))


def from_json(line: str) -> Any:
    """What `to_json` was given."""
    return _built(json.loads(line))


def _named(value: Any) -> Any:
    if isinstance(value, tuple):
        name = type(value).__name__
        return [name if name in _KINDS else "", *map(_named, value)]
    return value


def _built(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    name, *parts = value
    built = tuple(map(_built, parts))
    return _KINDS[name](*built) if name else built
