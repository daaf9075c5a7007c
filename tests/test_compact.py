"""Compacting gives space back, and changes nothing else."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from processes import output_of, owner, reader

from sessionactor import (
    CompactReport,
    Session,
    SessionNotFoundError,
    SessionOwnedError,
    SessionRegistry,
    StorageError,
    TurnClosedError,
)
from sessionactor.testing import Faults, faulty_store, memory_registry


def says(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


async def said(session: Session) -> list[Any]:
    return [row.message["content"] for row in await session.messages()]


async def everything(session: Session) -> tuple[object, ...]:
    """All that a session shows of itself."""
    return (
        await session.info(),
        await session.messages(),
        await session.get_metadata(),
        [page async for page in session.chapters()],
    )


async def worn(registry: SessionRegistry) -> Session:
    """A session of which most was removed, replaced or truncated."""
    session = await registry.start("s", name="n")
    async with session.turn("t", agent_id="a") as turn:
        await turn.append(says("kept"), key="kept")
    await session.extend("a", [says("x" * 5_000)] * 200, keys=map(str, range(200)))
    await session.append("a", {"role": "summary"}, keep_from=2)
    await session.update(100, says("short"))
    await session.remove(range(2, 100))
    await session.truncate_from(110)
    await session.save_metadata({"k": "v"})
    return session


def bytes_of(session: Session) -> int:
    path = session.path
    assert path is not None
    return sum(os.path.getsize(f"{path}{end}") for end in ("", "-wal"))


async def test_compacting_gives_space_back_and_says_how_much(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await worn(registry)
        before = bytes_of(session) if place else None
        report = await session.compact()
        assert isinstance(report, CompactReport)
        if before is not None:
            assert report == CompactReport(before, bytes_of(session))
        assert report.size_before > 1_000_000
        assert 0 < report.size_after < 200_000
        again = await session.compact()
        assert again.size_before == again.size_after == report.size_after


async def test_compacting_changes_nothing_else(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await worn(registry)
        before = await everything(session)
        await session.compact()
        assert await everything(session) == before
        await registry.stop("s")
        assert (await everything(session))[1:] == before[1:]
        assert await session.append("a", says("kept"), key="kept") == 1
        assert await session.append("a", says("x" * 5_000), key="150") == 152
        with pytest.raises(TurnClosedError):
            await session.append("a", says("late"), turn="t")
        assert await session.append("a", says("next")) == 203
        assert await session.remove([100]) == 1


async def test_changes_are_still_known_in_their_order(place: Path | None) -> None:
    from sessionactor._requests import ReadChanges

    async with SessionRegistry(place) as registry:
        session = await worn(registry)
        before = await registry.ask("s", ReadChanges(0))
        await session.compact()
        assert await registry.ask("s", ReadChanges(0)) == before


async def test_a_new_session_can_be_compacted(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start()
        report = await session.compact()
        assert report.size_before >= report.size_after > 0
        assert await session.append("a", says(1)) == 1


async def test_callers_wait_for_compacting_and_lose_nothing(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session, other = await worn(registry), await registry.start("other")
        start = (await session.info()).message_count

        async def caller(n: int) -> list[int]:
            return [await session.append(f"caller {n}", says(n)) for _ in range(20)]

        calls = [asyncio.ensure_future(caller(n)) for n in range(20)]
        reports = [await session.compact() for _ in range(5)]
        assert await other.append("a", says(1)) == 1
        given = sorted(db_id for mine in await asyncio.gather(*calls) for db_id in mine)
        assert given == list(range(203, 603))
        assert len(await session.messages()) == start + 400
        assert all(report.size_after < 400_000 for report in reports)


async def test_compacting_when_nobody_waits_is_carried_out(tmp_path: Path) -> None:
    faults = Faults()
    async with SessionRegistry(tmp_path, open_store=faulty_store(faults)) as registry:
        session = await worn(registry)
        before = bytes_of(session)
        stall = faults.stall("read", when="after")
        task = asyncio.ensure_future(session.compact())
        await stall.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stall.release()
        assert await said(session) != []
        assert bytes_of(session) < before / 2


async def test_a_foreign_reader_keeps_what_it_reads_and_the_report_is_true(
    tmp_path: Path,
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await worn(registry)
        assert session.path is not None
        rows, count = await session.messages(), (await session.info()).message_count
        with reader(session.path) as foreign:
            async with asyncio.timeout(4):  # nobody waits for the reader
                report = await session.compact()
            assert report.size_after == bytes_of(session)
            assert await session.messages() == rows
            await session.append("a", says("goes on"))
            foreign.tell()
            assert foreign.hear() == str(count)
            assert foreign.end() == 0
        rest = await session.compact()
        assert rest.size_before > rest.size_after
        assert rest.size_after == bytes_of(session) < 200_000
        assert await session.messages() != rows
    with closing(sqlite3.connect(tmp_path / "s_n.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_what_a_reader_kept_is_given_back_when_the_file_is_closed(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await worn(registry)
        assert session.path is not None
        with reader(session.path) as foreign:
            await session.compact()
            foreign.tell()
            foreign.hear()
            assert foreign.end() == 0
        await registry.stop("s")
        assert os.path.getsize(session.path) < 200_000
        assert not os.path.exists(f"{session.path}-wal")


def test_a_disk_too_full_for_compacting_loses_nothing(tmp_path: Path) -> None:
    script = """
    import resource

    def limit(size):
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    async def main():
        async with SessionRegistry(sys.argv[1]) as registry:
            session = await registry.start("s", name="n")
            await session.extend("a", [{"data": b"x" * 10_000}] * 100)
            await session.remove(range(1, 50))
            rows = await session.messages()
            for size in (0, 4_096, 100_000, 400_000):
                limit(size)
                try:
                    await session.compact()
                except StorageError as error:
                    assert error.path == session.path and error.__cause__ is not None
                    assert error.session_id == "s"
                else:
                    raise AssertionError(f"there was room in {size} bytes")
                limit(resource.RLIM_INFINITY)
                assert await session.messages() == rows
            assert await session.append("a", {"n": 1}) == 101
            report = await session.compact()
            assert report.size_after < report.size_before * 0.8, report
        async with SessionRegistry(sys.argv[1]) as registry:
            assert (await registry.session("s").messages())[:-1] == rows

    asyncio.run(main())
    """
    output_of(script, tmp_path)
    with closing(sqlite3.connect(tmp_path / "s_n.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_store_that_fails_is_told_of(tmp_path: Path) -> None:
    faults = Faults()
    async with SessionRegistry(tmp_path, open_store=faulty_store(faults)) as registry:
        session = await worn(registry)
        faults.fail("read", OSError("broken"))
        with pytest.raises(StorageError):
            await session.compact()
        assert (await session.compact()).size_after < 200_000


async def test_a_session_that_is_not_there_or_not_ours_is_not_compacted(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        with pytest.raises(SessionNotFoundError):
            await registry.session("nowhere").compact()
        with owner(tmp_path, "theirs"), pytest.raises(SessionOwnedError):
            await registry.session("theirs").compact()


async def test_memory_is_given_back_too() -> None:
    async with memory_registry() as registry:
        session = await worn(registry)
        before = await everything(session)
        report = await session.compact()
        assert report.size_after < report.size_before / 5
        assert await everything(session) == before
        await registry.stop("s")
        assert await said(session) == [row.message["content"] for row in before[1]]  # type: ignore[attr-defined]
