"""How subscribers learn what was committed: a log for each session that has any.

Publishing appends one link to a log, however many follow it, and asks for a turn; each
subscriber has a place in the log and makes events of what stands there for itself. What all
have passed is gone. `_pace` says who may go on when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias
from weakref import WeakSet, WeakValueDictionary

from sessionactor import _projection as projection
from sessionactor._changes import ChangeName, FinishRestoring, State, Step
from sessionactor._pace import Pace, Waiting
from sessionactor._projection import Change

MAX_BYTES: Final = 64 * 1024 * 1024
"""Of messages that wait for one subscriber."""
_CHECKS: Final = 8
"""How often it is looked, in the time in which a buffer fills, whose is full."""

Kind: TypeAlias = Literal["committed", "missed", "deleted", "closed"]


class Entry:
    """What was published at once."""

    __slots__ = ("_changes", "_steps", "kind", "revision")

    def __init__(self, kind: Kind, revision: int | None, steps: Sequence[Step] = ()) -> None:
        self.kind = kind
        """`missed`: something may have happened that only the session itself can tell."""
        self.revision = revision
        """The session's, after it."""
        self._steps = steps
        self._changes: list[Change] | None = None

    @property
    def changes(self) -> list[Change]:
        """What happened, taken apart once for all."""
        if self._changes is None:
            self._changes, self._steps = projection.changes(projection.dated(self._steps)), ()
        return self._changes


class _Link:
    """A place in a log: an entry and the next place, both `None` at the end."""

    __slots__ = ("count", "entry", "following", "revision", "size")

    def __init__(self, revision: int | None, count: int, size: int) -> None:
        self.revision = revision
        """The session's, before the entry; `None`: not known."""
        self.count = count
        """Events before it."""
        self.size = size
        """Bytes before it."""
        self.entry: Entry | None = None
        self.following: _Link | None = None


class Log:
    """What happens to one session while somebody follows it.

    It lives as long as its cursors. A link is held by the one before it and by the cursors
    at it, so that what all of them have passed is gone.
    """

    __slots__ = (
        *("__weakref__", "_buffer", "_check_count", "_check_size"),
        *("closed", "cursors", "deleted", "end", "held", "pace", "waiting"),
    )

    def __init__(self, revision: int | None, buffer: int, pace: Pace, held: set[Log]) -> None:
        self._buffer = buffer
        self.pace = pace
        self.held = held
        """Logs that somebody waits at: those who wait are not to be forgotten."""
        self.deleted = self.closed = False
        self.end = _Link(revision, 0, 0)
        self.cursors: WeakSet[Cursor] = WeakSet()
        self.waiting: Waiting = {}
        self._check_count = self._check_size = 0
        self._plan_check()

    def tell(self, entry: Entry, count: int = 1, size: int = 0) -> None:
        """Publish an entry of so many events and bytes."""
        newest = self.end
        newest.entry = entry
        self.end = _Link(entry.revision, newest.count + count, newest.size + size)
        newest.following = self.end
        if self.end.count >= self._check_count or self.end.size >= self._check_size:
            self._cut_off(newest)
            self._plan_check()
        if self.waiting:
            self.pace.let_go_on(self.waiting, size)
            self.waiting = {}
            self.held.discard(self)

    def _plan_check(self) -> None:
        self._check_count = self.end.count + max(1, self._buffer // _CHECKS)
        self._check_size = self.end.size + MAX_BYTES // _CHECKS

    def _cut_off(self, newest: _Link) -> None:
        """Let those lag who had not even taken what was before the newest entry."""
        slow = [cursor for cursor in self.cursors if cursor.is_behind(newest, self._buffer)]
        if not slow:
            return
        first = min((cursor.place for cursor in slow if cursor.place), key=lambda link: link.count)
        # Entries apart from their links, which would keep all that follows.
        kept: list[Entry] = []
        at: dict[_Link, int] = {}
        link: _Link | None = first
        while link is not None and link.entry is not None:
            at[link] = len(kept)
            kept.append(link.entry)
            link = link.following
        for cursor in slow:
            if cursor.place is not None:
                cursor.cut_off(kept, at[cursor.place])


class Cursor:
    """A subscriber's place in a log."""

    __slots__ = (
        *("__weakref__", "_arrival", "_kept", "_kept_from", "_log", "_next_kept", "place"),
    )

    def __init__(self, log: Log) -> None:
        self._log = log
        self.place: _Link | None = log.end
        """What comes next; `None`: it lagged."""
        self._kept: Sequence[Entry] = ()
        self._next_kept = 0
        self._kept_from: int | None = None
        self._arrival: asyncio.Future[None] | None = None
        log.cursors.add(self)

    @property
    def revision(self) -> int | None:
        """The session's revision before what comes next; `None`: not known."""
        return self._kept_from if self.place is None else self.place.revision

    @property
    def lagged(self) -> bool:
        """Whether entries are missing after those that it still has."""
        return self.place is None

    @property
    def deleted(self) -> bool:
        """Whether the session is gone."""
        return self._log.deleted

    @property
    def closed(self) -> bool:
        """Whether the registry that it is of was closed: the same one, opened again, is another."""
        return self._log.closed

    def take(self) -> Entry | None:
        """The next entry, if it is there already."""
        if self.place is None:
            if self._next_kept == len(self._kept):
                return None
            self._next_kept += 1
            return self._kept[self._next_kept - 1]
        entry = self.place.entry
        if self.place.following is not None:
            self.place = self.place.following
        return entry

    def skip_all(self) -> None:
        """Go to the end of the log, with whatever was missed."""
        self.place = self._log.end
        self._kept, self._next_kept = (), 0

    async def more(self) -> None:
        """Wait until there is an entry to take, or perhaps one; or until this is closed."""
        if self._arrival is not None:  # several tasks wait here
            await asyncio.wait([self._arrival])
            return
        log, place = self._log, self.place
        if place is None or place.entry is not None:
            return
        self._arrival = arrival = log.pace.loop.create_future()
        waiting = log.waiting
        waiting[arrival] = None
        log.held.add(log)
        try:
            await arrival
        finally:
            self._arrival = None
            waiting.pop(arrival, None)
            if not log.waiting:
                log.held.discard(log)

    async def turn(self, weight: int) -> None:
        """Let others go on, before so many bytes are decoded."""
        await self._log.pace.turn(weight)

    def is_behind(self, newest: _Link, buffer: int) -> bool:
        """Whether more than a buffer is between here and there."""
        here = self.place
        return here is not None and (
            newest.count - here.count > buffer or newest.size - here.size > MAX_BYTES
        )

    def cut_off(self, kept: Sequence[Entry], start: int) -> None:
        """Have what there is so far, and then nothing."""
        self._kept_from = self.revision
        self._kept, self._next_kept, self.place = kept, start, None

    def close(self) -> None:
        """Follow no longer, and let nobody wait here."""
        self._log.cursors.discard(self)
        self._kept, self._next_kept = (), 0
        self.place = _Link(None, 0, 0)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


class Hub:
    """The logs of a registry, by session."""

    def __init__(self, pace: Pace, buffer: int, *, fed: bool = True) -> None:
        self._pace = pace
        self._buffer = buffer
        self._fed = fed
        """Whether all that happens to a session is published, rather than that it may have."""
        self._logs: WeakValueDictionary[str, Log] = WeakValueDictionary()
        self._held: set[Log] = set()

    def follow(self, session_id: str, revision: int | None) -> Cursor:
        """A place at the end of a session's log; its revision now, if that is known."""
        log = self._logs.get(session_id)
        if log is None:
            if not self._fed:
                revision = None
            log = self._logs[session_id] = Log(revision, self._buffer, self._pace, self._held)
        return Cursor(log)

    def followed(self) -> list[str]:
        """The sessions that somebody follows."""
        return list(self._logs)

    def committed(self, session_id: str, steps: Sequence[Step], state: State) -> None:
        """Tell of steps, apart from another name: that is told once the file has moved."""
        log = self._logs.get(session_id)
        if log is None or not steps:
            return
        if state.status.state == "importing":
            return  # it comes whole, or not at all
        kinds = {type(step) for step in steps}
        if FinishRestoring in kinds:
            self.missed(session_id, state.revision)
            return
        if ChangeName in kinds:
            steps = [step for step in steps if type(step) is not ChangeName]
        log.tell(Entry("committed", state.revision, steps), *projection.weigh(steps))

    def renamed(self, session_id: str, steps: Sequence[Step], state: State) -> None:
        """Tell of a renaming that is complete."""
        log = self._logs.get(session_id)
        if log is not None:
            log.tell(Entry("committed", state.revision, steps))

    def opened(self, session_id: str, revision: int, *, created: bool) -> None:
        """Take note of a session's revision when its file was opened."""
        log = self._logs.get(session_id)
        if log is None or not self._fed:
            return
        known = log.end.revision
        if known is not None and (created or revision < known):
            self.deleted(session_id)  # by other hands: this is another one
        elif known is None:
            log.end.revision = revision
        elif revision > known:
            self.missed(session_id, revision)  # by another owner, or when the file was opened

    def missed(self, session_id: str, revision: int | None = None) -> None:
        """Tell that something may have happened that was not published."""
        log = self._logs.get(session_id)
        if log is not None:
            log.tell(Entry("missed", revision))

    def deleted(self, session_id: str) -> None:
        """Tell that the session is gone. Another one of that id has another log."""
        self._end(session_id, "deleted")

    def absent(self, session_id: str) -> None:
        """Tell, if there was such a session, that it is gone."""
        log = self._logs.get(session_id)
        if log is not None and log.end.revision is not None:
            self.deleted(session_id)

    def close(self) -> None:
        """End all logs."""
        for session_id in self.followed():
            self._end(session_id, "closed")

    def _end(self, session_id: str, kind: Kind) -> None:
        log = self._logs.pop(session_id, None)
        if log is not None:
            log.deleted, log.closed = kind == "deleted", kind == "closed"
            log.tell(Entry(kind, log.end.revision))


__all__ = ["Cursor", "Entry", "Hub", "Log"]
