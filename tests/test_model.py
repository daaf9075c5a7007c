"""A real session beside a plain model of one: whatever is done to both, they agree."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sessionactor import (
    IdempotencyError,
    InvalidValueError,
    Page,
    Row,
    Session,
    SessionNotFoundError,
    SessionRegistry,
    StaleHeadError,
    StaleRevisionError,
)
from sessionactor.testing import memory_registry


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
        return self.message["role"] == "summary"


class Cut(NamedTuple):
    """A truncation."""

    first_id: int


class Note(NamedTuple):
    """Metadata to merge."""

    items: dict[str, str | None]


Change = Put | Cut | Note


class Stored(NamedTuple):
    """A row, as a reader sees it."""

    db_id: int
    put: Put
    revision: int


class RefusedError(Exception):
    """What a session refuses, by the class of its error and the actual value that it tells."""

    def __init__(self, kind: type[Exception], actual: int | None = None) -> None:
        super().__init__(kind.__name__, actual)
        self.kind = kind
        self.actual = actual


@dataclass
class Model:
    """A session by the book: lists and dictionaries, no cleverness."""

    rows: list[Stored] = field(default_factory=list)
    used: int = 0
    revision: int = 0
    keys: dict[str, tuple[int, str, dict[str, Any]]] = field(default_factory=dict)
    metadata: dict[str, str | None] = field(default_factory=dict)

    @property
    def head(self) -> int:
        return self.rows[-1].db_id if self.rows else 0

    def change(
        self, changes: Sequence[Change], head: int | None = None, revision: int | None = None
    ) -> list[int | None]:
        """Do all of it or raise `RefusedError`: what each change comes to."""
        puts = [change for change in changes if isinstance(change, Put)]
        if any(put.keep_from is not None and not put.is_checkpoint for put in puts):
            raise RefusedError(InvalidValueError)
        ids = self._ids(puts)
        new = [db_id for db_id in ids if db_id > self.used]
        if ids and not new:  # all of it happened before
            known = iter(ids)
            return [
                next(known) if isinstance(one, Put) else 0 if isinstance(one, Cut) else None
                for one in changes
            ]
        if head is not None and head != self.head:
            raise RefusedError(StaleHeadError, self.head)
        if revision is not None and revision != self.revision:
            raise RefusedError(StaleRevisionError, self.revision)
        for db_id, put in zip(ids, puts, strict=True):
            if db_id > self.used and put.keep_from is not None and not 1 <= put.keep_from <= db_id:
                raise RefusedError(InvalidValueError)
        return self._carry_out(changes, iter(ids))

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

    def _carry_out(self, changes: Sequence[Change], ids: Any) -> list[int | None]:
        answers: list[int | None] = []
        revision, changed = self.revision + 1, False
        for change in changes:
            if isinstance(change, Put):
                db_id = next(ids)
                answers.append(db_id)
                if db_id > self.used:
                    changed, self.used = True, db_id
                    stored = change._replace(checkpoint=change.is_checkpoint)
                    self.rows.append(Stored(db_id, stored, revision))
                    if change.key is not None:
                        self.keys[change.key] = (db_id, change.agent_id, change.message)
            elif isinstance(change, Cut):
                kept = [row for row in self.rows if row.db_id < change.first_id]
                answers.append(len(self.rows) - len(kept))
                changed = changed or len(kept) < len(self.rows)
                self.rows = kept
            else:
                answers.append(None)
                changed = changed or bool(change.items)
                self.metadata.update(change.items)
        self.revision += changed
        return answers

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
        rows = [
            row
            for row in self.view(agent_id)
            if (after is None or row.db_id > after) and (before is None or row.db_id < before)
        ]
        if limit is None:
            return rows
        return rows[max(0, len(rows) - limit) :] if newest else rows[:limit]

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


def start(checkpoint: Stored) -> int:
    keep_from = checkpoint.put.keep_from
    return checkpoint.db_id if keep_from is None else keep_from


AGENTS = st.sampled_from(["a", "b", "ü"])
KEYS = st.sampled_from(["k0", "k1", "k2", "k3"])
MESSAGES = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "summary"]),
        "content": st.integers(0, 3) | st.text(max_size=3) | st.tuples(st.booleans()),
    }
)
IDS = st.integers(-1, 40)
PARENTS = st.sampled_from([None, "other/1", "s/2"])
TURNS = st.sampled_from([None, "t1", "t2"])
CHECKPOINTS = st.sampled_from([None, True, False])
NONE = st.none()
PUTS = st.builds(Put, AGENTS, MESSAGES, NONE | KEYS, CHECKPOINTS, NONE, PARENTS, TURNS)
SUMMARIES = st.builds(
    Put, AGENTS, MESSAGES, NONE | KEYS, st.sampled_from([True, True, None]), IDS, NONE, NONE
)
NOTES = st.builds(
    Note, st.dictionaries(st.sampled_from("xyz"), st.none() | st.text("é0", max_size=2), max_size=2)
)
CUTS = st.builds(Cut, IDS)
CHANGES = st.lists(PUTS | SUMMARIES | CUTS | NOTES, max_size=5)
EXPECTED = st.sampled_from([None, None, "right", "wrong"])


class SessionMachine(RuleBasedStateMachine):
    """Does everything that a caller can do to one session, to the session and the model."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Model()
        self.other_rows = 0
        self.name = "first"
        self.registry = self.new_registry()
        self.do(self.registry.open())
        self.session: Session = self.do(self.registry.start("s", name=self.name))
        self.do(self.registry.start("other", name="other"))

    def new_registry(self) -> SessionRegistry:
        raise NotImplementedError

    def teardown(self) -> None:
        self.do(self.registry.aclose())
        self.runner.close()

    def do(self, call: Awaitable[Any]) -> Any:
        async def in_time() -> Any:
            async with asyncio.timeout(60):
                return await call

        return self.runner.run(in_time())

    def agree(self, call: Awaitable[Any], modelled: Callable[[], Any]) -> None:
        """Both return the same, or refuse for the same reason."""
        (answer,) = self.do(gathered(call))
        self.compare(answer, modelled)

    def compare(self, answer: Any, modelled: Callable[[], Any]) -> None:
        expected = outcome(modelled)
        if isinstance(expected, RefusedError):
            assert type(answer) is expected.kind
            assert expected.actual is None or answer.actual == expected.actual
            assert answer.session_id == "s"
        else:
            assert answer == expected

    def expectation(self, choice: str | None, actual: int) -> int | None:
        return None if choice is None else actual if choice == "right" else actual + 1

    def put(self, put: Put, expected_head: int | None = None) -> Awaitable[int]:
        return self.session.append(put.agent_id, put.message, expected_head=expected_head,
            key=put.key, checkpoint=put.checkpoint, keep_from=put.keep_from,
            parent=put.parent, turn=put.turn,
        )  # fmt: skip

    async def batch(
        self, changes: Sequence[Change], head: int | None = None, revision: int | None = None
    ) -> list[Any]:
        async with self.session.batch(expected_head=head, expected_revision=revision) as batch:
            for change in changes:
                match change:
                    case Put():
                        batch.append(change.agent_id, change.message, key=change.key,
                            checkpoint=change.checkpoint, keep_from=change.keep_from,
                            parent=change.parent, turn=change.turn,
                        )  # fmt: skip
                    case Cut(first_id):
                        batch.truncate_from(first_id)
                    case Note(items):
                        batch.save_metadata(items)
        return batch.results

    @rule(put=PUTS | SUMMARIES, expected=EXPECTED)
    def append(self, put: Put, expected: str | None) -> None:
        head = self.expectation(expected, self.model.head)
        self.agree(self.put(put, head), lambda: self.model.change([put], head)[0])

    @rule(puts=st.lists(PUTS, max_size=5), keyed=st.booleans(), expected=EXPECTED)
    def extend(self, puts: list[Put], keyed: bool, expected: str | None) -> None:
        head = self.expectation(expected, self.model.head)
        plain = [Put("a", put.message, put.key if keyed else None, turn="t") for put in puts]
        call = self.session.extend("a", [put.message for put in plain], turn="t",
            keys=[put.key for put in plain] if keyed else None, expected_head=head,
        )  # fmt: skip
        self.agree(call, lambda: self.model.change(plain, head))

    @rule(changes=CHANGES, head=EXPECTED, revision=EXPECTED)
    def change_at_once(self, changes: list[Change], head: str | None, revision: str | None) -> None:
        expected_head = self.expectation(head, self.model.head)
        expected_revision = self.expectation(revision, self.model.revision)
        self.agree(
            self.batch(changes, expected_head, expected_revision),
            lambda: self.model.change(changes, expected_head, expected_revision),
        )

    @rule(groups=st.lists(CHANGES, min_size=2, max_size=6))
    def many_change_together(self, groups: list[list[Change]]) -> None:
        answers = self.do(gathered(*map(self.batch, groups)))
        for changes, answer in zip(groups, answers, strict=True):
            self.compare(answer, partial(self.model.change, changes))

    @rule(cut=CUTS)
    def truncate(self, cut: Cut) -> None:
        call = self.session.truncate_from(cut.first_id)
        self.agree(call, lambda: self.model.change([cut])[0])

    @rule(note=NOTES)
    def save_metadata(self, note: Note) -> None:
        self.agree(self.session.save_metadata(note.items), lambda: self.model.change([note])[0])

    @rule(db_id=IDS, key=KEYS)
    def get(self, db_id: int, key: str) -> None:
        by_id = [row for row in self.model.rows if row.db_id == db_id]
        assert seen_one(self.do(self.session.get(db_id))) == by_id
        first_use = self.model.keys.get(key, (0,))[0]
        by_key = [row for row in self.model.rows if row.db_id == first_use]
        assert seen_one(self.do(self.session.get(key=key))) == by_key

    @rule(
        agent_id=st.none() | AGENTS,
        after=st.none() | IDS,
        before=st.none() | IDS,
        limit=st.none() | st.integers(0, 5),
        newest=st.booleans(),
    )
    def read(self, **how: Any) -> None:
        expected = self.model.select(**how)
        assert seen(self.do(self.session.messages(**how))) == expected
        assert seen(self.do(collected(self.session.stream(**how)))) == expected

    @rule(agent_id=st.none() | AGENTS, cursor=IDS)
    def read_chapter_before(self, agent_id: str | None, cursor: int) -> None:
        page = self.do(self.session.messages_before_checkpoint(cursor, agent_id=agent_id))
        assert seen_page(page) == self.model.before(cursor, agent_id)

    @rule(agent_id=st.none() | AGENTS)
    def read_all_chapters(self, agent_id: str | None) -> None:
        pages = self.do(collected(self.session.chapters(agent_id=agent_id)))
        ids = sorted(row.db_id for page in pages for row in page.rows)
        assert ids == [row.db_id for row in self.model.view(agent_id)]

    @rule(put=PUTS, turns=st.integers(0, 12), again=st.booleans())
    def cancel_an_append(self, put: Put, turns: int, again: bool) -> None:
        answer = self.do(cancelled_after(turns, self.put(put)))
        if answer is not None:
            self.compare(answer, lambda: self.model.change([put])[0])
        elif self.do(self.session.messages(after=self.model.used)):
            # It was accepted, and so carried out before what was asked later.
            self.model.change([put])
        if again and put.key is not None:
            self.append(put, None)

    @rule()
    def stop(self) -> None:
        assert self.do(self.registry.stop("s")) in (True, False)

    @rule(gathering=st.booleans(), put=PUTS)
    def use_another_session(self, gathering: bool, put: Put) -> None:
        self.other_rows += 1
        other = self.registry.session("other").append("other", {"n": self.other_rows})
        if gathering:  # both want the one place for an open file
            mine, theirs = self.do(gathered(self.put(put), other))
            self.compare(mine, lambda: self.model.change([put])[0])
        else:
            theirs = self.do(other)
        assert theirs == self.other_rows

    @rule(number=st.integers(0, 2))
    def rename(self, number: int) -> None:
        self.model.revision += self.name != f"name-{number}"
        self.name = f"name-{number}"
        self.do(self.session.rename(self.name))

    @precondition(lambda self: self.model.used > 10)
    @rule()
    def delete_and_create(self) -> None:
        assert self.do(self.registry.delete("s")) is True
        (gone,) = self.do(gathered(self.session.revision()))
        assert isinstance(gone, SessionNotFoundError)
        self.model = Model()
        assert self.do(self.registry.start("s", name=self.name)) is self.session

    @invariant()
    def all_that_can_be_seen_is_as_in_the_model(self) -> None:
        session = self.session
        revision, rows, metadata, latest, latest_of_a = self.do(
            gathered(
                session.revision(),
                session.messages(),
                session.get_metadata(),
                session.messages_from_latest_checkpoint(),
                session.messages_from_latest_checkpoint(agent_id="a"),
            )
        )
        assert revision == self.model.revision
        assert seen(rows) == self.model.rows
        assert all(one.inserted_at <= later.inserted_at for one, later in pairwise(rows))
        assert metadata == self.model.metadata
        assert seen_page(latest) == self.model.latest(None)
        assert seen_page(latest_of_a) == self.model.latest("a")
        assert session.name == self.name
        assert self.registry.statistics().active <= 1


class DiskMachine(SessionMachine):
    def new_registry(self) -> SessionRegistry:
        self.directory = tempfile.TemporaryDirectory()
        return SessionRegistry(self.directory.name, max_active=1)

    @rule()
    def reopen_the_registry(self) -> None:
        self.do(self.registry.aclose())
        self.do(self.registry.open())
        self.session = self.registry.session("s")

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


class MemoryMachine(SessionMachine):
    def new_registry(self) -> SessionRegistry:
        return memory_registry(max_active=1)


def outcome(modelled: Callable[[], Any]) -> Any:
    try:
        return modelled()
    except RefusedError as refused:
        return refused


async def gathered(*calls: Awaitable[Any]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def collected(items: Any) -> list[Any]:
    return [item async for item in items]


async def cancelled_after(turns: int, call: Awaitable[Any]) -> Any:
    """Cancel a call after some turns of the loop: its answer or error, `None` if there is none."""
    task = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    (answer,) = await gathered(task)
    return None if isinstance(answer, asyncio.CancelledError) else answer


def seen(rows: Sequence[Row]) -> list[Stored]:
    """Rows in the model's terms."""
    return [
        Stored(
            row.db_id,
            Put(row.agent_id, row.message, row.key, row.checkpoint, row.keep_from, row.parent,
                row.turn),
            row.revision,
        )
        for row in rows
    ]  # fmt: skip


def seen_one(row: Row | None) -> list[Stored]:
    return [] if row is None else seen([row])


def seen_page(page: Page) -> tuple[list[Stored], int | None]:
    return seen(page.rows), page.checkpoint_id


@pytest.mark.parametrize(("machine", "examples"), [(DiskMachine, 110), (MemoryMachine, 60)])
def test_a_session_does_what_its_model_does(
    machine: type[RuleBasedStateMachine], examples: int
) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
