"""What may be there after a loss of power, by what was asked and answered before it.

A session went through a line of states, a call each. After the loss it is in one of them: at
`full` in none before the last that was answered, at `normal` in none before the last that was
*hard* (created, forked, renamed, deleted: those are synced at both); and in none that nobody
had asked for yet.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from torture.power_loss.recording import Note
from torture.power_loss.snapshot import Shown, State


class Became(NamedTuple):
    """What a session was after a call; `state` is `None`: gone."""

    call: int | None
    """`None`: it was so from the beginning."""
    hard: bool
    state: State | None


_ABSENT = Became(None, True, None)


@dataclass
class History:
    """What a victim said."""

    durability: Literal["full", "normal"] = "full"
    has_catalog: bool = True
    began: dict[int, int] = field(default_factory=dict)
    """Call -> when."""
    answered: dict[int, int] = field(default_factory=dict)
    lines: dict[tuple[str, str], list[Became]] = field(default_factory=dict)
    """Place and id -> what the session became, in order."""

    def allowed(self, place: str, session_id: str, at: int) -> list[State | None]:
        """What a session may be after a loss of power at a time."""
        line = self.lines.get((place, session_id), [_ABSENT])
        lowest = highest = 0
        for index, became in enumerate(line):
            if became.call is None:
                continue
            if self.began[became.call] <= at:
                highest = index
            is_promised = became.hard or self.durability == "full"
            if is_promised and self.answered[became.call] <= at:
                lowest = index
        return [became.state for became in line[lowest : highest + 1]]

    def moment(self, at: int) -> tuple[int, int]:
        """How many calls had begun, and were answered."""
        counts = [sum(t <= at for t in times.values()) for times in (self.began, self.answered)]
        return counts[0], counts[1]

    def ids(self, place: str) -> list[str]:
        """All sessions that there ever were in a place."""
        return [session_id for where, session_id in self.lines if where == place]


def history(notes: Sequence[Note]) -> History:
    """What the marks of a victim tell."""
    found = History()
    lines: dict[tuple[str, str], list[Became]] = defaultdict(lambda: [_ABSENT])
    for time, mark in _marks(notes):
        match mark:
            case {"begins": call}:
                found.began[call] = time
            case {"answers": call}:
                found.answered[call] = time
            case {"durability": durability, "has_catalog": has_catalog}:
                found.durability, found.has_catalog = durability, has_catalog
            case {"became": [place, session_id, call, hard, plain]}:
                line = lines[place, session_id]
                if call is None:
                    line.clear()
                state = None if plain is None else State.from_plain(plain)
                line.append(Became(call, hard, state))
    found.lines = dict(lines)
    return found


def _marks(notes: Sequence[Note]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for time, note in enumerate(notes, start=1):
        if note.what == "m" and note.data.startswith(b"{"):
            yield time, json.loads(note.data)


def matching(allowed: Sequence[State | None], seen: Shown | None) -> list[State | None]:
    """Those that look like what was seen."""
    return [state for state in allowed if (None if state is None else state.shown) == seen]


def wrong(session_id: str, allowed: Sequence[State | None], seen: Shown | None) -> str:
    """What is not as it may be."""
    may_be = ["absent" if state is None else str(state.shown) for state in allowed]
    is_now = "absent" if seen is None else str(seen)
    return f"session {session_id} is {is_now}; it may be {' or '.join(may_be[:4])}"
