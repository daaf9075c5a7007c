"""Feeding the catalog: what runs in its own thread, a procedure and a transaction a hop."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from sessionactor._catalog_docs import purge
from sessionactor._catalog_events import Event, Listed, Wanted, part_of
from sessionactor._catalog_stage import NOTHING, Prepared, on
from sessionactor._catalog_writing import Writing
from sessionactor._history import Changes
from sessionactor._text import TextOf

_REVISIONS: Final = (
    "SELECT part, revision FROM sessions WHERE part IN (SELECT value FROM json_each(?))"
)
_ENTRIES: Final = "SELECT part, entry, stale FROM sessions"
_MARK: Final = "UPDATE sessions SET stale = 1 WHERE part = ?"
_HAS_DEAD: Final = "SELECT 1 FROM dead LIMIT 1"


class Fed(NamedTuple):
    """What taking in came to."""

    behind: list[str]
    """Sessions that have to be read from their files."""
    has_dead: bool
    """Whether there is something to purge."""


def feed(
    text_of: TextOf,
    exists: Callable[[str], bool],
    events: Sequence[Event],
    connection: sqlite3.Connection,
) -> Fed:
    """Take in what happened."""
    behind: dict[str, None] = {}
    with _writing(text_of, NOTHING, exists, connection) as writing:
        for event in events:
            if not writing.follow(event):
                behind[part_of(event)] = None
        return Fed(list(behind), writing.cursor.execute(_HAS_DEAD).fetchone() is not None)


def refill(
    text_of: TextOf,
    exists: Callable[[str], bool],
    found: Sequence[tuple[Wanted, Changes]],
    prepared: Prepared,
    connection: sqlite3.Connection,
) -> list[int]:
    """Take in what files say; the revision of each session that the catalog has then.

    Where that is not the one that was wanted, others were quicker, or the file was replaced.
    """
    with on(prepared.stage, connection), _writing(text_of, prepared, exists, connection) as writing:
        return [writing.refill(wanted, changes) for wanted, changes in found]


def reconcile(
    exists: Callable[[str], bool], listing: Mapping[str, Listed], connection: sqlite3.Connection
) -> list[str]:
    """Compare with a directory: remove what it has not, and tell what has to be read."""
    wanted, marked, missing = compare(exists, listing, connection)
    if missing or marked:
        with _writing(_no_text, NOTHING, exists, connection) as writing:
            # Reading a file closes it: it is remembered that what it said is not in yet.
            writing.cursor.executemany(_MARK, [(part,) for part in marked])
            for part in missing:
                writing.drop_part(part)
    return sorted(wanted)


class Compared(NamedTuple):
    """How a catalog differs from a directory; id parts."""

    wanted: set[str]
    """To be read."""
    marked: list[str]
    """Those of them that are in the catalog."""
    missing: list[str]
    """In the catalog, but not in the directory."""


def compare(
    exists: Callable[[str], bool], listing: Mapping[str, Listed], connection: sqlite3.Connection
) -> Compared:
    """Compare with a directory; changes nothing."""
    known = connection.execute(_ENTRIES).fetchall()
    entries = {part: entry for part, entry, _ in known}
    wanted = {part for part, _, stale in known if stale and part in listing}
    for part, (entry, left_open) in listing.items():
        if left_open or entries.get(part) != entry:
            wanted.add(part)
    return Compared(
        wanted,
        [part for part in wanted if part in entries],
        [part for part in entries if part not in listing and not exists(entries[part])],
    )


def missing(
    exists: Callable[[str], bool], parts: Collection[str], connection: sqlite3.Connection
) -> None:
    """Forget sessions that have no file, if that is so."""
    with _writing(_no_text, NOTHING, exists, connection) as writing:
        for part in parts:
            writing.drop_part(part)


def revisions(parts: Collection[str], connection: sqlite3.Connection) -> dict[str, int]:
    """Which revisions of sessions the catalog has."""
    return dict(connection.execute(_REVISIONS, (json.dumps(list(parts)),)).fetchall())


def purge_some(limit: int, connection: sqlite3.Connection) -> bool:
    """Remove a part of what nothing refers to; whether there was any."""
    with _transaction(connection) as cursor:
        return purge(limit, cursor)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    try:
        yield cursor
        cursor.execute("COMMIT")
    finally:
        if connection.in_transaction:
            cursor.execute("ROLLBACK")


@contextlib.contextmanager
def _writing(
    text_of: TextOf,
    prepared: Prepared,
    exists: Callable[[str], bool],
    connection: sqlite3.Connection,
) -> Iterator[Writing]:
    with _transaction(connection) as cursor:
        writing = Writing(text_of, prepared, exists, cursor)
        yield writing
        writing.finish()


def _no_text(message: object) -> str:
    return ""


__all__ = [
    "Compared",
    "Fed",
    "compare",
    "feed",
    "missing",
    "purge_some",
    "reconcile",
    "refill",
    "revisions",
]
