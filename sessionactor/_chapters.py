"""The latest chapter, kept as stored: agent loops read it on every turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sessionactor._changes import InsertRows, RemoveRows, Step, StoredRow, UpdateRow
from sessionactor._rows import Prepared, prepared

MAX_BYTES: Final = 256 * 1024
"""Of messages in one chapter; a longer one is read from the file. Decoding it is quick."""
MAX_VIEWS: Final = 4
"""Chapters kept for one session: one of all agents, and of its busiest agents."""


class CachedChapter(NamedTuple):
    """A chapter's rows in the order of its page; `size` in bytes."""

    checkpoint_id: int | None
    rows: list[Prepared]
    size: int


class ChapterCache:
    """The latest chapters of a session, as seen by agent (`None`: all), following its commits."""

    def __init__(self) -> None:
        self._views: dict[str | None, CachedChapter] = {}

    def get(self, agent_id: str | None) -> CachedChapter | None:
        """The chapter, if it is known."""
        return self._views.get(agent_id)

    def put(
        self, agent_id: str | None, checkpoint_id: int | None, rows: Sequence[StoredRow]
    ) -> None:
        """Remember a chapter that was read from the file, and could be decoded whole."""
        size = sum(len(row[2]) for row in rows)
        if size <= MAX_BYTES:
            while len(self._views) >= MAX_VIEWS:
                del self._views[next(iter(self._views))]
            self._views[agent_id] = CachedChapter(checkpoint_id, prepared(rows), size)

    def follow(self, steps: Sequence[Step]) -> None:
        """Apply what was committed."""
        if not self._views:
            return
        for step in steps:
            if isinstance(step, RemoveRows):
                self._views.clear()
            elif isinstance(step, InsertRows):
                for row in step.rows:
                    self._insert(row)
            elif isinstance(step, UpdateRow):
                self._update(step.row)

    def _update(self, row: StoredRow) -> None:
        for agent_id, view in list(self._views.items()):
            for index in range(len(view.rows) - 1, -1, -1):  # it is nearly always the newest
                if view.rows[index].before[0] == row[0]:
                    size = view.size + len(row[2]) - len(view.rows[index].data)
                    view.rows[index : index + 1] = prepared([row])
                    self._views[agent_id] = view._replace(size=size)
                    if size > MAX_BYTES:
                        del self._views[agent_id]
                    break

    def _insert(self, row: StoredRow) -> None:
        for agent_id, view in list(self._views.items()):
            if agent_id is not None and agent_id != row[1]:
                continue
            size = view.size + len(row[2])
            if row[4] or size > MAX_BYTES:  # a checkpoint begins another chapter
                del self._views[agent_id]
            else:
                view.rows.extend(prepared([row]))
                self._views[agent_id] = view._replace(size=size)
