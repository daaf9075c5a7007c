"""Sessions out to JSON Lines, and in again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from time import perf_counter

import msgpack

from benchmarks.candidates import AGENT
from benchmarks.harness import Measure, Section, compare
from benchmarks.settings import Settings
from benchmarks.workloads import data_directory, message_of
from sessionactor import SessionRegistry
from sessionactor.interchange import export_session, import_session

_ROUNDS = 3
_PART = 1_000


async def exchanging(settings: Settings) -> list[Section]:
    """A session exported, and imported into an empty directory."""
    rows = settings.long_history
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(data_directory())
        registry = await stack.enter_async_context(SessionRegistry(directory, catalog=False))
        session = await registry.start("long")
        for start in range(0, rows, _PART):
            await session.extend(AGENT, [message_of(300)] * min(_PART, rows - start))
        path, exported, raw = session.path, directory / "long.jsonl", directory / "raw.jsonl"
        assert path is not None
        await export_session(registry, "long", exported)

        async def export() -> None:
            exported.unlink()
            done = await export_session(registry, "long", exported)
            if (done.status, done.messages) != ("exported", rows):
                raise AssertionError(f"it exports {done}")

        async def bring_in() -> None:
            with data_directory() as empty:
                async with SessionRegistry(empty, catalog=False) as other:
                    done = await import_session(other, exported)
            if (done.status, done.messages) != ("imported", rows):
                raise AssertionError(f"it imports {done}")

        async def by_hand() -> None:
            _dump(path, raw)

        return [
            await compare(
                f"A session of {rows:,} rows as JSON Lines, 300 B",
                "rows/s",
                {
                    "export": _rate(export, rows),
                    "import": _rate(bring_in, rows),
                    "raw sqlite3, msgpack and json, out": _rate(by_hand, rows),
                },
                rounds=min(_ROUNDS, settings.rounds),
                ours="export",
                note=(
                    "For information, without a catalog. An import checks all of the file before"
                    " it stores any; by hand only ids, agents and messages are written."
                ),
            )
        ]


def _rate(call: Callable[[], Awaitable[object]], rows: int) -> Measure:
    async def measure() -> float:
        start = perf_counter()
        await call()
        return rows / (perf_counter() - start)

    return measure


def _dump(path: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as file,
        target.open("w", encoding="utf-8") as lines,
    ):
        for db_id, agent_id, data in file.execute(
            "SELECT id, agent_id, data FROM messages ORDER BY id"
        ):
            row = {"id": db_id, "agent_id": agent_id, "message": msgpack.unpackb(data)}
            lines.write(json.dumps(row) + "\n")
