from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sessionactor import (
    Row,
    Session,
    SessionRegistry,
)

HELLO = {"role": "user", "content": "hello"}


def contents(rows: list[Row]) -> list[Any]:
    return [row.message["content"] for row in rows]


def ids(rows: list[Row]) -> list[int]:
    return [row.db_id for row in rows]


def say(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


async def history(session: Session) -> list[Row]:
    """Twelve messages of two agents, with a gap in the ids."""
    await session.extend("one", [say(n) for n in range(4)])
    await session.extend("two", [say(n) for n in range(3)])
    await session.truncate_from(6)
    for n in range(7):
        await session.append("two" if n % 3 else "one", say(n))
    rows = await session.messages()
    assert ids(rows) == [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14]
    return rows


def wanted(
    rows: list[Row],
    *,
    agent_id: str | None = None,
    after: int | None = None,
    before: int | None = None,
    limit: int | None = None,
    newest: bool = False,
) -> list[Row]:
    found = [
        row
        for row in rows
        if (agent_id is None or row.agent_id == agent_id)
        and (after is None or row.db_id > after)
        and (before is None or row.db_id < before)
    ]
    if limit is None:
        return found
    return found[max(0, len(found) - limit) :] if newest else found[:limit]


bounds = st.none() | st.integers(-2, 17) | st.sampled_from([-(2**70), 2**63 - 1, 2**63, 2**70])


@given(
    questions=st.lists(
        st.fixed_dictionaries(
            {
                "agent_id": st.sampled_from([None, "one", "two", "three"]),
                "after": bounds,
                "before": bounds,
                "limit": st.none() | st.integers(0, 15) | st.just(2**70),
                "newest": st.booleans(),
            }
        ),
        min_size=20,
        max_size=40,
    )
)
async def test_messages_and_stream_give_what_their_filters_say(
    questions: list[dict[str, Any]],
) -> None:
    async with SessionRegistry(None) as registry:
        session = await registry.start("a")
        rows = await history(session)
        for question in questions:
            assert await session.messages(**question) == wanted(rows, **question)
            assert [row async for row in session.stream(**question)] == wanted(rows, **question)


async def test_histories_of_many_slices_are_read_like_short_ones(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        for start in range(0, 5000, 1000):
            async with session.batch() as batch:
                for n in range(start, start + 1000):
                    batch.append("one" if n % 10 else "rare", say(n))
        rows = await session.messages()
        assert contents(rows) == list(range(5000))
        for question in (
            {"limit": 3000},
            {"limit": 3000, "newest": True},
            {"limit": 4999, "newest": True, "agent_id": "one"},
            {"limit": 400, "newest": True, "agent_id": "rare"},
            {"limit": 2500, "newest": True, "after": 100, "before": 4000},
            {"limit": 2500, "newest": True, "after": 3000},
            {"limit": 2048},
            {"limit": 2049},
            {"after": 10, "before": 4990},
            {"agent_id": "rare"},
            {"agent_id": "one", "limit": 4000},
        ):
            expected = wanted(rows, **question)  # type: ignore[arg-type]
            assert await session.messages(**question) == expected  # type: ignore[arg-type]
            streamed = [row async for row in session.stream(**question)]  # type: ignore[arg-type]
            assert streamed == expected


async def test_messages_are_of_one_moment_while_others_write(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("one", [say(n) for n in range(1000)])
        moments = [list(range(1, 1001))]

        async def write() -> None:
            for round_ in range(20):
                db_id = await session.append("two", HELLO)
                moments.append([*moments[-1], db_id])
                cut = 900 - 40 * round_
                await session.truncate_from(cut)
                moments.append([db_id for db_id in moments[-1] if db_id < cut])

        reads: list[list[Row]] = []

        async def read() -> None:
            reads.extend([await session.messages() for _ in range(10)])

        await asyncio.gather(write(), *(read() for _ in range(4)))
        assert len(reads) == 40
        assert all(ids(rows) in moments for rows in reads)


async def test_a_stream_lets_other_requests_be_served_in_between(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("one", [say(n) for n in range(4500)])
        seen = []
        added = []
        async for row in session.stream():
            if row.db_id in (1, 2000, 4000):
                added.append(await session.append("two", HELLO))
            seen.append(row.db_id)
        assert added == [4501, 4502, 4503]
        assert seen == list(range(1, 4501))  # what was added after the first slice is not in it


async def test_rows_removed_before_a_stream_came_to_them_do_not_come(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("one", [say(n) for n in range(9000)])
        seen = []
        async for row in session.stream():
            if row.db_id == 1:
                await session.truncate_from(8500)
                await session.append("one", say("later"))
            seen.append(row.db_id)
        assert seen == list(range(1, 8500))


async def test_a_stream_may_be_left_early(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("one", [say(n) for n in range(5000)])
        async for row in session.stream():
            if row.db_id == 3:
                break
        assert await session.append("one", HELLO) == 5001


async def test_requests_of_one_caller_are_served_in_order(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        answers = await asyncio.gather(
            session.append("one", say(1)),
            session.messages(),
            session.append("one", say(2)),
            session.save_metadata({"n": 1}),
            session.get_metadata(),
            session.truncate_from(2),
            session.messages(),
            session.get(1),
            session.get(2),
            session.revision(),
            session.messages_from_latest_checkpoint(),
        )
        first, early, second, _, metadata, removed, late, kept, gone, revision, page = answers
        assert (first, second, removed, metadata, revision) == (1, 2, 1, {"n": "1"}, 4)
        assert contents(early) == contents(late) == contents(page.rows) == [1]
        assert kept is not None
        assert gone is None
