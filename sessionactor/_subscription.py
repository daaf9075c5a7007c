"""Following a session: what happened since a revision, and then what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final

from sessionactor import _projection as projection
from sessionactor._errors import InvalidValueError, RegistryClosedError, SessionNotFoundError
from sessionactor._events import Deleted, Event, Lagged
from sessionactor._history import Changes
from sessionactor._hub import Cursor, Entry
from sessionactor._projection import Change
from sessionactor._requests import Read, ReadChanges, ReadRevision

_IN_A_ROW: Final = 16
"""Events given before others have their turn …"""
_IN_A_ROW_BYTES: Final = 64 * 1024
"""… and bytes of messages decoded."""


class Subscription(AsyncIterator[Event]):
    """The events of one session, from `Session.subscribe`.

    It holds no task and no file. Leave it at any time: by `break`, by `aclose`, by `async with`,
    by forgetting it. A cancelled wait loses nothing: the next one goes on, so that
    `asyncio.timeout` around `anext` may be used to look at other things now and then.

    It ends after `Deleted`, after `Lagged`, and when the registry is closed and all that was
    committed before has been given.
    """

    __slots__ = (
        *("__weakref__", "_agent_id", "_ask", "_behind", "_changes", "_cursor", "_exists"),
        *(
            "_in_a_row",
            "_in_a_row_bytes",
            "_joining",
            "_last",
            "_next",
            "_over",
            "_reading",
            "_revision",
        ),
        *("_session_id",),
    )

    def __init__(
        self,
        ask: Callable[[Read], Awaitable[Any]],
        cursor: Cursor,
        session_id: str,
        since: int | None,
        agent_id: str | None,
    ) -> None:
        self._ask = ask
        self._cursor = cursor
        self._session_id = session_id
        self._agent_id = agent_id
        self._revision = since
        """Up to here all is given, or stands in `_changes`; `None`: not known yet."""
        self._behind = since is not None
        """Whether what comes next is to be read from the session."""
        self._joining = False
        """Whether it has just been read."""
        self._reading: asyncio.Future[None] | None = None
        self._exists = False
        """Whether there was such a session when it was first asked."""
        self._changes: Sequence[Change] = ()
        self._next = 0
        self._last: Deleted | Lagged | None = None
        self._over = False
        self._in_a_row = self._in_a_row_bytes = 0

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        """The next event, as soon as there is one.

        Raises:
            SessionNotFoundError: there is no such session.
            InvalidValueError: `since` lies ahead of the session.
            CorruptRowError: a row cannot be decoded; the next call goes on after it.
            RegistryClosedError: the registry was closed before all was given.
        """
        while True:
            if self._next < len(self._changes):
                if self._in_a_row >= _IN_A_ROW or self._in_a_row_bytes >= _IN_A_ROW_BYTES:
                    await self._let_others()
                    continue
                event = self._event()
                if event is not None:
                    return event
            elif self._last is not None:
                last, self._last = self._last, None
                return last
            elif self._over:
                raise StopAsyncIteration
            elif self._behind or self._revision is None or self._joining:
                await self._alone(self._read_on)
            else:
                entry = self._cursor.take()
                if entry is not None:
                    self._take(entry)
                elif self._cursor.lagged:
                    self._end(Lagged(self._revision))
                else:
                    self._in_a_row = self._in_a_row_bytes = 0
                    await self._cursor.more()

    async def aclose(self) -> None:
        """End it; idempotent. Who waits for an event gets to the end."""
        self._changes, self._next, self._last = (), 0, None
        self._end()

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _event(self) -> Event | None:
        change = self._changes[self._next]
        self._next += 1
        if self._next == len(self._changes):
            self._changes, self._next = (), 0
        self._in_a_row += 1
        self._in_a_row_bytes += projection.weight(change)
        return projection.event(change, self._agent_id, self._session_id)

    async def _let_others(self) -> None:
        self._in_a_row = self._in_a_row_bytes = 0
        await self._cursor.turn(projection.weight(self._changes[self._next]))

    def _take(self, entry: Entry) -> None:
        match entry.kind:
            case "committed":
                # What was committed while the session was read may have come with that.
                if entry.revision is not None and entry.revision > (self._revision or 0):
                    self._changes, self._next = entry.changes, 0
                    self._revision = entry.revision
            case "missed":
                self._behind = True
            case "deleted":
                self._end(Deleted(self._revision or 0))
            case "closed":
                self._end()

    def _end(self, last: Deleted | Lagged | None = None) -> None:
        self._last = last
        self._over = True
        self._cursor.close()

    async def _alone(self, do: Callable[[], Awaitable[None]]) -> None:
        """Do something, or wait for another task that does it."""
        if self._reading is not None:
            await asyncio.wait([self._reading])
            return
        self._reading = asyncio.get_running_loop().create_future()
        try:
            await do()
        finally:
            self._reading.set_result(None)
            self._reading = None

    async def _read_on(self) -> None:
        if self._joining:
            self._joining = False
            self._behind |= self._cursor.lagged  # by what was read: then that is not all yet
        elif self._behind:
            await self._catch_up(self._revision or 0)
        else:
            await self._find_out_where()

    async def _find_out_where(self) -> None:
        """Know after which revision this begins, and that there is such a session."""
        revision = self._cursor.revision
        if revision is None:
            answer = await self._read(ReadRevision())
            revision = self._cursor.revision
            revision = answer if revision is None else revision
        self._revision = revision
        self._exists = True

    async def _catch_up(self, since: int) -> None:
        """Read what happened after a revision, or a bounded part of it."""
        self._cursor.skip_all()  # what is committed from here on comes after what is read
        changes: Changes | None = await self._read(ReadChanges(since))
        if changes is None or self._over:
            return
        if changes.upto < since:
            if self._exists:  # that one is gone, by other hands
                self._end(Deleted(since))
                return
            raise InvalidValueError(
                f"session {self._session_id!r} is at revision {changes.upto}, not yet at {since}:"
                " that was a revision of another session; read this one from the start",
                session_id=self._session_id,
            )
        if changes.info.state == "importing":  # it comes whole, or not at all
            await self._cursor.more()
            return
        self._exists = True
        self._changes, self._next = projection.changes(changes.in_order()), 0
        self._revision = changes.upto
        self._behind = changes.more
        self._joining = not changes.more

    async def _read(self, request: Read) -> Any:
        """Ask the session; `None` if it was deleted meanwhile."""
        if self._cursor.closed:
            raise RegistryClosedError(
                f"the registry was closed before all was told of session {self._session_id!r};"
                " subscribe again",
                session_id=self._session_id,
            )
        if not self._cursor.deleted:  # or another of its id would answer
            try:
                return await self._ask(request)
            except SessionNotFoundError:
                if not self._cursor.deleted and not self._exists:
                    raise
        self._end(Deleted(self._revision or 0))
        return None


__all__ = ["Subscription"]
