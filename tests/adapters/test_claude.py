from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    ClaudeAgentOptions,
    InMemorySessionStore,
    SessionKey,
    SessionStore,
    delete_session_via_store,
    fork_session_via_store,
    get_session_messages_from_store,
    get_subagent_messages_from_store,
    import_session_to_store,
    list_sessions_from_store,
    list_subagents_from_store,
    project_key_for_directory,
    rename_session_via_store,
)
from claude_agent_sdk.testing import run_session_store_conformance
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionactor import MessageEncodingError, SessionOwnedError, SessionRegistry
from sessionactor.adapters.claude import ActorSessionStore, agent_of, session_id_of

KEY: SessionKey = {"project_key": "-home-ada-shop", "session_id": "s1"}
SUB: SessionKey = {**KEY, "subpath": "subagents/agent-7"}


def entry(uuid: str | None, text: str = "hello", kind: str = "user", **more: Any) -> Any:
    made = {"type": kind, "message": {"role": kind, "content": text}, **more}
    made["timestamp"] = "2026-01-02T03:04:05.000Z"
    return made if uuid is None else {**made, "uuid": uuid}


# the SDK's own tests


@pytest.mark.parametrize("how", ["directory", "registry"])
async def test_the_sdks_conformance_suite_passes_with_all_optional_methods(
    tmp_path: Path, how: str
) -> None:
    made: list[ActorSessionStore] = []

    def make() -> ActorSessionStore:
        where = tmp_path / str(len(made))
        made.append(ActorSessionStore(where if how == "directory" else registries.pop()))
        return made[-1]

    registries = [SessionRegistry(None) for _ in range(30)]
    opened = list(registries)
    for registry in opened:
        await registry.open()
    await run_session_store_conformance(make)
    for store in made:
        await store.aclose()
    for registry in opened:
        await registry.aclose()
    assert len(made) == 15  # one for each of the 14 contracts, and one that it looks at


def test_it_is_a_store_of_the_sdk() -> None:
    store: SessionStore = ActorSessionStore("sessions")
    assert ClaudeAgentOptions(session_store=store).session_store is store


# a uuid is an idempotency key


async def test_a_repeated_batch_stores_nothing_twice() -> None:
    async with SessionRegistry(None) as registry:
        store = ActorSessionStore(registry)
        batch = [entry("a"), entry("b"), entry("c")]
        for part in (batch[:2], batch[:2], batch, batch):
            await store.append(KEY, part)
        assert await store.load(KEY) == batch
        session = await store.session(KEY)
        row = await session.get(key="b")
        assert row is not None
        assert row.message == batch[1]


async def test_entries_without_a_uuid_are_never_taken_for_the_same() -> None:
    async with SessionRegistry(None) as registry:
        store = ActorSessionStore(registry)
        titles = [{"type": "custom-title", "customTitle": "parcels"}] * 2
        await store.append(KEY, [*titles, {"type": "x", "uuid": ""}, {"type": "x", "uuid": 7}])  # type: ignore[list-item]
        await store.append(KEY, titles)  # type: ignore[arg-type]
        assert len(await store.load(KEY) or []) == 6


async def test_of_two_entries_of_one_uuid_the_first_stays() -> None:
    async with SessionRegistry(None) as registry:
        store = ActorSessionStore(registry)
        await store.append(KEY, [entry("a", "first"), entry("a", "second"), entry("b")])
        await store.append(KEY, [entry("a", "third"), entry("c"), entry("b", "other"), entry("d")])
        assert await store.load(KEY) == [entry("a", "first"), entry("b"), entry("c"), entry("d")]


async def test_transcripts_of_a_session_have_uuids_of_their_own() -> None:
    async with SessionRegistry(None) as registry:
        store = ActorSessionStore(registry)
        await store.append(KEY, [entry("a", "main")])
        await store.append(SUB, [entry("a", "sub")])
        assert await store.load(SUB) == [entry("a", "sub")]
        for _ in range(3):  # and what follows a deleted transcript is another one
            await store.delete(SUB)
            await store.delete(SUB)
            assert await store.load(SUB) is None
            assert await store.list_subkeys(KEY) == []
            await store.append(SUB, [entry("a", "sub")])
            await store.append(SUB, [entry("a", "sub")])
            assert await store.load(SUB) == [entry("a", "sub")]
            assert await store.list_subkeys(KEY) == [SUB["subpath"]]
        assert await store.load(KEY) == [entry("a", "main")]


async def test_a_batch_is_stored_whole_or_not_at_all() -> None:
    async with SessionRegistry(None) as registry:
        store = ActorSessionStore(registry)
        with pytest.raises(MessageEncodingError):
            await store.append(KEY, [entry("a"), entry("b", bad=object())])
        assert await store.load(KEY) is None
        await store.append(KEY, [entry("a"), entry("b")])
        assert len(await store.load(KEY) or []) == 2


# as its own store in memory


uuids = st.sampled_from(["a", "b", "c", "d", None])
keys = st.builds(
    lambda project, session, sub: {"project_key": project, "session_id": session} | sub,
    st.sampled_from(["p", "q"]),
    st.sampled_from(["s", "t"]),
    st.sampled_from([{}, {"subpath": "subagents/x"}, {"subpath": "main"}]),
)
steps = st.one_of(
    st.tuples(st.just("append"), keys, st.lists(uuids, max_size=4)),
    st.tuples(st.just("delete"), keys, st.none()),
)


class Twins:
    """Our store and the SDK's own, told the same; theirs does not know repeated uuids."""

    def __init__(self, registry: SessionRegistry) -> None:
        self.ours = ActorSessionStore(registry)
        self.theirs = InMemorySessionStore()

    async def append(self, key: SessionKey, entries: list[Any]) -> None:
        await self.ours.append(key, entries)
        seen = {one.get("uuid") for one in await self.theirs.load(key) or []} - {None}
        fresh = []
        for one in entries:
            if one.get("uuid") not in seen:
                fresh.append(one)
                seen |= {one.get("uuid")} - {None}
        if fresh:
            await self.theirs.append(key, fresh)

    async def delete(self, key: SessionKey) -> None:
        await self.ours.delete(key)
        await self.theirs.delete(key)

    async def check(self, key: SessionKey) -> None:
        ours, theirs = self.ours, self.theirs
        assert await ours.load(key) == await theirs.load(key)
        assert sorted(await ours.list_subkeys(key)) == sorted(await theirs.list_subkeys(key))  # type: ignore[arg-type]
        project = key["project_key"]
        for call in ("list_sessions", "list_session_summaries"):
            answers = [await getattr(store, call)(project) for store in (ours, theirs)]
            mine, own = ({one["session_id"]: one.get("data") for one in each} for each in answers)
            assert mine == own


@settings(max_examples=40)
@given(st.lists(steps, max_size=12))
def test_it_answers_as_the_sdks_own_store_does(steps: list[Any]) -> None:
    async def both() -> None:
        async with SessionRegistry(None) as registry:
            twins = Twins(registry)
            for number, (call, key, given_uuids) in enumerate(steps):
                if call == "delete":
                    await twins.delete(key)
                else:
                    await twins.append(key, [entry(uuid, f"{number}") for uuid in given_uuids])
                await twins.check(key)

    asyncio.run(both())


any_keys = st.builds(
    lambda project, session, sub: {"project_key": project, "session_id": session} | sub,
    st.text("a/%~", min_size=1, max_size=5),
    st.text("a/%~", min_size=1, max_size=5),
    st.sampled_from([{}, {"subpath": "subagents/x"}, {"subpath": "main"}]),
)


@given(any_keys, any_keys)
def test_two_conversations_are_never_one_session(one: Any, other: Any) -> None:
    same = one["project_key"] == other["project_key"] and one["session_id"] == other["session_id"]
    assert (session_id_of(one) == session_id_of(other)) is same
    assert (agent_of(one) == agent_of(other)) is (one.get("subpath") == other.get("subpath"))


async def test_a_long_project_key_is_no_hindrance(tmp_path: Path) -> None:
    async with ActorSessionStore(tmp_path) as store:
        for name in ("a", "b"):
            key: SessionKey = {"project_key": "-long" * 45, "session_id": name * 36}
            await store.append(key, [entry(name)])
            assert await store.load(key) == [entry(name)]
        assert len(await store.list_sessions("-long" * 45)) == 2


# what it is here


async def test_a_conversation_is_an_ordinary_session(tmp_path: Path) -> None:
    async with ActorSessionStore(tmp_path) as store:
        await store.append(KEY, [entry("a", "a late parcel"), entry("b", "sorry", "assistant",
                                                                   parentUuid="a")])  # fmt: skip
        await store.append(SUB, [entry("c", "the parcel is in Cologne", "assistant")])
        await store.append(KEY, [entry("d", "so far: a parcel", isCompactSummary=True), entry("e")])
        session = await store.session(KEY)
        assert [row.agent_id for row in await session.messages()] == [
            *("main", "main", "main/subagents/agent-7", "main", "main"),
        ]
        chapters = [len(page.rows) async for page in session.chapters(agent_id="main")]
        assert chapters == [2, 2]
        registry = await store.registry()
        assert [hit.db_id for hit in await registry.search("parcel")] == [4, 3, 1]
        (child,) = await registry.children("a")
        assert child.row.message == entry("b", "sorry", "assistant", parentUuid="a")
        assert len(list(tmp_path.glob("*.db"))) == 1
        await store.delete(KEY)
        assert not list(tmp_path.glob("*.db*"))


async def test_listing_reads_no_transcript_and_orders_by_what_was_appended_last() -> None:
    async with SessionRegistry(None) as registry:
        store = ActorSessionStore(registry)
        for session_id in ("x", "y", "z"):
            await store.append({**KEY, "session_id": session_id}, [entry("a", session_id)])
        await store.append({**KEY, "session_id": "x"}, [entry("b")])
        await store.append({**KEY, "session_id": "y", "subpath": "subagents/1"}, [entry("c")])
        listed = await store.list_sessions(KEY["project_key"])
        assert max(listed, key=lambda one: one["mtime"])["session_id"] == "x"
        summaries = {
            one["session_id"]: one for one in await store.list_session_summaries(KEY["project_key"])
        }
        assert {one["session_id"]: one["mtime"] for one in listed} == {
            session_id: one["mtime"] for session_id, one in summaries.items()
        }
        assert summaries["z"]["data"]["first_prompt"] == "z"


async def test_appends_that_race_fold_every_entry_into_the_summary(tmp_path: Path) -> None:
    said: list[Any] = [
        {"type": "custom-title", "customTitle": "parcels"},
        {"type": "ai-title", "aiTitle": "About parcels"},
        {"type": "last-prompt", "lastPrompt": "where is it"},
        {"type": "summary", "summary": "late"},
        entry("1", "a late parcel"),
    ]
    async with SessionRegistry(tmp_path) as registry:
        await asyncio.gather(*(ActorSessionStore(registry).append(KEY, [one]) for one in said))
        store = ActorSessionStore(registry)
        assert len(await store.load(KEY) or []) == 5
        (summary,) = await store.list_session_summaries(KEY["project_key"])
        told = ["custom_title", "ai_title", "last_prompt", "summary_hint", "first_prompt"]
        assert [summary["data"].get(name) for name in told] == [
            *("parcels", "About parcels", "where is it", "late", "a late parcel"),
        ]


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 8, 13])
async def test_a_cancelled_append_is_carried_out_whole(tmp_path: Path, turns: int) -> None:
    async with ActorSessionStore(tmp_path) as store:
        await store.registry()
        appending = asyncio.ensure_future(store.append(KEY, [entry(str(n)) for n in range(20)]))
        for _ in range(turns):
            await asyncio.sleep(0)
        appending.cancel()
        await asyncio.wait([appending])
        assert appending.cancelled()
        assert len(await store.load(KEY) or []) == 20


async def test_a_second_owner_is_refused_and_others_list_meanwhile(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as mine, SessionRegistry(tmp_path) as other:
        await ActorSessionStore(mine).append(KEY, [entry("a")])
        with pytest.raises(SessionOwnedError):
            await ActorSessionStore(other).append(KEY, [entry("b")])
        await mine.session(session_id_of(KEY)).flush()
        assert len(await ActorSessionStore(other).list_sessions(KEY["project_key"])) == 1


# with the rest of the SDK


async def test_the_sdks_calls_on_a_store_work(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    name = "7d3c1f9e-0000-4000-8000-000000000001"
    async with ActorSessionStore(tmp_path / "sessions") as store:
        key: SessionKey = {"project_key": project_key_for_directory(project), "session_id": name}
        ids = [f"7d3c1f9e-0000-4000-8000-00000000001{n}" for n in range(4)]
        chain = [
            entry(uuid, f"text {n}", "assistant" if n % 2 else "user", sessionId=name,
                  parentUuid=ids[n - 1] if n else None)
            for n, uuid in enumerate(ids)
        ]  # fmt: skip
        await store.append(key, chain)
        await store.append({**key, "subpath": "subagents/agent-1"}, chain[:2])

        (listed,) = await list_sessions_from_store(store, directory=str(project))
        assert (listed.session_id, listed.first_prompt) == (name, "text 0")
        messages = await get_session_messages_from_store(store, name, directory=str(project))
        assert [message.uuid for message in messages] == ids
        assert await list_subagents_from_store(store, name, directory=str(project)) == ["1"]
        sub = await get_subagent_messages_from_store(store, name, "1", directory=str(project))
        assert len(sub) == 2
        await rename_session_via_store(store, name, "parcels", directory=str(project))
        (listed,) = await list_sessions_from_store(store, directory=str(project))
        assert listed.custom_title == "parcels"
        fork = await fork_session_via_store(
            store, name, directory=str(project), up_to_message_id=ids[1]
        )
        forked = await get_session_messages_from_store(
            store, fork.session_id, directory=str(project)
        )
        assert len(forked) == 2
        await delete_session_via_store(store, name, directory=str(project))
        assert [
            one.session_id for one in await list_sessions_from_store(store, directory=str(project))
        ] == [fork.session_id]


async def test_transcripts_on_disk_are_taken_over_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    project = tmp_path / "project"
    project.mkdir()
    name = "7d3c1f9e-0000-4000-8000-000000000001"
    place = tmp_path / "claude" / "projects" / project_key_for_directory(project)
    place.mkdir(parents=True)
    lines = [entry(f"u{n}", f"text {n}", sessionId=name) for n in range(700)]
    (place / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    async with ActorSessionStore(tmp_path / "sessions") as store:
        for _ in range(2):
            await import_session_to_store(name, store, directory=str(project))
        key: SessionKey = {"project_key": project_key_for_directory(project), "session_id": name}
        assert await store.load(key) == lines


FORGETFUL = """
import asyncio, sys
from sessionactor.adapters.claude import ActorSessionStore
key = {"project_key": "p", "session_id": "s"}
store = ActorSessionStore(sys.argv[1])
asyncio.run(store.append(key, [{"type": "user", "uuid": "a"}]))
asyncio.run(store.append(key, [{"type": "user", "uuid": "b"}]))
print(len(asyncio.run(store.load(key))))
"""


async def test_a_program_that_closes_nothing_exits_and_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORGETFUL, str(tmp_path)],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
