"""What is measured. Every figure comes from files of its own, filled before the clock starts."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TypeAlias

import aiosqlite

from benchmarks.candidates import (
    AGENT,
    SESSION_ROWS,
    Candidate,
    Conversation,
    NaiveAiosqlite,
    NaiveConversation,
    OurConversation,
    Ours,
    RawConversation,
    RawSqlite,
    session_rows,
)
from benchmarks.harness import Measure, Section, Target, compare
from benchmarks.peers import PEERS, AdkDatabase, Agno, LangGraph, OpenAISQLite
from benchmarks.workloads import (
    CONVERSATIONS,
    Message,
    after,
    appends_per_second,
    batches_per_second,
    data_directory,
    gather,
    message_of,
    milliseconds,
    pulse,
    real_messages,
)
from sessionactor import Row, Session, SessionRegistry


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    rounds: int = 5
    seconds: float = 1.0
    """Of appending, for each figure."""
    sessions: int = 1_000
    history: int = 10_000
    """Rows of a session that is read."""
    long_history: int = 100_000
    """Rows of a session that is read while others write to it."""
    longest_history: int = 1_000_000
    """Rows of a session whose latest chapter is read."""
    repetitions: int = 50
    """Of a read, for each figure."""
    many_files: int = 100_000


QUICK = Settings(
    rounds=1,
    seconds=0.05,
    sessions=20,
    history=200,
    long_history=1_000,
    longest_history=2_000,
    repetitions=3,
    many_files=200,
)
"""Enough to see that everything runs, and nothing else."""

CALLERS = 100
CHAPTER = 100
MAX_ACTIVE = 64
DESCRIPTORS_EACH = 3
BYTES_EACH = 250

Candidates: TypeAlias = Sequence[type[Candidate]]

BASELINES: Candidates = (Ours, RawSqlite, NaiveAiosqlite)
SHORT: Candidates = (*BASELINES, OpenAISQLite)


def everyone() -> Candidates:
    """All candidates whose packages are installed."""
    return (*BASELINES, *(peer for peer in PEERS if peer.version() is not None))


def installed(candidates: Candidates) -> Candidates:
    """Those of them that can run."""
    return [candidate for candidate in candidates if candidate in everyone()]


async def warm_up() -> None:
    """Import what the candidates import, and compile what they compile."""
    for candidate in everyone():
        with data_directory() as directory, suppress(Exception):  # its figures will tell
            async with candidate(directory) as store, store.session("s") as conversation:
                await conversation.append(message_of(300))


# -- appending --------------------------------------------------------------------------------


async def appends_100(settings: Settings) -> list[Section]:
    """100 callers append to one session."""
    targets = [
        Target(OpenAISQLite.name, at_least=25),
        Target(NaiveAiosqlite.name, at_least=2),
        Target(RawSqlite.name, at_least=0.65),
    ]
    note = "Every caller waits for its answer; raw sqlite3 has no callers and commits 100 each."
    return await _appends(settings, "100 callers, one session", CALLERS, targets, note)


async def appends_1(settings: Settings) -> list[Section]:
    """One caller appends to one session."""
    peers = [candidate.name for candidate in everyone() if candidate not in (Ours, RawSqlite)]
    targets = [Target(peers, at_least=1.15), Target(RawSqlite.name, at_least=0.5)]
    note = "Naive aiosqlite counts as a peer; raw sqlite3 commits each message."
    return await _appends(settings, "one caller", 1, targets, note)


async def _appends(
    settings: Settings, what: str, callers: int, targets: Sequence[Target], note: str
) -> list[Section]:
    async def section(
        size: str, messages: Sequence[Message], candidates: Candidates, note: str = ""
    ) -> Section:
        return await compare(
            f"Appends, {what}, {size}",
            "appends/s",
            {
                candidate.name: _appending(candidate, messages, callers, settings.seconds)
                for candidate in candidates
            },
            rounds=settings.rounds,
            ours=Ours.name,
            targets=targets if size == "300 B" else (),
            note=note,
        )

    sections = [
        await section("300 B", [message_of(300)], everyone(), note),
        await section("4 KB", [message_of(4096)], installed(SHORT)),
    ]
    title = "real conversations"
    if messages := real_messages():
        sections.append(await section(title, messages, installed(SHORT)))
    else:
        text = f"Skipped: `../{Path(*CONVERSATIONS.parts[-3:])}` is not there."
        sections.append(Section(f"Appends, {what}, {title}", text))
    return sections


def _appending(
    candidate: type[Candidate], messages: Sequence[Message], callers: int, seconds: float
) -> Measure:
    async def measure() -> float:
        with data_directory() as directory:
            async with candidate(directory) as store, store.session("s") as conversation:
                await conversation.append(messages[0])
                if isinstance(conversation, RawConversation):
                    return batches_per_second(
                        conversation.commit, messages, callers, after(seconds)
                    )
                return await appends_per_second(
                    conversation.append, messages, callers, after(seconds)
                )

    return measure


async def latency(settings: Settings) -> list[Section]:
    """One caller appends at `synchronous=NORMAL`."""

    def median_of(candidate: type[Candidate]) -> Measure:
        async def measure() -> float:
            message = message_of(300)
            with data_directory() as directory:
                async with candidate(directory, "NORMAL") as store, store.session("s") as session:
                    await session.append(message)
                    appends = 20 * settings.repetitions
                    return await milliseconds(lambda: session.append(message), appends)

        return measure

    return [
        await compare(
            "Latency of an append at NORMAL, one caller, 300 B",
            "ms",
            {candidate.name: median_of(candidate) for candidate in BASELINES},
            rounds=settings.rounds,
            ours=Ours.name,
            targets=[Target(NaiveAiosqlite.name, at_most=0.6)],
            note="The p50 of each round.",
        )
    ]


async def many_sessions(settings: Settings) -> list[Section]:
    """100 callers create sessions, append to them and close them."""

    def creating(candidate: type[Candidate], sessions: int) -> Measure:
        async def measure() -> float:
            message, appends = message_of(300), 10
            ids = iter([f"session-{number}" for number in range(sessions)])

            async def caller() -> None:
                for session_id in ids:
                    async with store.session(session_id) as conversation:
                        for _ in range(appends):
                            await conversation.append(message)

            with data_directory() as directory:
                start = perf_counter()
                async with candidate(directory) as store:
                    await gather(caller() for _ in range(CALLERS))
                return sessions * appends / (perf_counter() - start)

        return measure

    fewer = settings.sessions // 10
    measures = {
        candidate.name: creating(candidate, settings.sessions) for candidate in installed(SHORT)
    }
    for candidate in everyone():
        if candidate not in SHORT:
            measures[f"{candidate.name} ({fewer} sessions)"] = creating(candidate, fewer)
    return [
        await compare(
            f"{settings.sessions:,} sessions × 10 appends, 100 callers, 300 B",
            "appends/s",
            measures,
            rounds=settings.rounds,
            ours=Ours.name,
            targets=[
                Target(OpenAISQLite.name, at_least=1.2),
                Target(NaiveAiosqlite.name, at_least=1.6),
            ],
            note=(
                "Opening the store, creating and closing every session included. Raw sqlite3 and"
                " naive aiosqlite have a file each, the others one database. Raw sqlite3 does one"
                " session after another. The slow ones, which no target names, have fewer sessions."
            ),
        )
    ]


# -- reading ----------------------------------------------------------------------------------

READERS: Candidates = tuple(
    candidate
    for candidate in (*BASELINES, *PEERS)
    if candidate not in (LangGraph, AdkDatabase, Agno)
)
"""Those that read messages by number, except for the slowest to fill."""


async def reads(settings: Settings) -> list[Section]:
    """The end and the whole of a history."""
    note = "Raw sqlite3 and naive aiosqlite build the same rows."
    async with AsyncExitStack() as stack:
        conversations: dict[str, Conversation] = {}
        for candidate in installed(READERS):
            conversations[candidate.name] = await _filled(stack, candidate, settings.history)
        ours = conversations[Ours.name]
        assert isinstance(ours, OurConversation)
        file = stack.enter_context(closing(sqlite3.connect(_uri(ours.session), uri=True)))

        def newest(conversation: Conversation) -> Measure:
            return _reading(lambda: conversation.newest(CHAPTER), CHAPTER, settings.repetitions)

        def everything(conversation: Conversation) -> Measure:
            return _reading(conversation.everything, settings.history, settings.repetitions // 10)

        async def whole_file() -> list[Row]:
            return session_rows(file.execute(f"{SESSION_ROWS} ORDER BY id"))

        own_file = "raw sqlite3 on our file, all its columns"
        return [
            await compare(
                f"The last {CHAPTER} of {settings.history:,} messages, 300 B",
                "ms",
                {name: newest(conversation) for name, conversation in conversations.items()},
                rounds=settings.rounds,
                ours=Ours.name,
                targets=[Target(OpenAISQLite.name, at_most=1 / 1.8)],
                note=note,
            ),
            await compare(
                f"All of {settings.history:,} messages, 300 B",
                "ms",
                {
                    **{
                        name: everything(conversation)
                        for name, conversation in conversations.items()
                    },
                    own_file: _reading(whole_file, settings.history, settings.repetitions // 10),
                },
                rounds=settings.rounds,
                ours=Ours.name,
                targets=[
                    Target(RawSqlite.name, at_most=1.25),
                    Target(own_file, at_most=1.25),
                    Target(OpenAISQLite.name, at_most=1),
                ],
                note=note,
            ),
        ]


async def _filled(stack: AsyncExitStack, candidate: type[Candidate], length: int) -> Conversation:
    """A session of so many rows, open as long as the stack."""
    store = await stack.enter_async_context(candidate(stack.enter_context(data_directory())))
    conversation = await stack.enter_async_context(store.session("s"))
    for _ in range(length // CHAPTER):
        await conversation.extend([message_of(300)] * CHAPTER)
    return conversation


def _reading(
    call: Callable[[], Awaitable[Sequence[object]]],
    expected: int,
    times: int,
    prepare: Callable[[], Awaitable[object]] | None = None,
) -> Measure:
    async def measure() -> float:
        found = len(await call())
        if found != expected:
            raise AssertionError(f"it finds {found} messages instead of {expected}")
        return await milliseconds(call, max(3, times), prepare)

    return measure


def _uri(session: Session) -> str:
    assert session.path is not None
    return f"{session.path.as_uri()}?mode=ro"


async def chapters(settings: Settings) -> list[Section]:
    """The latest chapter of a long history, of a short one, and from the cache."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(data_directory())
        registry = await stack.enter_async_context(SessionRegistry(directory))
        short = await _in_chapters(registry, 1_000)
        long = await _in_chapters(registry, settings.longest_history)
        file = await stack.enter_async_context(aiosqlite.connect(_uri(long), uri=True))

        async def latest(session: Session) -> list[Row]:
            return (await session.messages_from_latest_checkpoint()).rows

        def cached(session: Session) -> Measure:
            return _reading(lambda: latest(session), CHAPTER, settings.repetitions)

        def cold(session: Session) -> Measure:
            return _reading(
                lambda: latest(session),
                CHAPTER,
                settings.repetitions,
                prepare=lambda: registry.stop(session.session_id),
            )

        async def read_before(session: Session, head: int) -> list[Row]:
            return (await session.messages_before_checkpoint(head)).rows

        async def uncached(session: Session) -> Measure:
            head = (await latest(session))[0].db_id
            return _reading(lambda: read_before(session, head), CHAPTER, settings.repetitions)

        async def by_sql() -> list[Row]:
            ((head,),) = await file.execute_fetchall(
                "SELECT id FROM messages WHERE checkpoint = 1 ORDER BY id DESC LIMIT 1"
            )
            return session_rows(
                await file.execute_fetchall(f"{SESSION_ROWS} WHERE id >= ? ORDER BY id", (head,))
            )

        in_long, in_short = f"of {settings.longest_history:,} rows", "of 1,000 rows"
        within = [Target(in_short, at_most=1.5)]
        return [
            await compare(
                "The latest chapter (100 rows, 300 B), session not active",
                "ms",
                {in_long: cold(long), in_short: cold(short)},
                rounds=settings.rounds,
                ours=in_long,
                targets=within,
                note="Stopped before each read: activation, then the chapter from the file.",
            ),
            await compare(
                "The chapter before it, session active",
                "ms",
                {in_long: await uncached(long), in_short: await uncached(short)},
                rounds=settings.rounds,
                ours=in_long,
                targets=within,
                note="What the latest chapter costs by SQL: this one is never cached.",
            ),
            await compare(
                "The latest chapter, read again and again",
                "ms",
                {
                    "sessionactor, from its cache": cached(long),
                    "SQL each time, aiosqlite": _reading(by_sql, CHAPTER, settings.repetitions),
                    "sessionactor, never cached (the chapter before)": await uncached(long),
                },
                rounds=settings.rounds,
                ours="sessionactor, from its cache",
                targets=[Target("SQL each time, aiosqlite", at_most=1 / 3)],
                note=(
                    f"Of {settings.longest_history:,} rows. SQL: the same file, a connection kept"
                    " open, two queries, the same rows built."
                ),
            ),
        ]


async def _in_chapters(registry: SessionRegistry, length: int) -> Session:
    """A session of so many rows, every 100th a checkpoint."""
    session = await registry.start(f"of-{length}")
    message = message_of(300)
    chapter = [{**message, "role": "summary"}, *[message] * (CHAPTER - 1)]
    for start in range(0, length, 10 * CHAPTER):
        await session.extend(AGENT, chapter * min(10, (length - start) // CHAPTER))
    return session


async def beside_a_reader(settings: Settings) -> list[Section]:
    """100 callers append to a session while one reads all of it."""
    message = message_of(300)

    def appending(
        candidate: type[Candidate], reader: bool = True, blocking: bool = False
    ) -> Measure:
        async def measure() -> float:
            async with AsyncExitStack() as stack:
                conversation = await _filled(stack, candidate, settings.long_history)
                read = conversation.everything() if reader else asyncio.sleep(settings.seconds)
                reading = asyncio.ensure_future(read)
                async with pulse() as watching:
                    rate = await appends_per_second(
                        conversation.append, [message], CALLERS, reading.done
                    )
                await reading
                return watching.longest_block_ms if blocking else rate

        return measure

    candidates = installed((Ours, NaiveAiosqlite, OpenAISQLite))
    rates: dict[str, Measure] = {}
    for candidate in candidates:
        rates[candidate.name] = appending(candidate)
        rates[f"{candidate.name}, without the reader"] = appending(candidate, reader=False)
    title = f"100 callers append beside a reader of {settings.long_history:,} rows, 300 B"
    return [
        await compare(
            title,
            "appends/s",
            rates,
            rounds=settings.rounds,
            ours=Ours.name,
            targets=[Target(f"{Ours.name}, without the reader", at_least=0.5)],
            note="From the moment that the reader asks until it has all rows.",
        ),
        await compare(
            f"{title}: longest block of the event loop",
            "ms",
            {candidate.name: appending(candidate, blocking=True) for candidate in candidates},
            rounds=settings.rounds,
            ours=Ours.name,
            limit=50,
            note="How late a task ran that wants to run every millisecond.",
        ),
    ]


# -- sessions that come and go ----------------------------------------------------------------


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
    with ProcessPoolExecutor(1, get_context("spawn")) as process:  # with a memory of its own
        samples = await loop.run_in_executor(process, _touch_many, settings.many_files)
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
    note = f"NORMAL, 8 callers, a process of its own. {verdict}"
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


def _touch_many(sessions: int) -> list[Sample]:
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

    async def touch(registry: SessionRegistry, numbers: Iterable[int], create: bool) -> None:
        shared, message = iter(numbers), message_of(300)

        async def caller() -> None:
            for number in shared:
                session_id = f"session-{number}"
                if create:
                    await registry.start(session_id)
                else:
                    await registry.session(session_id).append(AGENT, message)

        await gather(caller() for _ in range(8))

    def opened(directory: Path) -> SessionRegistry:
        return SessionRegistry(directory, durability="normal", max_active=MAX_ACTIVE)

    async def run(directory: Path) -> None:
        sample("at the start")
        async with opened(directory) as registry:
            await touch(registry, range(sessions), create=True)
            sample("all created")
        async with opened(directory) as registry:
            sample("directory opened again")
            fifth = sessions // 5
            for part in range(5):
                await touch(registry, range(part * fifth, (part + 1) * fifth), create=False)
                sample(f"{(part + 1) * fifth:,} touched")

    with data_directory() as directory:
        asyncio.run(run(directory))
    return samples


def _resident_mb() -> float:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


SCENARIOS: dict[str, Callable[[Settings], Awaitable[list[Section]]]] = {
    scenario.__name__.replace("_", "-"): scenario
    for scenario in (
        appends_100,
        appends_1,
        latency,
        many_sessions,
        chapters,
        reads,
        beside_a_reader,
        passivated,
        many_files,
    )
}
"""By the names that `--only` takes."""
