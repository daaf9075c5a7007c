from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from catalogs import Sessions, catalog_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sessionactor._catalog import Catalog
from sessionactor._catalog_queries import Search
from sessionactor._catalog_stage import MIN_STAGED
from sessionactor._feed import Feed
from sessionactor._records import SearchHit


@pytest.fixture(params=["file", "memory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "catalog" if request.param == "file" else None


def ids(hits: list[SearchHit]) -> list[tuple[str, int]]:
    return [(hit.session_id, hit.db_id) for hit in hits]


async def test_hits_come_newest_first(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        for number in range(50):
            session_id = f"s{number % 3}"
            if number < 3:
                sessions.create(session_id)
            sessions.append(session_id, f"common {'rare' if number % 10 == 0 else ''}")
        assert ids(await catalog.search(Search("common"))) == sessions.found("common")[:20]
        assert ids(await catalog.search(Search("rare common"))) == sessions.found("rare")
        assert ids(await catalog.search(Search("common", limit=7))) == sessions.found("common")[:7]
        in_one = Search("common", session_id="s1", limit=99)
        assert ids(await catalog.search(in_one)) == sessions.found("common", "s1")
        assert await catalog.search(Search("common", session_id="s9")) == []
        assert await catalog.search(Search("nothing")) == []


@pytest.mark.parametrize("min_staged", [1, MIN_STAGED])
async def test_what_was_read_can_be_found_and_forgotten(path: Path | None, min_staged: int) -> None:
    sessions = Sessions()
    sessions.min_staged = min_staged
    for session_id in ("a", "b"):
        sessions.create(session_id)
        sessions.append(session_id, f"plain word {session_id}", "日本語の寄付 word", "", "ﾊﾟﾝ\0word")
    async with catalog_of(sessions, path) as catalog:
        everything = [("b", 4), ("b", 2), ("b", 1), ("a", 4), ("a", 2), ("a", 1)]
        assert ids(await catalog.search(Search("word"))) == everything
        assert ids(await catalog.search(Search("寄付"))) == [("b", 2), ("a", 2)]
        assert ids(await catalog.search(Search("パン"))) == [("b", 4), ("a", 4)]
        assert ids(await catalog.search(Search("word", session_id="a"))) == everything[3:]
        assert len(await catalog.search(Search("word", agent_id="agent"))) == 6
        sessions.update("a", 2, "数える word")
        sessions.update("a", 3, "late word")
        sessions.remove("b", 1, 2)
        sessions.append("b", "one word more")
        assert ids(await catalog.search(Search("寄付"))) == []
        assert ids(await catalog.search(Search("数える"))) == [("a", 2)]
        assert ids(await catalog.search(Search("word", session_id="a"))) == [
            *(("a", db_id) for db_id in (4, 3, 2, 1)),
        ]
        assert ids(await catalog.search(Search("word", session_id="b"))) == [("b", 5), ("b", 4)]


async def test_sessions_that_want_the_same_numbers_are_all_found(path: Path | None) -> None:
    """More messages of one microsecond than it has numbers, read one session after another."""
    sessions = Sessions()
    began = sessions.now
    async with catalog_of(sessions, path) as catalog:
        for session_id in ("a", "b", "c"):
            sessions.now = began
            sessions.create(session_id)
            sessions.append(session_id, *["word"] * 1500, tell=False)
            sessions.opened(session_id)
            found = ids(await catalog.search(Search("word", session_id=session_id, limit=9999)))
            assert found == [(session_id, db_id) for db_id in range(1500, 0, -1)]
        everything = ids(await catalog.search(Search("word", limit=9999)))
        assert sorted(everything) == [(one, db_id) for one in "abc" for db_id in range(1, 1501)]
        await catalog.rebuild()  # now they are read together
        everything = ids(await catalog.search(Search("word", limit=9999)))
        assert sorted(everything) == [(one, db_id) for one in "abc" for db_id in range(1, 1501)]
        found = ids(await catalog.search(Search("word", session_id="b", limit=9999)))
        assert found == [("b", db_id) for db_id in range(1500, 0, -1)]


async def test_a_hit_tells_where_it_is(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("Ada/1", "my chat")
        sessions.append("Ada/1", "where is my parcel", agent_id="ägent")
        (hit,) = await catalog.search(Search("parcel"))
        assert hit[:4] == ("Ada/1", "my chat", 1, "ägent")
        assert hit.inserted_at.timestamp() * 1e6 == sessions.made["Ada/1"].rows[1].at
        assert hit.snippet == "where is my parcel"
        sessions.rename("Ada/1", "another")
        (hit,) = await catalog.search(Search("parcel"))
        assert hit.name == "another"


async def test_the_best_hit_of_each_session(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        for number in range(4):
            sessions.create(f"s{number}")
            sessions.append(f"s{number}", "one word", "word " * (number + 1), "a word among others")
        newest = await catalog.search(Search("word", by="session"))
        assert ids(newest) == [("s3", 3), ("s2", 3), ("s1", 3), ("s0", 3)]
        best = await catalog.search(Search("word", by="session", order="rank"))
        assert len({hit.session_id for hit in best}) == len(best) == 4
        assert ids(best)[0] == ("s3", 2)
        ranked = await catalog.search(Search("word", order="rank", limit=12))
        assert sorted(ids(ranked)) == sorted(sessions.found("word"))
        assert ids(await catalog.search(Search("word", by="session", limit=1))) == [("s3", 3)]


async def test_an_agents_messages(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        for agent_id in ("one", "two", "one", "z\ud800\0"):
            sessions.append("s", "word", agent_id=agent_id)
        assert ids(await catalog.search(Search("word", agent_id="one"))) == [("s", 3), ("s", 1)]
        assert await catalog.search(Search("word", agent_id="three")) == []
        assert await catalog.search(Search("one two")) == []
        assert len(await catalog.search(Search("word"))) == 4


async def test_rows_of_one_moment_keep_their_order(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        for session_id in ("a", "b", "c"):
            sessions.create(session_id)
        for _ in range(3):
            now = sessions.now
            for session_id in ("a", "b", "c"):
                sessions.now = now  # the same times, more of them than a microsecond has room for
                sessions.append(session_id, *["word"] * 40)
            await catalog.flush()
        hits = ids(await catalog.search(Search("word", limit=1000)))
        assert len(hits) == len(set(hits)) == 360
        for session_id in ("a", "b", "c"):
            mine = [db_id for one, db_id in hits if one == session_id]
            assert mine == sorted(mine, reverse=True)


async def test_times_that_no_clock_shows_are_found(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        for now in (-(2**62), 0, 2**62):
            sessions.now = now
            sessions.append("s", "word")
        assert [db_id for _, db_id in ids(await catalog.search(Search("word")))] == [3, 2, 1]


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x93\x01", b"\x81\xa7content\xa1x" * 2, b"\x91" * 5000, "no bytes"]
)
async def test_a_row_that_cannot_be_decoded_has_no_text(path: Path | None, data: Any) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        sessions.append("s", "before")
        sessions.append("s", "content", data=data)
        sessions.append("s", "after")
        assert ids(await catalog.search(Search("before"))) == [("s", 1)]
        assert ids(await catalog.search(Search("after"))) == [("s", 3)]
        assert await catalog.search(Search("content")) == []


@pytest.mark.parametrize("outcome", [RuntimeError("no"), None, 7, b"x", "\ud800\0 word"])
async def test_whatever_the_callers_function_does(path: Path | None, outcome: Any) -> None:
    def text_of(message: Any) -> Any:
        if message["content"] == "fine":
            return "fine"
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    sessions = Sessions()
    async with catalog_of(sessions, path, text_of=text_of) as catalog:
        sessions.create("s")
        sessions.append("s", "bad", "fine")
        assert ids(await catalog.search(Search("fine"))) == [("s", 2)]
        assert len(await catalog.search(Search("word"))) == (outcome == "\ud800\0 word")


@pytest.mark.parametrize("count", [3, 700, 3000])
@pytest.mark.parametrize("how", ["truncate", "remove", "clear", "delete", "recreate"])
async def test_what_is_removed_is_not_found_any_more(
    path: Path | None, how: str, count: int
) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("kept")
        sessions.append("kept", "word")
        sessions.create("s")
        sessions.append("s", "word")
        for start in range(0, count, 1000):
            sessions.append("s", *["word"] * min(1000, count - start))
        assert len(await catalog.search(Search("word", limit=9999))) == count + 2
        if how == "truncate":
            sessions.remove("s", 2, None)
        elif how == "remove":
            sessions.remove("s", 2, count + 1)
        elif how == "clear":
            sessions.remove("s", 0, None)
        else:
            sessions.delete("s")
            if how == "recreate":
                sessions.create("s")
        expected = sessions.found("word")
        assert ids(await catalog.search(Search("word", limit=9999))) == expected
        ranked = Search("word", limit=9999, order="rank")
        assert sorted(ids(await catalog.search(ranked))) == sorted(expected)
        if "s" in sessions.made:
            sessions.append("s", "word")
            assert len(await catalog.search(Search("word"))) == len(expected) + 1


async def test_what_was_removed_leaves_the_file_in_time(tmp_path: Path) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, tmp_path / "catalog") as catalog:
        sessions.create("s")
        sessions.create("kept")
        for _ in range(3):
            sessions.append("s", *["word"] * 600, parent="x/1")
        sessions.append("kept", "word")
        sessions.remove("s", 700, None)
        await catalog.flush()
        sessions.delete("s")

        def counts() -> list[int]:
            with closing(sqlite3.connect(tmp_path / "catalog")) as connection:
                return [
                    connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                    for table in ("docs", "places", "words_docsize", "dead", "parents")
                ]

        async with asyncio.timeout(20):
            while counts() != [1, 1, 1, 0, 0]:
                await asyncio.sleep(0.01)
        assert ids(await catalog.search(Search("word"))) == [("kept", 1)]


async def test_an_update_replaces_the_text(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        sessions.append("s", "one", "", "three")
        for tell_first in (False, True):
            if tell_first:
                await catalog.flush()
            sessions.update("s", 1, "first")
            sessions.update("s", 2, "second")
            sessions.update("s", 3, "")
            for word in ("one", "three", "first", "second"):
                assert ids(await catalog.search(Search(word))) == sessions.found(word)
            sessions.update("s", 1, "one")
            sessions.update("s", 3, "three")


async def test_children_are_found_across_sessions(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        for session_id in ("a", "b"):
            sessions.create(session_id, f"name of {session_id}")
        sessions.append("a", "root")
        sessions.append("b", "child", parent="a/1")
        sessions.append("a", "child", parent="a/1")
        sessions.append("b", "", data=b"\xc1", parent="a/1")
        sessions.append("b", "stranger", parent="a/11")
        found = await catalog.children("a/1")
        assert found == [("b", "name of b", 1), ("a", "name of a", 2), ("b", "name of b", 2)]
        sessions.remove("b", 2, 2)
        sessions.delete("a")
        assert await catalog.children("a/1") == [("b", "name of b", 1)]
        sessions.remove("b", 0, None)
        assert await catalog.children("a/1") == []


WORDS = st.lists(st.sampled_from(["red", "green", "blue", "grün", "寄付"]), max_size=3)


class Searching(RuleBasedStateMachine):
    """A catalog that is told some of what happens, beside a model that knows all of it."""

    ids = ("a", "b", "C_d")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.sessions = Sessions()
        self.context = catalog_of(self.sessions, feed=Feed(max_rows=20, max_bytes=4000))
        self.catalog: Catalog = self.do(self.context.__aenter__)
        self.told = True

    def do(self, call: Callable[[], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            return await call()

        return self.loop.run_until_complete(run())

    def teardown(self) -> None:
        self.do(lambda: self.context.__aexit__(None, None, None))
        self.loop.close()

    @rule(session_id=st.sampled_from(ids))
    def create(self, session_id: str) -> None:
        if session_id in self.sessions.made:
            self.sessions.delete(session_id)
        self.sessions.create(session_id)

    @rule(
        data=st.data(),
        texts=st.lists(WORDS, min_size=1, max_size=30),
        agent_id=st.sampled_from(["one", "two"]),
        tell=st.booleans(),
    )
    @precondition(lambda self: self.sessions.made)
    def append(self, data: Any, texts: list[list[str]], agent_id: str, tell: bool) -> None:
        session_id = data.draw(st.sampled_from(sorted(self.sessions.made)))
        lines = [" ".join(words) for words in texts]
        self.sessions.append(session_id, *lines, agent_id=agent_id, tell=tell)
        self.told = self.told and tell

    @rule(data=st.data(), words=WORDS, tell=st.booleans())
    @precondition(lambda self: any(made.rows for made in self.sessions.made.values()))
    def update(self, data: Any, words: list[str], tell: bool) -> None:
        session_id, db_id = data.draw(st.sampled_from(self.rows()))
        self.sessions.update(session_id, db_id, " ".join(words), tell=tell)
        self.told = self.told and tell

    @rule(data=st.data(), to_the_end=st.booleans(), tell=st.booleans())
    @precondition(lambda self: any(made.rows for made in self.sessions.made.values()))
    def remove(self, data: Any, to_the_end: bool, tell: bool) -> None:
        session_id, db_id = data.draw(st.sampled_from(self.rows()))
        self.sessions.remove(session_id, db_id, None if to_the_end else db_id + 2, tell=tell)
        self.told = self.told and tell

    @rule(session_id=st.sampled_from(ids))
    def delete(self, session_id: str) -> None:
        if session_id in self.sessions.made:
            self.sessions.delete(session_id)

    @rule()
    def tick(self) -> None:
        self.do(lambda: asyncio.sleep(0))

    @rule()
    def open_all(self) -> None:
        """Whoever opens a session tells of its revision: then what was not told is noticed."""
        for session_id in self.sessions.made:
            self.sessions.opened(session_id)
        self.told = True

    @rule()
    def rebuild(self) -> None:
        self.do(self.catalog.rebuild)
        self.told = True

    @invariant()
    def what_is_found_is_what_is_there(self) -> None:
        if not self.told:
            return
        for query in ("red", "green blue", "grun", "寄付"):
            everything = self.do(lambda q=query: self.catalog.search(Search(q, limit=9999)))
            expected = self.sessions.found(query.replace("grun", "grün"))
            assert ids(everything) == expected, query
            for session_id in self.ids:
                mine = Search(query, limit=9999, session_id=session_id, agent_id="one")
                found = ids(self.do(lambda asked=mine: self.catalog.search(asked)))
                agent = [
                    one
                    for one in expected
                    if one[0] == session_id
                    and self.sessions.made[session_id].rows[one[1]].agent_id == "one"
                ]
                assert found == agent

    def rows(self) -> list[tuple[str, int]]:
        return [
            (session_id, db_id)
            for session_id, made in sorted(self.sessions.made.items())
            for db_id in made.rows
        ]


TestSearching = Searching.TestCase
TestSearching.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
