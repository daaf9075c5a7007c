from __future__ import annotations

import asyncio
import base64
import fnmatch
import json
import re
import sqlite3
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from catalogs import START, Sessions, catalog_of
from hypothesis import given
from hypothesis import strategies as st

from sessionactor import SessionInfo
from sessionactor import _catalog_queries as queries
from sessionactor._catalog import Catalog
from sessionactor._catalog_file import MemoryCatalog
from sessionactor._catalog_queries import Listing
from sessionactor._cursors import Created, Updated, decode, encode
from sessionactor._errors import InvalidValueError


@pytest.fixture(params=["file", "memory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "catalog" if request.param == "file" else None


def ids(infos: list[SessionInfo]) -> list[str]:
    return [info.session_id for info in infos]


async def walk(catalog: Catalog, **asked: Any) -> list[SessionInfo]:
    found, cursor = await catalog.sessions(Listing(**asked))
    while cursor is not None:
        more, cursor = await catalog.sessions(Listing(**asked, cursor=cursor))
        assert more
        found += more
    return found


async def test_a_session_is_listed_as_it_is(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("Ada/1", "my chat")
        sessions.set("Ada/1", agent_alias="a", channel_id="c", room_id="r", sender_id="s")
        sessions.append("Ada/1", "one", "two", "three")
        sessions.remove("Ada/1", 2, 2)
        sessions.run("Ada/1", "ours")
        found, cursor = await catalog.sessions(Listing())
        assert cursor is None
        assert found == [sessions.made["Ada/1"].listed()]
        sessions.rename("Ada/1", "another")
        sessions.run("Ada/1", None)
        found, _ = await catalog.sessions(Listing())
        assert found == [sessions.made["Ada/1"].listed()]


async def test_what_changed_last_comes_first(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        assert await catalog.sessions(Listing()) == ([], None)
        for number in range(10):
            sessions.create(f"s{number}")
        for number in (3, 7, 1):
            sessions.append(f"s{number}", "x")
        expected = ["s1", "s7", "s3", "s9", "s8", "s6", "s5", "s4", "s2", "s0"]
        for limit in (1, 3, 9, 10, 11):
            assert ids(await walk(catalog, limit=limit)) == expected
        _, cursor = await catalog.sessions(Listing(limit=10))
        assert cursor is None


async def test_the_oldest_comes_first_in_the_order_of_creation(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        for number in range(10):
            sessions.create(f"s{number}", created_at=START + number // 4)
        sessions.append("s0", "x")
        for limit in (1, 3, 10, 11):
            found = await walk(catalog, order="created", limit=limit)
            assert ids(found) == [f"s{number}" for number in range(10)]


STEPS = st.lists(st.lists(st.tuples(st.integers(0, 11), st.sampled_from("aadr")), max_size=4))


@given(limit=st.integers(1, 4), between=STEPS, order=st.sampled_from(["updated", "created"]))
def test_a_walk_misses_nothing_that_changes_meanwhile(
    limit: int, between: list[list[tuple[int, str]]], order: Any
) -> None:
    asyncio.run(walk_while_it_changes(limit, between, order))


async def walk_while_it_changes(
    limit: int, between: list[list[tuple[int, str]]], order: Any
) -> None:
    sessions = Sessions()
    async with catalog_of(sessions) as catalog:
        for number in range(8):
            sessions.create(f"s{number}")
        at_first = {session_id: made.listed() for session_id, made in sessions.made.items()}
        changed: set[str] = set()
        replaced: set[str] = set()
        found: list[SessionInfo] = []
        cursor = None
        while True:
            page, cursor = await catalog.sessions(Listing(order=order, limit=limit, cursor=cursor))
            assert page == [sessions.made[session_id].listed() for session_id in ids(page)]
            found += page
            if cursor is None:
                break
            assert len(page) == limit
            for number, action in between.pop(0) if between else []:
                changed.add(f"s{number}")
                if change(sessions, f"s{number}", action):
                    replaced.add(f"s{number}")
    counts = Counter(ids(found))
    there = set(at_first) - replaced  # during all of the walk
    assert there <= set(counts)
    assert [info for info in found if info.session_id not in changed] == sorted(
        (at_first[session_id] for session_id in set(at_first) - changed),
        key=lambda info: info.created_at,
        reverse=order == "updated",
    )
    if order == "created":
        assert {counts[session_id] for session_id in there} <= {1}
    else:  # once more at the end
        # One that was created anew is another session, which is new at the end.
        assert max((counts[session_id] for session_id in there), default=0) <= 2
        assert {session_id for session_id in counts if counts[session_id] == 2} <= changed


def change(sessions: Sessions, session_id: str, action: str) -> bool:
    """Whether it is another session then, or none."""
    if session_id not in sessions.made:
        sessions.create(session_id)
        return True
    if action == "d":
        sessions.delete(session_id)
        return True
    if action == "r":
        sessions.rename(session_id, sessions.made[session_id].info.name + "x")
    elif action == "a":
        sessions.append(session_id, "x")
    return False


async def test_a_walk_ends_while_everything_changes(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        for number in range(12):
            sessions.create(f"s{number}")
        cursor, pages = None, 0
        while True:
            _, cursor = await catalog.sessions(Listing(limit=2, cursor=cursor))
            pages += 1
            for session_id in sessions.made:
                sessions.append(session_id, "x")
            if cursor is None:
                break
        assert pages <= 8


async def test_a_walk_goes_on_in_a_catalog_that_was_made_anew(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        for number in range(10):
            sessions.create(f"s{number}")
        for order in ("updated", "created"):
            found, cursor = await catalog.sessions(Listing(order=order, limit=4))
            await catalog.rebuild()
            while cursor is not None:
                page, cursor = await catalog.sessions(Listing(order=order, limit=4, cursor=cursor))
                found += page
            assert set(ids(found)) == set(sessions.made)
            if order == "created":
                assert len(found) == 10


VALUES = st.sampled_from([None, "a", "b"])
SESSIONS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["x", "xy", "x-1", "X", "[x]"]),
            "agent_alias": VALUES,
            "channel_id": VALUES,
            "room_id": VALUES,
            "sender_id": VALUES,
            "metadata": st.dictionaries(st.sampled_from("kl"), VALUES),
            "token": st.sampled_from([None, "ours", "dead"]),
        }
    ),
    max_size=8,
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x*", "*", "[xX]", "?-?", "x", "[[]x]", "[!x]*"]),
        "state": st.sampled_from(["idle", "running", "error", "interrupted"]),
        "agent_alias": st.sampled_from("ab"),
        "channel_id": st.sampled_from("ab"),
        "room_id": st.sampled_from("ab"),
        "sender_id": st.sampled_from("ab"),
        "metadata": st.dictionaries(st.sampled_from("kl"), VALUES),
        "active": st.booleans(),
        "updated_after": st.integers(START, START + 40),
        "updated_before": st.integers(START, START + 40),
    },
)


@given(made=SESSIONS, filters=FILTERS, order=st.sampled_from(["updated", "created"]))
def test_filters_leave_what_passes_all_of_them(
    made: list[dict[str, Any]], filters: dict[str, Any], order: Any
) -> None:
    asyncio.run(filtered(made, filters, order))


async def filtered(made: list[dict[str, Any]], filters: dict[str, Any], order: Any) -> None:
    sessions = Sessions()
    async with catalog_of(sessions) as catalog:
        for number, wanted in enumerate(made):
            session_id = f"s{number}"
            sessions.create(session_id, wanted["name"])
            context = ("agent_alias", "channel_id", "room_id", "sender_id")
            sessions.set(session_id, **{field: wanted[field] for field in context})
            sessions.merge(session_id, wanted["metadata"])
            if wanted["token"]:
                sessions.run(session_id, wanted["token"])
        active = ["s0", "s3", "none"]
        asked = {**filters, "metadata": tuple(filters.get("metadata", {}).items())}
        found = await walk(catalog, **asked, active_ids=active, order=order, limit=2)

        def passes(session_id: str) -> bool:
            info = sessions.made[session_id].info
            values = sessions.made[session_id].metadata
            state: str = info.state
            if state == "running" and info.token != "ours":
                state = "interrupted"
            return (
                fnmatch.fnmatchcase(info.name, filters.get("name", "*"))
                and filters.get("state", state) == state
                and all(
                    filters.get(field, getattr(info, field)) == getattr(info, field)
                    for field in ("agent_alias", "channel_id", "room_id", "sender_id")
                )
                and all(key in values and values[key] == value for key, value in asked["metadata"])
                and filters.get("active", session_id in active) == (session_id in active)
                and info.last_at > filters.get("updated_after", 0)
                and info.last_at < filters.get("updated_before", 1 << 60)
            )

        expected = [session_id for session_id in sessions.made if passes(session_id)]
        if order == "updated":
            expected.reverse()
        assert ids(found) == expected


@given(st.text("ab[]!-*?^\\.A", max_size=8), st.lists(st.text("ab[]!-^\\.A", min_size=1)))
def test_globs_are_those_of_fnmatch(pattern: str, given_names: list[str]) -> None:
    asyncio.run(globbed(pattern, given_names))


async def globbed(pattern: str, given_names: list[str]) -> None:
    sessions = Sessions()
    async with catalog_of(sessions) as catalog:
        for number, name in enumerate(given_names):
            sessions.create(f"s{number}", name)
        found = await walk(catalog, name=pattern, order="created")
        names = [name for name in given_names if fnmatch.fnmatchcase(name, pattern)]
        assert [info.name for info in found] == names


async def test_metadata_that_many_have_and_that_few_have(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        for number in range(1200):
            sessions.create(f"s{number:04}")
            sessions.merge(f"s{number:04}", {"kind": "many", "rest": str(number % 100)})
        many = await walk(catalog, metadata=(("kind", "many"),), order="created", limit=500)
        assert ids(many) == sorted(sessions.made)
        both = await walk(catalog, metadata=(("kind", "many"), ("rest", "7")), order="created")
        assert ids(both) == [f"s{number:04}" for number in range(7, 1200, 100)]
        assert await walk(catalog, metadata=(("kind", "none"),)) == []


async def test_running_is_what_runs(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        for session_id, token in (("a", "ours"), ("b", "dead"), ("c", None), ("d", "ours")):
            sessions.create(session_id)
            sessions.run(session_id, token)
        assert ids(await catalog.running()) == ["a", "d"]
        states = {info.session_id: info.state for info in await walk(catalog)}
        assert states == {"a": "running", "b": "interrupted", "c": "idle", "d": "running"}


# cursors


async def test_what_is_no_cursor_is_refused(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        for number in range(3):
            sessions.create(f"s{number}")
        _, cursor = await catalog.sessions(Listing(limit=1))
        assert cursor is not None
        assert re.fullmatch(r"[\w-]+", cursor)
        other = "A" if cursor[-2] != "A" else "B"
        for bad in (
            "",
            "x",
            "☃",
            cursor[:-2],
            cursor + "AAAA",
            f"{cursor[:-2]}{other}{cursor[-1]}",
        ):
            with pytest.raises(InvalidValueError, match="cursor"):
                await catalog.sessions(Listing(limit=1, cursor=bad))
        with pytest.raises(InvalidValueError, match="order"):
            await catalog.sessions(Listing(limit=1, cursor=cursor, order="created"))


CURSORS = st.builds(Created, st.integers(-(2**62), 2**62), st.text(st.characters(codec="utf-8")))
CURSORS |= st.builds(
    Updated,
    st.text(st.characters(codec="utf-8")),
    st.integers(0, 2**62),
    st.none() | st.integers(-(2**62), 2**62),
    st.integers(0, 2**62),
)


@given(CURSORS)
def test_cursors_come_back(cursor: Any) -> None:
    order: Any = "created" if isinstance(cursor, Created) else "updated"
    assert decode(encode(cursor), order) == cursor


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_no_text_is_taken_for_a_cursor(text: str) -> None:
    with pytest.raises(InvalidValueError):
        decode(text, "updated")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(st.characters(codec="utf-8")) | st.floats(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.just("a"), inner),
    )
)
def test_no_other_values_are_taken_for_a_cursor(values: Any) -> None:
    data = json.dumps(values).encode()
    text = base64.urlsafe_b64encode(zlib.crc32(data).to_bytes(4, "big") + data).decode()
    for order in ("created", "updated"):
        try:
            cursor = decode(text, order)  # type: ignore[arg-type]
        except InvalidValueError:
            continue
        assert list(cursor) == values


# how it is found


@pytest.mark.parametrize(
    ("asked", "ways"),
    [
        (Listing(), ["by_activity"]),
        (Listing(order="created"), ["by_creation"]),
        (Listing(channel_id="c"), ["by_channel_id"]),
        (Listing(room_id="c"), ["by_room_id"]),
        (Listing(sender_id="c"), ["by_sender_id"]),
        (Listing(agent_alias="c"), ["by_agent_alias"]),
        (Listing(state="error"), ["by_state"]),
        (Listing(updated_after=5), ["by_activity"]),
        (Listing(name="x*"), ["by_activity"]),
    ],
)
async def test_pages_come_from_an_index_without_sorting(asked: Listing, ways: list[str]) -> None:
    sessions = Sessions()
    place = MemoryCatalog()
    async with catalog_of(sessions, place=place) as catalog:
        for number in range(100):
            sessions.create(f"s{number}")
        statements: list[str] = []

        def trace(connection: sqlite3.Connection) -> None:
            connection.set_trace_callback(statements.append)

        def untrace(connection: sqlite3.Connection) -> list[str]:
            connection.set_trace_callback(None)
            first = next(one for one in statements if one.startswith("SELECT s.id"))
            return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {first}")]

        await catalog.flush()
        await place.read(trace)
        await catalog.sessions(asked)
        plan = await place.read(untrace)
        assert any(f"USING INDEX {way}" in step for step in plan for way in ways), plan
        assert not any("TEMP B-TREE" in step for step in plan), plan


async def test_hits_come_from_the_words_without_sorting() -> None:
    sessions = Sessions()
    place = MemoryCatalog()
    async with catalog_of(sessions, place=place) as catalog:
        await catalog.flush()

        for sql in (queries._NEWEST, queries._RANKED):
            found = await place.read(
                lambda connection, sql=sql: [
                    row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", ("x",))
                ]
            )
            assert found[0].startswith("SCAN words VIRTUAL TABLE"), found
            assert "TEMP B-TREE" not in " ".join(found), found
            assert all(step.startswith(("SCAN words", "SEARCH", "CORRELATED")) for step in found)
