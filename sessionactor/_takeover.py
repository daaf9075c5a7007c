"""What a copy of a session takes over, while the session goes on.

Most rows come in slices: a snapshot held for long would keep the log of the session from being
moved into its file, and whoever writes next would pay for that. The last look at the session
sees one moment of it, and takes over what changed since the first one, as revisions and the
log of removals tell.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from sessionactor import _paging as paging
from sessionactor._errors import SessionBusyError, SessionNotFoundError
from sessionactor._inserting import COLUMNS
from sessionactor._requests import MAX_ID

_SLICE_S: Final = 0.05
"""How long a slice should take."""
_FEWEST_ROWS: Final = 50
"""Of the first slice; later ones are fitted to the time."""
_MOST_ROWS: Final = 50_000

STATE: Final = (
    "SELECT one.session_id, one.created_at, one.state, max(one.high_water, coalesce(head.id, 0)),"
    " max(one.revision, coalesce(head.revision, 0)), one.last_at FROM origin.session AS one"
    " LEFT JOIN (SELECT id, revision FROM origin.messages ORDER BY id DESC LIMIT 1) AS head"
)
NEW_ID: Final = "SELECT session_id FROM main.session"
NEWEST: Final = "SELECT coalesce(max(id), 0) FROM main.messages"
TURN_SPANS: Final = (
    "SELECT min(id), max(id) FROM origin.messages WHERE turn IS NOT NULL GROUP BY turn"
    " ORDER BY max(id) DESC"
)
_REST: Final = "substr(parent, length(:own) + 1)"
_PARENT: Final = (
    f"CASE WHEN substr(parent, 1, length(:own)) = :own"
    f" AND CAST(CAST({_REST} AS INTEGER) AS TEXT) = {_REST}"
    f" AND CAST({_REST} AS INTEGER) BETWEEN 1 AND id - 1"
    f" THEN :new || {_REST} ELSE parent END"
)
"""A reference to an older message of the origin, which comes along, is one to its copy then."""
_TAKE: Final = (
    f"INTO main.messages ({COLUMNS}, first_revision)"
    f" SELECT {COLUMNS.replace('parent', _PARENT)}, first_revision FROM origin.messages"
)
TAKE_ROWS: Final = f"INSERT {_TAKE} WHERE id > :copied AND id < :bound ORDER BY id LIMIT :limit"
TAKE_REST: Final = f"INSERT {_TAKE} WHERE id > :copied AND id < :bound ORDER BY id"
TAKE_UPDATES: Final = (
    f"REPLACE {_TAKE} WHERE updated_at IS NOT NULL AND revision > :since AND id <= :copied"
)
REMOVALS: Final = (
    f"SELECT first_id, coalesce(last_id, {MAX_ID}), revision FROM origin.removals"
    " WHERE revision > :since"
)
REMOVE: Final = (
    "DELETE FROM main.messages WHERE id >= ? AND id <= ? AND coalesce(first_revision, revision) < ?"
)
REMOVE_BEYOND: Final = "DELETE FROM main.messages WHERE id >= :bound"

FORK: Final = (
    "INSERT INTO main.keys (key, message_id, digest)"
    " SELECT key, message_id, digest FROM origin.keys WHERE message_id < :bound",
    "INSERT INTO main.turns (turn, agent_id, opened_at, closed_at)"
    " SELECT turn, agent_id, opened_at, coalesce(closed_at, :now) FROM origin.turns AS one"
    " WHERE EXISTS (SELECT 1 FROM main.messages WHERE turn = one.turn)"
    " OR (:whole AND closed_at IS NOT NULL)",
    "INSERT INTO main.removals (revision, first_id, last_id)"
    " SELECT revision, first_id, last_id FROM origin.removals WHERE first_id < :bound"
    " ORDER BY rowid",
    "INSERT INTO main.removals (revision, first_id) SELECT :revision, :bound"
    " WHERE EXISTS (SELECT 1 FROM origin.messages WHERE id >= :bound)",
    "INSERT INTO main.origins (message_id, record)"
    " SELECT message_id, record FROM origin.origins WHERE message_id < :bound",
    "INSERT INTO main.metadata (key, value, revision)"
    " SELECT key, value, revision FROM origin.metadata",
    "UPDATE main.session SET high_water = :bound - 1, revision = :revision, last_at = :last_at,"
    " removed = :bound - 1 - :count, parent = :own || :newest, name_revision = :revision,"
    " agent_alias = one.agent_alias, channel_id = one.channel_id, room_id = one.room_id,"
    " sender_id = one.sender_id, context_revision = one.context_revision, state_revision ="
    " CASE WHEN one.state = 'idle' THEN one.state_revision ELSE :revision END"
    " FROM origin.session AS one",
)
"""All but the rows, for a session that begins where another one branches off."""
BACKUP: Final = (
    "INSERT INTO main.keys SELECT * FROM origin.keys",
    "INSERT INTO main.turns SELECT * FROM origin.turns",
    "INSERT INTO main.origins SELECT * FROM origin.origins",
    "INSERT INTO main.removals SELECT * FROM origin.removals ORDER BY rowid",
    "INSERT INTO main.metadata SELECT * FROM origin.metadata",
    "REPLACE INTO main.session SELECT * FROM origin.session",
    "UPDATE main.session SET token = NULL",  # nobody runs a copy
)
"""All but the rows, as they are."""


class Origin(NamedTuple):
    """The session that a copy is made of."""

    session_id: str
    created_at: int
    """Tells it from another one that is created under its id later."""
    path: Path | None = None
    """`None`: in memory."""
    uri: str | None = None
    """How SQLite is to open it, if not to read and write."""
    image: bytes | None = None
    """In memory: its content."""
    before: int | None = None
    """Only rows with smaller ids come along; `None`: all."""
    whole_turns: bool = False
    """The bound moves down until no turn lies on both sides of it."""


def vanished(origin: Origin) -> SessionNotFoundError:
    """The error for a session that is not there any more."""
    return SessionNotFoundError(
        f"session {origin.session_id!r} does not exist any more", session_id=origin.session_id
    )


class _Look(NamedTuple):
    """What the origin is at one moment."""

    state: str
    high_water: int
    revision: int
    last_at: int


class Takeover:
    """Fills a new session (`main`) from another one (`origin`)."""

    def __init__(
        self, origin: Origin, connection: sqlite3.Connection, pause: Callable[[], None]
    ) -> None:
        self._origin = origin
        self._connection = connection
        self._pause = pause
        self._count = 0
        self._values: dict[str, Any] = {"own": None, "new": None}

    def fork(self, now: int) -> None:
        """Take over the history up to the bound; `Session.fork` says what becomes of it."""
        ((new_id,),) = self._connection.execute(NEW_ID)
        self._values.update(own=f"{self._origin.session_id}/", new=f"{new_id}/")
        self._refuse_import(self._look())
        self._take_slices()
        with self._moment() as look:
            self._refuse_import(look)
            bound = look.high_water + 1
            if self._origin.before is not None:
                bound = min(bound, self._origin.before)
            if self._origin.whole_turns:
                bound = paging.uncut(bound, self._connection.execute(TURN_SPANS))
            self._take_rest(max(bound, 1))
            self._finish(
                FORK,
                whole=bound > look.high_water,
                now=now,
                revision=look.revision + 1,
                last_at=max(now, look.last_at),
            )

    def back_up(self) -> None:
        """Take over everything."""
        self._take_slices()
        with self._moment() as look:
            self._take_rest(look.high_water + 1)
            self._finish(BACKUP)

    def _take_slices(self) -> None:
        """Take over nearly all rows; what changes meanwhile is for the last look."""
        look = self._look()
        # Whoever appended faster than this copies would keep it going for ever.
        bound = min(2 * look.high_water + _MOST_ROWS, MAX_ID)
        if self._origin.before is not None:
            bound = min(bound, self._origin.before)
        limit = _FEWEST_ROWS
        self._values.update(since=look.revision, bound=bound, copied=0)
        while True:
            self._pause()
            began_s = time.monotonic()
            taken = self._execute(TAKE_ROWS, limit=limit)
            took_s = time.monotonic() - began_s
            self._count += taken
            ((self._values["copied"],),) = self._connection.execute(NEWEST)
            if taken < limit:
                return
            if took_s < _SLICE_S / 2:
                limit = min(2 * limit, _MOST_ROWS)
            elif took_s > _SLICE_S:
                limit = max(limit // 2, 1)

    def _take_rest(self, bound: int) -> None:
        """Have exactly the rows below the bound, as they are at this moment."""
        self._values["bound"] = bound
        for removal in self._connection.execute(REMOVALS, self._values).fetchall():
            self._count -= self._connection.execute(REMOVE, removal).rowcount
        self._execute(TAKE_UPDATES)
        self._count += self._execute(TAKE_REST)
        self._count -= self._execute(REMOVE_BEYOND)

    def _finish(self, statements: tuple[str, ...], **values: object) -> None:
        """Take over all but the rows."""
        ((newest,),) = self._connection.execute(NEWEST)
        self._values.update(values, count=self._count, newest=newest)
        for statement in statements:
            self._execute(statement)

    @contextlib.contextmanager
    def _moment(self) -> Iterator[_Look]:
        self._connection.execute("BEGIN")
        yield self._look()
        self._connection.execute("COMMIT")
        self._pause()

    def _look(self) -> _Look:
        session_id, created_at, *rest = self._connection.execute(STATE).fetchone()
        if (session_id, created_at) != (self._origin.session_id, self._origin.created_at):
            raise vanished(self._origin)
        return _Look(*rest)

    def _refuse_import(self, look: _Look) -> None:
        if look.state == "importing":
            session_id = self._origin.session_id
            raise SessionBusyError(
                f"session {session_id!r} is being imported; fork it when that is finished",
                session_id=session_id,
            )

    def _execute(self, statement: str, **values: object) -> int:
        self._values.update(values)
        return self._connection.execute(statement, self._values).rowcount


__all__ = ["Origin", "Takeover", "vanished"]
