"""Following what others commit, in a registry for reading only."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from following import Mirror, mirrored, rest, says, take, told
from processes import Process, process
from waiting import eventually

from sessionactor import (
    Deleted,
    InvalidValueError,
    SessionNotFoundError,
    SessionRegistry,
)

WRITER = """
import random

async def main(directory, seed):
    chance = random.Random(int(seed))
    async with SessionRegistry(directory) as registry:
        session = await registry.start("a")
        say("ready")
        while line := wait().strip():
            for n in range(int(line)):
                what = chance.randrange(12)
                newest = (await session.info()).message_count
                message = {"content": chance.random()}
                if what < 4:
                    await session.append("x", message)
                elif what < 6:
                    await session.extend("y", [message] * chance.randrange(1, 5))
                elif what == 6:
                    await session.update_last(message)
                elif what == 7:
                    await session.remove([chance.randrange(1, 50) for _ in range(4)])
                elif what == 8:
                    await session.truncate_from(chance.randrange(1, 90))
                elif what == 9:
                    await session.save_metadata({chance.choice("klm"): n})
                elif what == 10:
                    await session.rename(None)
                else:
                    await registry.stop("a")
            await session.save_metadata({"end": line})
            say("done")

asyncio.run(main(*sys.argv[1:]))
"""
"""Does so many things to session `a` as it is told, by chance; then sets the key `end`."""


@contextmanager
def writing(directory: Path, seed: int = 0) -> Iterator[Process]:
    with process(WRITER, directory, seed) as writer:
        writer.hear()
        yield writer


async def write(writer: Process, count: int) -> None:
    writer.tell(str(count))
    assert await asyncio.to_thread(writer.hear) == '"done"'


@pytest.mark.parametrize("seed", range(4))
async def test_all_that_the_owner_does_is_told_once(tmp_path: Path, seed: int) -> None:
    with writing(tmp_path, seed) as writer:
        await write(writer, 20)
        async with SessionRegistry(tmp_path, read_only=True) as registry:
            session = registry.session("a")
            since = await session.revision()
            late = Mirror(await session.messages(), since)
            whole = Mirror()
            async with (
                mirrored(session.subscribe(since=0), whole),
                mirrored(session.subscribe(since=since), late),
            ):
                for count in (31, 1, 17, 40):
                    await write(writer, count)
                    for mirror in (whole, late):
                        await eventually(
                            lambda found=mirror, end=str(count): found.metadata.get("end") == end
                        )
                        await mirror.is_true(session)
                        assert mirror.name in (None, session.name)
            assert (await session.info()).revision == whole.revision == late.revision


async def test_from_now_on_is_from_the_first_wait_on(tmp_path: Path) -> None:
    async with (
        SessionRegistry(tmp_path) as owning,
        SessionRegistry(tmp_path, read_only=True) as registry,
    ):
        session = await owning.start("a")
        await session.append("x", says(1))
        events = registry.session("a").subscribe()
        first = asyncio.ensure_future(anext(events))
        # Once it has asked, it waits.
        await eventually(lambda: registry.statistics().requests)
        await registry.session("a").revision()
        await session.append("x", says(2))
        await session.append("x", says(3))
        assert told([await first, *await take(events, 1)]) == [
            ("Appended", 2, 2, 2),
            ("Appended", 3, 3, 3),
        ]


async def test_one_agents_events(tmp_path: Path) -> None:
    async with (
        SessionRegistry(tmp_path) as owning,
        SessionRegistry(tmp_path, read_only=True) as registry,
    ):
        session = await owning.start("a")
        events = registry.session("a").subscribe(since=0, agent_id="x")
        await session.append("x", says(1))
        await session.append("y", says(2))
        await session.append("x", says(3))
        assert told(await take(events, 2)) == [("Appended", 1, 1, 1), ("Appended", 3, 3, 3)]


async def test_it_goes_on_from_owner_to_owner(tmp_path: Path) -> None:
    with writing(tmp_path, 1) as writer:
        await write(writer, 10)
        async with SessionRegistry(tmp_path, read_only=True) as registry:
            session = registry.session("a")
            async with mirrored(session.subscribe(since=0)) as mirror:
                await eventually(lambda: mirror.metadata.get("end") == "10")
                await write(writer, 15)
                writer.kill()
                await eventually(lambda: mirror.metadata.get("end") == "15")
                await mirror.is_true(session)
                with writing(tmp_path, 2) as another:
                    await write(another, 20)
                    await eventually(lambda: mirror.metadata.get("end") == "20")
                    assert another.end() == 0
                await mirror.is_true(session)


async def test_deleting_ends_it(tmp_path: Path) -> None:
    async with (
        SessionRegistry(tmp_path) as owning,
        SessionRegistry(tmp_path, read_only=True) as registry,
    ):
        session = await owning.start("a")
        await session.append("x", says(1))
        events, asleep = registry.session("a").subscribe(since=0), registry.session("a").subscribe()
        assert told(await take(events, 1)) == [("Appended", 1, 1, 1)]
        waiting = asyncio.ensure_future(rest(asleep))
        following = asyncio.ensure_future(rest(events))
        await eventually(lambda: registry.statistics().requests >= 2)
        await owning.delete("a")
        assert await following == [Deleted(1)]
        assert await waiting == [Deleted(1)]
        await owning.start("a")
        assert await rest(events) == []


async def test_deleted_and_created_again_is_another_session(tmp_path: Path) -> None:
    async with (
        SessionRegistry(tmp_path) as owning,
        SessionRegistry(tmp_path, read_only=True) as registry,
    ):
        session = await owning.start("a")
        await session.extend("x", [says(n) for n in range(5)])
        await session.append("x", says("last"))
        events = registry.session("a").subscribe(since=0)
        assert len(await take(events, 6)) == 6
        await owning.delete("a")
        await (await owning.start("a")).append("x", says("another"))
        assert await rest(events) == [Deleted(2)]


async def test_a_session_that_does_not_exist_yet(tmp_path: Path) -> None:
    async with (
        SessionRegistry(tmp_path) as owning,
        SessionRegistry(tmp_path, read_only=True) as registry,
    ):
        for since in (None, 0, 7):
            with pytest.raises(SessionNotFoundError):
                await anext(registry.session("a").subscribe(since=since))
        events = registry.session("a").subscribe(since=0)
        await (await owning.start("a")).append("x", says(1))
        assert told(await take(events, 1)) == [("Appended", 1, 1, 1)]
        with pytest.raises(InvalidValueError, match="revision 1"):
            await anext(registry.session("a").subscribe(since=2))


async def test_a_new_name_is_told_once_the_file_has_it(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as owning:
        await (await owning.start("a", name="one")).append("x", says(1))
    old = tmp_path / "a_one.db"
    async with SessionRegistry(tmp_path, read_only=True) as registry:
        events = registry.session("a").subscribe(since=0)
        assert told(await take(events, 1)) == [("Appended", 1, 1, 1)]
        waiting = asyncio.ensure_future(anext(events))
        with closing(sqlite3.connect(old)) as connection:
            # As an owner does that is about to move the file.
            connection.execute("UPDATE session SET name = 'two', revision = 2, name_revision = 2")
            connection.commit()
        asked = registry.statistics().requests
        await eventually(lambda: registry.statistics().requests > asked)
        assert not waiting.done()
        old.rename(tmp_path / "a_two.db")
        assert told([await asyncio.wait_for(waiting, 20)]) == [("Renamed", 2, "two")]


async def test_a_killed_owners_turn_is_told_as_interrupted(tmp_path: Path) -> None:
    script = """
    async def main(directory):
        async with SessionRegistry(directory) as registry:
            session = await registry.start("a")
            await session.set_state("running", "t")
            say("running")
            wait()

    asyncio.run(main(sys.argv[1]))
    """
    async with SessionRegistry(tmp_path, read_only=True) as registry:
        with process(script, tmp_path) as owner:
            assert json.loads(await asyncio.to_thread(owner.hear)) == "running"
            events = registry.session("a").subscribe(since=0)
            assert told(await take(events, 1)) == [("StateChanged", 1, "running", "t")]
            owner.kill()
        again = registry.session("a").subscribe(since=0)
        assert told(await take(again, 1)) == [("StateChanged", 1, "interrupted", "t")]
        async with SessionRegistry(tmp_path) as owning:
            await owning.start("a")
            assert told(await take(events, 1)) == [("StateChanged", 2, "interrupted", "t")]


async def test_closing_the_registry_ends_it(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as owning:
        session = await owning.start("a")
        await session.append("x", says(1))
        async with SessionRegistry(tmp_path, read_only=True) as registry:
            events = registry.session("a").subscribe(since=0)
            assert told(await take(events, 1)) == [("Appended", 1, 1, 1)]
            following = asyncio.ensure_future(rest(events))
            await asyncio.sleep(0)
        assert await following == []


async def test_following_holds_no_file_and_no_task_of_its_own(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as owning:
        for n in range(20):
            await (await owning.start(f"s{n}")).append("x", says(n))
    async with SessionRegistry(tmp_path, read_only=True) as registry:
        tasks: Any = None
        every = [registry.session(f"s{n}").subscribe(since=0) for n in range(20)]
        for n, events in enumerate(every):
            assert told(await take(events, 1)) == [("Appended", 1, 1, n)]
        for n in range(20):
            await registry.stop(f"s{n}")
        await eventually(lambda: registry.statistics().active == 0)
        tasks = len(asyncio.all_tasks())
        assert tasks < 10
        assert not list(tmp_path.glob("s*-wal"))
        async with SessionRegistry(tmp_path) as owning:
            await owning.session("s7").append("x", says("more"))
            assert told(await take(every[7], 1)) == [("Appended", 2, 2, "more")]
