"""Following a session in tests: what the events told add up to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from waiting import PATIENCE_S

from sessionactor import (
    Appended,
    Cleared,
    Deleted,
    Event,
    Lagged,
    MetadataChanged,
    Removed,
    Renamed,
    Row,
    Session,
    StateChanged,
    Subscription,
    Truncated,
    Updated,
)


def says(text: object) -> dict[str, object]:
    return {"role": "user", "content": text}


class Mirror:
    """A copy of a session, kept by events alone."""

    def __init__(
        self, rows: Iterable[Row] = (), revision: int = 0, agent_id: str | None = None
    ) -> None:
        self.rows = {row.db_id: row for row in rows}
        self.revision = revision
        self.metadata: dict[str, str | None] = {}
        self.context: dict[str, str | None] = {}
        self.name: str | None = None
        self.state: tuple[str, str | None] | None = None
        self.ended: Event | None = None
        self.seen: list[Event] = []
        self.since = revision
        self._agent_id = agent_id

    def take(self, event: Event) -> None:
        assert self.ended is None, f"{event} after {self.ended}"
        assert event.revision >= self.revision, f"{event} after revision {self.revision}"
        assert event.revision > self.since or isinstance(event, Lagged | Deleted)
        self.revision = event.revision
        self.seen.append(event)
        match event:
            case Appended(_, row):
                assert row.db_id not in self.rows, f"{event} is a repeat"
                self.rows[row.db_id] = row
            case Updated(revision, row):
                assert row.revision >= revision
                self.rows[row.db_id] = row
            case Truncated(_, from_db_id):
                self.rows = {n: row for n, row in self.rows.items() if n < from_db_id}
            case Removed(_, db_ids):
                for db_id in db_ids:
                    self.rows.pop(db_id, None)
            case Cleared():
                self.rows.clear()
            case Deleted() | Lagged():
                self.ended = event
            case _:
                self._note(event)

    def _note(self, event: Renamed | MetadataChanged | StateChanged) -> None:
        match event:
            case Renamed(_, name):
                self.name = name
            case MetadataChanged(_, metadata, context):
                self.metadata.update(metadata)
                self.context.update(context)
            case StateChanged(_, state, turn_id, _):
                self.state = (state, turn_id)

    async def is_true(self, session: Session) -> None:
        """Compare it with what the session says."""
        rows = await session.messages(agent_id=self._agent_id)
        assert [self.rows[db_id] for db_id in sorted(self.rows)] == rows


async def take(subscription: Subscription, count: int) -> list[Event]:
    """The next so many events."""
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(subscription) for _ in range(count)]


async def rest(subscription: Subscription) -> list[Event]:
    """All events up to the end."""
    async with asyncio.timeout(PATIENCE_S):
        return [event async for event in subscription]


async def is_quiet(subscription: Subscription, session: Session) -> bool:
    """Whether nothing comes, though the session was asked and the event loop turned."""
    waiting = asyncio.ensure_future(anext(subscription))
    for _ in range(2):
        await asyncio.sleep(0)
        await session.get_metadata()  # it is served after what the subscriber may ask
    for _ in range(50):
        await asyncio.sleep(0)
    quiet = not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    return quiet


@asynccontextmanager
async def mirrored(
    subscription: Subscription, mirror: Mirror | None = None
) -> AsyncIterator[Mirror]:
    """Keep a mirror beside the block; it is complete once the session's end is seen."""
    mirror = mirror or Mirror()

    async def follow() -> None:
        async for event in subscription:
            mirror.take(event)

    task = asyncio.create_task(follow())
    try:
        yield mirror
    finally:
        if not task.done():
            task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome


def told(events: Iterable[Event]) -> list[Any]:
    """Events as short tuples: the name of each, and what it is about."""
    short: list[Any] = []
    for event in events:
        match event:
            case Appended(revision, row) | Updated(revision, row):
                short.append((type(event).__name__, revision, row.db_id, row.message["content"]))
            case Truncated(revision, from_db_id):
                short.append(("Truncated", revision, from_db_id))
            case Removed(revision, db_ids):
                short.append(("Removed", revision, db_ids))
            case Renamed(revision, name):
                short.append(("Renamed", revision, name))
            case MetadataChanged(revision, metadata, context):
                short.append(("MetadataChanged", revision, {**metadata, **context}))
            case StateChanged(revision, state, turn_id, _):
                short.append(("StateChanged", revision, state, turn_id))
            case _:
                short.append((type(event).__name__, event.revision))
    return short
