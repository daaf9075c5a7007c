from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionactor import IdempotencyError, SessionRegistry, StaleHeadError, StaleRevisionError

HELLO = {"role": "user", "content": "hello"}


def say(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


async def test_the_same_key_gives_the_first_id_and_stores_nothing(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        assert await session.append("one", HELLO, key="k") == 1
        assert await session.append("one", say(2)) == 2
        assert await session.append("one", HELLO, key="k") == 1
        assert await session.append("one", HELLO, key="other") == 3
        assert [row.key for row in await session.messages()] == ["k", None, "other"]


async def test_a_key_is_known_for_the_life_of_the_session(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO, key="k")
        await registry.stop("a")
        assert await session.append("one", HELLO, key="k") == 1
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("a")
        assert await session.append("one", HELLO, key="k") == 1
        with pytest.raises(IdempotencyError):
            await session.append("one", say("another"), key="k")
        assert len(await session.messages()) == 1


async def test_a_key_is_known_after_its_row_was_truncated(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("one", [say(1), say(2)], keys=["k1", "k2"])
        await session.truncate_from(1)
        assert await session.append("one", say(2), key="k2") == 2
        with pytest.raises(IdempotencyError):
            await session.append("one", say(1), key="k2")
        assert await session.messages() == []
        assert await session.append("one", say(3), key="k3") == 3


async def test_keys_belong_to_one_session(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        first, second = await registry.start("a"), await registry.start("b")
        assert await first.append("one", HELLO, key="k") == 1
        assert await second.append("two", say("another"), key="k") == 1


async def test_a_deleted_sessions_keys_are_gone(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO, key="k")
        await registry.delete("a")
        session = await registry.start("a")
        assert await session.append("two", say("another"), key="k") == 1


async def test_the_same_key_with_another_agent_or_message_is_refused(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", say("before"))
        await session.append("one", HELLO, key="k")
        for agent_id, message in (("two", HELLO), ("one", say("else"))):
            with pytest.raises(IdempotencyError, match="'k'") as caught:
                await session.append(agent_id, message, key="k")
            assert (caught.value.key, caught.value.db_id) == ("k", 2)
            assert caught.value.session_id == "a"
        assert len(await session.messages()) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"n": 1}, {"n": 2}),
        ({"n": 1}, {"n": 1.0}),
        ({"n": 1}, {"n": True}),
        ({"n": 1}, {"n": "1"}),
        ({"n": "1"}, {"n": b"1"}),
        ({"n": 0}, {"n": None}),
        ({"n": [1, 2]}, {"n": [2, 1]}),
        ({"n": [1, 2]}, {"n": (1, 2)}),
        ({"n": (1, 2)}, {"n": {1, 2}}),
        ({"n": {1, 2}}, {"n": frozenset({1, 2})}),
        ({"n": [[1], [2]]}, {"n": [[1, 2]]}),
        ({"n": ["a", "b"]}, {"n": ["ab"]}),
        ({"n": [1, [2]]}, {"n": [1, 2]}),
        ({"n": {}}, {"n": []}),
        ({1: "a"}, {"1": "a"}),
        ({"a": 1}, {"a": 1, "b": None}),
        ({"a": "b"}, {"b": "a"}),
        ({"a": "b", "c": "d"}, {"a": "d", "c": "b"}),
        ({"n": 2**70}, {"n": 2**70 + 1}),
        ({"n": 0.0}, {"n": -0.0}),
        ({"n": datetime(2024, 1, 1)}, {"n": datetime(2024, 1, 1, tzinfo=UTC)}),
        ({"n": datetime(2024, 1, 1)}, {"n": datetime(2024, 1, 1, fold=1)}),
        ({"n": datetime(2024, 1, 1)}, {"n": "2024-01-01T00:00:00"}),
        ({"n": "\ud800"}, {"n": "?"}),
        ({"n": "é"}, {"n": "e\u0301"}),
    ],
    ids=repr,
)
async def test_messages_that_differ_are_other_messages(
    first: dict[Any, Any], second: dict[Any, Any]
) -> None:
    async with SessionRegistry(None) as registry:
        session = await registry.start("a")
        await session.append("one", first, key="k")
        await session.append("one", second, key="l")
        with pytest.raises(IdempotencyError):
            await session.append("one", second, key="k")
        with pytest.raises(IdempotencyError):
            await session.append("one", first, key="l")


async def test_an_agent_and_its_message_are_not_run_together(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("ab", {"c": 1}, key="k")
        with pytest.raises(IdempotencyError):
            await session.append("a", {"bc": 1}, key="k")


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.datetimes()
)
hashables = st.recursive(
    scalars,
    lambda inner: st.frozensets(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)
values = st.recursive(
    hashables | st.sets(hashables, max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hashables, inner, max_size=4),
    max_leaves=12,
)


def reordered(value: Any) -> Any:
    """The same value, its maps and sets built in the opposite order."""
    kind = type(value)
    if kind is dict:
        return {reordered(key): reordered(value[key]) for key in reversed(value)}
    if kind in (set, frozenset):
        backwards = [reordered(item) for item in reversed(list(value))]
        # Many more elements, removed again, change the order in which a set gives its elements.
        more = [object() for _ in range(500)]
        return kind({*more, *backwards}.difference(more))
    if kind in (list, tuple):
        return kind(reordered(item) for item in value)
    return value


@given(st.lists(st.dictionaries(hashables, values, max_size=5), min_size=1, max_size=8))
@settings(max_examples=40)
async def test_the_order_in_maps_and_sets_does_not_count(messages: list[dict[Any, Any]]) -> None:
    async with SessionRegistry(None) as registry:
        session = await registry.start("a")
        keys = [str(n) for n in range(len(messages))]
        stored = await session.extend("one", messages, keys=keys)
        again = await session.extend("one", [reordered(one) for one in messages], keys=keys)
        assert stored == again == list(range(1, len(messages) + 1))
        assert await session.revision() == 1


async def test_a_message_in_another_order_is_the_same_message(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        first = {"a": 1, "b": {"x": {3, 1, 2}, "y": [1, 2]}, 3: None}
        second = {3: None, "b": {"y": [1, 2], "x": {2, 3, 1}}, "a": 1}
        assert await session.append("one", first, key="k") == 1
        assert await session.append("one", second, key="k") == 1


async def test_a_key_hit_is_decided_before_any_other_condition(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO, key="k", expected_head=0)
        assert await session.append("one", HELLO, key="k", expected_head=0) == 1
        assert await session.extend("one", [HELLO], keys=["k"], expected_head=77) == [1]
        assert await session.append("one", HELLO, key="k", checkpoint=True, keep_from=99) == 1
        async with session.batch(expected_head=0, expected_revision=0) as batch:
            batch.append("one", HELLO, key="k")
            batch.extend("one", [HELLO, HELLO], keys=["k", "k"])
        assert batch.results == [1, [1, 1]]
        (row,) = await session.messages()
        assert not row.checkpoint


async def test_a_key_of_another_message_is_refused_before_the_head_is(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO, key="k")
        with pytest.raises(IdempotencyError):
            await session.append("one", say("else"), key="k", expected_head=0)


async def test_a_key_hit_is_a_hit_whatever_else_the_call_says(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO, key="k", turn="t1", parent="p1")
        assert await session.append("one", HELLO, key="k", turn="t2", checkpoint=True) == 1
        (row,) = await session.messages()
        assert (row.turn, row.parent, row.checkpoint) == ("t1", "p1", False)


async def test_extend_gives_old_ids_for_known_keys_and_stores_the_rest(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.extend("one", [say(1), say(2)], keys=["k1", None])
        messages = [say(3), say(1), say(4), say(5)]
        keys = [None, "k1", "k4", "k5"]
        assert await session.extend("one", messages, keys=keys) == [3, 1, 4, 5]
        assert await session.extend("one", messages[1:], keys=keys[1:]) == [1, 4, 5]
        assert [row.message["content"] for row in await session.messages()] == [1, 2, 3, 4, 5]


async def test_a_partly_known_extend_is_still_conditional(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", say(1), key="k1")
        with pytest.raises(StaleHeadError):
            await session.extend("one", [say(1), say(2)], keys=["k1", "k2"], expected_head=0)
        assert await session.extend(
            "one", [say(1), say(2)], keys=["k1", "k2"], expected_head=1
        ) == [1, 2]


async def test_a_key_twice_within_one_extend_is_stored_once(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        db_ids = await session.extend("one", [say(1), say(2), say(1)], keys=["k", None, "k"])
        assert db_ids == [1, 2, 1]
        with pytest.raises(IdempotencyError) as caught:
            await session.extend("one", [say(3), say(4), say(5)], keys=["l", None, "l"])
        assert caught.value.key == "l"
        assert len(await session.messages()) == 2
        assert await session.append("one", say(6), key="l") == 3


async def test_keys_count_across_the_operations_of_a_batch(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        async with session.batch() as batch:
            batch.append("one", say(1), key="k")
            batch.truncate_from(1)
            batch.append("one", say(1), key="k")
            batch.extend("one", [say(2), say(1)], keys=["l", "k"])
        assert batch.results == [1, 1, 1, [2, 1]]
        assert [row.db_id for row in await session.messages()] == [2]


async def test_a_batch_whose_appends_all_happened_before_does_nothing_again(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")

        async def turn() -> list[Any]:
            async with session.batch(expected_revision=0) as batch:
                batch.append("one", say(1), key="k1")
                batch.save_metadata({"state": "asked"})
                batch.append("one", say(2), key="k2")
            return batch.results

        assert await turn() == [1, None, 2]
        await session.save_metadata({"state": "answered"})
        assert await turn() == [1, None, 2]
        assert await session.get_metadata() == {"state": "answered"}
        assert await session.revision() == 2


async def test_the_keys_of_a_refused_write_are_not_remembered(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        with pytest.raises(StaleHeadError):
            await session.extend("one", [say(1), say(2)], keys=["k1", "k2"], expected_head=5)
        with pytest.raises(StaleRevisionError):
            async with session.batch(expected_revision=5) as batch:
                batch.append("one", say(1), key="k3")
        with pytest.raises(ValueError, match="keep_from"):
            await session.append("one", say(1), key="k4", checkpoint=True, keep_from=9)
        db_ids = await session.extend("two", [say(1)] * 4, keys=["k1", "k2", "k3", "k4"])
        assert db_ids == [1, 2, 3, 4]


async def test_100_concurrent_appends_with_one_key_store_one_row(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await session.append("one", say("before"))
        db_ids = await asyncio.gather(*(session.append("one", HELLO, key="k") for _ in range(100)))
        assert db_ids == [2] * 100
        assert len(await session.messages()) == 2


async def test_of_100_concurrent_messages_with_one_key_the_first_is_stored(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        answers = await asyncio.gather(
            *(session.append("one", say(n), key="k") for n in range(100)), return_exceptions=True
        )
        assert answers[0] == 1
        assert all(isinstance(answer, IdempotencyError) for answer in answers[1:])
        assert [row.message for row in await session.messages()] == [say(0)]


async def test_a_hit_on_a_key_in_the_same_group_after_its_row_was_removed(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        answers = await asyncio.gather(
            session.append("one", HELLO, key="k"),
            session.truncate_from(1),
            session.append("one", HELLO, key="k"),
            session.append("two", HELLO, key="k"),
            session.append("one", say("next")),
            return_exceptions=True,
        )
        assert [*answers[:3], answers[4]] == [1, 1, 1, 2]
        assert isinstance(answers[3], IdempotencyError)
        assert [row.db_id for row in await session.messages()] == [2]


async def test_keys_survive_even_where_the_row_with_the_key_is_the_only_one(
    tmp_path: Path,
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a")
        await session.append("one", HELLO, key="k")
        await session.truncate_from(1)
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("a")
        assert await session.append("one", HELLO, key="k") == 1
        assert await session.append("one", HELLO) == 2
