"""What is kept in memory: what was stored last, and what was listed last."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from typing import Any, Final, NamedTuple

from sessionactor import Page, SessionInfo
from sessionactor.adapters._langgraph_rows import Base

MAX_BYTES: Final = 64 << 20
"""Of all of them together; bytes that several share count for each."""
MAX_LISTED_BYTES: Final = 32 << 20
_OVERHEAD_BYTES: Final = 1024


class Bases:
    """What the next checkpoint is compared to: one for each namespace of each thread, a cache."""

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


class _Kept(NamedTuple):
    created_at: datetime
    revision: int
    page: Page
    size: int


class Latest:
    """Latest chapters as they were read for a listing: the next one need not read them again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def get(self, info: SessionInfo) -> Page | None:
        """The chapter, if nothing happened to its session since."""
        kept = self._kept.get(info.session_id)
        if kept is None or (kept.created_at, kept.revision) != (info.created_at, info.revision):
            return None
        self._kept.move_to_end(info.session_id)
        return kept.page

    def put(self, info: SessionInfo, page: Page) -> None:
        """Remember what was read after the catalog told this of the session."""
        size = sum(_OVERHEAD_BYTES + _bytes_in(row.message) for row in page.rows)
        if (old := self._kept.pop(info.session_id, None)) is not None:
            self._bytes -= old.size
        self._kept[info.session_id] = _Kept(info.created_at, info.revision, page, size)
        self._bytes += size
        while self._bytes > MAX_LISTED_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.size


def _bytes_in(value: Any) -> int:
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_bytes_in, value.values()))
    return sum(map(_bytes_in, value)) if isinstance(value, list) else 0
