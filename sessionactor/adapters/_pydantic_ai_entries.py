"""Entries of a conversation of Pydantic AI as rows, each of which names one above it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic_ai import ModelMessage, ModelMessagesTypeAdapter
from pydantic_ai.conversation_store import ConversationEntry

from sessionactor import Row, Session, SessionNotFoundError

PAGE: Final = 500
"""So many rows are read, or entries made, at once; then others have their turn."""


class Stored(NamedTuple):
    """An entry as it is appended."""

    role: str
    message: Mapping[str, Any]
    key: str
    parent: str | None


def stored(entry: ConversationEntry) -> Stored:
    """An entry as a row."""
    (message,) = ModelMessagesTypeAdapter.dump_python([entry.message], mode="json")
    role = _role(entry.message)
    return Stored(role, {"role": role, **message}, entry.id, entry.parent_id)


def _role(message: ModelMessage) -> str:
    if message.kind == "response":
        return "assistant"
    kinds = {part.part_kind for part in message.parts}
    if "user-prompt" in kinds:
        return "user"
    return "system" if kinds == {"system-prompt"} else "tool"


async def entries(rows: list[Row]) -> list[ConversationEntry]:
    """The entries that rows are."""
    made: list[ConversationEntry] = []
    for start in range(0, len(rows), PAGE):
        if start:
            await asyncio.sleep(0)
        some = rows[start : start + PAGE]
        messages = ModelMessagesTypeAdapter.validate_python([row.message for row in some])
        made += [
            ConversationEntry(id=row.key or "", parent_id=row.parent, message=message)
            for row, message in zip(some, messages, strict=True)
        ]
    return made


async def row_of(session: Session, entry_id: str) -> Row | None:
    """The row of an entry, if the session has it."""
    try:
        return await session.get(key=entry_id)
    except SessionNotFoundError:
        return None


async def chain_in(session: Session, head_id: str, limit: int | None) -> list[Row] | None:
    """The rows of the entries up to that one, or the last ones; `None` where it is not in it."""
    chain: list[Row] = []
    wanted: str | None = head_id
    before: int | None = None
    size = PAGE if limit is None else min(limit, PAGE)
    while wanted is not None and (limit is None or len(chain) < limit):
        try:
            page = await session.messages(before=before, limit=size, newest=True)
        except SessionNotFoundError:
            return None
        if not page:
            return None
        for row in reversed(page):
            if row.key == wanted and (limit is None or len(chain) < limit):
                chain.append(row)
                wanted = row.parent
        before = page[0].db_id
    chain.reverse()
    return chain


__all__ = ["PAGE", "Stored", "chain_in", "entries", "row_of", "stored"]
