"""What a task asks next, drawn by chance from what it knows of a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from torture.concurrency.calls import (
    Append,
    Begin,
    Call,
    Change,
    Clear,
    Delete,
    Discard,
    Done,
    End,
    Finish,
    Fork,
    Read,
    Refused,
    Remove,
    RemoveLast,
    Rename,
    Save,
    SetState,
    Start,
    Stop,
    Truncate,
    Update,
    Write,
)

AGENTS = ("a", "b")
KEYS = ("k1", "k2", "k3")

COMMON = {
    "append": 30,
    "extend": 6,
    "batch": 10,
    "update": 8,
    "remove": 8,
    "save": 8,
    "read": 22,
}
WEIGHTS = {
    **COMMON,
    "state": 3,
    "turn": 12,
    "rename": 4,
    "start": 4,
    "stop": 6,
    "delete": 3,
    "fork": 4,
}
"""How often which kind of call is made."""


@dataclass
class Known:
    """What was last heard of a session: good enough to ask something sensible."""

    head: int = 0
    revision: int = 0

    def hear(self, done: Done) -> None:
        match done.call, done.answer:
            case _, Refused("StaleHeadError", int(actual)):
                self.head = actual
            case _, Refused("StaleRevisionError", int(actual)):
                self.revision = actual
            case _, Refused():
                pass
            case Write((*_, Append())), (*_, int(db_id)):
                self.head = db_id
            case Read("revision"), int(revision):
                self.revision = revision
            case Read("messages"), (*_, row):
                self.head = row[0]
            case Read("info"), (_, int(revision), *_):
                self.revision = revision


@dataclass
class Draw:
    """Draws the calls of one task."""

    random: Random
    task: str
    sessions: tuple[str, ...]
    weights: dict[str, int]
    known: dict[str, Known]
    turns: dict[str, str] = field(default_factory=dict)
    """The turn that this task opened in a session."""
    retry: tuple[str, Call] | None = None
    """A call with a key that was not answered."""
    _count: int = 0

    def next(self) -> tuple[str, Call]:
        """A session and what to ask of it."""
        if self.retry is not None:
            retry, self.retry = self.retry, None
            if self.random.random() < 0.7:
                return retry
        session_id = self.random.choice(self.sessions)
        kinds = list(self.weights)
        (kind,) = self.random.choices(kinds, list(self.weights.values()))
        return session_id, self._of_kind(kind, session_id)

    def hear(self, done: Done) -> None:
        """Take note of what a call came to."""
        self.known[done.session_id].hear(done)
        call = done.call
        if not done.answered:
            if (
                isinstance(call, Write)
                and all(isinstance(change, Append) for change in call.changes)
                and any(isinstance(change, Append) and change.key for change in call.changes)
            ):
                self.retry = done.session_id, call
        elif isinstance(call, Begin) and done.answer is None:
            self.turns[done.session_id] = call.turn_id
        elif isinstance(call, End):
            self.turns.pop(done.session_id, None)

    def _of_kind(self, kind: str, session_id: str) -> Call:
        special: dict[str, Callable[[], Call]] = {
            "read": self._read,
            "turn": lambda: self._turn(session_id),
            "rename": lambda: Rename(f"{session_id}-{self._token()}"),
            "start": lambda: Start(session_id),
            "stop": Stop,
            "delete": Delete,
            "fork": lambda: self._fork(session_id),
        }
        if kind in special:
            return special[kind]()
        return self._write(kind, session_id)

    def _write(self, kind: str, session_id: str) -> Write:
        random, known = self.random, self.known[session_id]
        head = known.head if random.random() < 0.25 else None
        if kind == "extend":
            puts = [self._append(session_id, "a") for _ in range(random.randint(2, 3))]
            plain = tuple(put._replace(checkpoint=False, turn=puts[0].turn) for put in puts)
            return Write(plain, "extend", head)
        if kind == "batch":
            changes = tuple(self._change(session_id) for _ in range(random.randint(2, 4)))
            revision = known.revision if random.random() < 0.2 else None
            return Write(changes, "batch", head, revision)
        if kind == "append":
            return Write((self._append(session_id, random.choice(AGENTS)),), "call", head)
        return Write((self._simple(kind, session_id),))

    def _change(self, session_id: str) -> Change:
        kind = self.random.choice(["append", "append", "update", "remove", "save"])
        if kind == "append":
            return self._append(session_id, self.random.choice(AGENTS))
        return self._simple(kind, session_id)

    def _append(self, session_id: str, agent_id: str) -> Append:
        random = self.random
        if random.random() < 0.3:
            key = random.choice(KEYS)
            text = f"of {key}" if random.random() < 0.9 else self._token()
            return Append("a" if text == f"of {key}" else agent_id, text, key)
        turn = self.turns.get(session_id) if random.random() < 0.7 else None
        return Append(agent_id, self._token(), None, random.random() < 0.15, turn)

    def _simple(self, kind: str, session_id: str) -> Change:
        random, head = self.random, self.known[session_id].head
        some = random.randint(1, max(1, head + 1))
        near = max(1, head + random.randint(-2, 1))
        choice: list[Change]
        match kind:
            case "update":
                choice = [Update(None, self._token()), Update(some, self._token())]
            case "remove":
                ids = tuple(sorted({some, near}))
                choice = [Truncate(near), Truncate(near), Remove(ids), RemoveLast(), Clear()]
                choice.append(RemoveLast("a"))
            case "state":
                choice = [SetState("idle"), SetState("error"), SetState("running", self._token())]
            case _:
                pairs = ((random.choice("mn"), self._token()),)
                choice = [Save(pairs)]
        return random.choice(choice)

    def _turn(self, session_id: str) -> Call:
        turn_id = self.turns.get(session_id)
        if turn_id is None:
            return Begin(self._token(), self.random.choice(AGENTS))
        failed = self.random.random() < 0.3
        choice: list[Call] = [End(turn_id, failed), End(turn_id, failed)]
        choice += [Write((Discard(turn_id),)), Write((Finish(turn_id),))]
        return self.random.choice(choice)

    def _fork(self, session_id: str) -> Call:
        into = self.random.choice([other for other in self.sessions if other != session_id])
        before = None
        if self.random.random() < 0.3:
            before = self.random.randint(1, self.known[session_id].head + 2)
        return Fork(into, f"{into}-{self._token()}", before)

    def _read(self) -> Read:
        what: Any = self.random.choice(
            ["messages", "latest", "latest", "latest", "info", "metadata", "revision", "head"]
        )
        of = self.random.choice([None, None, None, *AGENTS]) if what == "latest" else None
        if self.random.random() < 0.1:
            return Read("key", self.random.choice(KEYS))
        return Read(what, of)

    def _token(self) -> str:
        """What nobody else says."""
        self._count += 1
        return f"{self.task}.{self._count}"
