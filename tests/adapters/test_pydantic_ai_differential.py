"""The same calls, answered by Pydantic AI's own store in memory and by ours.

Known differences, none of which can be seen through the calls that are made here:

- Another message under an entry's id: in memory it replaces the first one; ours keeps that, for
  forks and ratings point at it.
- An entry that no history reaches any more: in memory it goes with the next deletion of any
  conversation, ours goes with its own conversation.
- A new entry that follows one that there is not: in memory it is stored, and its history cannot be
  read; ours refuses it with `ConversationConflict`.
- Objects of no known type in a message: in memory kept, ours as JSON, as stores on disk do.
"""

from __future__ import annotations

import asyncio
import itertools
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, NamedTuple

from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.usage import RunUsage

from sessionactor import SessionRegistry
from sessionactor.adapters.pydantic_ai import ActorConversationStore

NOW = datetime(2026, 11, 20, tzinfo=UTC)


class Call(NamedTuple):
    what: str
    conversation: str = "a"
    other: str = "b"
    number: int | None = None
    which: int = 0
    scope: str | None = None
    new_scope: str | None = None


NAMES = st.sampled_from([*"aaaaaa", "b", "a/b %", "ü"])
SCOPES = st.sampled_from([*[None] * 8, "ada", ""])
WHAT = [
    *["say"] * 6, "say stale", "rewrite", "new", "load", "window", "entries", "list",
    "list some", "branch", "branch from", "fork", "fork from", "delete", "entry", "resave",
]  # fmt: skip
CALLS = st.lists(
    st.builds(
        Call,
        st.sampled_from(WHAT),
        NAMES,
        NAMES,
        st.sampled_from([1, 2, 0, None, -1, 3]),
        st.integers(0, 9),
        SCOPES,
        SCOPES,
    ),
    min_size=4,
    max_size=25,
).map(lambda calls: [Call("new", which=2), *calls])


def says(text: str, number: int) -> ModelMessage:
    if number % 2:
        return ModelResponse(parts=[TextPart(text)], timestamp=NOW)
    return ModelRequest(parts=[UserPromptPart(text, timestamp=NOW)])


class Caller:
    """Makes the calls of one store, and writes down what came of them, with ids made equal."""

    def __init__(self, store: ConversationStore) -> None:
        self._store = store
        self._numbers = itertools.count(1)
        self._held: dict[str, list[Conversation]] = {}
        self._ids: dict[str, int] = {}
        self._order: list[str] = []

    async def answers(self, calls: list[Call]) -> list[Any]:
        return [await self._answer(call) for call in calls]

    async def _answer(self, call: Call) -> Any:
        try:
            return await self._called(call)
        except (UserError, LookupError) as error:
            said = str(error)
            for entry_id, number in self._ids.items():
                said = said.replace(entry_id, str(number))
            return f"{type(error).__name__}: {said}"

    async def _called(self, call: Call) -> Any:
        store, name, scope = self._store, call.conversation, call.scope
        held = self._held.setdefault(name, [])
        if call.what in ("say", "say stale", "rewrite", "resave", "new"):
            return await self._saved(call, held)
        if call.what in ("load", "window"):
            limit = call.number if call.what == "window" else None
            loaded = await store.load(name, limit=limit, scope=scope)
            held += [loaded] if loaded else []
            return self._conversation(loaded)
        if call.what == "entries":
            found = await store.load_entries(name, limit=call.number, scope=scope)
            return None if found is None else self._entries(found)
        if call.what.startswith("list"):
            limit = call.number if call.what == "list some" else None
            return list(map(self._record, await store.list_conversations(scope=scope, limit=limit)))
        if call.what == "delete":
            return await store.delete(name, scope=scope)
        if call.what == "entry":
            if not self._order:
                return "no entries"
            wanted = self._order[call.which % len(self._order)]
            reached = {entry.id for entry in await self._all()}
            return self._entries([await store.read_entry(wanted)]) if wanted in reached else None
        from_entry = None
        if call.what.endswith("from") and self._order:
            from_entry = self._order[call.which % len(self._order)]
        at = None if from_entry else call.number
        if call.what.startswith("branch"):
            current = held[0] if call.which == 9 and held else await store.load(name)
            revision = current.revision if current else None
            branched = await store.branch(
                name, at=at, from_entry=from_entry, expected_revision=revision, scope=scope
            )
            held.append(branched)
            return self._conversation(branched)
        forked = await store.fork(
            name,
            at=at,
            from_entry=from_entry,
            new_conversation_id=call.other,
            scope=call.new_scope,
            source_scope=scope,
        )
        self._held.setdefault(call.other, []).append(forked)
        return self._conversation(forked)

    async def _saved(self, call: Call, held: list[Conversation]) -> Any:
        if call.what == "new" or not held or (call.what != "say stale" and call.which == 9):
            conversation = Conversation(conversation_id=call.conversation)
            held.append(conversation)
        elif call.what == "say stale":
            conversation = held[call.which % len(held)]
        elif call.what == "resave":
            conversation = held[-1]
        else:
            conversation = await self._store.load(call.conversation) or held[-1]
            held.append(conversation)
        if call.what == "rewrite" and conversation.messages:
            conversation.messages = deepcopy(conversation.messages)
            conversation.messages[call.which % len(conversation.messages)] = says("rewritten", 0)
        if call.what != "resave":
            number = next(self._numbers)
            conversation.messages = [
                *conversation.messages,
                *(says(f"{call.what} {number}", turn) for turn in range(1 + call.which % 3)),
            ]
            conversation.usage += RunUsage(requests=1, input_tokens=number)
        saved = await self._store.save(conversation, scope=call.scope)
        return self._entries(saved), self._conversation(conversation)

    async def _all(self) -> list[ConversationEntry]:
        found = []
        for record in await self._store.list_conversations():
            for tip in (record.head_id, *record.branches):
                found += await self._store.read_history(tip)
        return found

    def _id(self, entry_id: str | None) -> int | None:
        if entry_id is None:
            return None
        if entry_id not in self._ids:
            self._order.append(entry_id)
        return self._ids.setdefault(entry_id, len(self._ids))

    def _entries(self, found: list[ConversationEntry]) -> Any:
        return [(self._id(one.id), self._id(one.parent_id), one.message, one.kind) for one in found]

    def _conversation(self, found: Conversation | None) -> Any:
        return None if found is None else (deepcopy(found.messages), deepcopy(found.usage),
            found.conversation_id, found.deferred_tool_requests)  # fmt: skip

    def _record(self, found: ConversationRecord) -> Any:
        ids = [self._id(one) for one in (found.head_id, found.forked_at, *found.branches)]
        return ids, found.conversation_id, found.usage, found.scope, found.forked_from


@settings(max_examples=150)
@given(CALLS)
def test_as_the_store_in_memory(asked: list[Call]) -> None:
    async def both() -> tuple[list[Any], list[Any]]:
        expected = await Caller(InMemoryConversationStore()).answers(asked)
        async with SessionRegistry(None) as registry, ActorConversationStore(registry) as ours:
            return expected, await Caller(ours).answers(asked)

    expected, answers = asyncio.run(both())
    for call, one, other in zip(asked, expected, answers, strict=True):
        assert other == one, call
        note(f"{call.what}: {one if isinstance(one, str) else 'answered'}"[:50])
