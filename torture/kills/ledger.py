"""What victims said before and after each call: what they were answered, over all their lives."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

REFUSED: Final = 3
"""The exit code of a victim that somebody else's lock kept from working for too long."""


class Journal:
    """How a victim says it: a line is heard as soon as it is written, whatever comes then."""

    def __init__(self, out: int) -> None:
        self._out = out

    def say(self, *entry: Any) -> None:
        """Say a line, whole."""
        os.write(self._out, (json.dumps(entry) + "\n").encode())


@dataclass
class Thing:
    """A session, or a copy, that is made, changed and removed: what may be there now."""

    rows: list[list[int]] = field(default_factory=list)
    """The ids of its rows: the last answered ones, and what was asked since."""
    names: list[str] = field(default_factory=list)
    made: bool = False
    deleting: bool = False
    deleted: bool = False


@dataclass
class TurnState:
    """A session whose only caller begins and ends turns."""

    n: int = -1
    phase: str = "done"
    """`begin`: asked for. `begun`. `say`: a message was asked for. `end`, `settle`: its end was
    asked for, by itself or by whoever found it interrupted. `done`."""
    ids: list[int] = field(default_factory=list)
    done: dict[int, list[int]] = field(default_factory=dict)
    """Of each turn that is over: the rows that it left."""
    interrupted: int = 0


@dataclass
class Ledger:
    """All that was heard of the victims of a case."""

    asked: dict[tuple[str, str], int] = field(default_factory=dict)
    """Of each caller, `(session, agent)`: the number of its last call."""
    got: dict[tuple[str, str, int], Any] = field(default_factory=dict)
    things: dict[str, Thing] = field(default_factory=dict)
    turns: dict[str, TurnState] = field(default_factory=dict)
    broken: dict[str, list[str]] = field(default_factory=dict)
    """What victims found that must not be, by what it is about."""
    reached: list[str] = field(default_factory=list)
    heard: int = 0
    left: int = 0
    """Processes that left in order."""

    def hear(self, line: str) -> None:
        """Take a line in."""
        self.heard += 1
        kind, *rest = json.loads(line)
        getattr(self, f"_{kind}")(*rest)

    def next(self, session_id: str, agent_id: str) -> int:
        """The call that a caller has to make next, or again."""
        last = self.asked.get((session_id, agent_id))
        if last is None:
            return 0
        return last + ((session_id, agent_id, last) in self.got)

    def in_flight(self, session_id: str, agent_id: str) -> bool:
        """Whether a caller's last call was not answered."""
        last = self.asked.get((session_id, agent_id))
        return last is not None and (session_id, agent_id, last) not in self.got

    def _asks(self, session_id: str, agent_id: str, n: int) -> None:
        self.asked[session_id, agent_id] = n

    def _got(self, session_id: str, agent_id: str, n: int, answer: Any) -> None:
        self.got[session_id, agent_id, n] = answer

    def _leaves(self) -> None:
        self.left += 1

    def _broken(self, about: str, sentence: str) -> None:
        self.broken.setdefault(about, []).append(sentence)

    def _reached(self, point: str) -> None:
        self.reached.append(point)

    def _thing(self, which: str, what: str, rows: Sequence[int] = (), name: str = "") -> None:
        if what == "making":
            self.things[which] = Thing([list(rows)], [name])
        thing = self.things[which]
        match what:
            case "made":
                thing.made = True
            case "changing":
                thing.rows.append(list(rows))
            case "changed":
                del thing.rows[:-1]
            case "renaming":
                thing.names.append(name)
            case "renamed":
                del thing.names[:-1]
            case "deleting":
                thing.deleting = True
            case "deleted":
                thing.deleted = True

    def _turn(self, session_id: str, phase: str, n: int, *ids: int) -> None:
        state = self.turns.setdefault(session_id, TurnState())
        match phase:
            case "begin":
                state.n, state.ids = n, []
            case "said":
                state.ids.append(ids[0])
                phase = "begun"
            case "interrupted":
                state.interrupted += 1
                return
            case "done":
                state.done[n] = [*ids]
        state.phase = phase
