"""What a process does until it is killed: it says each call before it makes it, and the answer."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import random
import signal
import traceback
from itertools import count
from pathlib import Path
from typing import Any, Final

from sessionactor import (
    Session,
    SessionBusyError,
    SessionOwnedError,
    SessionRegistry,
    StorageError,
)
from sessionactor._store import open_store
from sessionactor.interchange import export_session, import_session
from sessionactor.testing import faulty_store
from torture import nursery
from torture.kills.ledger import REFUSED, Journal
from torture.kills.points import Fate, FatefulFaults, install
from torture.kills.story import AGENT, IMPORTED, LOGGERS, MANY, Log, Story, message, state_of
from torture.mutations import planted

_PAUSE_S: Final = 0.02


class Victim:
    """One process: its callers, and where they have to go on."""

    def __init__(self, job: dict[str, Any], journal: Journal) -> None:
        self._job = job
        self._slot: str = job["slot"]
        self._shelf = Path(job["shelf"])
        self._say = journal.say
        self._chance = random.Random(f"{job['seed']}:{self._slot}:{job['life']}")

    async def run(self, fate: Fate) -> None:
        """Call until the end, or until it is told to terminate, and leave in order then."""
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        store = faulty_store(FatefulFaults(fate), open_store)
        place, durability = self._job["place"], self._job["durability"]
        async with SessionRegistry(
            place, durability=durability, max_active=self._job["max_active"], open_store=store
        ) as registry:
            self._registry = registry
            tasks = [asyncio.create_task(each) for each in await self._callers()]
            tasks.append(asyncio.create_task(stop.wait()))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in done:
                task.result()
        self._say("leaves")

    async def _callers(self) -> list[Any]:
        log, story, turns = [
            await self._registry.start(f"{what}{self._slot}", name=what)
            for what in ("log", "story", "turns")
        ]
        return [
            *(self._log(log, agent_id) for agent_id in LOGGERS),
            self._tell(story),
            self._turns(turns),
            self._churn(),
        ]

    async def _log(self, session: Session, agent_id: str) -> None:
        for n in count(self._job["next"][agent_id]):
            self._say("asks", session.session_id, agent_id, n)
            ids = await Log(agent_id, n).do(session)
            self._say("got", session.session_id, agent_id, n, ids)

    async def _tell(self, session: Session) -> None:
        """Go on with a story, at the call that was not answered, if it was not carried out."""
        n = self._job["next"][AGENT]
        story = Story(self._job["seed"] + self._slot).upto(n)
        ahead = story.copy().upto(n + 1)
        found = state_of(await session.messages(), await session.get_metadata())
        if found != story.state and not (self._job["in_flight"] and found == ahead.state):
            self._say(
                "broken",
                "content",
                f"{session.session_id} after call {n}: {found}, neither {story.state} nor"
                f" {ahead.state}",
            )
        if found != story.state:  # it was carried out, and only its answer was lost
            story = ahead
            self._say("asks", session.session_id, AGENT, n)
            self._say("got", session.session_id, AGENT, n, None)
        while True:
            n = story.told
            call = story.next()
            self._say("asks", session.session_id, AGENT, n)
            answer = await call.do(session)
            if answer != call.answer:
                self._say(
                    "broken",
                    "content",
                    f"{session.session_id}, call {n}: {answer}, not {call.answer}",
                )
            self._say("got", session.session_id, AGENT, n, answer)

    async def _turns(self, session: Session) -> None:
        n = await self._settle(session)
        while True:
            self._turn(session, "begin", n)
            ids = []
            async with session.turn(f"t{n}", agent_id=AGENT) as turn:
                self._turn(session, "begun", n)
                try:
                    for part in range(1 + n % 3):
                        self._turn(session, "say", n)
                        ids.append(await turn.append(message(n), key=f"t{n}-{part}"))
                        self._turn(session, "said", n, ids[-1])
                finally:
                    self._turn(session, "end", n)
            self._turn(session, "done", n, *ids)
            n += 1

    async def _settle(self, session: Session) -> int:
        """End the turn in which the process before this one died; the next turn's number."""
        state = self._job["turns"]
        n, phase, said = state["n"], state["phase"], state["ids"]
        info = await session.info()
        if phase == "done":
            if info.state not in ("idle", "error"):
                self._say(
                    "broken", "turns", f"{session.session_id} is {info.state} after turn {n} ended"
                )
            return int(n) + 1
        open_ = info.state == "interrupted" and info.turn_id == f"t{n}"
        if open_:
            self._turn(session, "interrupted", n)
            found = [row.db_id for row in await session.interrupted_turn()]
            if found[: len(said)] != said or len(found) > len(said) + 1:
                self._say(
                    "broken", "turns", f"turn {n} of {session.session_id} has {found}, not {said}"
                )
            self._turn(session, "settle", n)
            await (session.discard_turn(f"t{n}") if n % 2 else session.finish_turn(f"t{n}"))
        elif phase not in ("begin", "end", "settle") or info.state not in ("idle", "error"):
            self._say(
                "broken", "turns", f"{session.session_id} is {info.state} in turn {n}: {phase}"
            )
        left = [row.db_id for row in await session.messages() if row.turn == f"t{n}"]
        if not open_ and phase == "end" and left[:-1] != said and left != said:
            self._say(
                "broken", "turns", f"turn {n} of {session.session_id} left {left}, not {said}"
            )
        if open_ and left != ([] if n % 2 else found):
            self._say(
                "broken", "turns", f"turn {n} of {session.session_id} was settled, and left {left}"
            )
        self._turn(session, "done", n, *left)
        return int(n) + 1

    def _turn(self, session: Session, phase: str, n: int, *ids: int) -> None:
        self._say("turn", session.session_id, phase, n, *ids)

    async def _churn(self) -> None:
        """Make sessions and copies, change, rename and remove them."""
        for n in count():
            made = f"{self._slot}-{self._job['life']}-{n}"
            session = await self._make(f"c{made}")
            doings = [self._rename, self._wear, self._fork, self._back_up, self._export]
            for doing in self._chance.sample(doings, 3):
                await doing(session, made)
            if n % 3:
                await self._delete(session.session_id)
            await self._import(f"i{self._slot}")

    async def _make(self, session_id: str) -> Session:
        self._thing(session_id, "making", [], f"new {session_id}")
        session = await self._registry.start(session_id, name=f"new {session_id}")
        self._thing(session_id, "made")
        self._rows = list(range(1, MANY + 1))
        self._thing(session_id, "changing", self._rows)
        messages = [message(n, 1000) for n in self._rows]
        await session.extend("c", messages, keys=[f"k{n}" for n in self._rows])
        self._thing(session_id, "changed")
        return session

    async def _rename(self, session: Session, _: str) -> None:
        self._thing(session.session_id, "renaming", [], f"old {session.session_id}")
        while True:
            try:
                await session.rename(f"old {session.session_id}")
                break
            except SessionBusyError:  # the other process's catalog reads it, and may be stopped
                await asyncio.sleep(_PAUSE_S)
        self._thing(session.session_id, "renamed")

    async def _wear(self, session: Session, _: str) -> None:
        gone = self._rows[: MANY // 2]
        self._rows = self._rows[MANY // 2 :]
        self._thing(session.session_id, "changing", self._rows)
        await session.remove(gone)
        self._thing(session.session_id, "changed")
        await session.compact()

    async def _fork(self, session: Session, made: str) -> None:
        before = self._chance.randrange(2, MANY)
        rows = [db_id for db_id in self._rows if db_id < before]
        self._thing(f"f{made}", "making", rows, f"fork {made}")
        fork = await session.fork(f"f{made}", name=f"fork {made}", before=before)
        self._thing(fork.session_id, "made")
        await session.flush()

    async def _back_up(self, session: Session, made: str) -> None:
        assert session.path is not None
        target = self._shelf / session.path.name
        self._thing(str(target), "making", self._rows)
        await session.backup(target)
        self._thing(str(target), "made")

    async def _export(self, session: Session, made: str) -> None:
        target = self._shelf / f"{made}.jsonl"
        self._thing(str(target), "making")
        await export_session(self._registry, session.session_id, target)
        self._thing(str(target), "made")

    async def _import(self, session_id: str) -> None:
        self._thing(session_id, "making", range(1, IMPORTED + 1), "imported")
        seen = await import_session(self._registry, self._shelf / f"{session_id}.jsonl")
        if seen.status not in ("imported", "unchanged"):
            self._say("broken", "content", f"importing {session_id}: {seen}")
        self._thing(session_id, "made")
        await self._delete(session_id)

    async def _delete(self, session_id: str) -> None:
        self._thing(session_id, "deleting")
        await self._registry.delete(session_id)
        self._thing(session_id, "deleted")

    def _thing(self, which: str, what: str, rows: Any = (), name: str = "") -> None:
        self._say("thing", which, what, [*rows], name)


def live(job: dict[str, Any], out: int) -> None:
    """One life; what goes wrong in it is said."""
    journal = Journal(out)
    point, nth, number = job["point"] or ("", 0, signal.SIGKILL)
    fate = Fate(point, nth, signal.Signals(number), lambda: journal.say("reached", point))
    install(fate, point)
    faulthandler.register(signal.SIGUSR1)
    try:
        asyncio.run(Victim(job, journal).run(fate))
    except SessionOwnedError as error:
        journal.say("broken", "locks", str(error))
        raise
    except StorageError as error:
        if "locked" not in str(error):
            journal.say("broken", "content", str(error))
        os._exit(REFUSED)
    except BaseException:
        journal.say("broken", "content", f"process {os.getpid()} failed:\n{traceback.format_exc()}")
        raise


def main() -> None:
    """Be the parent of victims."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--mutation")
    options = parser.parse_args()
    with planted(options.mutation):
        nursery.serve(options.socket, live)


if __name__ == "__main__":
    main()
