"""Reading all that a session holds, as it is at one moment, while it goes on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from sessionactor._errors import SessionBusyError, SessionError
from sessionactor._registry import SessionRegistry
from sessionactor._requests import (
    LostKeys,
    Outline,
    ReadLostKeys,
    ReadOutline,
    ReadWholeRows,
    WholeSlice,
)
from sessionactor.interchange._content import Heading, Item


class RewrittenError(Exception):
    """Rows were changed or removed while they were read: what was read never was together."""


class Source:
    """All that a session holds."""

    def __init__(self, registry: SessionRegistry, outline: Outline) -> None:
        self._registry = registry
        self._outline = outline
        self.heading = _heading(outline)

    @classmethod
    async def open(cls, registry: SessionRegistry, session_id: str) -> Source:
        """A session as it is now.

        Raises:
            SessionBusyError: it is being imported.
        """
        outline: Outline = await registry.ask(session_id, ReadOutline())
        if outline.restored.status.state == "importing":
            raise SessionBusyError(
                f"session {session_id!r} is being imported; finish that, or delete it",
                session_id=session_id,
            )
        return cls(registry, outline)

    async def items(self) -> AsyncGenerator[Sequence[Item], None]:
        """Its items, some at a time. What is added meanwhile is left out.

        Raises:
            RewrittenError: rows were changed or removed meanwhile; open another one.
        """
        outline = self._outline
        yield [*outline.metadata, *outline.turns, *outline.removals]
        high_water = self.heading.restored.high_water
        start: str | None = ""
        while start is not None:
            found: LostKeys = await self._ask(ReadLostKeys(start))
            self._check(found.rewritten_at)
            yield found.keys  # of rows that went before: else this would have raised
            start = found.rest
        rest: ReadWholeRows | None = ReadWholeRows(0, high_water + 1)
        while rest is not None:
            part: WholeSlice = await self._ask(rest)
            self._check(part.rewritten_at)
            yield part.rows
            rest = part.rest

    def _check(self, rewritten_at: int) -> None:
        if rewritten_at != self._outline.rewritten_at:
            raise RewrittenError

    async def _ask(self, request: object) -> Any:
        return await self._registry.ask(self.heading.session_id, request)


async def let_go(registry: SessionRegistry, session_id: str) -> None:
    """Passivate a session that was in use for this alone: others need the place more."""
    with contextlib.suppress(SessionError):
        if registry.whereis(session_id) is not None:
            await registry.stop(session_id)


def _heading(outline: Outline) -> Heading:
    kept = outline.restored
    if kept.status.state == "running":  # nobody will be running what is made of it
        kept = kept._replace(status=kept.status._replace(state="interrupted"))
    return Heading(outline.session_id, outline.name, outline.message_count, kept)


__all__ = ["RewrittenError", "Source", "let_go"]
