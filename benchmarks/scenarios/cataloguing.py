"""What the catalog costs those who append, and how it catches up after a kill."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count, cycle
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Final, NamedTuple

from benchmarks import directories, victim
from benchmarks.candidates import AGENT
from benchmarks.harness import Check, Measure, Section, Target, compare
from benchmarks.settings import CALLERS, Settings
from benchmarks.workloads import (
    Message,
    after,
    appends_per_second,
    data_directory,
    message_of,
    varied,
)
from sessionactor import Session, SessionRegistry

SHARE: Final = 0.9
FOLLOWS: Final = 2
WITH, WITHOUT = "with the catalog", "without"
_TICK_S: Final = 0.001


async def catalog(settings: Settings) -> list[Section]:
    """Appends with the catalog and without."""
    messages = [*varied(2_000)]

    def unpaced(callers: int, sessions: int) -> Callable[[bool], Measure]:
        def with_catalog(catalog: bool) -> Measure:
            async def measure() -> float:
                async with _opened(catalog, sessions) as opened:
                    turn = cycle(opened)
                    return await appends_per_second(
                        lambda message: next(turn).append(AGENT, message),
                        messages,
                        callers,
                        after(settings.seconds),
                    )

            return measure

        return with_catalog

    def paced(figure: Callable[[Paced], float]) -> Callable[[bool], Measure]:
        def with_catalog(catalog: bool) -> Measure:
            async def measure() -> float:
                async with _opened(catalog, 1) as (session,):
                    return figure(await _paced(session, messages, settings))

            return measure

        return with_catalog

    async def section(
        title: str, unit: str, measure: Callable[[bool], Measure], note: str, *targets: Target
    ) -> Section:
        return await compare(
            f"Appends beside the catalog: {title}, 300 B",
            unit,
            {WITH: measure(True), WITHOUT: measure(False)},
            rounds=settings.rounds,
            ours=WITH,
            targets=targets,
            note=note,
        )

    pace = f"{settings.paced:,.0f} a second on one session"
    arrival = "They come at a steady rate, whether or not earlier ones have their answers."
    at_least = Target(WITHOUT, at_least=SHARE)
    return [
        await section(
            "one caller",
            "appends/s",
            unpaced(1, 1),
            "As fast as one caller gets its answers, which is about 3,000 a second.",
            at_least,
        ),
        await section(pace, "appends/s", paced(lambda found: found.rate), arrival, at_least),
        await section(
            f"{pace}, latency",
            "ms",
            paced(lambda found: found.mean_ms),
            f"The mean. {arrival}",
            Target(WITHOUT, at_most=1 / SHARE),
        ),
        await section(
            "100 callers, one session", "appends/s", unpaced(CALLERS, 1), "For information."
        ),
        await section(
            "100 callers, 100 sessions", "appends/s", unpaced(CALLERS, CALLERS), "For information."
        ),
        await _flushing(settings, messages),
    ]


@asynccontextmanager
async def _opened(catalog: bool, sessions: int) -> AsyncIterator[list[Session]]:
    """So many new sessions, each with a row."""
    with data_directory() as directory:
        async with SessionRegistry(directory, catalog=catalog) as registry:
            opened = [await registry.start() for _ in range(sessions)]
            for session in opened:
                await session.append(AGENT, message_of(300))
            yield opened


class Paced(NamedTuple):
    """How appends went that came at a steady rate."""

    rate: float
    """A second, until the last one had its answer."""
    mean_ms: float


async def _paced(session: Session, messages: list[Message], settings: Settings) -> Paced:
    taken: list[float] = []

    async def append(message: Message) -> None:
        start = perf_counter()
        await session.append(AGENT, message)
        taken.append(perf_counter() - start)

    feed = cycle(messages)
    start = perf_counter()
    async with asyncio.TaskGroup() as group:
        for sent in count():
            due = start + sent / settings.paced
            if due > start + settings.seconds:
                break
            while perf_counter() < due:
                await asyncio.sleep(_TICK_S)
            group.create_task(append(next(feed)))
    return Paced(len(taken) / (perf_counter() - start), mean(taken) * 1000)


async def _flushing(settings: Settings, messages: list[Message]) -> Section:
    async def measure() -> float:
        async with _opened(True, 1) as (session,):
            await _paced(session, messages, settings)
            start = perf_counter()
            await session.flush()
            return (perf_counter() - start) * 1000

    appended = settings.paced * settings.seconds
    return await compare(
        f"How far the catalog is behind {appended:,.0f} appends of {settings.seconds:g} s",
        "ms",
        {"flush": measure},
        rounds=settings.rounds,
        ours="flush",
        note="Until all of them can be found, for information.",
    )


async def catching_up(settings: Settings) -> list[Section]:
    """The catalog complete again after the process was killed."""
    async with AsyncExitStack() as stack:
        measures: dict[str, Measure] = {}
        for sessions in settings.closed:
            directory = stack.enter_context(data_directory())
            await directories.fill(directory, sessions, [message_of(300)] * 10)
            for killed in settings.killed:
                measures[f"{killed:,} of {sessions:,} were open"] = _caught_up(directory, killed)
        few, many = [
            [f"{killed:,} of {sessions:,} were open" for sessions in settings.closed]
            for killed in settings.killed
        ]
        return [
            await compare(
                "Catching up after SIGKILL",
                "ms",
                measures,
                rounds=settings.rounds,
                ours=many[-1],
                targets=[Target(many[0], at_most=FOLLOWS)],
                checks=[Check(few[-1], FOLLOWS, of=few[0])],
                note=(
                    f"A process appended {victim.MESSAGES} messages to each of the open sessions"
                    " and was killed at once. From opening the directory until its catalog is"
                    " complete, less what the same takes the next time, when nothing is behind:"
                    " that is to scan the directory."
                ),
            )
        ]


def _caught_up(directory: Path, sessions: int) -> Measure:
    async def measure() -> float:
        await asyncio.to_thread(_kill, directory, sessions)
        behind_ms = await _opening_ms(directory, sessions)
        return behind_ms - await _opening_ms(directory, sessions)

    return measure


async def _opening_ms(directory: Path, sessions: int) -> float:
    start = perf_counter()
    async with SessionRegistry(directory) as registry:
        await registry.sessions(limit=1)
        took_ms = (perf_counter() - start) * 1000
        await _check(registry, sessions)
    return took_ms


def _kill(directory: Path, sessions: int) -> None:
    """Have another process open sessions, and kill it in the middle."""
    command = [sys.executable, "-m", victim.__name__, str(directory), str(sessions)]
    root = Path(victim.__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.kill()
    if said != "ready\n":
        raise AssertionError(f"the process that was to be killed said {said!r}")


async def _check(registry: SessionRegistry, sessions: int) -> None:
    """Raise if the catalog is not what the files are."""
    page = await registry.sessions(limit=max(1, sessions))
    for listed in page.sessions:
        stored = await registry.session(listed.session_id).info()
        if listed.message_count != stored.message_count:
            raise AssertionError(f"the catalog says {listed}, the file {stored}")
