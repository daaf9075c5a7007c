from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessionactor import CorruptRowError, Row, Session, SessionRegistry

GARBAGE = b"\xc1 no message"


def change_file(session: Session, sql: str, *parameters: object) -> None:
    """What a hand, or a failing disk, does to the file of a session that is not running."""
    assert session.path is not None
    with closing(sqlite3.connect(session.path)) as connection, connection:
        connection.execute(sql, parameters)


async def five_rows(registry: SessionRegistry) -> Session:
    """`1u 2S 3u 4S 5u`, the third of them not to be decoded; keys `k1` to `k5`."""
    session = await registry.start("s")
    roles = ("user", "summary", "user", "summary", "user")
    for n, role in enumerate(roles, 1):
        await session.append("a" if n != 5 else "b", {"role": role, "n": n}, key=f"k{n}")
    await registry.stop("s")
    change_file(session, "UPDATE messages SET data = ? WHERE id = 3", GARBAGE)
    return session


async def stream(session: Session, **how: Any) -> list[Row]:
    return [row async for row in session.stream(**how)]


async def chapters(session: Session, **how: Any) -> list[Row]:
    return [row async for page in session.chapters(**how) for row in page.rows]


READS: dict[str, Callable[[Session], Awaitable[object]]] = {
    "messages": lambda s: s.messages(),
    "messages of its agent": lambda s: s.messages(agent_id="a"),
    "newest messages": lambda s: s.messages(limit=3, newest=True),
    "stream": stream,
    "get": lambda s: s.get(3),
    "get by key": lambda s: s.get(key="k3"),
    "chapter before": lambda s: s.messages_before_checkpoint(4),
    "chapters": chapters,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_a_row_that_cannot_be_decoded_is_named_by_every_read_that_meets_it(
    tmp_path: Path, read: Callable[[Session], Awaitable[object]]
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await five_rows(registry)
        with pytest.raises(CorruptRowError, match="3") as caught:
            await read(session)
        assert caught.value.db_id == 3
        assert caught.value.session_id == "s"


@pytest.mark.parametrize("header", [b"\xdd", b"\xdf"], ids=["array", "map"])
async def test_what_pretends_to_hold_more_than_it_can_is_given_no_room(
    tmp_path: Path, header: bytes
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await five_rows(registry)
        pretending = b"\x81\xa1a" + header + b"\x10\0\0\0\x01\x02"
        change_file(session, "UPDATE messages SET data = ? WHERE id = 3", pretending)
        tracemalloc.start()
        try:
            rows = await session.messages(on_corrupt="skip")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert [row.db_id for row in rows] == [1, 2, 4, 5]
        assert peak < 100 << 20


async def test_a_corrupt_row_of_the_latest_chapter_is_named_however_hot(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await five_rows(registry)
        await session.truncate_from(4)
        for _ in range(3):
            with pytest.raises(CorruptRowError) as caught:
                await session.messages_from_latest_checkpoint()
            assert caught.value.db_id == 3
            page = await session.messages_from_latest_checkpoint(on_corrupt="skip")
            assert ([row.db_id for row in page.rows], page.checkpoint_id) == ([2], 2)
        assert await session.append("a", {"n": 6}) == 6
        with pytest.raises(CorruptRowError):
            await session.messages_from_latest_checkpoint(agent_id="a")


async def test_a_corrupt_checkpoint_is_named_too(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await five_rows(registry)
        await registry.stop("s")
        change_file(session, "UPDATE messages SET data = ? WHERE id = 4", GARBAGE)
        for _ in range(2):
            with pytest.raises(CorruptRowError) as caught:
                await session.messages_from_latest_checkpoint()
            assert caught.value.db_id == 4
            rows, cursor = await session.messages_from_latest_checkpoint(on_corrupt="skip")
            assert ([row.db_id for row in rows], cursor) == ([5], 4)


async def test_skip_passes_over_it_in_every_read(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await five_rows(registry)
        skip: Any = {"on_corrupt": "skip"}
        all_but_it = [1, 2, 4, 5]
        assert [row.db_id for row in await session.messages(**skip)] == all_but_it
        assert [row.db_id for row in await stream(session, **skip)] == all_but_it
        assert sorted(row.db_id for row in await chapters(session, **skip)) == all_but_it
        page = await session.messages_before_checkpoint(4, **skip)
        assert ([row.db_id for row in page.rows], page.checkpoint_id) == ([2], 2)


async def test_the_other_rows_stay_readable(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await five_rows(registry)
        assert [row.message["n"] for row in await session.messages(before=3)] == [1, 2]
        assert [row.message["n"] for row in await session.messages(after=3)] == [4, 5]
        assert [row.message["n"] for row in await session.messages(agent_id="b")] == [5]
        page = await session.messages_from_latest_checkpoint()
        assert [row.message["n"] for row in page.rows] == [4, 5]
        for n in (1, 2, 4, 5):
            row = await session.get(n)
            assert row == await session.get(key=f"k{n}")
            assert row is not None
            assert row.message["n"] == n


async def test_a_session_with_a_corrupt_row_goes_on(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await five_rows(registry)
        assert await session.append("a", {"n": 6}) == 6
        assert await session.append("a", {"role": "user", "n": 3}, key="k3") == 3
        assert await session.truncate_from(3) == 4
        assert [row.db_id for row in await session.messages()] == [1, 2]


async def test_one_bad_row_among_many_does_not_hide_the_others(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("s")
        await session.extend("a", [{"n": n} for n in range(5000)])
        await registry.stop("s")
        change_file(session, "UPDATE messages SET data = x'' WHERE id IN (1, 2500, 5000)")
        rows = await session.messages(on_corrupt="skip")
        assert len(rows) == len(await stream(session, on_corrupt="skip")) == 4997
        with pytest.raises(CorruptRowError) as caught:
            await session.messages(after=2)
        assert caught.value.db_id == 2500


@pytest.mark.parametrize(
    "change",
    [
        "data = 'text'",
        "data = 7",
        "data = 1.5",
        "data = zeroblob(1000000)",
        "inserted_at = 'yesterday'",
        "inserted_at = x'00'",
        "inserted_at = 9223372036854775807",
        "inserted_at = -9223372036854775808",
        "agent_id = CAST(x'ff' AS TEXT)",
        "turn = CAST(x'c3' AS TEXT)",
    ],
)
async def test_whatever_is_wrong_with_a_row_it_is_a_corrupt_row(
    tmp_path: Path, change: str
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await five_rows(registry)
        await session.truncate_from(3)
        await session.append("a", {"n": 6})
        await registry.stop("s")
        change_file(session, f"UPDATE messages SET {change} WHERE id = 2")
        with pytest.raises(CorruptRowError) as caught:
            await session.messages()
        assert caught.value.db_id == 2
        rows = await session.messages(on_corrupt="skip")
        assert [row.db_id for row in rows] == [1, 6]


@pytest.mark.parametrize(
    "change",
    [
        "inserted_at = 'yesterday'",
        "inserted_at = 9223372036854775807",
        "inserted_at = -9223372036854775808",
        "revision = 'newest'",
    ],
)
async def test_a_corrupt_newest_row_spoils_nothing_of_what_comes_after_it(
    tmp_path: Path, change: str
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("s")
        for n in (1, 2, 3):
            await session.append("a", {"n": n})
        before = await session.get(2)
        assert before is not None
        await registry.stop("s")
        change_file(session, f"UPDATE messages SET {change} WHERE id = 3")
        info = await session.info()
        assert (info.message_count, info.revision) == (3, 3)
        assert info.last_activity == before.inserted_at
        assert await session.append("a", {"n": 4}) == 4
        after = await session.get(4)
        assert after is not None
        assert after.revision == 4
        assert before.inserted_at < after.inserted_at
        assert await session.update(4, {"n": 5})
        assert (await session.info()).last_activity > after.inserted_at
        await registry.stop("s")
        assert await session.revision() == 5


LOOKS_ALIKE = [
    b"",
    b"\x80\x80",  # a message, and then another
    b"\x90",  # an array
    b"\xa1x",  # a string
    b"\x81\xa1a",  # a map without its value
    b"\xdf\xff\xff\xff\xff",  # a map of four thousand million entries
    b"\x81\xa1a\xdd\xff\xff\xff\xff",
    b"\x81\xa1a\xc6\xff\xff\xff\xff",
    b"\x81\xa1a" + b"\x91" * 100_000,  # very deep
    b"\x81\xa1a" + b"\x91" * 2000 + b"\xc0",
    b"\x81\x91\xc0\xc0",  # a map with a list as a key
    b"\x81\x80\xc0",  # a map with a map as a key
    b"\x81\xa1a\xd6\xff\x00\x00\x00",  # a cut timestamp
    b"\x81\xa1a\xd4\xff\x00",  # a timestamp of one byte
    b"\x81\xa1a\xa1\xff",  # no UTF-8
]
MARKS = [b"\xc7\x00" + bytes([code]) for code in range(128, 256)]  # empty, reserved extensions
EXTENSIONS = [b"\xd4" + bytes([code, 0]) for code in range(128, 256)]


def only_known_types(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        return all(only_known_types(item) for pair in value.items() for item in pair)
    if kind in (list, tuple, set, frozenset):
        return all(map(only_known_types, value))
    return kind in (
        type(None), bool, int, float, str, bytes, datetime, msgpack.ExtType, msgpack.Timestamp
    )  # fmt: skip


async def read_as_stored(directory: Path, garbage: list[bytes]) -> None:
    """Every row is what could have been stored, or a corrupt one; never another error."""
    async with SessionRegistry(directory) as registry:
        session = await registry.start()
        await session.extend("a", [{}] * len(garbage))
        await registry.stop(session.session_id)
        assert session.path is not None
        with closing(sqlite3.connect(session.path)) as connection, connection:
            connection.executemany(
                "UPDATE messages SET data = ? WHERE id = ?",
                [(data, db_id) for db_id, data in enumerate(garbage, 1)],
            )
        read = await session.messages(on_corrupt="skip")
        good = {row.db_id for row in read}
        for db_id in range(1, len(garbage) + 1):
            if db_id in good:
                assert await session.get(db_id) is not None
            else:
                with pytest.raises(CorruptRowError) as caught:
                    await session.get(db_id)
                assert caught.value.db_id == db_id
        for row in read:
            assert type(row.message) is dict
            assert only_known_types(row.message), garbage[row.db_id - 1]


anything = st.binary(max_size=60)
pieces = st.lists(
    st.sampled_from([*MARKS[-30:], *EXTENSIONS[-30:], *LOOKS_ALIKE])
    | st.sampled_from([b"\x81", b"\x82", b"\x91", b"\x92", b"\x93", b"\xa1a", b"\xc0", b"\x01"])
    | st.binary(max_size=3),
    max_size=12,
).map(b"".join)
maps = (pieces | anything).map(lambda data: b"\x81\xa1a" + data)
cut_or_changed = st.builds(
    lambda message, at, byte: message[:at] + byte + message[at + 1 :],
    st.sampled_from(
        [
            {"a": {1, 2}, "b": (1, [2]), "c": 2**70},
            {"when": datetime(2024, 1, 1), "text": "\ud800", "data": b"xyz"},
            {"ext": msgpack.ExtType(5, b"five"), "time": msgpack.Timestamp(1, 2), "n": -1.5},
        ]
    ).map(lambda message: encoded(message)),
    st.integers(0, 60),
    st.binary(max_size=2),
)


def encoded(message: dict[Any, Any]) -> bytes:
    from sessionactor._codec import encode

    return encode(message, max_bytes=1000)


@given(st.lists(anything | maps | cut_or_changed, min_size=20, max_size=60))
@example(LOOKS_ALIKE)
@example([b"\x81\xa1a" + mark for mark in MARKS])
@example([b"\x81\xa1a\x92\xc0" + mark for mark in MARKS])
@example([b"\x81\xa1a\x92" + mark + mark for mark in MARKS])
@example([b"\x81\xa1a\x92" + mark + b"\x90" for mark in MARKS])
@example([b"\x81" + mark + b"\xc0" for mark in MARKS])
@example([b"\x81\xa1a" + extension for extension in EXTENSIONS])
async def test_no_bytes_in_a_row_raise_anything_else_nor_become_another_type(
    tmp_path_factory: pytest.TempPathFactory, garbage: list[bytes]
) -> None:
    await read_as_stored(tmp_path_factory.mktemp("corrupt"), garbage)


@pytest.mark.parametrize("removed", [-(2**63), 2**63 - 1])
async def test_a_damaged_count_spoils_no_listing_of_the_others(
    tmp_path: Path, removed: int
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await five_rows(registry)
        await registry.start("other")
        await registry.rebuild_catalog()
        change_file(session, "UPDATE session SET removed = ?", removed)
        await registry.rebuild_catalog()
        listed = {info.session_id: info for info in (await registry.sessions()).sessions}
    assert listed.keys() == {"s", "other"}
    assert listed["other"].message_count == 0
