"""What callers do, each told by a seed, so that others know what ought to be there.

`Story`: one caller alone with a session, who does all that can be done to it; what each call
has to answer follows from those before. `Log`: one of several callers of a session, who add to
it with keys.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple, TypeAlias

from sessionactor import Row, Session

Do: TypeAlias = Callable[[Session], Coroutine[Any, Any, Any]]
"""Makes a call, or several in a batch; what it answers."""

AGENT: Final = "teller"
"""The one who is alone with a session."""
LOGGERS: Final = ("a", "b")
"""Those who share one."""
MANY: Final = 24
"""Rows of a session that is made to be changed, copied and removed."""
IMPORTED: Final = 640
"""Rows of the file that is imported, in several parts."""


class State(NamedTuple):
    """What a session has to hold."""

    rows: dict[int, int]
    """By `db_id`: the number of the call that wrote the message last."""
    metadata: dict[str, str]


class Told(NamedTuple):
    """A call, and what it has to answer."""

    do: Do
    answer: Any
    repeatable: bool = False
    """Whether it can be made again when nobody knows whether it was carried out: it has keys."""


def message(n: int, size: int = 0) -> dict[str, Any]:
    """What the call of that number writes."""
    return {"n": n, "text": "x" * size}


def state_of(rows: list[Row], metadata: dict[str, Any]) -> State:
    """What a session holds."""
    return State({row.db_id: row.message["n"] for row in rows}, metadata)


@dataclass
class Story:
    """The calls of one who is alone with a session, and what it holds after each of them."""

    seed: str
    told: int = 0
    """How many calls were told."""
    state: State = field(default_factory=lambda: State({}, {}))
    high_water: int = 0
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of each key: the `db_id`, and the number of the call."""

    def next(self) -> Told:
        """The next call, which is told as done from now on."""
        n, chance = self.told, Random(f"{self.seed}:{self.told}")
        self.told += 1
        kind = chance.choices(
            (self._append, self._extend, self._batch, self._repeat, self._update, self._remove,
             self._truncate, self._save, self._clear, self._compact),
            (6, 4, 4, 3, 3, 2, 3, 2, 0.5, 0.5),
        )[0]  # fmt: skip
        return kind(n, chance)

    def upto(self, told: int) -> Story:
        """Itself, with so many calls told."""
        while self.told < told:
            self.next()
        return self

    def copy(self) -> Story:
        """Another one at the same place."""
        return deepcopy(self)

    def _added(self, n: int, key: str | None = None) -> int:
        self.high_water += 1
        self.state.rows[self.high_water] = n
        if key is not None:
            self.keys[key] = (self.high_water, n)
        return self.high_water

    def _append(self, n: int, chance: Random) -> Told:
        size = chance.choice((10, 300, 5000))
        key = f"k{n}"
        return Told(lambda s: s.append(AGENT, message(n, size), key=key), self._added(n, key), True)

    def _extend(self, n: int, chance: Random) -> Told:
        keys = [f"k{n}-{part}" for part in range(chance.randrange(1, 5))]
        messages = [message(n)] * len(keys)
        ids = [self._added(n, key) for key in keys]
        return Told(lambda s: s.extend(AGENT, messages, keys=keys), ids, True)

    def _batch(self, n: int, chance: Random) -> Told:
        first = self._some(chance)
        self._cut(first)
        added = [self._added(n), self._added(n)]
        self.state.metadata["batch"] = str(n)

        async def do(session: Session) -> list[Any]:
            async with session.batch() as batch:
                batch.truncate_from(first)
                batch.append(AGENT, message(n))
                batch.save_metadata({"batch": n})
                batch.append(AGENT, message(n, 2000))
            return [batch.results[1], batch.results[-1]]

        return Told(do, added)

    def _repeat(self, n: int, chance: Random) -> Told:
        if not any("-" in key for key in self.keys):
            return self._extend(n, chance)
        key = chance.choice([key for key in self.keys if "-" in key])
        db_id, before = self.keys[key]
        return Told(lambda s: s.append(AGENT, message(before), key=key), db_id, True)

    def _update(self, n: int, chance: Random) -> Told:
        db_id = self._some(chance)
        there = db_id in self.state.rows
        if there:
            self.state.rows[db_id] = n
        return Told(lambda s: s.update(db_id, message(n, 100)), there)

    def _remove(self, n: int, chance: Random) -> Told:
        db_ids = {self._some(chance) for _ in range(3)}
        gone = [db_id for db_id in db_ids if self.state.rows.pop(db_id, None) is not None]
        return Told(lambda s: s.remove(db_ids), len(gone))

    def _truncate(self, n: int, chance: Random) -> Told:
        first = self._some(chance)
        return Told(lambda s: s.truncate_from(first), self._cut(first))

    def _save(self, n: int, chance: Random) -> Told:
        pairs = {f"m{n % 5}": str(n), "last": str(n)}
        self.state.metadata.update(pairs)
        return Told(lambda s: s.save_metadata(pairs), None)

    def _clear(self, n: int, chance: Random) -> Told:
        return Told(lambda s: s.clear(), self._cut(1))

    def _compact(self, n: int, chance: Random) -> Told:
        async def do(session: Session) -> None:
            await session.compact()

        return Told(do, None)

    def _cut(self, first: int) -> int:
        gone = [db_id for db_id in self.state.rows if db_id >= first]
        for db_id in gone:
            del self.state.rows[db_id]
        return len(gone)

    def _some(self, chance: Random) -> int:
        return max(1, self.high_water - chance.randrange(6))


class Log(NamedTuple):
    """A call of one of several who add to a session: it can be repeated."""

    agent_id: str
    n: int

    @property
    def keys(self) -> list[str]:
        """One for each message that it adds."""
        parts = 3 if self.n % 4 == 3 else 2 if self.n % 4 == 1 else 1
        return [f"{self.agent_id}-{self.n}-{part}" for part in range(parts)]

    async def do(self, session: Session) -> list[int]:
        """Add to the session; the ids."""
        written = message(self.n, Random(f"{self.agent_id}{self.n}").choice((10, 300, 4000)))
        if len(self.keys) == 1:
            return [await session.append(self.agent_id, written, key=self.keys[0])]
        if len(self.keys) == 2:
            return await session.extend(self.agent_id, [written] * 2, keys=self.keys)
        async with session.batch() as batch:
            for key in self.keys:
                batch.append(self.agent_id, written, key=key)
            batch.save_metadata({self.agent_id: self.n})
        return [one for one in batch.results[:3] if isinstance(one, int)]
