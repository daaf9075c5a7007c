from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from catalogs import Sessions, catalog_of
from hypothesis import given
from hypothesis import strategies as st
from waiting import PATIENCE_S, eventually

from sessionactor import _catalog_schema as schema
from sessionactor import _catalog_sql as sql
from sessionactor._catalog import Catalog, NoCatalog
from sessionactor._catalog_events import Committed, Listed, Opened, Renamed
from sessionactor._catalog_file import CatalogFile, MemoryCatalog
from sessionactor._catalog_queries import Listing, Search
from sessionactor._changes import (
    EndTurn,
    InsertRows,
    MergeMetadata,
    Step,
    StoredInfo,
    StoredRow,
)
from sessionactor._errors import NoCatalogError, SchemaVersionError, StorageError
from sessionactor._feed import BATCH_ROWS, Feed, Queued
from sessionactor._indexer import Said

_T = TypeVar("_T")


@pytest.fixture(params=["file", "memory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "catalog" if request.param == "file" else None


async def agree(catalog: Catalog, sessions: Sessions, *words: str) -> None:
    """See that the catalog says what is so."""
    found, cursor = await catalog.sessions(Listing(order="created", limit=9999))
    assert cursor is None
    assert {info.session_id: info for info in found} == {
        session_id: made.listed() for session_id, made in sessions.made.items()
    }
    unseen = "SELECT session_id, token, high_water FROM sessions"
    rows = await catalog.ask(lambda connection: connection.execute(unseen).fetchall())
    assert sorted(rows) == sorted(
        (session_id, made.info.token, made.info.high_water)
        for session_id, made in sessions.made.items()
    )
    for word in words:
        hits = await catalog.search(Search(word, limit=9999))
        assert [(hit.session_id, hit.db_id) for hit in hits] == sessions.found(word)


# what it was not told


async def test_sessions_that_were_there_before_are_read(path: Path | None) -> None:
    sessions = Sessions()
    for number in range(30):
        sessions.create(f"s{number}")
        sessions.append(f"s{number}", *["word"] * number)
        sessions.update(f"s{number}", 1, "other") if number else None
        sessions.remove(f"s{number}", 3, 5)
    async with catalog_of(sessions, path) as catalog:
        await agree(catalog, sessions, "word", "other")


@pytest.mark.parametrize("long", [0, 10_000])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 127, 128, 129, 300])
async def test_of_rows_that_come_together_each_is_found(
    path: Path | None, count: int, long: int
) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        texts = [f"word w{number}" for number in range(count)]
        texts[count // 2] += " other" * long
        sessions.append("s", *texts)
        last = f"w{count - 1}"
        await agree(catalog, sessions, "word", "other", "w0", f"w{count // 2}", last)
        sessions.remove("s", count, count)  # which names what was indexed again
        await agree(catalog, sessions, "word", "w0", last)


@pytest.mark.parametrize("told", [0, 1, 2])
async def test_what_was_not_told_is_noticed_by_its_revision(path: Path | None, told: int) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        for number in range(3):
            sessions.append("s", "word", tell=number < told)
        sessions.remove("s", 1, 1, tell=False)
        sessions.append("s", "other")
        await agree(catalog, sessions, "word", "other")
        before = len(sessions.reads)
        sessions.append("s", "other")
        await agree(catalog, sessions, "word", "other")
        assert len(sessions.reads) == before  # from then on it is told again


async def test_what_its_file_said_is_not_taken_twice(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        sessions.append("s", "word")
        info = sessions.made["s"].info
        await catalog.flush()
        row = sessions._row("s", 1)
        for _ in range(3):
            catalog.committed("s", 0, [InsertRows([row], [])], info)
            catalog.opened(info)
        await agree(catalog, sessions, "word")


async def test_a_session_that_is_written_while_its_file_is_read_is_read_once(
    path: Path | None,
) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        await catalog.flush()
        sessions.reads.clear()
        gate = sessions.behind_a_gate("s")
        waiting = asyncio.create_task(catalog.flush())
        await eventually(lambda: sessions.is_reading)
        sessions.append("s", "word", "other")  # which its file will say, and it is told
        gate.set()
        await waiting
        sessions.append("s", "other")
        await agree(catalog, sessions, "word", "other")
        assert sessions.reads == ["s"]


async def test_a_session_that_is_written_while_what_its_file_says_is_taken_in_is_read_once(
    tmp_path: Path,
) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, tmp_path / "catalog") as catalog:
        sessions.create("s")
        await catalog.flush()
        sessions.reads.clear()
        place: Any = catalog._place
        write = place.write
        is_read, is_written = asyncio.Event(), asyncio.Event()

        async def slow(procedure: Any) -> Any:
            if procedure.func is sql.refill:
                is_read.set()
                await is_written.wait()
            return await write(procedure)

        place.write = slow
        gate = sessions.behind_a_gate("s")
        waiting = asyncio.create_task(catalog.flush())
        await eventually(lambda: sessions.is_reading)
        sessions.append("s", "word")  # which its file says
        gate.set()
        await is_read.wait()
        sessions.append("s", "other")  # which it did not say yet
        is_written.set()
        await waiting
        await agree(catalog, sessions, "word", "other")
        assert sessions.reads == ["s"]


async def test_another_session_of_the_same_id_replaces_the_first(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        for way in ("opened", "committed"):
            for word in ("one", "two"):
                sessions.create("s")
                sessions.append("s", word)
                sessions.merge("s", {"word": word})
                await agree(catalog, sessions, "one", "two")
            sessions.delete("s", tell=False)
            catalogs, sessions.catalogs = sessions.catalogs, []
            sessions.create("s")
            sessions.catalogs = catalogs
            if way == "opened":
                sessions.opened("s")
            else:
                sessions.append("s", "three")
            await agree(catalog, sessions, "one", "two", "three")
            assert await catalog.sessions(Listing(metadata=(("word", "two"),))) == ([], None)
            sessions.delete("s")


async def test_a_session_created_anew_is_found_though_nothing_was_said_in_it_yet(
    tmp_path: Path,
) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, tmp_path / "catalog") as catalog:
        sessions.create("s")
        sessions.append("s", "one")
        await agree(catalog, sessions, "one")
    sessions.catalogs = []
    sessions.delete("s")
    sessions.create("s", "other")
    async with catalog_of(sessions, tmp_path / "catalog") as catalog:
        await agree(catalog, sessions, "one")


@pytest.mark.parametrize("left", [0, 1])
async def test_what_a_power_loss_took_is_forgotten_even_if_as_much_is_said_at_once(
    path: Path | None, left: int
) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        kept = sessions.made["s"]
        for text in ("first", "old", "older")[: left + 1]:
            before = kept.info, list(kept.steps), dict(kept.rows)
            sessions.append("s", text)
        await agree(catalog, sessions, "first", "old")
        kept.info, kept.steps, kept.rows = before
        sessions.opened("s")
        sessions.append("s", "new")
        await agree(catalog, sessions, "first", "old", "new")


async def test_an_older_file_in_the_place_of_a_session_is_noticed(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        sessions.append("s", "old")
        kept = sessions.made["s"]
        older = kept.info, list(kept.steps), dict(kept.rows)
        sessions.append("s", "new")
        await agree(catalog, sessions, "old", "new")
        kept.info, kept.steps, kept.rows = older
        sessions.opened("s")
        await agree(catalog, sessions, "old", "new")


async def test_late_news_of_a_deletion_do_not_remove_what_was_created_since(
    path: Path | None,
) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        sessions.append("s", "one")
        await catalog.flush()
        sessions.delete("s", tell=False)
        sessions.create("s")
        sessions.append("s", "two")
        await catalog.flush()
        catalog.deleted("s")
        await agree(catalog, sessions, "one", "two")


async def test_files_that_came_and_went_are_noticed_at_the_start(tmp_path: Path) -> None:
    sessions = Sessions()
    path = tmp_path / "catalog"
    for session_id in ("stays", "goes", "is renamed", "was open", "changed"):
        sessions.create(session_id)
        sessions.append(session_id, "word")
    async with catalog_of(sessions, path) as catalog:
        await agree(catalog, sessions, "word")
    sessions.delete("goes")
    sessions.create("comes")
    sessions.append("comes", "word")
    sessions.rename("is renamed", "another")
    for session_id in ("was open", "changed"):
        sessions.append(session_id, "more")
    sessions.left_open = {"was open"}
    sessions.reads = []
    async with catalog_of(sessions, path) as catalog:
        hits = await catalog.search(Search("more"))
        assert [hit.session_id for hit in hits] == ["was open"]
        # The cost follows what came, went and was open, not how many there are.
        assert sorted(sessions.reads) == ["comes", "is renamed", "was open"]
        sessions.opened("changed")
        await agree(catalog, sessions, "word", "more")


async def test_what_was_being_read_when_it_ended_is_read_the_next_time(tmp_path: Path) -> None:
    sessions = Sessions()
    path = tmp_path / "catalog"
    sessions.create("s")
    async with catalog_of(sessions, path) as catalog:
        await agree(catalog, sessions)
    sessions.append("s", "word")
    sessions.left_open = {"s"}
    sessions.read_gate = asyncio.Event()
    async with catalog_of(sessions, path):
        await asyncio.sleep(0.05)  # until it waits at the gate, or has not come there
    sessions.read_gate = None
    sessions.left_open = set()  # reading a file tidies it up
    async with catalog_of(sessions, path) as catalog:
        await agree(catalog, sessions, "word")


# too much at once


@pytest.mark.parametrize("limits", [(10, 1 << 20), (1000, 2000)])
async def test_what_is_too_much_is_read_from_the_files(
    path: Path | None, limits: tuple[int, int]
) -> None:
    sessions = Sessions()
    feed = Feed(*limits)
    async with catalog_of(sessions, path, feed=feed) as catalog:
        for session_id in ("a", "b", "c"):
            sessions.create(session_id)
        for _ in range(50):
            for session_id in ("a", "b"):
                sessions.append(session_id, "word", "and more")
            assert feed._rows <= limits[0]
            assert feed._bytes <= limits[1]
        sessions.append("c", "word")
        sessions.delete("b")
        sessions.rename("a", "another")
        await agree(catalog, sessions, "word", "more")
        assert feed._rows == feed._bytes == 0
        assert feed._newest == {}
        reads = len(sessions.reads)
        assert reads > 0
        sessions.append("a", "word")
        await agree(catalog, sessions, "word")
        assert len(sessions.reads) == reads


async def test_a_long_session_is_read_in_parts(path: Path | None) -> None:
    sessions = Sessions()
    sessions.create("s")
    for _ in range(40):
        sessions.append("s", *["word"] * 250)
    async with catalog_of(sessions, path) as catalog:
        await catalog.flush()
        sessions.append("s", "last")
        await agree(catalog, sessions, "last")
        assert len(await catalog.search(Search("word", limit=99999))) == 10_000


async def test_in_memory_the_loop_is_never_held_up_for_long() -> None:
    sessions = Sessions()
    place = MemoryCatalog()
    took_s: list[float] = []
    real = place.write

    async def write(procedure: Callable[[sqlite3.Connection], Any]) -> Any:
        before = time.thread_time()
        try:
            return await real(procedure)
        finally:
            took_s.append(time.thread_time() - before)

    place.write = write  # type: ignore[method-assign]
    for number in range(20):
        sessions.create(f"s{number}")
        for _ in range(10):
            sessions.append(f"s{number}", *["some more words than one"] * 100)
    async with catalog_of(sessions, place=place) as catalog:
        assert len(await catalog.search(Search("words", limit=99999))) == 20_000
        for _ in range(10):
            for number in range(20):
                sessions.append(f"s{number}", *["some more words than one"] * 20)
        assert len(await catalog.search(Search("words", limit=99999))) == 24_000
    assert len(took_s) > 24_000 / 250


# waiting


async def test_taken_waits_for_its_own_session_only(path: Path | None) -> None:
    sessions = Sessions()
    for session_id in ("slow", "quick"):
        sessions.create(session_id)
    async with catalog_of(sessions, path) as catalog:
        await catalog.flush()
        gate = sessions.behind_a_gate("slow")
        await catalog.taken("quick")
        waiting = asyncio.create_task(catalog.taken("slow"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        gate.set()
        await waiting
        await agree(catalog, sessions, "word")


async def test_one_who_waits_may_leave(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        await catalog.flush()
        gate = sessions.behind_a_gate("s")
        calls = [catalog.flush(), catalog.taken("s"), catalog.search(Search("word"))]
        waiting = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0.01)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert all(task.cancelled() for task in waiting)
        gate.set()
        await agree(catalog, sessions, "word")


async def test_a_lazy_catalog_does_nothing_until_it_is_asked() -> None:
    sessions = Sessions()
    sessions.create("s")
    async with catalog_of(sessions, lazy=True) as catalog:
        sessions.append("s", "word")
        await catalog.taken("s")
        await catalog.flush()
        assert not sessions.reads
        await agree(catalog, sessions, "word")
        sessions.append("s", "word")
        await catalog.taken("s")  # at once: what it was told is all it needs
        await agree(catalog, sessions, "word")


@pytest.mark.parametrize("fails", ["nothing", "listing", "changes"])
async def test_nobody_waits_for_a_catalog_that_was_closed(fails: str) -> None:
    """Whatever it was at, and wherever they were, when it was closed."""

    class Failing(Sessions):
        async def listing(self) -> dict[str, Listed]:
            if fails == "listing":
                raise StorageError("no listing")
            return await super().listing()

        async def changes(self, *asked: Any) -> Said:
            if fails == "changes":
                raise StorageError("no changes")
            return await super().changes(*asked)

    for turns in range(20):
        for earlier in (False, True):
            sessions = Failing()
            sessions.create("s")
            sessions.append("s", "word")
            async with catalog_of(sessions) as catalog:
                if earlier:
                    with suppress(StorageError):
                        await catalog.flush()
                waiting = [asyncio.create_task(catalog.flush(part)) for part in (None, "s")]
                for _ in range(turns):
                    await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE_S):
                said = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(one is None or isinstance(one, StorageError) for one in said)


async def test_it_rests_unless_somebody_waits(tmp_path: Path) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, tmp_path / "catalog") as catalog:
        await catalog.flush()
        works: list[tuple[float, float]] = []
        place: Any = catalog._place
        write = place.write
        loop = asyncio.get_running_loop()

        async def slow(procedure: Any) -> Any:
            began = loop.time()
            answer = await write(procedure)
            if procedure.func is sql.feed:
                await asyncio.sleep(0.03)
                works.append((began, loop.time()))
            return answer

        place.write = slow
        sessions.create("s")
        async with asyncio.timeout(PATIENCE_S):
            while len(works) < 3:
                sessions.append("s", "some words of a message")
                await asyncio.sleep(0.001)
        for (began, ended), (began_again, _) in pairwise(works):
            assert began_again - ended > min(8 * (ended - began), 1.9)  # rests nine times as long
        await agree(catalog, sessions)


async def test_it_does_not_fall_behind_for_its_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if its work took no time: then it rests only for how little there is to do.
    monkeypatch.setattr("sessionactor._indexer.time", SimpleNamespace(perf_counter=lambda: 0.0))
    sessions = Sessions()
    feed = Feed()
    async with catalog_of(sessions, tmp_path / "catalog", feed=feed) as catalog:
        await catalog.flush()
        rests: list[tuple[float, bool]] = []
        rest = feed.rest

        async def noted(seconds: float) -> None:
            rests.append((seconds, feed.has_events))
            await rest(min(seconds, 0.001))

        feed.rest = noted  # type: ignore[method-assign]
        sessions.create("s")
        for _ in range(4 * BATCH_ROWS // 50):
            sessions.append("s", *["word"] * 50)
        await eventually(lambda: bool(rests) and not rests[-1][1])
        while_crowded = [seconds for seconds, _ in rests[:2]]
        assert max(while_crowded) < min(seconds for seconds, more in rests if not more)
        await agree(catalog, sessions, "word")


async def test_cancelling_everything_does_not_end_it_before_it_is_closed(
    path: Path | None,
) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        await catalog.flush()
        for number in range(20):
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            sessions.create(f"s{number}")
            sessions.append(f"s{number}", "word")
            if number % 3:
                await asyncio.sleep(0.001)
        await agree(catalog, sessions, "word")


async def test_without_a_catalog_only_asking_fails() -> None:
    sessions = Sessions()
    sessions.create("s")
    nothing = NoCatalog()
    nothing.open()
    nothing.opened(sessions.made["s"].info)
    nothing.committed("s", 0, [], sessions.made["s"].info)
    nothing.renamed("s", "m")
    nothing.deleted("s")
    await nothing.taken("s")
    await nothing.flush()
    for call in (
        nothing.sessions(Listing()),
        nothing.metadata(["s"], Listing()),
        nothing.search(Search("x")),
        nothing.children("x"),
        nothing.running(),
        nothing.rebuild(),
    ):
        with pytest.raises(NoCatalogError, match="catalog=False"):
            await call
    await nothing.aclose()


# a disk that fails


class Failing(CatalogFile):
    """A catalog whose disk fails when it is told to."""

    failure: Exception | None = None

    async def write(self, procedure: Callable[[sqlite3.Connection], _T]) -> _T:
        if self.failure is not None:
            raise self.failure
        return await super().write(procedure)


async def test_a_disk_that_fails_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = Sessions()
    place = Failing(tmp_path / "catalog", nullcontext)
    async with catalog_of(sessions, place=place) as catalog:
        sessions.create("s")
        await catalog.flush()
        place.failure = StorageError("the disk is full")
        sessions.append("s", "word")
        with pytest.raises(StorageError, match="full"):
            await catalog.search(Search("word"))
        await catalog.taken("s")  # a session may be closed nevertheless
        for _ in range(100):
            sessions.append("s", "word")
        with pytest.raises(StorageError, match="full"):
            await catalog.flush("s")
        place.failure = None
        await agree(catalog, sessions, "word")
    assert "cannot be written" in caplog.text


async def test_a_mistake_of_ours_stops_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = Sessions()
    place = Failing(tmp_path / "catalog", nullcontext)
    async with catalog_of(sessions, place=place) as catalog:
        for session_id in ("a", "b"):
            sessions.create(session_id)
        await catalog.flush()
        place.failure = RuntimeError("a mistake")
        sessions.append("a", "word")
        with pytest.raises(StorageError, match="mistake"):
            await catalog.flush()
        place.failure = None
        sessions.append("b", "word")
        sessions.append("a", "word")  # the one before was lost: it is noticed
        await agree(catalog, sessions, "word")
    assert "a mistake" in caplog.text


async def test_a_disk_that_fails_from_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "no directory").write_text("")
    sessions = Sessions()
    async with catalog_of(sessions, tmp_path / "no directory" / "catalog") as catalog:
        sessions.create("s")
        for _ in range(2):
            with pytest.raises(StorageError, match="catalog"):
                await catalog.sessions(Listing())
        await catalog.taken("s")
        (tmp_path / "no directory").unlink()
        (tmp_path / "no directory").mkdir()
        await agree(catalog, sessions)


# the file


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def scribbled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 100] = b"\xff" * 100
    path.write_bytes(data)


def older(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION - 1}")


def another_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE more(x)")


def emptied(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM catalog")


def of_another_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs(x)")


def a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "elsewhere")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": truncated,
    "scribbled": scribbled,
    "older": older,
    "another table": another_table,
    "emptied": emptied,
    "of another program": of_another_program,
    "a link": a_link,
    "no database": lambda path: path.write_text("no database" * 1000),
    "no bytes": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_catalog_that_cannot_be_used_is_made_anew(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    sessions = Sessions()
    path = tmp_path / "catalog"
    async with catalog_of(sessions, path) as catalog:
        for number in range(50):
            sessions.create(f"s{number}")
            sessions.append(f"s{number}", *["word and others"] * 10)
        await agree(catalog, sessions, "word")
    damage(path)
    async with catalog_of(sessions, path) as catalog:
        await agree(catalog, sessions, "word")
        sessions.append("s1", "word")
        await agree(catalog, sessions, "word")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_an_orphan_log_beside_it_is_not_replayed(tmp_path: Path) -> None:
    sessions = Sessions()
    path, log = tmp_path / "catalog", tmp_path / "catalog-wal"
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        sessions.append("s", "old")
        await catalog.flush()
        kept = log.read_bytes()
    assert len(kept) > 4096
    path.unlink()
    log.write_bytes(kept)
    sessions.remove("s", 1, 1)
    async with catalog_of(sessions, path) as catalog:
        await agree(catalog, sessions, "old")


async def test_a_catalog_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    sessions = Sessions()
    path = tmp_path / "catalog"
    async with catalog_of(sessions, path) as catalog:
        await agree(catalog, sessions)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    before = path.read_bytes()
    async with catalog_of(sessions, path) as catalog:
        sessions.create("s")
        sessions.append("s", "word")
        with pytest.raises(SchemaVersionError, match="newer"):
            await catalog.sessions(Listing())
        await catalog.taken("s")
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["gone", "replaced", "scribbled"])
@pytest.mark.parametrize("first", ["event", "query"])
async def test_a_catalog_that_is_lost_while_it_is_in_use_is_made_anew(
    tmp_path: Path, damage: str, first: str
) -> None:
    sessions = Sessions()
    path = tmp_path / "catalog"
    async with catalog_of(sessions, path) as catalog:
        for number in range(30):
            sessions.create(f"s{number}")
            sessions.append(f"s{number}", *["word and others"] * 30)
        await agree(catalog, sessions, "word")
        if damage == "gone":
            path.unlink()
        elif damage == "replaced":
            (tmp_path / "new").write_bytes(schema.image())
            os.replace(tmp_path / "new", path)
        else:
            await catalog._place.write(  # so that it reads what is scribbled
                lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            )
            with path.open("r+b") as file:
                for start in range(4096, path.stat().st_size, 4096):
                    file.seek(start)
                    file.write(b"\xff" * 100)
        if first == "event":
            sessions.append("s3", "word")
            await asyncio.sleep(0.05)
        await agree(catalog, sessions, "word")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_rebuild_tells_how_far_it_is(path: Path | None) -> None:
    sessions = Sessions()
    async with catalog_of(sessions, path) as catalog:
        for number in range(40):
            sessions.create(f"s{number}")
            sessions.append(f"s{number}", *["word"] * 50)
        told: list[tuple[int, int]] = []
        await catalog.rebuild(lambda done, total: told.append((done, total)))
        assert told[-1] == (40, 40)
        assert told == sorted(told)
        assert {total for _, total in told} == {40}
        await agree(catalog, sessions, "word")


# several processes


async def test_catalogs_on_one_file_see_each_others_sessions(tmp_path: Path) -> None:
    one, two = Sessions(), Sessions()
    two.made = one.made  # the same directory
    path = tmp_path / "catalog"
    async with catalog_of(one, path) as first, catalog_of(two, path) as second:
        for number in range(20):
            sessions = (one, two)[number % 2]
            sessions.now = max(one.now, two.now) + 1
            sessions.create(f"s{number}")
            sessions.append(f"s{number}", "word")
            if number % 3 == 0:
                sessions.now = max(one.now, two.now) + 1
                sessions.append(f"s{number}", "word")
        await first.flush()
        await second.flush()
        for catalog in (first, second):
            await agree(catalog, one, "word")
        one.remove("s0", 1, 1)
        two.delete("s1")
        await first.flush("s0")
        await second.flush("s1")
        for catalog in (first, second):
            await agree(catalog, one, "word")


async def test_both_fill_a_catalog_that_one_of_them_makes_anew(tmp_path: Path) -> None:
    one, two = Sessions(), Sessions()
    two.made = one.made
    path = tmp_path / "catalog"
    for number in range(100):
        one.create(f"s{number}")
        one.append(f"s{number}", *["word"] * 20)
    async with catalog_of(one, path) as first, catalog_of(two, path) as second:
        for _ in range(3):
            await asyncio.gather(first.rebuild(), agree(second, one, "word"))
            await asyncio.gather(agree(first, one, "word"), agree(second, one, "word"))
        await asyncio.gather(first.rebuild(), second.rebuild())
        await asyncio.gather(agree(first, one, "word"), agree(second, one, "word"))


# the queue by itself


def committed(session_id: str, rows: int, size: int, base: int = 0) -> Committed:
    revision = base + 1
    empty: Any = StoredInfo(session_id, "n", *[0] * 3, *[None] * 4, "idle", *[None] * 4, 0, 0)
    row: Any = (1, "a", b"x" * size, 0, 0, None, None, None, None, revision, None)
    info = empty._replace(revision=revision)
    return Committed(session_id, base, [InsertRows([row] * rows, [])], info)


def rows_of(event: Committed) -> list[StoredRow]:
    return [row for step in event.steps if isinstance(step, InsertRows) for row in step.rows]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 9), st.integers(0, 90))))
def test_the_queue_is_bounded_and_what_it_drops_is_wanted(
    put: list[tuple[str, int, int]],
) -> None:
    feed = Feed(max_rows=20, max_bytes=3000)
    for session_id, rows, size in put:
        feed.put(committed(session_id, rows, size))
        assert feed._rows <= 20
        assert feed._bytes <= 3000
    left = {queued.part for queued in feed._queue if queued.event is not None}
    assert left | set(feed._wanted) == {session_id for session_id, _, _ in put}
    while feed.has_events:
        feed.done(feed.batch())
    assert feed._rows == feed._bytes == 0
    parts = feed.read(99)
    feed.read_done(parts)
    assert feed.left == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "gap", "rename", "batch"]), st.integers(1, 70)),
        max_size=99,
    )
)
def test_commits_that_follow_on_each_other_wait_as_one(history: list[tuple[str, int]]) -> None:
    feed = Feed()
    revisions = {"a": 0, "b": 0}
    told: dict[str, list[object]] = {"a": [], "b": []}
    taken: dict[str, list[object]] = {"a": [], "b": []}
    commits: list[tuple[Committed, list[StoredRow]]] = []
    batch: list[Queued] = []
    for what, count in [*history, *[("batch", 0)] * 999]:
        if what == "gap":
            revisions["a"] += 1
        elif what == "rename":
            told["a"].append(Renamed("a", str(count)))
            feed.put(Renamed("a", str(count)))
        elif what in revisions:
            event = committed(what, count, 1, revisions[what])
            revisions[what] += 1
            commits.append((event, rows_of(event)))
            told[what] += rows_of(event)
            feed.put(event)
        elif batch:
            feed.done(batch)
            batch = []
        else:
            batch = feed.batch()
            for queued in batch:  # as they are now: nothing may be joined to them any more
                if isinstance(queued.event, Committed):
                    rows, info = rows_of(queued.event), queued.event.info
                    of = range(queued.event.base_revision + 1, info.revision + 1)
                    assert [*dict.fromkeys(row[9] for row in rows)] == [*of]
                    taken[queued.part] += rows
                else:
                    taken[queued.part].append(queued.event)
    assert taken == told
    assert feed._rows == feed._bytes == 0
    assert all(rows_of(event) == rows for event, rows in commits)  # others have them too


def test_what_waits_of_a_busy_session_is_little() -> None:
    feed = Feed()
    for revision in range(1000):
        feed.put(committed("a", 1, 10, revision))
    assert len(feed._queue) < 1000 / 25
    assert max(queued.rows for queued in feed._queue) <= BATCH_ROWS / 8


@pytest.mark.parametrize("step", [MergeMetadata((("key", "x" * 900),), 1), EndTurn("t", 0, 1)])
def test_what_waits_without_rows_is_bounded_too(step: Step) -> None:
    large, small = Feed(), Feed(max_rows=500, max_bytes=50_000)
    for revision in range(1000):
        event = committed("a", 0, 0, revision)._replace(steps=[step])
        large.put(event)
        small.put(event)
    assert len(large._queue) > 1000 / BATCH_ROWS
    assert not large._wanted
    assert small._wanted


async def test_nobody_rests_or_waits_who_comes_to_a_closed_queue() -> None:
    feed = Feed()
    feed.want(["a"])
    feed.close()
    async with asyncio.timeout(PATIENCE_S):
        await feed.rest(2 * PATIENCE_S)
        await feed.barrier("a")
        await feed.barrier()


async def test_barriers_in_the_queue() -> None:
    feed = Feed()
    await feed.barrier()
    feed.put(committed("a", 1, 1))
    feed.put(Opened(committed("b", 1, 1).info))
    both, of_a, of_b, of_c = (
        asyncio.ensure_future(feed.barrier(part)) for part in (None, "a", "b", "c")
    )
    await asyncio.sleep(0)
    assert [task.done() for task in (both, of_a, of_b, of_c)] == [False, False, False, True]
    first = feed.batch()[:1]
    feed.done(first, behind=["a"])
    await asyncio.sleep(0)
    assert not of_a.done()  # it has to be read
    assert feed.read(1) == ["a"]
    feed.put(committed("a", 1, 1))  # not of those that are waited for
    feed.read_again(["a"])
    assert feed.read(1) == ["a"]
    feed.read_done(["a"])
    await asyncio.sleep(0)
    assert of_a.done()
    assert not both.done()
    feed.done(feed.batch()[:1])
    await eventually(lambda: both.done() and of_b.done())
    assert feed.has_events


def test_logging_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Only what goes wrong is logged."""
    with caplog.at_level(logging.INFO, "sessionactor"):
        asyncio.run(test_a_lazy_catalog_does_nothing_until_it_is_asked())
    assert caplog.text == ""


async def test_memory_that_is_closed_asks_for_another_beginning() -> None:
    place = MemoryCatalog()
    await place.open()
    await place.open()
    await place.aclose()
    await place.aclose()
    sessions = Sessions()
    sessions.create("s")
    async with catalog_of(sessions, place=place) as catalog:
        await agree(catalog, sessions)
        await place.aclose()
        await agree(catalog, sessions)
