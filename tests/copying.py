"""Copies that wait: a way to do something to a session while it is being copied."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from waiting import eventually

from sessionactor import _takeover as takeover


class Held:
    """A copy that has taken over its first rows, and waits there."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()


@asynccontextmanager
async def held(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Held]:
    """Hold the copies that begin inside, in their threads, until the block ends."""
    hold = Held()
    take_slices = takeover.Takeover._take_slices

    def holding(copy: Any) -> None:
        take_slices(copy)
        hold.reached.set()
        while not hold.released.wait(0.001):
            copy._pause()  # gives up when nobody waits for it any more

    with monkeypatch.context() as patch:
        patch.setattr(takeover, "_FEWEST_ROWS", 2)
        patch.setattr(takeover, "_MOST_ROWS", 2)
        patch.setattr(takeover.Takeover, "_take_slices", holding)
        try:
            yield hold
        finally:
            hold.released.set()


async def begun(hold: Held, call: Callable[[], Any]) -> asyncio.Future[Any]:
    """Ask for a copy, and wait until it is held."""
    copy = asyncio.ensure_future(call())
    await eventually(lambda: hold.reached.is_set() or copy.done())
    assert not copy.done(), copy.exception()
    return copy
