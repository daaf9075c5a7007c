"""The adapters beside the frameworks' own SQLite stores, through the frameworks' interfaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

from benchmarks.adapted import (
    ActorAdk,
    ActorGraph,
    ActorOpenAI,
    Adk,
    AdkInMemory,
    AdkOnDatabase,
    Graph,
    GraphInMemory,
    Threads,
)
from benchmarks.candidates import Candidate, Conversation
from benchmarks.harness import Measure, Section, Target, compare
from benchmarks.peers import OpenAISQLite, Peer
from benchmarks.settings import CALLERS, Settings
from benchmarks.workloads import data_directory, gather, message_of, reading

EACH: Final = 10
"""Messages of each of many sessions."""
NEWEST: Final = 20
PAGE: Final = 50
"""Checkpoints of a listing that has a limit."""
OF_SIZE: Final = 1 / 20


@dataclass(frozen=True)
class Framework:
    """A framework's interface, on our sessions and on its own stores."""

    name: str
    ours: type[Candidate]
    theirs: Sequence[type[Peer]]
    what: str
    history: Callable[[Settings], int]
    """Messages of the conversation that is read."""
    at_most_size: float = 1
    """Of the first of theirs."""
    note: str = ""
    """On what reading the conversation costs."""
    without_file: Sequence[type[Candidate]] = ()
    """Its store that shows what the framework's own work costs."""

    @property
    def candidates(self) -> Sequence[type[Candidate]]:
        """All that keep files, ours first."""
        return [self.ours, *self.theirs]

    @property
    def writers(self) -> Sequence[type[Candidate]]:
        """All that can be written to, ours first."""
        return [*self.candidates, *self.without_file]


FRAMEWORKS: Final = (
    Framework(
        "OpenAI Agents", ActorOpenAI, [OpenAISQLite], "items", lambda settings: settings.history
    ),
    Framework(
        "LangGraph",
        ActorGraph,
        [Graph],
        "checkpoints of a growing conversation",
        lambda settings: settings.history // 10,
        OF_SIZE,
        " A checkpoint has all messages: to make the framework's objects of them is nine tenths"
        " of the time, and the framework's own work on either side.",
        [GraphInMemory],
    ),
    Framework(
        "ADK",
        ActorAdk,
        [Adk, AdkOnDatabase],
        "events",
        lambda settings: settings.history,
        without_file=[AdkInMemory],
    ),
)


async def adapters(settings: Settings) -> list[Section]:
    """Each framework on our sessions and on its own."""
    sections = []
    installed = [framework for framework in FRAMEWORKS if framework.theirs[0].version()]
    for framework in installed:
        sections += [
            await _one_caller(framework, settings),
            *await _many_sessions(framework, settings),
            *await _history(framework, settings),
        ]
    if Graph.version():
        sections += await _threads(settings)
    if Adk.version():
        sections.append(await _listing(settings))
    return sections


async def _one_caller(framework: Framework, settings: Settings) -> Section:
    appends = 4 * settings.repetitions

    def appending(candidate: type[Candidate]) -> Measure:
        async def measure() -> float:
            message = message_of(300)
            with data_directory() as directory:
                async with candidate(directory) as store, store.session("s") as session:
                    await session.append(message)
                    start = perf_counter()
                    for _ in range(appends):
                        await session.append(message)
                    return appends / (perf_counter() - start)

        return measure

    return await compare(
        f"{framework.name}: {appends:,} {framework.what}, one caller",
        "appends/s",
        {candidate.name: appending(candidate) for candidate in framework.writers},
        rounds=settings.rounds,
        ours=framework.ours.name,
        targets=[Target(theirs.name, at_least=1) for theirs in framework.theirs],
    )


async def _many_sessions(framework: Framework, settings: Settings) -> list[Section]:
    message = message_of(300)

    def talking(candidate: type[Candidate], *, new: bool) -> Measure:
        async def measure() -> float:
            with data_directory() as directory:
                async with candidate(directory) as store, AsyncExitStack() as sessions:

                    async def begin(number: int) -> Conversation:
                        return await sessions.enter_async_context(store.session(f"s{number}"))

                    async def talk(number: int) -> None:
                        session = begun[number] if begun else await begin(number)
                        for _ in range(EACH):
                            await session.append(message)

                    begun: list[Conversation] = []
                    if not new:
                        begun += [await begin(number) for number in range(CALLERS)]
                        await gather(session.append(message) for session in begun)
                    start = perf_counter()
                    await gather(talk(number) for number in range(CALLERS))
                    return CALLERS * EACH / (perf_counter() - start)

        return measure

    async def section(title: str, note: str, *, new: bool) -> Section:
        return await compare(
            f"{framework.name}: {title}, {EACH} {framework.what} each",
            "appends/s",
            {candidate.name: talking(candidate, new=new) for candidate in framework.writers},
            rounds=settings.rounds,
            ours=framework.ours.name,
            targets=[Target(theirs.name, at_least=1) for theirs in framework.theirs],
            note=note,
        )

    return [
        await section(f"{CALLERS} sessions at once", "Each has one already.", new=False),
        await section(
            f"{CALLERS} new sessions at once", "Creating the sessions included.", new=True
        ),
    ]


async def _history(framework: Framework, settings: Settings) -> list[Section]:
    length = framework.history(settings)
    names = [candidate.name for candidate in framework.candidates]
    ours = framework.ours.name
    async with AsyncExitStack() as directories:
        places = {name: directories.enter_context(data_directory()) for name in names}
        async with AsyncExitStack() as stack:
            measures: dict[str, Measure] = {}
            for candidate in framework.candidates:
                store = await stack.enter_async_context(candidate(places[candidate.name]))
                session = await stack.enter_async_context(store.session("s"))
                for _ in range(length):
                    await session.append(message_of(300))
                measures[candidate.name] = _newest(session, settings)
            newest = await compare(
                f"{framework.name}: the newest {NEWEST} of {length:,} {framework.what}",
                "ms",
                measures,
                rounds=settings.rounds,
                ours=framework.ours.name,
                targets=[Target(theirs.name, at_most=1) for theirs in framework.theirs],
                note=f"Read again and again: what is kept is not read anew.{framework.note}",
            )
        size = await compare(
            f"{framework.name}: {length:,} {framework.what} on disk",
            "MB",
            {
                **{name: _megabytes(place, "[!.]*") for name, place in places.items()},
                f"{ours}, with the catalog": _megabytes(places[ours], "*"),
            },
            rounds=1,
            ours=framework.ours.name,
            targets=[Target(framework.theirs[0].name, at_most=framework.at_most_size)],
            note="Once it is closed. The catalog is what listing and search need.",
        )
        return [newest, size]


def _newest(session: Conversation, settings: Settings) -> Measure:
    return reading(lambda: session.newest(NEWEST), NEWEST, settings.repetitions)


def _megabytes(directory: Path, pattern: str) -> Measure:
    async def measure() -> float:
        return sum(path.stat().st_size for path in directory.glob(pattern)) / 1e6

    return measure


async def _threads(settings: Settings) -> list[Section]:
    message = message_of(300)
    async with AsyncExitStack() as stack:
        stores: list[Threads] = [
            candidate(stack.enter_context(data_directory())) for candidate in (ActorGraph, Graph)
        ]
        for store in stores:
            await stack.enter_async_context(store)

            async def begin(number: int, store: Threads = store) -> None:
                async with store.session(f"s{number}") as session:
                    await session.append(message)

            for start in range(0, settings.listed, CALLERS):
                await gather(map(begin, range(start, min(start + CALLERS, settings.listed))))

        async def listing(limit: int, title: str, repetitions: int) -> Section:
            found = min(limit, settings.listed)
            return await compare(
                f"LangGraph: alist over {settings.listed:,} threads, {title}",
                "ms",
                {
                    store.name: reading(partial(store.listed, limit), found, repetitions)
                    for store in stores
                },
                rounds=settings.rounds,
                ours=ActorGraph.name,
                targets=[Target(Graph.name, at_most=1)],
                note="Listed before; the first listing has to look into each thread's file.",
            )

        return [
            await listing(PAGE, f"the first {PAGE}", settings.repetitions // 5),
            await listing(settings.listed, "all", 1),
        ]


async def _listing(settings: Settings) -> Section:
    async with AsyncExitStack() as stack:
        measures: dict[str, Measure] = {}
        for candidate in (ActorAdk, Adk, AdkOnDatabase):
            store = candidate(stack.enter_context(data_directory()))
            await stack.enter_async_context(store)
            for number in range(settings.listed):
                await store.create(f"session-{number}")
            measures[candidate.name] = reading(
                store.listed, settings.listed, settings.repetitions // 10
            )
        measures["building ADK's objects, and nothing else"] = reading(
            partial(_objects, settings.listed), settings.listed, settings.repetitions // 10
        )
        return await compare(
            f"ADK: list_sessions, {settings.listed:,} of them",
            "ms",
            measures,
            rounds=settings.rounds,
            ours=ActorAdk.name,
            targets=[Target(theirs.name, at_most=1) for theirs in (Adk, AdkOnDatabase)],
            note="Its sessions are pydantic models; ADK's stores have each of them validated.",
        )


async def _objects(count: int) -> Sequence[object]:
    from google.adk.sessions import Session

    return [
        Session(id=f"session-{n}", app_name="app", user_id="user", state={}, last_update_time=n)
        for n in range(count)
    ]
