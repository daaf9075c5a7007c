"""One case, in a process of its own: callers, a fault that comes and goes, and what is left."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import json
import os
import signal
import sqlite3
import threading
import traceback
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final

from sessionactor import SessionNotFoundError, SessionRegistry
from sessionactor.checkup import check, check_catalog
from torture import nursery
from torture.faults.callers import Bystander, Concerned, Seen
from torture.faults.kinds import KINDS, World
from torture.faults.preload import Control
from torture.mutations import planted

_STEPS: Final = 10
_CLOSING_S: Final = 30.0
_LEFT_OVERS: Final = {"draft", "log", "unreadable", "identity"}
"""What doctor may find, and mend, where files could not be removed or renamed."""


class Scene:
    """A session that something is wrong with, one beside it, and one elsewhere."""

    def __init__(self, job: dict[str, Any], control: Control, seen: Seen) -> None:
        self._kind = KINDS[job["kind"]]
        self._place, self._home = Path(job["place"]), Path(job["home"])
        self._small: bool = job["small"]
        self._seed = f"{job['seed']}:{job['number']}:"
        self._chance = Random(self._seed)
        self._control, self._seen = control, seen
        self._copies: dict[str, dict[int, int]] = {}

    async def run(self) -> None:
        """All of it."""
        durability: Any = self._chance.choice(("full", "normal"))
        there = SessionRegistry(self._place, durability=durability, max_active=64)
        elsewhere = SessionRegistry(self._home / "elsewhere", durability=durability)
        await there.open()
        await elsewhere.open()
        concerned = Concerned(await there.start("v", name="n"), self._seed, self._seen)
        beside = Bystander(await there.start("other", name="o"), self._seen)
        apart = Bystander(await elsewhere.start("b"), self._seen)
        world = World(
            self._chance, self._control, there, concerned, self._place, self._seen, self._small
        )
        for _ in range(_STEPS):
            await concerned.step()
            await beside.call()
        others = [apart] if self._kind.scope == "directory" else [apart, beside]
        async with asyncio.TaskGroup() as group:
            for other in others:
                group.create_task(other.run())
            try:
                await self._suffer(world, there)
            finally:
                for other in others:
                    other.stop()
        await concerned.recover()
        for other in (beside, apart):
            await other.call()
            await other.check()
        await self._copies_are_whole(there)
        await self._leave(there, elsewhere)
        async with SessionRegistry(self._place) as again:
            concerned.session = again.session("v")
            await concerned.check()
            for finding in await check_catalog(again):
                self._seen.fail("concerned", f"the catalog: {finding}")
        self._files()

    async def _suffer(self, world: World, registry: SessionRegistry) -> None:
        """Call while something is wrong."""
        concerned = world.concerned
        before = concerned.story.copy() if self._kind.by_hand else None
        concerned.by_hand = self._kind.by_hand
        async with self._kind.fault(world):
            for _ in range(_STEPS):
                if before is not None:
                    await concerned.found()
                elif self._chance.random() < 0.6 and not await concerned.step():
                    if self._kind.scope in ("catalog", "nobody"):
                        self._seen.fail("others", "a session that has nothing wrong with it failed")
                elif self._chance.random() < 0.7:
                    await self._something_else(registry)
        if before is not None:
            concerned.story = before
        concerned.by_hand = False

    async def _something_else(self, registry: SessionRegistry) -> None:
        session, n = registry.session("v"), len(self._copies)
        rows = await self._seen.asked("reading", session.messages())
        what = self._chance.choice(("rename", "fork", "backup", "stop", "start", "list", "find"))
        asked = self._seen.asked
        match what:
            case "rename":
                await asked(what, session.rename(self._chance.choice(("n", "m", "long " * 9))))
            case "fork" if isinstance(rows, list):
                self._copies[f"f{n}"] = {row.db_id: row.message["n"] for row in rows}
                await asked(what, session.fork(f"f{n}", name="f"))
            case "backup" if isinstance(rows, list):
                target = self._place / f"k{n}_k.db"
                self._copies[f"k{n}"] = {row.db_id: row.message["n"] for row in rows}
                await asked(what, session.backup(target))
            case "stop":
                await asked(what, registry.stop("v"))
            case "start":
                await asked(what, registry.start(f"new{self._chance.random()}"))
            case "list":
                await asked(what, registry.sessions())
            case "find":
                await asked(what, registry.find("*"))

    async def _copies_are_whole(self, registry: SessionRegistry) -> None:
        for session_id, expected in self._copies.items():
            try:
                rows = await registry.session(session_id).messages()
            except SessionNotFoundError:
                continue
            found = {row.db_id: row.message["n"] for row in rows}
            if found != expected:
                self._seen.fail("concerned", f"{session_id} is {found}, a copy of {expected}")

    async def _leave(self, *registries: SessionRegistry) -> None:
        try:
            async with asyncio.timeout(_CLOSING_S):
                for registry in registries:
                    await registry.aclose()
        except TimeoutError:
            self._seen.fail("concerned", f"it does not close within {_CLOSING_S} s")

    def _files(self) -> None:
        for directory in (self._place, self._home / "elsewhere"):
            for finding in check(directory):
                if finding.problem not in _LEFT_OVERS or finding.remedy is None:
                    self._seen.fail("concerned", f"{finding.path.name}: {finding.detail}")
            for path in directory.glob("*.db"):
                with closing(sqlite3.connect(path)) as connection:
                    (said,) = connection.execute("PRAGMA integrity_check").fetchone()
                if said != "ok":
                    self._seen.fail("concerned", f"{path.name}: {said}")


def play(job: dict[str, Any], out: int) -> None:
    """One case; what was seen is written at its end."""
    faulthandler.register(signal.SIGUSR1)
    control, seen = Control(), Seen()
    control.clear()

    def give_up() -> None:
        _say(seen, out)
        os._exit(0)

    seen.give_up = give_up
    descriptors = _descriptors()
    try:
        asyncio.run(Scene(job, control, seen).run())
    except BaseException:
        seen.fail("concerned", traceback.format_exc())
    finally:
        control.clear()
    left = {key: of for key, of in _descriptors().items() if key not in descriptors}
    if left:
        seen.fail("concerned", f"these descriptors are left open: {left}")
    if threading.active_count() > 1:
        seen.fail("concerned", f"these threads are left: {threading.enumerate()}")
    _say(seen, out)


def _say(seen: Seen, out: int) -> None:
    said = {"broken": seen.broken, "errors": seen.errors, "slowest_s": seen.slowest_s}
    os.write(out, json.dumps(said).encode())


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # it was of this listing
    return found


def main() -> None:
    """Be the parent of cases."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--mutation")
    options = parser.parse_args()
    with planted(options.mutation):
        nursery.serve(options.socket, play)


if __name__ == "__main__":
    main()
