"""Deciding a group of writes: ids, times, key hits and refusals, before a row is written.

`decide` is a pure function of the group, the session's state, the time and look-ups in
the stored content. What it returns is a plain value; applying its steps to a file with
the same content gives the same content, here or on another machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sessionactor._changes import Answer, InsertRows, State, Status, Step, StoredKey, StoredRow
from sessionactor._codec import UndecodableError
from sessionactor._digest import digest
from sessionactor._draft import Draft, LookUp, stored_row
from sessionactor._errors import (
    IdempotencyError,
    InvalidValueError,
    MessageEncodingError,
    SessionError,
    StaleHeadError,
    StaleRevisionError,
)
from sessionactor._operations import carry_out, check_turn
from sessionactor._requests import (
    Append,
    Clear,
    Discard,
    Operation,
    Remove,
    RemoveLast,
    Truncate,
    Update,
    Write,
)


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
    now = max(now, state.last_at)
    if len(group) == 1 and (one := _plain_append(group[0], state.status)):
        return _appended(one, state, now)
    group_decision = _Group(session_id, Draft(state, now, look_up))
    answers = [group_decision.write(write) for write in group]
    return Decision(group_decision.draft.steps, answers, group_decision.draft.state)


def begin(session_id: str, write: Write, now: int) -> Decision:
    """Decide what a session that is created now begins with."""
    return decide(session_id, [write], State(0, 0, 0, now), now, _Nothing())


def _plain_append(write: Write, status: Status) -> Append | None:
    """The one append that a write is, as nearly every one, if nothing can refuse it."""
    operations, expected_head, expected_revision = write
    if len(operations) != 1 or expected_head is not None or expected_revision is not None:
        return None
    one = operations[0]
    if type(one) is not Append or status.state == "importing":
        return None
    return one if one.key is None and one.keep_from is None and not one.turn else None


def _appended(one: Append, state: State, now: int) -> Decision:
    """What a plain append comes to by itself: the same as in a group, only sooner."""
    db_id, revision = state.high_water + 1, state.revision + 1
    row = stored_row(one, db_id, now, revision)
    state = State(db_id, db_id, revision, now, *state[4:])
    return Decision([InsertRows([row], [])], [(db_id,)], state)


class _Planned(NamedTuple):
    """An append's id, whether it is a new row, and its key."""

    db_id: int
    new: bool
    key: StoredKey | None


_NOTHING_YET = {Truncate: 0, Update: 0, Remove: 0, RemoveLast: 0, Clear: 0, Discard: 0}
"""What operations of a repeated write come to, that has no way to tell what they came to."""


class _Group:
    """Decides one write after another."""

    def __init__(self, session_id: str, draft: Draft) -> None:
        self.draft = draft
        self._session_id = session_id

    def write(self, write: Write) -> Answer | SessionError:
        operations = write.operations
        draft = self.draft
        if one := _plain_append(write, draft.status):
            draft.revision += 1
            return (draft.insert(one, draft.high_water + 1, None),)
        try:
            plan = self._plan(operations)
            if _is_repeat(plan):
                return tuple(
                    planned.db_id if planned else _NOTHING_YET.get(type(one))
                    for one, planned in zip(operations, plan, strict=True)
                )
            self._check_expectations(write)
            self._check_keep_from(operations, plan)
            mixed = any(type(one) is not Append for one in operations)
            if mixed:
                self.draft = draft.branch()  # should a later operation be refused
            else:
                self._check_turns(operations, plan)
            return self._apply(operations, plan, mixed=mixed)
        except SessionError as refusal:
            self.draft = draft
            return refusal

    def _plan(self, operations: tuple[Operation, ...]) -> list[_Planned | None]:
        """The id of each append, found by its key or the next one."""
        plan: list[_Planned | None] = []
        next_id = self.draft.high_water + 1
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
            known = fresh.get(one.key) or self.draft.key(one.key)
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

    def _apply(
        self, operations: tuple[Operation, ...], plan: list[_Planned | None], *, mixed: bool
    ) -> Answer:
        """Take a write into the steps."""
        draft = self.draft
        before, steps = draft.revision, len(draft.steps)
        draft.revision += 1
        inserted = False
        answers: list[int | None] = []
        for one, planned in zip(operations, plan, strict=True):
            if type(one) is Append and planned:
                answers.append(planned.db_id)
                if planned.new:
                    if mixed:  # an operation before it may have closed its turn
                        check_turn(one.turn, draft, self._session_id)
                    draft.insert(one, planned.db_id, planned.key)
                    inserted = True
            else:
                answers.append(carry_out(one, draft, self._session_id))
        if not inserted and len(draft.steps) == steps:
            draft.revision = before
        return tuple(answers)

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
        if head is not None and head != self.draft.head:
            raise StaleHeadError(
                f"the head of session {self._session_id!r} is {self.draft.head}, not {head}:"
                " read what was added and decide again",
                expected=head,
                actual=self.draft.head,
                session_id=self._session_id,
            )
        if revision is not None and revision != self.draft.revision:
            raise StaleRevisionError(
                f"session {self._session_id!r} is at revision {self.draft.revision}, not"
                f" {revision}: read what changed and decide again",
                expected=revision,
                actual=self.draft.revision,
                session_id=self._session_id,
            )

    def _check_turns(self, operations: tuple[Operation, ...], plan: list[_Planned | None]) -> None:
        turns = [
            one.turn
            for one, planned in zip(operations, plan, strict=True)
            if type(one) is Append and planned and planned.new
        ]
        for turn in dict.fromkeys(turns):
            check_turn(turn, self.draft, self._session_id)

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


class _Nothing:
    """What a session holds that is not there yet."""

    def key(self, key: str) -> StoredKey | None:
        return None

    def row(self, db_id: int) -> StoredRow | None:
        return None

    def count(self, start: int, stop: int) -> int:
        return 0

    def existing(self, db_ids: Sequence[int]) -> Iterable[int]:
        return ()

    def newest_below(self, stop: int, agent_id: str | None = None) -> int:
        return 0

    def is_closed(self, turn_id: str) -> bool:
        return False

    def turn_rows(self, turn_id: str, start: int) -> Sequence[int]:
        return ()

    def turns_between(self, start: int, stop: int) -> Iterable[str]:
        return ()
