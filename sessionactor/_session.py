"""The handle on one session: it makes requests of calls and rows of answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from sessionactor._browsing import Browsing
from sessionactor._changes import StoredInfo
from sessionactor._handle import Asked
from sessionactor._records import CompactReport, SessionInfo
from sessionactor._requests import Compact, ReadInfo, ReadRevision
from sessionactor._rows import session_info
from sessionactor._subscription import Subscription
from sessionactor._turns import Turns


class Session(Turns, Browsing):
    """A handle on one session: cheap, holding no file, valid across passivation.

    Every awaited call is one request. Those of one caller are served in order, and a read
    sees every write answered before it was asked. What a write returned for is stored, to
    the level of the registry's `durability`.

    Cancelling a call does not stop a request that was accepted: it is carried out whole,
    and only its answer is lost. Repeating it with the same `key` is safe. A call that waits
    because the mailbox is full is not accepted yet.

    Any call raises `SessionNotFoundError`, `SessionOwnedError`, `StorageError`,
    `SchemaVersionError`, `SessionCrashedError` or `RegistryClosedError` where that applies.
    """

    __slots__ = ("__weakref__",)

    def __init__(self, asked: Asked, session_id: str, max_message_bytes: int) -> None:
        super().__init__(asked, session_id, max_message_bytes)

    def __repr__(self) -> str:
        return f"<Session {self._session_id!r}>"

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._session_id

    @property
    def name(self) -> str:
        """The session's name now, as the registry knows it; no I/O.

        Raises:
            SessionNotFoundError: the registry knows no such session.
        """
        return self._asked.file_of(self._session_id).name

    @property
    def path(self) -> Path | None:
        """The session's file now; `None` in memory. No I/O.

        Raises:
            SessionNotFoundError: the registry knows no such session.
        """
        return self._asked.file_of(self._session_id).path

    async def info(self) -> SessionInfo:
        """What is known of the session: its counts, times, context, state and turn."""
        stored: StoredInfo = await self._ask(ReadInfo())
        return session_info(stored, self.path, active=True)

    async def revision(self) -> int:
        """The session's revision: one up with every committed mutation."""
        return cast(int, await self._ask(ReadRevision()))

    def subscribe(self, *, since: int | None = None, agent_id: str | None = None) -> Subscription:
        """What happens to the session, as it is committed: an async iterator of events.

        From this call on; with `since` a revision first what happened after that, with no gap
        and no repetition where the two meet. What is read from the past is the difference that
        it made: a row that was updated comes as it is now, one that is gone does not come.

        It outlives passivation, renaming, crashes and failures of the disk, and ends with
        `Deleted`. One who is slower than the writers for long is given what waits for it, then
        `Lagged`, and nothing more: subscribe again, `since` its revision. When the registry is
        closed it ends, after all that was committed.

        Args:
            since: Up to which revision all is known already: 0 for nothing, the newest event's
                to go on after it.
            agent_id: Only this agent's rows are told of; removals, and what concerns the session
                as a whole, are all the same.

        Raises:
            InvalidValueError: `since` is negative; when first awaited, ahead of the session.
            RegistryClosedError: the registry is not open.
        """
        return self._asked.subscribe(
            self._session_id,
            self._arguments.since(since),
            self._arguments.optional_text("agent_id", agent_id),
        )

    async def rename(self, name: str | None) -> None:
        """Give the session another name, which moves its file; `None`: a generated one.

        Handles stay valid. A crash in the middle leaves one whole session, under one of the
        two names.

        Raises:
            SessionBusyError: another process reads the file; nothing changed.
            SessionExistsError: something else has that file name; nothing changed.
            InvalidNameError: that cannot be a name.
        """
        await self._asked.rename(self._session_id, name)

    async def fork(
        self,
        session_id: str | None = None,
        *,
        name: str | None = None,
        before: int | None = None,
        whole_turns: bool = False,
    ) -> Session:
        """Create another session that begins with this one's history, as of one moment.

        The rows come with their ids, times, keys and revisions, and so do metadata and context.
        The new session is idle, its turns are closed, and its `parent` is the newest message
        that it took over. Its ids go on at `before`, or where this session's would; the keys of
        rows that did not come are free in it. Its revision is one more than this session's was,
        as if this one had been truncated. References to messages that came along, as `parent`
        of rows, point to the copies.

        This session is not changed, and goes on meanwhile. No crash leaves half a session, and
        cancelled, there is a whole one or none.

        Args:
            session_id: Of the new session; `None`: a fresh random one.
            name: Of the new session; `None`: a generated one.
            before: Only rows with a smaller `db_id` come along.
            whole_turns: Move that bound down until no turn lies on both sides of it.

        Raises:
            SessionExistsError: there is a session of that id already; it is left as it is.
            SessionBusyError: this session is being imported.
            SessionOwnedError: another process or registry owns one of the two.
            InvalidNameError: that cannot be an id or name.
        """
        bound = self._arguments.db_id("before", before)
        fork = await self._asked.fork(self._session_id, session_id, name, bound, bool(whole_turns))
        return cast(Session, fork)

    async def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the session, as of one moment, to a new file; the session goes on.

        Under the file name of a session, in a directory of sessions, it is that session. It is
        one file, complete as soon as it is there: a crash leaves at most a hidden `.part` file
        beside it, which the next backup to that path replaces. Cancelled, there is a whole copy
        or none.

        Raises:
            TargetExistsError: something is there already, and is left as it is, or another
                backup is just being made there.
            StorageError: reading or writing failed; no directory is made.
        """
        await self._asked.back_up(self._session_id, self._arguments.path("path", path))

    async def flush(self) -> None:
        """Have all that was asked of the session before stored and in the catalog.

        What was answered is stored anyway. After this `sessions`, `search`, `running` and
        `children` of other processes see it as well.
        """
        await self.revision()
        await self._asked.flush(self._session_id)

    async def compact(self) -> CompactReport:
        """Give the space of removed and replaced messages back to the file system.

        Nothing of the session changes, and a crash leaves it as it was. Meanwhile it takes as
        much free space as the session has content, beside the file and where SQLite keeps
        temporary files, and the session's other requests wait. While somebody reads the file,
        its log has to stay: then little or nothing is given back, or even more taken, until
        the session's file is closed.

        Raises:
            StorageError: there is not enough space; nothing is lost.
        """
        return CompactReport(*await self._ask(Compact()))


__all__ = ["Asked", "Session"]
