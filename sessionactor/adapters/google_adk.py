"""Sessions of Google's Agent Development Kit, kept here.

    runner = Runner(agent=agent, app_name="app", session_service=ActorSessionService("sessions"))

An ADK session is the session `<app>/<user>/<id>`: an event is a row, its author the agent, its id
the row's key; state is metadata. `app:` and `user:` state are the sessions `<app>` and
`<app>/<user>`.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.platform import time as platform_time
from google.adk.platform import uuid as platform_uuid
from google.adk.sessions import BaseSessionService
from google.adk.sessions import Session as AdkSession
from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse

import sessionactor
from sessionactor import SessionExistsError, SessionRegistry, StaleHeadError
from sessionactor.adapters import _google_adk_events as events
from sessionactor.adapters import _google_adk_forking as forking
from sessionactor.adapters import _google_adk_importing as importing
from sessionactor.adapters import _google_adk_listing as listing
from sessionactor.adapters import _google_adk_scopes as scopes
from sessionactor.adapters import _google_adk_state as adk
from sessionactor.adapters._google_adk_events import StoredSession
from sessionactor.adapters._google_adk_scopes import Scopes
from sessionactor.adapters._google_adk_state import About, Delta
from sessionactor.adapters._holding import Held, Where


class ActorSessionService(Held, BaseSessionService):
    """An ADK session service on sessions of this package.

    A write by a session object that does not know the newest events is refused with
    `StaleSessionError`, decided inside the commit. An event that is given again, as it was, is
    stored once.

    Args:
        where: An open registry, which stays its caller's, or a directory.
        uri: Instead of `where`, as in `services.yaml`: `sessionactor:///relative/directory` or
            `sessionactor:////absolute/directory`.
        agents_dir: What ADK says beside the URI; not used.
    """

    def __init__(
        self,
        where: Where | None = None,
        *,
        uri: str | None = None,
        agents_dir: str | None = None,
    ) -> None:
        if uri is not None:
            if where is not None:
                raise ValueError("where and uri both say where the sessions are: give one")
            where = _directory(uri)
        if where is None:
            raise ValueError("where are the sessions? Give a directory, a registry or a uri")
        super().__init__(where)
        self._settled: WeakSet[SessionRegistry] = WeakSet()

    async def aclose(self) -> None:
        """Close what this adapter opened; a registry that was given to it stays open."""
        self._settled.clear()
        await super().aclose()

    async def close(self) -> None:
        """As `aclose`: what ADK calls it."""
        await self.aclose()

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> AdkSession:
        """Create a session; without an id one with a fresh id.

        Raises:
            AlreadyExistsError: there is one of that id.
            SessionOwnedError: another process writes a state that `state` changes.
        """
        adk_id = (session_id or "").strip() or platform_uuid.new_uuid()
        names = (app_name, user_id, adk_id)
        about = About(names, platform_time.get_time())
        delta = Delta.of(state)
        registry, shared = await self._opened()

        async def create() -> None:
            async with registry.create(adk.session_id_of(*names)) as batch:
                adk.describe(batch, about)
                batch.save_metadata(adk.beginning(delta) | shared.note(delta))

        try:
            await shared.write(names, delta, create)
        except SessionExistsError:
            raise AlreadyExistsError(f"Session with id {adk_id} already exists.") from None
        await shared.add(delta.session, app_name, user_id)
        return StoredSession.made(about, delta.session, head=0)

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> AdkSession | None:
        """A session with its events, or the newest of them; `None` where there is none."""
        names = (app_name, user_id, session_id.strip())
        registry, shared = await self._opened()
        if not await shared.is_there(*names):
            return None
        session = registry.session(adk.session_id_of(*names))
        try:
            found = await events.content(session, config or GetSessionConfig())
        except sessionactor.SessionNotFoundError:
            return None
        if found.about.names != names:
            return None
        if scopes.is_unsettled(found.metadata):
            await shared.settle_now(session.session_id)
        state = adk.as_state(found.metadata)
        await shared.add(state, app_name, user_id)
        made = StoredSession.made(found.about, state, found.head)
        made.events = await events.events(found.rows)
        return made

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """All sessions of an app, or of one of its users, with state and without events."""
        registry, _ = await self._opened()
        found = await registry.metadata(
            agent_alias=adk.escaped(app_name),
            sender_id=None if user_id is None else adk.escaped(user_id),
        )
        if user_id is not None:
            found |= await registry.metadata([adk.session_id_of(app_name)])
        listed = await listing.listed(app_name, found)
        return ListSessionsResponse.model_construct(sessions=listed)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session, if there is one; the state of its app and user stays."""
        names = (app_name, user_id, session_id.strip())
        registry, shared = await self._opened()
        if await shared.is_there(*names):
            await registry.delete(adk.session_id_of(*names))

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """The `user:` state of a user, its keys without the prefix."""
        _, shared = await self._opened()
        return await shared.state(app_name, user_id)

    async def append_event(self, session: AdkSession, event: Event) -> Event:
        """Store an event and the state that it changes, in one commit.

        `app:` and `user:` state have changed as well when this returns, once, in the order of the
        session's events. Should the process die in between, that is done before a service that is
        opened later answers anything.

        Raises:
            StaleSessionError: the session has other events than this object knows of.
            SessionNotFoundError: it was deleted.
            IdempotencyError: it has another event of that id.
            SessionOwnedError: another process writes it, or a state that the event changes.
        """
        if event.partial:
            return event
        names = (session.app_name, session.user_id, session.id)
        delta = Delta.of(event.actions.state_delta)
        message = events.message(event)
        key = adk.escaped(event.id)
        about = About(names, event.timestamp, key)
        registry, shared = await self._opened()
        stored = registry.session(adk.session_id_of(*names))

        async def append() -> tuple[int, int]:
            known = await events.known_head(session, stored)
            async with stored.batch(expected_head=known) as batch:
                batch.append(adk.escaped(event.author), message, key=key)
                batch.save_metadata(
                    {
                        adk.ABOUT: about.text(),
                        **adk.as_metadata(delta.session),
                        **shared.note(delta),
                    }
                )
            return known, batch.results[0]

        try:
            known, head = await shared.write(names, delta, append)
        except StaleHeadError:
            raise events.stale() from None
        except sessionactor.SessionNotFoundError:
            raise SessionNotFoundError(f"Session {session.id} not found.") from None
        if head > known:  # else it was stored before, and the object has it
            await super().append_event(session=session, event=event)
            events.saw(session, event, head)
        return event

    # what ADK has no name for

    async def conversation(
        self, *, app_name: str, user_id: str, session_id: str
    ) -> sessionactor.Session:
        """The session that an ADK session is: to follow, to back up, to look into."""
        registry, _ = await self._opened()
        return registry.session(adk.session_id_of(app_name, user_id, session_id))

    async def fork_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        new_session_id: str | None = None,
        before_invocation_id: str | None = None,
    ) -> AdkSession:
        """Create a session with the history of another one, or its beginning, and its state then.

        Raises:
            SessionNotFoundError: there is no such session.
            AlreadyExistsError: there is one of the new id.
            InvocationNotFoundError: it has no such invocation.
        """
        new_id = (new_session_id or "").strip() or platform_uuid.new_uuid()
        registry, _ = await self._opened()
        names = (app_name, user_id, session_id)
        await forking.fork(registry, names, new_id, before_invocation_id)
        made = await self.get_session(app_name=app_name, user_id=user_id, session_id=new_id)
        assert made is not None
        return made

    async def import_sqlite(self, path: str | os.PathLike[str]) -> int:
        """Take over a file of `SqliteSessionService`, or of `DatabaseSessionService` on SQLite.

        A session comes whole or not at all, and one that is there already is left as it is, so
        that an import that was cut off can be repeated. The file is only read.

        Returns:
            How many sessions came.

        Raises:
            ValueError: it has not the tables that ADK makes now.
        """
        registry, shared = await self._opened()
        return await importing.import_sqlite(registry, shared, path)

    async def _opened(self) -> tuple[SessionRegistry, Scopes]:
        registry = await self._holding.registry()
        shared = Scopes(registry)
        if registry not in self._settled:
            await shared.open()
            self._settled.add(registry)
        return registry, shared


def _directory(uri: str) -> str:
    parts = urlsplit(uri)
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path:
        raise ValueError(
            f"{uri!r} names no directory: write {parts.scheme}:///relative/directory or"
            f" {parts.scheme}:////absolute/directory"
        )
    return path


__all__ = ["ActorSessionService"]
