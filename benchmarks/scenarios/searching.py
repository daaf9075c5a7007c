"""Search over a million messages, and how fast the index of them is made."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from time import perf_counter
from typing import Final, Literal

from benchmarks import directories
from benchmarks.candidates import AGENT
from benchmarks.harness import Check, Measure, Section, Target, compare
from benchmarks.settings import Settings
from benchmarks.workloads import (
    HUNDREDTH,
    JAPANESE,
    OTHER_THIRD,
    THIRD,
    THOUSANDTH,
    data_directory,
    reading,
    varied,
)
from sessionactor import SearchHit, SessionRegistry
from sessionactor._catalog_words import words
from sessionactor._text import text_of

LIMIT_MS: Final = 5
WITHIN: Final = 10
OF_RAW: Final = 0.7
HITS: Final = 20
EACH: Final = 1_000
"""Messages of a session."""
CATALOG: Final = ".sessionactor.catalog"


async def searching(settings: Settings) -> list[Section]:
    """The newest 20 hits of several queries, and the best ones."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(data_directory())
        await directories.fill_with_text(directory, varied(settings.searched), EACH)
        start = perf_counter()
        registry = await stack.enter_async_context(SessionRegistry(directory))
        await registry.sessions(limit=1)
        rate = settings.searched / (perf_counter() - start)
        size = catalog_bytes(directory)
        kept = sum(len(text_of(message).encode()) for message in varied(1_000)) / 1_000
        note = (
            f"In {-(-settings.searched // EACH):,} sessions. The catalog was built from their"
            f" files when the directory was opened, {rate:,.0f} messages/s, and takes"
            f" **{size / settings.searched:,.0f} bytes for each message**, whose text is"
            f" {kept:,.0f} bytes."
        )
        return [
            await _newest(registry, settings, note),
            await _third(registry, settings),
            await _ranked(registry, settings),
        ]


async def _newest(registry: SessionRegistry, settings: Settings, note: str) -> Section:
    queries = {
        "a word of one in a hundred": HUNDREDTH,
        "a word of one in a thousand": THOUSANDTH,
        "a word of one": str(settings.searched - 7),
        "a word of none": "nowhere",
        "two words": f"{HUNDREDTH} {THOUSANDTH}",
        "a phrase": f'"{HUNDREDTH} {THOUSANDTH}"',
        "a beginning": f"{HUNDREDTH[:4]}*",
        "two characters of Japanese": JAPANESE[6:8],
    }
    measures = {
        what: _search(registry, query, settings.repetitions) for what, query in queries.items()
    }
    first, *others = measures
    return await compare(
        f"Search for the newest {HITS} of {settings.searched:,} messages, 300 B",
        "ms",
        measures,
        rounds=settings.rounds,
        ours=first,
        checks=[Check(what, LIMIT_MS) for what in (first, *others)],
        note=note,
    )


async def _third(registry: SessionRegistry, settings: Settings) -> Section:
    third, one = "a word of every third", "a word of one in a hundred"
    times = settings.repetitions
    return await compare(
        f"Search for the newest {HITS}, a word of a third of {settings.searched:,} messages",
        "ms",
        {
            third: _search(registry, THIRD, times),
            one: _search(registry, HUNDREDTH, times),
            f"{third}, within one session": _search(
                registry, THIRD, times, session_id=directories.session_id(0)
            ),
            f"{third}, the best of each session": _search(registry, THIRD, times, by="session"),
            "two words of a third each that never meet": _search(
                registry, f"{THIRD} {OTHER_THIRD}", times // 10
            ),
        },
        rounds=settings.rounds,
        ours=third,
        targets=[Target(one, at_most=WITHIN)],
        note="The last three for information; two words that never meet are the worst to ask for.",
    )


async def _ranked(registry: SessionRegistry, settings: Settings) -> Section:
    words = {"a hundred": HUNDREDTH, "a thousand": THOUSANDTH, "three": THIRD}
    return await compare(
        f'Search for the best {HITS} of {settings.searched:,} messages, `order="rank"`',
        "ms",
        {
            f"a word of one in {share}": _search(
                registry, word, settings.repetitions // 10, order="rank"
            )
            for share, word in words.items()
        },
        rounds=min(3, settings.rounds),
        ours="a word of one in a hundred",
        note="For information: bm25 looks at every hit.",
    )


def _search(
    registry: SessionRegistry,
    query: str,
    times: int,
    *,
    order: Literal["newest", "rank"] = "newest",
    by: Literal["message", "session"] = "message",
    session_id: str | None = None,
) -> Measure:
    async def search() -> Sequence[SearchHit]:
        return await registry.search(query, limit=HITS, order=order, by=by, session_id=session_id)

    async def measure() -> float:
        # How many there are depends on the settings, and is looked up once.
        return await reading(search, len(await search()), times)()

    return measure


async def rebuilding(settings: Settings) -> list[Section]:
    """The catalog made anew, beside the bare insertion of the same words."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(data_directory())
        await directories.fill_with_text(directory, varied(settings.indexed), EACH)
        registry = await stack.enter_async_context(SessionRegistry(directory))
        await registry.sessions(limit=1)
        with closing(sqlite3.connect(directory / CATALOG)) as catalog:
            ((table,),) = catalog.execute(
                "SELECT sql FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE % fts5(%'"
            )

        async def rebuild() -> float:
            start = perf_counter()
            await registry.rebuild_catalog()
            return settings.indexed / (perf_counter() - start)

        prepared = [
            (number, words(number // EACH, AGENT, text_of(message)))
            for number, message in enumerate(varied(settings.indexed), 1)
        ]

        def inserting(table: str) -> Measure:
            return lambda: insert(table)

        async def insert(table: str) -> float:
            with (
                data_directory() as place,
                closing(sqlite3.connect(place / "raw.db", isolation_level=None)) as raw,
            ):
                raw.execute("PRAGMA journal_mode = WAL")
                raw.execute("PRAGMA synchronous = FULL")
                raw.execute(table)
                start = perf_counter()
                raw.execute("BEGIN")
                raw.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", prepared)
                raw.execute("COMMIT")
                return settings.indexed / (perf_counter() - start)

        bare = "raw sqlite3, the same words into the same FTS5 table"
        keeping = "raw sqlite3, into one that keeps its text"
        keeping_table = table.replace("content='', ", "")
        assert keeping_table != table
        return [
            await compare(
                f"A catalog of {settings.indexed:,} messages made anew, 300 B",
                "messages/s",
                {
                    "rebuild_catalog": rebuild,
                    bare: inserting(table),
                    keeping: inserting(keeping_table),
                },
                rounds=settings.rounds,
                ours="rebuild_catalog",
                targets=[Target(bare, at_least=OF_RAW), Target(keeping, at_least=OF_RAW)],
                note=(
                    "Ours reads every session's file, finds the text, and keeps it. Raw sqlite3"
                    " inserts a prepared list in one transaction; the text is kept by an FTS5"
                    " table unless it is told not to, as the catalog's is, which has another one"
                    " for it."
                ),
            )
        ]


def catalog_bytes(directory: Path) -> int:
    """What the catalog of a directory takes, its log included."""
    return sum(path.stat().st_size for path in directory.glob(f"{CATALOG}*"))
