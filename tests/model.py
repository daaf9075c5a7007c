"""A plain model of a session: lists and dictionaries, no cleverness."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sessionactor import (
    IdempotencyError,
    InvalidValueError,
    StaleHeadError,
    StaleRevisionError,
    TurnClosedError,
    TurnOpenError,
)


class Put(NamedTuple):
    """An append, as a caller asks for it."""

    agent_id: str
    message: dict[str, Any]
    key: str | None = None
    checkpoint: bool | None = None
    keep_from: int | None = None
    parent: str | None = None
    turn: str | None = None

    @property
    def is_checkpoint(self) -> bool:
        if self.checkpoint is not None:
            return self.checkpoint
        return bool(self.message["role"] == "summary")


class Edit(NamedTuple):
    """An update of a row, or of the newest one (of an agent)."""

    db_id: int | None
    message: dict[str, Any]
    agent_id: str | None = None


class Cut(NamedTuple):
    """A truncation."""

    first_id: int
    whole_turns: bool = False


class Drop(NamedTuple):
    """A removal of rows."""

    db_ids: tuple[int, ...]


class DropLast(NamedTuple):
    """A removal of the newest row (of an agent)."""

    agent_id: str | None


class Wipe(NamedTuple):
    """A removal of all rows."""


class Note(NamedTuple):
    """Metadata to merge."""

    items: dict[str, str | None]


class Place(NamedTuple):
    """Context to set."""

    items: dict[str, str | None]


class Become(NamedTuple):
    """A state to be in."""

    state: str
    turn_id: str | None


class Finish(NamedTuple):
    """A turn to close and keep."""

    turn_id: str


class Discard(NamedTuple):
    """A turn to close and remove."""

    turn_id: str


Change = Put | Edit | Cut | Drop | DropLast | Wipe | Note | Place | Become | Finish | Discard


class Stored(NamedTuple):
    """A row, as a reader sees it."""

    db_id: int
    put: Put
    revision: int
    updated: bool = False


class Open(NamedTuple):
    """An open turn."""

    turn_id: str
    agent_id: str
    interrupted: bool = False


class Status(NamedTuple):
    """The state, its turn, and whether it says since when."""

    state: str = "idle"
    turn_id: str | None = None
    dated: bool = False


IDLE = Status()


class Snapshot(NamedTuple):
    """All that a subscriber can know."""

    rows: dict[int, Stored]
    metadata: dict[str, str | None]
    context: dict[str, str | None]
    name: str
    status: Status


class RefusedError(Exception):
    """What a session refuses, by the class of its error and the actual value that it tells."""

    def __init__(self, kind: type[Exception], actual: int | None = None) -> None:
        super().__init__(kind.__name__, actual)
        self.kind = kind
        self.actual = actual


FIELDS = ("agent_alias", "channel_id", "room_id", "sender_id")


@dataclass
class Model:
    """A session by the book."""

    name: str
    rows: list[Stored] = field(default_factory=list)
    used: int = 0
    revision: int = 0
    keys: dict[str, tuple[int, str, dict[str, Any]]] = field(default_factory=dict)
    metadata: dict[str, str | None] = field(default_factory=dict)
    context: dict[str, str | None] = field(default_factory=lambda: dict.fromkeys(FIELDS))
    status: Status = IDLE
    turns: list[Open] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)

    @property
    def head(self) -> int:
        return self.rows[-1].db_id if self.rows else 0

    def snapshot(self) -> Snapshot:
        rows = {row.db_id: row for row in self.rows}
        return Snapshot(rows, dict(self.metadata), dict(self.context), self.name, self.status)

    # what changes it

    def change(
        self, changes: Sequence[Change], head: int | None = None, revision: int | None = None
    ) -> list[Any]:
        """Do all of it or raise `RefusedError`: what each change comes to."""
        puts = [change for change in changes if isinstance(change, Put)]
        if any(put.keep_from is not None and not put.is_checkpoint for put in puts):
            raise RefusedError(InvalidValueError)
        ids = self._ids(puts)
        if ids and all(db_id <= self.used for db_id in ids):  # all of it happened before
            known = iter(ids)
            return [next(known) if isinstance(one, Put) else nothing_yet(one) for one in changes]
        if head is not None and head != self.head:
            raise RefusedError(StaleHeadError, self.head)
        if revision is not None and revision != self.revision:
            raise RefusedError(StaleRevisionError, self.revision)
        used = self.used
        for db_id, put in zip(ids, puts, strict=True):
            is_new, used = db_id > used, max(used, db_id)
            if is_new and put.keep_from is not None and not 1 <= put.keep_from <= db_id:
                raise RefusedError(InvalidValueError)
        before = copy.deepcopy(vars(self))
        try:
            return self._carry_out(changes, iter(ids))
        except RefusedError:
            vars(self).update(before)
            raise

    def begin(self, turn_id: str, agent_id: str) -> None:
        if any(turn_id == turn.turn_id or agent_id == turn.agent_id for turn in self.turns):
            raise RefusedError(TurnOpenError)
        if turn_id in self.closed:
            raise RefusedError(TurnClosedError)
        self.revision += 1
        self.turns.append(Open(turn_id, agent_id))
        self._settle()

    def end(self, turn_id: str, *, failed: bool) -> None:
        if any(turn_id == turn.turn_id for turn in self.turns):
            self.revision += 1
            self._close([turn_id])
            self._settle(Status("error", turn_id, True) if failed else IDLE)

    def crash(self) -> None:
        """Be opened by another owner than the one that left it."""
        if self.status.state == "running":
            self.revision += 1
            self.status = self.status._replace(state="interrupted")
            self.turns = [turn._replace(interrupted=True) for turn in self.turns]

    def rename(self, name: str) -> None:
        self.revision += name != self.name
        self.name = name

    def fork(self, ids: tuple[str, str], before: int | None, whole_turns: bool) -> Model:
        """What a session that begins with this one's history is."""
        bound = self.used + 1 if before is None else max(1, min(before, self.used + 1))
        bound = self._whole(bound) if whole_turns else bound
        forked = copy.deepcopy(self)
        forked.rows = [row for row in forked.rows if row.db_id < bound]
        own, new = ids
        older = {f"{own}/{db_id}": (db_id, f"{new}/{db_id}") for db_id in range(1, bound)}
        for index, row in enumerate(forked.rows):
            db_id, copied = older.get(row.put.parent or "", (bound, ""))
            if db_id < row.db_id:
                forked.rows[index] = row._replace(put=row.put._replace(parent=copied))
        forked.used = bound - 1
        forked.revision += 1
        forked.keys = {key: use for key, use in self.keys.items() if use[0] < bound}
        forked.status, forked.turns = IDLE, []
        return forked

    def _ids(self, puts: Sequence[Put]) -> list[int]:
        keys, used, ids = dict(self.keys), self.used, []
        for put in puts:
            known = keys.get(put.key) if put.key is not None else None
            if known is not None and known[1:] != (put.agent_id, put.message):
                raise RefusedError(IdempotencyError)
            if known is None:
                used += 1
                known = (used, put.agent_id, put.message)
                if put.key is not None:
                    keys[put.key] = known
            ids.append(known[0])
        return ids

    def _carry_out(self, changes: Sequence[Change], ids: Any) -> list[Any]:
        before = copy.deepcopy(vars(self))
        self.revision += 1
        answers, touched = [], False
        for change in changes:
            if isinstance(change, Put):
                answers.append(next(ids))
                self._put(change, answers[-1])
            else:
                status = self.status
                answers.append(self._do(change))
                # These count even where they leave all as it was, or another one undoes them.
                touched = touched or self.status != status
                touched = touched or (isinstance(change, Note | Place) and bool(change.items))
                touched = touched or (isinstance(change, Become) and change.state == "running"
                    and not self._is_running(change.turn_id))  # fmt: skip
        if not touched and vars(self) == {**before, "revision": self.revision}:
            self.revision -= 1
        return answers

    def _put(self, put: Put, db_id: int) -> None:
        if db_id > self.used:
            if put.turn in self.closed:
                raise RefusedError(TurnClosedError)
            self.used = db_id
            stored = put._replace(checkpoint=put.is_checkpoint)
            self.rows.append(Stored(db_id, stored, self.revision))
            if put.key is not None:
                self.keys[put.key] = (db_id, put.agent_id, put.message)

    def _do(self, change: Change) -> Any:
        match change:
            case Note(items):
                self.metadata.update(items)
            case Place(items):
                self.context.update(items)
            case Become(state, turn_id):
                self._become(state, turn_id)
            case Finish(turn_id):
                self._finish(turn_id)
            case Discard(turn_id):
                return self._discard(turn_id)
            case _:
                return self._rewrite(change)
        return None

    def _rewrite(self, change: Change) -> Any:
        match change:
            case Edit(db_id, message, agent_id):
                return self._edit(self._newest(agent_id) if db_id is None else db_id, message)
            case Cut(first_id, whole_turns):
                bound = self._whole(first_id) if whole_turns else first_id
                return self._remove(row.db_id for row in self.rows if row.db_id >= bound)
            case Drop(db_ids):
                return self._remove(db_ids)
            case DropLast(agent_id):
                return bool(self._remove([self._newest(agent_id)]))
        return self._remove(row.db_id for row in self.rows)

    def _edit(self, db_id: int, message: dict[str, Any]) -> bool:
        for index, row in enumerate(self.rows):
            if row.db_id == db_id:
                put = row.put._replace(message=message)
                self.rows[index] = Stored(db_id, put, self.revision, updated=True)
                return True
        return False

    def _remove(self, db_ids: Iterable[int]) -> int:
        wanted = set(db_ids)
        gone = [row for row in self.rows if row.db_id in wanted]
        self.rows = [row for row in self.rows if row.db_id not in wanted]
        lost = {row.put.turn for row in gone}
        hit = [turn.turn_id for turn in self.turns if turn.turn_id in lost]
        if hit:
            self._close(hit)
            self._settle()
        return len(gone)

    def _become(self, state: str, turn_id: str | None) -> None:
        if state == "running":
            if not self._is_running(turn_id):
                self.status = Status("running", turn_id, True)
            return
        self._close([turn.turn_id for turn in self.turns])
        if state == "error":
            same = turn_id in (None, self.status.turn_id)
            self.status = Status(
                "error", turn_id or self.status.turn_id, self.status.dated and same
            )
        else:
            self.status = IDLE

    def _finish(self, turn_id: str) -> None:
        if self._concerns(turn_id):
            self._close([turn_id])
            self._settle()

    def _discard(self, turn_id: str) -> int:
        concerned = self._concerns(turn_id)
        removed = self._remove(row.db_id for row in self.rows if row.put.turn == turn_id)
        if concerned or removed:
            self._close([turn_id])
        if concerned:
            self._settle()
        return removed

    def _is_running(self, turn_id: str | None) -> bool:
        return any(turn.turn_id == turn_id and not turn.interrupted for turn in self.turns)

    def _concerns(self, turn_id: str) -> bool:
        """Whether a turn is open, or what the state is about."""
        return turn_id in [self.status.turn_id, *(turn.turn_id for turn in self.turns)]

    def _close(self, turn_ids: Sequence[str]) -> None:
        self.turns = [turn for turn in self.turns if turn.turn_id not in turn_ids]
        self.closed.update(turn_ids)

    def _settle(self, otherwise: Status = IDLE) -> None:
        mine = [turn for turn in self.turns if not turn.interrupted]
        if mine:
            self.status = Status("running", mine[-1].turn_id, True)
        elif self.turns:
            self.status = Status("interrupted", self.turns[-1].turn_id, True)
        else:
            self.status = otherwise

    # what is read of it

    def _newest(self, agent_id: str | None) -> int:
        rows = self.view(agent_id)
        return rows[-1].db_id if rows else 0

    def _whole(self, bound: int) -> int:
        candidates = [bound, *(row.db_id for row in self.rows if row.db_id < bound)]
        return max(bound for bound in candidates if not is_cut(self.rows, bound))

    def view(self, agent_id: str | None) -> list[Stored]:
        return [row for row in self.rows if agent_id is None or row.put.agent_id == agent_id]

    def select(
        self,
        agent_id: str | None,
        after: int | None,
        before: int | None,
        limit: int | None,
        newest: bool,
    ) -> list[Stored]:
        rows = self._between(agent_id, after, before)
        if limit is None:
            return rows
        return rows[max(0, len(rows) - limit) :] if newest else rows[:limit]

    def newest_turns(
        self, agent_id: str | None, after: int | None, before: int | None, limit: int
    ) -> list[Stored]:
        rows = self._between(agent_id, after, before)
        wholes = [rows[n:] for n, row in enumerate(rows) if not is_cut(rows, row.db_id)]
        fitting = [whole for whole in wholes if len(whole) <= limit]
        return (fitting[:1] or wholes[-1:] or [[]])[0] if limit else []

    def interrupted(self) -> list[Stored]:
        turns = {turn.turn_id for turn in self.turns if turn.interrupted}
        if self.status.state == "interrupted" and self.status.turn_id is not None:
            turns.add(self.status.turn_id)
        return [row for row in self.rows if row.put.turn in turns]

    def _between(self, agent_id: str | None, after: int | None, before: int | None) -> list[Stored]:
        return [
            row
            for row in self.view(agent_id)
            if (after is None or row.db_id > after) and (before is None or row.db_id < before)
        ]

    def latest(self, agent_id: str | None) -> tuple[list[Stored], int | None]:
        return self._chapter(agent_id, self.used + 1)

    def before(self, cursor: int, agent_id: str | None) -> tuple[list[Stored], int | None]:
        named = [r for r in self.view(agent_id) if r.db_id == cursor and r.put.is_checkpoint]
        return self._chapter(agent_id, start(named[0]) if named else cursor)

    def _chapter(self, agent_id: str | None, stop: int) -> tuple[list[Stored], int | None]:
        below = [row for row in self.view(agent_id) if row.db_id < stop]
        heads = [row for row in below if row.put.is_checkpoint]
        if not heads:
            return below, None
        head = heads[-1]
        rest = [row for row in below if row.db_id >= start(head) and row is not head]
        return [head, *rest], head.db_id


def nothing_yet(change: Change) -> Any:
    """What a change of a repeated batch comes to."""
    match change:
        case Edit() | DropLast():
            return False
        case Cut() | Drop() | Wipe() | Discard():
            return 0
    return None


def is_cut(rows: Sequence[Stored], bound: int) -> bool:
    """Whether a turn has rows on both sides of a bound."""
    below = {row.put.turn for row in rows if row.db_id < bound} - {None}
    return any(row.put.turn in below for row in rows if row.db_id >= bound)


def start(checkpoint: Stored) -> int:
    keep_from = checkpoint.put.keep_from
    return checkpoint.db_id if keep_from is None else keep_from
