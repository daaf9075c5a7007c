from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessionactor import (
    MessageEncodingError,
    Row,
    Session,
    SessionError,
    SessionRegistry,
)

HELLO = {"role": "user", "content": "hello"}


def contents(rows: list[Row]) -> list[Any]:
    return [row.message["content"] for row in rows]


def ids(rows: list[Row]) -> list[int]:
    return [row.db_id for row in rows]


def say(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


BAD_VALUES: dict[str, Callable[[Session], Any]] = {
    "agent with NUL": lambda s: s.append("a\0b", HELLO),
    "agent with surrogate": lambda s: s.append("\ud800", HELLO),
    "key with NUL": lambda s: s.append("one", HELLO, key="\0"),
    "key with surrogate": lambda s: s.append("one", HELLO, key="\udfff"),
    "turn with NUL": lambda s: s.append("one", HELLO, turn="t\0"),
    "turn with surrogate": lambda s: s.append("one", HELLO, turn="\ud83d"),
    "parent with NUL": lambda s: s.append("one", HELLO, parent="\0"),
    "keep_from without checkpoint": lambda s: s.append("one", HELLO, keep_from=1),
    "keep_from on a checkpoint that is none": lambda s: s.append(
        "one", {"role": "summary"}, checkpoint=False, keep_from=1
    ),
    "keep_from 0": lambda s: s.append("one", HELLO, checkpoint=True, keep_from=0),
    "keep_from negative": lambda s: s.append("one", HELLO, checkpoint=True, keep_from=-1),
    "keep_from above the new id": lambda s: s.append("one", HELLO, checkpoint=True, keep_from=2),
    "keep_from huge": lambda s: s.append("one", HELLO, checkpoint=True, keep_from=2**80),
    "too few keys": lambda s: s.extend("one", [HELLO, HELLO], keys=["k"]),
    "too many keys": lambda s: s.extend("one", [HELLO], keys=["k", "l"]),
    "extend with bad agent": lambda s: s.extend("\0", [HELLO]),
    "extend of nothing with bad agent": lambda s: s.extend("\0", []),
    "extend with bad key": lambda s: s.extend("one", [HELLO], keys=["\0"]),
    "limit negative": lambda s: s.messages(limit=-1),
    "on_corrupt unknown": lambda s: s.messages(on_corrupt="ignore"),
    "on_corrupt unknown in a chapter": lambda s: s.messages_from_latest_checkpoint(
        on_corrupt="ignore"
    ),
    "on_corrupt unknown before": lambda s: s.messages_before_checkpoint(1, on_corrupt=""),
    "agent of a read": lambda s: s.messages(agent_id="\0"),
    "agent of a chapter": lambda s: s.messages_from_latest_checkpoint(agent_id="\ud800"),
    "get of nothing": lambda s: s.get(),
    "get of both": lambda s: s.get(1, key="k"),
    "get of a bad key": lambda s: s.get(key="\0"),
    "metadata key with NUL": lambda s: s.save_metadata({"a": "1", "\0": "2"}),
    "metadata key with surrogate": lambda s: s.save_metadata({"\ud800": "2"}),
    "metadata value with NUL": lambda s: s.save_metadata({"a": "1", "b": "\0"}),
    "metadata value with surrogate": lambda s: s.save_metadata({"b": "\ud800"}),
    "state of too many digits": lambda s: s.set_state(10**5000),
    "on_corrupt of too many digits": lambda s: s.messages(on_corrupt=10**5000),
    "metadata int of too many digits": lambda s: s.save_metadata({"b": 10**5000}),
}

BAD_TYPES: dict[str, Callable[[Session], Any]] = {
    "agent": lambda s: s.append(1, HELLO),
    "agent None": lambda s: s.append(None, HELLO),
    "agent bytes": lambda s: s.append(b"one", HELLO),
    "message list": lambda s: s.append("one", [HELLO]),
    "message None": lambda s: s.append("one", None),
    "message str": lambda s: s.append("one", "hello"),
    "key": lambda s: s.append("one", HELLO, key=1),
    "turn": lambda s: s.append("one", HELLO, turn=1),
    "parent float": lambda s: s.append("one", HELLO, parent=1.5),
    "parent bool": lambda s: s.append("one", HELLO, parent=True),
    "keep_from str": lambda s: s.append("one", HELLO, checkpoint=True, keep_from="1"),
    "keep_from bool": lambda s: s.append("one", HELLO, checkpoint=True, keep_from=True),
    "expected_head str": lambda s: s.append("one", HELLO, expected_head="0"),
    "expected_head bool": lambda s: s.append("one", HELLO, expected_head=False),
    "extend message": lambda s: s.extend("one", [HELLO, "hello"]),
    "extend of a single message": lambda s: s.extend("one", HELLO),
    "extend of no iterable": lambda s: s.extend("one", 5),
    "extend keys of no iterable": lambda s: s.extend("one", [HELLO], keys=5),
    "extend key": lambda s: s.extend("one", [HELLO], keys=[1]),
    "extend expected_head": lambda s: s.extend("one", [HELLO], expected_head=0.0),
    "truncate_from str": lambda s: s.truncate_from("1"),
    "truncate_from None": lambda s: s.truncate_from(None),
    "truncate_from bool": lambda s: s.truncate_from(True),
    "truncate_from float": lambda s: s.truncate_from(1.0),
    "after": lambda s: s.messages(after="1"),
    "before": lambda s: s.messages(before=1.5),
    "limit": lambda s: s.messages(limit="1"),
    "limit float": lambda s: s.messages(limit=1.0),
    "agent of a read": lambda s: s.messages(agent_id=1),
    "agent of a chapter": lambda s: s.messages_from_latest_checkpoint(agent_id=1),
    "cursor None": lambda s: s.messages_before_checkpoint(None),
    "cursor str": lambda s: s.messages_before_checkpoint("4"),
    "get str": lambda s: s.get("1"),
    "get key": lambda s: s.get(key=1),
    "metadata list": lambda s: s.save_metadata([("a", "b")]),
    "metadata None": lambda s: s.save_metadata(None),
    "metadata key": lambda s: s.save_metadata({1: "a"}),
}


async def refused(place: Path | None, call: Callable[[Session], Any], builtin: type) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("the-id")
        with pytest.raises(builtin) as caught:
            await call(session)
        assert isinstance(caught.value, SessionError)
        assert caught.value.session_id == "the-id"
        assert await session.messages() == []
        assert await session.get_metadata() == {}
        assert await session.revision() == 0


@pytest.mark.parametrize("call", BAD_VALUES.values(), ids=BAD_VALUES)
async def test_a_bad_value_is_a_ValueError_that_names_the_session(  # noqa: N802
    call: Callable[[Session], Any],
) -> None:
    await refused(None, call, ValueError)


@pytest.mark.parametrize("call", BAD_TYPES.values(), ids=BAD_TYPES)
async def test_a_bad_type_is_a_TypeError_that_names_the_session(  # noqa: N802
    call: Callable[[Session], Any],
) -> None:
    await refused(None, call, TypeError)


async def test_a_stream_checks_its_arguments_too(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        with pytest.raises(ValueError, match="limit"):
            await anext(session.stream(limit=-1))
        with pytest.raises(TypeError, match="after"):
            await anext(session.stream(after="1"))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="agent_id"):
            await anext(session.chapters(agent_id=1))  # type: ignore[arg-type]


async def test_a_batch_refuses_a_bad_argument_at_the_call(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        async with session.batch() as batch:
            for call, error in (
                (lambda: batch.append("\0", HELLO), ValueError),
                (lambda: batch.append("one", {"content": object()}), MessageEncodingError),
                (lambda: batch.extend("one", [HELLO], keys=[]), ValueError),
                (lambda: batch.extend("one", [HELLO, []]), TypeError),  # type: ignore[list-item]
                (lambda: batch.truncate_from("1"), TypeError),  # type: ignore[arg-type]
                (lambda: batch.save_metadata({"a": b""}), TypeError),
            ):
                with pytest.raises(error) as caught:
                    call()
                assert isinstance(caught.value, SessionError)
            batch.append("one", HELLO)
        assert batch.results == [1]
        with pytest.raises(TypeError, match="expected_head"):
            async with session.batch(expected_head="1") as batch:  # type: ignore[arg-type]
                batch.append("one", HELLO)
        with pytest.raises(TypeError, match="expected_revision"):
            async with session.batch(expected_revision=1.0) as batch:  # type: ignore[arg-type]
                batch.append("one", HELLO)
        assert await session.revision() == 1


async def test_subclasses_of_str_and_int_are_taken_as_what_they_are(place: Path | None) -> None:
    class Text(str):
        __slots__ = ()

    class Number(int):
        pass

    async with SessionRegistry(place) as registry:
        session = await registry.start(Text("a"), name=Text("n"))
        await session.append(
            Text("one"), HELLO, key=Text("k"), turn=Text("t"), parent=Text("p"), expected_head=0
        )
        await session.append("one", {"role": "summary"}, keep_from=Number(1))
        await session.save_metadata({Text("m"): Text("v")})
        first, second = await session.messages(agent_id=Text("one"), limit=Number(2))
        assert [type(first.agent_id), type(first.key), type(first.turn)] == [str] * 3
        assert type(second.keep_from) is int
        assert await session.get(key=Text("k")) == first
        assert await session.get(Number(2)) == second
        assert await session.get_metadata() == {"m": "v"}


async def test_empty_strings_are_strings(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        assert await session.append("", {}, key="", turn="", parent="") == 1
        assert await session.append("", {}, key="") == 1
        row = await session.get(key="")
        assert row is not None
        assert (row.agent_id, row.message, row.key, row.turn, row.parent) == ("", {}, "", "", "")
        assert await session.messages(agent_id="") == [row]
        assert await session.messages(agent_id="other") == []
