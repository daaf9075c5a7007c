"""What writes make of a session by the book."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torture.concurrency.calls import (
    Append,
    Change,
    Clear,
    Discard,
    Finish,
    Remove,
    RemoveLast,
    Save,
    SetState,
    Truncate,
    Update,
    Write,
)
from torture.concurrency.states import IDLE, Key, NotNowError, State, Status, Stored


def write_all(state: State, write: Write) -> tuple[State, Any]:
    """All of a write, or nothing; the same state where nothing changes.

    Raises:
        NotNowError: it is refused.
    """
    keys = dict(state.keys)
    puts = [one for one in write.changes if isinstance(one, Append)]
    ids = _ids(state, puts, keys)
    if ids and ids[-1] <= state.used and all(db_id <= state.used for db_id in ids):
        known = iter(ids)
        return state, tuple(
            next(known) if isinstance(one, Append) else _nothing_yet(one) for one in write.changes
        )
    if write.expected_head not in (None, state.head):
        raise NotNowError("StaleHeadError", state.head)
    if write.expected_revision not in (None, state.revision):
        raise NotNowError("StaleRevisionError", state.revision)
    return _carry_out(state, write.changes, iter(ids), keys)


def _ids(state: State, puts: Sequence[Append], keys: dict[str, Key]) -> list[int]:
    used, ids = state.used, []
    for put in puts:
        key = keys.get(put.key) if put.key is not None else None
        if key is None:
            used += 1
            key = Key(used, put.agent_id, put.text)
            if put.key is not None:
                keys[put.key] = key
        elif key[1:] != (put.agent_id, put.text):
            raise NotNowError("IdempotencyError", key.db_id)
        ids.append(key.db_id)
    return ids


def _carry_out(
    before: State, changes: Sequence[Change], ids: Any, keys: dict[str, Key]
) -> tuple[State, tuple[Any, ...]]:
    state = before._replace(revision=before.revision + 1)
    answers: list[Any] = []
    counts = False
    for change in changes:
        if isinstance(change, Append):
            answers.append(next(ids))
            state = _put(state, change, answers[-1])
        else:
            # These count even where they leave all as it was.
            counts |= isinstance(change, Save) or (
                isinstance(change, SetState)
                and change.state == "running"
                and change.turn_id not in dict(state.turns)
            )
            state, answer = _do(state, change)
            answers.append(answer)
    if not counts and state == before._replace(revision=state.revision):
        return before, tuple(answers)
    return state._replace(keys=frozenset(keys.items())), tuple(answers)


def _put(state: State, put: Append, db_id: int) -> State:
    if db_id <= state.used:
        return state
    if put.turn in state.closed:
        raise NotNowError("TurnClosedError", put.turn)
    row = Stored(db_id, put.agent_id, put.text, put.checkpoint, put.turn, put.key, state.revision)
    return state._replace(used=db_id, rows=(*state.rows, row))


def _do(state: State, change: Change) -> tuple[State, Any]:
    match change:
        case Update(db_id, text):
            return _update(state, state.head if db_id is None else db_id, text)
        case Truncate(first_id):
            return _remove(state, [row.db_id for row in state.rows if row.db_id >= first_id])
        case Remove(db_ids):
            return _remove(state, db_ids)
        case RemoveLast(agent_id):
            of = [row.db_id for row in state.rows if agent_id in (None, row.agent_id)]
            state, count = _remove(state, of[-1:])
            return state, bool(count)
        case Clear():
            return _remove(state, [row.db_id for row in state.rows])
        case Save(pairs):
            metadata = {**dict(state.metadata), **dict(pairs)}
            return state._replace(metadata=tuple(sorted(metadata.items()))), None
    return _do_to_turns(state, change)


def _do_to_turns(state: State, change: Change) -> tuple[State, Any]:
    match change:
        case SetState(name, turn_id):
            return _become(state, name, turn_id), None
        case Discard(turn_id):
            return _discard(state, turn_id)
        case Finish(turn_id):
            if turn_id in _concerned(state):
                state = _settled(_close(state, [turn_id]))
            return state, None
    raise AssertionError(change)


def _update(state: State, db_id: int, text: str) -> tuple[State, bool]:
    rows = tuple(
        row._replace(text=text, revision=state.revision) if row.db_id == db_id else row
        for row in state.rows
    )
    return (state._replace(rows=rows), True) if rows != state.rows else (state, False)


def _remove(state: State, db_ids: Sequence[int]) -> tuple[State, int]:
    gone = [row for row in state.rows if row.db_id in db_ids]
    if gone:
        state = state._replace(rows=tuple(row for row in state.rows if row not in gone))
        lost = {row.turn for row in gone}
        hit = [turn_id for turn_id, _ in state.turns if turn_id in lost]
        if hit:
            state = _settled(_close(state, hit))
    return state, len(gone)


def _nothing_yet(change: Change) -> Any:
    """What a change of a repeated batch comes to."""
    match change:
        case Update() | RemoveLast():
            return False
        case Truncate() | Remove() | Clear() | Discard():
            return 0
    return None


# turns


def begin(state: State, turn_id: str, agent_id: str) -> State:
    """Open a turn.

    Raises:
        NotNowError: another one is open, or this one was closed.
    """
    for open_id, of in state.turns:
        if turn_id == open_id or agent_id == of:
            raise NotNowError("TurnOpenError", open_id)
    if turn_id in state.closed:
        raise NotNowError("TurnClosedError", turn_id)
    turns = (*state.turns, (turn_id, agent_id))
    return _settled(state._replace(revision=state.revision + 1, turns=turns))


def end(state: State, turn_id: str, failed: bool) -> State:
    """Close a turn, if it is open."""
    if turn_id not in dict(state.turns):
        return state
    state = _close(state._replace(revision=state.revision + 1), [turn_id])
    return _settled(state, Status("error", turn_id, True) if failed else IDLE)


def _become(state: State, name: str, turn_id: str | None) -> State:
    if name == "running":
        if turn_id in dict(state.turns):
            return state
        return state._replace(status=Status("running", turn_id, True))
    known = state.status
    state = _close(state, [open_id for open_id, _ in state.turns])
    if name == "idle":
        return state._replace(status=IDLE)
    same = turn_id in (None, known.turn_id)
    return state._replace(status=Status("error", turn_id or known.turn_id, known.dated and same))


def _discard(state: State, turn_id: str) -> tuple[State, int]:
    concerned = turn_id in _concerned(state)
    state, count = _remove(state, [row.db_id for row in state.rows if row.turn == turn_id])
    if concerned or count:
        state = _close(state, [turn_id])
    return (_settled(state) if concerned else state), count


def _concerned(state: State) -> set[str | None]:
    """Turns that are open, and what the state is about."""
    return {state.status.turn_id, *dict(state.turns)}


def _close(state: State, turn_ids: Sequence[str]) -> State:
    turns = tuple(turn for turn in state.turns if turn[0] not in turn_ids)
    return state._replace(turns=turns, closed=state.closed.union(turn_ids))


def _settled(state: State, otherwise: Status = IDLE) -> State:
    if state.turns:
        otherwise = Status("running", state.turns[-1][0], True)
    return state._replace(status=otherwise)
