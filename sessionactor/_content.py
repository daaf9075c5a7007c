"""What a store knows of its session, and the procedures that it runs on its connection.

The procedures block, in whatever thread the connection lives; all else is the actor's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from sessionactor import _dumping as dumping
from sessionactor import _reading as reading
from sessionactor import _rows as rows
from sessionactor import _sql as sql
from sessionactor._changes import StoredInfo, StoredRow
from sessionactor._deciding import Decision
from sessionactor._loading import Loaded
from sessionactor._newest import NewestRows
from sessionactor._records import Row
from sessionactor._requests import (
    MAX_ID,
    Compact,
    OnCorrupt,
    Read,
    ReadChanges,
    ReadChapter,
    ReadImage,
    ReadInfo,
    ReadInterrupted,
    ReadLostKeys,
    ReadMetadata,
    ReadOutline,
    ReadRevision,
    ReadRow,
    ReadRows,
    ReadStored,
    ReadWholeRows,
    Slice,
    Write,
)
from sessionactor._times import now


class Content:
    """A session's state, its newest rows, and how to get at the rest."""

    def __init__(
        self, session_id: str, loaded: Loaded, token: str, clock: Callable[[], int] = now
    ) -> None:
        self._session_id = session_id
        self._state = loaded.state
        self._info = loaded.info
        self._token = token
        self._clock = clock
        self._newest = NewestRows()

    @property
    def info(self) -> StoredInfo:
        """What the session is."""
        return self._info.at(self._state, self._token)

    def commit(self, group: Sequence[Write], connection: sql.Connection) -> Decision:
        """Decide and store a group; to be followed then."""
        return sql.commit(
            self._session_id, group, self._state, self._clock(), self._token, connection
        )

    def follow(self, decision: Decision) -> None:
        """Know what was committed."""
        self._state = decision.state
        self._newest.follow(decision.steps)
        self._info = self._info.after(decision.steps)

    def known(self, request: Read) -> Any:
        """The answer to a read that needs no look at the file, or `None`."""
        match request:
            case ReadChapter(before=None):
                chapter = self._newest.chapter(request.agent_id)
                if chapter is not None:
                    return self._finished(*chapter)
            case ReadRows() if limit := _newest_wanted(request):
                newest = self._newest.newest(request.agent_id, limit)
                if newest is not None:
                    return self._finished(None, newest)
            case ReadRevision():
                return self._state.revision
            case ReadInfo():
                return self.info
        return None

    def read(self, request: Read, max_rows: int, connection: sqlite3.Connection) -> Any:
        """Answer a read, with at most `max_rows` rows unless it asks for the whole."""
        match request:
            case ReadRows():
                return self._rows(request, MAX_ID if request.whole else max_rows, connection)
            case ReadChapter():
                return self._chapter(request, MAX_ID if request.whole else max_rows, connection)
            case ReadRow():
                found = self._decoded(reading.read_row(request, connection), "raise")
                return found[0] if found else None
            case ReadMetadata():
                return reading.read_metadata(connection)
            case ReadInterrupted():
                return self._decoded(reading.read_turns(self._interrupted(), connection), "raise")
            case _:
                return self._look(request, max_rows, connection)

    def _look(self, request: Read, max_rows: int, connection: sqlite3.Connection) -> Any:
        """Answer what few ask."""
        match request:
            case ReadOutline():
                return dumping.read_outline(self.info, self._state.rewritten_at, connection)
            case ReadLostKeys(start):
                return dumping.read_lost_keys(start, self._state.rewritten_at, connection)
            case ReadWholeRows():
                return dumping.read_whole_rows(
                    request, max_rows, self._state.rewritten_at, connection
                )
            case ReadChanges(since, at_most):
                changes = reading.read_changes(since, min(max_rows, at_most), connection)
                return changes._replace(info=self.info)
            case ReadStored(db_ids):
                return reading.read_some(db_ids, connection)
            case ReadImage():
                return connection.serialize()
            case Compact():
                return reading.compact(connection)
        raise AssertionError(request)

    def _interrupted(self) -> list[str]:
        state = self._state
        turns = {turn.turn_id for turn in state.turns if turn.interrupted}
        if state.status.state == "interrupted" and state.status.turn_id is not None:
            turns.add(state.status.turn_id)
        return sorted(turns)

    def _rows(self, read: ReadRows, limit: int, connection: sqlite3.Connection) -> Slice:
        stored, rest = reading.read_rows(read, limit, connection)
        found = self._slice(stored, None, rest, read.on_corrupt)
        wanted = _newest_wanted(read)
        if wanted and rest is None and len(found.rows) == len(stored):
            self._newest.put_newest(read.agent_id, wanted, stored)
        return found

    def _chapter(self, read: ReadChapter, limit: int, connection: sqlite3.Connection) -> Slice:
        stored, head, rest = reading.read_chapter(read, limit, connection)
        found = self._slice(stored, head, rest, read.on_corrupt)
        if read.before is None and rest is None and len(found.rows) == len(stored):
            self._newest.put_chapter(read.agent_id, head, stored)
        return found

    def _finished(self, head: int | None, found: Sequence[rows.Prepared]) -> Slice:
        return Slice(rows.finished(found), head, None, self._state.rewritten_at)

    def _slice(
        self,
        stored: Sequence[StoredRow],
        head: int | None,
        rest: ReadRows | None,
        on_corrupt: OnCorrupt,
    ) -> Slice:
        if rest is not None and rest.before is None:
            rest = rest._replace(before=self._state.head + 1)  # what comes later is not part of it
        return Slice(self._decoded(stored, on_corrupt), head, rest, self._state.rewritten_at)

    def _decoded(self, stored: Sequence[StoredRow], on_corrupt: OnCorrupt) -> list[Row]:
        return rows.decoded(stored, on_corrupt, self._session_id)


def _newest_wanted(read: ReadRows) -> int | None:
    """How many of the newest rows it asks for, if for nothing else."""
    plain = read.newest and read.after is read.before is read.without is None
    return read.limit if plain and not read.whole_turns else None
