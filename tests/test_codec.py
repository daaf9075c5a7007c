from __future__ import annotations

import contextlib
import enum
import math
import sqlite3
import traceback
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionactor import MessageEncodingError, MessageTooLargeError, SessionRegistry

MAX_DEPTH = 256  # containers, the message itself included


async def stored(*messages: Any) -> list[dict[Any, Any]]:
    """The messages as they come back, by way of a hot chapter and of the file."""
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        await session.extend("a", messages)
        await registry.stop("s")
        read = [row.message for row in await session.messages()]
        await session.messages_from_latest_checkpoint()
        hot = [row.message for row in (await session.messages_from_latest_checkpoint()).rows]
        for one, other in zip(read, hot, strict=True):
            assert same(one, other)
        return read


def same(one: Any, other: Any) -> bool:
    """Equal in type and value all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(key, other_key) and same(one[key], other[other_key])
            for key, other_key in zip(one, other, strict=True)
        )
    if isinstance(one, list | tuple) and not isinstance(one, msgpack.ExtType):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset):
        return one == other and {type(item) for item in one} == {type(item) for item in other}
    if isinstance(one, float):
        return math.isnan(one) if math.isnan(other) else (one, sign(one)) == (other, sign(other))
    if isinstance(one, datetime):
        return (
            one.replace(tzinfo=None) == other.replace(tzinfo=None)
            and one.utcoffset() == other.utcoffset()
            and one.fold == other.fold
        )
    return bool(one == other)


def sign(number: float) -> float:
    return math.copysign(1.0, number)


def shown(value: object) -> str:
    """The id of a test, the same in every process: the order in a set is not."""
    return f"a set of {len(value)}" if isinstance(value, set) else repr(value)[:30]


any_text = st.text(st.characters(exclude_categories=()), max_size=20)  # with lone surrogates
big_ints = (
    st.integers()
    | st.integers(-(2**300), 2**300)
    | st.sampled_from(
        [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 2**2000, -(2**2000)]
    )
)
offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(
    timezone
)
datetimes = st.builds(
    lambda moment, fold: moment.replace(fold=fold),
    st.datetimes() | st.datetimes(timezones=st.just(UTC) | offsets),
    st.integers(0, 1),
)
scalars = (
    st.none()
    | st.booleans()
    | big_ints
    | st.floats()
    | any_text
    | st.binary(max_size=40)
    | datetimes
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
    | st.builds(
        msgpack.Timestamp,
        st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**34),
        st.integers(0, 999_999_999),
    )
)
keys = st.recursive(
    scalars.filter(lambda value: value == value),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
values = st.recursive(
    scalars | keys | st.sets(keys, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=20,
)
messages = st.dictionaries(any_text | keys, values, max_size=6)


@given(st.lists(messages, min_size=1, max_size=5))
@settings(max_examples=80)
async def test_every_message_comes_back_as_what_it_was(originals: list[dict[Any, Any]]) -> None:
    read = await stored(*originals)
    for original, message in zip(originals, read, strict=True):
        assert same(message, original), (original, message)


@pytest.mark.parametrize(
    "value",
    [
        datetime(2024, 2, 29, 12, 30, 15, 123456),
        datetime(1, 1, 1),
        datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
        datetime(2024, 10, 27, 2, 30, fold=1),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(2024, 1, 1, tzinfo=timezone(-timedelta(hours=3, seconds=7, microseconds=9))),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(microseconds=1))),
        datetime(2024, 1, 1, tzinfo=timezone(-timedelta(microseconds=1))),
        b"\x00\xff",
        b"",
        {1, "a", None, (1, 2), frozenset({3})},
        set(),
        frozenset(),
        (),
        ((), [()], {"a": ((),)}),
        [[], [[]], {}],
        2**64,
        -(2**63) - 1,
        2**10_000,
        "\ud83d",
        "ok \udfff \U0001f96d",
        {"\ud800": {"\udc00": 1}},
        {1: "a", 2.5: "b", None: "c", b"k": "d", (1, (2,)): "e", frozenset({1}): "f", False: "g"},
        {datetime(2024, 1, 1): 1, 2**70: 2},
        msgpack.ExtType(0, b""),
        msgpack.ExtType(127, b"x" * 300),
        [msgpack.ExtType(5, b"first of an array"), 1],
        msgpack.Timestamp(0, 0),
        msgpack.Timestamp(-1, 999_999_999),
        msgpack.Timestamp(2**40, 5),
        float("inf"),
        -0.0,
        float("nan"),
        "",
        "\0",
        "x" * 70_000,
        b"x" * 70_000,
        list(range(70_000)),
    ],
    ids=shown,
)
async def test_a_value_comes_back_as_what_it_was(value: Any) -> None:
    (message,) = await stored({"value": value, "nested": [value, {"again": value}]})
    assert same(message, {"value": value, "nested": [value, {"again": value}]})


async def test_a_time_in_a_named_zone_keeps_its_moment_and_offset() -> None:
    summer = datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    winter = datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
    (message,) = await stored({"times": [summer, winter]})
    assert message["times"] == [summer.astimezone(UTC), winter.astimezone(UTC)]
    assert [time.utcoffset() for time in message["times"]] == [
        timedelta(hours=2),
        timedelta(hours=1),
    ]


class Colour(enum.StrEnum):
    RED = "red"


class Answer(str, enum.Enum):  # noqa: UP042
    YES = "yes"


class Level(enum.IntEnum):
    HIGH = 3
    BEYOND = 2**70


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Number(int):
    pass


class Fraction(float):
    pass


class Data(bytes):
    pass


class Items(list):  # type: ignore[type-arg]
    pass


class Group(set):  # type: ignore[type-arg]
    pass


class FrozenGroup(frozenset):  # type: ignore[type-arg]
    pass


class Moment(datetime):
    pass


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (Colour.RED, "red"),
        (Answer.YES, "yes"),
        (Text("text"), "text"),
        (Text("\ud800"), "\ud800"),
        (Level.HIGH, 3),
        (Level.BEYOND, 2**70),
        (Number(7), 7),
        (Number(-(2**90)), -(2**90)),
        (Fraction(1.5), 1.5),
        (Data(b"data"), b"data"),
        (bytearray(b"data"), b"data"),
        (Items([1, Items()]), [1, []]),
        (Point(1, Point(2, 3)), (1, (2, 3))),
        (Group({1}), {1}),
        (FrozenGroup({1}), frozenset({1})),
        (Moment(2024, 1, 1, fold=1), datetime(2024, 1, 1, fold=1)),
        (Moment(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (UserDict({"a": UserDict()}), {"a": {}}),
        ({Colour.RED: 1, Number(7): 2, Point(1, 2): 3}, {"red": 1, 7: 2, (1, 2): 3}),
        ({Number(1), Colour.RED}, {1, "red"}),
    ],
    ids=shown,
)
async def test_subclasses_come_back_as_their_base_type(value: Any, back: Any) -> None:
    (message,) = await stored({"value": value, "nested": (value,)})
    assert same(message, {"value": back, "nested": (back,)})


@pytest.mark.parametrize(
    "message",
    [OrderedDict(a=1), MappingProxyType({"a": 1}), UserDict({"a": 1}), defaultdict(int, a=1)],
    ids=lambda value: type(value).__name__,
)
async def test_a_message_is_any_mapping(message: Any) -> None:
    assert await stored(message) == [{"a": 1}]


async def test_a_mapping_with_a_role_of_summary_is_a_checkpoint_whatever_its_type() -> None:
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        await session.append("a", UserDict(role="summary"))
        await session.append("a", {"role": Text("summary")})
        assert [row.checkpoint for row in await session.messages()] == [True, True]


async def test_encoding_leaves_the_message_as_it_was() -> None:
    inner = {1, (2, 3)}
    message = {"set": inner, "list": [inner], "when": datetime(2024, 1, 1)}
    await stored(message)
    assert message == {"set": {1, (2, 3)}, "list": [{1, (2, 3)}], "when": datetime(2024, 1, 1)}
    assert message["set"] is inner


# what cannot be stored


@pytest.mark.parametrize(
    "value",
    [
        object(),
        object,
        len,
        1j,
        date(2024, 1, 1),
        time(12),
        timedelta(1),
        Decimal(1),
        uuid4(),
        Path("x"),
        range(3),
        iter([]),
        (n for n in ()),
        ValueError(),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_is_no_message_type_is_refused_by_its_path(value: Any) -> None:
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        with pytest.raises(MessageEncodingError) as caught:
            await session.append("a", {"ok": 1, "content": [{}, "", {"image": value}]})
        assert caught.value.path == "content[2].image"
        assert "content[2].image" in str(caught.value)
        assert caught.value.session_id == "s"
        assert isinstance(caught.value, TypeError)
        assert await session.revision() == 0


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ({"image": object()}, "image"),
        ({"a": {"b": {"c": object()}}}, "a.b.c"),
        ({"a": [[0, object()]]}, "a[0][1]"),
        ({"a": (0, (object(),))}, "a[1][0]"),
        ({"a": {"b": 1}, "c": [{}, {"d": object()}]}, "c[1].d"),
        ({"a": UserDict({"b": [object()]})}, "a.b[0]"),
        ({"a": Items([object()])}, "a[0]"),
        ({"a": 2**70, "b": "\ud800", "c": b"", "d": object()}, "d"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_path_leads_to_what_cannot_be_stored(message: Any, path: str) -> None:
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        with pytest.raises(MessageEncodingError) as caught:
            await session.append("a", message)
        assert caught.value.path == path


async def test_the_path_names_keys_that_are_no_identifiers() -> None:
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        for message in ({"a": {"b c": object()}}, {"a": {7: object()}}, {"a": {b"x": object()}}):
            with pytest.raises(MessageEncodingError) as caught:
                await session.append("a", message)
            (key,) = message["a"]
            assert caught.value.path == f"a[{key!r}]"


async def test_a_key_that_cannot_be_stored_is_named() -> None:
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        with pytest.raises(MessageEncodingError, match="Decimal") as caught:
            await session.append("a", {"a": [{Decimal(1): 1}]})
        assert caught.value.path.startswith("a[0]")


async def test_a_message_that_contains_itself_is_refused() -> None:
    cycle: dict[str, Any] = {"role": "user"}
    cycle["content"] = [cycle]
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        with pytest.raises(MessageEncodingError, match="deep") as caught:
            await session.append("a", cycle)
        assert caught.value.path.startswith("content[0].content[0]")


def nest(kind: Any, levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        if kind is dict:
            value = {"k": value}
        elif kind is UserDict:
            value = UserDict(k=value)
        else:
            value = kind([value])
    return value


@pytest.mark.parametrize("kind", [list, dict, tuple, frozenset, UserDict, Items])
async def test_messages_nest_to_the_stated_depth_and_no_deeper(kind: Any) -> None:
    deepest = {"m": nest(kind, MAX_DEPTH - 1)}
    (message,) = await stored(deepest)
    levels, value = 0, message
    while value != 1:
        assert len(value) == 1
        value = next(iter(value.values() if isinstance(value, dict) else value))
        levels += 1
    assert levels == MAX_DEPTH
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        for levels in (MAX_DEPTH, MAX_DEPTH + 1, 2 * MAX_DEPTH, 600, 5_000):
            with pytest.raises(MessageEncodingError, match=str(MAX_DEPTH)) as caught:
                await session.append("a", {"m": nest(kind, levels)})
            assert caught.value.path.startswith("m")
        assert await session.revision() == 0


@pytest.mark.parametrize("innermost", [[], {}, (), set(), [1], (1,), None, "text", 2**70])
async def test_what_is_innermost_does_not_change_how_deep_a_message_may_be(innermost: Any) -> None:
    levels = MAX_DEPTH - 1 - isinstance(innermost, list | dict | tuple | set)
    value = innermost
    for _ in range(levels):
        value = [value]
    assert len(await stored({"m": value})) == 1
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        with pytest.raises(MessageEncodingError, match=str(MAX_DEPTH)):
            await session.append("a", {"m": [value]})


class Hostile(Exception):  # noqa: N818
    """What hostile methods raise."""


def refuse(*_: object) -> Any:
    raise Hostile("no")


@pytest.mark.parametrize("method", ["items", "keys", "get", "__iter__", "__len__", "__getitem__"])
@pytest.mark.parametrize("base", [dict, UserDict])
async def test_methods_that_raise_are_errors_of_the_message(base: Any, method: str) -> None:
    hostile = type("Message", (base,), {method: refuse})({"role": "user"})
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        for message in (hostile, {"content": [hostile]}):
            with contextlib.suppress(MessageEncodingError):  # not all methods are asked for
                await session.append("a", message)
        with pytest.raises(MessageEncodingError) as caught:
            await session.append("a", {"content": [hostile, object()]})
        assert caught.value.path.startswith("content")
        assert await session.append("a", {"role": "user"}) >= 1


async def test_what_cannot_be_shown_does_not_hide_what_cannot_be_stored() -> None:
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        with pytest.raises(MessageEncodingError) as caught:
            await session.append("a", {"m": {10**5000: object()}})
        assert caught.value.path == "m[<int>]"
        with pytest.raises(MessageEncodingError, match="object"):
            await session.append("a", {"m": [[n] for n in range(200_000)], "z": object()})


async def test_the_depth_does_not_depend_on_what_was_stored_before() -> None:
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        for _ in range(3):
            with pytest.raises(MessageEncodingError):
                await session.append("a", {"m": [object()]})
            with pytest.raises(MessageEncodingError):
                await session.append("a", {"m": nest(list, MAX_DEPTH)})
            await session.append("a", {"m": nest(list, MAX_DEPTH - 1)})
            await session.append("a", {"m": "\ud800" + "x" * 1000})
        assert len(await session.messages()) == 6


async def test_a_wide_message_is_not_deep() -> None:
    wide = {"m": [[n, {"n": [n]}] for n in range(2000)]}
    assert await stored(wide) == [wide]


async def test_a_message_may_have_so_many_bytes_encoded_and_no_more() -> None:
    message = {"role": "user", "content": "x" * 1000}
    async with SessionRegistry(None, max_message_bytes=50) as registry:
        session = await registry.start("s")
        with pytest.raises(MessageTooLargeError, match="50") as caught:
            await session.append("a", message)
        assert caught.value.limit == 50
        assert caught.value.session_id == "s"
        assert isinstance(caught.value, ValueError)
        size = caught.value.size
        assert 1000 < size < 1050
        with pytest.raises(MessageTooLargeError):
            await session.extend("a", [{}, message])
        assert await session.append("a", {}) == 1
    async with SessionRegistry(None, max_message_bytes=size - 1) as registry:
        session = await registry.start("s")
        with pytest.raises(MessageTooLargeError):
            await session.append("a", message)
    async with SessionRegistry(None, max_message_bytes=size) as registry:
        session = await registry.start("s")
        await session.append("a", message)
        with pytest.raises(MessageTooLargeError):
            await session.append("a", {**message, "n": 1})
        assert [row.message for row in await session.messages()] == [message]


async def test_who_keeps_an_error_does_not_keep_the_encoded_message() -> None:
    async with SessionRegistry(None, max_message_bytes=50) as registry:
        session = await registry.start("s")
        with pytest.raises(MessageTooLargeError) as caught:
            await session.append("a", {"data": bytes(1000)})
    (_, *frames) = [frame for frame, _ in traceback.walk_tb(caught.tb)]
    known = [value for frame in frames for value in frame.f_locals.values()]
    assert not [value for value in known if isinstance(value, bytes)]


async def test_a_message_of_the_largest_size_by_default_comes_back() -> None:
    large = {"data": b"x" * (8 * 1024 * 1024 - 100), "text": "ä" * 30}
    (message,) = await stored(large)
    assert message == large
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        with pytest.raises(MessageTooLargeError):
            await session.append("a", {"data": b"x" * (8 * 1024 * 1024)})


async def test_plain_messages_are_plain_msgpack_in_the_file(tmp_path: Path) -> None:
    message = {"role": "user", "content": [1, None, True, 2.5, "ä", b"x", {"n": {}}]}
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("s")
        await session.append("a", message)
        path = session.path
    assert path is not None
    with closing(sqlite3.connect(path)) as connection:
        (data,) = connection.execute("SELECT data FROM messages").fetchone()
    assert msgpack.unpackb(data) == message
