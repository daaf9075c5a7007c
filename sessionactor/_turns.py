"""The part of a session's handle that knows states and turns.

A turn is what must not be cut in half: a question with its answer, a tool call with its result.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, cast

import anyio

from sessionactor._editing import Editing
from sessionactor._errors import SessionError
from sessionactor._records import Row
from sessionactor._requests import Begin, Discard, End, ReadInterrupted


class Turn:
    """An open turn of an agent, inside `async with`: its messages belong together.

    Entering makes the session `running`. Leaving closes the turn for good: the session is
    `idle` again, or after an exception or a cancellation in `error`, unless another agent's
    turn is open. If a row of the turn is removed meanwhile, that closes it too.

    A cancellation waits until the turn is closed, so that none stays open behind its task.
    """

    __slots__ = ("_session", "agent_id", "turn_id")

    def __init__(self, session: Turns, turn_id: str, agent_id: str) -> None:
        self._session = session
        self.turn_id = turn_id
        self.agent_id = agent_id

    async def __aenter__(self) -> Turn:
        """Open the turn; cancelled, close it again.

        Raises:
            TurnOpenError: a turn of this agent, or one of this id, is open or was interrupted.
            TurnClosedError: a turn of this id was closed before.
        """
        begun = asyncio.ensure_future(self._session._do(Begin(self.turn_id, self.agent_id)))
        try:
            await _to_its_end(begun)
        except asyncio.CancelledError as cancelled:
            if not begun.cancelled() and begun.exception() is None:
                await self.__aexit__(type(cancelled), cancelled, None)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the turn, also when the task is cancelled."""
        try:
            await self._close(failed=exc is not None)
        except SessionError as error:
            if exc is None:
                raise
            exc.add_note(f"turn {self.turn_id!r} could not be closed: {error}")

    async def _close(self, *, failed: bool) -> None:
        end = End(self.turn_id, failed, only_open=True)
        await _to_its_end(asyncio.ensure_future(self._session._do(end)))

    async def append(
        self,
        message: Mapping[Any, Any],
        *,
        key: str | None = None,
        checkpoint: bool | None = None,
        keep_from: int | None = None,
        parent: str | int | None = None,
        expected_head: int | None = None,
    ) -> int:
        """As `Session.append`, in this turn.

        Raises:
            TurnClosedError: it is closed, for a row of it was removed.
        """
        return await self._session.append(
            self.agent_id,
            message,
            key=key,
            checkpoint=checkpoint,
            keep_from=keep_from,
            parent=parent,
            turn=self.turn_id,
            expected_head=expected_head,
        )

    async def extend(
        self,
        messages: Iterable[Mapping[Any, Any]],
        *,
        keys: Iterable[str | None] | None = None,
        parent: str | int | None = None,
        expected_head: int | None = None,
    ) -> list[int]:
        """As `Session.extend`, in this turn.

        Raises:
            TurnClosedError: it is closed, for a row of it was removed.
        """
        return await self._session.extend(
            self.agent_id,
            messages,
            keys=keys,
            parent=parent,
            turn=self.turn_id,
            expected_head=expected_head,
        )


async def _to_its_end(call: asyncio.Future[Any]) -> None:
    """Wait for the end of a call, and only then be cancelled."""
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not call.done():
            try:
                await asyncio.wait([call])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is None:
        call.result()
    else:
        if not call.cancelled():
            call.exception()  # nobody is told of it now
        raise cancelled


class Turns(Editing):
    """States and turns."""

    __slots__ = ()

    def turn(self, turn_id: str | None = None, *, agent_id: str) -> Turn:
        """A turn to be opened with `async with`; one at a time for each agent.

        Args:
            turn_id: Never used before in this session; `None`: a random one.
            agent_id: Whose turn it is.
        """
        if turn_id is None:
            turn_id = secrets.token_hex(8)
        text = self._arguments.text
        return Turn(self, text("turn_id", turn_id), text("agent_id", agent_id))

    async def set_state(
        self, state: Literal["idle", "running", "error"], turn_id: str | None = None
    ) -> None:
        """Set the state by hand; `turn()` does it by itself.

        `"running"` sets the turn's id and the time of its beginning, `"idle"` clears both,
        `"error"` keeps them. `"idle"` and `"error"` close all open turns.

        Raises:
            ValueError: no such state.
        """
        await self._do(self._arguments.state(state, turn_id))

    async def interrupted_turn(self) -> list[Row]:
        """The rows of the turns that were running when their process ended, in order.

        Raises:
            CorruptRowError: one of them cannot be decoded.
        """
        return cast("list[Row]", await self._ask(ReadInterrupted()))

    async def discard_turn(self, turn_id: str) -> int:
        """Close a turn and remove its rows; how many there were. Then the session is idle."""
        return cast(int, await self._do(Discard(self._arguments.text("turn_id", turn_id))))

    async def finish_turn(self, turn_id: str) -> None:
        """Close a turn and keep its rows. Then the session is idle."""
        await self._do(End(self._arguments.text("turn_id", turn_id)))


__all__ = ["Turn", "Turns"]
