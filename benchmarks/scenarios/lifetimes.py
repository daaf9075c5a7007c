"""Sessions that come and go."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import aiosqlite

from benchmarks import directories
from benchmarks.candidates import AGENT, NaiveAiosqlite, NaiveConversation, Ours
from benchmarks.harness import Section, Target, compare
from benchmarks.settings import Settings
from benchmarks.workloads import data_directory, gather, message_of, milliseconds
from sessionactor import SessionRegistry

MAX_ACTIVE = 64
DESCRIPTORS_EACH = 3
BYTES_EACH = 250


async def passivated(settings: Settings) -> list[Section]:
    """The next append to a session whose file is closed."""
    message = message_of(300)
    async with AsyncExitStack() as stack:
        ours = Ours(stack.enter_context(data_directory()))
        naive = NaiveAiosqlite(stack.enter_context(data_directory()))
        for store in (ours, naive):
            await stack.enter_async_context(store)
            async with store.session("s") as conversation:
                await conversation.extend([message] * settings.history)
        session = ours.registry.session("s")

        async def open_append_close() -> None:
            async with aiosqlite.connect(naive.path("s")) as database:
                await NaiveConversation(database).append(message)

        return [
            await compare(
                f"The next append to a passivated session of {settings.history:,} rows, 300 B",
                "ms",
                {
                    Ours.name: lambda: milliseconds(
                        lambda: session.append(AGENT, message),
                        settings.repetitions,
                        prepare=lambda: ours.registry.stop("s"),
                    ),
                    NaiveAiosqlite.name: lambda: milliseconds(
                        open_append_close, settings.repetitions
                    ),
                },
                rounds=settings.rounds,
                ours=Ours.name,
                targets=[Target(NaiveAiosqlite.name, at_most=2)],
                note="Naive aiosqlite opens the file, appends and closes, without any pragma.",
            )
        ]


async def many_files(settings: Settings) -> list[Section]:
    """A directory of sessions, all touched in turn."""
    title = f"{settings.many_files:,} sessions touched in turn, `max_active={MAX_ACTIVE}`"
    loop = asyncio.get_running_loop()
    with (
        data_directory() as directory,
        ProcessPoolExecutor(1, get_context("spawn")) as process,  # with a memory of its own
    ):
        await directories.fill(directory, settings.many_files, [])
        samples = await loop.run_in_executor(process, _touch_many, directory, settings.many_files)
    print(f". {title}", file=sys.stderr)
    lines = [
        "| | seconds | open descriptors | threads | resident MB |",
        "|---|---|---|---|---|",
        *(
            f"| {sample.moment} | {sample.seconds:.3g} | {sample.descriptors}"
            f" | {sample.threads} | {sample.resident_mb:.1f} |"
            for sample in samples
        ),
    ]
    most = max(sample.descriptors - samples[0].descriptors for sample in samples)
    allowed = DESCRIPTORS_EACH * MAX_ACTIVE + 16  # and the lock file, the event loop, a scan
    early, last = samples[-5], samples[-1]
    grown = (last.resident_mb - early.resident_mb) * 1e6
    grown_each = grown / (settings.many_files * 4 // 5)
    missed = []
    if most > allowed:
        missed.append(f"{title}: {most} descriptors, limit {allowed}")
    if grown_each > BYTES_EACH:
        missed.append(f"{title}: {grown_each:.0f} bytes more for each, limit {BYTES_EACH}")
    verdict = (
        f"At most {most} descriptors more than at the start; limit {allowed}, three for each"
        f" active session and 16. From the first fifth to the last, memory grew by"
        f" {grown_each:.0f} bytes for each session touched; limit {BYTES_EACH}, because an"
        " activation that is never let go of holds more."
    )
    note = (
        "Real files, copied from one that a registry made. An append to each, at NORMAL, by 8"
        f" callers in a process of its own. {verdict}"
    )
    return [Section(title, "\n".join([note, "", *lines]), missed)]


@dataclass(frozen=True)
class Sample:
    """What the process holds at a moment."""

    moment: str
    seconds: float
    """Since the sample before."""
    descriptors: int
    threads: int
    resident_mb: float


def _touch_many(directory: Path, sessions: int) -> list[Sample]:
    samples: list[Sample] = []
    since = perf_counter()

    def sample(moment: str) -> None:
        nonlocal since
        gc.collect()
        samples.append(
            Sample(
                moment,
                perf_counter() - since,
                len(os.listdir("/dev/fd")),
                threading.active_count(),
                _resident_mb(),
            )
        )
        since = perf_counter()

    async def touch(registry: SessionRegistry, numbers: Iterable[int]) -> None:
        shared, message = iter(numbers), message_of(300)

        async def caller() -> None:
            for number in shared:
                session = registry.session(directories.session_id(number))
                await session.append(AGENT, message)

        await gather(caller() for _ in range(8))

    async def run() -> None:
        sample("at the start")
        async with SessionRegistry(
            directory, durability="normal", max_active=MAX_ACTIVE
        ) as registry:
            sample("directory opened")
            await registry.sessions(limit=1)
            sample("catalog made")
            fifth = sessions // 5
            for part in range(5):
                await touch(registry, range(part * fifth, (part + 1) * fifth))
                sample(f"{(part + 1) * fifth:,} touched")

    asyncio.run(run())
    return samples


def _resident_mb() -> float:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
