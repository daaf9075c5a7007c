"""One transaction that feeds the catalog: sessions, and with them their documents."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from sessionactor import _catalog_rows as rows
from sessionactor import _names as names
from sessionactor._catalog_docs import Docs
from sessionactor._catalog_events import (
    Committed,
    Deleted,
    Event,
    Opened,
    Renamed,
    Wanted,
    part_of,
)
from sessionactor._catalog_stage import Prepared
from sessionactor._changes import (
    FinishRestoring,
    InsertRows,
    MergeMetadata,
    RemoveRows,
    Step,
    StoredInfo,
    StoredRow,
    UpdateRow,
)
from sessionactor._history import Changes
from sessionactor._requests import MAX_ID
from sessionactor._text import TextOf

_COUNTERS: Final = "SELECT seq, last_id FROM catalog"
_SAVE_COUNTERS: Final = "UPDATE catalog SET seq = ?, last_id = ?"
_KNOWN: Final = (
    f"SELECT id, created_at, revision, indexed, {', '.join(rows.COLUMNS)}"
    " FROM sessions WHERE part = ?"
)
_INSERT: Final = (
    f"INSERT INTO sessions (id, indexed, stale, seq, {', '.join(rows.COLUMNS)})"
    f" VALUES (?, 0, ?, ?, {', '.join('?' * len(rows.COLUMNS))})"
)
_UPDATE: Final = (
    f"UPDATE sessions SET ({', '.join(rows.COLUMNS)}) = ({', '.join('?' * len(rows.COLUMNS))}),"
    " indexed = ?, stale = ?, seq = ? WHERE id = ?"
)
_RENAME: Final = "UPDATE sessions SET name = ?, entry = ?, seq = ? WHERE part = ?"
_DELETE: Final = "DELETE FROM sessions WHERE id = ?"
_MERGE: Final = (
    "INSERT INTO metadata VALUES (?, ?, ?) ON CONFLICT (session, key)"
    " DO UPDATE SET value = excluded.value"
)
_FORGET_METADATA: Final = "DELETE FROM metadata WHERE session = ?"
_CHILD: Final = "INSERT OR REPLACE INTO parents VALUES (?, ?, ?, ?)"
_NO_CHILDREN: Final = "DELETE FROM parents WHERE session = ? AND db_id >= ? AND db_id <= ?"


class _Known(NamedTuple):
    """What the catalog has of a session."""

    number: int
    created_at: int
    revision: int
    indexed: int
    """The highest row id that may be among the documents."""
    columns: tuple[Any, ...]


class Writing:
    """Takes in what happened, and what files say; `finish` writes the rest of it."""

    def __init__(
        self,
        text_of: TextOf,
        prepared: Prepared,
        exists: Callable[[str], bool],
        cursor: sqlite3.Cursor,
    ) -> None:
        self.cursor = cursor
        self._exists = exists
        self._docs = Docs(text_of, prepared, cursor)
        self._changes_before = cursor.connection.total_changes
        seq, last_id = cursor.execute(_COUNTERS).fetchone()
        self._seq: int = seq + 1
        self._last_id: int = last_id

    def finish(self) -> None:
        """Write what was put off, at the end of the transaction."""
        self._docs.flush()
        if self.cursor.connection.total_changes != self._changes_before:
            self.cursor.execute(_SAVE_COUNTERS, (self._seq, self._last_id))

    def follow(self, event: Event) -> bool:
        """Take in an event; `False`: its session has to be read from its file."""
        part = part_of(event)
        known = self._known(part)
        match event:
            case Renamed(session_id, name):
                entry = names.file_name(session_id, name)
                self.cursor.execute(_RENAME, (name, entry, self._seq, part))
                return True
            case Deleted():
                return self.drop_part(part)
            case Opened(info):
                info = rows.clean(info)
                return self._opened(self._same(known, info), info)
            case Committed(_, base_revision, steps, info):
                info = rows.clean(info)
                return self._committed(self._same(known, info), base_revision, steps, info)

    def _opened(self, known: _Known | None, info: StoredInfo) -> bool:
        if known is not None and known.revision > info.revision:
            # A power loss took what came later, or an older file was put in its place. Soon it
            # is at that revision again, and nobody could tell.
            self._drop(known)
            self._insert(info)
            return False
        if known is None:
            self._insert(info)
            return not info.revision
        is_complete = known.revision == info.revision
        if known.columns != rows.columns(info, known.revision):
            self._update(known, info, known.revision, known.indexed, stale=not is_complete)
        return is_complete

    def _committed(
        self, known: _Known | None, base_revision: int, steps: Sequence[Step], info: StoredInfo
    ) -> bool:
        if any(type(step) is FinishRestoring for step in steps):
            self._drop(known)  # its rows have the revisions that they had elsewhere
            known = None
        if known is None:
            if base_revision:
                return False
            known = self._insert(info)
        if known.revision >= info.revision:  # its file said so already
            return True
        if known.revision != base_revision:
            return False
        self._apply(known, steps, info, stale=False)
        return True

    def refill(self, wanted: Wanted, changes: Changes) -> int:
        """Take in what a session's file says; the revision that is known then, -1: nothing is."""
        info = rows.clean(changes.info)
        known = self._same(self._known(wanted.part), info)
        if known is not None and known.revision == wanted.since > info.revision:
            self._drop(known)  # an older file was put in its place
            known = None
        if known is None and wanted.since:
            return -1  # it has to be read from the beginning, even if nothing was said in it yet
        revision = known.revision if known else 0
        if revision != wanted.since:
            return revision
        # Whoever deletes a session tells the catalog after its file is gone, so that in this
        # transaction either the file is missing or its removal from here comes later.
        if not self._exists(names.file_name(info.session_id, info.name)):
            self._drop(known)
            return changes.upto
        if known is None:
            known = self._insert(info)
        info = info._replace(revision=changes.upto)
        self._apply(known, changes.at_once(), info, stale=changes.more)
        return changes.upto

    def drop_part(self, part: str) -> bool:
        """Forget a session whose file is gone; `False`: it is there (again)."""
        known = self._known(part)
        if known is not None and self._exists(known.columns[1]):
            return False
        self._drop(known)
        return True

    def _known(self, part: str) -> _Known | None:
        found = self.cursor.execute(_KNOWN, (part,)).fetchone()
        if found is None:
            return None
        number, created_at, revision, indexed, *columns = found
        return _Known(number, created_at, revision, indexed, tuple(columns))

    def _same(self, known: _Known | None, info: StoredInfo) -> _Known | None:
        """What is known, unless that is of an earlier session of the same id."""
        if known is not None and known.created_at != info.created_at:
            self._drop(known)
            return None
        return known

    def _drop(self, known: _Known | None) -> None:
        """Forget a session; its documents go bit by bit, and are not found any more."""
        if known is not None:
            self._docs.bury(known.number)
            self.cursor.execute(_FORGET_METADATA, (known.number,))
            self.cursor.execute(_DELETE, (known.number,))

    def _insert(self, info: StoredInfo) -> _Known:
        self._last_id += 1  # never one that a session had: its documents may be there still
        values = rows.columns(info, 0)
        self.cursor.execute(_INSERT, (self._last_id, info.revision > 0, self._seq, *values))
        return _Known(self._last_id, info.created_at, 0, 0, values)

    def _update(
        self, known: _Known, info: StoredInfo, revision: int, indexed: int, *, stale: bool
    ) -> None:
        values = rows.columns(info, revision)
        self.cursor.execute(_UPDATE, (*values, indexed, stale, self._seq, known.number))

    def _apply(
        self, known: _Known, steps: Sequence[Step], info: StoredInfo, *, stale: bool
    ) -> None:
        indexed = known.indexed
        for step in steps:
            match step:
                case InsertRows(stored):
                    self._children(known.number, stored)
                    part = known.columns[0]
                    if known.indexed or not self._docs.adopt(part, known.number, stored):
                        self._docs.put(known.number, stored, indexed)
                    indexed = max(indexed, *(row[0] for row in stored)) if stored else indexed
                case UpdateRow(row):
                    self._docs.put(known.number, [row], row[0])
                    indexed = max(indexed, row[0])
                case RemoveRows(first, last):
                    upto = MAX_ID if last is None else last
                    self.cursor.execute(_NO_CHILDREN, (known.number, first, upto))
                    self._docs.remove(known.number, first, min(upto, indexed))
                case MergeMetadata(items):
                    self._merge(known.number, items)
        self._update(known, info, info.revision, indexed, stale=stale)

    def _children(self, number: int, stored: Sequence[StoredRow]) -> None:
        children = [
            (parent, number, row[0], rows.time(row[3]))
            for row in stored
            if row[7] is not None and (parent := rows.text(row[7])) is not None
        ]
        if children:
            self.cursor.executemany(_CHILD, children)

    def _merge(self, number: int, items: Sequence[tuple[Any, Any]]) -> None:
        self.cursor.executemany(
            _MERGE,
            [
                (number, rows.text(key), rows.text(value))
                for key, value in items
                if rows.text(key) is not None
            ],
        )


__all__ = ["Writing"]
