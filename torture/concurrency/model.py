"""A session by the book: an immutable value, and what each call makes of it.

Written apart from the library and from `tests/model.py`, which is changed in place and cannot
be gone back to: a search for the order in which calls happened goes back all the time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torture.concurrency.calls import (
    Begin,
    Call,
    Delete,
    End,
    Make,
    Read,
    Refused,
    Rename,
    Start,
    Stop,
    Take,
    Write,
)
from torture.concurrency.states import NotNowError, State, Stored
from torture.concurrency.writing import begin, end, write_all


class World(NamedTuple):
    """Sessions, and what forks have taken of them but not made yet."""

    sessions: tuple[State, ...]
    taken: tuple[tuple[int, State], ...] = ()


NOT_FOUND = Refused("SessionNotFoundError")


def step(world: World, at: int, call: Call) -> tuple[World, Any]:
    """What a call to one session makes of all, and its answer."""
    state = world.sessions[at]
    match call:
        case Take(number):
            if not state.exists:
                return world, NOT_FOUND
            return world._replace(taken=(*world.taken, (number, state))), None
        case Make(number, name, before):
            if state.exists:
                return world, Refused("SessionExistsError")
            origin = dict(world.taken).get(number)
            if origin is None:
                return world, Refused("not taken yet")
            taken = tuple(one for one in world.taken if one[0] != number)
            forked = _forked(origin, name, before)._replace(life=state.life + 1)
            return World(_replaced(world.sessions, at, forked), taken), None
    changed, answer = one_step(state, call)
    if changed is state:
        return world, answer
    return world._replace(sessions=_replaced(world.sessions, at, changed)), answer


def unanswered(world: World, at: int, call: Call) -> list[World]:
    """What all may be after a call that was not answered, if it happened."""
    changed, answer = step(world, at, call)
    if isinstance(call, Rename) and changed != world:
        # The name was stored, but the file did not move: when it is opened, the name goes back.
        state = world.sessions[at]
        back = state._replace(revision=state.revision + 2)
        return [changed, world._replace(sessions=_replaced(world.sessions, at, back))]
    return [] if isinstance(answer, Refused) or changed == world else [changed]


def one_step(state: State, call: Call) -> tuple[State, Any]:
    """What a call makes of a session, and its answer; the same state where nothing changes."""
    match call:
        case Start(name):
            if state.exists:
                refused = name not in (None, state.name)
                return state, Refused("SessionExistsError") if refused else None
            return State(True, state.life + 1, name or ""), None
        case Delete():
            return (State(life=state.life) if state.exists else state), state.exists
    if not state.exists:
        return state, NOT_FOUND
    try:
        return _step_of_existing(state, call)
    except NotNowError as error:
        return state, error.refused


def _step_of_existing(state: State, call: Call) -> tuple[State, Any]:
    match call:
        case Read(what, of):
            return state, _read(state, what, of)
        case Write():
            return write_all(state, call)
        case Rename(name):
            if name == state.name:
                return state, None
            return state._replace(name=name, revision=state.revision + 1), None
        case Begin(turn_id, agent_id):
            return begin(state, turn_id, agent_id), None
        case End(turn_id, failed):
            return end(state, turn_id, failed), None
        case Stop():
            return state, None
    raise AssertionError(call)


def _replaced(sessions: tuple[State, ...], at: int, state: State) -> tuple[State, ...]:
    return (*sessions[:at], state, *sessions[at + 1 :])


def _forked(origin: State, name: str, before: int | None) -> State:
    bound = origin.used + 1 if before is None else max(1, min(origin.used + 1, before))
    rows = tuple(row for row in origin.rows if row.db_id < bound)
    known = origin.closed | {turn_id for turn_id, _ in origin.turns}
    closed = known & {row.turn for row in rows if row.turn is not None}
    if bound > origin.used:
        closed |= origin.closed
    return State(
        True,
        name=name,
        rows=rows,
        used=bound - 1,
        revision=origin.revision + 1,
        keys=frozenset(one for one in origin.keys if one[1].db_id < bound),
        metadata=origin.metadata,
        closed=closed,
    )


# what is read


def _read(state: State, what: str, of: str | None) -> Any:
    match what:
        case "messages":
            return state.rows
        case "latest":
            return _latest(state, of)
        case "info":
            about = state.status[:2]
            return (state.name, state.revision, len(state.rows), *about)
        case "metadata":
            return state.metadata
        case "revision":
            return state.revision
        case "head":
            return state.rows[-1] if state.rows else None
    return next((row for row in state.rows if row.key == of), None)


def _latest(state: State, agent_id: str | None) -> tuple[tuple[Stored, ...], int | None]:
    rows = [row for row in state.rows if agent_id in (None, row.agent_id)]
    for index in range(len(rows) - 1, -1, -1):
        if rows[index].checkpoint:
            return tuple(rows[index:]), rows[index].db_id
    return tuple(rows), None
