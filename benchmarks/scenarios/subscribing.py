"""What those who listen cost those who write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.candidates import AGENT
from benchmarks.harness import Section, Target, compare
from benchmarks.settings import Settings
from benchmarks.workloads import data_directory, message_of, milliseconds
from sessionactor import Appended, Session, SessionRegistry

ADDED: Final = 1.2
_PAUSE_S: Final = 0.005
"""Before each append, with subscribers and without, so that all begin from rest."""


class Audience:
    """Subscribers of one session, and how much they have heard."""

    def __init__(self, session: Session, size: int) -> None:
        self.session, self.size = session, size
        self.expected = 0
        self.heard = 0
        self._all = asyncio.Event()

    async def append(self) -> None:
        """Append a message that everybody is to hear of."""
        self.expected += self.size
        self._all.clear()
        await self.session.append(AGENT, message_of(300))

    async def all_heard(self) -> None:
        """Wait until everybody has heard of everything."""
        if self.heard < self.expected:
            await self._all.wait()

    async def rest(self) -> None:
        """Wait a moment longer."""
        await self.all_heard()
        await asyncio.sleep(_PAUSE_S)

    async def listen(self) -> None:
        """Be one of them; until cancelled."""
        async for event in self.session.subscribe(since=0):
            if isinstance(event, Appended):
                self.heard += 1
                if self.heard == self.expected:
                    self._all.set()


@asynccontextmanager
async def _audience(size: int) -> AsyncIterator[Audience]:
    with data_directory() as directory:
        async with SessionRegistry(directory) as registry:
            audience = Audience(await registry.start("s"), size)
            listening = [asyncio.create_task(audience.listen()) for _ in range(size)]
            await audience.append()
            await audience.rest()
            yield audience
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)


async def subscribers(settings: Settings) -> list[Section]:
    """An append to a session that many follow."""

    async def append(size: int) -> float:
        async with _audience(size) as audience:
            return await milliseconds(audience.append, settings.repetitions, audience.rest)

    async def heard(size: int) -> float:
        async with _audience(size) as audience:

            async def append() -> None:
                await audience.append()
                await audience.all_heard()

            return await milliseconds(append, max(3, settings.repetitions // 10), audience.rest)

    many, none = f"{settings.subscribers:,} subscribers", "no subscribers"
    return [
        await compare(
            f"An append to a session with {many}, 300 B",
            "ms",
            {many: lambda: append(settings.subscribers), none: lambda: append(0)},
            rounds=settings.rounds,
            ours=many,
            targets=[Target(none, at_most=ADDED)],
            note="Until its caller has the answer; all subscribers have heard of the one before.",
        ),
        await compare(
            f"Until all of {many} have heard of an append, 300 B",
            "ms",
            {many: lambda: heard(settings.subscribers), "one": lambda: heard(1)},
            rounds=settings.rounds,
            ours=many,
            note="For information; everything runs in one event loop.",
        ),
    ]
