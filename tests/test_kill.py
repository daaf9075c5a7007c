"""Processes killed in mid-traffic: nothing answered is lost, nothing is doubled, order is kept."""

from __future__ import annotations

import json
import random
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import pytest
from processes import Process, process

from sessionactor import Row, Session, SessionRegistry

SESSIONS = ("s0", "s1", "s2", "s3")
CALLERS = ("a", "b", "c")

TRAFFIC = """
# Each caller appends message after message, and says so before and after. Every fourth
# request is a group of three. It goes on where its journal, in the arguments, ends.
import random

def journal(*entry):
    os.write(1, (json.dumps(entry) + "\\n").encode())

def message(n, size):
    return {"n": n, "text": "x" * size}

async def caller(session, agent_id, n, chance):
    while True:
        size = chance.choice([10, 300, 4000])
        count = 3 if n % 4 == 3 else 1
        journal("asks", session.session_id, agent_id, n, size)
        if count == 1:
            ids = [await session.append(agent_id, message(n, size), key=f"{agent_id}-{n}")]
        else:
            async with session.batch() as batch:
                for part in range(count):
                    batch.append(agent_id, message(n, size), key=f"{agent_id}-{n}-{part}")
                batch.save_metadata({agent_id: n})
            ids = batch.results[:count]
        journal("got", session.session_id, agent_id, n, ids)
        n += 1

async def main(directory, durability, seed, begin):
    async with SessionRegistry(directory, durability=durability, max_active=3) as registry:
        async with asyncio.TaskGroup() as group:
            for session_id, agent_id, n in json.loads(begin):
                session = await registry.start(session_id)
                chance = random.Random(f"{seed} {session_id} {agent_id}")
                group.create_task(caller(session, agent_id, n, chance))

asyncio.run(main(*sys.argv[1:]))
"""


class Journal:
    """What callers asked, and what they were answered, over all their processes."""

    def __init__(self) -> None:
        self.answered: dict[tuple[str, str, int], list[int]] = {}
        self.asked: dict[tuple[str, str], tuple[int, int]] = {}

    def read(self, lines: Iterable[str]) -> None:
        for line in lines:
            kind, session_id, agent_id, n, what = json.loads(line)
            if kind == "asks":
                self.asked[session_id, agent_id] = (n, what)
            else:
                self.answered[session_id, agent_id, n] = what

    def in_flight(self, session_id: str) -> list[tuple[str, int, int]]:
        return [
            (agent_id, n, size)
            for (asker, agent_id), (n, size) in self.asked.items()
            if asker == session_id and (session_id, agent_id, n) not in self.answered
        ]

    def next(self) -> list[list[object]]:
        return [
            [session_id, agent_id, self.asked.get((session_id, agent_id), (-1, 0))[0] + 1]
            for session_id in SESSIONS
            for agent_id in CALLERS
        ]


def killed_after(running: Process, lines: int) -> list[str]:
    """The lines that a process says, until it is killed after so many of them."""
    heard = [running.hear() for _ in range(lines)]
    running.popen.kill()
    assert running.popen.stdout is not None
    return heard + running.popen.stdout.read().split("\n")[:-1]


def parts_of(n: int) -> int:
    return 3 if n % 4 == 3 else 1


def check(rows: list[Row], journal: Journal, session_id: str) -> None:
    """Nothing answered is lost, nothing is there twice or in part, order is kept."""
    assert [row.db_id for row in rows] == list(range(1, len(rows) + 1))
    by_agent = defaultdict(list)
    for row in rows:
        by_agent[row.agent_id].append(row)
    for agent_id in CALLERS:
        mine = by_agent[agent_id]
        counts = [(n, len(list(group))) for n, group in groupby(mine, lambda row: row.message["n"])]
        assert counts == [(n, parts_of(n)) for n in range(len(counts))]
        last_asked = journal.asked.get((session_id, agent_id), (-1, 0))[0]
        assert len(counts) <= last_asked + 1
    at = {row.db_id: row for row in rows}
    for (asker, agent_id, n), ids in journal.answered.items():
        if asker == session_id:
            assert len(ids) == parts_of(n)
            for db_id in ids:
                assert (at[db_id].agent_id, at[db_id].message["n"]) == (agent_id, n)


async def retry(session: Session, agent_id: str, n: int, size: int) -> list[int]:
    """Ask again, with the same key, for what was in flight."""
    message = {"n": n, "text": "x" * size}
    if parts_of(n) == 1:
        return [await session.append(agent_id, message, key=f"{agent_id}-{n}")]
    keys = [f"{agent_id}-{n}-{part}" for part in range(parts_of(n))]
    return await session.extend(agent_id, [message] * len(keys), keys=keys)


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_what_was_answered_before_a_kill_is_there_once_and_in_order(
    tmp_path: Path, durability: str
) -> None:
    chance = random.Random(f"kills at {durability}")
    journal, stored_in_flight, in_flight = Journal(), 0, 0
    for seed in range(6):
        with process(TRAFFIC, tmp_path, durability, seed, json.dumps(journal.next())) as running:
            journal.read(killed_after(running, chance.randrange(1, 900)))
        # The kernel freed what the process owned, and what it was about to write is settled.
        async with SessionRegistry(tmp_path, max_active=2) as registry:
            for session_id in SESSIONS:
                if not await registry.exists(session_id):
                    assert not any(asker == session_id for asker, _, _ in journal.answered)
                    continue
                session = registry.session(session_id)
                rows = await session.messages()
                check(rows, journal, session_id)
                notes = await session.get_metadata()
                for agent_id, n, size in journal.in_flight(session_id):
                    in_flight += 1
                    mine = [r.db_id for r in rows if (r.agent_id, r.message["n"]) == (agent_id, n)]
                    assert len(mine) in (0, parts_of(n))
                    if parts_of(n) == 3:  # rows and metadata of a group come together
                        assert (notes.get(agent_id) == str(n)) == bool(mine)
                    ids = await retry(session, agent_id, n, size)
                    assert ids == (mine or ids)
                    assert await retry(session, agent_id, n, size) == ids
                    stored_in_flight += bool(mine)
                    journal.answered[session_id, agent_id, n] = ids
                check(await session.messages(), journal, session_id)
    assert len(journal.answered) > 100
    assert in_flight > 20
    assert stored_in_flight < in_flight  # some kills came before the commit
    integrity_of(tmp_path)


def integrity_of(directory: Path) -> None:
    for path in directory.glob("*.db"):
        connection = sqlite3.connect(path)
        try:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        finally:
            connection.close()


CREATION = """
# Callers create sessions, write to them, rename some, delete some, and say each.
def journal(*entry):
    os.write(1, (json.dumps(entry) + "\\n").encode())

async def caller(registry, agent_id, begin):
    for n in range(begin, begin + 100_000):
        session_id = f"{agent_id}{n}"
        session = await registry.start(session_id, name=f"new-{session_id}")
        journal("created", session_id)
        await session.append(agent_id, {"n": n})
        journal("written", session_id)
        if n % 3 == 1:
            journal("renaming", session_id)
            await session.rename(f"old-{session_id}")
            journal("renamed", session_id)
        if n % 3 == 2:
            journal("deleting", session_id)
            await registry.delete(session_id)
            journal("deleted", session_id)

async def main(directory, begin):
    async with SessionRegistry(directory, max_active=6) as registry:
        await asyncio.gather(*(caller(registry, agent_id, int(begin)) for agent_id in "abcd"))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_no_kill_leaves_half_a_session_visible(tmp_path: Path) -> None:
    chance = random.Random(11)
    said: dict[str, list[str]] = defaultdict(list)
    for begin in range(0, 6000, 1000):
        with process(CREATION, tmp_path, begin) as running:
            for line in killed_after(running, chance.randrange(1, 300)):
                step, session_id = json.loads(line)
                said[session_id].append(step)
        async with SessionRegistry(tmp_path) as registry:
            found = {file.session_id: file for file in await registry.find("*")}
            paths = sorted(path for path in tmp_path.glob("*.db"))
            assert sorted(file.path for file in found.values()) == paths
            names = {path.name for path in tmp_path.glob(".*")}
            assert {name for name in names if ".catalog" not in name} == {".sessionactor.lock"}
            for session_id, file in found.items():
                steps = said[session_id]
                rows = await registry.session(session_id).messages()
                assert len(rows) == 1 or (rows == [] and "written" not in steps)
                if rows:
                    assert f"{rows[0].agent_id}{rows[0].message['n']}" == session_id
                if "renaming" not in steps:
                    assert file.name == f"new-{session_id}"
                elif "renamed" in steps:
                    assert file.name == f"old-{session_id}"
                assert "deleted" not in steps
            for session_id, steps in said.items():
                if "created" in steps and "deleting" not in steps:
                    assert session_id in found
    assert sum("deleted" in steps for steps in said.values()) > 5
    assert sum("renamed" in steps for steps in said.values()) > 5
    integrity_of(tmp_path)
