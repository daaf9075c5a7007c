"""A page of sessions out of many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Final, Literal, TypeAlias

from benchmarks import directories
from benchmarks.harness import Check, Measure, Section, Target, compare
from benchmarks.lineup import peers
from benchmarks.peers import AdkDatabase, AdkSqlite
from benchmarks.settings import Settings
from benchmarks.workloads import data_directory, message_of, reading
from sessionactor import SessionRegistry

PAGE: Final = 50
OF_DIRECTORY: Final = 1 / 500
OF_ADK: Final = 1 / 20
_STRIDE: Final = 1_000
"""Sessions of a page on the way to the middle."""

Order: TypeAlias = Literal["updated", "created"]
ORDERS: Final[dict[Order, str]] = {
    "updated": "by last change",
    "created": "by creation",
}


async def listing(settings: Settings) -> list[Section]:
    """A page of 50, at the beginning and in the middle."""
    return [await _beside_directory(settings), await _beside_adk(settings)]


async def _beside_directory(settings: Settings) -> Section:
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(data_directory())
        await directories.fill(directory, settings.many_files, [message_of(300)] * 2)
        start = perf_counter()
        registry = await stack.enter_async_context(SessionRegistry(directory))
        await registry.sessions(limit=1)
        built_s = perf_counter() - start
        measures: dict[str, Measure] = {}
        for order, title in ORDERS.items():
            middle = await _middle(registry, order, settings.many_files // 2)
            measures[f"{title}"] = _page(registry, order, None, settings)
            measures[f"{title}, from the middle"] = _page(registry, order, middle, settings)
        ours = list(measures)
        measures["by last change, each page once"] = _walk(registry, settings)
        outside = "scandir and stat of the directory"
        measures[outside] = reading(lambda: _stats(directory), settings.many_files, 3)
        return await compare(
            f"A page of {PAGE} out of {settings.many_files:,} sessions",
            "ms",
            measures,
            rounds=settings.rounds,
            ours=ours[0],
            targets=[Target(outside, at_most=OF_DIRECTORY)],
            checks=[Check(name, OF_DIRECTORY, of=outside) for name in ours[1:]],
            note=(
                "Real files, copied from one that a registry made. The catalog was built from"
                f" them when the directory was opened, in {built_s:.3g} s. The middle is where a"
                " cursor leads to that was handed on from page to page. The same page is asked"
                " for again and again; for information, what pages take of which none was asked"
                " for before: paths are made, and the catalog's are read from its file."
            ),
        )


async def _beside_adk(settings: Settings) -> Section:
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(data_directory())
        await directories.fill(directory, settings.listed, [message_of(300)] * 2)
        registry = await stack.enter_async_context(SessionRegistry(directory))
        page, every = f"sessionactor, a page of {PAGE}", "sessionactor, all, page after page"
        measures: dict[str, Measure] = {
            page: _page(registry, "updated", None, settings),
            every: reading(lambda: _all(registry), settings.listed, settings.repetitions // 10),
        }
        names = []
        for peer in (AdkSqlite, AdkDatabase):
            if peer in peers():
                store = peer(stack.enter_context(data_directory()))
                await stack.enter_async_context(store)
                for number in range(settings.listed):
                    await store.create(f"session-{number}")
                names.append(f"{peer.name}.list_sessions")
                measures[names[-1]] = reading(
                    store.listed, settings.listed, settings.repetitions // 10
                )
        return await compare(
            f"Sessions out of {settings.listed:,}",
            "ms",
            measures,
            rounds=settings.rounds,
            ours=page,
            targets=[Target(name, at_most=OF_ADK) for name in names],
            note=(
                f"ADK has no pages: it lists all. Its sessions are empty. Ours in pages of"
                f" {_STRIDE:,} for information."
            ),
        )


def _page(
    registry: SessionRegistry, order: Order, cursor: str | None, settings: Settings
) -> Measure:
    async def page() -> Sequence[object]:
        return (await registry.sessions(order=order, limit=PAGE, cursor=cursor)).sessions

    return reading(page, PAGE, settings.repetitions)


def _walk(registry: SessionRegistry, settings: Settings) -> Measure:
    """Pages on the way through all sessions, of which none was asked for before."""
    cursor: str | None = None

    async def page() -> Sequence[object]:
        nonlocal cursor
        found = await registry.sessions(limit=PAGE, cursor=cursor)
        cursor = found.cursor
        return found.sessions

    return reading(page, PAGE, settings.repetitions)


async def _middle(registry: SessionRegistry, order: Order, skipped: int) -> str | None:
    """A cursor behind so many sessions."""
    cursor = None
    while skipped > 0:
        page = await registry.sessions(order=order, limit=min(_STRIDE, skipped), cursor=cursor)
        cursor = page.cursor
        skipped -= len(page.sessions)
    return cursor


async def _all(registry: SessionRegistry) -> Sequence[object]:
    page = await registry.sessions(limit=_STRIDE)
    found = list(page.sessions)
    while page.cursor is not None:
        page = await registry.sessions(limit=_STRIDE, cursor=page.cursor)
        found += page.sessions
    return found


async def _stats(directory: Path) -> Sequence[object]:
    """What listing costs without any index: an entry and its times for each file."""
    return [entry.stat() for entry in os.scandir(directory) if entry.name.endswith(".db")]
