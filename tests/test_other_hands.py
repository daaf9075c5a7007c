"""Session files that come, go and change their names by other hands, in use or not."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from entries import entries
from processes import process
from waiting import PATIENCE_S, eventually

from sessionactor import (
    Session,
    SessionExistsError,
    SessionFile,
    SessionNotFoundError,
    SessionRegistry,
    StorageError,
)
from sessionactor._disk import DiskDirectory
from sessionactor._opening import Opening
from sessionactor._scan import scan
from sessionactor._store import Store, open_store
from sessionactor.checkup import check

HELLO = {"role": "user", "content": "hello"}


def say(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


async def contents(session: Session) -> list[Any]:
    return [row.message["content"] for row in await session.messages()]


def query(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


async def elsewhere(directory: Path, session_id: str, name: str, *messages: object) -> Path:
    """A session's file, made in another directory."""
    async with SessionRegistry(directory) as registry:
        session = await registry.start(session_id, name=name)
        await session.extend("one", [say(message) for message in messages])
        assert session.path is not None
        return session.path


Look = Callable[[SessionRegistry], Awaitable[Any]]


@pytest.mark.parametrize(
    "look",
    [
        lambda registry: registry.find("n"),
        lambda registry: registry.find_by_id("a"),
        lambda registry: registry.find_by_name("n"),
        lambda registry: registry.exists("a"),
        lambda registry: registry.session("a").messages(),
        lambda registry: registry.stop("a"),
    ],
    ids=["find", "by id", "by name", "exists", "messages", "stop"],
)
async def test_a_file_that_was_copied_in_is_found(tmp_path: Path, look: Look) -> None:
    source = await elsewhere(tmp_path / "other", "a", "n", 1, 2)
    directory = tmp_path / "d"
    async with SessionRegistry(directory) as registry:
        assert not await registry.exists("a")
        shutil.copyfile(source, directory / source.name)
        await look(registry)
        assert await contents(registry.session("a")) == [1, 2]
        assert registry.session("a").name == "n"
    assert entries(directory) == ["a_n.db"]


async def test_a_file_that_was_copied_in_is_started_and_no_second_one_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def slow(*arguments: Any) -> Any:
        time.sleep(0.02)  # as of a large directory
        return scandir(*arguments)

    source = await elsewhere(tmp_path / "other", "a", "n", 1, 2)
    directory = tmp_path / "d"
    monkeypatch.setattr(os, "scandir", slow)
    async with SessionRegistry(directory) as registry:
        await registry.start("b", name="n")
        assert not await registry.exists("a")
        shutil.copyfile(source, directory / source.name)
        assert await contents(await registry.start("a", name="n")) == [1, 2]
        with pytest.raises(SessionExistsError):
            await registry.start("a", name="other")
    assert entries(directory) == ["a_n.db", "b_n.db"]


async def test_a_file_that_was_copied_to_another_id_and_name_is_another_session(
    tmp_path: Path,
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        original = await registry.start("a", name="n")
        await original.append("one", say(1))
        await registry.stop("a")
        shutil.copyfile(tmp_path / "a_n.db", tmp_path / "b_m.db")
        copy = registry.session("b")
        assert await contents(copy) == [1]
        assert copy.name == "m"
        await copy.append("one", say(2))
        assert await contents(original) == [1]
        assert [file.session_id for file in await registry.find("*")] == ["b", "a"]
    for entry, identity in (("a_n.db", ("a", "n")), ("b_m.db", ("b", "m"))):
        assert query(tmp_path / entry, "SELECT session_id, name FROM session") == [identity]


@pytest.mark.parametrize(
    "look",
    [
        lambda registry: registry.session("a").messages(),
        lambda registry: registry.session("a").append("one", HELLO),
        lambda registry: registry.session("a").rename("other"),
        lambda registry: registry.find_by_id("a"),
        lambda registry: registry.find_by_name("n"),
        lambda registry: registry.stop("a"),
    ],
    ids=["messages", "append", "rename", "by id", "by name", "stop"],
)
async def test_a_file_that_was_removed_is_not_there_any_more(tmp_path: Path, look: Look) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await (await registry.start("a", name="n")).append("one", HELLO)
        await registry.stop("a")
        (tmp_path / "a_n.db").unlink()
        with pytest.raises(SessionNotFoundError):
            await look(registry)
        assert not await registry.exists("a")
        assert await registry.find("*") == []
        assert await registry.delete("a") is False
        again = await registry.start("a", name="other")
        assert await again.messages() == []
    assert entries(tmp_path) == ["a_other.db"]


async def test_a_session_whose_file_was_removed_does_not_exist(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await registry.start("a", name="n")
        await registry.stop("a")
        (tmp_path / "a_n.db").unlink()
        assert not await registry.exists("a")


async def test_deleting_a_session_whose_file_was_removed_is_false(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await registry.start("a", name="n")
        await registry.stop("a")
        (tmp_path / "a_n.db").unlink()
        assert await registry.delete("a") is False


@pytest.mark.parametrize("name", ["n", "other", None])
async def test_a_session_whose_file_was_removed_can_be_started_anew_at_once(
    tmp_path: Path, name: str | None
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await (await registry.start("a", name="n")).append("one", HELLO)
        await registry.stop("a")
        (tmp_path / "a_n.db").unlink()
        session = await registry.start("a", name=name)
        assert await session.messages() == []
        assert name in (session.name, None)
    assert len(entries(tmp_path)) == 1


@pytest.mark.parametrize(
    "look",
    [
        lambda registry: registry.session("a").messages(),
        lambda registry: registry.find("*"),
        lambda registry: registry.find_by_id("a"),
        lambda registry: registry.find_by_name("new"),
        lambda registry: registry.exists("a"),
        lambda registry: registry.start("a"),
        lambda registry: registry.start("a", name="new"),
    ],
    ids=["messages", "find", "by id", "by name", "exists", "start", "start by name"],
)
async def test_a_file_whose_name_was_changed_is_the_session_under_its_new_name(
    tmp_path: Path, look: Look
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="old")
        await session.append("one", say(1))
        await registry.stop("a")
        os.rename(tmp_path / "a_old.db", tmp_path / "a_new.db")
        await look(registry)
        assert await contents(session) == [1]
        assert session.name == "new"
        assert (await registry.find_by_id("a")).path == tmp_path / "a_new.db"
        with pytest.raises(SessionExistsError):
            await registry.start("a", name="old")
    assert entries(tmp_path) == ["a_new.db"]


@pytest.mark.parametrize("late", [False, True], ids=["before", "when it is opened"])
async def test_a_file_whose_name_was_changed_is_never_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    old, new = tmp_path / "a_old.db", tmp_path / "a_new.db"
    renaming = False

    async def rename_and_open(opening: Opening) -> Store:
        if renaming and old.exists():
            old.rename(new)
        return await open_store(opening)

    def scan_long(*args: Any) -> Any:  # after that no other one soon
        return scan(*args)._replace(took_s=0.04)

    monkeypatch.setattr("sessionactor._disk.scan", scan_long)
    async with SessionRegistry(tmp_path, open_store=rename_and_open) as registry:
        await (await registry.start("a", name="old")).append("one", say(1))
        await registry.stop("a")
        if late:
            renaming = True
        else:
            old.rename(new)
        assert await contents(await registry.start("a")) == [1]
    assert entries(tmp_path) == ["a_new.db"]


async def test_a_file_whose_id_was_changed_is_the_session_of_that_id(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await (await registry.start("a", name="n")).append("one", say(1))
        await registry.stop("a")
        os.rename(tmp_path / "a_n.db", tmp_path / "b_n.db")
        assert await contents(registry.session("b")) == [1]
        with pytest.raises(SessionNotFoundError):
            await registry.session("a").messages()
        assert not await registry.exists("a")
        assert (await registry.find_by_name("n")).session_id == "b"


async def test_a_file_that_was_put_back_from_a_copy_is_what_is_read(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="n")
        await session.append("one", say(1))
        await registry.stop("a")
        copy = (tmp_path / "a_n.db").read_bytes()
        await session.append("one", say(2))
        assert len((await session.messages_from_latest_checkpoint()).rows) == 2
        await registry.stop("a")
        (tmp_path / "a_n.db").write_bytes(copy)
        assert len((await session.messages_from_latest_checkpoint()).rows) == 1
        assert await session.append("one", say("other")) == 2
        assert await contents(session) == [1, "other"]


async def test_a_directory_that_vanished_is_a_storage_error_or_an_empty_one(
    tmp_path: Path,
) -> None:
    async with SessionRegistry(tmp_path / "d") as registry:
        session = await registry.start("a", name="n")
        await registry.stop("a")
        shutil.rmtree(tmp_path / "d")
        for call in (
            lambda: session.messages(),
            lambda: registry.start("b"),
            lambda: registry.find("*"),
        ):
            with pytest.raises((OSError, SessionNotFoundError)):
                await call()


async def test_many_misses_share_a_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = 0
    scandir = os.scandir

    def counting(*arguments: Any) -> Any:
        nonlocal scans
        scans += 1
        return scandir(*arguments)

    async with SessionRegistry(tmp_path) as registry:
        (tmp_path / "new_file.db").touch()
        monkeypatch.setattr(os, "scandir", counting)
        found = await asyncio.gather(*(registry.exists(f"nobody{n}") for n in range(500)))
        assert not any(found)
        assert 1 <= scans <= 3


async def test_the_index_stays_true_while_it_is_made_again(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path, max_active=8) as registry:
        expected: dict[str, str] = {}
        living = True

        async def disturb() -> None:
            number = 0
            while living:
                number += 1
                (tmp_path / f"foreign_{number % 5}.txt").write_text(str(number))
                (tmp_path / f"foreign_{number % 5}.txt").unlink()
                await registry.find("*")

        async def live(session_id: str) -> None:
            for n in range(6):
                session = await registry.start(session_id, name=f"n{n}")
                await session.append("one", say(n))
                await session.rename(f"m{n}")
                assert (await registry.find_by_id(session_id)).name == f"m{n}"
                if n < 5:
                    assert await registry.delete(session_id)
                    assert not await registry.exists(session_id)
            expected[session_id] = "m5"

        disturber = asyncio.create_task(disturb())
        await asyncio.gather(*(live(f"s{n}") for n in range(12)))
        living = False
        await disturber
        found = await registry.find("*")
        assert {file.session_id: file.name for file in found} == expected
        assert expected == dict.fromkeys((f"s{n}" for n in range(12)), "m5")
    assert entries(tmp_path) == sorted(f"s{n}_m5.db" for n in range(12))


class Pause:
    """A point that a thread comes to, and goes on from when it is told to."""

    def __init__(self) -> None:
        self._reached, self._go_on = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self._reached.set()
        assert self._go_on.wait(20)

    async def reached(self) -> None:
        await eventually(self._reached.is_set)

    def end(self) -> None:
        self._go_on.set()


async def test_what_happens_during_a_scan_is_known_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir, link = os.scandir, os.link
    scanned, linking = Pause(), Pause()

    def scan(*arguments: Any) -> Any:
        with scandir(*arguments) as listing:
            seen = list(listing)
        scanned()
        return nullcontext(seen)

    def make(draft: Path, to: Path, **more: Any) -> None:
        if to.name == "new_n.db":  # not the catalog, which may only be made now
            linking()
        link(draft, to, **more)

    async with SessionRegistry(tmp_path) as registry:
        for session_id in ("moved", "gone"):
            await registry.start(session_id, name="n")
        monkeypatch.setattr(os, "link", make)
        creating = asyncio.create_task(registry.start("new", name="n"))
        await linking.reached()
        monkeypatch.setattr(os, "scandir", scan)
        (tmp_path / "other_hand.db").touch()
        missing = asyncio.create_task(registry.exists("nobody"))
        await scanned.reached()  # the listing is made; now it becomes outdated
        linking.end()
        await creating
        await registry.session("moved").rename("m")
        await registry.delete("gone")
        scanned.end()
        assert not await missing
        monkeypatch.undo()
        assert registry.session("new").path == tmp_path / "new_n.db"
        assert registry.session("moved").path == tmp_path / "moved_m.db"
        with pytest.raises(SessionNotFoundError):
            registry.session("gone").path  # noqa: B018
        assert [file.session_id for file in await registry.find("*")] == ["moved", "new"]


async def test_what_a_killed_process_left_of_a_new_catalog_goes(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await registry.start("a")
    draft = tmp_path / ".sessionactor.catalog.draft"
    draft.write_bytes(b"half")
    async with SessionRegistry(tmp_path) as registry:
        assert [one.session_id for one in (await registry.sessions()).sessions] == ["a"]
        assert not draft.exists()


class Overtaken:
    """Lists a directory; what it found is only told once it was passed."""

    def __init__(self, took_s: float = 0.0) -> None:
        self.listed, self.passed = threading.Event(), threading.Event()
        self._took_s = took_s

    def __call__(self, *args: Any) -> Any:
        found = scan(*args)
        self.listed.set()
        assert self.passed.wait(PATIENCE_S)
        return found._replace(took_s=self._took_s)


async def test_a_session_that_another_registry_renames_meanwhile_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overtaken = Overtaken()
    async with (
        SessionRegistry(tmp_path, catalog=False) as mine,
        SessionRegistry(tmp_path, catalog=False) as theirs,
    ):
        session = await theirs.start("s", name="old")
        monkeypatch.setattr("sessionactor._disk.scan", overtaken)
        found = asyncio.create_task(mine.find_by_id("s"))
        await eventually(overtaken.listed.is_set)
        await session.rename("new")
        overtaken.passed.set()
        assert (await found).name == "new"


async def test_a_new_name_that_is_listed_outlives_the_old_one_that_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = Overtaken(), Overtaken(took_s=60)  # after that no other one soon
    scans = iter([before, after])
    async with (
        SessionRegistry(tmp_path, catalog=False) as mine,
        SessionRegistry(tmp_path, catalog=False) as theirs,
    ):
        session = await theirs.start("s", name="old")
        monkeypatch.setattr("sessionactor._disk.scan", lambda *args: next(scans, scan)(*args))
        other = asyncio.create_task(mine.exists("other"))
        await eventually(before.listed.is_set)
        found = asyncio.create_task(mine.find_by_id("s"))
        await session.rename("new")
        before.passed.set()  # it saw the old name …
        await eventually(after.listed.is_set)  # … and this one the new name
        again = asyncio.create_task(mine.find_by_id("s"))
        await asyncio.sleep(0)  # it misses the old one
        after.passed.set()
        assert (await found).name == "new"
        assert not again.done()
        again.cancel()
        other.cancel()


async def told_of_it(session: Session) -> None:
    """Write until it is noticed that the file is not there any more."""

    async def write() -> None:
        while True:
            await session.append("a", say("lost"))

    with pytest.raises(StorageError, match="removed, moved or replaced") as caught:
        await asyncio.wait_for(write(), PATIENCE_S)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


async def test_who_writes_is_told_when_the_file_was_removed(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="n")
        await session.append("a", say(1))
        assert session.path is not None
        session.path.unlink()
        await told_of_it(session)
        with pytest.raises(SessionNotFoundError):
            await session.append("a", say("lost"))
        assert entries(tmp_path) == []  # no log either, for another file to get
        await registry.start("a", name="n")
        assert await session.append("a", say("new")) == 1


async def test_a_backup_put_in_the_place_of_a_session_in_use_is_that_session(
    tmp_path: Path,
) -> None:
    backup = tmp_path / "backup"
    async with SessionRegistry(tmp_path / "sessions") as registry:
        session = await registry.start("a", name="n")
        await session.append("a", say(1))
        await session.backup(backup)
        for n in range(50):
            await session.append("a", say("x" * 500 * n))
        assert session.path is not None
        os.replace(backup, session.path)
        await told_of_it(session)
        assert await contents(session) == [1]
        assert await session.append("a", say(2)) == 2
        assert list(check(tmp_path / "sessions")) == []


async def test_a_file_put_in_the_place_of_one_in_use_is_not_written_by_who_reads_it(
    tmp_path: Path,
) -> None:
    directory, backup = tmp_path / "sessions", tmp_path / "backup"
    with process(REPLACED, directory, backup) as owner:
        path, image = Path(owner.hear()), backup.read_bytes()
        os.replace(backup, path)  # beside the log of the one that is in use
        async with SessionRegistry(directory) as registry:
            await registry.search("what it finds there is torn, and told of in the log")
        assert path.read_bytes() == image
        assert os.path.lexists(f"{path}-wal")


REPLACED = """
async def main(directory, backup):
    async with SessionRegistry(directory, catalog=False) as registry:
        session = await registry.start("a", name="n")
        await session.append("a", {"role": "user", "content": "early"})
        await session.backup(backup)
        for n in range(50):
            await session.append("a", {"role": "user", "content": "x" * 500 * n})
        print(session.path, flush=True)
        await asyncio.to_thread(wait)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_file_that_was_moved_takes_all_that_was_answered_along(tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    async with SessionRegistry(tmp_path / "sessions") as registry:
        session = await registry.start("a", name="n")
        for n in range(20):
            await session.append("a", say(n))
        assert session.path is not None
        os.rename(session.path, moved)
        await registry.stop("a")
        os.rename(moved, tmp_path / "sessions" / "a_n.db")
        assert await contents(session) == [*range(20)]


async def test_who_asks_once_a_session_was_created_is_not_told_that_it_was_missing_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, missed, created = DiskDirectory.find, asyncio.Event(), asyncio.Event()

    async def find_late(*args: Any, **how: Any) -> SessionFile | None:
        file = await find(*args, **how)
        if file is None and not missed.is_set():
            missed.set()
            await created.wait()
        return file

    monkeypatch.setattr(DiskDirectory, "find", find_late)
    async with (
        SessionRegistry(tmp_path, catalog=False, mailbox_size=2) as mine,
        SessionRegistry(tmp_path, catalog=False) as theirs,
    ):
        session = mine.session("s")
        early = [asyncio.create_task(session.revision()) for _ in range(3)]
        await missed.wait()
        await theirs.start("s")
        await theirs.stop("s")
        late = [asyncio.create_task(session.revision()) for _ in range(3)]
        await asyncio.sleep(0)  # until they have asked
        created.set()
        for task in early:
            with pytest.raises(SessionNotFoundError):
                await task
        assert [await task for task in late] == [0, 0, 0]
