"""What every part of a session's handle stands on: whom to ask, and for which session."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, cast

from sessionactor._arguments import Arguments
from sessionactor._records import ChildRow, SessionFile
from sessionactor._requests import Operation, Write
from sessionactor._subscription import Subscription


class Asked(Protocol):
    """Something that can be asked, here or on another machine."""

    async def ask(self, session_id: str, request: object) -> Any:
        """Carry a request to the session and its answer back."""

    async def rename(self, session_id: str, name: str | None) -> None:
        """Give a session another name."""

    async def fork(
        self,
        session_id: str,
        new_id: str | None,
        name: str | None,
        before: int | None,
        whole_turns: bool,
    ) -> Any:
        """Create a session with the history of another one: the handle on it."""

    async def flush(self, session_id: str) -> None:
        """Have all that a session was told in the catalog."""

    async def children(self, parent: str) -> list[ChildRow]:
        """All rows of all sessions whose `parent` is that."""

    async def back_up(self, session_id: str, path: Path) -> None:
        """Write a copy of a session to a new file."""

    def subscribe(self, session_id: str, since: int | None, agent_id: str | None) -> Subscription:
        """Follow a session from now on, or from a revision on; no I/O."""

    def file_of(self, session_id: str) -> SessionFile:
        """Where the session lives; no I/O."""


class Handle:
    """Asks on behalf of one session."""

    __slots__ = ("_arguments", "_asked", "_session_id")

    def __init__(self, asked: Asked, session_id: str, max_message_bytes: int) -> None:
        self._asked = asked
        self._session_id = session_id
        self._arguments = Arguments(session_id, max_message_bytes)

    async def _write(
        self,
        operations: tuple[Operation, ...],
        expected_head: int | None = None,
        expected_revision: int | None = None,
    ) -> tuple[int | None, ...]:
        check = self._arguments.db_id
        request = Write(
            operations,
            check("expected_head", expected_head),
            check("expected_revision", expected_revision),
        )
        return cast("tuple[int | None, ...]", await self._ask(request))

    async def _do(self, operation: Operation) -> int | None:
        (answer,) = await self._write((operation,))
        return answer

    async def _ask(self, request: object) -> Any:
        return await self._asked.ask(self._session_id, request)


__all__ = ["Asked", "Handle"]
