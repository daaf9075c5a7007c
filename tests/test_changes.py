"""What happened after a revision, as it is told to those who catch up."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from changes import Copy, snapshot_of
from model import Snapshot

from sessionactor import Session, SessionRegistry
from sessionactor._changes import RemoveRows
from sessionactor._opening import Opening
from sessionactor._requests import ReadChanges
from sessionactor._store import open_store

FEW = 3


def say(text: object) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def open_with_small_slices(opening: Opening) -> Any:
    """A store that tells of a few changed rows at a time."""
    store: Any = await open_store(opening)
    read = store.read

    async def read_few(request: Any, max_rows: int) -> Any:
        return await read(request, FEW if isinstance(request, ReadChanges) else max_rows)

    store.read = read_few
    return store


@asynccontextmanager
async def started(place: Path | None) -> AsyncIterator[tuple[SessionRegistry, Session]]:
    async with SessionRegistry(place, open_store=open_with_small_slices) as registry:
        yield registry, await registry.start("s", name="first")


async def present(session: Session) -> Snapshot:
    return snapshot_of(await session.messages(), await session.get_metadata(), await session.info())


async def in_a_turn(session: Session, number: int) -> None:
    async with session.turn(agent_id="a") as turn:
        await turn.extend([say(number), say(number)])


async def all_at_once(session: Session, number: int) -> None:
    newest = (await session.info()).message_count
    async with session.batch() as batch:
        batch.extend("a", [say(number)] * (FEW + 2))
        batch.update_last(say("newest"))
        batch.remove([newest, newest - 2])
        batch.append("b", say("more"))
        batch.remove_last()
        for db_id in range(FEW + 3):
            batch.update(db_id, say(number))
        batch.set_context(room_id=str(number))
        batch.save_metadata({"n": number})


CHANGES: list[Callable[[Session, int], Awaitable[Any]]] = [
    lambda session, n: session.append("a", say(n)),
    lambda session, n: session.append("b", say(n), turn="x", parent="p"),
    lambda session, n: session.extend("a", [say(n)] * (n % 9)),
    lambda session, n: session.extend("a", [say(n)] * 4),
    lambda session, n: session.update(n, say(f"updated at {n}")),
    lambda session, n: session.update_last(say(f"last at {n}")),
    lambda session, n: session.remove([n, n + 1, n + 5]),
    lambda session, n: session.remove_last(),
    lambda session, n: session.truncate_from(3 * n),
    lambda session, n: session.save_metadata({f"m{n % 3}": n}),
    lambda session, n: session.set_context(room_id=str(n)),
    lambda session, n: session.set_agent_alias(None if n % 2 else str(n)),
    lambda session, n: session.set_state("error" if n % 2 else "idle"),
    lambda session, n: session.rename(f"name-{n}"),
    in_a_turn,
    all_at_once,
]


@pytest.mark.parametrize("seed", range(4))
async def test_from_every_revision_the_changes_lead_to_the_present(
    place: Path | None, seed: int
) -> None:
    chance = random.Random(seed)
    async with started(place) as (registry, session):
        known = {0: await present(session)}
        for number in range(60):
            await chance.choice(CHANGES)(session, number)
            if number == 30:
                await session.clear()
            known[await session.revision()] = await present(session)
        parts = []
        for revision, snapshot in known.items():
            copied = Copy(snapshot)
            parts.append(await copied.follow(registry, "s", revision))
            assert copied.snapshot == await present(session)
        assert parts[0] > 1
        assert parts[-1] == 1


async def test_rows_that_are_updated_again_and_again_were_inserted_once(
    place: Path | None,
) -> None:
    async with started(place) as (registry, session):
        known = {0: await present(session)}
        changes: list[Callable[[], Awaitable[Any]]] = [
            lambda: session.append("a", say(1)),
            lambda: session.append("a", say(2)),
            lambda: session.update(1, say("one")),
            lambda: session.update(1, say("uno")),
            lambda: session.append("a", say(3)),
            lambda: session.update(2, say("two")),
            lambda: session.update(1, say("un")),
            lambda: session.update(2, say("due")),
        ]
        for change in changes:
            await change()
            known[await session.revision()] = await present(session)
        await session.extend("a", [say(n) for n in range(2 * FEW)])
        for db_id in range(1, 2 * FEW):  # more than are told at a time
            await session.update(db_id, say("last"))
            known[await session.revision()] = await present(session)
        assert len(known) == 8 + 2 * FEW
        for revision, snapshot in known.items():
            copied = Copy(snapshot)
            await copied.follow(registry, "s", revision)
            assert copied.snapshot == await present(session)


async def test_what_happens_while_one_catches_up_comes_too(place: Path | None) -> None:
    async with started(place) as (registry, session):
        for number in range(12):
            await session.append("a", say(number))
        copied, since, more = Copy(await present(session)), 0, True
        copied.snapshot.rows.clear()
        rewrites: list[Callable[[], Awaitable[Any]]] = [
            lambda: session.update(1, say("read before")),
            lambda: session.update(11, say("not read yet")),
            lambda: session.remove([2, 12]),
            lambda: session.extend("b", [say("new")] * 5),
            lambda: session.truncate_from(14),
        ]
        while more:
            changes = await registry.ask("s", ReadChanges(since))
            for _, step in changes.in_order():
                copied.apply(step)
            since, more = changes.upto, changes.more
            if rewrites:
                more = True
                await rewrites.pop(0)()
        assert copied.snapshot == await present(session)


async def test_a_revision_of_many_rows_is_told_whole(place: Path | None) -> None:
    async with started(place) as (registry, session):
        await session.append("a", say("before"))
        await session.extend("a", [say(n) for n in range(10 * FEW)])
        await session.append("a", say("after"))
        changes = await registry.ask("s", ReadChanges(1))
        assert [revision for revision, _ in changes.in_order()].count(2) == 10 * FEW
        async with session.batch() as batch:
            for db_id in range(1, 8):
                batch.update(db_id, say("updated"))
        changes = await registry.ask("s", ReadChanges(3))
        assert [revision for revision, _ in changes.in_order()] == [4] * 7
        assert (changes.upto, changes.more) == (4, False)


async def test_nothing_happened_after_the_present_or_later(place: Path | None) -> None:
    async with started(place) as (registry, session):
        await session.append("a", say(1))
        await session.set_state("error")
        for since in (2, 3, 100):
            changes = await registry.ask("s", ReadChanges(since))
            assert (changes.in_order(), changes.more) == ([], False)
            assert changes.info.revision == 2


async def test_removals_are_told_as_what_they_were(place: Path | None) -> None:
    async with started(place) as (registry, session):
        removes: list[Callable[[], Awaitable[int]]] = [
            lambda: session.truncate_from(2),
            lambda: session.truncate_from(0),
            lambda: session.truncate_from(-5),
            lambda: session.remove([13, 15, 16]),
            lambda: session.clear(),
        ]
        for remove in removes:
            await session.extend("a", [say(n) for n in range(4)])
            await remove()
        changes = await registry.ask("s", ReadChanges(0))
        removals = [step[:2] for _, step in changes.in_order() if isinstance(step, RemoveRows)]
        assert removals == [(2, None), (1, None), (1, None), (13, 13), (15, 16), (0, None)]


async def test_only_what_runs_says_whose_it_is(place: Path | None) -> None:
    async with started(place) as (registry, session):
        tokens = []
        states: tuple[Any, ...] = ("running", "error", "running", "idle")
        for state in states:
            await session.set_state(state)
            changes = await registry.ask("s", ReadChanges(0))
            tokens.append(changes.info.token)
        assert tokens[1] is tokens[3] is None
        assert tokens[0] == tokens[2]
        assert tokens[0]
