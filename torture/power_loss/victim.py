"""The process whose disk loses its power: it does this and that with sessions, and says so.

    python -m torture.power_loss.victim ROOT MARKS SEED NUMBER [--left ROOT] [--mutation NAME]

Its marks, a JSON object each, tell when a call begins and is answered, and what a session was
after it (`became`). What it prepares before the mark `start` is on the disk for certain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

from sessionactor import SessionRegistry
from sessionactor import _schema as schema
from torture.mutations import planted
from torture.power_loss.mutations import life_of
from torture.power_loss.preparing import Known, Life, prepare, take_over
from torture.power_loss.snapshot import BACKUPS, SESSIONS, WORD, Shown, State, keyed, shown

IDS: Final = ("s0", "s1", "s2")
STEPS: Final = 16


class Victim:
    """Does a random step after the other."""

    def __init__(self, root: Path, marks: int, life: Life, chance: Random) -> None:
        self._root = root
        self._marks = marks
        self._life = life
        self._chance = chance
        self._sessions: dict[str, Known] = {}
        self._calls = 0
        self._said = 0
        self.durability: Literal["full", "normal"] = chance.choice(["full", "normal"])
        if life.durability is not None:
            self.durability = life.durability
        self.registry: SessionRegistry

    def mark(self, **what: object) -> None:
        """Say something."""
        os.write(self._marks, json.dumps(what).encode())

    async def run(self, left: Path | None) -> None:
        """Prepare, or begin with what was left, and then do steps."""
        (self._root / BACKUPS).mkdir()
        directory = self._root / SESSIONS
        elsewhere = self._root.parent / "elsewhere"
        if left is None:
            prepared = await prepare(directory, elsewhere, self._life)
        else:
            prepared = await take_over(left / SESSIONS, directory, elsewhere)
        os.write(self._marks, b"start")
        has_catalog = self._life.has_catalog
        self.mark(durability=self.durability, has_catalog=has_catalog)
        async with SessionRegistry(
            directory, durability=self.durability, catalog=has_catalog
        ) as registry:
            self.registry = registry
            for session_id, (known, state) in prepared.items():
                self._sessions[session_id] = known
                self.mark(became=[SESSIONS, session_id, None, True, state.plain()])
            for step in self._life.first if left is None else ():
                await getattr(self, f"_{step}")("s2" if "create" in step else "s1")
            for _ in range(STEPS):
                await self._step()

    async def _step(self) -> None:
        absent = [session_id for session_id in IDS if session_id not in self._sessions]
        if absent and (not self._sessions or self._chance.random() < 0.3):
            await self._create(self._chance.choice(absent))
            return
        steps: list[Callable[[str], Awaitable[None]]] = [
            *[self._append] * 3, *[self._several] * 3, self._extend, self._batch, self._keyed,
            self._truncate, self._remove, self._update, self._metadata, *[self._rename] * 2,
            self._delete, self._delete_and_create, self._back_up, self._compact, self._stop,
            self._flush, *([self._fork] * 2 if absent else []),
        ]  # fmt: skip
        step = self._chance.choice(steps)
        if self._life.often is not None and self._chance.random() < self._life.share:
            step = getattr(self, f"_{self._life.often}")
        await step(self._chance.choice(list(self._sessions)))

    async def _call(self, awaitable: Awaitable[Any]) -> tuple[int, Any]:
        self._calls += 1
        call = self._calls
        self.mark(begins=call)
        result = await awaitable
        self.mark(answers=call)
        return call, result

    def _message(self) -> dict[str, Any]:
        self._said += 1
        role = self._chance.choice(["user", "assistant", "summary"])
        size = self._chance.choice([0, 0, 200, 3000, 20_000])
        return {"role": role, "content": f"{WORD} w{self._said}", "more": bytes(size)}

    async def _state(self, session_id: str) -> State:
        known = self._sessions[session_id]
        seen = await shown(self.registry.session(session_id))
        return State(seen, known.high, tuple(known.keys.items()))

    async def _became(self, session_id: str, call: int, *, hard: bool = False) -> None:
        state = (await self._state(session_id)).plain()
        self.mark(became=[SESSIONS, session_id, call, hard, state])

    async def _create(self, session_id: str) -> None:
        name = self._chance.choice(["one", "two"])
        call, _ = await self._call(self.registry.start(session_id, name=name))
        self._sessions[session_id] = Known()
        await self._became(session_id, call, hard=True)

    async def _append(self, session_id: str) -> None:
        session = self.registry.session(session_id)
        call, db_id = await self._call(session.append("a", self._message()))
        self._sessions[session_id].high = db_id
        await self._became(session_id, call)
        if self._chance.random() < 0.4:
            await self._flush(session_id)

    async def _keyed(self, session_id: str) -> None:
        session, known = self.registry.session(session_id), self._sessions[session_id]
        key = f"k{self._chance.randrange(6)}"
        call, db_id = await self._call(session.append("k", keyed(key), key=key))
        known.keys[key] = db_id
        known.high = max(known.high, db_id)
        await self._became(session_id, call)

    async def _several(self, _: str) -> None:
        """Appends of several callers at once, to one session or to several."""
        count = self._chance.randint(2, 8)
        chosen = [self._chance.choice(list(self._sessions)) for _ in range(count)]
        done = await asyncio.gather(
            *[
                self._call(self.registry.session(one).extend("a", [self._message()] * many))
                for one in chosen
                for many in [self._chance.choice([1, 1, 2])]
            ]
        )
        for session_id in dict.fromkeys(chosen):
            state = await self._state(session_id)
            for one, (call, db_ids) in zip(chosen, done, strict=True):
                if one == session_id:
                    self._sessions[session_id].high = high = db_ids[-1]
                    rows = tuple(row for row in state.shown.rows if row[0] <= high)
                    then = replace(state, shown=replace(state.shown, rows=rows), high=high)
                    self.mark(became=[SESSIONS, session_id, call, False, then.plain()])

    async def _extend(self, session_id: str) -> None:
        messages = [self._message() for _ in range(self._chance.choice([2, 5, 30]))]
        session = self.registry.session(session_id)
        call, db_ids = await self._call(session.extend("b", messages))
        self._sessions[session_id].high = db_ids[-1]
        await self._became(session_id, call)

    async def _batch(self, session_id: str) -> None:
        async def batch() -> list[Any]:
            async with self.registry.session(session_id).batch() as batch:
                batch.append("a", self._message())
                if self._chance.random() < 0.5:
                    batch.truncate_from(max(self._sessions[session_id].high - 1, 1))
                batch.extend("b", [self._message(), self._message()])
                batch.save_metadata({"batch": self._calls})
            return batch.results

        call, results = await self._call(batch())
        self._sessions[session_id].high = results[-2][-1]
        await self._became(session_id, call)

    async def _truncate(self, session_id: str) -> None:
        bound = self._chance.randint(1, self._sessions[session_id].high + 1)
        session = self.registry.session(session_id)
        call, _ = await self._call(session.truncate_from(bound))
        await self._became(session_id, call)

    async def _remove(self, session_id: str) -> None:
        db_ids = [self._chance.randint(1, self._sessions[session_id].high + 1) for _ in range(3)]
        call, _ = await self._call(self.registry.session(session_id).remove(db_ids))
        await self._became(session_id, call)

    async def _update(self, session_id: str) -> None:
        session = self.registry.session(session_id)
        call, _ = await self._call(session.update_last(self._message()))
        await self._became(session_id, call)

    async def _metadata(self, session_id: str) -> None:
        session = self.registry.session(session_id)
        call, _ = await self._call(session.save_metadata({"a": self._calls, "b": "x" * 50}))
        await self._became(session_id, call)

    async def _rename(self, session_id: str) -> None:
        session = self.registry.session(session_id)
        name = self._chance.choice(["one", "two", "three"])
        is_other = name != session.name
        call, _ = await self._call(session.rename(name))
        await self._became(session_id, call, hard=is_other)

    async def _delete(self, session_id: str) -> None:
        call, _ = await self._call(self.registry.delete(session_id))
        del self._sessions[session_id]
        self.mark(became=[SESSIONS, session_id, call, True, None])

    async def _delete_and_create(self, session_id: str) -> None:
        name = self.registry.session(session_id).name
        await self._delete(session_id)
        call, _ = await self._call(self.registry.start(session_id, name=name))
        self._sessions[session_id] = Known()
        await self._became(session_id, call, hard=True)

    async def _fork(self, session_id: str) -> None:
        absent = [one for one in IDS if one not in self._sessions]
        if not absent:
            return
        new_id = absent[0]
        known = self._sessions[session_id]
        before = self._chance.choice([None, self._chance.randint(1, known.high + 1)])
        session = self.registry.session(session_id)
        call, _ = await self._call(session.fork(new_id, name="fork", before=before))
        high = known.high if before is None else before - 1
        keys = {key: db_id for key, db_id in known.keys.items() if db_id <= high}
        self._sessions[new_id] = Known(high, keys)
        await self._became(new_id, call, hard=True)

    async def _back_up(self, session_id: str) -> None:
        self._said += 1
        name = f"backup{self._said}"
        target = self._root / BACKUPS / f"{session_id}{self._said}_{name}.db"
        state = await self._state(session_id)
        call, _ = await self._call(self.registry.session(session_id).backup(target))
        seen = Shown(name, state.shown.rows, state.shown.metadata)
        state = replace(state, shown=seen)
        self.mark(became=[BACKUPS, f"{session_id}{self._said}", call, True, state.plain()])

    async def _compact(self, session_id: str) -> None:
        await self._call(self.registry.session(session_id).compact())

    async def _stop(self, session_id: str) -> None:
        await self._call(self.registry.stop(session_id))

    async def _flush(self, session_id: str) -> None:
        await self._call(self.registry.flush(session_id))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("marks", type=Path)
    parser.add_argument("seed")
    parser.add_argument("number", type=int)
    parser.add_argument("--left", type=Path)
    parser.add_argument("--mutation")
    options = parser.parse_args()
    marks = os.open(options.marks, os.O_WRONLY | os.O_CREAT, 0o600)
    chance = Random(f"{options.seed}:{options.number}")
    life = life_of(options.number, options.mutation)
    # A log that is moved into its file often: what a long life would do, in a short one.
    pages = chance.choice([schema.WAL_PAGES, 8, 30])
    schema.WAL_PAGES = schema.SHORT_WAL_PAGES = pages  # type: ignore[misc]
    with planted(options.mutation):
        asyncio.run(Victim(options.root, marks, life, chance).run(options.left))


if __name__ == "__main__":
    main()
