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
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError:
                    continue  # once more: it is told of below
        if not task.cancelled():
            task.exception()  # nobody is told of it now
        raise
