"""The races that the framework's own SQLite saver loses, or is said to lose, beside ours."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph_threads import grow, id_of, ids, listed, put, said, thread

from sessionactor import SessionOwnedError
from sessionactor.adapters.langgraph import ActorSaver

Saver = BaseCheckpointSaver[Any]
Opened = Callable[[Path], AbstractAsyncContextManager[Saver]]


@asynccontextmanager
async def ours(place: Path) -> AsyncIterator[Saver]:
    async with ActorSaver(place / "threads") as saver:
        yield saver


@asynccontextmanager
async def theirs(place: Path) -> AsyncIterator[Saver]:
    async with AsyncSqliteSaver.from_conn_string(str(place / "theirs.sqlite")) as saver:
        yield saver


def bytes_of(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


async def test_a_thousand_checkpoints_of_a_growing_conversation(tmp_path: Path) -> None:
    sizes = {}
    for name, opened in (("ours", ours), ("theirs", theirs)):
        place = tmp_path / name
        place.mkdir()
        async with opened(place) as saver:
            await grow(saver, "t", 1000, "word " * 40)
            found = await saver.aget_tuple(thread("t"))
            assert found is not None
            assert len(found.checkpoint["channel_values"]["messages"]) == 1000
        sizes[name] = bytes_of(place)
    assert sizes["ours"] * 20 < sizes["theirs"], sizes


async def parents(saver: Saver) -> dict[str, str | None]:
    return {
        one.checkpoint["id"]: None if one.parent_config is None else id_of(one.parent_config)
        for one in await listed(saver, thread("t"))
    }


@pytest.mark.parametrize("opened", [ours, theirs])
async def test_two_savers_that_go_on_from_the_same_checkpoint_make_two_branches(
    opened: Opened, tmp_path: Path
) -> None:
    """Both are kept whole, each with its own messages and its own parents."""

    async def branch(saver: Saver, config: RunnableConfig, first: int) -> list[str]:
        messages = [said(0)]
        made = []
        for number in range(first, first + 20):
            messages = [*messages, said(number)]
            config = await put(saver, config, {"messages": messages})
            await saver.aput_writes(config, [("channel", number)], "task")
            made.append(id_of(config))
        return made

    async with opened(tmp_path) as one, opened(tmp_path) as other:
        start = await put(one, thread("t"), {"messages": [said(0)]})
        branches = await asyncio.gather(
            branch(one, start, 100), branch(other, start, 200), branch(one, start, 300)
        )
        known = await parents(other)
        for made, first in zip(branches, (100, 200, 300), strict=True):
            assert [known[checkpoint_id] for checkpoint_id in made] == [id_of(start), *made[:-1]]
            for number, checkpoint_id in enumerate(made):
                found = await other.aget_tuple(thread("t", checkpoint_id))
                assert found is not None
                assert found.checkpoint["channel_values"]["messages"] == [
                    said(0),
                    *map(said, range(first, first + number + 1)),
                ]
                assert found.pending_writes == [("task", "channel", first + number)]


def write_in_another_process(place: str, count: int, answers: Any) -> None:
    async def main() -> None:
        async with ActorSaver(place) as saver:
            try:
                await put(saver, thread("t"), {"messages": [said(count)]})
            except SessionOwnedError as error:
                answers.put(error.pid)
            else:
                answers.put(None)

    asyncio.run(main())


async def test_a_thread_that_another_process_runs_is_refused_with_its_pid(tmp_path: Path) -> None:
    """Theirs lets both write; which turn the agent goes on from is a matter of luck then."""
    processes = multiprocessing.get_context("spawn")
    answers = processes.Queue()
    async with ActorSaver(tmp_path) as saver:
        before = await put(saver, thread("t"), {"messages": [said(0)]})
        process = processes.Process(
            target=write_in_another_process, args=(str(tmp_path), 1, answers)
        )
        process.start()
        await asyncio.to_thread(process.join)
        assert answers.get() == multiprocessing.current_process().pid
        assert ids(await listed(saver, thread("t"))) == [id_of(before)]


@pytest.mark.parametrize(
    "opened",
    [
        ours,
        pytest.param(
            theirs, marks=pytest.mark.xfail(raises=sqlite3.OperationalError, strict=False)
        ),
    ],
)
async def test_160_start_ups_at_once(opened: Opened, tmp_path: Path) -> None:
    """On a busy machine theirs says that the database is locked."""

    async def start(number: int) -> None:
        async with opened(tmp_path) as saver:
            config = await put(saver, thread(f"thread {number % 40}"), {"number": number})
            found = await saver.aget_tuple(config)
            assert found is not None
            assert found.checkpoint["channel_values"] == {"number": number}

    outcomes = await asyncio.gather(*map(start, range(160)), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    async with opened(tmp_path) as saver:
        assert len(await listed(saver, None)) == 160


@pytest.mark.parametrize(
    "opened",
    [
        ours,
        pytest.param(theirs, marks=pytest.mark.xfail(raises=TimeoutError, strict=True)),
    ],
)
async def test_a_paused_listing_stops_nobody(opened: Opened, tmp_path: Path) -> None:
    """Their listing holds the lock of the whole saver between two checkpoints."""
    async with opened(tmp_path) as saver:
        config = await grow(saver, "t", 5)
        await grow(saver, "other", 2)
        listing = saver.alist(thread("t"))
        try:
            first = await anext(listing)
            async with asyncio.timeout(10 if opened is ours else 1):
                await put(saver, config, {"messages": []})
                await saver.aput_writes(config, [("channel", 1)], "task")
                await saver.adelete_thread("other")
                await saver.aget_tuple(thread("t"))
            rest = [one async for one in listing]
        finally:
            await listing.aclose()  # type: ignore[attr-defined]
        assert len(rest) == 4
        assert first.checkpoint["id"] == id_of(config)


async def test_writers_of_many_threads_beside_listings(tmp_path: Path) -> None:
    async with ours(tmp_path) as saver:

        async def list_all() -> int:
            return len(await listed(saver, None))

        counts, *_ = await asyncio.gather(
            list_all(), *(grow(saver, f"thread {number}", 10) for number in range(20))
        )
        assert 0 <= counts <= 200
        assert await list_all() == 200
