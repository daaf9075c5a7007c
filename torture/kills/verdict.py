"""Whether all is there that has to be, and nothing else, when nobody runs any more."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Final

from sessionactor import Row, SessionNotFoundError, SessionRegistry
from sessionactor._names import CATALOG_DRAFT, CATALOG_FILE, LOCK_FILE, SIDE_FILES, parse
from sessionactor.checkup import Finding, check, check_catalog, repair
from sessionactor.interchange import import_session
from torture.kills.ledger import Ledger, Thing
from torture.kills.story import AGENT, LOGGERS, Log, Story, state_of

_PLACES: Final = {CATALOG_FILE, CATALOG_DRAFT, LOCK_FILE}
_LEFT_OVERS: Final = {"draft", "log", "identity", "unreadable"}
"""What doctor may find, and mend, where processes were killed; a log is without its index when
SQLite was just removing both."""


class Verdict:
    """What is wrong in a directory of sessions, and one of copies, after a case."""

    def __init__(self, place: Path, shelf: Path, seed: str, ledger: Ledger) -> None:
        self._place, self._shelf, self._seed, self._ledger = place, shelf, seed, ledger
        self.content: list[str] = []
        """Sentences on what was answered and is not there, or is there twice, or in part."""
        self.turns: list[str] = []
        """Sentences on turns that are neither whole, nor interrupted, nor gone."""
        self.files: list[str] = []
        """Sentences on files that ought not to be there."""
        self.left_over: int = 0
        """Files that only a killed process leaves, all known by doctor."""

    def reach(self) -> None:
        """Look at everything."""
        self._files_named(self._place)
        asyncio.run(self._sessions())
        self.files += [f"{name} is left when all is closed" for name in self._beside_sessions()]
        findings = self._files_named(self._shelf)
        for finding in findings:
            if not repair(finding):
                self.files.append(f"{finding.path.name} could not be removed: {finding.detail}")
        for path in [*self._place.glob("*.db"), *self._shelf.glob("*.db")]:
            self._whole(path)
        self._copies()

    def _beside_sessions(self) -> list[str]:
        """What there is beside the files of sessions, of the catalog and of the locks."""
        return [
            name
            for name in os.listdir(self._place)
            if name not in (LOCK_FILE, CATALOG_FILE) and parse(name) is None
        ]

    def _files_named(self, directory: Path) -> list[Finding]:
        """That doctor knows what is left over, and finds nothing else."""
        findings = list(check(directory))
        self.files += [
            f"{one.path.name}: {one.detail}"
            for one in findings
            if one.problem not in _LEFT_OVERS or one.remedy is None
        ]
        known = {one.path.name for one in findings}
        self.left_over += len(known)
        for name in sorted(os.listdir(directory)):
            base = next((name.removesuffix(end) for end in SIDE_FILES if name.endswith(end)), name)
            ours = (
                base in (CATALOG_FILE, CATALOG_DRAFT)
                or name == LOCK_FILE
                or name.endswith(".jsonl")
            )
            if not (ours or parse(base) is not None or name in known):
                self.files.append(f"nobody can name {name}")
        return findings

    def _whole(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            (said,) = connection.execute("PRAGMA integrity_check").fetchone()
        if said != "ok":
            self.content.append(f"{path.name}: {said}")

    async def _sessions(self) -> None:
        async with SessionRegistry(self._place, max_active=8) as registry:
            files = {file.session_id: file.path for file in await registry.find("*")}
            if sorted(map(str, files.values())) != sorted(map(str, self._place.glob("*.db"))):
                self.files.append(f"files that are no sessions beside {sorted(files)}")
            for name in os.listdir(self._place):
                if name.endswith(".draft"):
                    self.files.append(f"{name} is left when a registry has been opened")
            for session_id in sorted(files):
                await self._session(registry, session_id)
            for which, thing in self._ledger.things.items():
                if not which.endswith((".db", ".jsonl")):
                    await self._thing(registry, which, thing)
            self.content += [f"the catalog: {one}" for one in await check_catalog(registry)]

    async def _session(self, registry: SessionRegistry, session_id: str) -> None:
        session = registry.session(session_id)
        rows = await session.messages()
        info = await session.info()
        if info.message_count != len(rows) or info.state == "running":
            self.content.append(f"{len(rows)} rows of {info}")
        if session_id.startswith("log"):
            self.content += _log(session_id, rows, await session.get_metadata(), self._ledger)
        elif session_id.startswith("story"):
            n = self._ledger.next(session_id, AGENT)
            story = Story(self._seed + session_id.removeprefix("story")).upto(n)
            may = [story.state]
            if self._ledger.in_flight(session_id, AGENT):
                may.append(story.copy().upto(n + 1).state)
            found = state_of(rows, await session.get_metadata())
            if found not in may:
                self.content.append(f"{session_id} after call {n}: {found}, not one of {may}")
        elif session_id.startswith("turns"):
            self.turns += _turns(session_id, rows, self._ledger)
        elif session_id not in self._ledger.things:
            self.files.append(f"nobody made {session_id}")

    async def _thing(self, registry: SessionRegistry, which: str, thing: Thing) -> None:
        session = registry.session(which)
        try:
            info = await session.info()
        except SessionNotFoundError:
            if thing.made and not thing.deleting:
                self.content.append(f"{which} is gone")
            return
        if thing.deleted:
            self.content.append(f"{which} was deleted, and is there")
        if info.state == "importing":
            if thing.made:
                self.content.append(f"{which} was imported, and is importing")
            seen = await import_session(registry, self._shelf / f"{which}.jsonl")
            if seen.status != "imported":
                self.content.append(f"an import that was killed does not go on: {seen}")
        if thing.names[0] != "imported" and info.name not in thing.names:
            self.content.append(f"{which} is called {info.name}, not one of {thing.names}")
        self._rows(which, [row.db_id for row in await session.messages()], thing)

    def _rows(self, which: str, found: list[int], thing: Thing) -> None:
        unsaid = which.startswith("i") and not thing.made and found == []
        if found not in thing.rows and not unsaid:
            self.content.append(f"{which} has rows {found}, not one of {thing.rows}")

    def _copies(self) -> None:
        for which, thing in self._ledger.things.items():
            path = Path(which)
            if path.parent != self._shelf:
                continue
            if thing.made and not path.exists():
                self.content.append(f"{path.name} is gone")
            if path.suffix == ".db" and path.exists():
                with closing(sqlite3.connect(path)) as connection:
                    ids = [one for (one,) in connection.execute("SELECT id FROM messages")]
                self._rows(path.name, ids, thing)


def _log(
    session_id: str, rows: list[Row], metadata: dict[str, str | None], ledger: Ledger
) -> Iterator[str]:
    """Nothing answered is lost, nothing is there twice or in part, order is kept."""
    if [row.db_id for row in rows] != list(range(1, len(rows) + 1)):
        yield f"{session_id} has ids {[row.db_id for row in rows]}"
    by_agent = defaultdict(list)
    for row in rows:
        by_agent[row.agent_id].append(row)
    ids = {row.key: row.db_id for row in rows}
    for agent_id in LOGGERS:
        counts = [(n, len(list(group))) for n, group in groupby(by_agent[agent_id], _number_of)]
        whole = [(n, len(Log(agent_id, n).keys)) for n in range(len(counts))]
        if counts != whole:
            yield f"{agent_id} in {session_id} is not in order, once and whole: {counts}"
        if len(counts) > ledger.asked.get((session_id, agent_id), -1) + 1:
            yield f"{session_id} has {counts[-1]}, which nobody asked for"
        noted = max((n for n, _ in counts if n % 4 == 3), default=None)
        if metadata.get(agent_id) != (None if noted is None else str(noted)):
            yield f"{agent_id} in {session_id}: batch {noted} with {metadata}"
    for (asked, agent_id, n), answer in ledger.got.items():
        if asked == session_id and [ids.get(key) for key in Log(agent_id, n).keys] != answer:
            yield f"{agent_id} in {session_id}, call {n}: {answer} was answered, and is not there"


def _number_of(row: Row) -> int:
    return int(row.message["n"])


def _turns(session_id: str, rows: list[Row], ledger: Ledger) -> Iterator[str]:
    state = ledger.turns.get(session_id)
    if state is None:
        return
    by_turn: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        by_turn[row.message["n"]].append(row.db_id)
    for n, ids in state.done.items():
        if by_turn.pop(n, []) != ids:
            yield f"turn {n} of {session_id} ended with {ids}, which are not there"
    for n, ids in by_turn.items():
        settled = state.phase == "settle" and not ids
        if n != state.n or (ids[: len(state.ids)] != state.ids and not settled):
            yield f"turn {n} of {session_id} has {ids}; the last one was {state.n}, {state.phase}"
