"""What operations other than appends do to a session."""

from __future__ import annotations

from itertools import groupby
from typing import Final

from sessionactor._changes import IDLE, ChangeContext, ChangeName, MergeMetadata, Status
from sessionactor._draft import Draft
from sessionactor._errors import SessionBusyError, TurnClosedError, TurnOpenError
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
from sessionactor._rows import decoded

_EMPTY: Final = b"\x80"
"""An empty message."""


def carry_out(one: Operation, draft: Draft, session_id: str) -> int | None:
    """Take an operation into the steps; what it came to.

    Raises:
        TurnOpenError: another turn is open.
        TurnClosedError: the turn to be opened was closed before.
        CorruptRowError: more than the message of the row to be updated is corrupt.
        SessionBusyError: the session is being imported, or cannot take this part.
    """
    if draft.status.state == "importing" and not isinstance(one, Restore | SetName):
        raise _importing(session_id)
    match one:
        case Begin(turn_id, agent_id):
            _begin(draft, turn_id, agent_id, session_id)
        case End():
            _end(draft, one)
        case Discard(turn_id):
            return _discard(draft, turn_id)
        case Restore():
            _restore(draft, one, session_id)
        case SaveMetadata() | SetContext() | SetName() | SetState():
            _set(draft, one)
        case Update() | Truncate() | Remove() | RemoveLast() | Clear():
            return _rewrite(draft, one, session_id)
    return None


def _rewrite(
    draft: Draft, one: Update | Truncate | Remove | RemoveLast | Clear, session_id: str
) -> int:
    match one:
        case Update(db_id, data, agent_id):
            return _update(
                draft, draft.newest(agent_id) if db_id is None else db_id, data, session_id
            )
        case Truncate(from_id, whole_turns):
            first_id = draft.whole(from_id) if whole_turns else from_id
            return draft.remove_from(first_id, max(first_id, 1))
        case Remove(db_ids):
            return draft.remove(db_ids)
        case RemoveLast(agent_id):
            return draft.remove([draft.newest(agent_id)])
        case Clear():
            return draft.remove_from(0, 0)


def _update(draft: Draft, db_id: int, data: bytes, session_id: str) -> bool:
    row = draft.row(db_id)
    if row is None:
        return False
    kept = (*row[:2], _EMPTY, *row[3:9], 0, None)  # all but what is replaced
    decoded([kept], "raise", session_id)
    draft.update(row, data)
    return True


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
        turn = None if turn_id is None else draft.open(turn_id)
        if turn is None or turn.interrupted:
            draft.set_status(Status("running", turn_id, draft.now), anew=True)
        return
    for turn in draft.turns:
        draft.close_turn(turn.turn_id)
    if state == "error":
        _, known_id, started_at = draft.status
        same = turn_id in (None, known_id)
        draft.set_status(Status("error", turn_id or known_id, started_at if same else None))
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
    draft.begin_turn(turn_id, agent_id)


def _end(draft: Draft, one: End) -> None:
    turn, status = draft.open(one.turn_id), draft.status
    if turn is None and (one.only_open or status.turn_id != one.turn_id):
        return  # it ended before
    if not draft.is_closed(one.turn_id):
        draft.close_turn(one.turn_id)
    started_at = turn.opened_at if turn else status.turn_started_at
    draft.settle(Status("error", one.turn_id, started_at) if one.failed else IDLE)


def _discard(draft: Draft, turn_id: str) -> int:
    at_it = draft.open(turn_id) is not None or draft.status.turn_id == turn_id
    count = draft.remove(draft.turn_rows(turn_id))
    if (at_it or count) and not draft.is_closed(turn_id):
        draft.close_turn(turn_id)
    if at_it:
        draft.settle()
    return count


def _restore(draft: Draft, part: Restore, session_id: str) -> None:
    importing, mark = draft.status.state == "importing", draft.status.turn_id
    if not importing and (draft.high_water or draft.revision > 1):
        raise SessionBusyError(
            f"session {session_id!r} is not empty: nothing is imported into it",
            session_id=session_id,
        )
    if part.after != (mark if importing else None):
        raise SessionBusyError(
            f"the import of session {session_id!r} stands at {mark!r}, not at {part.after!r}:"
            " something else was or is being imported into it",
            session_id=session_id,
        )
    draft.revision -= 1  # it becomes what it was in the other session
    draft.set_status(Status("importing", part.mark, None))
    for row, inserted_revision, *_ in part.rows:
        draft.removed += row[0] - draft.high_water - 1
        draft.revision = max(draft.revision, row[9])
        if row[10] is None:
            draft.insert_row(row)
        else:
            draft.restore_row(row, inserted_revision)
    for key in part.keys:
        draft.keep_key(key)
    for revision, pairs in groupby(part.metadata, lambda pair: pair.revision):
        draft.step(MergeMetadata(tuple(pair[:2] for pair in pairs), revision))
    origins = tuple((row.row[0], row.origin) for row in part.rows if row.origin is not None)
    if part.turns or part.removals or origins:
        draft.restore_history(part.turns, part.removals, origins)
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
    if turn_id is not None and draft.open(turn_id) is None and draft.is_closed(turn_id):
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
