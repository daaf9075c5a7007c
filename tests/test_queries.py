from __future__ import annotations

import asyncio
import os
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessionactor import Session, SessionRegistry
from sessionactor import _dumping as dumping
from sessionactor import _inserting as inserting
from sessionactor import _loading as loading
from sessionactor import _reading as reading
from sessionactor import _sql as sql

HELLO = {"role": "user", "content": "hello"}
SUMMARY = {"role": "summary"}

QUERIES: dict[str, str] = {
    name: text
    for room in (sql, loading, reading, dumping)
    for name, text in vars(room).items()
    if isinstance(text, str)
    and text.split()[:1] in (["SELECT"], ["INSERT"], ["UPDATE"], ["DELETE"])
}
QUERIES |= {f"SET_CONTEXT {field}": text for field, text in sql.SET_CONTEXT.items()}
SEVERAL = {f"INSERT {count}": text for count, text in inserting.INSERT.items()}
SEVERAL |= {f"INSERT {count} PLAIN": text for count, text in inserting.INSERT_PLAIN.items()}
SEVERAL |= {f"INSERT {count} KEYED": text for count, text in inserting.INSERT_KEYED.items()}
QUERIES |= SEVERAL
ONE_END = {"HEAD", "SOUND", "REMOVED_AT", "STATE", "IDENTITY", "CHANGED_AT"}
"""They read one row, at the end of a table or of a table of one row."""
ALL = {"METADATA", "MERGED", "ALL_METADATA", "ALL_TURNS", "ALL_REMOVALS"}
"""They are meant to read all, or pick from metadata, which is a few pairs."""
OPEN = {"OPEN_TURNS", "INTERRUPT_TURNS"}
"""What they scan is an index of open turns, at most one for each agent."""
GIVEN = {*SEVERAL, "FILE", "SOME_ROWS"}
"""What they scan are the rows they are given, or what SQLite says of itself; no table."""
EXEMPT = ONE_END | ALL | OPEN | GIVEN
SORTED = {"MERGED"}
"""They sort a few pairs."""


class SomeValue(dict[str, Any]):
    """A value for every parameter: a message's id, or an agent."""

    def __missing__(self, name: str) -> Any:
        texts = {"agent_id": "b", "turn": "t", "first": "k"}
        return {**texts, "limit": 10, "after": 0, "skip": 5}.get(name, 50)


def values(text: str) -> Any:
    numbered = {int(number) for number in re.findall(r"\?(\d+)", text)}
    count = max(numbered) if numbered else text.count("?")
    return (7,) * count if count else SomeValue()


async def filled(path: Path, rows: int) -> Path:
    """A session file of so many rows, with all that a session can have."""
    async with SessionRegistry(path) as registry:
        session = await registry.start("a", name="n")
        keys = [f"k{n}" for n in range(rows)]
        await session.extend("a", [HELLO] * rows, keys=keys)
        for _ in range(5):
            await session.append("a", SUMMARY)
            await session.append("b", SUMMARY, keep_from=2)
            await session.extend("b", [HELLO] * 20)
        for turn in range(10):
            await session.extend("b", [HELLO] * 4, turn=f"t{turn}")
            await session.update_last(HELLO)
            async with session.turn(f"u{turn}", agent_id="a") as opened:
                await opened.append(HELLO)
            await session.remove_last()
        await session.append("a", HELLO)
        for cut in range(10):
            await session.truncate_from(await session.append("a", HELLO))
            await session.save_metadata({f"m{cut}": "v"})
    return path / "a_n.db"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with ThreadPoolExecutor() as threads:  # for an event loop of its own
        return threads.submit(asyncio.run, filled(tmp_path_factory.mktemp("plans"), 2000)).result()


@pytest.fixture
def connection(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as opened:
        for statement in inserting.KEYED:
            opened.execute(statement)
        yield opened


def plan(connection: sqlite3.Connection, text: str) -> str:
    rows = connection.execute(f"EXPLAIN QUERY PLAN {text}", values(text)).fetchall()
    return "; ".join(row[3] for row in rows)


def test_every_query_is_known_to_these_tests() -> None:
    assert len(QUERIES) > 40
    assert set(QUERIES) >= EXEMPT | SORTED


@pytest.mark.parametrize("name", QUERIES)
def test_no_query_scans_a_table_or_sorts(connection: sqlite3.Connection, name: str) -> None:
    found = plan(connection, QUERIES[name])
    if name not in SORTED:
        assert "TEMP B-TREE" not in found
    if name not in EXEMPT:
        assert "SCAN" not in found


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("NEWEST_CHECKPOINT", "INDEX checkpoints (id<?)"),
        ("NEWEST_CHECKPOINT_OF_AGENT", "INDEX agent_checkpoints (agent_id=? AND id<?)"),
        ("CHECKPOINT_AT", "(rowid=?)"),
        ("ROW", "INTEGER PRIMARY KEY (rowid=?)"),
        ("ROWS", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("NEWEST_ROWS", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("NTH_NEWEST", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("REMOVE", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("UPDATE", "INTEGER PRIMARY KEY (rowid=?)"),
        ("TURN_ROWS", "COVERING INDEX turn_rows (turn=? AND id>?)"),
        ("TURN_START", "INDEX turn_rows (turn=? AND id>?)"),
        ("ROWS_OF_TURN", "INDEX turn_rows (turn=?)"),
        ("TURNS_BETWEEN", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("NEWEST_TURNS", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("IS_CLOSED", "PRIMARY KEY (turn=?)"),
        ("OPEN_TURNS", "INDEX open_turns"),
        ("INTERRUPT_TURNS", "INDEX open_turns"),
        ("EXISTS", "INTEGER PRIMARY KEY (rowid=?)"),
        ("INSERTED_FROM", "INTEGER PRIMARY KEY (rowid>?)"),
        ("INSERTED_ROWS", "INTEGER PRIMARY KEY (rowid>?)"),
        ("UPDATED_ROWS", "INDEX updates (revision>?)"),
        ("UPDATED_AT", "INDEX updates"),
        ("REMOVALS", "INDEX removals_by_revision (revision>? AND revision<?)"),
        ("KEYS", "PRIMARY KEY (key>?)"),
        ("COUNT", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("NEWEST_BELOW", "INTEGER PRIMARY KEY (rowid<?)"),
        ("KEY", "PRIMARY KEY (key=?)"),
    ],
)
def test_a_query_goes_by_its_index(connection: sqlite3.Connection, name: str, way: str) -> None:
    assert way in plan(connection, QUERIES[name])


def steps(connection: sqlite3.Connection, text: str, parameters: Any) -> int:
    """How many instructions SQLite's machine carries out for a query."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_progress_handler(step, 1)
    connection.execute(text, parameters).fetchall()
    connection.set_progress_handler(None, 1)
    return count


async def test_the_work_of_a_query_does_not_grow_with_the_history(tmp_path: Path) -> None:
    work: dict[str, list[int]] = {}
    for rows in (100, 10_000):
        with closing(sqlite3.connect(await filled(tmp_path / str(rows), rows))) as connection:
            (newest,) = connection.execute("SELECT max(id) FROM messages").fetchone()
            near_the_end: dict[str, Any] = {
                "agent_id": "b",
                "stop": newest,
                "cursor": newest - 10,
                "after": newest - 15,
                "before": newest + 1,
                "without": None,
                "limit": 10,
                "skip": 5,
                "turn": "t9",
                "first": "k0",
                "latest": 2**62,
            }
            given: dict[str, tuple[Any, ...]] = {
                "KEY": (f"k{rows // 2}",),
                "COUNT": (newest - 5, newest),
                "NEWEST_OF_AGENT_BELOW": (newest, "b"),
                "IS_CLOSED": ("u9",),
                "TURN_ROWS": ("t9", newest - 20),
                "ROWS_OF_TURN": ("t9",),
                "TURNS_BETWEEN": (newest - 20, newest),
                "INSERTED_ROWS": (newest - 10, 5),
                "UPDATED_ROWS": (0, 10),
                "REMOVALS": (0, 1000),
                "KEYS": ("k", 10),
                "WHOLE_ROWS": (newest - 20, newest, 10),
                "MERGED": (0, 1000),
            }
            for name, text in QUERIES.items():
                if text.startswith("SELECT"):
                    near = given.get(name, (newest,) * text.count("?"))
                    done = steps(connection, text, near or near_the_end)
                    work.setdefault(name, []).append(done)
            for name in ("NEWEST_CHECKPOINT_OF_AGENT", "NEWEST_CHECKPOINT"):
                nobody = {**near_the_end, "agent_id": "nobody", "stop": 1}
                done = steps(connection, QUERIES[name], nobody)
                work.setdefault(f"{name} where there is none", []).append(done)
    assert len(work) > 25
    assert {name: counts for name, counts in work.items() if counts[0] != counts[1]} == {}


# thread hops


class Hops:
    """Counts the answers that come to the loop from other threads: one for each hop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._count = 0
        loop = asyncio.get_running_loop()
        real = loop.call_soon_threadsafe

        def counting(*arguments: Any, **more: Any) -> Any:
            self._count += 1
            return real(*arguments, **more)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)

    async def of(self, call: Awaitable[Any]) -> int:
        before = self._count
        await call
        return self._count - before


async def batch(session: Session) -> None:
    async with session.batch() as collected:
        collected.append("a", HELLO, key="in a batch")
        collected.save_metadata({"n": 1})
        collected.truncate_from(400)
        collected.extend("a", [HELLO] * 10)


ONE_HOP: dict[str, Callable[[Session], Awaitable[Any]]] = {
    "append": lambda s: s.append("a", HELLO),
    "append with everything": lambda s: s.append(
        "a", SUMMARY, key="k", keep_from=1, parent=1, turn="t", expected_head=300
    ),
    "extend": lambda s: s.extend("a", [HELLO] * 1000, keys=map(str, range(1000))),
    "batch": batch,
    "truncate_from": lambda s: s.truncate_from(7),
    "truncate_from, whole turns": lambda s: s.truncate_from(7, whole_turns=True),
    "update": lambda s: s.update(7, HELLO),
    "update_last": lambda s: s.update_last(HELLO, agent_id="a"),
    "remove": lambda s: s.remove(range(1, 300, 2)),
    "remove_last": lambda s: s.remove_last(agent_id="a"),
    "clear": lambda s: s.clear(),
    "set_agent_alias": lambda s: s.set_agent_alias("alias"),
    "set_context": lambda s: s.set_context(room_id="r", sender_id="s"),
    "set_state": lambda s: s.set_state("running", "t"),
    "opening a turn": lambda s: s.turn(agent_id="a").__aenter__(),
    "leaving a turn": lambda s: s.turn(agent_id="a").__aexit__(None, None, None),
    "discard_turn": lambda s: s.discard_turn("t"),
    "finish_turn": lambda s: s.finish_turn("t"),
    "interrupted_turn": lambda s: s.interrupted_turn(),
    "head": lambda s: s.head(agent_id="a"),
    "newest whole turns": lambda s: s.messages(limit=99, newest=True, whole_turns=True),
    "save_metadata": lambda s: s.save_metadata({"n": 1}),
    "get_metadata": lambda s: s.get_metadata(),
    "get": lambda s: s.get(1),
    "get by key": lambda s: s.get(key="k"),
    "messages": lambda s: s.messages(),
    "newest messages": lambda s: s.messages(limit=100, newest=True, agent_id="a"),
    "latest chapter": lambda s: s.messages_from_latest_checkpoint(),
    "latest chapter of an agent": lambda s: s.messages_from_latest_checkpoint(agent_id="a"),
    "chapter before": lambda s: s.messages_before_checkpoint(200),
}


@pytest.mark.parametrize("call", ONE_HOP.values(), ids=ONE_HOP)
async def test_a_call_is_one_thread_hop(
    place: Path | None,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Session], Awaitable[Any]],
) -> None:
    async with SessionRegistry(place, catalog=False) as registry:
        session = await registry.start("s")
        await session.extend("a", [*[HELLO] * 99, SUMMARY] * 3)
        hops = Hops(monkeypatch)
        assert await hops.of(call(session)) == 1
        monkeypatch.undo()


async def test_a_hot_chapter_and_what_a_session_is_are_no_hop_at_all(
    place: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(place, catalog=False) as registry:
        session = await registry.start("s")
        await session.extend("a", [*[HELLO] * 99, SUMMARY, *[HELLO] * 50])
        await session.messages_from_latest_checkpoint()
        await session.append("a", HELLO)
        hops = Hops(monkeypatch)
        assert await hops.of(session.messages_from_latest_checkpoint()) == 0
        assert await hops.of(session.info()) == await hops.of(session.revision()) == 0
        monkeypatch.undo()


async def test_the_newest_rows_are_no_hop_when_they_are_read_again(
    place: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(place, catalog=False) as registry:
        session = await registry.start("s")
        await session.extend("a", [HELLO] * 200)
        await session.messages(limit=20, newest=True)
        for _ in range(3):  # as an agent loop does
            await session.extend("a", [HELLO] * 30)
            hops = Hops(monkeypatch)
            assert await hops.of(session.messages(limit=20, newest=True)) == 0
            assert await hops.of(session.head()) == 0
            monkeypatch.undo()


async def test_what_is_kept_of_the_newest_rows_is_what_was_read_and_not_too_large(
    place: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(place, catalog=False) as registry:
        session = await registry.start("s")
        await session.append("a", SUMMARY)
        await session.messages_from_latest_checkpoint()
        await session.messages(limit=5, newest=True)
        await session.extend("a", [HELLO] * 500)
        hops = Hops(monkeypatch)
        assert await hops.of(session.messages_from_latest_checkpoint()) == 0
        assert await hops.of(session.messages(limit=5, newest=True)) == 0
        monkeypatch.undo()
        await session.append("a", {"text": "x" * 300_000})
        hops = Hops(monkeypatch)
        assert await hops.of(session.messages_from_latest_checkpoint()) == 1
        assert await hops.of(session.messages_from_latest_checkpoint()) == 1
        monkeypatch.undo()


async def test_a_commit_group_is_one_hop(
    place: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(place, catalog=False) as registry:
        session = await registry.start("s")
        hops = Hops(monkeypatch)
        count = await hops.of(asyncio.gather(*(session.append("a", HELLO) for _ in range(500))))
        assert count == registry.statistics().commits < 10
        monkeypatch.undo()


async def test_creating_and_opening_a_session_are_one_hop_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(tmp_path, catalog=False):
        pass
    os.utime(tmp_path, (0, 0))  # nobody changed it lately, so creating does not list it again
    async with SessionRegistry(tmp_path, catalog=False) as registry:
        hops = Hops(monkeypatch)
        assert await hops.of(registry.start("s")) == 1
        assert await hops.of(registry.start("s")) == 0
        await registry.stop("s")
        assert await hops.of(registry.start("s")) == 1
        await registry.stop("s")
        assert await hops.of(registry.session("s").append("a", HELLO)) == 2  # open, append
        monkeypatch.undo()


async def test_opening_what_an_earlier_registry_created_is_one_hop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(tmp_path, catalog=False) as registry:
        await registry.start("s")
    async with SessionRegistry(tmp_path, catalog=False) as registry:
        hops = Hops(monkeypatch)
        assert await hops.of(registry.start("s")) == 1
        monkeypatch.undo()
