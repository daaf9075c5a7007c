"""How the tests of a contract run: each in an event loop and a session of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from sessionactor._records import Row
from sessionactor._session import Session

_C = TypeVar("_C", bound="Scenarios")


class Scenarios:
    """What the suites have in common."""

    def open_session(self) -> AbstractAsyncContextManager[Session]:
        """A new, empty session, or what answers as one, until the block ends."""
        raise NotImplementedError

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Run a test to its end: override it for another event loop."""
        asyncio.run(scenario)


def in_session(scenario: Callable[[_C, Session], Awaitable[None]]) -> Callable[[_C], None]:
    """Make a test of a scenario that is given a new session."""

    async def play(self: _C) -> None:
        async with self.open_session() as session:
            await scenario(self, session)

    return _test(scenario, play)


def in_loop(scenario: Callable[[_C], Awaitable[None]]) -> Callable[[_C], None]:
    """Make a test of a scenario that opens what it needs."""

    async def play(self: _C) -> None:
        await scenario(self)

    return _test(scenario, play)


def says(text: object, *, role: str = "user") -> dict[str, object]:
    """A message."""
    return {"role": role, "content": text}


def said(rows: Iterable[Row]) -> list[Any]:
    """What the messages of rows say."""
    return [row.message["content"] for row in rows]


def ids(rows: Iterable[Row]) -> list[int]:
    """The ids of rows."""
    return [row.db_id for row in rows]


async def raised(call: Awaitable[object]) -> Exception | None:
    """The error of an awaited call; `None` where it returned."""
    try:
        await call
    except Exception as error:
        return error
    return None


def _test(
    scenario: Callable[..., Awaitable[None]], play: Callable[[_C], Coroutine[Any, Any, None]]
) -> Callable[[_C], None]:
    # Not functools.wraps: pytest would take the scenario's parameters for fixtures.
    def test(self: _C) -> None:
        self.run(play(self))

    test.__name__, test.__qualname__ = scenario.__name__, scenario.__qualname__
    test.__module__, test.__doc__ = scenario.__module__, scenario.__doc__
    return test


__all__ = ["Scenarios", "ids", "in_loop", "in_session", "raised", "said", "says"]
