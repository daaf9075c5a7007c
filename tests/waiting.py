"""Waiting on conditions, never on time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE_S = 20


async def eventually(condition: Callable[[], object]) -> None:
    """Return once the condition holds; fail if it does not for a very long time."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)
