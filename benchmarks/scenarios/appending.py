"""How fast messages are stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from benchmarks.candidates import (
    Candidate,
    NaiveAiosqlite,
    Ours,
    OursAlone,
    RawConversation,
    RawSqlite,
)
from benchmarks.harness import Measure, Section, Target, compare
from benchmarks.lineup import BASELINES, SHORT, Candidates, everyone, installed, peers
from benchmarks.peers import OpenAISQLite
from benchmarks.settings import CALLERS, Settings
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
    real_messages,
)


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
    best = [peer.name for peer in peers()]
    targets = [Target(best, at_least=1.15), Target(RawSqlite.name, at_least=0.5)]
    note = (
        "The target is about the best of the packages; naive aiosqlite is none of them, and raw"
        " sqlite3 commits each message."
    )
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
            variants=[OursAlone.name] if OursAlone in candidates else [],
            note=note,
        )

    sections = [
        await section("300 B", [message_of(300)], [*everyone(), OursAlone], note),
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

    candidates: Candidates = (*BASELINES, OursAlone)
    return [
        await compare(
            "Latency of an append at NORMAL, one caller, 300 B",
            "ms",
            {candidate.name: median_of(candidate) for candidate in candidates},
            rounds=settings.rounds,
            ours=Ours.name,
            targets=[Target(NaiveAiosqlite.name, at_most=0.6)],
            variants=[OursAlone.name],
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
