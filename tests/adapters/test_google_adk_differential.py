"""The same calls, answered by ADK's own session services and by ours.

Known differences, none of which is generated here. What, theirs, ours, and why:

- A write by an object that is out of date. In memory: accepted; ours refuses it, as ADK's
  databases do, or two turns would be mixed.
- Another event of an id that was used. In memory: kept as well, database: `IntegrityError`;
  ours: `IdempotencyError`, for an id names one event.
- The same event again. Database: `IntegrityError`; ours stores it once, as in memory, so that a
  retry is safe.
- Events whose times go backwards. Database: read in the order of their times; ours: in the order
  in which they were appended, as in memory, for that was the conversation.
- An id with spaces around it. Database: kept; ours: stripped, as in memory and in ADK's service
  on SQLite.
- The object of an event that was refused. Database: its `temp:` state is set; ours: unchanged,
  for nothing happened.
- An object without events, of a session that was deleted and created again. Database: refused;
  ours: accepted, for no event is lost by it.
- Values that are not JSON. In memory: kept; ours: as text, as ADK's databases do.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Any, NamedTuple

from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.platform import time as platform_time
from google.adk.sessions import (
    BaseSessionService,
    DatabaseSessionService,
    InMemorySessionService,
    Session,
)
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types
from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st

from sessionactor import SessionRegistry
from sessionactor.adapters.google_adk import ActorSessionService

Names = tuple[str, str, str]


class Call(NamedTuple):
    what: str
    names: Names
    state: Mapping[str, Any] = MappingProxyType({})
    recent: int | None = None
    after: int | None = None
    partial: bool = False
    back: float = 0.0
    """So many seconds of the clock before now is an event's time."""


KEYS = st.sampled_from(
    ["k", "app:k", "user:k", "temp:k", 'q"\\', "ü\n", "app:", "state:k", "user:ü"]
)
VALUES = st.recursive(
    st.sampled_from([None, True, 2**70, 0.1, 1e300, -0.0, "", "aü\0\"'"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)
STATES = st.dictionaries(KEYS, VALUES, max_size=3)
FIRST = ("app", "u", "s")
NAMES = st.sampled_from(
    [*[FIRST] * 6, ("app", "u", "app"), ("app", "Ü %", "s"), ("app", "u", "_"), ("a/b", "u", "s")]
)


def calls(*, stale: bool, back: bool) -> st.SearchStrategy[list[Call]]:
    appends = ["append", "append", "append again"] + ["append stale"] * stale
    what = st.sampled_from(
        [*appends * 2, "create", *["get"] * 5, "list", "list all", "delete", "user state"]
    )
    recent = st.none() | st.integers(0, 4)
    after = st.none() | st.integers(0, 15)
    behind = st.sampled_from([0.0, 0.0, 0.5, 3.0]) if back else st.just(0.0)
    partial = st.integers(0, 9).map(lambda number: number == 0)
    one = st.builds(Call, what, NAMES, STATES, recent, after, partial, behind)
    created = st.builds(Call, st.just("create"), st.just(FIRST), STATES)
    return st.builds(
        lambda first, rest: [first, *rest], created, st.lists(one, min_size=3, max_size=25)
    )


def seen(session: Session | None) -> Any:
    if session is None:
        return None
    events = [event.model_dump(mode="json", exclude_none=True) for event in session.events]
    return (session.app_name, session.user_id, session.id, deepcopy(session.state),
            session.last_update_time, events)  # fmt: skip


class Caller:
    """Makes the calls of one service, and writes down what came of them."""

    def __init__(self, service: BaseSessionService) -> None:
        self._service = service
        self._now = 0.0
        self._ids = itertools.count(1)
        self._held: dict[Names, list[Session]] = {}

    async def answers(self, calls: list[Call]) -> list[Any]:
        platform_time.set_time_provider(lambda: self._now)
        try:
            return [await self._answer(number, call) for number, call in enumerate(calls, 1)]
        finally:
            platform_time.reset_time_provider()

    async def _answer(self, number: int, call: Call) -> Any:
        self._now = float(number)
        try:
            return await self._called(call)
        except (ValueError, LookupError) as error:  # ADK's errors are those, or Exception itself
            return type(error).__name__
        except Exception as error:
            if type(error).__name__ != "AlreadyExistsError":
                raise
            return str(error)

    async def _called(self, call: Call) -> Any:
        app, user, session_id = call.names
        where = {"app_name": app, "user_id": user}
        held = self._held.setdefault(call.names, [])
        if call.what == "create":
            made = await self._service.create_session(
                **where, session_id=session_id, state=dict(call.state)
            )
            held[:] = [made]
            return seen(made)
        if call.what == "get":
            after = None if call.after is None else float(call.after)
            config = GetSessionConfig(num_recent_events=call.recent, after_timestamp=after)
            got = await self._service.get_session(**where, session_id=session_id, config=config)
            held += [got] if got else []
            return seen(got)
        if call.what.startswith("append"):
            if call.what == "append" or not held:
                got = await self._service.get_session(**where, session_id=session_id)
                held += [got] if got else []
            if not held:
                return "nobody to append to"
            session = held[0] if call.what == "append stale" else held[-1]
            return await self._append(session, call)
        if call.what == "list":
            return [seen(one) for one in (await self._service.list_sessions(**where)).sessions]
        if call.what == "list all":
            found = await self._service.list_sessions(app_name=app)
            return [seen(one) for one in found.sessions]
        if call.what == "delete":
            return await self._service.delete_session(**where, session_id=session_id)
        return await self._service.get_user_state(**where)

    async def _append(self, session: Session, call: Call) -> Any:
        number = next(self._ids)
        event = Event(
            id=f"e{number}",
            author=call.names[1],
            invocation_id=f"i{number // 2}",
            content=types.Content(role="user", parts=[types.Part(text=f"text {number}")]),
            actions=EventActions(state_delta=dict(call.state)),
            partial=call.partial or None,
        )
        event.timestamp -= call.back
        try:
            given = await self._service.append_event(session, event)
        except ValueError:
            held = self._held[call.names]
            held[:] = [one for one in held if one is not session]
            raise
        assert given is event
        return seen(session)


def compare(theirs: Callable[[], BaseSessionService], asked: list[Call]) -> None:
    async def both() -> tuple[list[Any], list[Any]]:
        async with SessionRegistry(None) as registry, ActorSessionService(registry) as ours:
            service = theirs()
            try:
                expected = await Caller(service).answers(asked)
            finally:
                if isinstance(service, DatabaseSessionService):
                    await service.close()
            return expected, await Caller(ours).answers(asked)

    expected, answers = asyncio.run(both())
    for call, one, other in zip(asked, expected, answers, strict=True):
        assert other == one, call
        note(f"{call.what}: {one if isinstance(one, str) else 'answered'}"[:40])


def in_memory() -> BaseSessionService:
    return InMemorySessionService()


def database() -> BaseSessionService:
    return DatabaseSessionService("sqlite+aiosqlite:///:memory:")


@given(calls(stale=False, back=True))
def test_as_the_service_in_memory(asked: list[Call]) -> None:
    compare(in_memory, asked)


@given(calls(stale=True, back=False))
def test_as_the_service_on_a_database(asked: list[Call]) -> None:
    compare(database, asked)
