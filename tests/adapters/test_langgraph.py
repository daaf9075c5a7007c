"""What LangGraph's users rely on, and what they gain."""

from __future__ import annotations

import asyncio
import copy
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from langgraph_threads import checkpoint, grow, id_of, ids, listed, put, said, thread
from typing_extensions import TypedDict

from sessionactor import MessageTooLargeError, SessionExistsError, SessionRegistry
from sessionactor.adapters.langgraph import ActorSaver


@pytest.fixture
async def saver(tmp_path: Path) -> AsyncIterator[ActorSaver]:
    async with ActorSaver(tmp_path) as one:
        yield one


async def kinds(saver_path: Path, thread_id: str) -> list[str]:
    async with SessionRegistry(saver_path) as registry:
        return [row.message["langgraph"] for row in await registry.session(thread_id).messages()]


async def test_a_message_is_stored_once_however_many_checkpoints_have_it(tmp_path: Path) -> None:
    async with ActorSaver(tmp_path) as saver:
        await grow(saver, "t", 20)
    found = await kinds(tmp_path, "t")
    assert found.count("message") == 20
    assert found.count("checkpoint") == 20


async def test_a_value_is_stored_once_for_each_version(tmp_path: Path) -> None:
    large = "x" * 10_000
    async with ActorSaver(tmp_path) as saver:
        config = thread("t")
        for step in range(10):
            values = {"document": large, "step": step}
            config = await put(saver, config, values, {"document": "1", "step": str(step)})
        first, *_, last = await listed(saver, thread("t"))
        assert first.checkpoint["channel_values"] == {"document": large, "step": 9}
        assert last.checkpoint["channel_values"] == {"document": large, "step": 0}
    with sqlite3.connect(next(tmp_path.glob("t_*.db"))) as connection:
        (stored,) = connection.execute("SELECT sum(length(data)) FROM messages").fetchone()
    connection.close()
    assert len(large) < stored < 2 * len(large)


async def test_what_was_stored_is_read_after_a_restart(tmp_path: Path) -> None:
    async with ActorSaver(tmp_path) as saver:
        config = await grow(saver, "t", 40)
        await put(saver, config, {"messages": [said(0), said(1, "another")]})
        before = await listed(saver, thread("t"))
    async with ActorSaver(tmp_path) as saver:
        assert await listed(saver, thread("t")) == before
        assert await saver.aget_tuple(thread("t")) == before[0]
        for one in before:
            assert await saver.aget_tuple(thread("t", one.checkpoint["id"])) == one


async def test_a_restarted_saver_goes_on_with_the_chain_of_messages(tmp_path: Path) -> None:
    for step in range(1, 5):
        async with ActorSaver(tmp_path) as saver:
            newest = await saver.aget_tuple(thread("t"))
            config = thread("t") if newest is None else newest.config
            await put(saver, config, {"messages": [said(number) for number in range(step)]})
    assert (await kinds(tmp_path, "t")).count("message") == 4


async def test_a_message_that_a_node_changes_in_place_is_stored_as_it_is_now(
    saver: ActorSaver,
) -> None:
    message = AIMessage("draft", id="1", additional_kwargs={"votes": [1]})
    odd = HumanMessage("odd", id="2", additional_kwargs={"set": {1, 2}})
    plain = {"role": "user", "content": "draft"}
    config = thread("t")
    expected = []
    for step in range(4):
        message.additional_kwargs["votes"].append(step)
        odd.additional_kwargs["set"].add(step)
        plain["content"] = f"draft {step}"
        if step > 1:
            message.content = f"draft {step}"
        messages = [said(0), message, odd, plain]
        config = await put(saver, config, {"messages": messages})
        expected.append(copy.deepcopy(messages))
    found = await listed(saver, thread("t"))
    assert [one.checkpoint["channel_values"]["messages"] for one in reversed(found)] == expected


async def test_a_list_that_grows_at_its_beginning_is_stored_anew_now_and_then(
    tmp_path: Path,
) -> None:
    lists = [[said(number) for number in range(length, 0, -1)] for length in range(1, 71)]
    async with ActorSaver(tmp_path) as saver:
        config = thread("t")
        for messages in lists:
            config = await put(saver, config, {"messages": messages})
        found = await listed(saver, thread("t"))
        assert [one.checkpoint["channel_values"]["messages"] for one in reversed(found)] == lists
    assert (await kinds(tmp_path, "t")).count("message") < 3 * 70


async def test_what_memory_has_no_room_for_is_read_from_the_file(
    saver: ActorSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionactor.adapters._langgraph_bases.MAX_BYTES", 20_000)
    configs = {name: thread(name) for name in "abcd"}
    for step in range(1, 20):
        for name in configs:
            messages = [said(number, f"{name} {number} {'x' * 300}") for number in range(step)]
            configs[name] = await put(saver, configs[name], {"messages": messages})
    for name, config in configs.items():
        found = await saver.aget_tuple(config)
        assert found is not None
        assert [one.content[:1] for one in found.checkpoint["channel_values"]["messages"]] == [
            name
        ] * 19


class Listings:
    """A thread's lists of messages: what nodes do to them."""

    steps = st.lists(
        st.tuples(
            st.sampled_from(["append", "replace", "remove", "insert", "trim", "same", "clear"]),
            st.integers(0, 9),
            st.integers(0, 5),
        ),
        max_size=12,
    )

    @staticmethod
    def step(messages: list[Any], what: str, at: int, back: int) -> list[Any]:
        at = min(at, max(len(messages) - 1, 0))
        match what:
            case "append":
                return [*messages, *(said(random.randrange(10**9)) for _ in range(back))]
            case "replace":
                return [*messages[:at], said(at, "replaced"), *messages[at + 1 :]]
            case "remove":
                return messages[:at] + messages[at + 1 :]
            case "insert":
                return [said(99, "a summary"), *messages]
            case "trim":
                return messages[back:]
            case "clear":
                return []
        return messages


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(Listings.steps, st.booleans())
async def test_any_change_to_a_list_is_read_as_the_framework_reads_it(
    steps: list[tuple[str, int, int]], cold: bool
) -> None:
    """Beside its own saver: same puts on the same branches, same answers."""
    theirs = InMemorySaver()
    async with SessionRegistry(None) as registry:
        ours = ActorSaver(registry)
        configs = [thread("t")]
        lists: list[list[Any]] = [[]]
        for what, at, back in steps:
            parent = max(len(configs) - 1 - back % 3, 0)
            messages = Listings.step(lists[parent], what, at, back)
            made = checkpoint({"messages": messages, "count": len(messages)})
            for one in (theirs, ours):
                config = await one.aput(
                    configs[parent], made, {"step": at}, made["channel_versions"]
                )
                await one.aput_writes(
                    configs[-1] if back else config, [("a", at)], f"task{at}"
                ) if (len(configs) > 1) else None
            configs.append(config)
            lists.append(messages)
            if cold:
                await registry.stop("t")
                ours = ActorSaver(registry)
        assert await listed(ours, thread("t")) == await listed(theirs, thread("t"))


async def test_writes_that_come_before_their_checkpoint_are_its_writes(saver: ActorSaver) -> None:
    config = await put(saver, thread("t"), {})
    made = checkpoint({})
    ahead = thread("t", made["id"])
    await saver.aput_writes(ahead, [("channel", "early")], "task")
    await saver.aput(config, made, {}, {})
    await saver.aput_writes(ahead, [("channel", "in time")], "another")
    for one in (await saver.aget_tuple(ahead), await saver.aget_tuple(thread("t"))):
        assert one is not None
        assert one.pending_writes == [
            ("another", "channel", "in time"),
            ("task", "channel", "early"),
        ]
    assert (await listed(saver, thread("t")))[0].pending_writes == one.pending_writes


async def test_writes_that_come_after_a_newer_checkpoint_are_the_older_ones(
    saver: ActorSaver,
) -> None:
    older = await put(saver, thread("t"), {})
    newer = await put(saver, older, {})
    await asyncio.gather(
        *(saver.aput_writes(older, [("channel", number)], f"task {number}") for number in range(5)),
        *(put(saver, newer, {}) for _ in range(3)),
    )
    found = await saver.aget_tuple(older)
    assert found is not None
    assert [value for _, _, value in found.pending_writes or ()] == [0, 1, 2, 3, 4]
    assert [len(one.pending_writes or ()) for one in await listed(saver, thread("t"))] == [
        *(0, 0, 0, 0),
        5,
    ]


async def test_a_special_write_replaces_the_one_before_it(saver: ActorSaver) -> None:
    config = await put(saver, thread("t"), {})
    for value in ("first", "second"):
        await saver.aput_writes(config, [("__resume__", value)], "task")
        await saver.aput_writes(config, [("channel", value)], "task")
    for found in (
        await saver.aget_tuple(config),
        await saver.aget_tuple(thread("t")),
        *await listed(saver, thread("t")),
    ):
        assert found is not None
        assert found.pending_writes == [
            ("task", "__resume__", "second"),
            ("task", "channel", "first"),
        ]


async def test_a_checkpoint_that_is_put_again_is_replaced_where_it_is(saver: ActorSaver) -> None:
    first = await put(saver, thread("t"), {"messages": [said(0)], "other": "old" * 100}, None)
    second = await put(
        saver,
        first,
        {"messages": [said(0), said(1)], "other": "old" * 100},
        {"other": id_of(first)},
    )
    await saver.aput_writes(first, [("channel", 1)], "task")
    again = checkpoint({"messages": [said(7)], "other": "new"}, None, id_of(first))
    await saver.aput(thread("t"), again, {"step": 9}, again["channel_versions"])
    assert ids(await listed(saver, thread("t"))) == [id_of(second), id_of(first)]
    replaced = await saver.aget_tuple(first)
    assert replaced is not None
    assert replaced.checkpoint == again
    assert replaced.metadata["step"] == 9
    assert replaced.pending_writes == [("task", "channel", 1)]
    untouched = await saver.aget_tuple(second)
    assert untouched is not None
    assert untouched.checkpoint["channel_values"] == {
        "messages": [said(0), said(1)],
        "other": "old" * 100,
    }


async def test_the_id_of_a_removed_checkpoint_is_not_used_again(saver: ActorSaver) -> None:
    made = checkpoint({})
    await saver.aput(thread("t"), made, {"run_id": "gone"}, {})
    await put(saver, thread("t", made["id"]), {}, run_id="kept")
    await saver.adelete_for_runs(["gone"])
    with pytest.raises(ValueError, match="was removed from thread 't'"):
        await saver.aput(thread("t"), made, {}, {})


async def test_removing_a_run_keeps_what_other_runs_still_need(saver: ActorSaver) -> None:
    large = "x" * 1000
    values: dict[str, Any] = {"messages": [said(0)], "document": large}
    first = await put(saver, thread("t"), values, {"messages": "1", "document": "1"}, run_id="a")
    values = {"messages": [said(0), said(1)], "document": large}
    await put(saver, first, values, {"messages": "2", "document": "1"}, run_id="b")
    await put(saver, thread("other"), {}, run_id="a")
    await saver.adelete_for_runs(["a"])
    (left,) = await listed(saver, thread("t"))
    assert left.checkpoint["channel_values"] == values
    assert await listed(saver, thread("other")) == []
    assert await saver.aget_tuple(thread("other")) is None


async def test_pruning_keeps_the_newest_and_gives_the_space_back(tmp_path: Path) -> None:
    async with ActorSaver(tmp_path) as saver:
        await grow(saver, "t", 100, "word " * 200)
    (path,) = tmp_path.glob("t_*.db")
    size = path.stat().st_size
    async with ActorSaver(tmp_path) as saver:
        await saver.aprune(["t"])
    assert path.stat().st_size < 0.7 * size
    async with ActorSaver(tmp_path) as saver:
        newest = await saver.aget_tuple(thread("t"))
        await saver.aprune(["t", "nothing"])
        assert await listed(saver, thread("t")) == [newest]
        assert newest is not None
        config = await put(saver, newest.config, {"messages": [said(1)]})
        assert ids(await listed(saver, thread("t"))) == [id_of(config), newest.checkpoint["id"]]
        with pytest.raises(ValueError, match="keep_latest"):
            await saver.aprune(["t"], strategy="keep_some")
        await saver.aprune(["t"], strategy="delete")
        assert not path.exists()


async def test_what_goes_on_from_a_removed_checkpoint_names_nothing_that_is_gone(
    tmp_path: Path,
) -> None:
    """Whenever it is removed: in the middle of the put, too, while its values are read."""
    names = [f"thread {turns}" for turns in range(40)]
    configs = {}
    async with SessionRegistry(tmp_path) as registry:
        for name in names:
            for run in ("gone", "kept"):
                messages = [said(number, f"{run} {number}") for number in range(3)]
                config = await put(
                    ActorSaver(registry), thread(name), {"messages": messages}, run_id=run
                )
                configs.setdefault(name, config)

    async def go_on(saver: ActorSaver, name: str) -> None:
        messages = [*(said(number, f"gone {number}") for number in range(3)), said(3)]
        await put(saver, configs[name], {"messages": messages}, run_id="new")

    async with SessionRegistry(tmp_path) as registry:
        saver = ActorSaver(registry)
        for turns, name in enumerate(names):
            await registry.start(name)
            going_on = asyncio.ensure_future(go_on(saver, name))
            for _ in range(turns % 20):
                await asyncio.sleep(0)
            await saver.aprune([name])
            await going_on
    async with ActorSaver(tmp_path) as saver:
        for name in names:
            found = await listed(saver, thread(name))
            runs = [one.metadata["run_id"] for one in found]
            assert runs in (["new", "kept"], ["new"])
            assert len(found[0].checkpoint["channel_values"]["messages"]) == 4


async def test_what_was_remembered_of_a_removed_checkpoint_is_forgotten(tmp_path: Path) -> None:
    async with ActorSaver(tmp_path) as saver:
        await put(saver, thread("t"), {"messages": [said(9)]}, run_id="kept")
        gone = await put(saver, thread("t"), {"messages": [said(0)]}, run_id="gone")
        await saver.adelete_for_runs(["gone"])
        await put(saver, gone, {"messages": [said(0), said(1)]}, run_id="new")
    async with ActorSaver(tmp_path) as saver:
        newest, _ = await listed(saver, thread("t"))
        assert newest.checkpoint["channel_values"]["messages"] == [said(0), said(1)]


async def test_what_another_owner_did_meanwhile_is_not_overlooked(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as here, SessionRegistry(tmp_path) as there:
        saver, other = ActorSaver(here), ActorSaver(there)
        await put(saver, thread("t"), {"messages": [said(9)]}, run_id="kept")
        gone = await put(saver, thread("t"), {"messages": [said(0)]}, run_id="gone")
        await here.stop("t")

        await other.adelete_for_runs(["gone"])
        newer = await put(other, thread("t"), {"messages": [said(1)]})
        await there.stop("t")

        await saver.aput_writes(newer, [("channel", 1)], "task")
        await put(saver, gone, {"messages": [said(0), said(2)]})
        await here.stop("t")
        newest, after, _ = await listed(other, thread("t"))
        assert newest.checkpoint["channel_values"]["messages"] == [said(0), said(2)]
        assert after.pending_writes == [("task", "channel", 1)]


async def test_a_put_beside_pruning_names_nothing_that_is_gone(saver: ActorSaver) -> None:
    config = await grow(saver, "t", 10)
    older = (await listed(saver, thread("t")))[5].config

    async def branch(number: int) -> None:
        await put(saver, older if number % 2 else config, {"messages": [said(0), said(number)]})

    await asyncio.gather(
        *(branch(number) for number in range(6)), saver.aprune(["t"]), branch(7), branch(8)
    )
    for one in await listed(saver, thread("t")):
        assert one.checkpoint["channel_values"]["messages"][0] == said(0)


def appended(state: list[Any], writes: list[Any]) -> list[Any]:
    return [*state, *(one for write in writes for one in write)]


class Deltas(TypedDict):
    items: Annotated[list[str], DeltaChannel(appended, snapshot_frequency=5)]


async def test_a_delta_channel_survives_pruning(saver: ActorSaver) -> None:
    builder = StateGraph(Deltas)
    builder.add_node("work", lambda state: {"items": [f"item {len(state['items'])}"]})
    builder.add_edge(START, "work")
    graph = builder.compile(checkpointer=saver)
    for _ in range(7):
        before = await graph.ainvoke({"items": ["asked"]}, thread("t"))
    await saver.aprune(["t"])
    assert 1 <= len(await listed(saver, thread("t"))) < 21
    state = await graph.aget_state(thread("t"))
    assert state.values == before
    after = await graph.ainvoke({"items": ["asked"]}, thread("t"))
    assert after["items"] == [*before["items"], "asked", "item 15"]


async def test_delta_channels_are_rebuilt_as_the_framework_rebuilds_them(
    saver: ActorSaver,
) -> None:
    builder = StateGraph(Deltas)
    builder.add_node("work", lambda state: {"items": [f"item {len(state['items'])}"]})
    builder.add_edge(START, "work")
    graph = builder.compile(checkpointer=saver)
    for _ in range(4):
        await graph.ainvoke({"items": ["asked"]}, thread("t"))
    branch = (await listed(saver, thread("t")))[5].config
    await graph.ainvoke({"items": ["on a branch"]}, branch)
    seeds = 0
    for one in await listed(saver, thread("t")):
        asked: Any = {"config": one.config, "channels": ["items", "nothing"]}
        ours = await saver.aget_delta_channel_history(**asked)
        assert ours == await BaseCheckpointSaver.aget_delta_channel_history(saver, **asked)
        seeds += "seed" in ours["items"]
    assert seeds
    first = checkpoint({}, None, "1f000000-0000-6000-8000-000000000000")
    child = await put(saver, await put(saver, thread("odd", first["id"]), {}), {})
    await saver.aput(thread("odd"), first, {}, {})
    await saver.aput_writes(thread("odd", first["id"]), [("items", ["late"])], "task")
    history = await saver.aget_delta_channel_history(config=child, channels=["items"])
    assert history["items"]["writes"] == [("task", "items", ["late"])]


async def test_a_copy_is_a_thread_of_its_own(saver: ActorSaver) -> None:
    config = await grow(saver, "t", 5)
    await saver.acopy_thread("t", "a copy")
    await put(saver, thread("a copy", id_of(config)), {"messages": [said(0)]})
    assert len(await listed(saver, thread("a copy"))) == 6
    assert len(await listed(saver, thread("t"))) == 5
    with pytest.raises(SessionExistsError):
        await saver.acopy_thread("t", "a copy")


async def test_all_threads_are_listed_one_after_the_other(saver: ActorSaver) -> None:
    for thread_id in ("first", "second", "third"):
        await grow(saver, thread_id, 2)
    found = await listed(saver, None)
    assert [one.config["configurable"]["thread_id"] for one in found] == [
        *("third", "third", "second", "second", "first", "first")
    ]
    assert len(await listed(saver, None, limit=3)) == 3
    assert len(await listed(saver, None, filter={"step": 1})) == 3


@pytest.mark.parametrize(
    "thread_id", ["user/42@example.org", "x" * 5000, "nul\0inside", "cut \ud83d", "", "Größe"]
)
async def test_any_thread_id_has_its_session(tmp_path: Path, thread_id: str) -> None:
    async with ActorSaver(tmp_path) as saver:
        await put(saver, thread(thread_id), {"a": 1})
        await put(saver, thread("x" * 5001), {})
    async with ActorSaver(tmp_path) as saver:
        (found,) = await listed(saver, thread(thread_id))
        assert found.config["configurable"]["thread_id"] == thread_id
        listed_ids = {one.config["configurable"]["thread_id"] for one in await listed(saver, None)}
        assert "x" * 5001 in listed_ids
        assert len(listed_ids) == 2


async def test_metadata_are_filtered_as_in_the_frameworks_saver(tmp_path: Path) -> None:
    async with (
        AsyncSqliteSaver.from_conn_string(":memory:") as theirs,
        ActorSaver(tmp_path) as ours,
    ):
        made = [
            (checkpoint({}), metadata)
            for metadata in (
                {"step": 1, "user": {"name": "Ada"}, "dotted.key": "x"},
                {"step": 1, "flag": True, "tags": ["a", "b"]},
                {"step": 2, "flag": None},
            )
        ]
        for one, metadata in made:
            for saver in (theirs, ours):
                await saver.aput(thread("t"), one, metadata, {})  # type: ignore[attr-defined]
        filters: list[dict[str, Any]] = [
            {"step": 1},
            {"user.name": "Ada"},
            {"flag": True},
            {"flag": None},
            {"tags": ["a", "b"]},
            {"step": 1, "flag": True},
            {"nothing": 1},
        ]
        for filter_ in filters:
            expected = ids(await listed(theirs, thread("t"), filter=filter_))
            assert ids(await listed(ours, thread("t"), filter=filter_)) == expected, filter_


async def test_roles_and_texts_are_seen_by_search_and_the_command_line(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        saver = ActorSaver(registry)
        call = {"name": "weather", "args": {"city": "Köln"}, "id": "1"}
        messages = [
            HumanMessage("what about tomorrow?"),
            AIMessage("let me see", tool_calls=[call]),
            ToolMessage("it will rain", tool_call_id="1", name="weather"),
            AIMessage([{"type": "text", "text": "take an umbrella"}]),
            {"role": "user", "content": "a plain mapping"},
        ]
        await put(saver, thread("t"), {"messages": messages})
        await registry.flush("t")
        for word in ("tomorrow", "Köln", "weather", "rain", "umbrella", "mapping"):
            hits = await registry.search(word)
            assert hits, word
            assert {hit.agent_id for hit in hits} == {"messages"}
        assert await registry.search("loop") == []
    shown = subprocess.run(
        [sys.executable, "-m", "sessionactor.cli", "--dir", tmp_path, "show", "t", "--all"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in ("what about tomorrow?", '→ weather({"city": "Köln"})', "it will rain"):
        assert line in shown
    for role in ("human", "ai", "tool", "user", "checkpoint"):
        assert f"  {role}  " in shown
    assert "step 0, loop\n" in shown
    assert "$bytes" not in shown


class Scrambled:
    """A cipher that is none, but leaves no text."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "scrambled", bytes(255 - one for one in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        assert ciphername == "scrambled"
        return bytes(255 - one for one in ciphertext)


async def test_what_a_serializer_encrypts_is_nowhere_to_be_read(tmp_path: Path) -> None:
    serde = EncryptedSerializer(Scrambled())
    async with ActorSaver(tmp_path, serde=serde) as saver:
        config = await put(saver, thread("t"), {"messages": [said(0, "top secret")]})
        await saver.aput_writes(config, [("messages", [said(0, "top secret")])], "task")
        found = await saver.aget_tuple(thread("t"))
        assert found is not None
        assert found.checkpoint["channel_values"]["messages"] == [said(0, "top secret")]
    for path in tmp_path.iterdir():
        assert b"secret" not in path.read_bytes(), path


async def test_a_value_that_is_too_large_is_refused_whole(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path, max_message_bytes=10_000) as registry:
        saver = ActorSaver(registry)
        config = await put(saver, thread("t"), {"document": "small"})
        with pytest.raises(MessageTooLargeError):
            await put(saver, config, {"messages": [said(0)], "document": "x" * 20_000})
        await saver.aput_writes(config, [("channel", 1)], "task")
        (one,) = await listed(saver, thread("t"))
        assert one.pending_writes == [("task", "channel", 1)]


async def test_a_thread_that_other_hands_deleted_begins_again(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        saver = ActorSaver(registry)
        config = await put(saver, thread("t"), {"messages": [said(0)]})
        await registry.delete("t")
        assert await saver.aget_tuple(thread("t")) is None
        await put(saver, config, {"messages": [said(0), said(1)]})
    async with ActorSaver(tmp_path) as saver:
        (one,) = await listed(saver, thread("t"))
        assert one.checkpoint["channel_values"]["messages"] == [said(0), said(1)]


async def test_a_chapter_begins_with_the_input_of_a_turn_and_is_never_long(
    tmp_path: Path,
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        saver = ActorSaver(registry)
        config = await grow(saver, "long", 100)
        page = await registry.session("long").messages_from_latest_checkpoint()
        assert len(page.rows) <= 3 * 16
        await put(saver, config, {"messages": [said(0, "asked")]}, source="input")
        page = await registry.session("long").messages_from_latest_checkpoint()
        assert [row.message["role"] for row in page.rows] == ["checkpoint", "human"]


def asking() -> Any:
    """A graph that stops in the middle of a turn to ask somebody."""

    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"you said {interrupt('yes or no?')}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    return builder


async def test_an_interrupted_graph_is_resumed_after_a_restart(tmp_path: Path) -> None:
    async with ActorSaver(tmp_path) as saver:
        graph = asking().compile(checkpointer=saver)
        asked = await graph.ainvoke({"messages": [said(0)]}, thread("t"))
        assert asked["__interrupt__"][0].value == "yes or no?"
    async with ActorSaver(tmp_path) as saver:
        graph = asking().compile(checkpointer=saver)
        answered = await graph.ainvoke(Command(resume="yes"), thread("t"))
        assert answered["messages"][-1].content == "you said yes"


async def test_subgraphs_have_namespaces_of_the_same_session(tmp_path: Path) -> None:
    async with ActorSaver(tmp_path) as saver:
        inner = asking().compile(checkpointer=True)
        builder = StateGraph(MessagesState)
        builder.add_node("inner", inner)
        builder.add_edge(START, "inner")
        graph = builder.compile(checkpointer=saver)
        await graph.ainvoke({"messages": [said(0)]}, thread("t"))
        state = await graph.aget_state(thread("t"), subgraphs=True)
        assert state.tasks[0].state.values["messages"] == [said(0)]
        answered = await graph.ainvoke(Command(resume="no"), thread("t"))
        assert answered["messages"][-1].content == "you said no"
        namespaces = {
            one.config["configurable"]["checkpoint_ns"]
            for one in await listed(saver, {"configurable": {"thread_id": "t"}})
        }
        assert len(namespaces) == 2
        assert "" in namespaces
    assert len(list(tmp_path.glob("*.db"))) == 1


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_every_durability_of_a_graph(saver: ActorSaver, durability: Any) -> None:
    graph = asking().compile(checkpointer=saver)
    await graph.ainvoke({"messages": [said(0)]}, thread("t"), durability=durability)
    answered = await graph.ainvoke(Command(resume="yes"), thread("t"), durability=durability)
    assert [one.content for one in answered["messages"]] == ["message 0", "you said yes"]
    state = await graph.aget_state(thread("t"))
    assert state.values == answered


async def test_synchronous_calls_from_another_thread(saver: ActorSaver) -> None:
    def calls() -> list[Any]:
        graph = asking().compile(checkpointer=saver)
        graph.invoke({"messages": [said(0)]}, thread("t"))
        config = graph.get_state(thread("t")).config
        assert saver.get_tuple(config) is not None
        saver.copy_thread("t", "copy")
        saver.prune(["copy"])
        assert len(list(saver.list(thread("copy")))) == 1
        saver.delete_for_runs(["none"])
        saver.delete_thread("copy")
        assert saver.get_tuple(thread("copy")) is None
        history = saver.get_delta_channel_history(config=config, channels=["messages"])
        assert [value for _, _, value in history["messages"]["writes"]] == [[said(0)]]
        return list(saver.list(thread("t"), limit=1))

    (found,) = await asyncio.to_thread(calls)
    assert found == await saver.aget_tuple(thread("t"))


async def test_a_synchronous_call_in_the_loop_is_refused(saver: ActorSaver) -> None:
    await put(saver, thread("t"), {})
    with pytest.raises(asyncio.InvalidStateError, match="aget_tuple"):
        saver.get_tuple(thread("t"))
    with pytest.raises(asyncio.InvalidStateError, match="another thread"):
        list(saver.list(thread("t")))
    with pytest.raises(asyncio.InvalidStateError):
        saver.put(thread("t"), checkpoint({}), {}, {})


def test_a_program_without_a_loop(tmp_path: Path) -> None:
    before = threading.active_count()
    with ActorSaver(tmp_path) as saver:
        graph = asking().compile(checkpointer=saver)
        graph.invoke({"messages": [said(0)]}, thread("t"))
    assert threading.active_count() == before
    with ActorSaver(tmp_path) as saver:
        graph = asking().compile(checkpointer=saver)
        assert graph.invoke(Command(resume="yes"), thread("t"))["messages"][-1].content
        assert len(list(graph.get_state_history(thread("t")))) == 3


def test_a_program_that_closes_nothing_ends(tmp_path: Path) -> None:
    program = """
import sys
from langgraph.graph import START, MessagesState, StateGraph
from sessionactor.adapters.langgraph import ActorSaver
builder = StateGraph(MessagesState)
builder.add_node("node", lambda state: {"messages": ["answered"]})
builder.add_edge(START, "node")
graph = builder.compile(checkpointer=ActorSaver(sys.argv[1]))
found = graph.invoke({"messages": ["asked"]}, {"configurable": {"thread_id": "t"}})
print(found["messages"][-1].content)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "answered\n"
    assert not list(tmp_path.glob("*-wal"))


def test_a_saver_of_a_module_serves_one_loop_after_the_other(tmp_path: Path) -> None:
    saver = ActorSaver(tmp_path)

    async def once() -> int:
        async with saver:
            await put(saver, thread("t"), {})
            return len(await asyncio.to_thread(lambda: list(saver.list(thread("t")))))

    assert [asyncio.run(once()) for _ in range(3)] == [1, 2, 3]


async def test_threads_of_the_frameworks_own_file_are_imported(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints.sqlite"
    async with AsyncSqliteSaver.from_conn_string(str(file)) as theirs:
        for thread_id in ("first", "second"):
            config = await grow(theirs, thread_id, 5)
            await put(theirs, thread(thread_id, namespace="child"), {"a": 1})
            await put(theirs, thread(thread_id, id_of(config)), {"messages": [said(3)]})
        expected = {name: await listed(theirs, thread(name)) for name in ("first", "second")}
        async with ActorSaver(tmp_path / "threads") as ours:
            await put(ours, thread("second"), {"a": "mine"})
            assert await ours.import_sqlite(file) == 1
            assert await ours.import_sqlite(file) == 0
            assert await listed(ours, thread("first")) == expected["first"]
            assert len(await listed(ours, thread("first", namespace="child"))) == 1
            assert len(await listed(ours, thread("second"))) == 1
            await ours.adelete_thread("second")
            assert await ours.import_sqlite(file) == 1
            assert await listed(ours, thread("second")) == expected["second"]
            threads = {one.config["configurable"]["thread_id"] for one in await listed(ours, None)}
            assert threads == {"first", "second"}
