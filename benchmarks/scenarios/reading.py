"""How fast messages are read, and what reading costs those who write."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from contextlib import AsyncExitStack, closing

import aiosqlite

from benchmarks.candidates import (
    AGENT,
    SESSION_ROWS,
    Candidate,
    Conversation,
    NaiveAiosqlite,
    OurConversation,
    Ours,
    RawSqlite,
    session_rows,
)
from benchmarks.harness import Measure, Section, Target, compare
from benchmarks.lineup import READERS, installed
from benchmarks.peers import OpenAISQLite
from benchmarks.settings import CALLERS, CHAPTER, Settings
from benchmarks.workloads import (
    appends_per_second,
    data_directory,
    message_of,
    pulse,
    reading,
)
from sessionactor import Row, Session, SessionRegistry


async def reads(settings: Settings) -> list[Section]:
    """The end and the whole of a history."""
    note = "Raw sqlite3 and naive aiosqlite build the same rows."
    async with AsyncExitStack() as stack:
        conversations: dict[str, Conversation] = {}
        for candidate in installed(READERS):
            conversations[candidate.name] = await _filled(stack, candidate, settings.history)
        ours = conversations[Ours.name]
        assert isinstance(ours, OurConversation)
        session = ours.session
        file = stack.enter_context(closing(sqlite3.connect(_uri(ours.session), uri=True)))

        def newest(conversation: Conversation) -> Measure:
            return reading(lambda: conversation.newest(CHAPTER), CHAPTER, settings.repetitions)

        def everything(conversation: Conversation) -> Measure:
            return reading(conversation.everything, settings.history, settings.repetitions // 10)

        async def whole_file() -> list[Row]:
            return session_rows(file.execute(f"{SESSION_ROWS} ORDER BY id"))

        async def newest_in_file() -> list[Row]:
            end = settings.history + 1
            return await session.messages(limit=CHAPTER, newest=True, before=end)

        from_file = "sessionactor, from the file"
        own_file = "raw sqlite3 on our file, all its columns"
        return [
            await compare(
                f"The last {CHAPTER} of {settings.history:,} messages, 300 B",
                "ms",
                {
                    **{name: newest(conversation) for name, conversation in conversations.items()},
                    from_file: reading(newest_in_file, CHAPTER, settings.repetitions),
                },
                rounds=settings.rounds,
                ours=Ours.name,
                targets=[Target(OpenAISQLite.name, at_most=1 / 1.8)],
                note=(
                    f"{note} They are read again and again: ours keeps them, and its other row,"
                    " which also bounds the ids, reads the file each time."
                ),
            ),
            await compare(
                f"All of {settings.history:,} messages, 300 B",
                "ms",
                {
                    **{
                        name: everything(conversation)
                        for name, conversation in conversations.items()
                    },
                    own_file: reading(whole_file, settings.history, settings.repetitions // 10),
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
            return reading(lambda: latest(session), CHAPTER, settings.repetitions)

        def cold(session: Session) -> Measure:
            return reading(
                lambda: latest(session),
                CHAPTER,
                settings.repetitions,
                prepare=lambda: registry.stop(session.session_id),
            )

        async def read_before(session: Session, head: int) -> list[Row]:
            return (await session.messages_before_checkpoint(head)).rows

        async def uncached(session: Session) -> Measure:
            head = (await latest(session))[0].db_id
            return reading(lambda: read_before(session, head), CHAPTER, settings.repetitions)

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
                    "SQL each time, aiosqlite": reading(by_sql, CHAPTER, settings.repetitions),
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

    def blocking(candidate: type[Candidate], *, collecting: bool = True) -> Measure:
        async def measure() -> float:
            if not collecting:
                gc.disable()
            try:
                return await appending(candidate, blocking=True)()
            finally:
                gc.enable()

        return measure

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
            {
                **{candidate.name: blocking(candidate) for candidate in candidates},
                f"{Ours.name}, no garbage collection": blocking(Ours, collecting=False),
            },
            rounds=settings.rounds,
            ours=Ours.name,
            limit=50,
            note=(
                "How late a task ran that wants to run every millisecond. A full collection of"
                " Python's garbage collector looks at every row that the reader has: with it"
                " switched off, what is left is the store's. `stream` holds few rows at a time."
            ),
        ),
    ]
