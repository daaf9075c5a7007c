"""Opens sessions, appends to them, says so, and waits to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from benchmarks import directories
from benchmarks.candidates import AGENT
from benchmarks.workloads import Message, gather, varied
from sessionactor import SessionRegistry

MESSAGES = 10
"""Appended to each session."""


async def main(directory: Path, sessions: int) -> None:
    """Leave so many sessions open, behind the catalog as far as they got."""
    messages = [*varied(MESSAGES)]
    async with SessionRegistry(directory) as registry:
        await registry.sessions(limit=1)  # the catalog is complete, of what was there before
        await gather(_append(registry, number, messages) for number in range(sessions))
        print("ready", flush=True)
        await asyncio.Event().wait()


async def _append(registry: SessionRegistry, number: int, messages: list[Message]) -> None:
    session = registry.session(directories.session_id(number))
    for message in messages:
        await session.append(AGENT, message)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
