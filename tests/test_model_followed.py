"""The state machine of a session with subscribers: each knows at any time what the model knows."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from changes import seen
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from model import Note, Snapshot, Status
from test_model import DiskMachine, MemoryMachine, SessionMachine

from sessionactor import (
    Appended,
    Cleared,
    Deleted,
    Event,
    MetadataChanged,
    RegistryClosedError,
    Removed,
    Renamed,
    StateChanged,
    Subscription,
    Truncated,
    Updated,
)


class Follower:
    """A subscription, and the session as its events tell of it."""

    def __init__(self, subscription: Subscription, since: int, known: dict[int, Snapshot]) -> None:
        self.known = known
        self._subscription = subscription
        self._revision = since
        self.snapshot = known[since]._replace(
            rows=dict(known[since].rows),
            metadata=dict(known[since].metadata),
            context=dict(known[since].context),
        )

    async def take(self, marker: str) -> Event | None:
        """Follow until the metadata has a marker: that event, the last one, or `None`."""
        with suppress(RegistryClosedError):  # it had not told all of the past by then
            async for event in self._subscription:
                assert event.revision >= self._revision
                self._revision = event.revision
                self._apply(event)
                if isinstance(event, Deleted) or self.snapshot.metadata.get("marker") == marker:
                    return event
        return None

    def _apply(self, event: Event) -> None:
        match event:
            case Renamed(_, name):
                self.snapshot = self.snapshot._replace(name=name)
            case MetadataChanged(_, metadata, context):
                self.snapshot.metadata.update(metadata)
                self.snapshot.context.update(context)
            case StateChanged(_, state, turn_id, at):
                status = Status(state, turn_id, at is not None)
                self.snapshot = self.snapshot._replace(status=status)
            case Deleted():
                pass
            case _:
                self._apply_to_rows(event, self.snapshot.rows)

    def _apply_to_rows(self, event: Event, rows: dict[int, Any]) -> None:
        match event:
            case Appended(_, row):
                assert row.db_id not in rows
                (rows[row.db_id],) = seen([row])
            case Updated(_, row):
                assert row.db_id in rows
                (rows[row.db_id],) = seen([row])
            case Removed(_, db_ids):
                for db_id in db_ids:
                    rows.pop(db_id, None)
            case Truncated() | Cleared():
                first_id = event.from_db_id if isinstance(event, Truncated) else 0
                for db_id in [db_id for db_id in rows if db_id >= first_id]:
                    del rows[db_id]
            case _:
                raise AssertionError(event)


class FollowedMachine(SessionMachine):
    def __init__(self) -> None:
        self.followers: list[Follower] = []
        self.markers = 0
        super().__init__()
        self.follow(None)

    @precondition(lambda self: len(self.followers) < 3 and self.model.revision in self.known)
    @rule(since=st.none() | st.integers(0, 10))
    def subscribe(self, since: int | None) -> None:
        self.follow(since)

    def follow(self, since: int | None) -> None:
        newest = self.model.revision
        if since is None:
            follower = Follower(self.session.subscribe(), newest, self.known)
        else:
            revision = max(self.known.keys() & range(max(0, newest - since) + 1))
            subscription = self.session.subscribe(since=revision)
            follower = Follower(subscription, revision, self.known)
        self.followers.append(follower)

    @precondition(lambda self: self.followers)
    @rule()
    def ask_who_follows(self) -> None:
        self.markers += 1
        marker = str(self.markers)
        self.change_something(Note({"marker": marker}))
        remaining = []
        for follower in self.followers:
            last = self.do(follower.take(marker))
            if last is None:  # the registry was closed meanwhile
                assert isinstance(self, DiskMachine)
                assert follower.snapshot in follower.known.values()
            elif isinstance(last, Deleted):
                assert follower.known is not self.known
            else:
                assert follower.snapshot == self.model.snapshot()
                remaining.append(follower)
        self.followers = remaining

    def teardown(self) -> None:
        if self.followers:
            self.ask_who_follows()
        following = self.followers
        super().teardown()
        assert all(follower.snapshot == self.model.snapshot() for follower in following)


class FollowedOnDisk(FollowedMachine, DiskMachine):
    pass


class FollowedInMemory(FollowedMachine, MemoryMachine):
    pass


@pytest.mark.parametrize(("machine", "examples"), [(FollowedOnDisk, 25), (FollowedInMemory, 60)])
def test_who_follows_a_session_knows_what_its_model_knows(
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
