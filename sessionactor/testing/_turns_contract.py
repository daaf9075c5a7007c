"""What every session does with states and turns."""

from __future__ import annotations

import asyncio
from typing import Any

from sessionactor._errors import InvalidValueError, TurnClosedError, TurnOpenError
from sessionactor._session import Session
from sessionactor.testing._scenario import Scenarios, ids, in_session, raised, said, says


class TurnsContract(Scenarios):
    """Turns from their beginning to their end, and whole in every read and removal."""

    @in_session
    async def test_a_turn_is_running_and_then_idle(self, session: Session) -> None:
        async with session.turn("t", agent_id="a") as turn:
            assert (turn.turn_id, turn.agent_id) == ("t", "a")
            running = await session.info()
            assert (running.state, running.turn_id) == ("running", "t")
            assert running.turn_started_at is not None
            assert running.turn_started_at >= running.created_at
            assert await turn.append(says(1), key="k", parent="p") == 1
            assert await turn.extend([says(2), says("sum", role="summary")]) == [2, 3]
            assert (await session.info()).turn_started_at == running.turn_started_at
        rows = await session.messages()
        assert {(row.turn, row.agent_id) for row in rows} == {("t", "a")}
        assert (rows[0].key, rows[0].parent, rows[2].checkpoint) == ("k", "p", True)
        idle = await session.info()
        assert (idle.state, idle.turn_id, idle.turn_started_at) == ("idle", None, None)
        assert (idle.message_count, idle.revision) == (3, 4)

    @in_session
    async def test_a_turn_whose_block_raises_ends_in_error(self, session: Session) -> None:
        async def turn() -> None:
            async with session.turn("t", agent_id="a") as turn:
                await turn.append(says(1))
                raise LookupError("the model is gone")

        assert type(await raised(turn())) is LookupError
        info = await session.info()
        assert (info.state, info.turn_id, info.message_count) == ("error", "t", 1)
        assert info.turn_started_at is not None
        await session.set_state("idle")
        assert (await session.info()).turn_id is None

    @in_session
    async def test_a_turn_whose_task_is_cancelled_ends_in_error(self, session: Session) -> None:
        async def turn() -> None:
            async with session.turn("t", agent_id="a") as turn:
                await turn.append(says(1))
                task.cancel()
                await asyncio.sleep(0)

        task = asyncio.ensure_future(turn())
        await asyncio.wait([task])
        assert task.cancelled()
        info = await session.info()
        assert (info.state, info.turn_id) == ("error", "t")
        async with session.turn("u", agent_id="a"):
            assert (await session.info()).turn_id == "u"
        assert (await session.info()).state == "idle"

    @in_session
    async def test_an_agent_has_one_turn_at_a_time(self, session: Session) -> None:
        async def enter(turn_id: str | None, agent_id: str) -> None:
            async with session.turn(turn_id, agent_id=agent_id):
                pass

        async with session.turn("t", agent_id="a") as turn:
            for turn_id, agent_id in (("u", "a"), (None, "a"), ("t", "b")):
                error = await raised(enter(turn_id, agent_id))
                assert isinstance(error, TurnOpenError)
                assert (error.turn_id, error.session_id) == ("t", session.session_id)
            async with session.turn("u", agent_id="b") as other:
                assert (await session.info()).turn_id == "u"
                assert await turn.append(says(1)) == 1
                assert await other.append(says(2)) == 2
            assert (await session.info()).turn_id == "t"
            assert isinstance(await raised(other.append(says("late"))), TurnClosedError)
        assert [row.turn for row in await session.messages()] == ["t", "u"]
        assert (await session.info()).state == "idle"
        await enter(None, "a")
        await enter(None, "a")

    @in_session
    async def test_a_closed_turn_stays_closed(self, session: Session) -> None:
        async with session.turn("t", agent_id="a") as turn:
            await turn.append(says(1), key="k")

        async def again() -> None:
            async with session.turn("t", agent_id="b"):
                pass

        async def in_a_batch() -> None:
            async with session.batch() as batch:
                batch.append("a", says("fine"))
                batch.append("a", says("late"), turn="t")

        revision = await session.revision()
        for call in (
            again(),
            turn.append(says("late")),
            turn.extend([says("late")]),
            session.append("b", says("late"), turn="t"),
            session.extend("a", [says(1), says("late")], keys=["k", None], turn="t"),
            in_a_batch(),
        ):
            error = await raised(call)
            assert isinstance(error, TurnClosedError)
            assert (error.turn_id, error.session_id) == ("t", session.session_id)
        assert await turn.append(says(1), key="k") == 1  # it happened before the end
        assert (await session.revision(), said(await session.messages())) == (revision, [1])

    @in_session
    async def test_a_turn_that_loses_a_row_is_closed(self, session: Session) -> None:
        removals: list[Any] = [
            lambda first: session.truncate_from(first + 1),
            lambda first: session.remove([first]),
            lambda first: session.remove_last(agent_id="a"),
            lambda first: session.clear(),
            lambda first: session.truncate_from(first, whole_turns=True),
        ]
        for n, remove in enumerate(removals):
            async with session.turn(f"t{n}", agent_id="a") as turn:
                first = await turn.append(says(1))
                await turn.append(says(2))
                assert await remove(first)
                info = await session.info()
                assert (info.state, info.turn_id, info.turn_started_at) == ("idle", None, None)
                assert isinstance(await raised(turn.append(says("late"))), TurnClosedError)
            assert (await session.info()).state == "idle"
            await session.append("a", says("fine"))
            await session.clear()

    @in_session
    async def test_a_turn_that_loses_no_row_goes_on(self, session: Session) -> None:
        await session.extend("b", [says(1), says(2)])
        async with session.turn("t", agent_id="a") as turn, session.turn("u", agent_id="b"):
            await turn.append(says(3))
            await session.append("b", says(4), turn="u")
            await session.update(3, says("three"))
            await session.remove([1])
            assert await session.truncate_from(4) == 1
            assert (await session.info()).turn_id == "t"
            late = session.append("b", says("late"), turn="u")
            assert isinstance(await raised(late), TurnClosedError)
            assert await turn.append(says(5)) == 5
        assert said(await session.messages()) == [2, "three", 5]
        assert (await session.info()).state == "idle"

    @in_session
    async def test_states_are_set_by_hand(self, session: Session) -> None:
        async def state() -> tuple[str, str | None, bool]:
            info = await session.info()
            return info.state, info.turn_id, info.turn_started_at is not None

        await session.set_state("idle")
        assert await session.revision() == 0
        await session.set_state("error")
        assert await state() == ("error", None, False)
        await session.set_state("running", "t")
        assert await state() == ("running", "t", True)
        await session.set_state("error")
        assert await state() == ("error", "t", True)
        await session.set_state("error", "u")
        assert await state() == ("error", "u", False)
        await session.set_state("running")
        assert await state() == ("running", None, True)
        await session.set_state("idle", "ignored")
        assert await state() == ("idle", None, False)
        await session.set_state("running", "t")
        await session.append("a", says(1), turn="t")
        await session.finish_turn("t")
        assert await state() == ("idle", None, False)
        late = session.append("a", says("late"), turn="t")
        assert isinstance(await raised(late), TurnClosedError)
        for bad in ("busy", "interrupted", None):
            not_a_state: Any = bad
            error = await raised(session.set_state(not_a_state))
            assert isinstance(error, InvalidValueError)

    @in_session
    async def test_a_state_set_inside_a_turn_stays(self, session: Session) -> None:
        async with session.turn("t", agent_id="a") as turn, session.turn("u", agent_id="b"):
            await session.set_state("running", "t")  # it is
            assert (await session.info()).turn_id == "u"
            await session.set_state("error", "t")
            assert isinstance(await raised(turn.append(says("late"))), TurnClosedError)
        info = await session.info()
        assert (info.state, info.turn_id) == ("error", "t")
        async with session.turn("v", agent_id="a"):
            await session.set_state("idle")
        assert (await session.info()).state == "idle"

    @in_session
    async def test_turns_are_finished_and_discarded_by_hand(self, session: Session) -> None:
        await session.append("b", says("before"))
        assert await session.discard_turn("unknown") == 0
        await session.finish_turn("unknown")
        assert await session.revision() == 1
        async with session.turn("t", agent_id="a") as turn:
            await turn.extend([says(1), says(2)])
            await session.append("b", says("meanwhile"))
            assert await session.discard_turn("t") == 2
            assert (await session.info()).state == "idle"
            assert isinstance(await raised(turn.append(says(3))), TurnClosedError)
        async with session.turn("u", agent_id="a") as turn:
            await turn.append(says(4))
            await session.finish_turn("u")
            assert isinstance(await raised(turn.append(says(5))), TurnClosedError)
        assert said(await session.messages()) == ["before", "meanwhile", 4]
        async with session.batch() as batch:
            batch.discard_turn("u")
            batch.discard_turn("u")
            batch.set_state("running", "v")
            batch.append("a", says(6), turn="v")
            batch.finish_turn("v")
        assert batch.results == [1, 0, None, 6, None]
        assert (await session.info()).state == "idle"
        assert await session.interrupted_turn() == []
        await session.append("a", says(7), turn="w")  # no turn of that id was ever begun
        assert await session.discard_turn("w") == 1
        late = session.append("a", says("late"), turn="w")
        assert isinstance(await raised(late), TurnClosedError)

    @in_session
    async def test_the_newest_rows_are_whole_turns(self, session: Session) -> None:
        for turn, count in ((None, 2), ("t", 3), (None, 1), ("u", 2), ("v", 4)):
            await session.extend("a", [says(turn)] * count, turn=turn)

        async def newest(limit: int, **how: Any) -> list[int]:
            return ids(await session.messages(limit=limit, newest=True, whole_turns=True, **how))

        rows = list(range(1, 13))  # 1 2 | t: 3 4 5 | 6 | u: 7 8 | v: 9 10 11 12
        wholes = [9, 9, 9, 9, 9, 7, 6, 6, 6, 3, 2, 1, 1]
        for limit, first in enumerate(wholes, 1):
            assert await newest(limit) == rows[first - 1 :]
        assert await newest(0) == []
        assert await newest(3, before=9) == [6, 7, 8]
        assert await newest(2, before=7) == [6]
        assert await newest(1, before=6) == [3, 4, 5]
        assert await newest(9, after=2, before=7) == [3, 4, 5, 6]
        await session.append("b", says("late"), turn="t")
        assert await newest(1) == [*rows[2:], 13]  # nothing less holds all of its turn
        assert await newest(1, agent_id="b") == [13]
        assert await newest(5, agent_id="a") == [9, 10, 11, 12]
        for how in ({}, {"limit": 1}, {"newest": True}):
            unbounded: Any = how
            error = await raised(session.messages(whole_turns=True, **unbounded))
            assert isinstance(error, InvalidValueError)

    @in_session
    async def test_a_truncation_cuts_no_turn_unless_it_may(self, session: Session) -> None:
        turns = [None, "t", None, "t", "u", "v", "u", "v", None, "w", "w"]
        for turn in turns:
            await session.append("a", says(turn), turn=turn)
        assert await session.truncate_from(12, whole_turns=True) == 0
        assert await session.truncate_from(11, whole_turns=True) == 2
        assert await session.truncate_from(9, whole_turns=True) == 1
        assert await session.truncate_from(8, whole_turns=True) == 4  # v begins inside of u
        assert ids(await session.messages()) == [1, 2, 3, 4]
        async with session.batch() as batch:
            batch.append("a", says("t"), turn="t")
            batch.remove([2, 4])
            batch.truncate_from(5, whole_turns=True)
        assert batch.results == [12, 2, 1]
        assert ids(await session.messages()) == [1, 3]
        await session.extend("a", [says(1), says(2)], turn="x")
        await session.extend("a", [says(3), says(4)], turn="y")
        assert await session.truncate_from(16) == 1
        assert await session.truncate_from(14) == 2
        assert ids(await session.messages()) == [1, 3, 13]


__all__ = ["TurnsContract"]
