"""What was running when its owner went, and who owns what is running."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from processes import output_of, process
from waiting import eventually

from sessionactor import (
    Row,
    Session,
    SessionOwnedError,
    SessionRegistry,
    StorageError,
    TurnClosedError,
    TurnOpenError,
)
from sessionactor._opening import Opening
from sessionactor._store import open_store
from sessionactor.testing import MemoryVault, memory_registry


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


async def leave_running(place: Path, *turns: tuple[str, str]) -> None:
    """Let a registry go with these turns open, each with two rows, interleaved."""
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        opened = [session.turn(turn_id, agent_id=agent_id) for turn_id, agent_id in turns]
        for turn in opened:
            await turn.__aenter__()
        for n in range(2):
            for turn in opened:
                await turn.append(say(f"{turn.turn_id} {n}"))


async def test_what_another_owner_left_running_is_interrupted(tmp_path: Path) -> None:
    await leave_running(tmp_path, ("t", "a"), ("u", "b"))
    for _ in range(2):  # it stays so, and is not changed again
        async with SessionRegistry(tmp_path) as registry:
            session = registry.session("s")
            info = await session.info()
            assert (info.state, info.turn_id, info.revision) == ("interrupted", "u", 7)
            assert info.turn_started_at is not None
            assert said(await session.interrupted_turn()) == ["t 0", "u 0", "t 1", "u 1"]
            for agent_id, turn_id in (("a", "t"), ("b", "u")):
                with pytest.raises(TurnOpenError, match="interrupted") as caught:
                    await session.turn(agent_id=agent_id).__aenter__()
                assert caught.value.turn_id == turn_id
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("s")
        async with session.turn("v", agent_id="c") as turn:
            assert await state(session) == ("running", "v")
            await turn.append(say("v"))
            assert await session.discard_turn("t") == 2
            assert await state(session) == ("running", "v")
        assert await state(session) == ("interrupted", "u")
        assert said(await session.interrupted_turn()) == ["u 0", "u 1"]
        await session.finish_turn("u")
        assert await state(session) == ("idle", None)
        assert await session.interrupted_turn() == []
        assert said(await session.messages()) == ["u 0", "u 1", "v"]
        for turn_id in ("t", "u", "v"):
            with pytest.raises(TurnClosedError):
                await session.turn(turn_id, agent_id="a").__aenter__()
        await no_turn_is_open(session)


async def test_an_interrupted_turn_goes_by_hand_or_loses_its_rows(tmp_path: Path) -> None:
    changes: list[Callable[[Session], Coroutine[Any, Any, object]]] = [
        lambda session: session.set_state("idle"),
        lambda session: session.clear(),
        lambda session: session.truncate_from(1, whole_turns=True),
        lambda session: session.remove_last(),
        lambda session: session.discard_turn("t"),
    ]
    for n, change in enumerate(changes):
        place = tmp_path / str(n)
        await leave_running(place, ("t", "a"))
        async with SessionRegistry(place) as registry:
            session = registry.session("s")
            await change(session)
            assert await state(session) == ("idle", None)
            assert await session.interrupted_turn() == []
            with pytest.raises(TurnClosedError):
                await session.append("a", say("late"), turn="t")
            await no_turn_is_open(session)


async def test_an_interrupted_turn_is_taken_up_again(tmp_path: Path) -> None:
    await leave_running(tmp_path, ("t", "a"))
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("s")
        await session.set_state("running", "t")
        assert await state(session) == ("running", "t")
        await session.append("a", say("the rest"), turn="t")
        await session.finish_turn("t")
        assert await state(session) == ("idle", None)
        assert said(await session.messages()) == ["t 0", "t 1", "the rest"]


@pytest.mark.parametrize("turn_id", [None, "t"])
async def test_running_set_by_hand_is_interrupted_too(tmp_path: Path, turn_id: str | None) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("s")
        await session.set_state("running", turn_id)
        await session.append("a", say(1), turn=turn_id)
        await registry.stop("s")
        assert await state(session) == ("running", turn_id)
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("s")
        assert await state(session) == ("interrupted", turn_id)
        assert said(await session.interrupted_turn()) == ([1] if turn_id else [])
        if turn_id:
            assert await session.discard_turn(turn_id) == 1
        else:
            await session.set_state("idle")
        assert await state(session) == ("idle", None)


@pytest.mark.parametrize("name", ["idle", "error"])
async def test_other_states_outlive_their_owner(tmp_path: Path, name: Any) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("s")
        await session.set_state("running", "t")
        await session.set_state(name)
        before = await session.info()
    async with SessionRegistry(tmp_path) as registry:
        assert await registry.session("s").info() == before


KILLED = """
async def main(directory):
    async with SessionRegistry(directory) as registry:
        session = await registry.start("s", name="n")
        async with session.turn("t", agent_id="a") as turn:
            await turn.append({"role": "user", "content": 1})
            async with session.turn("u", agent_id="b") as other:
                await other.append({"role": "user", "content": 2})
                if sys.argv[2] == "stopped":
                    await registry.stop("s")
                say((await session.info()).state)
                await asyncio.to_thread(wait)

asyncio.run(main(sys.argv[1]))
"""

LOOK = """
async def main(directory):
    async with SessionRegistry(directory) as registry:
        try:
            info = await registry.session("s").info()
            say([info.state, info.turn_id, info.message_count])
        except SessionOwnedError as error:
            say(["owned", error.pid])

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("how", ["active", "stopped"])
async def test_a_turn_whose_process_is_killed_is_interrupted(tmp_path: Path, how: str) -> None:
    with process(KILLED, tmp_path, how) as killed:
        assert json.loads(killed.hear()) == "running"
        assert json.loads(output_of(LOOK, tmp_path)) == ["owned", killed.pid]
        killed.kill()
    assert json.loads(output_of(LOOK, tmp_path)) == ["interrupted", "u", 2]
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("s")
        assert said(await session.interrupted_turn()) == [1, 2]
        assert await session.discard_turn("u") == 1
        assert await state(session) == ("interrupted", "t")
        await session.finish_turn("t")
        assert await state(session) == ("idle", None)


async def test_a_running_session_keeps_its_owner_while_it_is_passivated(tmp_path: Path) -> None:
    async def answer() -> Any:
        return json.loads(await asyncio.to_thread(output_of, LOOK, tmp_path))

    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(SessionRegistry(tmp_path, max_active=1))
        other = await stack.enter_async_context(SessionRegistry(tmp_path))
        session = await registry.start("s")

        async def is_ours() -> bool:
            assert registry.whereis("s") is None
            try:
                await other.session("s").info()
            except SessionOwnedError:
                return True
            await other.stop("s")
            return False

        async with session.turn("t", agent_id="a"):
            await registry.stop("s")
            assert (await answer())[0] == "owned"
            assert await is_ours()
            await registry.start("another")  # crowds it out
            assert await is_ours()
        await registry.stop("s")
        assert not await is_ours()
        assert await answer() == ["idle", None, 0]

        await session.set_state("running")
        await session.set_state("error")
        await registry.stop("s")
        assert not await is_ours()

        await session.set_state("running")
        await registry.stop("s")
        assert await is_ours()
        assert await registry.delete("s")
        assert not await other.exists("s")
        async with SessionRegistry(tmp_path) as third:
            await third.start("s")

        session = await registry.start("s")
        await session.set_state("running", "t")
        await registry.stop("s")
        assert await is_ours()
        await registry.aclose()
        assert await state(other.session("s")) == ("interrupted", "t")


async def test_a_running_session_is_renamed_while_it_is_passivated(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry, SessionRegistry(tmp_path) as other:
        session = await registry.start("s", name="old")
        async with session.turn("t", agent_id="a") as turn:
            await registry.stop("s")
            await session.rename("new")
            await registry.stop("s")
            with pytest.raises(SessionOwnedError):
                await other.session("s").info()
            assert await state(session) == ("running", "t")
            await turn.append(say(1))
        assert await state(session) == ("idle", None)


async def test_an_idle_session_is_passivated_in_its_turn(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path, idle_timeout_s=0.01) as registry:
        session = await registry.start("s")
        async with session.turn("t", agent_id="a") as turn:
            await turn.append(say(1))
            await eventually(lambda: registry.whereis("s") is None)
            await turn.append(say(2))
            await eventually(lambda: registry.whereis("s") is None)
        assert said(await session.messages()) == [1, 2]
        assert await state(session) == ("idle", None)


async def test_a_session_that_was_set_running_by_a_call_that_failed_keeps_its_owner(
    tmp_path: Path,
) -> None:
    async def open_doubtful(opening: Opening) -> Any:
        store: Any = await open_store(opening)
        commit = store.commit

        async def commit_and_fail(group: Any) -> Any:
            decision = await commit(group)
            if decision.state.turns:
                raise StorageError("the answer was lost", session_id="s")
            return decision

        store.commit = commit_and_fail
        return store

    async with (
        SessionRegistry(tmp_path, open_store=open_doubtful) as registry,
        SessionRegistry(tmp_path) as other,
    ):
        session = await registry.start("s")
        with pytest.raises(StorageError):
            await session.turn("t", agent_id="a").__aenter__()
        assert await state(session) == ("running", "t")
        await registry.stop("s")
        with pytest.raises(SessionOwnedError):
            await other.session("s").info()
        await session.finish_turn("t")
        await registry.stop("s")
        assert await state(other.session("s")) == ("idle", None)


async def test_turns_keep_the_order_of_their_beginning() -> None:
    vault = MemoryVault(clock=lambda: 1_000_000)  # all begin at the same time
    async with memory_registry(open_store=vault.open_store) as registry:
        session = await registry.start("s")
        for turn_id, agent_id in (("z", "a"), ("m", "b"), ("a", "c")):
            await session.turn(turn_id, agent_id=agent_id).__aenter__()
        for turn_id in ("a", "m", "z"):
            await registry.stop("s")
            assert await state(session) == ("running", turn_id)
            await session.finish_turn(turn_id)
        assert await state(session) == ("idle", None)
