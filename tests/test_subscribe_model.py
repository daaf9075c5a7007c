"""Since any revision: what is told of the past and then of the present is the truth."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from following import Mirror, mirrored, says
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import eventually

from sessionactor import Row, Session, SessionError, SessionRegistry
from sessionactor.testing import memory_registry

AGENTS = st.sampled_from(["a", "b"])
IDS = st.integers(1, 30)


class Act(NamedTuple):
    """Something done to a session, and how many turns of the event loop later."""

    what: str
    value: Any = None
    pause: int = 0


SIMPLE = st.one_of(
    st.builds(Act, st.just("append"), AGENTS, st.integers(0, 4)),
    st.builds(Act, st.just("extend"), st.tuples(AGENTS, st.integers(1, 5)), st.integers(0, 4)),
    st.builds(Act, st.just("update"), IDS, st.integers(0, 2)),
    st.builds(Act, st.just("remove"), st.lists(IDS, min_size=1, max_size=4), st.integers(0, 2)),
    st.builds(Act, st.just("truncate"), IDS, st.integers(0, 2)),
    st.builds(Act, st.just("note"), st.sampled_from("klm"), st.integers(0, 2)),
)
ACTS = st.one_of(
    SIMPLE,
    SIMPLE,
    st.builds(Act, st.just("batch"), st.lists(SIMPLE, min_size=2, max_size=5), st.integers(0, 2)),
    st.builds(
        Act, st.sampled_from(["clear", "stop", "rename", "turn", "route"]), st.none(), st.just(0)
    ),
)
PAST = st.lists(ACTS, max_size=14)
PRESENT = st.lists(st.lists(ACTS, max_size=10), min_size=1, max_size=3)


def collect(target: Any, act: Act, text: object) -> Any:
    """Ask a session, or a batch, for something simple."""
    match act.what:
        case "append":
            return target.append(act.value, says(text))
        case "extend":
            return target.extend(act.value[0], [says(text)] * act.value[1])
        case "update":
            return target.update(act.value, says(text))
        case "remove":
            return target.remove(act.value)
        case "truncate":
            return target.truncate_from(act.value)
        case "note":
            return target.save_metadata({act.value: str(text)})
    raise AssertionError(act)


async def perform(registry: SessionRegistry, session: Session, act: Act, text: object) -> None:
    match act.what:
        case "batch":
            async with session.batch() as batch:
                for one in act.value:
                    collect(batch, one, text)
        case "clear":
            await session.clear()
        case "stop":
            await registry.stop(session.session_id)
        case "rename":
            await session.rename(None)
        case "route":
            await session.set_context(room_id=str(text))
        case "turn":
            try:
                async with session.turn(f"turn-{text}", agent_id=f"agent-{text}") as turn:
                    await turn.append(says(text))
            except SessionError:
                pass  # others removed its row, which closed it
        case _:
            await collect(session, act, text)
    for _ in range(act.pause):
        await asyncio.sleep(0)


class Past(NamedTuple):
    """A session as it was."""

    revision: int
    rows: list[Row]


async def scenario(
    registry: SessionRegistry, past: Sequence[Act], present: Sequence[Sequence[Act]], agent: Any
) -> None:
    session = await registry.start("s")
    pasts = [Past(0, [])]
    for n, act in enumerate(past):
        await perform(registry, session, act, f"past-{n}")
        pasts.append(Past(await session.revision(), await session.messages(agent_id=agent)))

    async def write(writer: int, acts: Sequence[Act]) -> None:
        for n, act in enumerate(acts):
            await perform(registry, session, act, f"{writer}-{n}")

    mirrors = [Mirror(rows, revision, agent) for revision, rows in pasts]
    subscriptions = [session.subscribe(since=past.revision, agent_id=agent) for past in pasts]
    # And one that has nothing to catch up with.
    mirrors.append(Mirror(pasts[-1].rows, pasts[-1].revision, agent))
    subscriptions.append(session.subscribe(agent_id=agent))
    writing = asyncio.gather(*(write(n, acts) for n, acts in enumerate(present)))
    for subscription, mirror in zip(subscriptions, mirrors, strict=True):
        async with mirrored(subscription, mirror):
            if mirror is mirrors[0]:
                await writing
                await session.save_metadata({"the": "end"})
                truth = await session.info()
                metadata = await session.get_metadata()
            await eventually(lambda found=mirror: "the" in found.metadata)
        await mirror.is_true(session)
        assert mirror.revision == truth.revision
        assert mirror.name in (None, truth.name)
        assert mirror.state is None or mirror.state == (truth.state, truth.turn_id)
        assert mirror.context.get("room_id", truth.room_id) == truth.room_id
        assert mirror.metadata.items() <= metadata.items()
    assert mirrors[0].metadata == metadata


@given(past=PAST, present=PRESENT, agent=st.sampled_from([None, "a"]))
@settings(max_examples=150)
def test_in_memory(past: list[Act], present: list[list[Act]], agent: Any) -> None:
    async def run() -> None:
        async with memory_registry() as registry:
            await scenario(registry, past, present, agent)

    asyncio.run(run())


@pytest.mark.parametrize("max_active", [1, 8])
def test_on_disk(max_active: int) -> None:
    @given(past=PAST, present=PRESENT)
    @settings(max_examples=25)
    def check(past: list[Act], present: list[list[Act]]) -> None:
        async def run() -> None:
            with tempfile.TemporaryDirectory() as directory:
                async with SessionRegistry(directory, max_active=max_active) as registry:
                    await scenario(registry, past, present, None)

        asyncio.run(run())

    check()
