"""Where an adapter's registry comes from: it is given, or opened on a directory and shared."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from dataclasses import dataclass, field
from typing import Final, Self
from weakref import WeakSet

from sessionactor import SessionRegistry
from sessionactor.adapters._exiting import before_threads_are_joined
from sessionactor.adapters._settling import settled

Where = SessionRegistry | str | os.PathLike[str]
"""An open registry, which stays its caller's, or a directory."""


@dataclass(eq=False, slots=True)
class _Shared:
    """One registry for all adapters of a loop on one directory: each session has one owner."""

    registry: SessionRegistry
    holders: WeakSet[Holding] = field(default_factory=lambda: WeakSet())
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def join(self, holder: Holding) -> None:
        async with self.lock:
            await self.registry.open()
            self.holders.add(holder)

    async def close_unless_held(self) -> None:
        async with self.lock:
            if not self.holders:
                await self.registry.aclose()


_shared: Final[dict[tuple[asyncio.AbstractEventLoop, str], _Shared]] = {}
_guard: Final = threading.Lock()
_logger: Final = logging.getLogger(__name__)


def _share(path: str) -> _Shared:
    """What the adapters of this loop share on a directory; made by the first of them."""
    place = (asyncio.get_running_loop(), path)
    shared = _shared.get(place)
    if shared is None:
        with _guard:
            for loop, other in list(_shared):
                if loop.is_closed():
                    del _shared[loop, other]
            shared = _shared[place] = _Shared(SessionRegistry(path))
    return shared


class Holding:
    """What an adapter holds: a registry that was given, or its share of one of a directory.

    Frameworks make a store for each request and never close it, so those of one directory
    share a registry in each event loop. It closes with the last of them that is closed; what
    is left open closes with `asyncio.run`, or before the interpreter exits.
    """

    def __init__(self, where: Where) -> None:
        self._given = where if isinstance(where, SessionRegistry) else None
        self._path = "" if isinstance(where, SessionRegistry) else os.path.realpath(where)

    async def registry(self) -> SessionRegistry:
        """The registry, open. Cancelling it leaves nothing open that nobody holds.

        Raises:
            StorageError: the directory cannot be used.
        """
        if self._given is not None:
            return self._given
        shared = _share(self._path)
        if self not in shared.holders:
            await shared.join(self)
        return shared.registry

    async def aclose(self) -> None:
        """Let go of the registry; the last one closes it. One that was given stays open.

        It is carried out whole, also when it is cancelled. A later call opens it again.
        """
        if self._given is not None:
            return
        shared = _shared.get((asyncio.get_running_loop(), self._path))
        if shared is not None and self in shared.holders:
            shared.holders.discard(self)
            await settled(shared.close_unless_held())


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


def _close_what_is_left() -> None:
    for (loop, path), shared in list(_shared.items()):
        if not loop.is_closed() and not loop.is_running():
            try:
                loop.run_until_complete(shared.registry.aclose())
            except Exception:
                _logger.exception("the sessions in %s could not be closed", path)


before_threads_are_joined(_close_what_is_left)
