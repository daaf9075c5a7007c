"""A session at one moment, as an immutable value."""

from __future__ import annotations

from typing import NamedTuple

from torture.concurrency.calls import Refused


class Stored(NamedTuple):
    """A row, as a reader sees it."""

    db_id: int
    agent_id: str
    text: str
    checkpoint: bool
    turn: str | None
    key: str | None
    revision: int


class Key(NamedTuple):
    """What a key was first used for."""

    db_id: int
    agent_id: str
    text: str


class Status(NamedTuple):
    """The state, its turn, and whether it says since when."""

    state: str = "idle"
    turn_id: str | None = None
    dated: bool = False


IDLE = Status()


class State(NamedTuple):
    """A session at one moment."""

    exists: bool = False
    life: int = 0
    """How often it was created."""
    name: str = ""
    rows: tuple[Stored, ...] = ()
    used: int = 0
    """The highest id that was ever given."""
    revision: int = 0
    keys: frozenset[tuple[str, Key]] = frozenset()
    metadata: tuple[tuple[str, str], ...] = ()
    status: Status = IDLE
    turns: tuple[tuple[str, str], ...] = ()
    """Those that are open, and their agents; the oldest first."""
    closed: frozenset[str] = frozenset()

    @property
    def head(self) -> int:
        return self.rows[-1].db_id if self.rows else 0


class NotNowError(Exception):
    """What a session refuses."""

    def __init__(self, kind: str, actual: int | str | None = None) -> None:
        super().__init__(kind, actual)
        self.refused = Refused(kind, actual)
