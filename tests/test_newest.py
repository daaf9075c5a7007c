"""The newest rows and the latest chapter, read again and again while the session goes on."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sessionactor import Session, SessionRegistry

AGENTS = st.sampled_from(["a", "b"])
WHO = st.none() | AGENTS
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), AGENTS, st.integers(1, 70), st.integers(1, 3)),
        st.tuples(st.just("sum up"), AGENTS, st.integers(0, 50)),
        st.tuples(st.just("newest"), WHO, st.integers(1, 90)),
        st.tuples(st.just("chapter"), WHO),
        st.tuples(st.just("edit"), st.integers(0, 60)),
        st.tuples(st.just("cut"), st.integers(0, 10)),
        st.tuples(st.just("blow up"), AGENTS),
    ),
    max_size=25,
)


async def newest_is_newest(session: Session, agent_id: str | None, limit: int) -> None:
    rows = await session.messages(agent_id=agent_id)
    assert await session.messages(agent_id=agent_id, limit=limit, newest=True) == rows[-limit:]


async def chapter_is_chapter(session: Session, agent_id: str | None) -> None:
    rows = await session.messages(agent_id=agent_id)
    heads = [row for row in rows if row.checkpoint]
    page = await session.messages_from_latest_checkpoint(agent_id=agent_id)
    if not heads:
        assert page.rows == rows
        return
    head = heads[-1]
    start = head.db_id if head.keep_from is None else head.keep_from
    assert page.checkpoint_id == head.db_id
    assert page.rows == [head, *(row for row in rows if row.db_id >= start and row != head)]


async def play(steps: list[tuple[Any, ...]]) -> None:
    async with SessionRegistry(None, catalog=False) as registry:
        session = await registry.start("s")
        for step in steps:
            head = await session.head()
            newest = 0 if head is None else head.db_id
            match step:
                case "say", agent_id, count, size:
                    await session.extend(agent_id, [{"content": "hello" * 10**size}] * count)
                case "sum up", agent_id, back:
                    keep_from = max(1, newest - back) if back else None
                    message = {"role": "summary", "content": "all"}
                    await session.append(agent_id, message, keep_from=keep_from)
                case "newest", agent_id, limit:
                    await newest_is_newest(session, agent_id, limit)
                case "chapter", agent_id:
                    await chapter_is_chapter(session, agent_id)
                case "edit", back:
                    await session.update(newest - back, {"content": f"edited {back}"})
                case "cut", back if newest > back:
                    await session.truncate_from(newest - back)
                case "blow up", agent_id:
                    await session.append(agent_id, {"content": "x" * 300_000})
            for agent_id in (None, "a"):
                await newest_is_newest(session, agent_id, 5)
                await chapter_is_chapter(session, agent_id)


@given(STEPS)
@settings(max_examples=100)
def test_what_is_read_again_is_what_there_is(steps: list[tuple[Any, ...]]) -> None:
    asyncio.run(play(steps))
