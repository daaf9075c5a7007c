"""A fork is a prefix of its origin, which knows nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from copying import begun, held
from entries import entries
from processes import output_of, owner, reader
from waiting import PATIENCE_S, eventually

from sessionactor import (
    Appended,
    InvalidNameError,
    InvalidTypeError,
    Renamed,
    Row,
    Session,
    SessionBusyError,
    SessionExistsError,
    SessionNotFoundError,
    SessionOwnedError,
    SessionRegistry,
    StorageError,
    Truncated,
    TurnClosedError,
    TurnOpenError,
)
from sessionactor.checkup import check_catalog
from sessionactor.testing import Faults, MemoryVault, faulty_store, memory_registry


def says(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


async def said(session: Session) -> list[Any]:
    return [row.message["content"] for row in await session.messages()]


async def filled(registry: SessionRegistry, count: int = 5, **settings: Any) -> Session:
    """A session with rows, keys, metadata and context."""
    session = await registry.start("origin", name="of it all")
    for n in range(1, count + 1):
        await session.append("ab"[n % 2], says(n), key=f"k{n}", **settings)
    await session.save_metadata({"model": "m", "none": None})
    await session.set_agent_alias("alias")
    await session.set_context(channel_id="c", room_id="r", sender_id="s")
    return session


async def everything(session: Session) -> tuple[object, ...]:
    """All that a session shows of itself."""
    return (
        await session.info(),
        await session.messages(),
        await session.get_metadata(),
        [page async for page in session.chapters()],
    )


async def test_a_fork_has_the_history_before_a_row_and_all_that_goes_with_it(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        await session.append("a", {"role": "summary"}, keep_from=3)
        await session.update(2, says("two"))
        rows, before = await session.messages(), await everything(session)
        fork = await session.fork("new", name="what if", before=5)
        assert (fork.session_id, fork.name) == ("new", "what if")
        assert await fork.messages() == rows[:4]
        assert await fork.get_metadata() == {"model": "m", "none": None}
        info = await fork.info()
        assert (info.agent_alias, info.channel_id, info.room_id, info.sender_id) == (
            *("alias", "c", "r"),
            "s",
        )
        assert (info.message_count, info.state, info.parent) == (4, "idle", "origin/4")
        assert info.revision == (await session.revision()) + 1
        assert info.created_at >= rows[-1].inserted_at
        assert info.last_activity == info.created_at
        assert await everything(session) == before


async def test_the_ids_of_a_fork_go_on_after_the_history_that_it_took(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        fork = await session.fork(before=3)
        assert await fork.append("a", says("other"), expected_head=2) == 3
        assert await session.append("a", says("more")) == 6
        whole = await session.fork()
        assert await whole.append("a", says("even more")) == 7
        assert await said(fork) == [1, 2, "other"]
        assert await said(session) == [1, 2, 3, 4, 5, "more"]
        assert await said(whole) == [1, 2, 3, 4, 5, "more", "even more"]


@pytest.mark.parametrize("before", [-(10**20), 0, 1])
async def test_a_fork_before_everything_has_no_rows(place: Path | None, before: int) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        fork = await session.fork(before=before)
        assert await fork.messages() == []
        assert (await fork.info()).parent == "origin/0"
        assert await fork.get_metadata() == {"model": "m", "none": None}
        assert await fork.append("a", says("new"), key="k1", expected_head=0) == 1


async def test_a_fork_of_an_empty_session_is_empty(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        fork = await (await registry.start()).fork(before=7)
        assert await fork.messages() == []
        assert await fork.append("a", says(1)) == 1


async def test_a_fork_after_everything_is_whole(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        fork = await session.fork(before=10**20)
        assert await fork.messages() == await session.messages()
        assert await fork.append("a", says("next")) == 6


async def test_keys_of_the_history_are_known_to_a_fork_and_later_ones_are_free(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        await session.remove([2])
        fork = await session.fork(before=4)
        assert await fork.append("b", says(1), key="k1") == 1
        assert await fork.append("a", says(2), key="k2") == 2  # removed, but it was there
        assert await fork.append("b", says("else"), key="k5") == 4
        assert (await fork.get(key="k5")) == (await fork.messages())[-1]
        assert await session.append("b", says(5), key="k5") == 5
        assert await said(fork) == [1, 3, "else"]


async def test_ids_that_the_origin_used_up_are_used_up_in_a_whole_fork(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        await session.truncate_from(4)
        fork = await session.fork()
        assert (await fork.info()).message_count == 3
        assert await fork.append("a", says(4), key="k4") == 4  # what the origin would say
        assert await fork.append("a", says("next")) == 6
        cut = await session.fork(before=4)
        assert await cut.append("a", says("next")) == 4


async def test_a_fork_of_a_history_with_holes_counts_right(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry, 9)
        await session.remove([2, 3, 7])
        fork = await session.fork(before=8)
        assert await said(fork) == [1, 4, 5, 6]
        assert (await fork.info()).message_count == 4
        assert await fork.append("a", says("next")) == 8
        assert (await fork.info()).message_count == 5
        assert (await fork.info()).parent == "origin/6"
        await registry.stop(fork.session_id)
        assert (await fork.info()).message_count == 5


async def test_a_fork_can_be_forked_and_deleted(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        first = await session.fork("first", before=4)
        second = await first.fork("second", before=3)
        await registry.delete("first")
        assert await said(second) == [1, 2]
        assert (await second.info()).parent == "first/2"
        again = await session.fork("first")
        assert await said(again) == [1, 2, 3, 4, 5]


async def test_a_fork_outlives_its_registry_and_its_origin(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await filled(registry)
        rows = await session.messages()
        fork = await session.fork("new", name="n")
        info = await fork.info()
        await registry.delete("origin")
    assert entries(tmp_path) == ["new_n.db"]
    async with SessionRegistry(tmp_path) as registry:
        assert await registry.session("new").messages() == rows
        assert await registry.session("new").info() == info


# names and ids


async def test_a_fork_gets_an_id_and_a_name_of_its_own(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        forks = [await session.fork() for _ in range(3)]
        assert len({fork.session_id for fork in forks}) == 3
        assert len({fork.name for fork in forks} | {session.name}) == 4
        named = await session.fork(name="chosen")
        assert await registry.find_by_name("chosen") == (
            named.path,
            named.session_id,
            "chosen",
        )


@pytest.mark.parametrize("stopped", [False, True])
async def test_an_id_that_exists_is_refused_and_left_as_it_is(
    place: Path | None, stopped: bool
) -> None:
    async with SessionRegistry(place) as registry:
        session, other = await filled(registry), await registry.start("other", name="n")
        await other.append("a", says("untouched"))
        before = await other.info()
        if stopped:
            await registry.stop("other")
        for session_id, name in (("other", None), ("other", "n"), ("origin", None)):
            with pytest.raises(SessionExistsError) as caught:
                await session.fork(session_id, name=name)
            assert caught.value.session_id == session_id
        assert await other.info() == before
        assert await said(other) == ["untouched"]
        assert len(await registry.find("*")) == 2


@pytest.mark.parametrize("bad", ["", "x" * 201, "nul\0", "cut \ud800", 7])
async def test_what_can_be_no_id_or_name_is_refused(place: Path | None, bad: Any) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        with pytest.raises(InvalidNameError):
            await session.fork(bad)
        with pytest.raises(InvalidNameError):
            await session.fork(name=bad)
        with pytest.raises(InvalidTypeError):
            await session.fork(before="3")  # type: ignore[arg-type]
        assert len(await registry.find("*")) == 1


async def test_a_session_that_does_not_exist_has_no_fork(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        with pytest.raises(SessionNotFoundError) as caught:
            await registry.session("nowhere").fork("new")
        assert caught.value.session_id == "nowhere"
        assert not await registry.exists("new")


async def test_a_session_that_another_process_owns_has_no_fork_and_is_none(
    tmp_path: Path,
) -> None:
    with owner(tmp_path, "theirs") as other:
        async with SessionRegistry(tmp_path) as registry:
            with pytest.raises(SessionOwnedError) as caught:
                await registry.session("theirs").fork("new")
            assert caught.value.pid == other.pid
            session = await filled(registry)
            with pytest.raises(SessionOwnedError):
                await session.fork("theirs")
            assert not await registry.exists("new")


# turns and states


async def test_closed_turns_stay_closed_where_their_rows_are(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("origin")
        for turn_id in ("one", "two"):
            async with session.turn(turn_id, agent_id="a") as turn:
                await turn.append(says(turn_id))
                await turn.append(says(turn_id))
        fork = await session.fork(before=3)
        with pytest.raises(TurnClosedError):
            await fork.append("a", says("late"), turn="one")
        async with fork.turn("two", agent_id="a") as turn:
            assert await turn.append(says("anew")) == 3
        whole = await session.fork()
        with pytest.raises(TurnClosedError):
            await whole.append("a", says("late"), turn="two")


async def test_a_turn_without_rows_stays_closed_in_a_whole_fork_only(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("origin")
        await session.append("a", says(1))
        async with session.turn("gone", agent_id="a") as turn:
            await turn.append(says(2))
        await session.remove([2])
        await session.append("a", says(3))
        with pytest.raises(TurnClosedError):
            await (await session.fork()).append("a", says("late"), turn="gone")
        cut = await session.fork(before=3)
        assert await cut.append("a", says("anew"), turn="gone") == 3


async def test_the_rows_of_an_open_turn_come_and_it_is_closed_in_the_fork(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("origin")
        async with session.turn("open", agent_id="a") as turn:
            await turn.append(says(1))
            fork = await session.fork()
            assert (await session.info()).state == "running"
            info = await fork.info()
            assert (info.state, info.turn_id, info.turn_started_at) == ("idle", None, None)
            assert [row.turn for row in await fork.messages()] == ["open"]
            with pytest.raises(TurnClosedError):
                await fork.append("a", says("late"), turn="open")
            async with fork.turn("next", agent_id="a") as other:
                assert await other.append(says("free")) == 2
            assert await turn.append(says(2)) == 2
        assert await said(session) == [1, 2]


async def test_a_fork_of_an_interrupted_session_is_idle(tmp_path: Path) -> None:
    script = """
    async def main():
        async with SessionRegistry(sys.argv[1]) as registry:
            session = await registry.start("origin", name="n")
            async with session.turn("cut", agent_id="a") as turn:
                await turn.append({"role": "user", "content": 1})
                os._exit(0)

    asyncio.run(main())
    """
    output_of(script, tmp_path)
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("origin")
        fork = await session.fork()
        assert (await session.info()).state == "interrupted"
        assert (await fork.info()).state == "idle"
        assert await fork.interrupted_turn() == []
        assert await said(fork) == [1]
        with pytest.raises(TurnOpenError):
            async with session.turn("next", agent_id="a"):
                pass
        async with fork.turn("next", agent_id="a") as turn:
            await turn.append(says(2))
        assert [row.message["content"] for row in await session.interrupted_turn()] == [1]


async def test_an_error_is_not_taken_over(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        await session.set_state("error", "t")
        info = await (await session.fork()).info()
        assert (info.state, info.turn_id) == ("idle", None)


async def test_whole_turns_move_the_bound_down(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("origin")
        # Two agents whose turns overlap: a chain of three.
        for turn in ("one", None, "two", "one", "two", "three", "two", "three", None):
            await session.append("a", says(turn), turn=turn)
        for before, length in (
            *((1, 0), (2, 0), (4, 0), (7, 0), (8, 0)),
            *((9, 8), (10, 9), (None, 9)),
        ):
            fork = await session.fork(before=before, whole_turns=True)
            assert len(await fork.messages()) == length, before
            assert await fork.append("a", says("next")) == length + 1
        lone = await session.fork(before=3)
        await lone.append("a", says("two"), turn="two")
        assert len(await (await lone.fork(before=3, whole_turns=True)).messages()) == 2


async def test_a_session_that_is_being_imported_has_no_fork(place: Path | None) -> None:
    from sessionactor._requests import Restore, Write

    async with SessionRegistry(place) as registry:
        session = await registry.start("origin")
        await registry.ask("origin", Write((Restore(after=None, mark="half"),)))
        assert (await session.info()).state == "importing"
        with pytest.raises(SessionBusyError):
            await session.fork("new")
        assert not await registry.exists("new")


# references


async def test_references_to_what_came_along_point_to_the_copies(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("origin/7")
        parents = [None, 1, "origin/7/2", "other/1", "2", "origin/7/02", "origin/7/9", "origin/7/x"]
        for parent in parents:
            await session.append("a", says(1), parent=parent)
        before = await session.messages()
        fork = await session.fork("new")
        assert [row.parent for row in await fork.messages()] == [
            *(None, "new/1", "new/2", "other/1", "2"),
            *("origin/7/02", "origin/7/9", "origin/7/x"),
        ]
        assert await session.messages() == before


# what happens meanwhile


async def test_a_fork_while_many_append_is_a_prefix(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry, 300)
        done = asyncio.Event()

        async def caller(n: int) -> list[int]:
            mine = []
            while not done.is_set():
                mine.append(await session.append(f"caller {n}", says(n), key=f"{n} {len(mine)}"))
            return mine

        callers = [asyncio.ensure_future(caller(n)) for n in range(100)]
        forks = []
        for before in (None, 100, None, 301):
            answered = (await session.messages())[-1].db_id
            forks.append((before, answered, await session.fork(before=before)))
        done.set()
        given = sorted(db_id for mine in await asyncio.gather(*callers) for db_id in mine)
        rows = await session.messages()
        assert [row.db_id for row in rows] == [*range(1, 301), *given]
        for before, answered, fork in forks:
            taken = await fork.messages()
            assert taken == rows[: len(taken)]
            if before is None:
                assert len(taken) >= answered  # it saw all that was answered before
            else:
                assert len(taken) == before - 1
            assert (await fork.info()).message_count == len(taken)
            assert await fork.append("a", says("next")) == len(taken) + 1
            last = rows[len(taken) - 1]
            assert await fork.append(last.agent_id, last.message, key=last.key) == last.db_id


async def test_what_is_rewritten_meanwhile_is_as_at_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await filled(registry, 9)
        async with held(monkeypatch) as hold:
            copy = await begun(hold, session.fork)
            await session.update(2, says("two"))
            await session.remove([4, 5])
            await session.truncate_from(8)
            await session.append("a", says("ten"))
            await session.save_metadata({"late": True})
            rows, metadata = await session.messages(), await session.get_metadata()
            hold.released.set()
            fork = await copy
        assert await fork.messages() == rows
        assert await fork.get_metadata() == metadata
        assert (await fork.info()).message_count == len(rows) == 6


async def test_a_rename_waits_for_a_fork_and_the_session_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await filled(registry)
        async with held(monkeypatch) as hold:
            copy = await begun(hold, session.fork)
            renaming = asyncio.ensure_future(session.rename("renamed"))
            assert await session.append("a", says("goes on")) == 6
            assert not renaming.done()
            assert session.name == "of it all"
            hold.released.set()
            fork = await copy
            await renaming
        assert session.name == "renamed"
        assert await said(session) == await said(fork) == [1, 2, 3, 4, 5, "goes on"]


async def test_a_fork_waits_for_a_rename(tmp_path: Path) -> None:
    faults = Faults()
    async with SessionRegistry(tmp_path, open_store=faulty_store(faults)) as registry:
        session = await filled(registry)
        stall = faults.stall("close")
        forked = faults.stall("open", session_id="new")
        renaming = asyncio.ensure_future(session.rename("renamed"))
        await stall.reached.wait()
        # What the fork asks its origin waits in the origin's mailbox.
        forking = asyncio.ensure_future(session.fork("new"))
        await asyncio.sleep(0)
        assert not forked.reached.is_set()
        stall.release()
        forked.release()
        await renaming
        assert await said(await forking) == await said(session)


@pytest.mark.parametrize("again", [False, True])
async def test_an_origin_deleted_before_it_is_read_gives_no_fork(
    tmp_path: Path, again: bool
) -> None:
    faults = Faults()
    async with SessionRegistry(tmp_path, open_store=faulty_store(faults)) as registry:
        session = await filled(registry)
        stall = faults.stall("open", session_id="new")
        forking = asyncio.ensure_future(session.fork("new"))
        await stall.reached.wait()
        await registry.delete("origin")
        if again:
            other = await registry.start("origin", name="of it all")
            await other.append("a", says("of another session"))
        stall.release()
        with pytest.raises(SessionNotFoundError) as caught:
            await forking
        assert caught.value.session_id == "origin"
        assert not await registry.exists("new")
        if again:
            assert await said(other) == ["of another session"]
        assert [file.session_id for file in await registry.find("*")] == ["origin"] * again


async def test_an_origin_deleted_while_it_is_read_gives_a_whole_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await filled(registry)
        async with held(monkeypatch) as hold:
            copy = await begun(hold, session.fork)
            await registry.delete("origin")
            other = await registry.start("origin", name="of it all")
            await other.append("a", says("of another session"))
            hold.released.set()
            fork = await copy
        assert await said(fork) == [1, 2, 3, 4, 5]
        assert await said(other) == ["of another session"]
        path = other.path
    assert path is not None
    assert [name for name in entries(tmp_path) if not name.endswith(".db")] == []
    async with SessionRegistry(tmp_path) as registry:
        assert await said(registry.session("origin")) == ["of another session"]


async def test_an_origin_stopped_meanwhile_leaves_no_log_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await filled(registry)
        async with held(monkeypatch) as hold:
            copy = await begun(hold, session.fork)
            await registry.stop("origin")
            hold.released.set()
            fork = await copy
        assert await said(fork) == [1, 2, 3, 4, 5]
        await registry.stop(fork.session_id)
        assert [name for name in entries(tmp_path) if "-wal" in name or "-shm" in name] == []
        assert await session.append("a", says("goes on")) == 6


async def test_locks_of_the_origin_outlive_a_copy_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its file is open here is counted: looking into it would drop SQLite's locks."""
    async with SessionRegistry(tmp_path) as registry:
        session = await filled(registry)
        await session.fork()
        assert session.path is not None
        from sessionactor import _presence as presence

        opened: list[object] = []
        monkeypatch.setattr(presence.os, "open", lambda *a: opened.append(a) or os.NOT_A_DESCRIPTOR)
        assert presence.inspect(session.path) is presence.Kind.SESSION
        assert opened == []


async def test_a_renamed_origin_is_found_under_its_new_name(tmp_path: Path) -> None:
    """Renamed by other hands, while nobody here has it open."""
    faults = Faults()
    async with SessionRegistry(tmp_path, open_store=faulty_store(faults)) as registry:
        session = await filled(registry)
        stall = faults.stall("open", session_id="new")
        forking = asyncio.ensure_future(session.fork("new"))
        await stall.reached.wait()
        await registry.stop("origin")
        assert session.path is not None
        os.rename(session.path, tmp_path / "origin_moved.db")
        stall.release()
        assert await said(await forking) == [1, 2, 3, 4, 5]


async def test_a_fork_needs_one_place_at_a_time(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path, max_active=1) as registry:
        session = await filled(registry)
        forks = await asyncio.gather(*(session.fork(before=n) for n in range(1, 6)))
        assert [await said(fork) for fork in forks] == [list(range(1, n)) for n in range(1, 6)]


async def test_of_two_forks_into_one_id_one_wins(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        answers = await asyncio.gather(
            *(session.fork("new", before=n) for n in range(1, 5)), return_exceptions=True
        )
        assert [type(answer) for answer in answers].count(Session) == 1
        assert [type(answer) for answer in answers].count(SessionExistsError) == 3


# when it fails, and when nobody waits


@pytest.mark.parametrize("make", [memory_registry, SessionRegistry], ids=["memory", "disk"])
async def test_a_fork_cancelled_at_any_point_is_whole_or_not_there(
    tmp_path: Path, make: Callable[..., SessionRegistry]
) -> None:
    async with make() if make is memory_registry else make(tmp_path) as registry:
        session = await filled(registry)
        for turns in range(40):
            task = asyncio.ensure_future(session.fork(f"n{turns}", name="n"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            with contextlib.suppress(SessionNotFoundError):
                assert await said(registry.session(f"n{turns}")) == [1, 2, 3, 4, 5]
        assert await said(session) == [1, 2, 3, 4, 5]
        if make is memory_registry:  # where turns of the loop are all that counts
            assert not await registry.exists("n0")
            assert await registry.exists("n39")
    assert not [name for name in entries(tmp_path) if name.endswith(".draft")]


@pytest.mark.parametrize(
    ("step", "when", "of", "there"),
    [
        ("read", "before", "origin", False),
        ("open", "before", "new", True),
        ("open", "after", "new", True),
    ],
)
async def test_a_fork_that_was_accepted_is_carried_out_though_nobody_waits(
    place: Path | None, step: Any, when: Any, of: str, there: bool
) -> None:
    faults = Faults()
    async with SessionRegistry(place, open_store=faulty_store(faults)) as registry:
        session = await filled(registry)
        stall = faults.stall(step, when=when, session_id=of)
        task = asyncio.ensure_future(session.fork("new"))
        await stall.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stall.release()
        if there:
            assert await said(registry.session("new")) == [1, 2, 3, 4, 5]
        else:
            with pytest.raises(SessionNotFoundError):
                await registry.session("new").messages()


async def test_a_fork_whose_loop_ends_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with held(monkeypatch) as hold:

        async def main() -> None:
            registry = SessionRegistry(tmp_path)
            await registry.open()
            session = await filled(registry)
            await begun(hold, lambda: session.fork("new"))

        await asyncio.to_thread(asyncio.run, main())
    await eventually(lambda: entries(tmp_path) == ["origin_of it all.db"])


@pytest.mark.parametrize("step", ["before", "after"])
async def test_a_fork_that_fails_leaves_nothing(tmp_path: Path, step: Any) -> None:
    faults = Faults()
    async with SessionRegistry(tmp_path, open_store=faulty_store(faults)) as registry:
        session = await filled(registry)
        faults.fail("open", OSError("broken"), when=step, session_id="new")
        with pytest.raises(StorageError):
            await session.fork("new", name="n")
        assert await registry.exists("new") is (step == "after")
        assert await said(session) == [1, 2, 3, 4, 5]


def test_a_disk_too_full_for_a_fork_leaves_no_half_of_one(tmp_path: Path) -> None:
    script = """
    import resource

    def limit(size):
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    async def main():
        async with SessionRegistry(sys.argv[1]) as registry:
            session = await registry.start("origin")
            await session.extend("a", [{"data": b"x" * 10_000}] * 100)
            await session.flush()  # the catalog is there
            rows, before = await session.messages(), sorted(os.listdir(sys.argv[1]))
            limit(300_000)
            try:
                await session.fork("new", name="n")
            except StorageError as error:
                assert error.path.name == "new_n.db", error.path
                assert error.session_id == "new", error.session_id
                assert "origin" in str(error)
            else:
                raise AssertionError("there was room")
            assert sorted(os.listdir(sys.argv[1])) == before
            assert not await registry.exists("new")
            assert await session.messages() == rows
            limit(resource.RLIM_INFINITY)
            fork = await session.fork("new", name="n")
            assert await fork.messages() == rows

    asyncio.run(main())
    """
    output_of(script, tmp_path)


async def test_a_corrupt_row_comes_along_as_it_is(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await filled(registry)
        path = session.path
        await registry.stop("origin")
        assert path is not None
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE messages SET data = x'c1', turn = x'ff' WHERE id = 3")
        fork = await session.fork(before=5, whole_turns=True)
        rows = await fork.messages(on_corrupt="skip")
        assert [row.db_id for row in rows] == [1, 2, 4]


async def test_a_foreign_reader_is_in_nobodys_way(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await filled(registry)
        assert session.path is not None
        with reader(session.path) as foreign:
            fork = await session.fork()
            await session.append("a", says("more"))
            foreign.tell()
            assert foreign.hear() == "5"
        assert await said(fork) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("make", [memory_registry, lambda: SessionRegistry(None)])
async def test_a_fork_in_memory_needs_no_file(make: Callable[[], SessionRegistry]) -> None:
    async with make() as registry:
        session = await filled(registry)
        forks: list[Awaitable[Session]] = [session.fork(before=n) for n in (2, 4)]
        one, two = await asyncio.gather(*forks)
        await registry.stop(one.session_id)
        assert (await said(one), await said(two)) == ([1], [1, 2, 3])
        assert one.path is None


async def test_a_vault_keeps_forks() -> None:
    vault = MemoryVault()
    async with SessionRegistry(None, open_store=vault.open_store) as registry:
        fork = await (await filled(registry)).fork("new", before=3)
        await registry.stop("new")
        assert await said(fork) == [1, 2]


# size


async def test_a_fork_of_a_hundred_thousand_rows(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path, durability="normal") as registry:
        session = await registry.start("origin")
        for start in range(0, 100_000, 5_000):
            await session.extend("a", [says(start + n) for n in range(5_000)])
        other, meanwhile = await registry.start("other"), 0
        forking = asyncio.ensure_future(session.fork(before=90_001))
        while not forking.done():  # others go on, and so does the session itself
            await asyncio.gather(session.append("b", says(1)), other.append("b", says(1)))
            meanwhile += 1
        assert meanwhile > 5
        fork = await forking
        info = await fork.info()
        assert (info.message_count, info.parent) == (90_000, "origin/90000")
        ids = [row.db_id async for row in fork.stream()]
        assert ids == list(range(1, 90_001))
        newest: list[Row] = await fork.messages(limit=3, newest=True)
        assert [row.message["content"] for row in newest] == [89_997, 89_998, 89_999]
        assert await fork.append("a", says("next")) == 90_001


async def test_who_follows_the_origin_can_go_on_with_the_fork(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await filled(registry)
        known = await session.revision()
        fork = await session.fork(name="fork", before=3)
        await fork.append("a", says("instead"))
        events = []
        async with asyncio.timeout(PATIENCE_S):
            async for event in fork.subscribe(since=known):
                events.append(event)
                if isinstance(event, Appended):
                    break
        assert [(type(event), event.revision - known) for event in events] == [
            (Truncated, 1),
            (Renamed, 1),
            (Appended, 2),
        ]
        assert isinstance(events[0], Truncated)
        assert events[0].from_db_id == 3


async def test_a_fork_from_before_what_was_removed_is_followed_and_listed(
    tmp_path: Path,
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        origin = await registry.start("origin")
        await origin.extend("a", [says(n) for n in range(1, 21)])
        await origin.remove(range(1, 11))
        await origin.fork("fork", before=5)
    (tmp_path / ".sessionactor.catalog").unlink()  # it is read from the files
    async with SessionRegistry(tmp_path) as registry:
        assert await check_catalog(registry) == []
        fork = registry.session("fork")
        assert await fork.append("a", says("on")) == 5
        async with asyncio.timeout(PATIENCE_S):
            async for event in fork.subscribe(since=0):
                if isinstance(event, Appended):
                    break
        assert event.row.db_id == 5
