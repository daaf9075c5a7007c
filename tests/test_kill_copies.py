"""Processes killed while they fork, rename, back up and compact: all is whole, or not there."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from processes import Process, process

from sessionactor import SessionRegistry

ROWS = 400

SEEDING = f"""
async def main(directory):
    async with SessionRegistry(directory) as registry:
        for session_id in ("origin", "moved", "worn"):
            session = await registry.start(session_id, name=session_id)
            for start in range(0, {ROWS}, 50):
                messages = [{{"n": start + n + 1, "text": "x" * 3000}} for n in range(50)]
                keys = [f"k{{start + n + 1}}" for n in range(50)]
                await session.extend("a", messages, keys=keys)

asyncio.run(main(sys.argv[1]))
"""

WORK = """
# Callers fork one session, rename another, compact a third, back the first one up, and write
# to all of them; each says what it is about to do, and what it did.
import random

def journal(*entry):
    os.write(1, (json.dumps(entry) + "\\n").encode())

async def forking(registry, chance, run):
    for n in range(100_000):
        before = chance.choice([None, chance.randrange(1, 400)])
        session_id = f"fork{run}-{n}"
        journal("forking", session_id, before)
        fork = await registry.session("origin").fork(session_id, before=before)
        journal("forked", session_id, before)
        if n % 3:
            journal("deleting", session_id)
            await registry.delete(session_id)
            journal("deleted", session_id)

async def renaming(registry, chance):
    while True:
        name = chance.choice(["short", "Another Name", "long " * 38, "x" * 200, None])
        journal("renaming", name)
        await registry.session("moved").rename(name)
        journal("renamed", registry.session("moved").name)

async def compacting(registry):
    session = registry.session("worn")
    while True:
        newest = (await session.head()).db_id
        journal("wearing", newest)
        messages = [{"n": newest + n + 1, "text": "x" * 3000} for n in range(50)]
        ids = await session.extend("a", messages)
        await session.remove(ids[:-1])
        journal("worn", ids[-1])
        await session.compact()
        journal("compacted")

async def backing_up(registry, shelf, run):
    for n in range(100_000):
        journal("backing up", f"b{run}-{n}")
        await registry.session("origin").backup(f"{shelf}/b{run}-{n}_n.db")
        journal("backed up", f"b{run}-{n}")
        if n > 2:
            os.unlink(f"{shelf}/b{run}-{n}_n.db")

async def writing(registry):
    session = registry.session("origin")
    n = (await session.head()).db_id
    while True:
        n += 1
        assert await session.append("a", {"n": n, "text": ""}, key=f"k{n}") == n
        journal("written", n)
        await asyncio.sleep(0.002)

async def main(directory, shelf, durability, run):
    chance = random.Random(run)
    async with SessionRegistry(directory, durability=durability) as registry:
        await asyncio.gather(
            forking(registry, chance, run), renaming(registry, chance), compacting(registry),
            backing_up(registry, shelf, run), writing(registry),
        )

asyncio.run(main(*sys.argv[1:]))
"""

KINDS = ("forked", "renamed", "compacted", "backed up", "written")
"""What has to be done more than ten times."""


@dataclass
class Journal:
    """What was asked and answered, over all processes."""

    forking: dict[str, int | None] = field(default_factory=dict)
    forked: set[str] = field(default_factory=set)
    backed_up: set[str] = field(default_factory=set)
    renamed: str = "moved"
    renaming: set[str | None] = field(default_factory=set)
    written: int = ROWS
    worn: list[int] = field(default_factory=lambda: list(range(1, ROWS + 1)))
    counts: dict[str, int] = field(default_factory=dict)

    def read(self, lines: Iterable[str]) -> None:
        for line in lines:
            kind, *what = json.loads(line)
            self.counts[kind] = self.counts.get(kind, 0) + 1
            getattr(self, f"_{kind.replace(' ', '_')}", lambda *_: None)(*what)

    def _forking(self, session_id: str, before: int | None) -> None:
        self.forking[session_id] = before

    def _forked(self, session_id: str, _: int | None) -> None:
        self.forked.add(session_id)

    def _deleting(self, session_id: str) -> None:
        self.forked.discard(session_id)

    def _deleted(self, session_id: str) -> None:
        del self.forking[session_id]

    def _renaming(self, name: str | None) -> None:
        self.renaming = {name}

    def _renamed(self, name: str) -> None:
        self.renamed, self.renaming = name, set()

    def _worn(self, db_id: int) -> None:
        self.worn.append(db_id)

    def _written(self, n: int) -> None:
        self.written = n

    def _backed_up(self, session_id: str) -> None:
        self.backed_up.add(session_id)


def killed_after(running: Process, lines: int) -> list[str]:
    """The lines that a process says, until it is killed after so many of them."""
    heard = [running.hear() for _ in range(lines)]
    running.popen.kill()
    assert running.popen.stdout is not None
    return heard + running.popen.stdout.read().split("\n")[:-1]


def check_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_no_kill_leaves_half_a_copy_or_loses_what_was_copied_moved_or_compacted(
    tmp_path: Path, durability: str
) -> None:
    directory, shelf = tmp_path / "sessions", tmp_path / "shelf"
    shelf.mkdir()
    with process(SEEDING, directory) as seeding:
        assert seeding.end() == 0
    chance = random.Random(f"kills at {durability}")
    journal, unfinished = Journal(), 0

    def lacking() -> list[str]:
        """What the kills have not met often enough to prove anything."""
        rare = [kind for kind in KINDS if journal.counts.get(kind, 0) <= 10]
        return rare if unfinished else [*rare, "killed before a fork was there"]

    for run in range(100):
        if run >= 10 and not lacking():
            break
        with process(WORK, directory, shelf, durability, run) as running:
            journal.read(killed_after(running, chance.randrange(1, 150)))
        async with SessionRegistry(directory) as registry:
            assert [name for name in os.listdir(directory) if name.endswith(".draft")] == []
            await check_origin(registry, journal)
            await check_moved(registry, directory, journal)
            await check_worn(registry, journal)
            for session_id in journal.forked:
                assert await registry.exists(session_id)
            for session_id, before in journal.forking.items():
                if await registry.exists(session_id):
                    await check_copy(registry, session_id, before, journal)
                    await registry.delete(session_id)
                else:
                    unfinished += 1
            journal.forking, journal.forked = {}, set()
        for path in directory.glob("*.db"):
            check_file(path)
        assert [
            path.name
            for path in directory.iterdir()
            if path.suffix != ".db" and not path.name.startswith(".sessionactor.")
        ] == []
        found = set()
        async with SessionRegistry(shelf) as registry:
            for file in await registry.find("*"):
                await check_copy(registry, file.session_id, None, journal)
                found.add(file.session_id)
        assert {one for one in journal.backed_up if int(one.split("-")[1]) <= 2} <= found
    assert lacking() == []


async def check_origin(registry: SessionRegistry, journal: Journal) -> None:
    rows = await registry.session("origin").messages()
    assert [row.db_id for row in rows] == [row.message["n"] for row in rows]
    assert len(rows) in (journal.written, journal.written + 1)
    journal.written = len(rows)


async def check_copy(
    registry: SessionRegistry, session_id: str, before: int | None, journal: Journal
) -> None:
    session = registry.session(session_id)
    rows = await session.messages()
    assert [row.message["n"] for row in rows] == list(range(1, len(rows) + 1))
    if before is not None:
        assert len(rows) == before - 1
    else:
        assert ROWS <= len(rows) <= journal.written
    info = await session.info()
    assert info.message_count == len(rows)
    if rows:
        assert await session.append("a", rows[-1].message, key=rows[-1].key) == len(rows)
    assert (await session.info()).revision == info.revision


async def check_moved(registry: SessionRegistry, directory: Path, journal: Journal) -> None:
    (path,) = directory.glob("moved_*.db")  # one session, under one of the names
    session = registry.session("moved")
    file = await registry.find_by_id("moved")
    assert file.path == path
    assert session.name in {journal.renamed, *journal.renaming} or None in journal.renaming
    assert len(await session.messages()) == ROWS
    assert (await session.info()).name == file.name
    await registry.stop("moved")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM session").fetchone() == (file.name,)
    assert await registry.find_by_name(file.name) == file
    # It can be renamed from there to where it was going.
    await session.rename("moved")
    journal.renamed, journal.renaming = "moved", set()


async def check_worn(registry: SessionRegistry, journal: Journal) -> None:
    rows = await registry.session("worn").messages()
    ids = [row.db_id for row in rows]
    assert ids[: len(journal.worn)] == journal.worn or len(ids) >= len(journal.worn)
    assert set(journal.worn) <= set(ids)
    assert all(row.message["n"] == row.db_id for row in rows)
    assert len(ids) - len(journal.worn) in (0, 1, 50)  # what nobody was answered yet
    await registry.session("worn").remove(set(ids) - set(journal.worn) - {ids[-1]})
    journal.worn = [row.db_id for row in await registry.session("worn").messages()]
