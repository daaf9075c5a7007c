"""Turns beyond the contract of every store: cancellation, other ends, whole turns."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import pytest
from gate import Gate
from hypothesis import given
from hypothesis import strategies as st
from model import Model, Put, is_cut

from sessionactor import (
    RegistryClosedError,
    Row,
    Session,
    SessionNotFoundError,
    SessionRegistry,
    TurnClosedError,
)
from sessionactor.testing import Faults, MemoryVault, faulty_store, memory_registry


def say(text: object) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(rows: list[Row]) -> list[Any]:
    return [row.message["content"] for row in rows]


async def state(session: Session) -> tuple[str, str | None]:
    info = await session.info()
    return info.state, info.turn_id


async def no_turn_is_open(session: Session) -> None:
    """Begin and end a turn of the agent that had one."""
    async with session.turn(agent_id="a"):
        assert (await session.info()).state == "running"
    assert await state(session) == ("idle", None)


# cancellation


async def test_a_turn_whose_opening_is_cancelled_does_not_stay_open() -> None:
    gate = Gate()
    async with SessionRegistry(None, open_store=gate.open_store) as registry:
        session = await registry.start("s")
        with gate.shut():
            entering = asyncio.ensure_future(session.turn("t", agent_id="a").__aenter__())
            await gate.reached.wait()
            entering.cancel()
            await asyncio.sleep(0)
            entering.cancel()
        await asyncio.wait([entering])
        assert entering.cancelled()
        assert await state(session) == ("error", "t")
        await no_turn_is_open(session)


@pytest.mark.parametrize("turns", range(12))
async def test_a_turn_that_is_cancelled_at_any_moment_is_closed(turns: int) -> None:
    async with memory_registry() as registry:
        session = await registry.start("s")

        async def work() -> None:
            async with session.turn("t", agent_id="a") as turn:
                await turn.append(say(1))

        task = asyncio.ensure_future(work())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        name, turn_id = await state(session)
        assert name in ("idle", "error")
        assert turn_id == (None if name == "idle" else "t")
        await no_turn_is_open(session)


async def test_a_cancelled_opening_whose_session_goes_meanwhile_is_cancelled() -> None:
    faults = Faults()
    async with memory_registry(
        open_store=faulty_store(faults, MemoryVault().open_store)
    ) as registry:
        session = await registry.start("s")
        opening = faults.stall("commit", when="after")
        entering = asyncio.create_task(session.turn("t", agent_id="a").__aenter__())
        await opening.reached.wait()
        deleting = asyncio.create_task(registry.delete("s"))
        await asyncio.sleep(0)  # until it has asked
        entering.cancel()
        opening.release()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await entering
        assert "could not be closed" in cancelled.value.__notes__[0]
        assert await deleting


async def test_a_refused_opening_that_is_cancelled_closes_nobodys_turn() -> None:
    gate = Gate()
    async with SessionRegistry(None, open_store=gate.open_store) as registry:
        session = await registry.start("s")
        async with session.turn("t", agent_id="a") as turn:
            with gate.shut():
                entering = asyncio.ensure_future(session.turn("t", agent_id="a").__aenter__())
                await gate.reached.wait()
                entering.cancel()
            await asyncio.wait([entering])
            assert entering.cancelled()
            assert await state(session) == ("running", "t")
            await turn.append(say("it goes on"))
        assert await state(session) == ("idle", None)


async def test_a_turn_is_closed_however_often_its_task_is_cancelled() -> None:
    gate = Gate()
    async with SessionRegistry(None, open_store=gate.open_store, mailbox_size=1) as registry:
        session = await registry.start("s")
        entered = asyncio.Event()

        async def work() -> None:
            async with session.turn("t", agent_id="a"):
                entered.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(work())
        await entered.wait()
        with gate.shut():  # the mailbox is full, so that its end is not even accepted
            others = [asyncio.ensure_future(session.append("b", say(n))) for n in range(3)]
            await gate.reached.wait()
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
            assert not task.done()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await asyncio.gather(*others) == [1, 2, 3]
        assert await state(session) == ("error", "t")
        await no_turn_is_open(session)


async def test_a_turn_is_closed_in_cancelled_scopes_and_at_timeouts(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        with anyio.CancelScope() as scope:
            async with session.turn("t", agent_id="a") as turn:
                await turn.append(say(1))
                scope.cancel()
                await anyio.sleep_forever()
        assert await state(session) == ("error", "t")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001), session.turn("u", agent_id="a"):
                await asyncio.Event().wait()
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with session.turn("v", agent_id="a") as turn:
                await turn.append(say(2))
        assert (await state(session))[0] in ("idle", "error")
        await no_turn_is_open(session)


async def test_a_task_group_that_fails_closes_the_turns_of_all_its_tasks() -> None:
    async with memory_registry() as registry:
        session = await registry.start("s")

        async def work(agent_id: str) -> None:
            async with session.turn(agent_id=agent_id) as turn:
                await turn.append(say(agent_id))
                if agent_id == "c":
                    raise LookupError(agent_id)
                await asyncio.Event().wait()

        async def work_together() -> None:
            async with asyncio.TaskGroup() as group:
                for agent_id in "abc":
                    group.create_task(work(agent_id))

        with pytest.raises(ExceptionGroup):
            await work_together()
        assert (await state(session))[0] == "error"
        for agent_id in "abc":
            async with session.turn(agent_id=agent_id):
                pass


# what else can end a turn


async def test_leaving_a_turn_of_a_closed_registry_tells_so(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("s")

        async def work() -> None:
            async with session.turn("t", agent_id="a") as turn:
                await turn.append(say(1))
                await registry.aclose()

        with pytest.raises(RegistryClosedError):
            await work()
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("s")
        assert await state(session) == ("interrupted", "t")
        assert said(await session.interrupted_turn()) == [1]


async def test_an_end_that_was_accepted_before_the_registry_closes_is_carried_out(
    tmp_path: Path,
) -> None:
    gate = Gate()
    async with SessionRegistry(tmp_path, open_store=gate.open_store) as registry:
        session = await registry.start("s")
        turn = session.turn("t", agent_id="a")
        await turn.__aenter__()
        with gate.shut():
            leaving = asyncio.ensure_future(turn.__aexit__(None, None, None))
            await gate.reached.wait()
            closing = asyncio.ensure_future(registry.aclose())
            await asyncio.sleep(0)
        await asyncio.gather(leaving, closing)
    async with SessionRegistry(tmp_path) as registry:
        assert await state(registry.session("s")) == ("idle", None)


async def test_leaving_a_turn_of_a_deleted_session(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")

        async def work(error: Exception | None = None) -> None:
            async with session.turn("t", agent_id="a"):
                await registry.delete("s")
                if error is not None:
                    raise error

        with pytest.raises(SessionNotFoundError):
            await work()
        await registry.start("s")
        with pytest.raises(LookupError, match="its own") as caught:
            await work(LookupError("its own"))
        assert "turn 't' could not be closed" in caught.value.__notes__[0]
        await registry.start("s")
        async with session.turn("t", agent_id="a") as turn:
            await registry.delete("s")
            await registry.start("s")
            await session.append("a", say("of the new one"))
        assert await state(session) == ("idle", None)
        assert turn.turn_id == "t"


async def test_a_turn_closed_by_a_truncation_leaves_the_state_to_the_next(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")

        async def work() -> None:
            async with session.turn("t", agent_id="a") as turn:
                first = await turn.append(say(1))
                await session.truncate_from(first)
                async with session.turn("u", agent_id="a"):
                    assert await state(session) == ("running", "u")
                    await turn.append(say("late"))

        with pytest.raises(TurnClosedError):
            await work()
        assert await state(session) == ("error", "u")
        assert await session.messages() == []


# whole turns

TURN_IDS = st.lists(st.none() | st.sampled_from(["t", "u", "v", "w"]), max_size=12)


async def with_turns(registry: SessionRegistry, turns: list[str | None], gone: set[int]) -> Session:
    session = await registry.start()
    for n, turn in enumerate(turns):
        await session.append("ab"[n % 2], say(n), turn=turn)
    await session.remove(gone)
    return session


async def test_whole_turns_are_found_in_a_long_history(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        size, count = 7, 150
        for n in range(count):
            await session.extend("a", [say(n)] * size, turn=f"t{n}")
        for limit in (1, 7, 250, 252, 255, 256, 257, 259, 511, 512, 513, 518, 1049, 1050, 9999):
            rows = await session.messages(limit=limit, newest=True, whole_turns=True)
            wholes = min(max(1, limit // size), count)
            assert len(rows) == wholes * size
            assert rows[-1].db_id == size * count
            assert rows[0].message == say(count - wholes)
        await session.append("a", say("late"), turn="t0")
        rows = await session.messages(limit=1, newest=True, whole_turns=True)
        assert len(rows) == size * count + 1
        assert await session.truncate_from(size * 100 + 3, whole_turns=True) == size * count + 1


@given(TURN_IDS, st.sets(st.integers(1, 12)), st.integers(0, 13))
async def test_no_turn_is_cut_by_a_read_of_whole_turns(
    turns: list[str | None], gone: set[int], limit: int
) -> None:
    model = Model("n")
    for n, turn in enumerate(turns):
        model.change([Put("ab"[n % 2], say(n), turn=turn)])
    async with memory_registry() as registry:
        session = await with_turns(registry, turns, gone)
        rows = [row for row in model.rows if row.db_id not in gone]
        found = await session.messages(limit=limit, newest=True, whole_turns=True)
        first = found[0].db_id if found else 0
        assert [row.db_id for row in found] == [row.db_id for row in rows if row.db_id >= first] * (
            limit > 0
        )
        if found:
            assert not is_cut(rows, first)
            others = [row.db_id for row in rows if not is_cut(rows, row.db_id)]
            lower, higher = (
                [db_id for db_id in others if db_id < first],
                [db_id for db_id in others if db_id > first],
            )
            assert len(found) <= limit or not higher  # nothing less is whole
            if lower:  # nor would more fit
                assert sum(row.db_id >= lower[-1] for row in rows) > limit


@given(TURN_IDS, st.sets(st.integers(1, 12)), st.integers(-1, 14), st.booleans())
async def test_no_turn_is_cut_by_a_truncation_of_whole_turns(
    turns: list[str | None], gone: set[int], bound: int, together: bool
) -> None:
    model = Model("n")
    for n, turn in enumerate(turns):
        model.change([Put("ab"[n % 2], say(n), turn=turn)])
    async with memory_registry() as registry:
        session = await with_turns(registry, turns, set() if together else gone)
        rows = [row for row in model.rows if row.db_id not in gone]
        if together:
            async with session.batch() as batch:
                batch.remove(gone)
                batch.truncate_from(bound, whole_turns=True)
            removed = batch.results[1]
        else:
            removed = await session.truncate_from(bound, whole_turns=True)
        kept = len(await session.messages())
        assert kept + removed == len(rows) == (await session.info()).message_count + removed
        cut = rows[kept].db_id if kept < len(rows) else 99
        assert not is_cut(rows, cut)
        assert all(row.db_id < bound for row in rows[:kept])
        between = [row.db_id for row in rows[kept:] if row.db_id < bound]
        assert all(is_cut(rows, db_id) for db_id in [*between[1:], *([bound] if between else [])])
