"""Updates and removals beyond the contract of every store: corrupt rows, races, long histories."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from gate import Gate

from sessionactor import (
    CorruptRowError,
    IdempotencyError,
    Row,
    Session,
    SessionRegistry,
    StaleHeadError,
    StorageError,
)
from sessionactor._requests import ReadRows
from sessionactor.testing import Faults, MemoryVault, faulty_store, memory_registry

GARBAGE = b"\xc1 no message"


def say(text: object) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(rows: list[Row]) -> list[Any]:
    return [row.message["content"] for row in rows]


async def damaged(registry: SessionRegistry, change: str, *parameters: object) -> Session:
    """Four rows, two of them of a turn; something is wrong with the third."""
    session = await registry.start("s")
    await session.extend("a", [say(1), say(2)])
    await session.extend("b", [say(3), say(4)], turn="t")
    await registry.stop("s")
    assert session.path is not None
    with closing(sqlite3.connect(session.path)) as connection, connection:
        connection.execute(f"UPDATE messages SET {change} WHERE id = 3", parameters)
    return session


# corrupt rows


async def test_an_update_heals_a_row_whose_message_cannot_be_decoded(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await damaged(registry, "data = ?, updated_at = 'now'", GARBAGE)
        with pytest.raises(CorruptRowError):
            await session.messages()
        assert await session.update(3, say("healed"))
        assert said(await session.messages()) == [1, 2, "healed", 4]


@pytest.mark.parametrize(
    "change",
    [
        "agent_id = CAST(x'ff' AS TEXT)",
        "turn = CAST(x'c3' AS TEXT)",
        "inserted_at = 'yesterday'",
    ],
)
async def test_a_row_that_an_update_cannot_heal_is_named_by_it_and_left(
    tmp_path: Path, change: str
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await damaged(registry, change)

        async def batch() -> None:
            async with session.batch() as batch:
                batch.append("a", say("with it"))
                batch.update(3, say("better"))

        for call in (lambda: session.update(3, say("better")), batch):
            answers = await asyncio.gather(
                session.append("a", say("before")),
                call(),
                session.remove_last(),
                return_exceptions=True,
            )
            refusal = answers[1]
            assert isinstance(refusal, CorruptRowError)
            assert (refusal.db_id, refusal.session_id) == (3, "s")
            assert answers[2] is True
        assert said(await session.messages(on_corrupt="skip")) == [1, 2, 4]
        assert (await session.info()).message_count == 4
        assert await session.remove([3]) == 1
        assert said(await session.messages()) == [1, 2, 4]


@pytest.mark.parametrize("text", ["turn", "agent_id", "key", "parent"])
async def test_text_that_is_not_utf8_stops_neither_whole_turns_nor_removals(
    tmp_path: Path, text: str
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await damaged(registry, f"{text} = CAST(x'c3' AS TEXT)")
        whole: dict[str, Any] = {"limit": 1, "newest": True, "whole_turns": True}
        rows = await session.messages(**whole, on_corrupt="skip")
        assert said(rows) == [4]
        assert await session.update_last(say("four"))
        assert await session.remove_last(agent_id="a")
        assert await session.truncate_from(4, whole_turns=True) == (1 if text == "turn" else 2)
        assert said(await session.messages(on_corrupt="skip")) == [1]
        assert (await session.info()).message_count == (2 if text == "turn" else 1)
        await session.clear()
        assert await session.messages() == []


# long histories


async def test_the_last_message_of_an_agent_is_found_behind_a_long_history(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        first = await session.append("rare", say("old"))
        for _ in range(4):
            await session.extend("busy", [say(n) for n in range(2500)])
        assert await session.update_last(say("new"), agent_id="rare")
        head = await session.head(agent_id="rare")
        assert head is not None
        assert (head.db_id, head.message) == (first, say("new"))
        assert await session.remove_last(agent_id="rare")
        assert await session.head(agent_id="rare") is None
        assert (await session.info()).message_count == 10_000


async def test_most_of_a_long_history_is_removed_at_once(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        for _ in range(4):
            await session.extend("a", [say(n) for n in range(2500)])
        kept = {1, 17, 9_000}
        async with session.batch() as batch:
            batch.remove(db_id for db_id in range(1, 10_001) if db_id not in kept)
            batch.remove_last()
            batch.append("b", say("next"))
        assert batch.results == [9_997, True, 10_001]
        rows = await session.messages()
        assert [row.db_id for row in rows] == [1, 17, 10_001]
        assert (await session.info()).message_count == 3
        await registry.stop("s")
        assert (await session.info()).message_count == 3
        assert await session.messages() == rows


async def test_many_remove_the_last_message_at_once(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await session.extend("a", [say(n) for n in range(400)])
        await session.remove([390, 391])
        answers = await asyncio.gather(*(session.remove_last() for _ in range(402)))
        assert answers == [True] * 398 + [False] * 4
        assert await session.messages() == []
        assert await session.append("a", say("next"), expected_head=0) == 401


async def test_many_update_at_once_and_each_row_has_its_last(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await session.extend("a", [say("")] * 20)
        calls = [session.update(n % 25 + 1, say(n)) for n in range(200)]
        assert await asyncio.gather(*calls) == [n % 25 < 20 for n in range(200)]
        rows = await session.messages()
        assert said(rows) == [175 + n for n in range(20)]
        assert len({row.revision for row in rows}) == 20


# long reads


async def test_a_long_list_is_of_one_moment_though_its_rows_are_updated(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        count = 5000
        await session.extend("a", [say(0)] * count)
        ended = False

        async def write() -> int:
            version = 0
            while not ended:
                version += 1
                async with session.batch() as batch:
                    batch.update(1, say(version))
                    batch.update(count, say(version))
            return version

        writing = asyncio.ensure_future(write())
        seen = set()
        try:
            for read in (
                session.messages,
                session.messages_from_latest_checkpoint,
                lambda: session.messages(limit=count, newest=True),
            ):
                for _ in range(3):
                    found: Any = await read()
                    rows = found if isinstance(found, list) else found.rows
                    assert len(rows) == count
                    assert rows[0].message == rows[-1].message
                    seen.add(rows[0].message["content"])
        finally:
            ended = True
            assert await writing > 0
        assert len(seen) > 1


async def test_a_long_list_begins_again_when_rows_are_updated_or_removed_meanwhile(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await session.extend("a", [say(0)] * 5000)
        changes: list[Callable[[], Awaitable[object]]] = [
            lambda: session.update(1, say("first")),
            lambda: session.remove([2]),
            lambda: session.discard_turn("none"),
        ]
        for change in changes:
            reading = asyncio.ensure_future(session.messages())
            await asyncio.sleep(0)  # its first slice is asked for, and then comes the change
            await change()
            assert await reading == await session.messages()


async def test_slices_tell_that_rows_were_rewritten_though_it_was_passivated_in_between(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await session.extend("a", [say(0)] * 5000)
        changes: list[Callable[[], Awaitable[object]]] = [
            lambda: session.update(1, say("first")),
            lambda: session.remove([2]),
            lambda: session.update(1, say("again")),
            lambda: session.truncate_from(4999),
        ]
        for change in changes:
            first = await registry.ask("s", ReadRows())
            await registry.stop("s")
            same = await registry.ask("s", first.rest)
            assert same.rewritten_at == first.rewritten_at
            await change()
            await registry.stop("s")
            later = await registry.ask("s", first.rest)
            assert later.rewritten_at > first.rewritten_at


# keys, conditions, repeats


async def test_a_batch_whose_appends_all_have_known_keys_does_nothing_again(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await session.append("a", say(1), key="1")

        async def batch(message: object = 2, **expected: int) -> list[Any]:
            async with session.batch(**expected) as batch:
                batch.truncate_from(1)
                batch.append("a", say(message), key="2")
                batch.update_last(say("two"))
                batch.remove([7])
                batch.remove_last(agent_id="nobody")
                batch.set_state("error", "t")
                batch.discard_turn("u")
                batch.clear()
                batch.append("b", say(3), key="3")
                batch.update_last(say("three"))
                batch.finish_turn("t")
            return batch.results

        results = await batch(expected_head=1)
        assert results == [1, 2, True, 0, False, None, 0, 1, 3, True, None]
        await session.append("c", say(4))
        before = (await session.messages(), await session.info())
        again = await batch(expected_head=1)  # the key hits come before any condition
        assert again == [0, 2, False, 0, False, None, 0, 0, 3, False, None]
        with pytest.raises(IdempotencyError):
            await batch("other")
        assert (await session.messages(), await session.info()) == before


async def test_a_batch_with_one_new_append_is_carried_out(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await session.append("a", say(1), key="1")
        for stale in (True, False):
            try:
                async with session.batch(expected_head=7 if stale else 1) as batch:
                    batch.append("a", say(1), key="1")
                    batch.update(1, say("one"))
                    batch.append("a", say(2), key="2")
            except StaleHeadError:
                assert stale
                assert await session.revision() == 1
        assert batch.results == [1, True, 2]
        assert said(await session.messages()) == ["one", 2]


# failures


async def test_a_change_that_the_disk_refuses_is_as_if_it_was_never_asked() -> None:
    faults = Faults()
    store = faulty_store(faults, MemoryVault().open_store)
    async with memory_registry(open_store=store) as registry:
        session = await registry.start("s")
        await session.extend("a", [say(1), say(2)])
        before = (
            await session.messages(),
            await session.messages_from_latest_checkpoint(),
            await session.info(),
        )
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: session.update(1, say("one")),
            lambda: session.remove_last(),
            lambda: session.clear(),
            lambda: session.set_state("running"),
            lambda: session.set_context(room_id="r"),
            lambda: session.turn("t", agent_id="a").__aenter__(),
        ]
        for call in calls:
            faults.fail("commit", OSError(errno.ENOSPC, "disk full"))
            with pytest.raises(StorageError):
                await call()
            assert before == (
                await session.messages(),
                await session.messages_from_latest_checkpoint(),
                await session.info(),
            )
        assert await session.update(1, say("one"))
        assert said(await session.messages()) == ["one", 2]


async def test_a_cancelled_update_was_not_accepted_or_is_carried_out_whole() -> None:
    gate = Gate()
    async with SessionRegistry(None, open_store=gate.open_store, mailbox_size=1) as registry:
        session = await registry.start("s")
        await session.append("a", say("old"))
        with gate.shut():
            served = asyncio.ensure_future(session.update(1, say("served")))
            await gate.reached.wait()
            queued = asyncio.ensure_future(session.update(1, say("queued")))
            await asyncio.sleep(0)
            refused = asyncio.ensure_future(session.update(1, say("never")))
            await asyncio.sleep(0)
            for call in (served, queued, refused):
                call.cancel()
            await asyncio.wait([served, queued, refused])
        assert said(await session.messages()) == ["queued"]
        assert await session.revision() == 3


async def test_time_does_not_go_backwards_when_the_clock_does() -> None:
    now = 2_000_000
    vault = MemoryVault(clock=lambda: now)
    async with memory_registry(open_store=vault.open_store) as registry:
        session = await registry.start("s")
        await session.append("a", say(1))
        now = 5_000_000
        await session.update(1, say("one"))
        now = 1_000_000
        await registry.stop("s")
        await session.append("a", say(2))
        await session.update(1, say("uno"))
        rows = await session.messages()
        assert [row.inserted_at.timestamp() for row in rows] == [2.0, 5.0]
        assert rows[0].updated_at == rows[1].inserted_at
        assert (await session.info()).last_activity == rows[1].inserted_at
