"""The state of a user or an app, which many conversations share, and keeping it right.

State of a conversation is written with the event that changes it, in one commit. That of a user
or an app is a session of its own, so two files have to change: the conversation takes the event
and notes what is due, in one commit; then the other one takes what is due, under a key that makes
it happen once; then the note goes. Whoever finds a note settles it first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from google.adk.sessions import State

from sessionactor import (
    NoCatalogError,
    SessionError,
    SessionNotFoundError,
    SessionOwnedError,
    SessionRegistry,
)
from sessionactor.adapters._google_adk_state import (
    About,
    Delta,
    Scope,
    as_metadata,
    as_state,
    describe,
    json_text,
    session_id_of,
)

_UNSETTLED: Final = "adk.unsettled"
_DUE: Final = "adk.due"
UNDUE: Final[Mapping[str, None]] = {_UNSETTLED: None, _DUE: None}
"""Metadata that notes nothing."""
_ABSENT_S: Final = 1.0
"""For so long a state that there was not is not looked for; one that is made here is seen."""
_MAX_ABSENT: Final = 10_000

_T = TypeVar("_T")
logger = logging.getLogger("sessionactor")


@dataclass(eq=False, slots=True)
class _Book:
    """Of one registry: who writes, and where something may be due."""

    locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    unsettled: set[str] = field(default_factory=set)
    absent: dict[str, float] = field(default_factory=dict)
    """States that there were not, and when that was so, by the monotonic clock."""
    tasks: set[asyncio.Future[Any]] = field(default_factory=set)

    def lock(self, session_id: str) -> asyncio.Lock:
        """Held while an event and the states that it changes are written."""
        lock = self.locks.get(session_id)
        if lock is None:
            lock = self.locks[session_id] = asyncio.Lock()
        return lock

    def done(self, task: asyncio.Future[Any]) -> None:
        """Let go of a task whose caller may have left."""
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()


_books: WeakKeyDictionary[SessionRegistry, _Book] = WeakKeyDictionary()


class Scopes:
    """The states that sessions of one registry share."""

    def __init__(self, registry: SessionRegistry) -> None:
        self._registry = registry
        self._book = _books.setdefault(registry, _Book())

    async def open(self) -> None:
        """Settle what processes left that were killed."""
        async with self._book.lock(""):
            try:
                page = await self._registry.sessions(metadata={_UNSETTLED: "1"}, limit=10_000)
            except NoCatalogError:
                return  # then it is found when the session is read
            for info in page.sessions:
                try:
                    await self.settle_now(info.session_id)
                except SessionError:
                    self._book.unsettled.add(info.session_id)
                    logger.exception("state of %r is not settled yet", info.session_id)

    async def write(
        self, names: tuple[str, str, str], delta: Delta, commit: Callable[[], Awaitable[_T]]
    ) -> _T:
        """Commit to a conversation, and have other states changed, all of it or nothing.

        Cancelled, it is carried out to its end where other states change, or was not begun.

        Raises:
            SessionOwnedError: another process has a state that would change; nothing did.
        """
        written = self._write(session_id_of(*names), names, delta, commit)
        if not delta.due:
            return await written
        task = asyncio.ensure_future(written)
        self._book.tasks.add(task)
        task.add_done_callback(self._book.done)
        return await asyncio.shield(task)

    async def _write(
        self,
        session_id: str,
        names: tuple[str, str, str],
        delta: Delta,
        commit: Callable[[], Awaitable[_T]],
    ) -> _T:
        async with self._book.lock(session_id):
            if session_id in self._book.unsettled:
                await self.settle(session_id)
            for scope in delta.due:  # owned by us from now on
                await self._registry.start(session_id_of(*_names(scope, *names[:2])))
            if not delta.due:
                return await commit()
            self._book.unsettled.add(session_id)
            committed = await commit()
            await self.settle(session_id)
            return committed

    def note(self, delta: Delta) -> dict[str, str]:
        """What to write with the event: what is due."""
        if not delta.due:
            return {}
        token = secrets.token_hex(8)
        return {_UNSETTLED: "1", _DUE: json_text({"token": token, "due": delta.due})}

    async def settle_now(self, session_id: str) -> None:
        """Settle what a process left that was killed, if nobody is about to."""
        async with self._book.lock(session_id):
            with contextlib.suppress(SessionOwnedError):  # then it is done later
                await self.settle(session_id)

    async def settle(self, session_id: str) -> None:
        """Do what is due by a session's note, once, however often it is begun."""
        session = self._registry.session(session_id)
        try:
            metadata = await session.get_metadata()
        except SessionNotFoundError:  # it was deleted, with all that was due
            metadata = {}
        if is_unsettled(metadata):
            app, user, _ = About.read(metadata).names
            note = json.loads(metadata[_DUE] or "")
            for scope, delta in note["due"].items():
                await self._take(_names(scope, app, user), delta, note["token"], session_id)
            await session.save_metadata(UNDUE)
        self._book.unsettled.discard(session_id)

    async def _take(
        self, names: tuple[str, ...], delta: dict[str, Any], token: str, origin: str
    ) -> None:
        state = await self._registry.start(session_id_of(*names))
        self._book.absent.pop(state.session_id, None)
        async with state.batch() as batch:
            batch.append("state", {"state_delta": delta}, key=token, parent=origin)
            batch.save_metadata(as_metadata(delta))
            describe(batch, About(names, time.time()))

    async def add_missing(self, names: tuple[str, ...], state: Mapping[str, Any]) -> None:
        """Add what the state of an app or a user lacks of this."""
        there = await self.state(*names)
        delta = {key: value for key, value in state.items() if key not in there}
        if delta:
            await self._take(names, delta, secrets.token_hex(8), "import")

    async def is_there(self, *names: str) -> bool:
        """Whether there is such a session; a miss must not cost a scan of the directory."""
        session_id = session_id_of(*names)
        if self._registry.whereis(session_id) is not None:
            return True
        return session_id in await self._looked_up([session_id])

    async def state(self, *names: str) -> dict[str, Any]:
        """The state of an app, or of a user of it."""
        (state,) = await self._states(names)
        return state

    async def add(self, state: dict[str, Any], app: str, user: str) -> None:
        """Add the state of an app and a user to a conversation's."""
        merge(state, *await self._states((app,), (app, user)))

    async def _states(self, *wanted: tuple[str, ...]) -> list[dict[str, Any]]:
        ids = [session_id_of(*names) for names in wanted]
        found = {}
        unknown = []
        looking_s = time.monotonic()
        for session_id in ids:
            running = self._registry.whereis(session_id)
            if running is not None:
                found[session_id] = await running.get_metadata()
            elif self._book.absent.get(session_id, -math.inf) < looking_s - _ABSENT_S:
                unknown.append(session_id)
        if unknown:
            found |= await self._looked_up(unknown)
            if len(self._book.absent) > _MAX_ABSENT:
                self._book.absent.clear()
            self._book.absent |= {one: looking_s for one in unknown if one not in found}
        return [
            as_state(found[session_id])
            if About.read(found.get(session_id, {})).names == names
            else {}
            for session_id, names in zip(ids, wanted, strict=True)
        ]

    async def _looked_up(self, ids: list[str]) -> dict[str, dict[str, str | None]]:
        """The metadata of those that there are; another process may have them."""
        try:
            return await self._registry.metadata(ids)
        except NoCatalogError:
            return {
                session_id: await self._registry.session(session_id).get_metadata()
                for session_id in ids
                if await self._registry.exists(session_id)
            }


def merge(state: dict[str, Any], app: Mapping[str, Any], user: Mapping[str, Any]) -> None:
    """Add the state of an app and a user to a conversation's."""
    state.update((State.APP_PREFIX + key, value) for key, value in app.items())
    state.update((State.USER_PREFIX + key, value) for key, value in user.items())


def is_unsettled(metadata: Mapping[str, str | None]) -> bool:
    """Whether a session's metadata has a note of what is due."""
    return metadata.get(_UNSETTLED) == "1"


def _names(scope: Scope, app: str, user: str) -> tuple[str, ...]:
    return (app,) if scope == "app" else (app, user)


__all__ = ["UNDUE", "Scopes", "is_unsettled", "merge"]
