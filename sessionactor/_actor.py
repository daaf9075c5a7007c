"""The actor: serves one mailbox from one store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from sessionactor._deciding import Decision
from sessionactor._errors import (
    RegistryClosedError,
    SessionCrashedError,
    SessionError,
    StorageError,
)
from sessionactor._mailbox import Envelope, Mailbox
from sessionactor._requests import ReadRows, ReadWholeRows, Write
from sessionactor._store import Store

logger = logging.getLogger("sessionactor")

SLICE_ROWS: Final = 2048
"""Rows of a read served at once: always the first ones, and more when nobody else waits …"""
SHARED_SLICE_ROWS: Final = 64
"""… and when somebody does: a long read leaves most of the time to others."""


class Actor:
    """Serves a group of writes, or one read, at a time, in the order of the mailbox.

    It ends when the mailbox is interrupted, when a command is next in it, or with the
    error of a store that failed. Whatever it took out of the mailbox it has answered then.
    """

    def __init__(
        self,
        session_id: str,
        mailbox: Mailbox,
        store: Store,
        served: Callable[[int, Decision | None], None],
    ) -> None:
        self._session_id = session_id
        self._mailbox = mailbox
        self._store = store
        self._served = served
        self._committed = False  # since the last read: then others will want to again

    async def run(self) -> None:
        """Serve until told to end.

        Raises:
            StorageError: the store failed; it should be opened again.
            SessionCrashedError: it did what a store never does.
        """
        first = True
        while group := await self._mailbox.take(first=first):
            first = False
            try:
                if type(group[0].content) is Write:
                    await self._commit(group)
                else:
                    await self._read(group[0])
            except BaseException as error:
                failure = self._failure(error)
                for envelope in group:
                    envelope.fail(failure)
                if failure is error or is_ending(error):
                    raise
                raise failure from error

    async def _commit(self, group: list[Envelope]) -> None:
        decision = await self._store.commit([envelope.content for envelope in group])
        self._committed = True
        for envelope, answer in zip(group, decision.answers, strict=True):
            reply = envelope.reply
            if reply.done():  # the caller left
                continue
            if isinstance(answer, SessionError):
                reply.set_exception(answer)
            else:
                reply.set_result(answer)
        self._served(len(group), decision)

    async def _read(self, envelope: Envelope) -> None:
        if envelope.reply.done():  # the caller left, and a read has no other effect
            return
        others_wait = bool(self._mailbox) or self._committed
        shared = (
            others_wait
            and isinstance(envelope.content, ReadRows | ReadWholeRows)
            and envelope.content.goes_on
        )
        max_rows = SHARED_SLICE_ROWS if shared else SLICE_ROWS
        self._committed = False
        try:
            answer = await self._store.read(envelope.content, max_rows)
        except StorageError:
            raise
        except SessionError as refusal:
            envelope.fail(refusal)
        else:
            envelope.answer(answer)
        self._served(1, None)

    def _failure(self, error: BaseException) -> SessionError:
        if isinstance(error, StorageError):
            return error
        if is_ending(error):
            return RegistryClosedError(
                f"the registry was cancelled while session {self._session_id!r} served this"
                " request; it may or may not have been carried out",
                session_id=self._session_id,
            )
        logger.exception("the actor of session %r crashed", self._session_id)
        failure = SessionCrashedError(
            f"the actor of session {self._session_id!r} crashed while it served this request:"
            f" {error!r}; the next request starts a new one",
            session_id=self._session_id,
        )
        failure.__cause__ = error
        return failure


def is_ending(error: BaseException) -> bool:
    """Whether an error ends the program or this task, rather than telling of a crash."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | SystemExit)
