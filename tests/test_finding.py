"""Listing, search, clean-up, children and the rest of what the catalog is for, through the
public API."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from processes import output_of, owner, process

from sessionactor import (
    CorruptRowError,
    InvalidNameError,
    InvalidTypeError,
    InvalidValueError,
    NoCatalogError,
    RegistryClosedError,
    SearchHit,
    SessionInfo,
    SessionList,
    SessionNotFoundError,
    SessionRegistry,
    _catalog_file,
)
from sessionactor._sql import Connection
from sessionactor.testing import Faults, faulty_store

CATALOG = ".sessionactor.catalog"
HOUR = timedelta(hours=1)


def says(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def ids(found: SessionList | list[SessionInfo]) -> list[str]:
    infos = found.sessions if isinstance(found, SessionList) else found
    return [info.session_id for info in infos]


def where(hits: list[SearchHit]) -> list[tuple[str, int]]:
    return [(hit.session_id, hit.db_id) for hit in hits]


async def all_of(registry: SessionRegistry, **asked: Any) -> list[SessionInfo]:
    page = await registry.sessions(**asked)
    found = page.sessions
    while page.cursor is not None:
        page = await registry.sessions(**asked, cursor=page.cursor)
        found += page.sessions
    return found


def aged(path: Path, age: timedelta) -> None:
    """Let a closed session's last activity, and all in it, be so long ago."""
    microseconds = age // timedelta(microseconds=1)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE session SET created_at = created_at - ?1, last_at = last_at - ?1,"
            " turn_started_at = turn_started_at - ?1",
            (microseconds,),
        )
        connection.execute("UPDATE messages SET inserted_at = inserted_at - ?", (microseconds,))


# listing


async def test_a_session_is_listed_as_it_tells_of_itself(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("Ada/1", name="my chat")
        for step in (
            lambda: session.append("agent", says("one")),
            lambda: session.extend("agent", [says("two"), says("three")]),
            lambda: session.set_context(channel_id="c", room_id="r", sender_id="s"),
            lambda: session.set_agent_alias("alias"),
            lambda: session.set_state("running", turn_id="turn"),
            lambda: session.remove([2]),
            lambda: session.update(1, says("1")),
            lambda: session.truncate_from(3),
            lambda: session.rename("another"),
            lambda: session.set_state("error", turn_id="turn"),
            lambda: session.clear(),
            lambda: session.save_metadata({"k": "v"}),
        ):
            await step()
            told = await session.info()
            (listed,) = (await registry.sessions()).sessions
            assert listed == told
        assert listed.path == session.path
        await registry.stop("Ada/1")
        (listed,) = (await registry.sessions()).sessions
        assert not listed.active
        assert listed.name == "another"
        assert listed.message_count == 0


async def test_filters(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        for number in range(6):
            session = await registry.start(f"s{number}", name=f"{'ab'[number % 2]}-{number}")
            await session.set_context(channel_id=f"c{number % 3}", sender_id=None)
            await session.save_metadata({"n": number, "even": number % 2 == 0, "none": None})
        await registry.stop("s0")
        await registry.session("s1").set_state("running", turn_id="t")
        expected: list[tuple[dict[str, Any], list[int]]] = [
            ({}, [1, 5, 4, 3, 2, 0]),
            ({"order": "created"}, [0, 1, 2, 3, 4, 5]),
            ({"name": "a-*"}, [4, 2, 0]),
            ({"name": "A-*"}, []),
            ({"channel_id": "c1"}, [1, 4]),
            ({"channel_id": "c1", "name": "b*"}, [1]),
            ({"sender_id": "x"}, []),
            ({"metadata": {"n": 3}}, [3]),
            ({"metadata": {"n": "3"}}, [3]),
            ({"metadata": {"even": True, "none": None}}, [4, 2, 0]),
            ({"metadata": {"even": True, "n": 1}}, []),
            ({"metadata": {"missing": None}}, []),
            ({"metadata": {}}, [1, 5, 4, 3, 2, 0]),
            ({"state": "running"}, [1]),
            ({"state": "idle"}, [5, 4, 3, 2, 0]),
            ({"active": False}, [0]),
            ({"active": True}, [1, 5, 4, 3, 2]),
        ]
        for filters, numbers in expected:
            found = await all_of(registry, **filters, limit=2)
            assert ids(found) == [f"s{number}" for number in numbers], filters
        newest = (await registry.sessions(limit=2)).sessions[1].last_activity
        assert ids(await all_of(registry, updated_after=newest)) == ["s1"]
        assert len(await all_of(registry, updated_before=newest)) == 4
        future = datetime.now(UTC) + HOUR
        assert await all_of(registry, updated_after=future) == []


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"limit": 0}, InvalidValueError),
        ({"limit": True}, InvalidTypeError),
        ({"limit": "5"}, InvalidTypeError),
        ({"order": "name"}, InvalidValueError),
        ({"state": "asleep"}, InvalidValueError),
        ({"cursor": "x"}, InvalidValueError),
        ({"cursor": 5}, InvalidTypeError),
        ({"name": 5}, InvalidTypeError),
        ({"room_id": b"r"}, InvalidTypeError),
        ({"sender_id": "\ud800"}, InvalidValueError),
        ({"active": 1}, InvalidTypeError),
        ({"metadata": [("k", "v")]}, InvalidTypeError),
        ({"metadata": {"k": []}}, InvalidTypeError),
        ({"metadata": {1: "v"}}, InvalidTypeError),
        ({"updated_after": "yesterday"}, InvalidTypeError),
        ({"updated_after": datetime(2026, 1, 1)}, InvalidValueError),
    ],
)
async def test_what_cannot_be_listed(
    place: Path | None, asked: dict[str, Any], error: type[Exception]
) -> None:
    async with SessionRegistry(place) as registry:
        with pytest.raises(error):
            await registry.sessions(**asked)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"query": 5}, InvalidTypeError),
        ({"query": "x", "limit": 0}, InvalidValueError),
        ({"query": "x", "session_id": 5}, InvalidTypeError),
        ({"query": "x", "agent_id": 5}, InvalidTypeError),
        ({"query": "x", "order": "oldest"}, InvalidValueError),
        ({"query": "x", "by": "agent"}, InvalidValueError),
    ],
)
async def test_what_cannot_be_searched(
    place: Path | None, asked: dict[str, Any], error: type[Exception]
) -> None:
    async with SessionRegistry(place) as registry:
        with pytest.raises(error):
            await registry.search(**asked)


async def test_running_and_stuck(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        for session_id in ("old", "young", "idle"):
            await (await registry.start(session_id, name="n")).append("a", says("x"))
        for session_id in ("old", "young"):
            await registry.session(session_id).set_state("running", turn_id="t")
        assert ids(await registry.running()) == ["old", "young"]
        assert ids(await registry.stuck(timedelta(0))) == ["old", "young"]
        assert await registry.stuck(HOUR) == []
        await registry.stop("old")  # it stays running, and ours
        aged(tmp_path / "old_n.db", HOUR)
        assert ids(await registry.running()) == ["old", "young"]
        await registry.rebuild_catalog()
        assert ids(await registry.stuck(HOUR)) == ["old"]
        assert ids(await registry.stuck(HOUR * 2)) == []
        await registry.session("young").set_state("idle")
        assert ids(await registry.running()) == ["old"]
        with pytest.raises(InvalidTypeError):
            await registry.stuck(3600)  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError):
            await registry.stuck(-HOUR)


async def test_what_ran_in_a_process_that_died_is_interrupted(tmp_path: Path) -> None:
    script = """
        async def main():
            async with SessionRegistry(sys.argv[1]) as registry:
                session = await registry.start("s", name="n")
                await session.set_state("running", turn_id="t")
                await session.flush()
                say("runs")
                await asyncio.to_thread(wait)

        asyncio.run(main())
    """
    with process(script, tmp_path) as running:
        running.hear()
        async with SessionRegistry(tmp_path) as registry:
            assert ids(await registry.running()) == ["s"]
            assert ids(await registry.sessions(state="running")) == ["s"]
            running.kill()
            assert await registry.running() == []
            assert await registry.stuck(timedelta(0)) == []
            assert ids(await registry.sessions(state="running")) == []
            (info,) = (await registry.sessions(state="interrupted")).sessions
            assert (info.state, info.turn_id) == ("interrupted", "t")
            assert (await registry.session("s").info()).state == "interrupted"
            assert ids(await registry.sessions(state="interrupted")) == ["s"]


async def test_thousands_of_files_that_were_copied_into_a_directory(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("s", name="pattern")
        await session.extend("a", [says("common"), says("word")])
    for number in range(10_000):  # more than there may be descriptors
        shutil.copyfile(tmp_path / "s_pattern.db", tmp_path / f"s{number:05}_n{number % 7}.db")
    told: list[tuple[int, int]] = []
    async with SessionRegistry(tmp_path) as registry:
        found = await all_of(registry, limit=1000)
        assert len(found) == len(set(ids(found))) == 10_001
        assert {info.message_count for info in found} == {2}
        assert len(await all_of(registry, name="n3", limit=9999)) == 1429
        assert len(await registry.search("common", limit=99_999)) == 10_001
        await registry.rebuild_catalog(lambda done, total: told.append((done, total)))
        assert told[-1] == (10_001, 10_001)
        for number in range(0, 10_000, 2):
            (tmp_path / f"s{number:05}_n{number % 7}.db").unlink()
    before = os.stat(tmp_path / CATALOG).st_ino
    async with SessionRegistry(tmp_path) as registry:
        assert len(await all_of(registry, limit=500, order="created")) == 5_001
        assert len(await registry.search("common", limit=99_999)) == 5_001
    assert os.stat(tmp_path / CATALOG).st_ino == before


# search


async def test_what_was_changed_is_not_found_any_more(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        for number in range(1, 7):
            await session.append("a", says(f"word number{number}"))
        await session.update(1, says("another"))
        assert where(await registry.search("number1")) == []
        await session.truncate_from(6)
        assert where(await registry.search("word")) == [("s", 5), ("s", 4), ("s", 3), ("s", 2)]
        await session.remove([3])
        assert where(await registry.search("word")) == [("s", 5), ("s", 4), ("s", 2)]
        await session.remove_last()
        await session.update_last(says("last"))
        assert where(await registry.search("word")) == [("s", 2)]
        fork = await session.fork("f")
        assert where(await registry.search("word", order="rank")) in (
            [("s", 2), ("f", 2)],
            [("f", 2), ("s", 2)],
        )
        await session.clear()
        assert where(await registry.search("word")) == [("f", 2)]
        await registry.delete("f")
        assert where(await registry.search("word")) == []
        assert fork.session_id == "f"


async def test_only_text_is_found(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("session-id", name="session-name")
        await session.append("agent-id", says("text"), key="key", turn="turn")
        await session.save_metadata({"metadata": "value"})
        for word in ("session", "id", "name", "agent", "key", "turn", "metadata", "user", "role"):
            assert await registry.search(word) == [], word
        assert await registry.search("") == await registry.search(' " ') == []
        (hit,) = await registry.search("TEXT")
        assert hit.name == "session-name"
        assert hit.agent_id == "agent-id"
        (row,) = await session.messages()
        assert hit.inserted_at == row.inserted_at


async def test_a_text_of_ones_own(place: Path | None) -> None:
    def text_of(message: Any) -> str:
        return str(message["body"]["words"])

    async with SessionRegistry(place, text_of=text_of) as registry:
        session = await registry.start("s")
        await session.append("a", {"body": {"words": "found"}, "content": "not looked at"})
        await session.append("a", says("raises"))
        assert where(await registry.search("found")) == [("s", 1)]
        assert await registry.search("looked") == []
    with pytest.raises(InvalidTypeError, match="text_of"):
        SessionRegistry(place, text_of="body")  # type: ignore[arg-type]


# flush, and other processes


async def test_after_flush_another_process_sees_it(tmp_path: Path) -> None:
    script = """
        async def main():
            async with SessionRegistry(sys.argv[1]) as registry:
                while line := wait().strip():
                    hits = await registry.search(line)
                    infos = (await registry.sessions()).sessions
                    say([[hit.db_id for hit in hits], [info.message_count for info in infos]])

        asyncio.run(main())
    """
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("s")
        with process(script, tmp_path) as other:

            async def there(word: str) -> Any:
                await session.flush()
                other.tell(word)
                return json.loads(await asyncio.to_thread(other.hear))

            for number in range(1, 6):
                await session.append("a", says(f"word number{number}"))
                assert await there(f"number{number}") == [[number], [number]]
            await session.update(2, says("another"))
            assert await there("number2") == [[], [5]]
            await session.truncate_from(2)
            assert await there("word") == [[1], [1]]
            await registry.delete("s")
            with pytest.raises(SessionNotFoundError):
                await session.flush()


async def test_processes_that_share_a_directory_list_all_of_it(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await (await registry.start("mine")).append("a", says("word"))
        with owner(tmp_path, "theirs-1", "theirs-2") as other:
            await eventually_listed(registry, {"mine", "theirs-1", "theirs-2"})
            listed = {info.session_id: info for info in await all_of(registry)}
            assert listed["theirs-1"].message_count == 1
            assert not listed["theirs-1"].active
            assert where(await registry.search("theirs"))
            other.tell()
            assert other.end() == 0
        assert (await registry.session("theirs-1").info()).message_count == 1


async def eventually_listed(registry: SessionRegistry, session_ids: set[str]) -> None:
    async with asyncio.timeout(20):
        while True:
            found = await all_of(registry)
            if {info.session_id for info in found if info.message_count} == session_ids:
                return
            await asyncio.sleep(0.01)


WRITER = """
async def main():
    async with SessionRegistry(sys.argv[1], durability="normal") as registry:
        sessions = [await registry.start(f"open-{n}", name="n") for n in range(int(sys.argv[2]))]
        for n in range(20):
            closed = await registry.start(f"closed-{n}", name="n")
            await closed.append("a", {"content": "word"})
            await registry.stop(f"closed-{n}")
        n = 0
        while True:
            n += 1
            for session in sessions:
                await session.append("a", {"content": f"word number{n}"})
                if n % 5 == 0:
                    await session.remove_last()
            say(n)

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 7, 40])
async def test_after_a_kill_the_open_sessions_are_caught_up(tmp_path: Path, lines: int) -> None:
    with process(WRITER, tmp_path, 5) as running:
        for _ in range(lines):
            running.hear()
        running.kill()
    async with SessionRegistry(tmp_path) as registry:
        listed = {info.session_id: info for info in await all_of(registry)}
        assert len(listed) == 25
        found: dict[str, set[int]] = {}
        for session_id, db_id in where(await registry.search("word", limit=99999)):
            found.setdefault(session_id, set()).add(db_id)
        for session_id, info in listed.items():
            rows = await registry.session(session_id).messages()
            assert info.message_count == len(rows)
            assert found[session_id] == {row.db_id for row in rows}
            stored = await registry.session(session_id).info()
            assert (info.revision, info.last_activity) == (stored.revision, stored.last_activity)


async def test_a_kill_at_any_moment_leaves_a_catalog_that_agrees(tmp_path: Path) -> None:
    for moment in range(6):
        with process(WRITER, tmp_path, 3) as running:
            for _ in range(1 + moment * 3):
                running.hear()
            running.kill()
        async with SessionRegistry(tmp_path) as registry:
            for info in await all_of(registry):
                stored = await registry.session(info.session_id).info()
                assert (info.message_count, info.revision) == (
                    stored.message_count,
                    stored.revision,
                )
            hits = where(await registry.search("number1", limit=999))
            expected = [
                (session_id, row.db_id)
                for session_id in ("open-0", "open-1", "open-2")
                for row in await registry.session(session_id).messages()
                if row.message["content"] == "word number1"
            ]
            assert sorted(hits) == sorted(expected)
    with closing(sqlite3.connect(tmp_path / CATALOG)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_catching_up_looks_only_at_what_was_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        for number in range(30):
            await (await registry.start(f"s{number}", name="n")).append("a", says("word"))
    with process(WRITER, tmp_path, 2) as running:
        for _ in range(5):
            running.hear()
        running.kill()
    from sessionactor._sources import DiskSource

    looked_at: list[str] = []
    real = DiskSource._opened

    def opened(self: DiskSource, part: str, entry: str, read: Any) -> Any:
        looked_at.append(part)
        return real(self, part, entry, read)

    monkeypatch.setattr(DiskSource, "_opened", opened)
    async with SessionRegistry(tmp_path) as registry:
        assert len(await all_of(registry)) == 52
    assert set(looked_at) == {"open-0", "open-1"}
    looked_at.clear()
    async with SessionRegistry(tmp_path) as registry:
        assert len(await all_of(registry)) == 52
    assert looked_at == []


async def test_files_of_other_hands(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        for session_id in ("a", "b"):
            await (await registry.start(session_id, name="n")).append(
                "x", says(f"word of {session_id}")
            )
    shutil.copyfile(tmp_path / "a_n.db", tmp_path / "copy_n.db")
    (tmp_path / "b_n.db").rename(tmp_path / "b_renamed.db")
    (tmp_path / "foreign_n.db").write_bytes(b"no session" * 1000)
    (tmp_path / "empty_n.db").write_bytes(b"")
    async with SessionRegistry(tmp_path) as registry:
        found = {info.session_id: info.name for info in await all_of(registry)}
        assert found == {"a": "n", "b": "renamed", "copy": "n"}
        assert sorted(where(await registry.search("word"))) == [("a", 1), ("b", 1), ("copy", 1)]
        (tmp_path / "a_n.db").unlink()
        with pytest.raises(SessionNotFoundError):
            await registry.session("a").info()
        assert sorted(ids(await all_of(registry))) == ["b", "copy"]  # it was noticed
    (tmp_path / "copy_n.db").unlink()
    async with SessionRegistry(tmp_path) as registry:
        assert ids(await all_of(registry)) == ["b"]
        assert where(await registry.search("word")) == [("b", 1)]


async def test_a_session_of_a_damaged_file_spoils_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        for session_id in ("bad", "good"):
            session = await registry.start(session_id, name="n")
            await session.extend("x", [says("word")] * 500)
    (tmp_path / CATALOG).unlink()
    with (tmp_path / "bad_n.db").open("r+b") as file:
        for start in range(2048, os.stat(tmp_path / "bad_n.db").st_size, 2048):
            file.seek(start)
            file.write(b"\xff" * 200)
    async with SessionRegistry(tmp_path) as registry:
        assert ids(await all_of(registry)) == ["good"]
        assert len(await registry.search("word", limit=9999)) == 500
    assert "bad_n.db" in caplog.text


async def test_a_lost_catalog_is_made_anew_while_sessions_are_in_use(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("s")
        await session.append("a", says("one word"))
        await registry.sessions()
        (tmp_path / CATALOG).unlink()
        await session.append("a", says("another word"))
        assert where(await registry.search("word")) == [("s", 2), ("s", 1)]
        assert (tmp_path / CATALOG).exists()


# clean-up


async def test_clean_up_deletes_what_is_old_and_not_in_use(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        for session_id in ("old", "older", "young", "old but running", "old but active"):
            session = await registry.start(session_id, name="n")
            await session.append("a", says("x"))
        await registry.session("old but running").set_state("running", turn_id="t")
        paths = {session_id: registry.session(session_id).path for session_id in ("old", "older")}
        for session_id in ("old", "older", "young", "old but running", "old but active"):
            path = registry.session(session_id).path
            assert path is not None
            await registry.stop(session_id)
            if session_id != "young":
                aged(path, HOUR * (5 if session_id == "older" else 3))
        await registry.rebuild_catalog()
        await registry.session("old but active").revision()
        for dry_run in (True, False):
            report = await registry.cleanup(HOUR * 2, dry_run=dry_run)
            assert sorted(report.deleted) == ["old", "older"]
            assert report.failed == {}
        assert not any(path and path.exists() for path in paths.values())
        assert sorted(ids(await all_of(registry))) == [
            "old but active",
            "old but running",
            "young",
        ]
        assert (await registry.cleanup(HOUR)).deleted == ()
        assert await registry.session("old but running").set_state("idle") is None
        with pytest.raises(InvalidValueError):
            await registry.cleanup(-HOUR)


async def test_clean_up_leaves_what_another_process_uses(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        for session_id in ("a", "b"):
            await registry.start(session_id, name="owned")
            await registry.stop(session_id)
        with owner(tmp_path, "a"):
            assert (await registry.cleanup(timedelta(0), dry_run=True)).deleted == ("b",)
            report = await registry.cleanup(timedelta(0))
            assert report.deleted == ("b",)
            assert report.failed == {}
            assert await registry.exists("a")


async def test_an_interrupted_session_is_cleaned_up(tmp_path: Path) -> None:
    script = """
        async def main():
            async with SessionRegistry(sys.argv[1]) as registry:
                session = await registry.start("s", name="n")
                await session.set_state("running", turn_id="t")
                say("runs")
                await asyncio.to_thread(wait)

        asyncio.run(main())
    """
    with process(script, tmp_path) as running:
        running.hear()
        async with SessionRegistry(tmp_path) as registry:
            assert (await registry.cleanup(timedelta(0))).deleted == ()
            running.kill()
            assert (await registry.cleanup(timedelta(0))).deleted == ("s",)
            assert os.listdir(tmp_path) == [".sessionactor.lock"] or not await registry.exists("s")


async def test_age_is_looked_at_again_once_the_session_is_ours(place: Path | None) -> None:
    faults = Faults()
    settings: dict[str, Any] = {"open_store": faulty_store(faults)}
    async with SessionRegistry(place, **settings) as registry:
        session = await registry.start("s")
        await registry.stop("s")
        assert (await registry.cleanup(timedelta(0), dry_run=True)).deleted == ("s",)
        stall = faults.stall("open", session_id="s")
        cleaning = asyncio.create_task(registry.cleanup(timedelta(0)))
        await stall.reached.wait()
        appending = asyncio.create_task(session.append("a", says("x")))  # it is in use by now
        await asyncio.sleep(0)
        stall.release()
        assert (await cleaning).deleted == ()
        assert await appending == 1


async def test_an_error_on_one_stops_none_of_the_others(place: Path | None) -> None:
    faults = Faults()
    async with SessionRegistry(place, open_store=faulty_store(faults)) as registry:
        for session_id in ("a", "b", "c"):
            await registry.start(session_id)
            await registry.stop(session_id)
        await registry.sessions()
        faults.fail("open", OSError("a bad disk"), session_id="b", times=None)
        report = await registry.cleanup(timedelta(0))
        assert sorted(report.deleted) == ["a", "c"]
        assert "a bad disk" in str(report.failed["b"])
        faults.clear()
        assert (await registry.cleanup(timedelta(0))).deleted == ("b",)


async def test_clean_up_of_many(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path, max_active=4) as registry:
        for number in range(60):
            await (await registry.start(f"s{number}")).append("a", says("x"))
        for number in range(60):
            await registry.stop(f"s{number}")
        report = await registry.cleanup(timedelta(0))
        assert len(report.deleted) == 60
        assert await registry.sessions() == SessionList([], None)
        assert await registry.find("*") == []


# trees


async def test_children_of_all_sessions_in_order(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        root = await registry.start("root", name="r")
        other = await registry.start("oth/er", name="o")
        assert await root.append("a", says("root")) == 1
        await other.append("b", says("one"), parent="root/1")
        await root.append("a", says("two"), parent=1)
        await other.extend("b", [says("three"), says("four")], parent="root/1")
        await other.append("b", says("stranger"), parent="uuid")
        found = await root.children(1)
        assert [child.row.message["content"] for child in found] == ["one", "two", "three", "four"]
        assert [(child.session_id, child.name) for child in found][:2] == [
            ("oth/er", "o"),
            ("root", "r"),
        ]
        assert await registry.children("root/1") == found
        assert found[1].row == await root.get(2)
        (stranger,) = await registry.children("uuid")
        assert stranger.row.db_id == 4
        assert await registry.children("root/7") == []
        for session_id in ("root", "oth/er"):
            await registry.stop(session_id)
        assert await registry.children("root/1") == found
        await other.update(2, says("3"))
        await other.remove([1])
        texts = [child.row.message["content"] for child in await registry.children("root/1")]
        assert texts == ["two", "3", "four"]
        await registry.delete("oth/er")
        assert len(await registry.children("root/1")) == 1
        with pytest.raises(InvalidTypeError):
            await registry.children(1)  # type: ignore[arg-type]


async def test_children_that_another_process_owns(tmp_path: Path) -> None:
    script = """
        async def main():
            async with SessionRegistry(sys.argv[1]) as registry:
                session = await registry.start("theirs")
                await session.append("b", {"content": "child"}, parent="mine/1")
                await session.flush()
                say("done")
                await asyncio.to_thread(wait)

        asyncio.run(main())
    """
    async with SessionRegistry(tmp_path) as registry:
        mine = await registry.start("mine")
        await mine.append("a", says("root"))
        with process(script, tmp_path) as other:
            other.hear()
            (child,) = await mine.children(1)
            assert child.session_id == "theirs"
            assert child.row.message == {"content": "child"}


async def test_a_child_that_cannot_be_decoded(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await (await registry.start("s", name="n")).append("a", says("x"), parent="p")
    with closing(sqlite3.connect(tmp_path / "s_n.db")) as connection, connection:
        connection.execute("UPDATE messages SET data = x'c1'")
    async with SessionRegistry(tmp_path) as registry:
        with pytest.raises(CorruptRowError):
            await registry.children("p")


# metadata of many


async def test_the_metadata_of_many_sessions_comes_in_one_look(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        for name in ("a", "b/1", "nothing"):
            await registry.start(name)
        await registry.session("a").save_metadata({"title": "one", "n": 1, "none": None})
        await registry.session("b/1").save_metadata({"title": "two"})
        wanted = {"a": {"title": "one", "n": "1", "none": None}, "b/1": {"title": "two"}}
        assert await registry.metadata(["a", "b/1", "x"]) == wanted
        assert await registry.metadata(iter(["nothing", "a"])) == {"nothing": {}, "a": wanted["a"]}
        assert await registry.metadata([]) == {}
        assert await registry.metadata() == {**wanted, "nothing": {}}
        await registry.session("b/1").set_agent_alias("b")
        await registry.session("a").set_context(channel_id="c", room_id="r", sender_id="s")
        assert await registry.metadata(agent_alias="b") == {"b/1": wanted["b/1"]}
        for field in ("channel_id", "room_id", "sender_id"):
            assert await registry.metadata(**{field: field[0]}) == {"a": wanted["a"]}
            assert await registry.metadata(["b/1"], **{field: field[0]}) == {}
        await registry.delete("a")
        await registry.session("b/1").save_metadata({"title": "three"})
        assert await registry.metadata(["a", "b/1"]) == {"b/1": {"title": "three"}}
        with pytest.raises(InvalidNameError):
            await registry.metadata([""])


# settings


async def test_without_a_catalog(place: Path | None) -> None:
    async with SessionRegistry(place, catalog=False) as registry:
        session = await registry.start("s")
        await session.append("a", says("x"))
        await session.flush()
        for call in (
            registry.sessions(),
            registry.metadata(["s"]),
            registry.search("x"),
            registry.running(),
            registry.stuck(HOUR),
            registry.children("x"),
            session.children(1),
            registry.cleanup(HOUR),
            registry.rebuild_catalog(),
        ):
            with pytest.raises(NoCatalogError, match="catalog=False"):
                await call
        await session.rename("another")
        await registry.delete("s")
    if place is not None:
        assert CATALOG not in os.listdir(place)
    with pytest.raises(InvalidTypeError, match="catalog"):
        SessionRegistry(place, catalog="no")  # type: ignore[arg-type]


async def test_a_registry_that_is_closed_answers_nothing(place: Path | None) -> None:
    registry = SessionRegistry(place)
    for call in (lambda: registry.sessions(), lambda: registry.search("x")):
        with pytest.raises(RegistryClosedError):
            await call()
    await registry.open()
    await registry.start("s")
    asking = [asyncio.ensure_future(registry.search("x")) for _ in range(5)]
    await asyncio.sleep(0)
    await registry.aclose()
    for outcome in await asyncio.gather(*asking, return_exceptions=True):
        assert outcome == [] or isinstance(outcome, RegistryClosedError)


async def test_no_log_and_no_thread_is_left(tmp_path: Path) -> None:
    for _ in range(3):
        async with SessionRegistry(tmp_path) as registry:
            await (await registry.start("s")).append("a", says("x"))
            await registry.search("x")
        assert not [entry for entry in os.listdir(tmp_path) if entry.endswith(("-wal", "-shm"))]


def test_a_program_that_lists_and_ends(tmp_path: Path) -> None:
    script = """
        async def main():
            registry = SessionRegistry(sys.argv[1])
            await registry.open()
            session = await registry.start("s")
            await session.append("a", {"content": "word"})
            say(len(await registry.search("word")))

        asyncio.run(main())  # closes what was forgotten
    """
    assert output_of(script, tmp_path) == "1"
    assert not [entry for entry in os.listdir(tmp_path) if entry.endswith(("-wal", "-shm"))]


def listed(directory: Path) -> list[tuple[str, int]]:
    """What is in the catalog for whoever comes after a power loss."""
    with closing(sqlite3.connect(directory / CATALOG)) as connection:
        return connection.execute(
            "SELECT session_id, message_count FROM sessions ORDER BY session_id"
        ).fetchall()


async def test_a_session_that_is_removed_or_created_anew_is_in_the_catalog_as_it_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, list[tuple[str, int]]]] = []
    for name in ("link", "unlink"):
        real = getattr(os, name)

        def spying(*paths: Any, name: str = name, real: Any = real) -> None:
            if os.fspath(paths[-1]).endswith("s_n.db"):
                seen.append((name, listed(tmp_path)))
            real(*paths)

        monkeypatch.setattr(os, name, spying)
    async with SessionRegistry(tmp_path) as registry:
        assert (await registry.sessions()).sessions == []
        for _ in range(3):
            session = await registry.start("s", name="n")
            await session.extend("a", [says("one")] * 100)
            await registry.delete("s")
    assert [what for what in seen if what != ("link", [])] == [("unlink", [("s", 100)])] * 3


async def test_the_catalog_survives_a_power_loss_at_either_durability(tmp_path: Path) -> None:
    synchronous: set[str] = set()

    class Spy(Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> Any:
            if "synchronous" in sql:
                synchronous.add(sql)
            return super().execute(sql, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_catalog_file, "Connection", Spy)
        async with SessionRegistry(tmp_path, durability="normal") as registry:
            assert (await registry.sessions()).sessions == []
    assert synchronous == {"PRAGMA synchronous = FULL"}


async def test_what_a_power_loss_took_is_not_found_once_more_is_said(tmp_path: Path) -> None:
    path, catalog = tmp_path / "s_n.db", tmp_path / CATALOG
    parts = (path, path.with_name("s_n.db-wal"))
    async with SessionRegistry(tmp_path, durability="normal") as registry:
        session = await registry.start("s", name="n")
        await session.append("a", says("first"))
        kept = [part.read_bytes() for part in parts]
        await session.append("a", says("lost"))
    for part, content in zip(parts, kept, strict=True):
        part.write_bytes(content)
    async with SessionRegistry(tmp_path, durability="normal") as registry:
        await registry.session("s").append("a", says("more"))
        with closing(sqlite3.connect(catalog)) as connection:
            found = connection.execute(
                "SELECT text FROM docs JOIN sessions ON sessions.id = docs.session"
            ).fetchall()
        assert ("lost",) not in found  # for whoever comes after another power loss
        assert where(await registry.search("more")) == [("s", 2)]
        assert await registry.search("lost") == []
