"""A store that can be made to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sessionactor._opening import Opening
from sessionactor._store import open_store


class Gate:
    """Stores whose commits wait while the gate is shut."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.reached = asyncio.Event()
        """Set once a commit waits."""

    @contextmanager
    def shut(self) -> Iterator[None]:
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    async def open_store(self, opening: Opening) -> Any:
        store: Any = await open_store(opening)
        commit = store.commit

        async def gated(group: Any) -> Any:
            if not self._open.is_set():
                self.reached.set()
            await self._open.wait()
            return await commit(group)

        store.commit = gated
        return store
