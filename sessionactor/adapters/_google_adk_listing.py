"""Listing ADK sessions: thousands at once, of what the catalog has of their metadata.

The event loop makes them, so what each of them costs counts, also in objects: the more there
are at a time, the more often the garbage collector walks over all that a program has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, Final

from google.adk.sessions import Session as AdkSession

from sessionactor.adapters._google_adk_events import StoredSession
from sessionactor.adapters._google_adk_scopes import merge
from sessionactor.adapters._google_adk_state import About, as_state, read_many, session_id_of

_PAGE: Final = 500
"""So many are made at once; then others have their turn."""


async def listed(app: str, found: Mapping[str, Mapping[str, str | None]]) -> list[AdkSession]:
    """The sessions of an app, without events, of the metadata of all that may be of it.

    In the order of their newest events' times; with the state of the app and of their users, as
    far as that is there.
    """
    app_state, user_states = _shared(app, found)
    made: list[AdkSession] = []
    ids = list(found)
    for start in range(0, len(ids), _PAGE):
        if start:
            await asyncio.sleep(0)
        page = ids[start : start + _PAGE]
        for key, about, state in zip(page, *read_many([found[key] for key in page]), strict=True):
            if len(about) != 5:
                continue  # not a conversation
            updated, _, _, user, session_id = about
            if not _is_of(key, app, user, session_id):
                continue  # not of this adapter, or a fork that is not done
            if app_state or user_states:
                merge(state, app_state, user_states.get(user, {}))
            made.append(StoredSession.listed(app, user, session_id, state, updated))
    made.sort(key=attrgetter("last_update_time", "user_id", "id"))
    return made


def _shared(
    app: str, found: Mapping[str, Mapping[str, str | None]]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The state of an app, and those of its users."""
    app_state: dict[str, Any] = {}
    user_states: dict[str, dict[str, Any]] = {}
    for key in _short(found):
        names = About.read(found[key]).names
        if not 1 <= len(names) <= 2 or key != session_id_of(*names):
            continue
        if len(names) == 1:
            app_state = as_state(found[key])
        else:
            user_states[names[1]] = as_state(found[key])
    return app_state, user_states


def _short(ids: Iterable[str]) -> list[str]:
    """The ids that may be of an app, or of one of its users: those of conversations are longer."""
    return [key for key in ids if key.count("/") < 2]


def _is_of(key: str, app: str, user: str, session_id: str) -> bool:
    return key == f"{app}/{user}/{session_id}" or key == session_id_of(app, user, session_id)


__all__ = ["listed"]
