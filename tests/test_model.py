"""A real session beside a plain model of one: whatever is done to both, they agree."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from changes import Copy, seen
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model import (
    Become,
    Change,
    Cut,
    Discard,
    Drop,
    DropLast,
    Edit,
    Finish,
    Model,
    Note,
    Place,
    Put,
    RefusedError,
    Status,
    Stored,
    Wipe,
)

from sessionactor import (
    Batch,
    Page,
    Row,
    Session,
    SessionNotFoundError,
    SessionRegistry,
    Turn,
)
from sessionactor.testing import memory_registry

AGENTS = st.sampled_from(["a", "b", "ü"])
KEYS = st.sampled_from(["k0", "k1", "k2", "k3"])
MESSAGES = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "summary"]),
        "content": st.sampled_from([0, 1, "needle", [True]]) | st.text(max_size=3),
    }
)
IDS = st.integers(-1, 40)
NEAR = st.integers(-1, 6)  # counted from the newest row down
PARENTS = st.sampled_from([None, "other/1", "s/2"])
TURN_IDS = st.sampled_from(["t1", "t2", "t3", "t4", "t5"])
TURNS = st.none() | TURN_IDS
CHECKPOINTS = st.sampled_from([None, True, False])
NONE = st.none()
PUTS = st.builds(Put, AGENTS, MESSAGES, NONE | KEYS, CHECKPOINTS, NONE, PARENTS, TURNS)
SUMMARIES = st.builds(
    Put, AGENTS, MESSAGES, NONE | KEYS, st.sampled_from([True, True, None]), IDS, NONE, NONE
)
TEXTS = st.none() | st.text("é0", max_size=2)
NOTES = st.builds(Note, st.dictionaries(st.sampled_from("xyz"), TEXTS, max_size=2))
PLACES = st.builds(
    Place,
    st.dictionaries(st.sampled_from(["channel_id", "room_id", "sender_id"]), TEXTS, max_size=2)
    | st.fixed_dictionaries({"agent_alias": TEXTS}),
)
EDITS = st.builds(Edit, IDS, MESSAGES) | st.builds(Edit, NONE, MESSAGES, NONE | AGENTS)
CUTS = st.builds(Cut, IDS, st.booleans())
REMOVALS = st.one_of(
    CUTS,
    st.builds(Drop, st.lists(IDS, max_size=4).map(tuple)),
    st.builds(DropLast, NONE | AGENTS),
    st.builds(DropLast, NONE | AGENTS),
    st.builds(Wipe),
)
STATES = st.one_of(
    st.builds(Become, st.sampled_from(["running", "running", "error", "idle"]), TURNS),
    st.builds(Finish, TURN_IDS),
    st.builds(Discard, TURN_IDS),
)
OTHERS = st.one_of(EDITS, EDITS, REMOVALS, NOTES, PLACES, STATES)
CHANGES = st.lists(PUTS | PUTS | SUMMARIES | OTHERS, max_size=6)
EXPECTED = st.sampled_from([None, None, "right", "wrong"])


class SessionMachine(RuleBasedStateMachine):
    """Does everything that a caller can do to one session, to the session and the model."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Model("first")
        self.known = {0: self.model.snapshot()}
        self.turns: dict[str, Turn] = {}
        self.other_rows = 0
        self.registry = self.new_registry()
        self.do(self.registry.open())
        self.session: Session = self.do(self.registry.start("s", name=self.model.name))
        self.do(self.registry.start("other", name="other"))

    def new_registry(self) -> SessionRegistry:
        raise NotImplementedError

    def teardown(self) -> None:
        for revision in self.known:
            self.follow_from(revision)
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
            refusal: Any = answer
            assert expected.actual is None or refusal.actual == expected.actual
            assert refusal.session_id == "s"
        else:
            assert answer == expected

    def expectation(self, choice: str | None, actual: int) -> int | None:
        return None if choice is None else actual if choice == "right" else actual + 1

    def put(self, put: Put, expected_head: int | None = None) -> Awaitable[int]:
        return asked_to_put(put, self.session, expected_head)

    async def batch(
        self, changes: Sequence[Change], head: int | None = None, revision: int | None = None
    ) -> list[Any]:
        async with self.session.batch(expected_head=head, expected_revision=revision) as batch:
            for change in changes:
                add(change, batch)
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

    @rule(change=OTHERS)
    def change_something(self, change: Change) -> None:
        self.agree(asked(change, self.session), lambda: self.model.change([change])[0])

    @precondition(lambda self: self.model.rows)
    @rule(back=NEAR, how=st.sampled_from([Cut, partial(Cut, whole_turns=True), Drop, Edit]))
    def change_something_recent(self, back: int, how: Any) -> None:
        db_id = self.model.head - back
        change = (
            Edit(db_id, {"role": "user"}) if how is Edit
            else how((db_id, db_id - 2) if how is Drop else db_id)
        )  # fmt: skip
        self.change_something(change)

    @rule(turn_id=TURN_IDS, agent_id=AGENTS)
    def begin_a_turn(self, turn_id: str, agent_id: str) -> None:
        turn = self.session.turn(turn_id, agent_id=agent_id)
        (answer,) = self.do(gathered(turn.__aenter__()))
        self.compare(
            None if answer is turn else answer, lambda: self.model.begin(turn_id, agent_id)
        )
        if answer is turn:
            self.turns[turn_id] = turn

    @rule(agent_id=AGENTS, messages=st.lists(MESSAGES, max_size=3))
    def work_in_a_new_turn(self, agent_id: str, messages: list[dict[str, Any]]) -> None:
        turn_id = f"t{self.model.revision + 10}"
        self.begin_a_turn(turn_id, agent_id)
        if turn_id in self.turns:
            puts = [Put(agent_id, message, turn=turn_id) for message in messages]
            self.agree(self.turns[turn_id].extend(messages), lambda: self.model.change(puts))

    @precondition(lambda self: self.model.status.state == "interrupted")
    @rule(data=st.data(), how=st.sampled_from([Finish, Discard]))
    def handle_an_interrupted_turn(self, data: st.DataObject, how: Any) -> None:
        by_hand = self.model.status.turn_id or "none"
        turns = [turn.turn_id for turn in self.model.turns] or [by_hand]
        self.change_something(how(data.draw(st.sampled_from(turns))))

    @precondition(lambda self: self.turns)
    @rule(data=st.data(), message=MESSAGES)
    def append_in_a_turn(self, data: st.DataObject, message: dict[str, Any]) -> None:
        turn = data.draw(st.sampled_from(sorted(self.turns.values(), key=lambda t: t.turn_id)))
        put = Put(turn.agent_id, message, turn=turn.turn_id)
        self.agree(turn.append(message), lambda: self.model.change([put])[0])

    @precondition(lambda self: self.turns)
    @rule(data=st.data(), failed=st.booleans())
    def end_a_turn(self, data: st.DataObject, failed: bool) -> None:
        turn = self.turns.pop(data.draw(st.sampled_from(sorted(self.turns))))
        error = ValueError("failed") if failed else None
        self.do(turn.__aexit__(type(error) if error else None, error, None))
        self.model.end(turn.turn_id, failed=failed)

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
        if how["newest"] and how["limit"] is not None:
            whole = self.do(self.session.messages(**how, whole_turns=True))
            del how["newest"]
            assert seen(whole) == self.model.newest_turns(**how)

    @rule(agent_id=st.none() | AGENTS, cursor=IDS)
    def read_chapter_before(self, agent_id: str | None, cursor: int) -> None:
        page = self.do(self.session.messages_before_checkpoint(cursor, agent_id=agent_id))
        assert seen_page(page) == self.model.before(cursor, agent_id)

    @rule(agent_id=st.none() | AGENTS)
    def read_all_chapters(self, agent_id: str | None) -> None:
        pages = self.do(collected(self.session.chapters(agent_id=agent_id)))
        ids = sorted(row.db_id for page in pages for row in page.rows)
        assert ids == [row.db_id for row in self.model.view(agent_id)]

    @rule(since=st.integers(0, 10))
    def catch_up(self, since: int) -> None:
        """With the changes after a revision, a copy from then is as the session is now."""
        self.follow_from(max(self.known.keys() & range(max(0, self.model.revision - since) + 1)))

    def follow_from(self, revision: int) -> None:
        copied = Copy(self.known[revision])
        self.do(copied.follow(self.registry, "s", revision))
        assert copied.snapshot == self.model.snapshot()

    @rule(put=PUTS, turns=st.integers(0, 12), again=st.booleans())
    def cancel_an_append(self, put: Put, turns: int, again: bool) -> None:
        revision = self.model.revision
        answer = self.do(cancelled_after(turns, self.put(put)))
        if answer is not None:
            self.compare(answer, lambda: self.model.change([put])[0])
        elif self.do(self.session.revision()) > revision:
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
        self.model.rename(f"name-{number}")
        self.do(self.session.rename(f"name-{number}"))

    @rule(before=st.none() | IDS, whole_turns=st.booleans(), put=PUTS)
    def fork(self, before: int | None, whole_turns: bool, put: Put) -> None:
        forked = self.do(self.session.fork("f", before=before, whole_turns=whole_turns))
        model = self.model.fork(("s", "f"), before, whole_turns)
        rows, metadata, info = self.do(
            gathered(forked.messages(), forked.get_metadata(), forked.info())
        )
        assert seen(rows) == model.rows
        assert metadata == model.metadata
        assert {name: getattr(info, name) for name in model.context} == model.context
        assert (info.state, info.message_count) == ("idle", len(model.rows))
        assert info.revision == model.revision
        assert info.parent == f"s/{model.head}"
        put = put._replace(turn=None)
        (answer,) = self.do(gathered(asked_to_put(put, forked)))
        expected = outcome(lambda: model.change([put])[0])
        assert answer == expected or type(answer) is getattr(expected, "kind", None)
        assert self.do(self.registry.delete("f")) is True

    @rule()
    def look_into_the_catalog(self) -> None:
        self.do(self.session.flush())
        listed = self.do(self.registry.sessions(name=self.model.name))
        info = self.do(self.session.info())
        assert [one._replace(active=True) for one in listed.sessions] == [
            info._replace(active=True)
        ]
        hits = self.do(self.registry.search("needle", session_id="s", limit=99))
        found = [row.db_id for row in self.model.rows if row.put.message.get("content") == "needle"]
        assert sorted(hit.db_id for hit in hits) == found

    @precondition(lambda self: self.model.used > 10)
    @rule()
    def delete_and_create(self) -> None:
        assert self.do(self.registry.delete("s")) is True
        (gone,) = self.do(gathered(self.session.revision()))
        assert isinstance(gone, SessionNotFoundError)
        self.model = Model(self.model.name)
        self.known, self.turns = {}, {}
        assert self.do(self.registry.start("s", name=self.model.name)) is self.session

    @invariant()
    def all_that_can_be_seen_is_as_in_the_model(self) -> None:
        session, model = self.session, self.model
        revision, rows, metadata, latest, latest_of_a, info, interrupted, head, newest, of_b = (
            self.do(
                gathered(
                    session.revision(),
                    session.messages(),
                    session.get_metadata(),
                    session.messages_from_latest_checkpoint(),
                    session.messages_from_latest_checkpoint(agent_id="a"),
                    session.info(),
                    session.interrupted_turn(),
                    session.head(),
                    session.messages(limit=3, newest=True),
                    session.messages(limit=2, newest=True, agent_id="b"),
                )
            )
        )
        assert revision == info.revision == model.revision
        assert seen(rows) == model.rows
        assert all(one.inserted_at <= later.inserted_at for one, later in pairwise(rows))
        assert all(row.updated_at is None or row.updated_at >= row.inserted_at for row in rows)
        assert metadata == model.metadata
        assert seen_page(latest) == model.latest(None)
        assert seen_page(latest_of_a) == model.latest("a")
        assert seen(interrupted) == model.interrupted()
        assert seen_one(head) == model.rows[-1:]
        assert seen(newest) == model.rows[-3:]
        assert seen(of_b) == model.view("b")[-2:]
        assert info.message_count == len(rows)
        assert {name: getattr(info, name) for name in model.context} == model.context
        dated = info.turn_started_at is not None
        assert Status(info.state, info.turn_id, dated) == model.status
        assert session.name == info.name == model.name
        assert self.registry.statistics().active <= 1
        self.known[revision] = model.snapshot()


class DiskMachine(SessionMachine):
    def new_registry(self) -> SessionRegistry:
        self.directory = tempfile.TemporaryDirectory()
        return SessionRegistry(self.directory.name, max_active=1)

    @rule()
    def reopen_the_registry(self) -> None:
        """Another owner takes over: what was running is interrupted."""
        self.do(self.registry.aclose())
        self.do(self.registry.open())
        self.session = self.registry.session("s")
        self.turns = {}
        self.model.crash()

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


def asked_to_put(put: Put, session: Session, expected_head: int | None = None) -> Awaitable[int]:
    return session.append(put.agent_id, put.message, expected_head=expected_head,
        key=put.key, checkpoint=put.checkpoint, keep_from=put.keep_from,
        parent=put.parent, turn=put.turn,
    )  # fmt: skip


def add(change: Change, batch: Batch) -> None:
    """Ask a batch for a change."""
    if isinstance(change, Put):
        batch.append(change.agent_id, change.message, key=change.key,
            checkpoint=change.checkpoint, keep_from=change.keep_from,
            parent=change.parent, turn=change.turn,
        )  # fmt: skip
    else:
        asked(change, batch)


def asked(change: Change, of: Session | Batch) -> Any:
    """Ask for a change: the call, or what a batch says at once."""
    match change:
        case Note(items):
            return of.save_metadata(items)
        case Place(items):
            if "agent_alias" in items:
                return of.set_agent_alias(items["agent_alias"])
            return of.set_context(**items)
        case Become(state, turn_id):
            name: Any = state
            return of.set_state(name, turn_id)
        case Finish(turn_id):
            return of.finish_turn(turn_id)
        case Discard(turn_id):
            return of.discard_turn(turn_id)
    return asked_to_rewrite(change, of)


def asked_to_rewrite(change: Change, of: Session | Batch) -> Any:
    match change:
        case Edit(None, message, agent_id):
            return of.update_last(message, agent_id=agent_id)
        case Edit(int(db_id), message):
            return of.update(db_id, message)
        case Cut(first_id, whole_turns):
            return of.truncate_from(first_id, whole_turns=whole_turns)
        case Drop(db_ids):
            return of.remove(db_ids)
        case DropLast(agent_id):
            return of.remove_last(agent_id=agent_id)
        case Wipe():
            return of.clear()
    raise AssertionError(change)


def seen_one(row: Row | None) -> list[Stored]:
    return [] if row is None else seen([row])


def seen_page(page: Page) -> tuple[list[Stored], int | None]:
    return seen(page.rows), page.checkpoint_id


@pytest.mark.parametrize(("machine", "examples"), [(DiskMachine, 90), (MemoryMachine, 50)])
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
