"""The items of OpenAI Agents in the rows of a session, read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, cast

from agents import TResponseInputItem

from sessionactor import Row, Session
from sessionactor.adapters._openai_pairs import beginning_of_whole

Items: TypeAlias = list[TResponseInputItem]

_BEFORE: Final = 1
"""How many rows before a window are read with it, to see whether it begins in mid-response."""


async def newest(session: Session, limit: int) -> list[Row]:
    """The newest rows, from where nothing is torn from what it belongs to."""
    window = limit + _BEFORE
    while limit:
        rows = await session.messages(limit=window, newest=True)
        is_all = len(rows) < window
        begin = beginning_of_whole(items_of(rows), max(len(rows) - limit, 0), is_all=is_all)
        if begin is not None:
            return rows[begin:]
        window *= 2
    return []


async def expired(
    session: Session, before: int, is_expired: Callable[[TResponseInputItem], bool]
) -> list[int]:
    """The oldest rows, as long as they are expired."""
    found = []
    async for row in session.stream(before=before):
        if not is_expired(item_of(row)):
            break
        found.append(row.db_id)
    return found


def versions(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Which rows they are, and as of when."""
    return [(row.db_id, row.revision) for row in rows]


def item_of(row: Row) -> TResponseInputItem:
    """The item that a row is."""
    return cast(TResponseInputItem, row.message)


def items_of(rows: Sequence[Row]) -> Items:
    """The items that rows are."""
    return [item_of(row) for row in rows]


__all__ = ["Items", "expired", "item_of", "items_of", "newest", "versions"]
