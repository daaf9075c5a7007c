"""What is promised of Pydantic AI's conversations beyond what its store in memory does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import (
    BinaryImage,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)
from pydantic_ai.tools import DeferredToolRequests

from sessionactor import SessionRegistry
from sessionactor.adapters.pydantic_ai import ActorConversationStore
from sessionactor.cli._messages import role_of, text

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def says(words: str, number: int = 0) -> ModelMessage:
    if number % 2:
        return ModelResponse(parts=[TextPart(words)], timestamp=NOW)
    return ModelRequest(parts=[UserPromptPart(words, timestamp=NOW)])


async def saved(store: ConversationStore, name: str, *words: str, **options: Any) -> Conversation:
    conversation = await store.load(name) or Conversation(conversation_id=name)
    start = len(conversation.messages)
    conversation.messages += [says(word, start + n) for n, word in enumerate(words)]
    await store.save(conversation, **options)
    return conversation


def words(conversation: Conversation | None) -> list[Any]:
    assert conversation is not None
    return [message.parts[0].content for message in conversation.messages]  # type: ignore[union-attr]


async def test_a_conversation_is_an_ordinary_session(tmp_path: Path) -> None:
    picture = BinaryImage(b"\0\xff", media_type="image/png")
    call = ToolCallPart("look_up", {"parcel": 7}, tool_call_id="c1")
    messages: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart(["Where is it?", picture], timestamp=NOW)]),
        ModelResponse(parts=[TextPart("I look."), call], timestamp=NOW),
        ModelRequest(parts=[ToolReturnPart("look_up", {"at": "home"}, "c1", timestamp=NOW)]),
    ]
    waiting = DeferredToolRequests(approvals=[call], metadata={"c1": {"why": "costs"}})
    async with SessionRegistry(tmp_path) as registry, ActorConversationStore(registry) as store:
        conversation = Conversation(
            messages=messages, conversation_id="trip", deferred_tool_requests=waiting
        )
        entries = await store.save(conversation, scope="ada")
        assert await store.load("trip") == conversation

        stored = registry.session("trip")
        rows = await stored.messages()
        assert [(row.agent_id, row.key, row.parent) for row in rows] == [
            (role, entry.id, entry.parent_id)
            for role, entry in zip(("user", "assistant", "tool"), entries, strict=True)
        ]
        assert [role_of(row.message) for row in rows] == ["user", "assistant", "tool"]
        assert text(rows[1].message).startswith("I look.")
        hits = [hit.db_id for hit in await registry.search("parcel 7")]
        assert hits == [2]
        assert [hit.db_id for hit in await registry.search("home")] == [3]
        assert (await stored.info()).room_id == "ada"


async def test_a_fork_needs_nothing_of_its_origin(tmp_path: Path) -> None:
    async with ActorConversationStore(tmp_path) as store:
        await saved(store, "a", "one", "two", "three", "four")
        fork = await store.fork("a", at=2, new_conversation_id="b")
        again = await store.fork("b", new_conversation_id="c")
        entries = {name: await store.load_entries(name) for name in ("a", "b", "c")}
        assert entries["a"] is not None
        assert entries["a"][:2] == entries["b"] == entries["c"]  # shared, ids and all
        await store.delete("a")
        await store.delete("b")
    assert {path.name[:2] for path in tmp_path.glob("*.db")} == {"c_"}
    async with ActorConversationStore(tmp_path) as store:
        assert words(await store.load("c")) == words(again) == words(fork) == ["one", "two"]
        await saved(store, "c", "other")
        assert words(await store.load("c", limit=2)) == ["two", "other"]


async def test_branches_stay_in_the_conversation(tmp_path: Path) -> None:
    async with ActorConversationStore(tmp_path) as store:
        first = await saved(store, "a", *(str(n) for n in range(1200)))
        branched = await store.branch("a", at=3, expected_revision=first.revision)
        branched.messages.append(says("other", 1))
        await store.save(branched)
    async with ActorConversationStore(tmp_path) as store:
        assert words(await store.load("a")) == ["0", "1", "2", "other"]
        (record,) = await store.list_conversations()
        (left,) = record.branches
        back = await store.branch("a", from_entry=left, expected_revision=record.revision)
        assert words(back) == [str(n) for n in range(1200)]
        assert words(await store.load("a", limit=700)) == [str(n) for n in range(500, 1200)]


async def test_a_deletion_that_was_decided_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> bool:
        raise RuntimeError("killed")

    async with ActorConversationStore(tmp_path) as store:
        await saved(store, "a", "one", scope="ada")
        with monkeypatch.context() as patched:
            patched.setattr(SessionRegistry, "delete", dies)
            with pytest.raises(RuntimeError, match="killed"):
                await store.delete("a")
    async with ActorConversationStore(tmp_path) as store:
        assert await store.load("a") is None
        assert await store.list_conversations() == []
        await saved(store, "a", "new")
        assert words(await store.load("a")) == ["new"]
        (record,) = await store.list_conversations()
        assert record.scope is None


async def test_an_entry_is_found_by_its_id_alone(tmp_path: Path) -> None:
    async with ActorConversationStore(tmp_path) as store:
        await saved(store, "a", "one")
        entries = await store.save(await saved(store, "b"))
        assert entries == []
        (entry,) = await store.load_entries("a") or []
    async with ActorConversationStore(tmp_path) as store:
        assert await store.read_entry(entry.id) == entry
        assert await store.read_history(entry.id) == [entry]
        for call in (store.read_entry("none"), store.read_history("none")):
            with pytest.raises(KeyError, match="none"):
                await call


async def test_entries_of_other_conversations_and_none(tmp_path: Path) -> None:
    async with ActorConversationStore(tmp_path) as store:
        await saved(store, "a", "one", "two")
        one, two = await store.load_entries("a") or []
        new = ConversationEntry(parent_id=two.id, message=says("three"))
        other = ConversationRecord(conversation_id="b", head_id=new.id)
        await store.write_record(other, new_entries=[new], expected_revision=None)
        assert await store.read_history(new.id) == [one, two, new]
        again = ConversationRecord(conversation_id="b", head_id=new.id, scope="ada")
        await store.write_record(again, new_entries=[new], expected_revision=other.revision)
        assert (await store.read_record("b")) == again
        changed = ConversationEntry(id=new.id, parent_id=two.id, message=says("changed"))
        once_more = ConversationRecord(conversation_id="b", head_id=new.id)
        await store.write_record(once_more, new_entries=[changed], expected_revision=again.revision)
        assert await store.read_history(new.id) == [one, two, new]  # what is stored stays
        lost = ConversationRecord(conversation_id="c", head_id="none")
        with pytest.raises(ConversationConflict):
            await store.write_record(lost, expected_revision=None)
        assert await store.read_record("c") is None


async def test_a_session_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry, ActorConversationStore(registry) as store:
        other = await registry.start("a")
        await other.append("agent-1", {"role": "user", "content": "mine"})
        assert await store.load("a") is None
        with pytest.raises(ConversationConflict):
            await saved(store, "a", "one")
        await store.delete("a")
        assert len(await other.messages()) == 1


async def test_renaming_is_no_conflict(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry, ActorConversationStore(registry) as store:
        conversation = await saved(store, "a", "one")
        await registry.session("a").rename("crazy-mango")
        conversation.messages.append(says("two", 1))
        await store.save(conversation)
        assert words(await store.load("a")) == ["one", "two"]


@pytest.mark.parametrize("name", ["", "ü/%", "x" * 200, "x" * 201, "x" * 202, "a\0b", "%"])
async def test_any_id_will_do(name: str, tmp_path: Path) -> None:
    async with ActorConversationStore(tmp_path) as store:
        for other in {"%25", "x" * 160, "x" * 203, name}:
            await saved(store, other, f"of {other}", scope=f"scope {name}"[:150])
        assert words(await store.load(name)) == [f"of {name}"]
        assert len(await store.list_conversations(scope=f"scope {name}"[:150])) == 4


# races


async def test_of_two_stale_writers_one_is_refused(tmp_path: Path) -> None:
    async with ActorConversationStore(tmp_path) as one, ActorConversationStore(tmp_path) as other:
        for n in range(20):
            await saved(one, str(n), "first")
            conversations = [await one.load(str(n)), await other.load(str(n))]
            for conversation in conversations:
                assert conversation is not None
                conversation.messages.append(says("second", 1))
            results = await asyncio.gather(
                *(
                    store.save(conversation)
                    for store, conversation in zip((one, other), conversations, strict=True)
                    if conversation is not None
                ),
                return_exceptions=True,
            )
            assert sum(isinstance(result, ConversationConflict) for result in results) == 1
            assert words(await other.load(str(n))) == ["first", "second"]


async def test_of_two_that_create_or_delete_one_is_refused(tmp_path: Path) -> None:
    async with ActorConversationStore(tmp_path) as one, ActorConversationStore(tmp_path) as other:
        for n in range(20):
            results = await asyncio.gather(
                *(saved(store, str(n), "first") for store in (one, other)), return_exceptions=True
            )
            assert sum(isinstance(result, ConversationConflict) for result in results) == 1
            conversation = await one.load(str(n))
            assert conversation is not None
            conversation.messages.append(says("second", 1))
            results = await asyncio.gather(
                one.save(conversation), other.delete(str(n)), return_exceptions=True
            )
            there = await other.load(str(n))
            assert there is None  # `delete` tries again, and is final


async def test_160_start_ups_at_once_while_others_list(tmp_path: Path) -> None:
    store = ActorConversationStore(tmp_path)
    done = asyncio.Event()

    async def start(n: int) -> None:
        other = ActorConversationStore(tmp_path)
        await saved(other, f"c{n}", "one", "two", scope=f"u{n % 7}")
        await saved(other, f"c{n}", "three")

    async def read() -> int:
        count = 0
        while not done.is_set():
            found = await store.list_conversations()
            assert len(found) >= count
            count = len(found)
        return len(await store.list_conversations(scope="u3"))

    reading = asyncio.create_task(read())
    await asyncio.gather(*map(start, range(160)))
    done.set()
    assert await reading == 23
    found = await store.list_conversations()
    assert len(found) == 160
    assert [one.updated_at for one in found] == sorted(
        (one.updated_at for one in found), reverse=True
    )
    await store.aclose()
