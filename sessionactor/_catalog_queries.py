"""Asking the catalog: what runs in the thread of its reading connection, a procedure a hop."""

from __future__ import annotations

import fnmatch
import json
import re
import sqlite3
from collections.abc import Collection
from typing import Any, Final, Literal, NamedTuple

from sessionactor import _cursors as cursors
from sessionactor import _names as names
from sessionactor._catalog_rows import INFO, Here, IsLive, infos
from sessionactor._catalog_words import agent_word, session_word
from sessionactor._changes import StateName
from sessionactor._cursors import Created, Order, Updated
from sessionactor._records import SearchHit, SessionInfo
from sessionactor._terms import fts_query, snippet
from sessionactor._times import from_microseconds

_FEW: Final = 1000
"""So few sessions with a metadata value are sorted; more are walked over in their order."""

_WALK: Final = "SELECT generation, seq FROM catalog"
_SELECT: Final = f"SELECT {INFO} FROM sessions AS s"
_WITH_VALUE: Final = "SELECT session FROM metadata WHERE key = ? AND value IS ? LIMIT ?"
_HAS_VALUE: Final = (
    "EXISTS (SELECT 1 FROM metadata AS m WHERE m.session = s.id AND m.key = ? AND m.value IS ?)"
)
_IN: Final = "(SELECT value FROM json_each(?))"
_BY_CHANGE: Final = " INDEXED BY by_change"
_NUMBER: Final = "SELECT id FROM sessions WHERE part = ?"
# CROSS JOIN: the words first, in their order.
_HITS: Final = (
    "SELECT p.session, p.db_id FROM words CROSS JOIN places AS p ON p.number = words.rowid"
    " CROSS JOIN sessions AS s ON s.id = p.session"
    " WHERE words MATCH ? AND NOT EXISTS (SELECT 1 FROM dead AS x"
    " WHERE x.session = p.session AND p.db_id BETWEEN x.first AND x.last) ORDER BY "
)
_NEWEST: Final = _HITS + "words.rowid DESC"
_RANKED: Final = _HITS + "words.rank"
_HIT: Final = (
    "SELECT s.session_id, s.name, d.db_id, d.agent_id, d.inserted_at, d.text"
    " FROM docs AS d JOIN sessions AS s ON s.id = d.session WHERE d.session = ? AND d.db_id = ?"
)
_CHILDREN: Final = (
    "SELECT s.session_id, s.name, p.db_id FROM parents AS p JOIN sessions AS s ON s.id = p.session"
    " WHERE p.parent = ? ORDER BY p.inserted_at, s.session_id, p.db_id"
)
_METADATA: Final = (
    "SELECT s.session_id, m.key, m.value FROM sessions AS s"
    " LEFT JOIN metadata AS m ON m.session = s.id"
)
_RUNNING: Final = (
    f"{_SELECT} WHERE s.state <> 'idle' AND s.state = 'running'"
    " ORDER BY s.turn_started_at, s.session_id"
)


class Listing(NamedTuple):
    """A page of sessions that is asked for; filters that are `None` let everything pass."""

    order: Order = "updated"
    limit: int = 50
    cursor: str | None = None
    name: str | None = None
    """A glob, as of `fnmatch.fnmatchcase`."""
    state: StateName | None = None
    agent_alias: str | None = None
    channel_id: str | None = None
    room_id: str | None = None
    sender_id: str | None = None
    metadata: tuple[tuple[str, str | None], ...] = ()
    active: bool | None = None
    """Whether it is one of `active_ids`."""
    active_ids: Collection[str] = ()
    updated_after: int | None = None
    updated_before: int | None = None


class Search(NamedTuple):
    """A search that is asked for."""

    query: str
    limit: int = 20
    session_id: str | None = None
    agent_id: str | None = None
    order: Literal["newest", "rank"] = "newest"
    by: Literal["message", "session"] = "message"


class Child(NamedTuple):
    """A row that has a parent."""

    session_id: str
    name: str
    db_id: int


def sessions(
    asked: Listing, here: Here, connection: sqlite3.Connection
) -> tuple[list[SessionInfo], str | None]:
    """A page, and the cursor of the next one.

    Raises:
        InvalidValueError: the cursor is none of this order.
    """
    cursor = None if asked.cursor is None else cursors.decode(asked.cursor, asked.order)
    connection.execute("BEGIN")
    try:
        walk = _Walk(asked, here, connection)
        if asked.order == "created":
            return walk.created(cursor if isinstance(cursor, Created) else None)
        return walk.updated(cursor if isinstance(cursor, Updated) else None)
    finally:
        connection.execute("COMMIT")


class _Where:
    """Conditions, and their values."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self.values: list[Any] = []

    def add(self, condition: str, *values: object) -> None:
        self._conditions.append(condition)
        self.values.extend(values)

    def sql(self, *more: str) -> str:
        conditions = [*self._conditions, *more]
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""


class _Walk:
    """One page of a walk over the sessions that pass the filters."""

    def __init__(self, asked: Listing, here: Here, connection: sqlite3.Connection) -> None:
        self._asked = asked
        self._here = here
        self._connection = connection
        self._where = _filters(asked, here.is_live, connection)

    def created(self, after: Created | None) -> tuple[list[SessionInfo], str | None]:
        found = self._page(
            self._asked.limit,
            [] if after is None else ["(s.created_at, s.session_id) > (?, ?)"],
            after or (),
            "s.created_at, s.session_id",
        )
        page = self._shown(found)
        if len(found) <= self._asked.limit:
            return page, None
        _, session_id, _, created_at, *_ = found[self._asked.limit - 1]
        return page, cursors.encode(Created(created_at, session_id))

    def updated(self, after: Updated | None) -> tuple[list[SessionInfo], str | None]:
        generation, seq = self._connection.execute(_WALK).fetchone()
        if after is None:
            after = Updated(generation, seq, None, 0)
            first = True
        else:
            first = after.last_at is not None
            if after.generation != generation:
                # The catalog was made anew meanwhile: all may have changed, all come again.
                after, first = Updated(generation, 0, None, 0), False
        found = self._unchanged(after) if first else []
        limit = self._asked.limit
        if len(found) > limit:
            number, _, _, _, last_at, *_ = found[limit - 1]
            return self._shown(found), cursors.encode(
                Updated(generation, after.seq, last_at, number)
            )
        start = 0 if first else after.number
        changed = self._page(
            limit - len(found),
            ["s.seq > ?", "s.id > ?"],
            (after.seq, start),
            "s.id",
            _BY_CHANGE,
        )
        page = self._shown([*found, *changed])
        if len(found) + len(changed) <= limit:
            return page, None
        number = changed[limit - len(found) - 1][0] if len(found) < limit else 0
        return page, cursors.encode(Updated(generation, after.seq, None, number))

    def _unchanged(self, after: Updated) -> list[Any]:
        """One row more than a page of those that are where they were when the walk began."""
        conditions, values = ["s.seq <= ?"], [after.seq]
        if after.last_at is not None:
            conditions.append("(s.last_at, s.id) < (?, ?)")
            values += [after.last_at, after.number]
        return self._page(self._asked.limit, conditions, values, "s.last_at DESC, s.id DESC")

    def _page(
        self, limit: int, more: list[str], values: Collection[object], order: str, by: str = ""
    ) -> list[Any]:
        return self._connection.execute(
            f"{_SELECT}{by}{self._where.sql(*more)} ORDER BY {order} LIMIT ?",
            (*self._where.values, *values, limit + 1),
        ).fetchall()

    def _shown(self, found: list[Any]) -> list[SessionInfo]:
        return infos(found[: self._asked.limit], self._here)


def _filters(asked: Listing, is_live: IsLive, connection: sqlite3.Connection) -> _Where:
    where = _Where()
    for column in ("agent_alias", "channel_id", "room_id", "sender_id"):
        value = getattr(asked, column)
        if value is not None:
            where.add(f"s.{column} = ?", value)
    if asked.updated_after is not None:
        where.add("s.last_at > ?", asked.updated_after)
    if asked.updated_before is not None:
        where.add("s.last_at < ?", asked.updated_before)
    if asked.active is not None:
        parts = json.dumps([names.id_part(session_id) for session_id in asked.active_ids])
        where.add(f"s.part {'IN' if asked.active else 'NOT IN'} {_IN}", parts)
    if asked.state is not None:
        _add_state(asked.state, where, is_live, connection)
    _add_metadata(asked.metadata, where, connection)
    if asked.name is not None:
        _add_glob(asked.name, where, connection)
    return where


def _add_state(
    state: StateName, where: _Where, is_live: IsLive, connection: sqlite3.Connection
) -> None:
    if state == "idle":
        where.add("s.state = 'idle'")
        return
    where.add("s.state <> 'idle'")  # as the index says it
    if state in ("running", "interrupted"):
        connection.create_function("is_live", 2, is_live)
    if state == "running":
        where.add("s.state = 'running' AND is_live(s.session_id, s.token)")
    elif state == "interrupted":
        where.add(
            "s.state IN ('running', 'interrupted')"
            " AND (s.state = 'interrupted' OR NOT is_live(s.session_id, s.token))"
        )
    else:
        where.add("s.state = ?", state)


def _add_metadata(
    metadata: Collection[tuple[str, str | None]], where: _Where, connection: sqlite3.Connection
) -> None:
    for key, value in metadata:
        found = connection.execute(_WITH_VALUE, (key, value, _FEW + 1)).fetchall()
        if len(found) <= _FEW:
            where.add(f"s.id IN {_IN}", json.dumps([number for (number,) in found]))
        else:
            where.add(_HAS_VALUE, key, value)


def _add_glob(pattern: str, where: _Where, connection: sqlite3.Connection) -> None:
    # Python's own, because SQLite's GLOB is another language. What it begins with is cheap.
    prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    if prefix:
        where.add("substr(s.name, 1, ?) = ?", len(prefix), prefix)
    match = re.compile(fnmatch.translate(pattern)).match
    connection.create_function("matches", 1, lambda name: match(name) is not None)
    where.add("matches(s.name)")


def metadata(
    session_ids: Collection[str] | None, asked: Listing, connection: sqlite3.Connection
) -> dict[str, dict[str, str | None]]:
    """All metadata of each session that passes the filters, and is one of these if given."""
    where = _filters(asked, lambda session_id, token: False, connection)
    if session_ids is not None:
        parts = json.dumps([names.id_part(session_id) for session_id in session_ids])
        where.add(f"s.part IN {_IN}", parts)
    found: dict[str, dict[str, str | None]] = {}
    for session_id, key, value in connection.execute(_METADATA + where.sql(), where.values):
        of_session = found.setdefault(session_id, {})
        if key is not None:
            of_session[key] = value
    return found


def running(here: Here, connection: sqlite3.Connection) -> list[SessionInfo]:
    """The sessions that run now, the longest running first."""
    found = infos(connection.execute(_RUNNING).fetchall(), here)
    return [info for info in found if info.state == "running"]


def search(asked: Search, connection: sqlite3.Connection) -> list[SearchHit]:
    """The hits of a search: the newest or the best ones first, as many as are asked for."""
    expression = fts_query(asked.query)
    if expression is None:
        return []
    if asked.session_id is not None:
        part = names.id_part(asked.session_id)
        found = connection.execute(_NUMBER, (part,)).fetchone()
        if found is None:
            return []
        expression += f' "{session_word(found[0])}"'
    if asked.agent_id is not None:
        expression += f' "{agent_word(asked.agent_id)}"'
    hits = []
    seen: set[int] = set()
    for session, db_id in connection.execute(
        _NEWEST if asked.order == "newest" else _RANKED, (expression,)
    ):
        if asked.by == "session" and session in seen:
            continue
        session_id, name, db_id, agent_id, at, text = connection.execute(
            _HIT, (session, db_id)
        ).fetchone()
        if asked.agent_id is not None and agent_id != asked.agent_id:
            continue  # another agent of the same word
        seen.add(session)
        shown = snippet(text, asked.query)
        hits.append(SearchHit(session_id, name, db_id, agent_id, from_microseconds(at), shown))
        if len(hits) == asked.limit:
            break
    return hits


def children(parent: str, connection: sqlite3.Connection) -> list[Child]:
    """The rows whose parent that is, in the order of their times."""
    return [Child._make(found) for found in connection.execute(_CHILDREN, (parent,))]


__all__ = [
    "Child",
    "IsLive",
    "Listing",
    "Search",
    "children",
    "metadata",
    "running",
    "search",
    "sessions",
]
