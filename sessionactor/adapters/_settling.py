"""Calls that are carried out whole, whoever is cancelled while waiting for them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def settled(call: Coroutine[Any, Any, T]) -> T:
    """Carry a call out to its end, and only then be cancelled.

    Raises:
        CancelledError: the caller was cancelled meanwhile, whatever the call came to.
    """
    task = asyncio.ensure_future(call)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # nobody is told of it now
    raise cancelled
