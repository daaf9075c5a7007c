"""Copies of a long session, and what it gives back when it was shortened."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from time import perf_counter

from benchmarks.candidates import AGENT
from benchmarks.harness import Measure, Section, compare
from benchmarks.settings import Settings
from benchmarks.workloads import data_directory, message_of
from sessionactor import Session, SessionRegistry

_ROUNDS = 3
_PART = 1_000


async def copying(settings: Settings) -> list[Section]:
    """A long session forked, backed up and compacted."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(data_directory())
        registry = await stack.enter_async_context(SessionRegistry(directory, catalog=False))
        session = await registry.start("long")
        await _lengthen(session, settings.longest_history)
        still, target = directory / "still.copy", directory / "target.copy"
        await session.backup(still)
        return [
            await _copies(registry, session, still, target, settings),
            await _beside(registry, session, settings),
            await _compacting(registry, settings),
        ]


async def _copies(
    registry: SessionRegistry, session: Session, still: Path, target: Path, settings: Settings
) -> Section:
    async def fork(before: int | None = None) -> None:
        await session.fork("fork", before=before)

    async def back_up() -> None:
        await session.backup(target)

    async def by_sqlite() -> None:
        with closing(sqlite3.connect(still)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)

    async def by_bytes() -> None:
        shutil.copyfile(still, target)
        with target.open("rb") as copy:
            os.fsync(copy.fileno())

    async def tidy() -> None:
        target.unlink(missing_ok=True)
        await registry.delete("fork")

    return await compare(
        f"Copies of a session of {settings.longest_history:,} rows, 300 B",
        "ms",
        {
            "fork": _once(fork, tidy),
            "fork, the first half": _once(lambda: fork(settings.longest_history // 2), tidy),
            "backup": _once(back_up, tidy),
            "raw sqlite3, its backup of a file at rest": _once(by_sqlite, tidy),
            "copying the bytes, and fsync": _once(by_bytes, tidy),
        },
        rounds=min(_ROUNDS, settings.rounds),
        ours="fork",
        note=f"For information. The file has {still.stat().st_size / 1e6:,.0f} MB.",
    )


async def _beside(registry: SessionRegistry, session: Session, settings: Settings) -> Section:
    """How long the session's own callers wait while it is copied."""

    def longest(copy: Callable[[], Awaitable[object]]) -> Measure:
        async def measure() -> float:
            await registry.delete("fork")
            copying = asyncio.ensure_future(copy())
            taken = [0.0]
            while not copying.done():
                start = perf_counter()
                await session.append(AGENT, message_of(300))
                taken.append(perf_counter() - start)
                await asyncio.sleep(0.001)
            await copying
            return max(taken) * 1000

        return measure

    section = await compare(
        f"The longest append to a session of {settings.longest_history:,} rows",
        "ms",
        {
            "while it is forked": longest(lambda: session.fork("fork")),
            "beside nothing": longest(lambda: asyncio.sleep(settings.seconds)),
        },
        rounds=min(_ROUNDS, settings.rounds),
        ours="while it is forked",
        note="For information. One caller, an append each millisecond.",
    )
    await registry.delete("fork")
    return section


async def _compacting(registry: SessionRegistry, settings: Settings) -> Section:
    rows = settings.long_history

    async def measure() -> float:
        session = await registry.start("short")
        await _lengthen(session, rows)
        await session.truncate_from(rows // 10 + 1)
        start = perf_counter()
        report = await session.compact()
        took_ms = (perf_counter() - start) * 1000
        if not report.size_after < report.size_before // 2:
            raise AssertionError(f"nothing was given back: {report}")
        await registry.delete("short")
        return took_ms

    return await compare(
        f"A session of {rows:,} rows compacted, of which a tenth is left",
        "ms",
        {"compact": measure},
        rounds=min(_ROUNDS, settings.rounds),
        ours="compact",
        note="For information.",
    )


async def _lengthen(session: Session, rows: int) -> None:
    for start in range(0, rows, _PART):
        await session.extend(AGENT, [message_of(300)] * min(_PART, rows - start))


def _once(call: Callable[[], Awaitable[object]], tidy: Callable[[], Awaitable[object]]) -> Measure:
    async def measure() -> float:
        start = perf_counter()
        try:
            await call()
            return (perf_counter() - start) * 1000
        finally:
            await tidy()

    return measure
