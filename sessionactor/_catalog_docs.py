"""The text of messages in the catalog, and the words in it: what search walks over.

The index keeps no text of its own, so that removing a document names again what was indexed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, TypeAlias

from sessionactor import _catalog_rows as rows
from sessionactor._catalog_stage import Prepared, agent_text, take_in, texts_of
from sessionactor._catalog_words import number_of, words
from sessionactor._changes import StoredRow
from sessionactor._requests import MAX_ID
from sessionactor._text import TextOf

_MANY: Final = 500
"""So many rows that are removed at once are left to `purge`."""

_FIND: Final = "SELECT number, agent_id, text FROM docs WHERE session = ? AND db_id = ?"
_BEFORE: Final = (
    "SELECT number FROM docs WHERE session = ? AND db_id < ? ORDER BY db_id DESC LIMIT 1"
)
_RANGE: Final = (
    "SELECT number, agent_id, text, db_id FROM docs"
    " WHERE session = ? AND db_id >= ? AND db_id <= ? LIMIT ?"
)
_NEWEST: Final = "SELECT coalesce(max(number), 0) FROM places"
_TAKEN: Final = "SELECT number FROM places WHERE number IN (SELECT value FROM json_each(?))"
_IS_TAKEN: Final = "SELECT 1 FROM places WHERE number = ?"
_DOC: Final = "INSERT INTO docs VALUES"
_PLACE: Final = "INSERT INTO places VALUES"
_UPDATE: Final = "UPDATE docs SET agent_id = ?, text = ? WHERE session = ? AND db_id = ?"
_DELETE: Final = "DELETE FROM docs WHERE session = ? AND db_id = ?"
_REMOVE: Final = "DELETE FROM places WHERE number = ?"
_BURY: Final = "INSERT OR REPLACE INTO dead VALUES (?, ?, ?)"
_DEAD: Final = "SELECT session, first, last FROM dead LIMIT 1"
_GONE: Final = "DELETE FROM dead WHERE session = ? AND first = ?"
_ORPHANED: Final = (
    "DELETE FROM parents WHERE session = ?1 AND NOT EXISTS (SELECT 1 FROM sessions WHERE id = ?1)"
)
_INDEX: Final = "INSERT INTO words (rowid, text) VALUES"
_FORGET: Final = "INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)"

_AT_ONCE: Final = (128, 16, 1)
"""Rows of one statement, if all are short: it may hold on to them until it runs again."""
_SHORT: Final = 8 * 1024
"""Characters of a text."""

_New: TypeAlias = tuple[int, int, int, str, str]
"""`inserted_at, session, db_id, agent_id, text`."""


class Docs:
    """What one transaction changes in the documents, applied together by `flush`."""

    def __init__(self, text_of: TextOf, prepared: Prepared, cursor: sqlite3.Cursor) -> None:
        self._text_of = text_of
        self._texts = prepared.texts
        self._slots = prepared.stage.slots if prepared.stage else {}
        self._cursor = cursor
        self._adopted: dict[int, tuple[int, list[StoredRow]]] = {}
        self._puts: dict[int, dict[int, tuple[StoredRow, bool]]] = {}
        self._old_words: dict[int, str] = {}
        self._new_words: dict[int, str] = {}

    def put(self, session: int, stored: Iterable[StoredRow], indexed: int) -> None:
        """Index rows, instead of what was indexed of those up to the id `indexed`."""
        puts = self._puts.setdefault(session, {})
        puts.update([(row[0], (row, row[0] > indexed)) for row in stored])

    def adopt(self, part: str, session: int, stored: Sequence[StoredRow]) -> bool:
        """Index rows of a session that is new, if they are on the stage."""
        slot = self._slots.get(part)
        if slot is None:
            return False
        self._adopted.setdefault(session, (slot, []))[1].extend(stored)
        return True

    def remove(self, session: int, first: int, last: int) -> None:
        """Forget the rows from one id to another."""
        puts = self._puts.get(session, {})
        for db_id in [db_id for db_id in puts if first <= db_id <= last]:
            del puts[db_id]
        found = self._cursor.execute(_RANGE, (session, first, last, _MANY + 1)).fetchall()
        if len(found) > _MANY:
            self._cursor.execute(_BURY, (session, first, last))
            return
        for number, agent_id, text, db_id in found:
            self._delete(number, session, db_id, words(session, agent_id, text))

    def bury(self, session: int) -> None:
        """Leave all rows of a session to `purge`; nothing is to refer to it any more."""
        self._puts.pop(session, None)
        self._adopted.pop(session, None)
        self._cursor.execute(_BURY, (session, -MAX_ID, MAX_ID))

    def flush(self) -> None:
        """Write all of it, in the order of the documents' numbers."""
        self._flush_adopted()
        new: list[_New] = []
        known = self._texts
        for session, puts in self._puts.items():
            late = [row for row, _ in puts.values() if row[2] not in known]
            texts = texts_of(late, self._text_of) if late else known
            for row, is_new in puts.values():
                db_id, agent_id, data = row[:3]
                text = texts[data] if data in texts else known[data]
                agent_id = agent_text(agent_id)
                found = None if is_new else self._cursor.execute(_FIND, (session, db_id)).fetchone()
                if found is not None:
                    self._replace(found, session, db_id, agent_id, text)
                else:
                    new.append((rows.time(row[3]), session, db_id, agent_id, text))
        self._puts.clear()
        self._insert(new)
        self._write_words()

    def _flush_adopted(self) -> None:
        sessions = {slot: session for session, (slot, _) in self._adopted.items()}
        if sessions and not take_in(sessions, self._cursor):
            for session, (_, stored) in self._adopted.items():
                self._puts[session] = {row[0]: (row, True) for row in stored} | (
                    self._puts.get(session, {})
                )
        self._adopted.clear()

    def _replace(self, found: Any, session: int, db_id: int, agent_id: str, text: str) -> None:
        number, old_agent_id, old_text = found
        old = words(session, old_agent_id, old_text)
        if not text:
            self._delete(number, session, db_id, old)
        elif (old_agent_id, old_text) != (agent_id, text):
            self._old_words[number] = old
            self._new_words[number] = words(session, agent_id, text)
            self._cursor.execute(_UPDATE, (agent_id, text, session, db_id))

    def _delete(self, number: int, session: int, db_id: int, old: str) -> None:
        self._old_words[number] = old
        self._cursor.execute(_DELETE, (session, db_id))
        self._cursor.execute(_REMOVE, (number,))

    def _insert(self, new: list[_New]) -> None:
        if not new:
            return
        new.sort()
        numbers = self._numbers(new)
        docs = [
            (session, db_id, number, agent_id, at, text)
            for number, (at, session, db_id, agent_id, text) in zip(numbers, new, strict=True)
            if text  # without one, the number is kept free: it may get some
        ]
        places = [(number, session, db_id) for session, db_id, number, *_ in docs]
        new_words = [
            (number, words(session, agent_id, text))
            for session, _, number, agent_id, _, text in docs
        ]
        at_once = _AT_ONCE if max([len(doc[-1]) for doc in docs], default=0) <= _SHORT else (1,)
        _insert(_PLACE, places, self._cursor, _AT_ONCE)
        if self._old_words:
            self._new_words.update(new_words)
        else:  # nearly always: these are in the right order
            _insert(_INDEX, new_words, self._cursor, at_once)
        _insert(_DOC, sorted(docs), self._cursor, at_once)

    def _numbers(self, new: list[_New]) -> list[int]:
        """A free number for each, rising with their times, and with the ids of each session."""
        execute = self._cursor.execute
        least: dict[int, int] = {}
        for _, session, db_id, *_ in new:
            if session not in least:
                (before,) = execute(_BEFORE, (session, db_id)).fetchone() or (-1,)
                least[session] = before + 1
        wanted = []
        number = -1
        for at, session, *_ in new:
            number = max(number_of(at, session), number + 1, least[session])
            wanted.append(number)
        (newest,) = execute(_NEWEST).fetchone()
        old = [number for number in wanted if number <= newest]
        taken = {number for (number,) in execute(_TAKEN, (json.dumps(old),))} if old else set()
        if not taken:
            return wanted
        numbers = []
        number = -1
        for first in wanted:
            number = max(first, number + 1)
            step = 1
            while number in taken or (
                first != number <= newest and execute(_IS_TAKEN, (number,)).fetchone()
            ):
                number += step
                step *= 2
            numbers.append(number)
        return numbers

    def _write_words(self) -> None:
        # Out of order, or with a removal after its insertion, FTS5 writes a segment each time.
        old, new = self._old_words, self._new_words
        for number in sorted(old.keys() | new.keys()):
            if number in old:
                self._cursor.execute(_FORGET, (number, old[number]))
            if number in new:
                _insert(_INDEX, [(number, new[number])], self._cursor)
        self._old_words, self._new_words = {}, {}


def purge(limit: int, cursor: sqlite3.Cursor) -> bool:
    """Remove some of the dead documents; whether there were any."""
    found = cursor.execute(_DEAD).fetchone()
    if found is None:
        return False
    session, first, last = found
    docs = cursor.execute(_RANGE, (session, first, last, limit)).fetchall()
    for number, agent_id, text, db_id in sorted(docs):
        cursor.execute(_FORGET, (number, words(session, agent_id, text)))
        cursor.execute(_REMOVE, (number,))
        cursor.execute(_DELETE, (session, db_id))
    if len(docs) < limit:
        cursor.execute(_ORPHANED, (session,))
        cursor.execute(_GONE, (session, first))
    return True


def _insert(
    into: str,
    rows: Sequence[tuple[object, ...]],
    cursor: sqlite3.Cursor,
    at_once: Sequence[int] = (1,),
) -> None:
    """Insert rows, many in a statement.

    Each statement hands Python's lock back and forth, which the sessions want meanwhile.
    """
    start = 0
    while start < len(rows):
        count = next(count for count in at_once if count <= len(rows) - start)
        part = rows[start : start + count]
        places = f"({', '.join('?' * len(part[0]))})"
        cursor.execute(f"{into} {', '.join([places] * count)}", list(chain.from_iterable(part)))
        start += count


__all__ = ["Docs", "purge"]
