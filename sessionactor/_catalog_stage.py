"""What rows come to, found out where they are read; of many new sessions, ready to be copied.

To insert documents row by row hands Python's lock back and forth, and beside a thread that
reads the next ones each row has to wait for it. So whoever reads puts them into a database in
memory, and the catalog copies them from there with a few statements, which hold no lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias
from zlib import crc32

from sessionactor import _catalog_rows as rows
from sessionactor._catalog_events import Wanted
from sessionactor._catalog_words import agent_word, number_of
from sessionactor._changes import StoredRow
from sessionactor._codec import UndecodableError, decode, decode_all
from sessionactor._history import Changes
from sessionactor._terms import SESSION_MARK, index_text, storable
from sessionactor._text import MAX_CHARACTERS, TextOf

MIN_STAGED: Final = 500
"""With fewer documents it does not pay."""

_TABLES: Final = """
    CREATE TABLE docs(number INTEGER PRIMARY KEY, slot, db_id, agent_id, at, text, words, agent);
    CREATE TABLE slots(slot INTEGER PRIMARY KEY, session);
"""
_STAGE: Final = "INSERT INTO docs VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ADOPT: Final = "INSERT INTO stage.slots VALUES (?, ?)"
_COLLIDES: Final = "SELECT 1 FROM stage.docs CROSS JOIN places USING (number) LIMIT 1"
_FROM: Final = "FROM stage.docs CROSS JOIN stage.slots USING (slot) ORDER BY"
_TAKE_IN: Final = (
    f"INSERT INTO places SELECT number, session, db_id {_FROM} number",
    "INSERT INTO words (rowid, text) SELECT number,"
    f" coalesce(words, text) || ' {SESSION_MARK}' || session || ' ' || agent {_FROM} number",
    f"INSERT INTO docs SELECT session, db_id, number, agent_id, at, text {_FROM} session, db_id",
)

_Doc: TypeAlias = tuple[int, int, int, str, int, str]
"""`number, slot, db_id, agent_id, inserted_at, text`."""


class Stage(NamedTuple):
    """Documents in a database of their own, and of which sessions they are."""

    image: bytes
    slots: Mapping[str, int]
    """By the sessions' id parts. All rows that were read of a session are there, or none."""


class Prepared(NamedTuple):
    """What was found out of rows before they are taken in."""

    texts: Mapping[bytes, str]
    """Of encoded messages that are not on the stage."""
    stage: Stage | None


NOTHING: Final = Prepared({}, None)


def prepare(
    wanted: Iterable[Wanted],
    said: Iterable[Changes | None],
    text_of: TextOf,
    min_staged: int = MIN_STAGED,
) -> Prepared:
    """Make ready what the rows of sessions come to, of the first ones that were wanted.

    Fewer rows of new sessions than `min_staged` have no stage.
    """
    sessions: dict[str, list[StoredRow]] = {}
    more: list[StoredRow] = []
    for (part, since), changes in zip(wanted, said, strict=False):
        if changes is None:
            continue
        if since:
            more += changes.inserted
        else:
            sessions[part] = changes.inserted
        more += changes.updated
    if sum(map(len, sessions.values())) < min_staged:
        return Prepared(texts_of([*more, *chain.from_iterable(sessions.values())], text_of), None)
    return Prepared(texts_of(more, text_of), _staged(sessions, text_of))


def _staged(sessions: Mapping[str, Sequence[StoredRow]], text_of: TextOf) -> Stage:
    docs: list[_Doc] = []
    for slot, (part, stored) in enumerate(sessions.items()):
        spread = crc32(part.encode())
        for row, text in zip(stored, _texts([row[2] for row in stored], text_of), strict=True):
            at = rows.time(row[3])
            docs.append((number_of(at, spread), slot, row[0], agent_text(row[1]), at, text))
    docs.sort()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(_TABLES)
        connection.execute("BEGIN")
        connection.executemany(_STAGE, _rising(docs))
        connection.execute("COMMIT")
        image = connection.serialize()
    return Stage(image, {part: slot for slot, part in enumerate(sessions)})


def _rising(docs: Iterable[_Doc]) -> Iterator[tuple[Any, ...]]:
    """Those that have text, each with a number of its own."""
    last = -1
    for number, slot, db_id, agent_id, at, text in docs:
        last = max(number, last + 1)
        if text:
            indexed = index_text(text)
            other = None if indexed is text else indexed
            yield last, slot, db_id, agent_id, at, text, other, agent_word(agent_id)


@contextmanager
def on(stage: Stage | None, connection: sqlite3.Connection) -> Iterator[None]:
    """A catalog with a stage beside it; outside of any transaction."""
    if stage is None:
        yield
        return
    connection.execute("ATTACH ':memory:' AS stage")
    try:
        connection.deserialize(stage.image, name="stage")
        yield
    finally:
        connection.execute("DETACH stage")


def take_in(sessions: Mapping[int, int], cursor: sqlite3.Cursor) -> bool:
    """Copy the documents of slots, as those of sessions; `False`: a number is not free."""
    if cursor.execute(_COLLIDES).fetchone() is not None:
        return False
    cursor.executemany(_ADOPT, sessions.items())
    for statement in _TAKE_IN:
        cursor.execute(statement)
    return True


def texts_of(stored: Sequence[StoredRow], text_of: TextOf) -> dict[bytes, str]:
    """Encoded messages and their texts; what cannot be decoded has none."""
    datas = [row[2] for row in stored]
    return dict(zip(datas, _texts(datas, text_of), strict=True))


def agent_text(agent_id: Any) -> str:
    """An agent's id as the catalog has it."""
    if type(agent_id) is str and agent_id.isascii():
        return agent_id
    return rows.text(agent_id) or ""


def _texts(datas: Sequence[bytes], text_of: TextOf) -> list[str]:
    try:
        messages: Sequence[Mapping[Any, Any] | None] = decode_all(datas)
    except (UndecodableError, TypeError, BufferError):  # one is large, marked or corrupt
        messages = [_decoded(data) for data in datas]
    return [_text(message, text_of) for message in messages]


def _decoded(data: Any) -> Mapping[Any, Any] | None:
    try:
        return decode(data)
    except (UndecodableError, TypeError, ValueError, OverflowError):
        return None


def _text(message: Mapping[Any, Any] | None, text_of: TextOf) -> str:
    if message is None:
        return ""
    try:
        return storable(text_of(message)[:MAX_CHARACTERS])
    except Exception:  # the caller's own function may do anything
        return ""


__all__ = ["NOTHING", "Prepared", "Stage", "agent_text", "on", "prepare", "take_in", "texts_of"]
