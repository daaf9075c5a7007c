"""Chapter bounds: the one place that decides what a page of history holds.

A checkpoint `c` covers what is older than `start(c)`: its `keep_from`, or `c` itself.
Chapters are the half-open ranges between these starts, so together they are all rows,
each once. The checkpoint that heads a chapter comes first in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from sessionactor._requests import MAX_ID


class Checkpoint(NamedTuple):
    """A checkpoint as the bounds need it."""

    db_id: int
    keep_from: int | None

    @property
    def start(self) -> int:
        """The first row that the summary does not cover."""
        return self.db_id if self.keep_from is None else self.keep_from


class Bounds(NamedTuple):
    """One chapter: `checkpoint_id` (if any), then the rows of `[start, stop)` without it."""

    checkpoint_id: int | None
    start: int
    stop: int | None


def latest(newest: Checkpoint | None) -> Bounds:
    """The chapter that goes on to the end, given the newest checkpoint in view."""
    if newest is None:
        return Bounds(None, 1, None)
    return Bounds(newest.db_id, newest.start, None)


def before(
    cursor: int,
    at_cursor: Checkpoint | None,
    newest_below: Callable[[int], Checkpoint | None],
) -> Bounds:
    """The chapter before a cursor.

    `at_cursor` is the checkpoint in view that the cursor names, `None` where it names none
    and so bounds by its own value; `newest_below(bound)` finds the newest checkpoint in
    view whose id is less than `bound`.
    """
    stop = cursor if at_cursor is None else at_cursor.start
    head = newest_below(stop)
    if head is None:
        return Bounds(None, 1, stop)
    return Bounds(head.db_id, head.start, stop)


def newest_whole(
    rows: Iterable[tuple[int, str | None]], first_of: Callable[[str], int], limit: int
) -> int | None:
    """Where as many whole turns as fit into `limit` rows begin, but at least the newest one.

    `rows` are ids and turns from the newest row down, only those in view; `first_of` finds
    where a turn begins. A row without a turn is by itself what a turn is. `None`: no rows.
    """
    start: int | None = None
    needed = MAX_ID
    seen: set[str] = set()
    for count, (db_id, turn) in enumerate(rows, 1):
        if count > limit and start is not None:
            break
        if turn is not None and turn not in seen:
            seen.add(turn)
            needed = min(needed, first_of(turn))
        if db_id <= needed:
            start = db_id
    return start


def uncut(bound: int, turns: Iterable[tuple[int, int]]) -> int:
    """The highest id, not above `bound`, such that no turn has rows on both sides of it.

    `turns` are the first and last ids of each, the greatest last id first.
    """
    for first, last in turns:
        if last < bound:
            break
        bound = min(bound, first)
    return bound


__all__ = ["Bounds", "Checkpoint", "before", "latest", "newest_whole", "uncut"]
