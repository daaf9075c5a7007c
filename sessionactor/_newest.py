"""The newest rows, kept as stored: agent loops read them, or the latest chapter, on every turn."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from sessionactor import _paging as paging
from sessionactor._changes import InsertRows, RemoveRows, Step, StoredRow, UpdateRow
from sessionactor._paging import Bounds, Checkpoint
from sessionactor._rows import Prepared, prepared

MAX_BYTES: Final = 256 * 1024
"""Of messages that an agent sees; more are read from the file. Decoding them is quick."""
MAX_VIEWS: Final = 4
"""Kept for one session: what all agents see, and what its busiest agents see."""
_FEW: Final = 32


class _View:
    """What an agent (`None`: all) sees from a row on, up to the newest."""

    __slots__ = ("_fresh", "_rows", "_trim_at", "chapter", "since", "size", "wanted")

    def __init__(self, stored: Sequence[StoredRow], since: int) -> None:
        self.since = since
        self.size = _size(stored)
        self.chapter: Bounds | None = None
        """The latest chapter, if it is known."""
        self.wanted = 0
        """The most rows that are wanted at once, whatever their chapter."""
        self._rows: list[Prepared] = []
        self._fresh = list(stored)  # prepared when they are wanted: until then they cost nothing
        self._trim_at = 0

    def rows(self) -> list[Prepared]:
        """All of them."""
        if self._fresh:
            self._rows += prepared(self._fresh)
            self._fresh = []
        return self._rows

    @property
    def fits(self) -> bool:
        """Whether it is small enough to be kept."""
        return self.size <= MAX_BYTES

    def insert(self, stored: Iterable[StoredRow]) -> None:
        """Follow what was inserted."""
        chapter = self.chapter
        for row in stored:
            self._fresh.append(row)
            self.size += len(row[2])
            if row[4] and chapter is not None:
                self.chapter = paging.latest(Checkpoint(row[0], row[5]))
        count = len(self._rows) + len(self._fresh)
        if count >= self._trim_at or not self.fits or self.chapter is not chapter:
            self._trim()

    def update(self, row: StoredRow) -> None:
        """Follow an update, if the row is one of these."""
        rows = self.rows()
        index = _index(rows, row[0])
        if index < len(rows) and rows[index].before[0] == row[0]:
            self.size += len(row[2]) - len(rows[index].data)
            rows[index : index + 1] = prepared([row])

    def _trim(self) -> None:
        """Let go of what nobody wanted lately."""
        rows = self.rows()
        keep = max(len(rows) - self.wanted, 0)
        if self.chapter is not None and self.since <= self.chapter.start:
            keep = min(keep, _index(rows, self.chapter.start))
        if keep:
            self.since = rows[keep - 1].before[0] + 1
            self.size -= sum(len(row.data) for row in rows[:keep])
            del rows[:keep]
        self._trim_at = 2 * max(len(rows), _FEW)


class NewestRows:
    """The newest rows of a session, as seen by agent (`None`: all), following its commits."""

    def __init__(self) -> None:
        self._views: dict[str | None, _View] = {}

    def newest(self, agent_id: str | None, limit: int) -> list[Prepared] | None:
        """The newest rows in their order, at most so many (one at least), if they are known."""
        view = self._views.get(agent_id)
        if view is None:
            return None
        rows = view.rows()
        return rows[-limit:] if limit <= len(rows) or view.since <= 1 else None

    def chapter(self, agent_id: str | None) -> tuple[int | None, list[Prepared]] | None:
        """The checkpoint that heads the latest chapter, and its page's rows, if it is known."""
        view = self._views.get(agent_id)
        if view is None or view.chapter is None or view.since > view.chapter.start:
            return None
        rows = view.rows()
        head_id, start, _ = view.chapter
        first = _index(rows, start)
        if head_id is None:
            return None, rows[first:]
        head = _index(rows, head_id)
        return head_id, [rows[head], *rows[first:head], *rows[head + 1 :]]

    def put_newest(self, agent_id: str | None, limit: int, stored: Sequence[StoredRow]) -> None:
        """Remember the newest rows, which were read from the file and could be decoded."""
        since = stored[0][0] if len(stored) == limit else 1
        view = self._put(agent_id, stored, since)
        if view is not None:
            view.wanted = max(view.wanted, limit)

    def put_chapter(
        self, agent_id: str | None, head_id: int | None, stored: Sequence[StoredRow]
    ) -> None:
        """Remember the latest chapter's page, which was read from the file, and decoded."""
        newest = None if head_id is None else Checkpoint(head_id, stored[0][5])
        chapter = paging.latest(newest)
        if head_id is not None and chapter.start > head_id:
            return  # which is damage
        view = self._put(agent_id, sorted(stored, key=lambda row: row[0]), chapter.start)
        if view is not None:
            view.chapter = chapter

    def follow(self, steps: Sequence[Step]) -> None:
        """Apply what was committed."""
        if not self._views:
            return
        for step in steps:
            if isinstance(step, RemoveRows):
                self._views.clear()
                continue
            for agent_id, view in self._views.items():
                if isinstance(step, UpdateRow):
                    view.update(step.row)
                elif isinstance(step, InsertRows):
                    view.insert(row for row in step.rows if agent_id in (None, row[1]))
        self._views = {agent: view for agent, view in self._views.items() if view.fits}

    def _put(self, agent_id: str | None, stored: Sequence[StoredRow], since: int) -> _View | None:
        known = self._views.pop(agent_id, None)
        if known is not None and known.since <= since:
            view = known
        elif _size(stored) > MAX_BYTES:
            if known is not None:
                self._views[agent_id] = known
            return None
        else:
            view = _View(stored, since)
            if known is not None:
                view.chapter, view.wanted = known.chapter, known.wanted
        while len(self._views) >= MAX_VIEWS:
            del self._views[next(iter(self._views))]
        self._views[agent_id] = view
        return view


def _index(rows: Sequence[Prepared], db_id: int) -> int:
    return bisect_left(rows, db_id, key=lambda row: row.before[0])


def _size(stored: Sequence[StoredRow]) -> int:
    return sum(len(row[2]) for row in stored)


__all__ = ["MAX_BYTES", "MAX_VIEWS", "NewestRows"]
