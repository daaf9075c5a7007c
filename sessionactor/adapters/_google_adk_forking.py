"""Forking an ADK session: its events up to an invocation, and the state that they came to."""

from __future__ import annotations

import json
from typing import Any

from google.adk.errors import InvocationNotFoundError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError

import sessionactor
from sessionactor import Session, SessionExistsError, SessionRegistry
from sessionactor.adapters import _google_adk_state as adk
from sessionactor.adapters._google_adk_scopes import UNDUE
from sessionactor.adapters._google_adk_state import About, Delta


async def fork(
    registry: SessionRegistry,
    names: tuple[str, str, str],
    new_id: str,
    before_invocation_id: str | None,
) -> None:
    """Create a session that begins as another one does; no crash leaves half of it in sight."""
    origin = registry.session(adk.session_id_of(*names))
    new_names = (*names[:2], new_id)
    try:
        metadata = await origin.get_metadata()
    except sessionactor.SessionNotFoundError:
        metadata = {}
    about = About.read(metadata)
    if about.names != names:
        raise SessionNotFoundError(f"Session {names[2]} not found.")
    changes: dict[str, str | None] = dict(UNDUE)
    before: int | None = None
    if before_invocation_id is not None:
        before, about, beginning = await _beginning(origin, before_invocation_id, metadata)
        changes |= beginning
    made = await _forked(registry, origin, new_names, before)
    async with made.batch() as batch:
        batch.save_metadata(changes)
        adk.describe(batch, about._replace(names=new_names))


async def _beginning(
    origin: Session, invocation_id: str, metadata: dict[str, str | None]
) -> tuple[int, About, dict[str, str | None]]:
    """The first row of an invocation, and how metadata was before it."""
    about = About.read(metadata)._replace(newest=None)
    state = json.loads(metadata.get(adk.INITIAL) or "{}")
    async for row in origin.stream():
        if row.message.get("invocation_id") == invocation_id:
            break
        state.update(Delta.of(row.message.get("actions", {}).get("state_delta")).session)
        about = about._replace(updated=row.message["timestamp"], newest=row.key)
    else:
        raise InvocationNotFoundError(f"Invocation ID not found: {invocation_id}")
    changes: dict[str, Any] = {key: None for key in metadata if adk.is_state(key)}
    changes |= adk.as_metadata(state)
    return row.db_id, about, changes


async def _forked(
    registry: SessionRegistry, origin: Session, names: tuple[str, str, str], before: int | None
) -> Session:
    new_id = adk.session_id_of(*names)
    try:
        return await origin.fork(new_id, before=before)
    except SessionExistsError:
        there = await registry.session(new_id).get_metadata()
        if About.read(there).names in ((), names):
            raise AlreadyExistsError(f"Session with id {names[2]} already exists.") from None
    # A fork that a killed process left before it was done.
    await registry.delete(new_id)
    return await origin.fork(new_id, before=before)


__all__ = ["fork"]
