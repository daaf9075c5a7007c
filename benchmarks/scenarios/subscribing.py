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

    def __init__(self, registry: SessionRegistry, session: Session, size: int) -> None:
        self.registry, self.session, self.size = registry, session, size
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
            audience = Audience(registry, await registry.start("s"), size)
            listening = [asyncio.create_task(audience.listen()) for _ in range(size)]
            await audience.append()
            await audience.rest()
            yield audience
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)


async def subscribers(settings: Settings) -> list[Section]:
    """An append to a session that many follow."""

    async def busy(size: int) -> float:
        async with _audience(size) as audience:
            return await milliseconds(audience.append, 10 * settings.repetitions)

    async def rested(size: int) -> float:
        async with _audience(size) as audience:
            return await milliseconds(audience.append, settings.repetitions, audience.rest)

    async def elsewhere(size: int) -> float:
        async with _audience(size) as audience:

            async def prepare() -> None:
                await audience.append()
                await audience.rest()

            quiet = await audience.registry.start("quiet")
            message = message_of(300)
            return await milliseconds(
                lambda: quiet.append(AGENT, message), settings.repetitions, prepare
            )

    async def heard(size: int) -> float:
        async with _audience(size) as audience:

            async def append() -> None:
                await audience.append()
                await audience.all_heard()

            return await milliseconds(append, max(3, settings.repetitions // 10), audience.rest)

    size = settings.subscribers
    many, none = f"{size:,} subscribers", "no subscribers"
    of_other = f"{none}, but {size:,} of another session heard of something just now"
    target = Target(none, at_most=ADDED)
    return [
        await compare(
            f"Appends, one after another, to a session with {many}, 300 B",
            "ms",
            {many: lambda: busy(size), none: lambda: busy(0)},
            rounds=settings.rounds,
            ours=many,
            targets=[target],
            note="Until the caller has the answer. The subscribers fall behind.",
        ),
        await compare(
            f"An append to a session with {many} that have heard of everything, 300 B",
            "ms",
            {
                many: lambda: rested(size),
                of_other: lambda: elsewhere(size),
                none: lambda: rested(0),
            },
            rounds=settings.rounds,
            ours=many,
            targets=[target, Target(of_other, at_most=ADDED)],
            note=(
                f"Until the caller has the answer. Nothing happens for {_PAUSE_S * 1000:g} ms"
                " before it. The second row is what it costs that the process did something else"
                " before."
            ),
        ),
        await compare(
            f"Until all of {many} have heard of an append, 300 B",
            "ms",
            {many: lambda: heard(size), "one": lambda: heard(1)},
            rounds=settings.rounds,
            ours=many,
            note="For information; everything runs in one event loop.",
        ),
    ]
