from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sessionactor import (
    Batch,
    IdempotencyError,
    MessageEncodingError,
    Row,
    SessionError,
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


# append


async def test_append_returns_ids_from_one_up_without_gaps(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        assert [await session.append("one", HELLO) for _ in range(5)] == [1, 2, 3, 4, 5]


async def test_concurrent_appends_get_ids_without_gaps_in_the_order_of_the_calls(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        db_ids = await asyncio.gather(*(session.append("one", say(n)) for n in range(1000)))
        assert db_ids == list(range(1, 1001))
        assert contents(await session.messages()) == list(range(1000))


async def test_a_row_says_everything_that_was_given_with_it(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        before = datetime.now(UTC)
        await session.append("one", HELLO)
        await session.append(
            "two",
            say("so far"),
            key="k",
            checkpoint=True,
            keep_from=1,
            parent="other/7",
            turn="t",
        )
        after = datetime.now(UTC)
        plain, full = await session.messages()
        assert plain == Row(
            1, "one", HELLO, plain.inserted_at, False, None, None, None, None, plain.revision
        )
        assert full == Row(
            2, "two", say("so far"), full.inserted_at, True, 1, "k", "other/7", "t", full.revision
        )
        assert before - timedelta(microseconds=1) <= plain.inserted_at
        assert plain.inserted_at <= full.inserted_at <= after


async def test_rows_survive_a_restart_as_they_were(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO, key="k", parent="p", turn="t")
        await session.append("two", {"role": "summary"}, keep_from=1)
        await session.save_metadata({"n": 1})
        rows, revision = await session.messages(), await session.revision()
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("a")
        assert await session.messages() == rows
        assert await session.revision() == revision
        assert await session.get_metadata() == {"n": "1"}


async def test_the_role_summary_makes_a_checkpoint_unless_the_call_says_otherwise(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", {"role": "summary"})
        await session.append("one", {"role": "summary"}, checkpoint=False)
        await session.append("one", {"role": "user"}, checkpoint=True)
        await session.append("one", {"role": "user"})
        await session.append("one", {"role": ["summary"]})
        await session.extend("one", [{"role": "summary"}, {}])
        marks = [row.checkpoint for row in await session.messages()]
        assert marks == [True, False, True, False, False, True, False]


async def test_a_parent_given_as_a_row_of_this_session_names_the_session(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a/b")
        first = await session.append("one", HELLO)
        await session.append("one", HELLO, parent=first)
        assert (await session.messages())[1].parent == "a/b/1"


async def test_a_message_is_copied_at_the_call(place: Path | None) -> None:
    message: dict[str, Any] = {"content": "as it was", "parts": [{"n": 1}]}

    async def spoil() -> None:
        message["content"] = "changed"
        message["parts"][0]["n"] = 2

    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await asyncio.gather(session.append("one", message), spoil())
        (row,) = await session.messages()
        assert row.message == {"content": "as it was", "parts": [{"n": 1}]}


async def test_messages_of_a_batch_and_an_extend_are_copied_at_the_call(
    place: Path | None,
) -> None:
    message = {"content": ["as it was"]}
    several = [message]
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        async with session.batch() as batch:
            batch.append("one", message)
            batch.extend("one", several)
            message["content"].append("changed")
            several.append(message)
        assert contents(await session.messages()) == [["as it was"], ["as it was"]]


async def test_changing_what_a_read_returned_changes_nothing(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", {"role": "summary", "parts": [1]}, key="k")

        async def everything() -> list[Row]:
            pages = [page async for page in session.chapters()]
            return [
                *await session.messages(),
                *[row async for row in session.stream()],
                *(await session.messages_from_latest_checkpoint()).rows,
                *(await session.messages_before_checkpoint(9)).rows,
                *[row for page in pages for row in page.rows],
                *[row for row in (await session.get(1), await session.get(key="k")) if row],
            ]

        for row in await everything():
            row.message["parts"].append(2)
            row.message["more"] = True
        (await session.messages_from_latest_checkpoint()).rows.clear()
        read = await everything()
        assert len(read) == 7
        assert all(row.message == {"role": "summary", "parts": [1]} for row in read)


async def test_changing_metadata_that_was_read_changes_nothing(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.save_metadata({"n": "1"})
        (await session.get_metadata())["n"] = "2"
        assert await session.get_metadata() == {"n": "1"}


async def test_a_refused_request_uses_no_id(place: Path | None) -> None:
    async with SessionRegistry(place, max_message_bytes=100) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO, key="k")
        with pytest.raises(MessageEncodingError):
            await session.append("one", {"content": object()})
        with pytest.raises(ValueError, match="max_message_bytes"):
            await session.append("one", say("x" * 100))
        with pytest.raises(IdempotencyError):
            await session.append("two", HELLO, key="k")
        with pytest.raises(StaleHeadError):
            await session.append("one", HELLO, expected_head=7)
        with pytest.raises(ValueError, match="keep_from"):
            await session.append("one", HELLO, checkpoint=True, keep_from=3)
        assert await session.append("one", HELLO, key="k") == 1
        assert await session.append("one", HELLO) == 2


async def test_a_refused_request_takes_none_of_its_neighbours_with_it(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO, key="k")
        calls: list[Awaitable[Any]] = []
        for n in range(20):
            calls += [
                session.append("one", say(n)),
                session.append("two", HELLO, key="k"),
                session.append("one", HELLO, expected_head=999),
                session.append("one", HELLO, checkpoint=True, keep_from=999),
                session.append("one", {"content": object()}),
            ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers[0::5] == list(range(2, 22))
        assert all(isinstance(answer, IdempotencyError) for answer in answers[1::5])
        assert all(isinstance(answer, StaleHeadError) for answer in answers[2::5])
        assert all(isinstance(answer, ValueError) for answer in answers[3::5])
        assert all(isinstance(answer, MessageEncodingError) for answer in answers[4::5])
        assert contents(await session.messages(after=1)) == list(range(20))


# extend


async def test_extend_stores_all_in_order_and_returns_their_ids(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", say(0))
        db_ids = await session.extend("two", (say(n) for n in (1, 2)), parent="p", turn="t")
        assert db_ids == [2, 3]
        rows = await session.messages(after=1)
        assert [(row.agent_id, row.message["content"]) for row in rows] == [("two", 1), ("two", 2)]
        assert {(row.parent, row.turn, row.revision) for row in rows} == {("p", "t", 2)}


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("last", ["short", "x" * 10_000])
async def test_extend_stores_however_many_messages(
    place: Path | None, count: int, last: str
) -> None:
    messages = [say(f"text {number}") for number in range(count - 1)] + [say(last)]
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        assert await session.extend("two", messages) == list(range(1, count + 1))
        rows = await session.messages()
        assert [row[:3] for row in rows] == [
            (db_id, "two", message) for db_id, message in enumerate(messages, 1)
        ]
        assert {row[4:] for row in rows} == {(False, None, None, None, None, 1, None)}


@pytest.mark.parametrize(
    "bad",
    [{"content": object()}, {"content": "x" * 200}, ["no mapping"]],
    ids=["an object", "too large", "a list"],
)
async def test_extend_with_a_message_that_cannot_be_stored_stores_none(
    place: Path | None, bad: Any
) -> None:
    async with SessionRegistry(place, max_message_bytes=100) as registry:
        session = await registry.start("a")
        with pytest.raises(SessionError):
            await session.extend("one", [HELLO, bad, HELLO])
        assert await session.messages() == []


async def test_extend_that_is_refused_stores_none(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO, key="k")
        with pytest.raises(IdempotencyError):
            await session.extend("one", [say(1), say(2), say(3)], keys=[None, "k", "new"])
        with pytest.raises(StaleHeadError):
            await session.extend("one", [say(1), say(2)], expected_head=0)
        assert ids(await session.messages()) == [1]
        assert await session.get(key="new") is None
        assert await session.extend("one", [say(1), say(2)], expected_head=1) == [2, 3]


async def test_extend_with_nothing_does_nothing(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        assert await session.extend("one", []) == []
        assert await session.extend("one", [], keys=[]) == []
        assert await session.revision() == 0


# batch


async def test_batch_results_are_what_each_call_would_have_returned(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO)
        async with session.batch() as batch:
            assert isinstance(batch, Batch)
            batch.append("one", say("doomed"))
            batch.extend("two", [say("doomed"), say("doomed")])
            batch.truncate_from(2)
            batch.save_metadata({"n": 1})
            batch.extend("two", [])
            batch.append("one", say("kept"), key="k", turn="t")
            batch.truncate_from(99)
            assert batch.results == []
        assert batch.results == [2, [3, 4], 3, None, [], 5, 0]
        assert contents(await session.messages()) == ["hello", "kept"]
        assert await session.get_metadata() == {"n": "1"}


async def test_a_batch_is_one_revision_and_one_moment(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        async with session.batch() as batch:
            batch.append("one", HELLO)
            batch.save_metadata({"n": 1})
            batch.append("one", HELLO)
        assert await session.revision() == 1
        rows = await session.messages()
        assert len({row.inserted_at for row in rows}) == 1
        assert {row.revision for row in rows} == {1}


async def test_nothing_of_a_batch_happens_before_its_end_nor_when_its_block_raises(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")

        async def block() -> None:
            async with session.batch() as batch:
                batch.append("one", HELLO)
                batch.save_metadata({"n": 1})
                assert await session.messages() == []
                raise KeyError("the block's own")

        with pytest.raises(KeyError, match="the block's own"):
            await block()
        assert await session.messages() == []
        assert await session.get_metadata() == {}
        assert await session.revision() == 0


async def test_a_refused_batch_does_nothing(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO, key="k")
        batch = session.batch()

        async def block() -> None:
            async with batch:
                batch.append("one", say("first"), key="first")
                batch.save_metadata({"n": 1})
                batch.truncate_from(1)
                batch.append("one", say("another"), key="k")

        with pytest.raises(IdempotencyError):
            await block()
        assert batch.results == []
        assert ids(await session.messages()) == [1]
        assert await session.get_metadata() == {}
        assert await session.get(key="first") is None


async def test_a_batch_can_be_conditional_on_head_and_revision(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        async with session.batch(expected_head=0, expected_revision=0) as batch:
            batch.append("one", HELLO)
        assert batch.results == [1]
        with pytest.raises(StaleHeadError):
            async with session.batch(expected_head=0) as batch:
                batch.save_metadata({"n": 1})
        with pytest.raises(StaleRevisionError) as caught:
            async with session.batch(expected_head=1, expected_revision=0) as batch:
                batch.save_metadata({"n": 1})
        assert (caught.value.expected, caught.value.actual) == (0, 1)
        assert caught.value.session_id == "a"
        assert await session.get_metadata() == {}


async def test_a_batch_sees_its_own_effects_in_order(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("one", [say(1), say(2), say(3)])
        async with session.batch() as batch:
            batch.truncate_from(2)
            batch.append("one", say(4))
            batch.truncate_from(4)
            batch.append("one", say(5))
            batch.truncate_from(1)
            batch.append("one", say(6), checkpoint=True, keep_from=6)
        assert batch.results == [2, 4, 1, 5, 2, 6]
        assert ids(await session.messages()) == [6]


# get


async def test_get_finds_a_row_by_id_or_by_key(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("one", [say(1), say(2)], keys=["k1", "k2"])
        rows = await session.messages()
        assert [await session.get(1), await session.get(key="k2")] == rows


@pytest.mark.parametrize("db_id", [0, -1, 3, 2**63 - 1, 2**63, 2**80, -(2**80)])
async def test_get_of_an_id_that_no_row_has_is_none(place: Path | None, db_id: int) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("one", [say(1), say(2)])
        assert await session.get(db_id) is None


async def test_get_of_an_unknown_key_or_a_removed_row_is_none(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO, key="k")
        assert await session.get(key="other") is None
        await session.truncate_from(1)
        assert await session.get(1) is None
        assert await session.get(key="k") is None


# truncate_from


async def test_truncation_removes_a_row_and_all_later_ones_of_all_agents(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        for n in range(6):
            await session.append("one" if n % 2 else "two", say(n))
        assert await session.truncate_from(3) == 4
        assert ids(await session.messages()) == [1, 2]
        assert ids((await session.messages_from_latest_checkpoint()).rows) == [1, 2]


async def test_truncated_ids_are_never_used_again(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a")
        await session.extend("one", [HELLO] * 3)
        assert await session.truncate_from(2) == 2
        assert await session.append("one", HELLO) == 4
        assert await session.truncate_from(1) == 2
        await registry.stop("a")
        assert await session.append("one", HELLO) == 5
        assert await session.truncate_from(5) == 1
    async with SessionRegistry(tmp_path) as registry:
        assert await registry.session("a").append("one", HELLO) == 6


async def test_truncation_leaves_metadata_and_keys(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.save_metadata({"n": 1})
        await session.append("one", HELLO, key="k")
        assert await session.truncate_from(1) == 1
        assert await session.get_metadata() == {"n": "1"}
        assert await session.append("one", HELLO, key="k") == 1
        assert await session.messages() == []


@pytest.mark.parametrize(
    ("from_id", "count", "left"),
    [(0, 5, 0), (-7, 5, 0), (-(2**80), 5, 0), (6, 0, 5), (2**80, 0, 5), (5, 1, 4), (1, 5, 0)],
)
async def test_truncation_anywhere_says_how_many_rows_went(
    place: Path | None, from_id: int, count: int, left: int
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("one", [HELLO] * 5)
        assert await session.truncate_from(from_id) == count
        assert len(await session.messages()) == left
        assert await session.append("one", HELLO) == 6


async def test_truncation_from_within_a_gap_removes_what_is_later(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("one", [HELLO] * 5)
        await session.truncate_from(2)
        await session.extend("one", [HELLO] * 2)
        assert await session.truncate_from(4) == 2
        assert ids(await session.messages()) == [1]


# metadata


async def test_metadata_merges(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        assert await session.get_metadata() == {}
        await session.save_metadata({"model": "m1", "mood": None})
        await session.save_metadata({"model": "m2", "": "empty key", "名": "\u202e🥭"})
        assert await session.get_metadata() == {
            "model": "m2",
            "mood": None,
            "": "empty key",
            "名": "\u202e🥭",
        }


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("text", "text"),
        ("", ""),
        (None, None),
        (0, "0"),
        (-17, "-17"),
        (2**80, str(2**80)),
        (1.5, "1.5"),
        (1e300, "1e+300"),
        (True, "true"),
        (False, "false"),
    ],
    ids=repr,
)
async def test_metadata_values_are_strings_or_none(
    place: Path | None, value: object, stored: str | None
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.save_metadata({"v": value})
        assert await session.get_metadata() == {"v": stored}


@pytest.mark.parametrize(
    "value", [b"x", [], {}, object(), 1j, datetime.now(UTC)], ids=lambda value: type(value).__name__
)
async def test_metadata_with_a_value_of_another_type_is_not_saved_at_all(
    place: Path | None, value: object
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        with pytest.raises(TypeError, match="'v'") as caught:
            await session.save_metadata({"before": "1", "v": value, "after": "2"})
        assert isinstance(caught.value, SessionError)
        assert await session.get_metadata() == {}
        assert await session.revision() == 0
