"""What was stored last, kept in memory: the next checkpoint is compared to it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from sessionactor.adapters._langgraph_rows import Base

MAX_BYTES: Final = 64 << 20
"""Of all of them together; bytes that several share count for each."""
_OVERHEAD_BYTES: Final = 1024


class Bases:
    """One for each namespace of each thread, as long as there is room: a cache."""

    def __init__(self) -> None:
        self._threads: OrderedDict[str, dict[str, tuple[Base, int]]] = OrderedDict()
        self._bytes = 0

    def get(self, thread_id: str, namespace: str) -> Base | None:
        """The one that was put last, if it is still here."""
        kept = self._threads.get(thread_id)
        if kept is None or namespace not in kept:
            return None
        self._threads.move_to_end(thread_id)
        return kept[namespace][0]

    def put(self, thread_id: str, namespace: str, base: Base) -> None:
        """Keep it; those of the threads that were used longest ago may go."""
        size = base.size() + _OVERHEAD_BYTES
        kept = self._threads.setdefault(thread_id, {})
        self._threads.move_to_end(thread_id)
        self._bytes += size - kept.get(namespace, (None, 0))[1]
        kept[namespace] = (base, size)
        while self._bytes > MAX_BYTES:
            self.forget(next(iter(self._threads)))

    def forget(self, thread_id: str) -> None:
        """Keep none of that thread's."""
        for _, size in self._threads.pop(thread_id, {}).values():
            self._bytes -= size
