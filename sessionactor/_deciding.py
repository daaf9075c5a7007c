"""Deciding a group of writes: ids, times, key hits and refusals, before a row is written.

`decide` is a pure function of the group, the session's state, the time and look-ups in
the stored content. What it returns is a plain value; applying its steps to a file with
the same content gives the same content, here or on another machine.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

from sessionactor._codec import UndecodableError
from sessionactor._digest import digest
from sessionactor._errors import (
    IdempotencyError,
    InvalidValueError,
    MessageEncodingError,
    SessionError,
    StaleHeadError,
    StaleRevisionError,
)
from sessionactor._requests import Append, Operation, SaveMetadata, Truncate, Write

StoredRow: TypeAlias = tuple[
    int, str, bytes, int, int, int | None, str | None, str | None, str | None, int
]
"""The columns of `messages`, in their order."""

Answer: TypeAlias = tuple[int | None, ...]
"""What each operation of a write came to: an id, a count of removed rows, or `None`."""


class State(NamedTuple):
    """What deciding needs to know of a session."""

    head: int
    """The newest row's id; 0 where there is no row."""
    high_water: int
    """The highest id ever used."""
    revision: int
    last_at: int
    """The newest time ever given out, microseconds since the epoch."""
    removed_at: int
    """The revision of the newest removal; 0 where nothing was ever removed."""


class StoredKey(NamedTuple):
    """The first use of an idempotency key."""

    key: str
    db_id: int
    digest: bytes


class LookUp(Protocol):
    """Questions to the content as it was before the group."""

    def key(self, key: str) -> StoredKey | None:
        """The first use of `key`."""

    def count(self, start: int, stop: int) -> int:
        """How many rows lie in `[start, stop)`."""

    def newest_below(self, stop: int) -> int:
        """The newest row's id below `stop`; 0 where there is none."""


class InsertRows(NamedTuple):
    """Store these rows, and remember their keys."""

    rows: list[StoredRow]
    keys: list[StoredKey]


class RemoveRows(NamedTuple):
    """Remove the rows from `first_id` on, and log it."""

    first_id: int
    revision: int


class MergeMetadata(NamedTuple):
    """Merge these pairs into the metadata."""

    items: tuple[tuple[str, str | None], ...]
    revision: int


Step: TypeAlias = InsertRows | RemoveRows | MergeMetadata


class Decision(NamedTuple):
    """What a group comes to."""

    steps: list[Step]
    """In order; empty where there is nothing to write."""
    answers: list[Answer | SessionError]
    """One for each write: what it came to, or why it was refused."""
    state: State
    """The session's state once the steps are applied."""


def decide(
    session_id: str, group: Sequence[Write], state: State, now: int, look_up: LookUp
) -> Decision:
    """Decide the writes of a group in order; a refused one leaves no trace on the others."""
    draft = _Draft(session_id, state, max(now, state.last_at), look_up)
    answers = [draft.write(write) for write in group]
    return Decision(draft.steps, answers, draft.state)


class _Planned(NamedTuple):
    """An append's id, whether it is a new row, and its key."""

    db_id: int
    new: bool
    key: StoredKey | None


class _Draft:
    """The session as it will be: the stored content and the steps decided so far."""

    def __init__(self, session_id: str, state: State, now: int, look_up: LookUp) -> None:
        self.steps: list[Step] = []
        self._head, self._high_water, self._revision, self._last_at, self._removed_at = state
        self._session_id = session_id
        self._now = now
        self._look_up = look_up
        self._keys: dict[str, StoredKey] = {}
        self._alive: list[int] = []  # rows of this group that it has not removed again
        self._kept_below = state.high_water + 1  # stored rows from here on are removed
        self._inserts: InsertRows | None = None  # the last step, if it inserts

    @property
    def state(self) -> State:
        return State(self._head, self._high_water, self._revision, self._last_at, self._removed_at)

    def write(self, write: Write) -> Answer | SessionError:
        operations, expected_head, expected_revision = write
        if len(operations) == 1 and expected_head is None and expected_revision is None:
            one = operations[0]
            if type(one) is Append and one.key is None and one.keep_from is None:
                # Nearly every write; nothing can refuse it.
                self._revision += 1
                return (self._insert(one, self._high_water + 1, None),)
        try:
            plan = self._plan(operations)
            if _is_repeat(plan):
                return tuple(
                    planned.db_id if planned else 0 if type(one) is Truncate else None
                    for one, planned in zip(operations, plan, strict=True)
                )
            self._check_expectations(write)
            self._check_keep_from(operations, plan)
        except SessionError as refusal:
            return refusal
        return self._apply(operations, plan)

    def _plan(self, operations: tuple[Operation, ...]) -> list[_Planned | None]:
        """The id of each append, found by its key or the next one."""
        plan: list[_Planned | None] = []
        next_id = self._high_water + 1
        fresh: dict[str, StoredKey] = {}
        for one in operations:
            if type(one) is not Append:
                plan.append(None)
                continue
            if one.key is None:
                plan.append(_Planned(next_id, True, None))
                next_id += 1
                continue
            mark = self._digest(one)
            known = fresh.get(one.key) or self._keys.get(one.key) or self._look_up.key(one.key)
            if known is None:
                fresh[one.key] = known = StoredKey(one.key, next_id, mark)
                plan.append(_Planned(next_id, True, known))
                next_id += 1
            elif known.digest == mark:
                plan.append(_Planned(known.db_id, False, known))
            else:
                raise IdempotencyError(
                    f"the key {one.key!r} of session {self._session_id!r} was used before, for row"
                    f" {known.db_id}, with another agent or message; use a new key",
                    key=one.key,
                    db_id=known.db_id,
                    session_id=self._session_id,
                )
        return plan

    def _apply(self, operations: tuple[Operation, ...], plan: list[_Planned | None]) -> Answer:
        """Take a write that nothing refuses any more into the steps."""
        before = self._revision
        self._revision += 1
        changed = False
        answers: list[int | None] = []
        for one, planned in zip(operations, plan, strict=True):
            if type(one) is Append and planned:
                answers.append(planned.db_id)
                if planned.new:
                    self._insert(one, planned.db_id, planned.key)
                    changed = True
            elif type(one) is Truncate:
                count = self._remove_from(one.from_id)
                answers.append(count)
                if count:
                    self._step(RemoveRows(one.from_id, self._revision))
                    self._head = self._newest()
                    self._removed_at = self._revision
                    changed = True
            elif type(one) is SaveMetadata:
                answers.append(None)
                if one.items:
                    self._step(MergeMetadata(one.items, self._revision))
                    changed = True
        if not changed:
            self._revision = before
        return tuple(answers)

    def _insert(self, one: Append, db_id: int, key: StoredKey | None) -> int:
        agent_id, data, checkpoint, keep_from, text, parent, turn = one
        inserts = self._inserts
        if inserts is None:
            inserts = self._inserts = InsertRows([], [])
            self.steps.append(inserts)
        now, revision = self._now, self._revision
        inserts.rows.append(
            (db_id, agent_id, data, now, int(checkpoint), keep_from, text, parent, turn, revision)
        )
        if key is not None:
            self._keys[key.key] = key
            inserts.keys.append(key)
        self._alive.append(db_id)
        self._head = self._high_water = db_id
        self._last_at = now
        return db_id

    def _step(self, step: Step) -> None:
        self.steps.append(step)
        self._inserts = None

    def _remove_from(self, first_id: int) -> int:
        index = bisect_left(self._alive, first_id)
        count = len(self._alive) - index
        del self._alive[index:]
        if first_id < self._kept_below:
            count += self._look_up.count(first_id, self._kept_below)
            self._kept_below = first_id
        return count

    def _newest(self) -> int:
        return self._alive[-1] if self._alive else self._look_up.newest_below(self._kept_below)

    def _digest(self, one: Append) -> bytes:
        try:
            return digest(one.agent_id, one.data)
        except UndecodableError as error:
            raise MessageEncodingError(
                f"the message with key {one.key!r} for session {self._session_id!r} is not"
                f" an encoded message: {error}",
                path="",
                session_id=self._session_id,
            ) from error

    def _check_expectations(self, write: Write) -> None:
        _, head, revision = write
        if head is not None and head != self._head:
            raise StaleHeadError(
                f"the head of session {self._session_id!r} is {self._head}, not {head}:"
                " read what was added and decide again",
                expected=head,
                actual=self._head,
                session_id=self._session_id,
            )
        if revision is not None and revision != self._revision:
            raise StaleRevisionError(
                f"session {self._session_id!r} is at revision {self._revision}, not"
                f" {revision}: read what changed and decide again",
                expected=revision,
                actual=self._revision,
                session_id=self._session_id,
            )

    def _check_keep_from(
        self, operations: tuple[Operation, ...], plan: list[_Planned | None]
    ) -> None:
        for one, planned in zip(operations, plan, strict=True):
            if type(one) is not Append or one.keep_from is None or not planned or not planned.new:
                continue
            if not 1 <= one.keep_from <= planned.db_id:
                raise InvalidValueError(
                    f"keep_from={one.keep_from} of a checkpoint in session"
                    f" {self._session_id!r} is not between 1 and its own id {planned.db_id}",
                    session_id=self._session_id,
                )


def _is_repeat(plan: list[_Planned | None]) -> bool:
    # Keys are stored with their write: where all are known, all of the write happened before.
    appends = [planned for planned in plan if planned]
    return bool(appends) and not any(planned.new for planned in appends)
