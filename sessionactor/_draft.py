"""A session as a group of writes will leave it: its stored content, and the steps so far.

Rows of the group itself, rows that it updates and rows that it removes again are seen here as
they will be, before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Protocol

from sessionactor._changes import (
    IDLE,
    BeginTurn,
    ChangeStatus,
    EndTurn,
    FinishRestoring,
    InsertRows,
    OpenTurn,
    RemoveRows,
    Restored,
    RestoreHistory,
    State,
    StateName,
    Status,
    Step,
    StoredKey,
    StoredRow,
    StoredTurn,
    UpdateRow,
)
from sessionactor._requests import Append


class LookUp(Protocol):
    """Questions to the content as it was before the group."""

    def key(self, key: str) -> StoredKey | None:
        """The first use of `key`."""

    def row(self, db_id: int) -> StoredRow | None:
        """The row of that id."""

    def count(self, start: int, stop: int) -> int:
        """How many rows lie in `[start, stop)`."""

    def existing(self, db_ids: Sequence[int]) -> Iterable[int]:
        """Those of these ids that have a row."""

    def newest_below(self, stop: int, agent_id: str | None = None) -> int:
        """The newest row's id below `stop`, of that agent; 0 where there is none."""

    def is_closed(self, turn_id: str) -> bool:
        """Whether that turn was closed."""

    def turn_rows(self, turn_id: str, start: int) -> Sequence[int]:
        """The ids of a turn's rows from `start` on, in order."""

    def turns_between(self, start: int, stop: int) -> Iterable[str]:
        """The turns of the rows in `[start, stop)`."""


def stored_row(one: Append, db_id: int, now: int, revision: int) -> StoredRow:
    """The row of an append."""
    agent_id, data, checkpoint, keep_from, key, parent, turn = one
    return (
        *(db_id, agent_id, data, now, int(checkpoint)),
        *(keep_from, key, parent, turn, revision, None),
    )


class Draft:
    """A session as it will be."""

    def __init__(self, state: State, now: int, look_up: LookUp) -> None:
        self.steps: list[Step] = []
        (
            self.head,
            self.high_water,
            self.revision,
            self.last_at,
            self.rewritten_at,
            self.removed,
            self.status,
            self.turns,
        ) = state
        self.now = now
        self._look_up = look_up
        self._keys: dict[str, StoredKey] = {}
        self._own: dict[int, StoredRow] = {}  # rows of this group, in order
        self._gone: set[int] = set()  # stored rows that will be removed, of those …
        self._kept_below = state.high_water + 1  # … below this: from here on all will be
        self._closed: set[str] = set()
        self._inserts: InsertRows | None = None  # the last step, if it inserts

    @property
    def state(self) -> State:
        """The session's state once the steps are applied."""
        return State(
            self.head,
            self.high_water,
            self.revision,
            self.last_at,
            self.rewritten_at,
            self.removed,
            self.status,
            self.turns,
        )

    def branch(self) -> Draft:
        """A copy: what is done to it leaves this one as it is."""
        copy = Draft(self.state, self.now, self._look_up)
        copy.steps = self.steps.copy()
        copy._keys, copy._own = self._keys.copy(), self._own.copy()
        copy._gone, copy._kept_below = self._gone.copy(), self._kept_below
        copy._closed = self._closed.copy()
        return copy

    def step(self, step: Step) -> None:
        """Add a step other than an insertion."""
        self.steps.append(step)
        self._inserts = None
        self.last_at = self.now

    def key(self, key: str) -> StoredKey | None:
        """The first use of `key`."""
        return self._keys.get(key) or self._look_up.key(key)

    def insert(self, one: Append, db_id: int, key: StoredKey | None) -> int:
        """Add a row, the next one."""
        self.insert_row(stored_row(one, db_id, self.now, self.revision))
        if key is not None:
            self.keep_key(key)
        self.last_at = self.now
        return db_id

    def insert_row(self, row: StoredRow) -> None:
        """Add a row as it is."""
        inserts = self._inserts
        if inserts is None:
            inserts = self._inserts = InsertRows([], [])
            self.steps.append(inserts)
        inserts.rows.append(row)
        self._own[row[0]] = row
        self.head = self.high_water = row[0]

    def keep_key(self, key: StoredKey) -> None:
        """Remember a key with the rows that were added last."""
        if self._inserts is None:
            self._inserts = InsertRows([], [])
            self.steps.append(self._inserts)
        self._keys[key.key] = key
        self._inserts.keys.append(key)

    def row(self, db_id: int) -> StoredRow | None:
        """A row, if it will be there; its message may be an older one."""
        own = self._own.get(db_id)
        if own is not None or db_id >= self._kept_below or db_id in self._gone:
            return own
        return self._look_up.row(db_id)

    def newest(self, agent_id: str | None = None) -> int:
        """The newest row's id, of that agent; 0 where there is none."""
        for db_id in reversed(self._own):
            if agent_id in (None, self._own[db_id][1]):
                return db_id
        found = self._look_up.newest_below(self._kept_below, agent_id)
        while found in self._gone:
            while found in self._gone:  # at once past all that are gone in a row
                found -= 1
            found = self._look_up.newest_below(found + 1, agent_id)
        return found

    def update(self, row: StoredRow, data: bytes) -> None:
        """Store another message in a row, given as it is."""
        self.step(UpdateRow((*row[:2], data, *row[3:9], self.revision, self.now)))
        self.rewritten_at = self.revision

    def restore_row(self, row: StoredRow, inserted_revision: int) -> None:
        """Add a row that was updated after its insertion, as it is now."""
        self.insert_row((*row[:9], inserted_revision, None))
        self._own[row[0]] = row
        self.step(UpdateRow(row))
        self.rewritten_at = max(self.rewritten_at, row[9])

    def restore_history(
        self,
        turns: tuple[StoredTurn, ...],
        removals: tuple[RemoveRows, ...],
        origins: tuple[tuple[int, str], ...],
    ) -> None:
        """Note turns, open ones as interrupted, removals of the past, and origins of rows."""
        self.turns += tuple(
            OpenTurn(turn_id, agent_id, opened_at, interrupted=True)
            for turn_id, agent_id, opened_at, closed_at in turns
            if closed_at is None
        )
        self.rewritten_at = max(self.rewritten_at, *(one.revision for one in removals), 0)
        self.step(RestoreHistory(turns, removals, origins, self.revision))

    def finish_restoring(self, restored: Restored) -> None:
        """Be what the restored session was."""
        self.revision = restored.revision
        self.turns = tuple(sorted(self.turns, key=lambda turn: turn.opened_at))
        self.removed += max(0, restored.high_water - self.high_water)
        self.high_water = max(self.high_water, restored.high_water)
        self.step(FinishRestoring(restored, self.revision))
        head = self.row(self.head)
        self.last_at = max(restored.last_at, restored.created_at, head[3] if head else 0)
        self.status = restored.status

    def remove_from(self, first_id: int, logged_as: int) -> int:
        """Remove a row and all later ones; how many there were."""
        count = 0
        hit = {turn.turn_id for turn in self.turns if self._turn_rows(turn.turn_id, first_id)}
        while self._own and next(reversed(self._own)) >= first_id:
            self._own.popitem()
            count += 1
        if first_id < self._kept_below:
            count += self._look_up.count(first_id, self._kept_below)
            count -= sum(first_id <= db_id < self._kept_below for db_id in self._gone)
            self._kept_below = max(first_id, 0)
        if count:
            self._removed(count, [(logged_as, None)], hit)
        return count

    def remove(self, db_ids: Iterable[int]) -> int:
        """Remove these rows; how many of them there were."""
        wanted = sorted(set(db_ids))
        stored = {
            db_id
            for db_id in self._look_up.existing(wanted)
            if db_id < self._kept_below and db_id not in self._gone
        }
        found = [db_id for db_id in wanted if db_id in stored or db_id in self._own]
        if not found:
            return 0
        gone = set(found)
        hit = {
            turn.turn_id
            for turn in self.turns
            if not gone.isdisjoint(self._turn_rows(turn.turn_id, found[0]))
        }
        for db_id in found:
            self._own.pop(db_id, None)
        self._gone |= stored
        self._removed(len(found), _runs(found), hit)
        return len(found)

    def _removed(self, count: int, runs: list[tuple[int, int | None]], turns: set[str]) -> None:
        for first_id, last_id in runs:
            self.step(RemoveRows(first_id, last_id, self.revision))
        self.head = self.newest()
        if not self._own:  # what is gone above the head need not be known one by one
            self._kept_below = self.head + 1
            self._gone = {db_id for db_id in self._gone if db_id < self.head}
        self.removed += count
        self.rewritten_at = self.revision
        for turn_id in turns:
            self.close_turn(turn_id)
        if turns:
            self.settle()

    def whole(self, bound: int) -> int:
        """The highest id, not above `bound`, such that no turn has rows on both sides of it."""
        stop = self.high_water + 1
        while True:
            turns = set(self._look_up.turns_between(bound, min(stop, self._kept_below)))
            turns.update(row[8] for row in self._own.values() if row[8] and bound <= row[0] < stop)
            spans = [self._turn_rows(turn, 0) for turn in turns]
            lowest = min((span[0] for span in spans if span and span[-1] >= bound), default=bound)
            if lowest >= bound:
                return bound
            bound, stop = lowest, bound  # what lies between them may be of other turns

    def turn_rows(self, turn_id: str) -> list[int]:
        """The ids of a turn's rows, in order."""
        return self._turn_rows(turn_id, 0)

    def _turn_rows(self, turn_id: str, start: int) -> list[int]:
        stored = self._look_up.turn_rows(turn_id, start)
        return [
            *(db_id for db_id in stored if db_id < self._kept_below and db_id not in self._gone),
            *(row[0] for row in self._own.values() if row[8] == turn_id and row[0] >= start),
        ]

    def open(self, turn_id: str) -> OpenTurn | None:
        """A turn, if it is open."""
        return next((turn for turn in self.turns if turn.turn_id == turn_id), None)

    def is_closed(self, turn_id: str) -> bool:
        """Whether a turn was closed."""
        return turn_id in self._closed or self._look_up.is_closed(turn_id)

    def begin_turn(self, turn_id: str, agent_id: str) -> None:
        """Begin a turn, and be running."""
        opened_at = max([self.now, *(turn.opened_at + 1 for turn in self.turns)])  # for the order
        turn = OpenTurn(turn_id, agent_id, opened_at)
        self.turns += (turn,)
        self.step(BeginTurn(turn, self.revision))
        self.settle()

    def close_turn(self, turn_id: str) -> None:
        """Close a turn, open or not; the state is to be settled then."""
        self.turns = tuple(turn for turn in self.turns if turn.turn_id != turn_id)
        self._closed.add(turn_id)
        self.step(EndTurn(turn_id, self.now, self.revision))

    def settle(self, otherwise: Status = IDLE) -> None:
        """Be in the state that the newest open turn makes."""
        for wanted in (False, True):
            for turn in reversed(self.turns):
                if turn.interrupted is wanted:
                    name: StateName = "interrupted" if wanted else "running"
                    self.set_status(Status(name, turn.turn_id, turn.opened_at))
                    return
        self.set_status(otherwise)

    def set_status(self, status: Status, *, anew: bool = False) -> None:
        """Be in a state; `anew`: that counts, even if it is the same at the same time."""
        if status != self.status or anew:
            self.status = status
            self.step(ChangeStatus(status, self.revision))


def _runs(db_ids: list[int]) -> list[tuple[int, int | None]]:
    runs: list[tuple[int, int | None]] = []
    for _, group in groupby(enumerate(db_ids), lambda item: item[1] - item[0]):
        run = [db_id for _, db_id in group]
        runs.append((run[0], run[-1]))
    return runs


__all__ = ["Draft", "LookUp"]
