"""Sessions that exist only in a test, and what a catalog should say of them."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sessionactor import SessionInfo
from sessionactor import _names as names
from sessionactor._catalog import Catalog
from sessionactor._catalog_events import Listed, Wanted
from sessionactor._catalog_file import CatalogFile, MemoryCatalog, Place
from sessionactor._catalog_rows import Here
from sessionactor._catalog_stage import prepare
from sessionactor._changes import (
    ChangeContext,
    ChangeName,
    ChangeStatus,
    InsertRows,
    MergeMetadata,
    RemoveRows,
    Status,
    Step,
    StoredInfo,
    StoredRow,
    UpdateRow,
)
from sessionactor._codec import encode
from sessionactor._feed import Feed
from sessionactor._history import Changes
from sessionactor._indexer import Said
from sessionactor._rows import session_info
from sessionactor._text import TextOf, text_of

START = 1_700_000_000_000_000


def encoded(text: str) -> bytes:
    return encode({"role": "user", "content": text}, max_bytes=1 << 20, session_id="test")


@dataclass
class Message:
    """A row as it is now."""

    agent_id: str
    text: str
    at: int
    parent: str | None
    data: bytes


@dataclass
class Made:
    """A session, and all that ever happened to it."""

    info: StoredInfo
    steps: list[tuple[int, Step]] = field(default_factory=list)
    rows: dict[int, Message] = field(default_factory=dict)
    metadata: dict[str, str | None] = field(default_factory=dict)

    def listed(self) -> SessionInfo:
        """What a listing tells of it."""
        return session_info(self.info, None, active=False)


class Sessions:
    """The truth: what a catalog is told of, and reads when it was not told."""

    def __init__(self) -> None:
        self.made: dict[str, Made] = {}
        self.left_open: set[str] = set()
        self.catalogs: list[Catalog] = []
        self.now = START
        self.reads: list[str] = []
        self.read_gate: asyncio.Event | None = None
        self.is_reading = False
        self.min_staged = 1  # all of it, however little it is

    def create(self, session_id: str, name: str = "n", *, created_at: int | None = None) -> None:
        self.now += 1
        at = self.now if created_at is None else created_at
        info = StoredInfo(
            *(session_id, name, at, at, 0, None, None, None, None),
            *("idle", None, None, None, None, 0, 0),
        )
        self.made[session_id] = Made(info)
        for catalog in self.catalogs:
            catalog.opened(info)

    def opened(self, session_id: str) -> None:
        for catalog in self.catalogs:
            catalog.opened(self.made[session_id].info)

    def append(
        self,
        session_id: str,
        *texts: str,
        agent_id: str = "agent",
        parent: str | None = None,
        data: bytes | None = None,
        tell: bool = True,
    ) -> None:
        made = self.made[session_id]
        revision = made.info.revision + 1
        rows: list[StoredRow] = []
        self.now += 1
        for text in texts:
            db_id = made.info.high_water + len(rows) + 1
            message = Message(
                agent_id, text, self.now, parent, encoded(text) if data is None else data
            )
            made.rows[db_id] = message
            plain = (db_id, agent_id, message.data, self.now, 0, None, None, parent, None)
            rows.append((*plain, revision, None))
        made.info = made.info._replace(high_water=made.info.high_water + len(rows))
        self._happened(session_id, [InsertRows(rows, [])], tell)

    def update(self, session_id: str, db_id: int, text: str, *, tell: bool = True) -> None:
        made = self.made[session_id]
        row = made.rows[db_id]
        row.text, row.data = text, encoded(text)
        self._happened(session_id, [UpdateRow(self._row(session_id, db_id))], tell)

    def remove(self, session_id: str, first: int, last: int | None, *, tell: bool = True) -> None:
        made = self.made[session_id]
        upto = made.info.high_water if last is None else last
        for db_id in [db_id for db_id in made.rows if first <= db_id <= upto]:
            del made.rows[db_id]
        revision = made.info.revision + 1
        self._happened(session_id, [RemoveRows(first, last, revision)], tell)

    def merge(self, session_id: str, pairs: Mapping[str, str | None], *, tell: bool = True) -> None:
        made = self.made[session_id]
        made.metadata.update(pairs)
        step = MergeMetadata(tuple(pairs.items()), made.info.revision + 1)
        self._happened(session_id, [step], tell)

    def set(self, session_id: str, *, tell: bool = True, **fields: str | None) -> None:
        made = self.made[session_id]
        made.info = made.info._replace(**fields)  # type: ignore[arg-type]
        items: Any = tuple(fields.items())
        self._happened(session_id, [ChangeContext(items, made.info.revision + 1)], tell)

    def run(self, session_id: str, token: str | None, *, tell: bool = True) -> None:
        made = self.made[session_id]
        self.now += 1
        state: Any = ("running", "turn", self.now) if token else ("idle", None, None)
        made.info = made.info._replace(
            state=state[0], turn_id=state[1], turn_started_at=state[2], token=token
        )
        step = ChangeStatus(Status(*state), made.info.revision + 1)
        self._happened(session_id, [step], tell)

    def rename(self, session_id: str, name: str, *, tell: bool = True) -> None:
        made = self.made[session_id]
        made.info = made.info._replace(name=name)
        self._happened(session_id, [ChangeName(name, made.info.revision + 1)], tell)
        if tell:
            for catalog in self.catalogs:
                catalog.renamed(session_id, name)

    def delete(self, session_id: str, *, tell: bool = True) -> None:
        del self.made[session_id]
        if tell:
            for catalog in self.catalogs:
                catalog.deleted(session_id)

    def behind_a_gate(self, session_id: str) -> asyncio.Event:
        """Have a session that must be read, which it is once the gate is opened."""
        self.read_gate = asyncio.Event()
        self.append(session_id, "word", tell=False)
        self.append(session_id, "word")
        return self.read_gate

    def _row(self, session_id: str, db_id: int) -> StoredRow:
        row = self.made[session_id].rows[db_id]
        revision = self.made[session_id].info.revision + 1
        return (
            *(db_id, row.agent_id, row.data, row.at, 0, None, None, row.parent, None),
            *(revision, self.now),
        )

    def _happened(self, session_id: str, steps: Sequence[Step], tell: bool) -> None:
        made = self.made[session_id]
        self.now += 1
        base = made.info.revision
        made.steps += [(base + 1, step) for step in steps]
        made.info = made.info._replace(
            revision=base + 1, last_at=self.now, message_count=len(made.rows)
        )
        if tell:
            for catalog in self.catalogs:
                catalog.committed(session_id, base, steps, made.info)

    # what the catalog asks

    async def listing(self) -> Mapping[str, Listed]:
        return {
            names.id_part(session_id): Listed(
                names.file_name(session_id, made.info.name), session_id in self.left_open
            )
            for session_id, made in self.made.items()
        }

    async def changes(self, wanted: Sequence[Wanted], max_rows: int, text_of: TextOf) -> Said:
        if self.read_gate is not None:
            self.is_reading = True
            await self.read_gate.wait()
        by_part = {names.id_part(session_id): session_id for session_id in self.made}
        found: list[Changes | None] = []
        for part, since in wanted:
            self.reads.append(part)
            changes = None
            if part in by_part:
                changes = self._changes(by_part[part], since, max_rows)
                max_rows -= len(changes.inserted) + len(changes.others)
            found.append(changes)
            if max_rows <= 0:
                break
        return Said(found, prepare(wanted, found, text_of, self.min_staged))

    def _changes(self, session_id: str, since: int, max_rows: int) -> Changes:
        """As a session says it: rows as they are now, and none that are gone."""
        made = self.made[session_id]
        inserted: list[StoredRow] = []
        inserted_at: list[int] = []
        others: list[tuple[int, Step]] = []
        upto = since
        for revision, step in made.steps:
            if revision <= since:
                continue
            if len(inserted) >= max_rows and revision > upto:
                return Changes(inserted, inserted_at, others, upto, True, made.info)
            upto = revision
            if isinstance(step, InsertRows):
                kept = [self._now(session_id, row) for row in step.rows if row[0] in made.rows]
                inserted += kept
                inserted_at += [revision] * len(kept)
            elif not isinstance(step, UpdateRow):
                others.append((revision, step))
            elif step.row[0] in made.rows:
                others.append((revision, UpdateRow(self._now(session_id, step.row))))
        return Changes(inserted, inserted_at, others, made.info.revision, False, made.info)

    def _now(self, session_id: str, row: StoredRow) -> StoredRow:
        return (*row[:2], self.made[session_id].rows[row[0]].data, *row[3:])

    async def rows(self, session_id: str, db_ids: Sequence[int]) -> list[StoredRow]:
        return []

    def exists(self, entry: str) -> bool:
        return any(
            names.file_name(session_id, made.info.name) == entry
            for session_id, made in self.made.items()
        )

    # what it should say

    def found(
        self, query: str, session_id: str | None = None, agent_id: str | None = None
    ) -> list[tuple[str, int]]:
        """All messages with these words, the newest first."""
        words = query.casefold().split()
        hits = [
            (row.at, db_id, one)
            for one, made in self.made.items()
            for db_id, row in made.rows.items()
            if session_id in (None, one)
            and agent_id in (None, row.agent_id)
            and set(words) <= set(re.findall(r"[^\W_]+", row.text.casefold()))
        ]
        return [(one, db_id) for _, db_id, one in sorted(hits, reverse=True)]


_alone = threading.Lock()


def alone() -> AbstractContextManager[Any]:
    """What the lock file of a directory is to the processes that share it."""
    return _alone


@asynccontextmanager
async def catalog_of(
    sessions: Sessions,
    path: Path | None = None,
    *,
    feed: Feed | None = None,
    is_live: Callable[[str, str | None], bool] = lambda session_id, token: token == "ours",
    text_of: TextOf = text_of,
    place: Place | None = None,
    lazy: bool = False,
) -> AsyncIterator[Catalog]:
    """A catalog in a file, or without one in memory, that is told of the sessions."""
    if place is None:
        place = MemoryCatalog() if path is None else CatalogFile(path, alone)
    here = Here(None, is_live, lambda session_id: False)
    catalog = Catalog(place, sessions, text_of, here, lazy=lazy, feed=feed)
    catalog.open()
    sessions.catalogs.append(catalog)
    try:
        yield catalog
    finally:
        sessions.catalogs.remove(catalog)
        await catalog.aclose()
