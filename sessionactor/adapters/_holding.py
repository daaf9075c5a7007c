"""Where an adapter's registry comes from: it is given, or opened on a directory and shared."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from weakref import WeakKeyDictionary

from sessionactor import SessionRegistry

Where = SessionRegistry | str | os.PathLike[str]
"""An open registry, which stays its caller's, or a directory."""


@dataclass(eq=False, slots=True)
class _Shared:
    """One registry for all adapters of a loop on one directory: each session has one owner."""

    registry: SessionRegistry
    users: set[int] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, _Shared]] = WeakKeyDictionary()


class Holding:
    """What an adapter holds: a registry that was given, or its share of one of a directory.

    Frameworks make a store for each request and never close it, so those of one directory
    share a registry in each event loop. It closes with the last of them.
    """

    def __init__(self, where: Where) -> None:
        self._given = where if isinstance(where, SessionRegistry) else None
        self._path = None if isinstance(where, SessionRegistry) else Path(os.path.realpath(where))

    async def registry(self) -> SessionRegistry:
        """The registry, open. Cancelling it leaves nothing open that nobody holds."""
        if self._given is not None:
            return self._given
        assert self._path is not None
        here = _shared.setdefault(asyncio.get_running_loop(), {})
        shared = here.get(self._path)
        if shared is None:
            shared = here[self._path] = _Shared(SessionRegistry(self._path))
        if id(self) in shared.users:
            return shared.registry
        async with shared.lock:
            await shared.registry.open()
            shared.users.add(id(self))
        return shared.registry

    async def aclose(self) -> None:
        """Let go of the registry; the last one closes it. One that was given stays open."""
        if self._path is None:
            return
        shared = _shared.get(asyncio.get_running_loop(), {}).get(self._path)
        if shared is None:
            return
        async with shared.lock:
            shared.users.discard(id(self))
            if not shared.users:
                await shared.registry.aclose()


class Held:
    """An adapter that is an async context manager over its `Holding`."""

    def __init__(self, where: Where) -> None:
        self._holding = Holding(where)

    async def aclose(self) -> None:
        """Close what this adapter opened; a registry that was given to it stays open."""
        await self._holding.aclose()

    async def __aenter__(self) -> Self:
        await self._holding.registry()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
