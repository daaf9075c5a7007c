from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sessionactor import (
    Row,
    Session,
    SessionRegistry,
    StaleHeadError,
    StaleRevisionError,
)

HELLO = {"role": "user", "content": "hello"}


def contents(rows: list[Row]) -> list[Any]:
    return [row.message["content"] for row in rows]


def ids(rows: list[Row]) -> list[int]:
    return [row.db_id for row in rows]


def say(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


# revision


async def test_the_revision_goes_one_up_with_every_committed_mutation(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        assert await session.revision() == 0
        await session.append("one", HELLO)
        assert await session.revision() == 1
        await session.extend("one", [HELLO, HELLO, HELLO])
        assert await session.revision() == 2
        await session.save_metadata({"n": 1, "m": 2})
        assert await session.revision() == 3
        await session.truncate_from(3)
        assert await session.revision() == 4
        await asyncio.gather(*(session.append("one", HELLO) for _ in range(100)))
        assert await session.revision() == 104
        assert [row.revision for row in await session.messages()] == [1, 2, *range(5, 105)]


async def test_what_changes_nothing_leaves_the_revision(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO, key="k")
        await session.append("one", HELLO, key="k")
        await session.extend("one", [HELLO], keys=["k"])
        await session.extend("one", [])
        await session.save_metadata({})
        await session.truncate_from(2)
        async with session.batch():
            pass
        async with session.batch() as batch:
            batch.append("one", HELLO, key="k")
            batch.truncate_from(9)
            batch.save_metadata({})
        with pytest.raises(StaleHeadError):
            await session.append("one", HELLO, expected_head=0)
        await session.messages()
        assert await session.revision() == 1


async def test_the_revision_survives_closing_and_truncation(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a")
        await session.extend("one", [HELLO, HELLO])
        await session.append("one", HELLO)
        await session.truncate_from(1)
        await registry.stop("a")
        assert await session.revision() == 3
        await session.save_metadata({"n": 1})
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("a")
        assert await session.revision() == 4
        await session.append("one", HELLO)
        assert [row.revision for row in await session.messages()] == [5]


async def test_the_revision_survives_closing_after_nothing_but_appends(tmp_path: Path) -> None:
    for n in range(1, 4):
        async with SessionRegistry(tmp_path) as registry:
            session = await registry.start("a")
            await session.append("one", HELLO)
            await registry.stop("a")
            assert await session.revision() == 2 * n - 1
            await session.extend("one", [HELLO, HELLO])
            assert [row.revision for row in await session.messages(limit=2, newest=True)] == (
                [2 * n] * 2
            )


# conditional writes


async def test_the_expected_head_is_the_newest_id_and_0_for_an_empty_session(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        assert await session.append("one", HELLO, expected_head=0) == 1
        assert await session.append("one", HELLO, expected_head=1) == 2
        await session.truncate_from(2)
        assert await session.append("one", HELLO, expected_head=1) == 3
        await session.truncate_from(1)
        assert await session.append("one", HELLO, expected_head=0) == 4


async def test_the_head_follows_appends_alone_and_together(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        for head in range(1, 30, 7):
            assert await session.append("one", HELLO) == head
            assert await session.append("one", HELLO, expected_head=head) == head + 1
            await asyncio.gather(*[session.append("one", HELLO) for _ in range(4)])
            with pytest.raises(StaleHeadError):
                await session.append("one", HELLO, expected_head=head + 1)
            assert await session.append("one", HELLO, expected_head=head + 5) == head + 6


async def test_a_stale_head_says_what_was_expected_and_what_is(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("one", [HELLO] * 3)
        for expected in (0, 2, 4, -1, 2**80):
            with pytest.raises(StaleHeadError, match="'a'") as caught:
                await session.append("one", HELLO, expected_head=expected)
            assert caught.value.actual == 3
            assert caught.value.session_id == "a"
        with pytest.raises(StaleHeadError) as caught:
            await session.extend("one", [HELLO], expected_head=1)
        assert caught.value.expected == 1
        assert await session.revision() == 1


@pytest.mark.parametrize(
    ("change", "next_id"),
    [
        (lambda session: session.append("one", HELLO), 4),
        (lambda session: session.save_metadata({"n": "other"}), 3),
        (lambda session: session.truncate_from(2), 3),
    ],
    ids=["append", "save_metadata", "truncate_from"],
)
async def test_a_revision_is_stale_after_any_change(
    place: Path | None, change: Callable[[Session], Awaitable[object]], next_id: int
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("one", [HELLO] * 2)
        seen = await session.revision()
        await change(session)
        with pytest.raises(StaleRevisionError) as caught:
            async with session.batch(expected_revision=seen) as batch:
                batch.append("one", HELLO)
        assert caught.value.actual == seen + 1
        async with session.batch(expected_revision=seen + 1) as batch:
            batch.append("one", HELLO)
        assert batch.results == [next_id]


async def test_of_100_writers_that_saw_the_same_head_exactly_one_wins(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        for round_ in range(5):
            answers = await asyncio.gather(
                *(session.append("one", say(n), expected_head=round_) for n in range(100)),
                return_exceptions=True,
            )
            won = [answer for answer in answers if isinstance(answer, int)]
            lost = [answer for answer in answers if isinstance(answer, StaleHeadError)]
            assert won == [round_ + 1]
            assert len(lost) == 99
            assert {error.actual for error in lost} == {round_ + 1}
        assert len(await session.messages()) == 5


async def test_of_100_writers_that_saw_the_same_revision_exactly_one_wins(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")

        async def write(n: int) -> None:
            async with session.batch(expected_revision=0) as batch:
                batch.save_metadata({"winner": n})

        answers = await asyncio.gather(*(write(n) for n in range(100)), return_exceptions=True)
        lost = [answer for answer in answers if isinstance(answer, StaleRevisionError)]
        assert answers.count(None) == 1
        assert len(lost) == 99
        assert {error.actual for error in lost} == {1}
        assert await session.get_metadata() == {"winner": str(answers.index(None))}


async def test_writers_that_try_again_with_the_actual_head_all_get_through(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")

        async def write(n: int) -> int:
            head = 0
            while True:
                try:
                    return await session.append("one", say(n), expected_head=head)
                except StaleHeadError as error:
                    head = error.actual

        db_ids = await asyncio.gather(*(write(n) for n in range(30)))
        assert sorted(db_ids) == list(range(1, 31))


# time


async def test_times_are_aware_utc_to_the_microsecond(
    place: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    later_s = 4_000_000_000  # than the creation of the session, by the real clock
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        monkeypatch.setattr(time, "time_ns", lambda: later_s * 10**9 + 999)
        await session.append("one", HELLO)
        monkeypatch.setattr(time, "time_ns", lambda: later_s * 10**9 + 123_457_999)
        await session.append("one", HELLO)
        first, second = [row.inserted_at for row in await session.messages()]
        assert first.tzinfo is UTC
        assert first == datetime.fromtimestamp(later_s, UTC)
        assert second - first == timedelta(microseconds=123457)


async def test_times_never_go_backwards_within_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.time_ns() + 10**15
    monkeypatch.setattr(time, "time_ns", lambda: clock)
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a")
        clock += 10**12
        await session.append("one", HELLO)
        newest = (await session.messages())[0].inserted_at
        clock -= 10**14
        await session.append("one", HELLO)
        await registry.stop("a")
        clock -= 10**14
        await session.append("one", HELLO)
        assert [row.inserted_at for row in await session.messages()] == [newest] * 3
        await session.truncate_from(1)  # the time that was given out went with its row
        await registry.stop("a")
        await session.append("one", HELLO)
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("a")
        await session.append("one", HELLO)
        assert [row.inserted_at for row in await session.messages()] == [newest, newest]
        clock += 10**15
        await session.append("one", HELLO)
        assert (await session.messages())[-1].inserted_at > newest
