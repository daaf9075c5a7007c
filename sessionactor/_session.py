"""The handle on one session: it makes requests of calls and rows of answers."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from sessionactor._browsing import Browsing
from sessionactor._changes import StoredInfo
from sessionactor._handle import Asked
from sessionactor._records import SessionInfo
from sessionactor._requests import ReadInfo, ReadRevision
from sessionactor._rows import session_info
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


__all__ = ["Asked", "Session"]
