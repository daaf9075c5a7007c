"""What operations other than appends do to a session."""

from __future__ import annotations

from sessionactor._changes import ChangeContext, ChangeName, MergeMetadata, Status
from sessionactor._draft import Draft
from sessionactor._errors import SessionBusyError, StaleHeadError, TurnClosedError, TurnOpenError
from sessionactor._requests import (
    Begin,
    Clear,
    Discard,
    End,
    Operation,
    Remove,
    RemoveLast,
    Restore,
    SaveMetadata,
    SetContext,
    SetName,
    SetState,
    Truncate,
    Update,
)


def carry_out(one: Operation, draft: Draft, session_id: str) -> int | None:
    """Take an operation into the steps; what it came to.

    Raises:
        TurnOpenError: another turn is open.
        TurnClosedError: the turn to be opened was closed before.
        SessionBusyError: the session is being imported, or is not to be imported into.
        StaleHeadError: the part to be imported is not the next one.
    """
    if draft.status.state == "importing" and not isinstance(one, Restore | SetName):
        raise _importing(session_id)
    match one:
        case Begin(turn_id, agent_id):
            _begin(draft, turn_id, agent_id, session_id)
        case End(turn_id, failed):
            _end(draft, turn_id, failed=failed)
        case Discard(turn_id):
            return _discard(draft, turn_id)
        case Restore():
            _restore(draft, one, session_id)
        case SaveMetadata() | SetContext() | SetName() | SetState():
            _set(draft, one)
        case Update() | Truncate() | Remove() | RemoveLast() | Clear():
            return _rewrite(draft, one)
    return None


def _rewrite(draft: Draft, one: Update | Truncate | Remove | RemoveLast | Clear) -> int:
    match one:
        case Update(db_id, data, agent_id):
            return draft.update(draft.newest(agent_id) if db_id is None else db_id, data)
        case Truncate(from_id, whole_turns):
            first_id = draft.whole(from_id) if whole_turns else from_id
            return draft.remove_from(first_id, first_id)
        case Remove(db_ids):
            return draft.remove(db_ids)
        case RemoveLast(agent_id):
            return draft.remove([draft.newest(agent_id)])
        case Clear():
            return draft.remove_from(0, 0)


def _set(draft: Draft, one: SaveMetadata | SetContext | SetName | SetState) -> None:
    match one:
        case SaveMetadata(items):
            if items:
                draft.step(MergeMetadata(items, draft.revision))
        case SetContext(fields):
            if fields:
                draft.step(ChangeContext(fields, draft.revision))
        case SetName(name):
            draft.step(ChangeName(name, draft.revision))
        case SetState(state, turn_id):
            _set_state(draft, state, turn_id)


def _set_state(draft: Draft, state: str, turn_id: str | None) -> None:
    if state == "running":
        if not (turn_id is not None and draft.is_open(turn_id)):
            draft.set_status(Status("running", turn_id, draft.now))
        return
    for turn in draft.turns:
        draft.close_turn(turn.turn_id)
    if state == "error":
        status = draft.status
        draft.set_status(Status("error", turn_id or status.turn_id, status.turn_started_at))
    else:
        draft.settle()


def _begin(draft: Draft, turn_id: str, agent_id: str, session_id: str) -> None:
    for turn in draft.turns:
        if turn_id == turn.turn_id or agent_id == turn.agent_id:
            was = "was interrupted: finish or discard it" if turn.interrupted else "is open"
            raise TurnOpenError(
                f"turn {turn.turn_id!r} of agent {turn.agent_id!r} in session {session_id!r} {was}",
                turn_id=turn.turn_id,
                session_id=session_id,
            )
    if draft.is_closed(turn_id):
        raise _closed(turn_id, session_id)
    draft.open_turn(turn_id, agent_id)


def _end(draft: Draft, turn_id: str, *, failed: bool) -> None:
    status = draft.status
    is_open = draft.is_open(turn_id)
    if not is_open and (status.turn_id != turn_id or status.state == "running"):
        return  # it ended before
    if is_open or not draft.is_closed(turn_id):
        draft.close_turn(turn_id)
    if failed:
        draft.settle(Status("error", turn_id, status.turn_started_at))
    else:
        draft.settle()


def _discard(draft: Draft, turn_id: str) -> int:
    at_it = draft.is_open(turn_id) or draft.status.turn_id == turn_id
    count = draft.remove(draft.turn_rows(turn_id))
    if (at_it or count) and not draft.is_closed(turn_id):
        draft.close_turn(turn_id)
    if at_it:
        draft.settle()
    return count


def _restore(draft: Draft, part: Restore, session_id: str) -> None:
    importing = draft.status.state == "importing"
    if not importing and (draft.high_water or draft.revision > 1):
        raise SessionBusyError(
            f"session {session_id!r} is not empty: nothing is imported into it",
            session_id=session_id,
        )
    if part.after != draft.high_water:
        raise StaleHeadError(
            f"rows of session {session_id!r} are there up to {draft.high_water}, not up"
            f" to {part.after}",
            expected=part.after,
            actual=draft.high_water,
            session_id=session_id,
        )
    draft.set_status(Status("importing", None, None))
    inserted_at = part.inserted_at
    for row in part.rows:
        draft.removed += row[0] - draft.high_water - 1
        if row[10] is None:
            inserted_at = row[9]
            draft.insert_row(row)
        else:  # its first revision is not known: one that keeps the order will do
            draft.insert_row((*row[:9], inserted_at, None))
            draft.update_row(row)
        draft.revision = max(draft.revision, row[9])
        draft.last_at = max(draft.last_at, row[3], row[10] or 0)
    for key in part.keys:
        draft.keep_key(key)
    if part.final is not None:
        draft.finish_restoring(part.final)


def check_turn(turn_id: str | None, draft: Draft, session_id: str) -> None:
    """Refuse an append that belongs to a closed turn, or to an unfinished import.

    Raises:
        TurnClosedError: the turn is closed.
        SessionBusyError: the session is being imported.
    """
    if draft.status.state == "importing":
        raise _importing(session_id)
    if turn_id is not None and not draft.is_open(turn_id) and draft.is_closed(turn_id):
        raise _closed(turn_id, session_id)


def _closed(turn_id: str, session_id: str) -> TurnClosedError:
    return TurnClosedError(
        f"turn {turn_id!r} of session {session_id!r} is closed: it ended, or rows of it"
        " were removed; begin another",
        turn_id=turn_id,
        session_id=session_id,
    )


def _importing(session_id: str) -> SessionBusyError:
    return SessionBusyError(
        f"session {session_id!r} is being imported; finish that, or delete it",
        session_id=session_id,
    )


__all__ = ["carry_out", "check_turn"]
