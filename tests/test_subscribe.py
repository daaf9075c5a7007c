"""Following a session: all that happens is told, once, in order, whatever happens to its actor."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest
from following import Mirror, is_quiet, mirrored, rest, says, take, told
from gate import Gate
from processes import output_of, process, reader
from waiting import PATIENCE_S, eventually

from sessionactor import (
    Appended,
    CorruptRowError,
    Deleted,
    InvalidTypeError,
    InvalidValueError,
    MetadataChanged,
    RegistryClosedError,
    Renamed,
    SessionBusyError,
    SessionCrashedError,
    SessionError,
    SessionNotFoundError,
    SessionRegistry,
    StateChanged,
    StorageError,
    Subscription,
    Updated,
)
from sessionactor._changes import IDLE, Restored, StoredMetadata, WholeRow
from sessionactor._codec import encode
from sessionactor._requests import Append, Restore, SetName, Write
from sessionactor.testing import Faults, MemoryVault, faulty_store, memory_registry

# what is told


async def test_every_change_is_told_with_its_revision(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a", name="first")
        events = session.subscribe()
        await session.append("x", says(1))
        await session.extend("y", [says(2), says(3), says(4), says(5), says(6)])
        await session.update(2, says("two"))
        await session.remove([1, 3, 4])
        await session.truncate_from(6)
        await session.save_metadata({"k": "v", "n": None})
        await session.set_context(room_id="r", sender_id=None)
        await session.rename("second")
        async with session.turn("t", agent_id="x") as turn:
            await turn.append(says("in a turn"))
        await session.clear()
        await registry.delete("a")
        seen = await rest(events)
    assert told(seen) == [
        ("Appended", 1, 1, 1),
        *[("Appended", 2, n, n) for n in range(2, 7)],
        ("Updated", 3, 2, "two"),
        ("Removed", 4, (1, 3, 4)),
        ("Truncated", 5, 6),
        ("MetadataChanged", 6, {"k": "v", "n": None}),
        ("MetadataChanged", 7, {"room_id": "r", "sender_id": None}),
        ("Renamed", 8, "second"),
        ("StateChanged", 9, "running", "t"),
        ("Appended", 10, 7, "in a turn"),
        ("StateChanged", 11, "idle", None),
        ("Cleared", 12),
        ("Deleted", 12),
    ]
    begun = seen[12]
    assert isinstance(begun, StateChanged)
    assert begun.turn_started_at is not None
    assert begun.turn_started_at.tzinfo is not None


async def test_events_hold_rows_as_reads_return_them(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start()
        events = session.subscribe()
        await session.append(
            "a", {"role": "summary", 1: (b"\xff", {2})}, key="k", keep_from=1, parent="x/1"
        )
        (appended,) = await take(events, 1)
        assert isinstance(appended, Appended)
        assert [appended.row] == await session.messages()
        await session.update(1, says("new"))
        (updated,) = await take(events, 1)
        assert isinstance(updated, Updated)
        assert [updated.row] == await session.messages()
        assert updated.row.updated_at is not None


async def test_what_is_done_to_an_event_is_seen_by_nobody_else() -> None:
    async with memory_registry() as registry:
        session = await registry.start()
        first, second = session.subscribe(), session.subscribe()
        await session.append("a", says(["as it was"]))
        await session.save_metadata({"k": "v"})
        for events in (first, second, session.subscribe(since=0)):
            appended, changed = await take(events, 2)
            assert isinstance(appended, Appended)
            assert isinstance(changed, MetadataChanged)
            assert appended.row.message == says(["as it was"])
            assert asdict(changed) == {"revision": 2, "metadata": {"k": "v"}, "context": {}}
            appended.row.message["content"].append("changed")
            appended.row.message["role"] = "changed"
            cast("dict[str, str]", changed.metadata)["k"] = "changed"
        assert (await session.messages())[0].message == says(["as it was"])


async def test_what_changed_nothing_is_not_told() -> None:
    async with memory_registry() as registry:
        session = await registry.start()
        await session.append("a", says(1), key="k")
        events = session.subscribe()
        await session.append("a", says(1), key="k")
        await session.truncate_from(99)
        await session.remove([5])
        await session.set_state("idle")
        assert not await session.update(99, says(1))
        with pytest.raises(SessionError):
            await session.append("a", says(1), expected_head=7)
        await session.messages()
        assert await is_quiet(events, session)
        await session.append("a", says(2))
        assert told(await take(events, 1)) == [("Appended", 2, 2, 2)]


async def test_a_batch_is_told_whole_with_one_revision() -> None:
    async with memory_registry() as registry:
        session = await registry.start()
        await session.extend("a", [says(n) for n in range(1, 6)])
        events = session.subscribe()
        async with session.batch() as batch:
            batch.append("a", says("x"))
            batch.update(1, says("one"))
            batch.remove([2])
            batch.truncate_from(5)
            batch.save_metadata({"k": "v"})
            batch.append("a", says("y"))
        assert told(await take(events, 6)) == [
            ("Appended", 2, 6, "x"),
            ("Updated", 2, 1, "one"),
            ("Removed", 2, (2,)),
            ("Truncated", 2, 5),
            ("MetadataChanged", 2, {"k": "v"}),
            ("Appended", 2, 7, "y"),
        ]


async def test_one_agents_rows_and_what_concerns_all(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        events = session.subscribe(agent_id="a")
        mirror = Mirror(agent_id="a")
        async with mirrored(session.subscribe(agent_id="a"), mirror):
            await session.append("a", says(1))
            await session.append("b", says(2))
            await session.update(2, says("two"))
            await session.update(1, says("one"))
            await session.extend("b", [says(3), says(4)])
            await session.append("a", says(5))
            await session.remove([2])
            await session.save_metadata({"k": "v"})
            await eventually(lambda: mirror.metadata)
            await mirror.is_true(session)
        wanted = [
            ("Appended", 1, 1, 1),
            ("Updated", 4, 1, "one"),
            ("Appended", 6, 5, 5),
            ("Removed", 7, (2,)),
            ("MetadataChanged", 8, {"k": "v"}),
        ]
        assert told(await take(events, 5)) == wanted
        wanted[0] = ("Appended", 1, 1, "one")
        assert told(await take(session.subscribe(since=0, agent_id="a"), 5)) == wanted


# where it begins


async def test_it_begins_with_the_call_not_with_the_first_wait(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("a", says(1))
        active = session.subscribe()
        await registry.stop("a")
        asleep = session.subscribe()
        await session.append("a", says(2))
        late = session.subscribe()
        await session.append("a", says(3))
        assert told(await take(active, 2)) == [("Appended", 2, 2, 2), ("Appended", 3, 3, 3)]
        assert told(await take(asleep, 2)) == [("Appended", 2, 2, 2), ("Appended", 3, 3, 3)]
        assert told(await take(late, 1)) == [("Appended", 3, 3, 3)]


async def test_since_a_revision_all_that_it_made_different_comes_first(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a", name="one")
        await session.extend("a", [says(n) for n in range(1, 9)])
        await session.update(2, says("two"))
        await session.remove([3, 5])
        await session.truncate_from(7)
        await session.save_metadata({"k": "v", "l": "w"})
        await session.set_context(room_id="r")
        await session.rename("two")
        await session.set_state("running", "t")
        await session.append("a", says("new"))
        every = [
            *[("Appended", 1, n, m) for n, m in ((1, 1), (2, "two"), (4, 4), (6, 6))],
            ("Updated", 2, 2, "two"),
            ("Removed", 3, (3, 5)),
            ("Truncated", 4, 7),
            ("MetadataChanged", 5, {"k": "v", "l": "w"}),
            (
                "MetadataChanged",
                6,
                {"agent_alias": None, "channel_id": None, "room_id": "r", "sender_id": None},
            ),
            ("Renamed", 7, "two"),
            ("StateChanged", 8, "running", "t"),
            ("Appended", 9, 9, "new"),
        ]
        for since in range(10):
            wanted = [one for one in every if one[1] > since]
            events = session.subscribe(since=since)
            assert told(await take(events, len(wanted))) == wanted
            assert await is_quiet(events, session)


async def test_a_session_that_does_not_exist(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        for since in (None, 0, 5):
            events = registry.session("nobody").subscribe(since=since)
            for _ in range(2):
                with pytest.raises(SessionNotFoundError):
                    await anext(events)
        session = await registry.start("nobody")
        assert await is_quiet(session.subscribe(since=0), session)


@pytest.mark.parametrize(
    ("since", "error"),
    [(-1, InvalidValueError), ("1", InvalidTypeError), (1.0, InvalidTypeError),
     (True, InvalidTypeError)],
)  # fmt: skip
async def test_what_is_no_revision(since: Any, error: type[Exception]) -> None:
    async with memory_registry() as registry:
        session = await registry.start("s-1")
        with pytest.raises(error, match=r"s-1.*since"):
            session.subscribe(since=since)


async def test_a_revision_that_the_session_has_not_reached(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s-1")
        await session.append("a", says(1))
        for since in (2, 2**70):
            with pytest.raises(InvalidValueError, match=r"s-1.*revision 1"):
                await anext(session.subscribe(since=since))
        assert await is_quiet(session.subscribe(since=1), session)


async def test_an_agent_that_is_no_text() -> None:
    async with memory_registry() as registry:
        session = await registry.start()
        bad: Any = 7
        with pytest.raises(InvalidTypeError, match="agent_id"):
            session.subscribe(agent_id=bad)


async def test_a_registry_that_is_not_open() -> None:
    async with memory_registry() as registry:
        session = await registry.start()
    with pytest.raises(RegistryClosedError):
        session.subscribe()


# the seam between what was and what comes


async def test_what_is_committed_while_the_past_is_read_comes_once(tmp_path: Path) -> None:
    gate = Gate()
    async with SessionRegistry(tmp_path, open_store=gate.open_store) as registry:
        session = await registry.start()
        await session.append("a", says(1))
        for n in range(2, 30):
            mirror = Mirror()
            with gate.shut():
                writing = [
                    asyncio.ensure_future(session.append("a", says(n))),
                    asyncio.ensure_future(session.update(1, says(n))),
                ]
                await gate.reached.wait()
                gate.reached.clear()
                events = session.subscribe(since=0)
                reading = asyncio.ensure_future(anext(events))
                writing.append(asyncio.ensure_future(session.save_metadata({"n": n})))
                for _ in range(n % 5):
                    await asyncio.sleep(0)
            await asyncio.gather(*writing)
            mirror.take(await reading)
            async with mirrored(events, mirror):
                await eventually(lambda n=n, found=mirror.metadata: found.get("n") == str(n))
            await mirror.is_true(session)


async def test_what_is_committed_before_the_reader_goes_on_is_not_missed() -> None:
    async def at_once() -> None:
        return None

    # Without a hop in between, the actor serves the read and the write in one go.
    async with memory_registry(open_store=MemoryVault(hop=at_once).open_store) as registry:
        session = await registry.start()
        await session.append("a", says(1))
        events = session.subscribe(since=0)
        seen, _ = await asyncio.gather(take(events, 2), session.append("a", says(2)))
        assert told(seen) == [("Appended", 1, 1, 1), ("Appended", 2, 2, 2)]


async def test_who_is_slow_to_take_in_the_past_has_not_lagged(place: Path | None) -> None:
    async with SessionRegistry(place, subscriber_buffer=1) as registry:
        session = await registry.start()
        for n in range(1, 6):
            await session.append("a", says(n))
        events = session.subscribe(since=0)
        seen = await take(events, 2)
        for n in range(6, 20):
            await session.append("a", says(n))
        seen += await take(events, 17)
        assert told(seen) == [("Appended", n, n, n) for n in range(1, 20)]


async def test_a_long_past_is_read_in_parts_while_others_write(place: Path | None) -> None:
    async with SessionRegistry(place, subscriber_buffer=4) as registry:
        session = await registry.start()
        for start in range(0, 9000, 1000):
            await session.extend("a", [says(n) for n in range(start, start + 1000)])
        every_third = range(3, 9000, 3)
        await session.remove(every_third)
        mirror, done = Mirror(), asyncio.Event()

        async def write() -> None:
            while not done.is_set():
                db_id = await session.append("b", says("meanwhile"))
                await session.update(db_id - 1, says("changed"))

        writers = [asyncio.ensure_future(write()) for _ in range(3)]
        async for event in session.subscribe(since=0):
            # It is slower than its buffer, but what it reads of the past is no lagging.
            mirror.take(event)
            if len(mirror.seen) == 5000:
                done.set()
                await asyncio.gather(*writers)
                await session.save_metadata({"the": "end"})
            if mirror.metadata:
                break
        await mirror.is_true(session)
        assert mirror.ended is None


async def test_every_subscriber_is_told_everything_in_order() -> None:
    async with memory_registry() as registry:
        session = await registry.start()
        mirrors = [Mirror() for _ in range(100)]
        following = [
            asyncio.create_task(fill(mirror, session.subscribe(since=None if n % 2 else 0)))
            for n, mirror in enumerate(mirrors)
        ]

        async def write(n: int) -> None:
            for _ in range(20):
                await session.append(f"writer-{n}", says(n))

        await asyncio.gather(*(write(n) for n in range(10)))
        await session.rename("the-end")
        await asyncio.wait_for(asyncio.gather(*following), PATIENCE_S)
        for mirror in mirrors:
            await mirror.is_true(session)
            assert len(mirror.seen) == 201


async def fill(mirror: Mirror, events: Subscription) -> None:
    """Follow until the session is renamed."""
    async for event in events:
        mirror.take(event)
        if isinstance(event, Renamed):
            return


# whatever happens to the actor


async def test_it_outlives_passivation_and_lets_it_happen(place: Path | None) -> None:
    async with SessionRegistry(place, idle_timeout_s=0.005, max_active=2) as registry:
        session = await registry.start("a")
        async with mirrored(session.subscribe()) as mirror:
            for n in range(1, 6):
                await session.append("a", says(n))
                await eventually(lambda: registry.whereis("a") is None)
            for n in range(10):
                await (await registry.start(f"crowd-{n}")).append("a", says(n))
                await session.append("a", says(n))
            await eventually(lambda: len(mirror.seen) == 15)
            await mirror.is_true(session)
        assert registry.statistics().passivations > 10


async def test_a_commit_that_failed_is_told_if_it_was_stored_after_all(tmp_path: Path) -> None:
    faults = Faults()
    async with SessionRegistry(tmp_path, open_store=faulty_store(faults)) as registry:
        session = await registry.start("a")
        events = session.subscribe()
        await session.append("a", says(1))
        for when, content in (("before", "lost"), ("after", "kept")):
            faults.fail("commit", OSError("disk"), when=when)  # type: ignore[arg-type]
            with pytest.raises(StorageError):
                await session.append("a", says(content))
            faults.crash("commit", ValueError("bug"), when=when)  # type: ignore[arg-type]
            with pytest.raises(SessionCrashedError):
                await session.append("a", says(content))
        await session.append("a", says("next"))
        assert told(await take(events, 4)) == [
            ("Appended", 1, 1, 1),
            ("Appended", 2, 2, "kept"),
            ("Appended", 3, 3, "kept"),
            ("Appended", 4, 4, "next"),
        ]
        assert await is_quiet(events, session)


async def test_a_subscriber_whose_reading_failed_goes_on_where_it_was(tmp_path: Path) -> None:
    faults = Faults()
    async with SessionRegistry(tmp_path, open_store=faulty_store(faults)) as registry:
        session = await registry.start("a")
        await session.append("a", says(1))
        events = session.subscribe(since=0)
        for _ in range(2):
            faults.fail("read", OSError("disk"))
            with pytest.raises(StorageError):
                await anext(events)
        await session.append("a", says(2))
        assert told(await take(events, 2)) == [("Appended", 1, 1, 1), ("Appended", 2, 2, 2)]


async def test_a_new_name_is_told_once_the_file_has_it(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="one")
        await session.append("a", says(1))
        events = session.subscribe()
        there: list[bool] = []

        async def follow() -> None:
            async for event in events:
                assert isinstance(event, Renamed)
                there.append((tmp_path / f"a_{event.name}.db").exists())

        following = asyncio.create_task(follow())
        for name in ("two", "three", "four"):
            await session.rename(name)
        await eventually(lambda: len(there) == 3)
        assert there == [True] * 3
        following.cancel()
        assert session.path == tmp_path / "a_four.db"


async def test_a_name_that_could_not_be_given_is_not_told(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="one")
        await session.append("a", says(1))
        events = session.subscribe()
        assert session.path is not None
        with reader(session.path):
            with pytest.raises(SessionBusyError):
                await session.rename("two")
            await session.append("a", says(2))
            seen = told(await take(events, 2))
        assert ("Appended", await session.revision(), 2, 2) in seen
        assert not any("two" in one for one in seen)


async def test_a_name_that_is_only_stored_is_not_told(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="one")
        events = session.subscribe()
        await registry.ask(
            "a", Write((SetName("two"), Append("x", encode(says(1), max_bytes=999))))
        )
        assert told(await take(events, 1)) == [("Appended", 1, 1, 1)]


async def test_deleting_ends_it_and_another_of_that_id_is_another(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("a", says(1))
        waiting = asyncio.ensure_future(rest(session.subscribe()))
        behind = session.subscribe(since=0)
        asleep = session.subscribe()
        await asyncio.sleep(0)
        await registry.delete("a")
        await (await registry.start("a")).append("a", says("another"))
        for events in (await waiting, await rest(asleep)):
            assert events == [Deleted(1)]
        assert await rest(behind) == [Deleted(0)]
        assert told(await take(session.subscribe(since=0), 1)) == [("Appended", 1, 1, "another")]


async def test_deleting_while_the_past_is_read(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        for turns in range(12):
            session = await registry.start("a")
            await session.append("a", says(1))
            following = asyncio.ensure_future(rest(session.subscribe(since=0)))
            for _ in range(turns):
                await asyncio.sleep(0)
            await registry.delete("a")
            seen = told(await following)
            assert seen in ([("Appended", 1, 1, 1), ("Deleted", 1)], [("Deleted", 0)])


async def test_what_another_owner_did_meanwhile_is_told(tmp_path: Path) -> None:
    script = """
    async def main(directory):
        async with SessionRegistry(directory) as registry:
            session = registry.session("a")
            await session.append("b", {"content": "by another"})
            await session.update(1, {"content": "changed"})
            await session.set_state("running", "t")
            os._exit(0)

    asyncio.run(main(sys.argv[1]))
    """
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a")
        await session.append("a", says(1))
        async with mirrored(session.subscribe(since=0)) as mirror:
            await eventually(lambda: mirror.revision == 1)
            await registry.stop("a")
            await asyncio.to_thread(output_of, script, tmp_path)
            await session.append("a", says("mine again"))
            await eventually(lambda: len(mirror.rows) == 3)
            await mirror.is_true(session)
        assert told(mirror.seen) == [
            ("Appended", 1, 1, 1),
            ("Appended", 2, 2, "by another"),
            ("Updated", 3, 1, "changed"),
            ("StateChanged", 5, "interrupted", "t"),
            ("Appended", 6, 3, "mine again"),
        ]


async def test_a_session_that_other_hands_removed_has_ended(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        for create in (False, True):
            session = await registry.start("a")
            await session.append("a", says(1))
            events = session.subscribe()
            await registry.stop("a")
            assert session.path is not None
            session.path.unlink()
            if create:
                await registry.start("a")
            else:
                with pytest.raises(SessionNotFoundError):
                    await session.messages()
            assert await rest(events) == [Deleted(1)]


async def test_closing_the_registry_ends_it_after_all_that_was_committed(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        slow, waiting = session.subscribe(), session.subscribe()
        idle = (await registry.start("b")).subscribe()
        following = [asyncio.ensure_future(rest(events)) for events in (waiting, idle)]
        await asyncio.sleep(0)
        writing = [asyncio.ensure_future(session.append("a", says(n))) for n in range(50)]
        await asyncio.sleep(0)
    every = [("Appended", n, n, n - 1) for n in range(1, 51)]
    assert told(await following[0]) == told(await rest(slow)) == every
    assert await following[1] == []
    assert await asyncio.gather(*writing) == list(range(1, 51))
    with pytest.raises(StopAsyncIteration):
        await anext(slow)


async def test_closing_the_registry_before_the_past_was_read_is_an_error() -> None:
    async with memory_registry() as registry:
        session = await registry.start("a")
        await session.append("a", says(1))
        events = session.subscribe(since=0)
    with pytest.raises(RegistryClosedError):
        await anext(events)


# rows that cannot be read, sessions that are imported


async def test_a_registry_that_is_opened_again_does_not_tell_of_the_past(tmp_path: Path) -> None:
    registry = SessionRegistry(tmp_path)
    async with registry:
        session = await registry.start("a")
        await session.append("x", says(1))
        events = session.subscribe(since=0)
    async with registry:
        with pytest.raises(RegistryClosedError):
            await take(events, 1)
        assert [event.revision for event in await take(session.subscribe(since=0), 1)] == [1]


async def test_a_corrupt_row_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a")
        await session.extend("a", [says(n) for n in range(1, 6)])
        assert session.path is not None
        await registry.stop("a")
        with closing(sqlite3.connect(session.path)) as connection, connection:
            connection.execute("UPDATE messages SET data = x'c1' WHERE id = 2")
            connection.execute("UPDATE messages SET data = 1.5 WHERE id = 4")
        events = session.subscribe(since=0)
        seen: list[Any] = []
        for _ in range(5):
            try:
                seen.append((await take(events, 1))[0].row.db_id)  # type: ignore[union-attr]
            except CorruptRowError as error:
                seen.append(-error.db_id)
        assert seen == [1, -2, 3, -4, 5]
        await session.append("a", says("more"))
        assert told(await take(events, 1)) == [("Appended", 2, 6, "more")]


async def test_what_is_restored_comes_whole(place: Path | None) -> None:
    def row(db_id: int, revision: int, updated_at: int | None = None) -> WholeRow:
        data = encode(says(db_id), max_bytes=999)
        stored = (db_id, "a", data, db_id, 0, None, None, None, None, revision, updated_at)
        return WholeRow(stored, db_id, None)

    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        live, behind = session.subscribe(), session.subscribe(since=0)
        first = Restore(None, "one", (row(1, 9, 50), row(2, 2)))
        await registry.ask("a", Write((first,)))
        assert await is_quiet(live, session)
        assert await is_quiet(behind, session)
        again = session.subscribe(since=0)
        assert await is_quiet(again, session)
        metadata = (StoredMetadata("k", "v", 12),)
        final = Restored(7, 20, 1, 99, "x/1", (("room_id", "r"),), IDLE, 0, 15, 0)
        rest = Restore("one", "two", (row(3, 3),), metadata=metadata, final=final)
        await registry.ask("a", Write((rest,)))
        for events in (live, behind, again):
            async with mirrored(events) as mirror:
                await eventually(lambda found=mirror: found.metadata)
            await mirror.is_true(session)
            assert mirror.revision == 15
            assert mirror.metadata == {"k": "v"}
            assert mirror.context["room_id"] == "r"
        await session.append("b", says("next"))
        for events in (live, behind, again):
            assert told(await take(events, 1)) == [("Appended", 21, 8, "next")]


async def test_a_killed_owners_turn_is_told_as_interrupted(tmp_path: Path) -> None:
    script = """
    async def main(directory):
        async with SessionRegistry(directory) as registry:
            session = await registry.start("a")
            async with session.turn("t", agent_id="x") as turn:
                await turn.append({"content": "half"})
                say("in the turn")
                await asyncio.to_thread(wait)

    asyncio.run(main(sys.argv[1]))
    """
    with process(script, tmp_path) as owner:
        await asyncio.to_thread(owner.hear)
        owner.kill()
    async with SessionRegistry(tmp_path) as registry:
        events = registry.session("a").subscribe(since=0)
        assert told(await take(events, 2)) == [
            ("Appended", 2, 1, "half"),
            ("StateChanged", 3, "interrupted", "t"),
        ]
        await registry.session("a").discard_turn("t")
        assert told(await take(events, 2)) == [
            ("Removed", 4, (1,)),
            ("StateChanged", 4, "idle", None),
        ]
