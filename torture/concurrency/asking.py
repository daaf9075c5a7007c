"""Asks a real session what a call says, and makes of the answer what the model would say."""

from __future__ import annotations

from typing import Any

from sessionactor import (
    Batch,
    IdempotencyError,
    Session,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
    SessionRegistry,
    StaleHeadError,
    StaleRevisionError,
    TurnClosedError,
    TurnOpenError,
)
from torture.concurrency.calls import (
    Append,
    Begin,
    Call,
    Change,
    Clear,
    Delete,
    Discard,
    End,
    Finish,
    Fork,
    Read,
    Refused,
    Remove,
    RemoveLast,
    Rename,
    Save,
    SetState,
    Start,
    Stop,
    Truncate,
    Update,
    Write,
)
from torture.concurrency.subscribers import stored


class UnsaidError(SessionError):
    """An error of which only the words are known."""


async def ask(registry: SessionRegistry, session_id: str, call: Call) -> Any:
    """The answer, or `Refused`.

    Raises:
        SessionError: it cannot be said whether it happened.
    """
    try:
        return await _asked(registry, session_id, call)
    except SessionError as error:
        refused = _refused(error)
        if refused is None:
            raise
        return refused


def _refused(error: SessionError) -> Refused | None:
    match error:
        case StaleHeadError() | StaleRevisionError():
            return Refused(type(error).__name__, error.actual)
        case IdempotencyError():
            return Refused("IdempotencyError", error.db_id)
        case TurnOpenError() | TurnClosedError():
            return Refused(type(error).__name__, error.turn_id)
        case SessionNotFoundError() | SessionExistsError():
            return Refused(type(error).__name__)
    return None


def message(change: Append | Update) -> dict[str, str]:
    checkpoint = isinstance(change, Append) and change.checkpoint
    return {"role": "summary" if checkpoint else "user", "content": change.text}


async def _asked(registry: SessionRegistry, session_id: str, call: Call) -> Any:
    match call:
        case Start(name):
            await registry.start(session_id, name=name)
            return None
        case Stop():
            await registry.stop(session_id)
            return None
        case Delete():
            return await registry.delete(session_id)
    return await _asked_of(registry.session(session_id), call)


async def _asked_of(session: Session, call: Call) -> Any:
    match call:
        case Read():
            return await _read(session, call)
        case Write():
            return await _write(session, call)
        case Rename(name):
            await session.rename(name)
        case Fork(into, name, before):
            await session.fork(into, name=name, before=before)
        case Begin(turn_id, agent_id):
            await session.turn(turn_id, agent_id=agent_id).__aenter__()
        case End(turn_id, failed):
            await _end(session, turn_id, failed)
    return None


async def _end(session: Session, turn_id: str, failed: bool) -> None:
    turn = session.turn(turn_id, agent_id="whoever")
    if not failed:
        await turn.__aexit__(None, None, None)
        return
    error = ValueError()
    await turn.__aexit__(ValueError, error, None)
    for note in getattr(error, "__notes__", ()):
        raise UnsaidError(note, session_id=session.session_id)


async def _read(session: Session, read: Read) -> Any:
    match read.what:
        case "messages":
            return tuple(map(stored, await session.messages()))
        case "latest":
            rows, checkpoint_id = await session.messages_from_latest_checkpoint(agent_id=read.of)
            return tuple(map(stored, rows)), checkpoint_id
        case "info":
            info = await session.info()
            return info.name, info.revision, info.message_count, info.state, info.turn_id
        case "metadata":
            return tuple(sorted((await session.get_metadata()).items()))
        case "revision":
            return await session.revision()
        case "head":
            row = await session.head()
        case "key":
            row = await session.get(key=read.of)
    return None if row is None else stored(row)


async def _write(session: Session, write: Write) -> Any:
    changes = write.changes
    if write.way == "extend":
        puts = [change for change in changes if isinstance(change, Append)]
        return tuple(
            await session.extend(
                puts[0].agent_id,
                map(message, puts),
                keys=[put.key for put in puts],
                turn=puts[0].turn,
                expected_head=write.expected_head,
            )
        )
    (first, *rest) = changes
    if write.way == "call" and isinstance(first, Append):
        return (
            await session.append(
                first.agent_id,
                message(first),
                key=first.key,
                turn=first.turn,
                expected_head=write.expected_head,
            ),
        )
    if write.way == "call":
        return (await _changed(session, first),)
    async with session.batch(write.expected_head, write.expected_revision) as batch:
        for change in (first, *rest):
            if isinstance(change, Append):
                batch.append(change.agent_id, message(change), key=change.key, turn=change.turn)
            else:
                _changed(batch, change)
    return tuple(batch.results)


def _changed(of: Session | Batch, change: Change) -> Any:
    match change:
        case Update(None, _):
            return of.update_last(message(change))
        case Update(int(db_id), _):
            return of.update(db_id, message(change))
        case Truncate(first_id):
            return of.truncate_from(first_id)
        case Remove(db_ids):
            return of.remove(db_ids)
        case RemoveLast(agent_id):
            return of.remove_last(agent_id=agent_id)
        case Clear():
            return of.clear()
        case Save(pairs):
            return of.save_metadata(dict(pairs))
    return _changed_turns(of, change)


def _changed_turns(of: Session | Batch, change: Change) -> Any:
    match change:
        case SetState(state, turn_id):
            return of.set_state(state, turn_id)
        case Discard(turn_id):
            return of.discard_turn(turn_id)
        case Finish(turn_id):
            return of.finish_turn(turn_id)
    raise AssertionError(change)
