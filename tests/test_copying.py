"""Copies of a session that changes all the while are the session as it was at one moment."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from sessionactor import _copying as copying
from sessionactor import _files as files
from sessionactor import _loading as loading
from sessionactor import _paging as paging
from sessionactor import _schema as schema
from sessionactor import _takeover as takeover
from sessionactor._changes import InsertRows, RemoveRows, UpdateRow
from sessionactor._content import Content
from sessionactor._reading import read_changes
from sessionactor._requests import (
    MAX_ID,
    Append,
    Begin,
    Clear,
    End,
    Operation,
    Remove,
    RemoveLast,
    SaveMetadata,
    SetContext,
    SetState,
    Truncate,
    Update,
    Write,
)
from sessionactor._takeover import Origin

TABLES = ("messages", "keys", "turns", "removals", "metadata", "session")
IDS = st.integers(1, 8) | st.integers(1, 20)
TURNS = st.sampled_from(["t1", "t2", "t3"])
AGENTS = st.sampled_from(["a", "b"])
DATA = st.binary(min_size=1, max_size=4).map(lambda data: b"\xc4" + bytes([len(data)]) + data)
OPERATIONS: st.SearchStrategy[Operation] = st.one_of(
    st.builds(
        Append,
        AGENTS,
        DATA,
        checkpoint=st.booleans(),
        key=st.none() | st.integers(0, 9).map(str),
        parent=st.sampled_from([None, "origin/1", "origin/3", "other/1"]),
        turn=st.none() | TURNS,
    ),
    st.builds(Append, AGENTS, DATA, turn=st.none() | TURNS),
    st.builds(Append, AGENTS, DATA, turn=TURNS),
    st.builds(Append, AGENTS, DATA),
    st.builds(Update, st.none() | IDS, DATA),
    st.builds(Update, IDS, DATA),
    st.builds(Update, IDS, DATA),
    st.builds(Truncate, IDS, st.booleans()),
    st.builds(Remove, st.lists(IDS, max_size=4).map(tuple)),
    st.just(RemoveLast()),
    st.just(Clear()),
    st.builds(SaveMetadata, st.tuples(st.tuples(st.sampled_from("xyz"), st.text("v", max_size=3)))),
    st.just(SetContext((("room_id", "r"),))),
    st.builds(SetState, st.sampled_from(["idle", "running", "error"]), st.none() | TURNS),
    st.builds(Begin, TURNS, AGENTS),
    st.builds(End, TURNS, st.booleans()),
)
GROUPS = st.lists(st.lists(OPERATIONS, min_size=1, max_size=4), max_size=8)
MEANWHILE = st.lists(st.lists(OPERATIONS, min_size=1, max_size=4), min_size=3, max_size=12)


class Kept(NamedTuple):
    """All that a file holds."""

    messages: list[Any]
    keys: list[Any]
    turns: list[Any]
    removals: list[Any]
    metadata: list[Any]
    session: list[Any]
    revision: int
    high_water: int


def kept(path: Path) -> Kept:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [
            [dict(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in TABLES
        ]
        connection.row_factory = None
        state = loading.load(connection).state
        assert state.message_count == len(tables[0])
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        return Kept(*tables, revision=state.revision, high_water=state.high_water)


class Living:
    """A session that somebody writes to."""

    def __init__(self, path: Path, groups: list[list[Operation]]) -> None:
        self.path = path
        self.time = 1_000
        files.write(schema.as_wal(schema.image("origin", "n", self.time)), path)
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA synchronous = OFF")
        self.content = Content("origin", loading.load(self.connection), "token", self.clock)
        for turn in (None, "t1", None, "t1", "t2", "t1", None, "t2", None):
            self.write([Append("a", b"\xc0", turn=turn)])
        for operations in groups:
            self.write(operations)

    def clock(self) -> int:
        self.time += 1
        return self.time

    def write(self, operations: list[Operation]) -> None:
        group = [Write((operation,)) for operation in operations]
        if len(operations) == 2:
            group = [Write(tuple(operations))]
        self.content.follow(self.content.commit(group, self.connection))

    def origin(self, **settings: Any) -> Origin:
        return Origin("origin", 1_000, self.path, **settings)

    def changing(self, meanwhile: list[list[Operation]]) -> tuple[Callable[[], bool], list[Kept]]:
        """Change whenever the copy looks up; and what there was before each change."""
        moments: list[Kept] = []
        changes = iter(meanwhile)

        def look_up() -> bool:
            moments.append(kept(self.path))
            self.write(next(changes, [Append("z", b"\xc0")]))
            return False

        return look_up, moments


@contextmanager
def living(groups: list[list[Operation]]) -> Iterator[Living]:
    with tempfile.TemporaryDirectory() as place, slices():
        session = Living(Path(place) / "origin_n.db", groups)
        with closing(session.connection):
            yield session


@contextmanager
def slices() -> Iterator[None]:
    with patch.object(takeover, "_FEWEST_ROWS", 3), patch.object(takeover, "_MOST_ROWS", 3):
        yield


def fork_of(session: Living, now: int, look_up: Callable[[], bool], **settings: Any) -> Kept:
    path = session.path.with_name("new_m.db")
    image = schema.image("new", "m", now)
    copying.fork_file(image, session.origin(**settings), now, look_up, path)
    return kept(path)


@settings(max_examples=200)
@given(GROUPS, MEANWHILE)
def test_a_backup_is_the_session_at_one_moment(
    groups: list[list[Operation]], meanwhile: list[list[Operation]]
) -> None:
    with living(groups) as session:
        look_up, moments = session.changing(meanwhile)
        target = session.path.with_name("backup")
        copying.back_up(session.origin(), target, look_up)
        # The last look up comes when it is done.
        (moment,) = moments[-1].session
        moment["token"] = None
        assert kept(target) == moments[-1]


@settings(max_examples=200)
@given(GROUPS, MEANWHILE, st.none() | st.integers(-1, 40), st.booleans())
def test_a_fork_is_a_prefix_of_the_session_at_one_moment(
    groups: list[list[Operation]],
    meanwhile: list[list[Operation]],
    before: int | None,
    whole_turns: bool,
) -> None:
    with living(groups) as session:
        look_up, moments = session.changing(meanwhile)
        now = 10_000
        fork = fork_of(session, now, look_up, before=before, whole_turns=whole_turns)
        origin = moments[-1]
        end = origin.high_water + 1
        bound = max(1, end if before is None else min(before, end))
        if whole_turns:
            bound = lowered(origin.messages, bound)
        taken = [row for row in origin.messages if row["id"] < bound]
        assert fork.messages == [{**row, "parent": renamed(row)} for row in taken]
        assert fork.high_water == bound - 1
        assert fork.revision == origin.revision + 1
        assert fork.keys == [key for key in origin.keys if key["message_id"] < bound]
        assert fork.metadata == origin.metadata
        assert {turn["turn"] for turn in fork.turns} == {
            turn["turn"]
            for turn in origin.turns
            if any(row["turn"] == turn["turn"] for row in taken)
            or (bound == end and turn["closed_at"] is not None)
        }
        assert all(turn["closed_at"] is not None for turn in fork.turns)
        ((one,), (other,)) = fork.session, origin.session
        assert (one["state"], one["turn_id"], one["token"]) == ("idle", None, None)
        assert one["room_id"] == other["room_id"]
        newest = taken[-1]["id"] if taken else 0
        assert (one["session_id"], one["name"], one["parent"]) == ("new", "m", f"origin/{newest}")
        assert one["created_at"] == one["last_at"] == now


def lowered(rows: list[Any], bound: int) -> int:
    while True:
        turns = {row["turn"] for row in rows if row["id"] >= bound and row["turn"] is not None}
        across = [row["id"] for row in rows if row["id"] < bound and row["turn"] in turns]
        if not across:
            return bound
        bound = min(across)


def renamed(row: Any) -> str | None:
    parent: str | None = row["parent"]
    if parent is not None and parent.startswith("origin/"):
        db_id = parent.removeprefix("origin/")
        if int(db_id) < row["id"]:
            return f"new/{db_id}"
    return parent


@given(GROUPS, st.integers(1, 30), st.booleans())
def test_who_follows_the_session_can_go_on_with_the_fork(
    groups: list[list[Operation]], before: int, from_the_beginning: bool
) -> None:
    with living(groups) as session:
        since = 0 if from_the_beginning else session.content.info.revision
        known = {} if from_the_beginning else replayed(session.path, 0, {})
        fork_of(session, 10_000, lambda: False, before=before)
        path = session.path.with_name("new_m.db")
        with closing(sqlite3.connect(path)) as connection:
            stored = dict(connection.execute("SELECT id, data FROM messages").fetchall())
        assert replayed(path, since, known) == stored


def replayed(path: Path, since: int, rows: dict[int, Any]) -> dict[int, Any]:
    """The rows that a reader of a session's changes has, who knew these before."""
    with closing(sqlite3.connect(path)) as connection:
        more = True
        while more:
            changes = read_changes(since, 2, connection)
            for _, step in changes.in_order():
                if isinstance(step, InsertRows):
                    rows.update((row[0], row[2]) for row in step.rows)
                elif isinstance(step, UpdateRow):
                    rows[step.row[0]] = step.row[2]
                elif isinstance(step, RemoveRows):
                    last = MAX_ID if step.last_id is None else step.last_id
                    for db_id in [one for one in rows if step.first_id <= one <= last]:
                        del rows[db_id]
            since, more = changes.upto, changes.more
    return rows


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(1, 29), st.integers(0, 9)), max_size=8))
def test_a_bound_that_cuts_no_turn_is_the_highest(bound: int, spans: list[tuple[int, int]]) -> None:
    turns = sorted(
        ((first, first + length) for first, length in spans), key=lambda t: t[1], reverse=True
    )
    found = paging.uncut(bound, turns)

    def cuts(at: int) -> bool:
        return any(first < at <= last for first, last in turns)

    assert found == max(at for at in range(bound + 1) if not cuts(at))
