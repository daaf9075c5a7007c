"""What users of four other stores rely on, a test for each behaviour."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sessionactor import (
    AmbiguousNameError,
    CorruptRowError,
    InvalidNameError,
    Session,
    SessionNotFoundError,
    SessionRegistry,
)
from sessionactor.testing import Faults, faulty_store

USER = {"role": "user", "content": "hello"}
CALL: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": '{"x": [1, 2.5, null]}'}}],
}


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[SessionRegistry]:
    opened = SessionRegistry(tmp_path)
    await opened.open()
    yield opened
    await opened.aclose()


@pytest.fixture
async def session(registry: SessionRegistry) -> Session:
    return await registry.start("telegram_user123", name="crazy-mango")


def contents(rows: Any) -> list[Any]:
    return [row.message.get("content") for row in rows]


class TestAProcessPerSession:
    async def test_starting_a_running_id_gives_the_running_session(
        self, registry: SessionRegistry, session: Session
    ) -> None:
        assert await registry.start("telegram_user123") is session
        assert registry.whereis("telegram_user123") is session

    async def test_what_was_stopped_starts_again_with_the_next_request(
        self, registry: SessionRegistry, session: Session
    ) -> None:
        assert await registry.stop("telegram_user123")
        assert registry.whereis("telegram_user123") is None
        assert await session.append("a", USER) == 1

    async def test_what_crashed_starts_again_with_the_next_request(self, tmp_path: Path) -> None:
        faults = Faults()
        async with SessionRegistry(tmp_path / "x", open_store=faulty_store(faults)) as registry:
            session = await registry.start("s")
            faults.crash("commit")
            with pytest.raises(Exception, match="crashed"):
                await session.append("a", USER)
            assert await session.append("a", USER) == 1

    async def test_a_message_keeps_its_own_id(self, session: Session) -> None:
        await session.append("a", {**USER, "id": "msg_1"})
        (row,) = await session.messages()
        assert (row.db_id, row.message["id"]) == (1, "msg_1")

    async def test_an_append_to_no_session_is_an_error(self, registry: SessionRegistry) -> None:
        with pytest.raises(SessionNotFoundError):
            await registry.session("nobody").append("a", USER)

    async def test_rows_come_in_insertion_order_agents_interleaved(self, session: Session) -> None:
        for number in range(6):
            await session.append(f"agent-{number % 2}", {"content": number})
        assert contents(await session.messages()) == list(range(6))
        assert contents(await session.messages(agent_id="agent-1")) == [1, 3, 5]
        (first, *_) = await session.messages()
        assert first.inserted_at.tzinfo is UTC
        assert abs(first.inserted_at - datetime.now(UTC)) < timedelta(minutes=1)

    async def test_messages_come_back_as_they_were(self, session: Session) -> None:
        await session.append("a", CALL)
        (row,) = await session.messages()
        assert row.message == CALL

    async def test_a_bad_row_spoils_no_other(
        self, registry: SessionRegistry, session: Session
    ) -> None:
        await session.extend("a", [USER, CALL, USER])
        await registry.stop(session.session_id)
        assert session.path is not None
        with closing(sqlite3.connect(session.path, isolation_level=None)) as file:
            file.execute("UPDATE messages SET data = x'c1' WHERE id = 2")
        with pytest.raises(CorruptRowError) as raised:
            await session.messages()
        assert raised.value.db_id == 2
        assert [row.db_id for row in await session.messages(on_corrupt="skip")] == [1, 3]

    async def test_chapters_by_summaries_and_what_a_summary_keeps(self, session: Session) -> None:
        for role in ("user", "summary", "user"):
            await session.append("a", {"role": role})
        await session.append("a", {"role": "summary"}, keep_from=3)
        page = await session.messages_from_latest_checkpoint()
        assert ([row.db_id for row in page.rows], page.checkpoint_id) == ([4, 3], 4)
        page = await session.messages_before_checkpoint(4)
        assert ([row.db_id for row in page.rows], page.checkpoint_id) == ([2], 2)
        page = await session.messages_before_checkpoint(2)
        assert ([row.db_id for row in page.rows], page.checkpoint_id) == ([1], None)

    async def test_truncating_removes_that_row_and_later_ones(self, session: Session) -> None:
        await session.save_metadata({"k": "v"})
        for agent in ("a", "b", "a"):
            await session.append(agent, USER)
        assert await session.truncate_from(2) == 2
        assert await session.append("b", CALL) == 4
        assert await session.get_metadata() == {"k": "v"}

    async def test_metadata_merges_and_survives(
        self, registry: SessionRegistry, session: Session
    ) -> None:
        await session.save_metadata({"usage": 12, "done": True, "none": None})
        await session.save_metadata({})
        await session.save_metadata({"usage": 13})
        await registry.stop(session.session_id)
        assert await session.get_metadata() == {"usage": "13", "done": "true", "none": None}

    async def test_ids_with_the_characters_of_patterns_find_only_themselves(
        self, registry: SessionRegistry
    ) -> None:
        for session_id in ("user_1", "user", "a*", "ab", "[x]", "x"):
            await registry.start(session_id, name="n")
        for session_id in ("user_1", "user", "a*", "ab", "[x]", "x"):
            assert (await registry.find_by_id(session_id)).session_id == session_id

    async def test_two_sessions_of_a_name_are_never_a_silent_first_hit(
        self, registry: SessionRegistry
    ) -> None:
        for session_id in ("one", "two"):
            await registry.start(session_id, name="same")
        with pytest.raises(AmbiguousNameError) as raised:
            await registry.find_by_name("same")
        assert set(raised.value.session_ids) == {"one", "two"}

    async def test_a_session_is_resumed_by_its_generated_name(
        self, registry: SessionRegistry
    ) -> None:
        created = await registry.start()
        assert len(created.name.split("-")) == 2
        await created.append("a", USER)
        found = await registry.find_by_name(created.name)
        resumed = await registry.start(found.session_id)
        assert contents(await resumed.messages()) == ["hello"]

    async def test_all_sessions_newest_first(self, registry: SessionRegistry) -> None:
        for session_id in ("a", "b", "c"):
            await (await registry.start(session_id)).append("x", USER)
        await registry.session("a").append("x", USER)
        listed = await registry.sessions()
        assert [info.session_id for info in listed.sessions] == ["a", "c", "b"]
        assert [info.message_count for info in listed.sessions] == [2, 1, 1]


class TestABackendWithNamesRoutingAndStates:
    async def test_loading_appending_and_editing_the_end(self, session: Session) -> None:
        assert await session.messages() == []
        assert not await session.update_last(USER)
        assert not await session.remove_last()
        await session.append("a", USER)
        await session.append("a", {"content": ""})
        assert await session.update_last({"content": "streamed"})
        assert contents(await session.messages()) == ["hello", "streamed"]
        assert await session.remove_last()
        assert contents(await session.messages()) == ["hello"]

    async def test_reading_an_unknown_session_is_an_error(self, registry: SessionRegistry) -> None:
        with pytest.raises(SessionNotFoundError):
            await registry.session("unknown").messages()

    async def test_metadata_of_a_session_is_true(self, session: Session) -> None:
        info = await session.info()
        assert (info.session_id, info.name, info.path) == (
            "telegram_user123",
            "crazy-mango",
            session.path,
        )
        assert info.created_at == info.last_activity
        assert info.message_count == 0
        await session.append("a", USER)
        (row,) = await session.messages()
        info = await session.info()
        assert info.last_activity == row.inserted_at
        assert info.message_count == 1
        assert (info.agent_alias, info.channel_id, info.room_id, info.sender_id) == (None,) * 4

    async def test_compacting_keeps_everything(self, session: Session) -> None:
        await session.extend("a", [{"content": "x" * 10_000}] * 50)
        await session.truncate_from(2)
        report = await session.compact()
        assert report.size_after < report.size_before
        assert len(await session.messages()) == 1

    async def test_cleaning_up_leaves_what_is_running_or_in_use(
        self, registry: SessionRegistry
    ) -> None:
        for session_id in ("old", "running", "used"):
            await registry.start(session_id)
        await registry.session("running").set_state("running", "t")
        await registry.stop("old")
        await registry.stop("running")
        report = await registry.cleanup(timedelta(0))
        assert (report.deleted, dict(report.failed)) == (("old",), {})
        assert not await registry.exists("old")

    async def test_searching_by_keyword_finds_sessions(self, registry: SessionRegistry) -> None:
        one, two = await registry.start("one"), await registry.start("two")
        await one.extend("a", [{"content": "rust is fast"}, {"content": "rust again"}])
        await two.append("a", {"content": "python is fine"})
        hits = await registry.search("rust", by="session")
        assert [hit.session_id for hit in hits] == ["one"]
        assert await registry.search('"') == []
        assert await registry.search("one") == []  # an id is not text

    async def test_clearing_keeps_name_and_metadata(self, session: Session) -> None:
        await session.save_metadata({"k": "v"})
        await session.extend("a", [USER] * 3)
        assert await session.clear() == 3
        assert await session.clear() == 0
        assert (session.name, await session.get_metadata()) == ("crazy-mango", {"k": "v"})
        assert await session.append("a", USER) == 4

    async def test_deleting_is_final(self, registry: SessionRegistry, session: Session) -> None:
        assert await registry.delete(session.session_id)
        assert not await registry.delete(session.session_id)
        assert not await registry.exists(session.session_id)
        with pytest.raises(SessionNotFoundError):
            await session.append("a", USER)

    async def test_names_are_set_and_generated(self, session: Session) -> None:
        await session.rename("eyrie")
        assert session.name == "eyrie"
        with pytest.raises(InvalidNameError):
            await session.rename("")
        await session.rename(None)
        assert session.name != "eyrie"

    async def test_alias_and_context_are_additive(self, session: Session) -> None:
        await session.set_agent_alias("eyrie")
        await session.set_context(channel_id="discord.clamps", room_id="42")
        await session.set_context(sender_id="ada", room_id=None)
        info = await session.info()
        assert (info.agent_alias, info.channel_id, info.room_id, info.sender_id) == (
            "eyrie",
            "discord.clamps",
            None,
            "ada",
        )

    async def test_setting_something_on_a_missing_session_is_an_error(
        self, registry: SessionRegistry
    ) -> None:
        with pytest.raises(SessionNotFoundError):
            await registry.session("missing").set_agent_alias("x")

    async def test_states_and_their_turns(
        self, registry: SessionRegistry, session: Session
    ) -> None:
        await session.set_state("running", "turn-1")
        info = await session.info()
        assert (info.state, info.turn_id) == ("running", "turn-1")
        assert info.turn_started_at is not None
        assert [each.session_id for each in await registry.running()] == [session.session_id]
        assert await registry.stuck(timedelta(hours=1)) == []
        assert [each.turn_id for each in await registry.stuck(timedelta(0))] == ["turn-1"]
        await session.set_state("error")
        info = await session.info()
        assert (info.state, info.turn_id) == ("error", "turn-1")
        await session.set_state("idle")
        info = await session.info()
        assert (info.state, info.turn_id, info.turn_started_at) == ("idle", None, None)
        assert await registry.running() == []

    async def test_what_ran_when_its_process_ended_is_interrupted(self, tmp_path: Path) -> None:
        async with SessionRegistry(tmp_path / "x") as registry:
            session = await registry.start("s")
            await session.set_state("running", "turn-1")
            await session.append("a", USER, turn="turn-1")
        async with SessionRegistry(tmp_path / "x") as registry:
            (info,) = (await registry.sessions()).sessions
            assert (info.state, info.active) == ("interrupted", False)
            assert await registry.running() == []
            session = registry.session("s")
            assert contents(await session.interrupted_turn()) == ["hello"]
            await session.finish_turn("turn-1")
            assert (await session.info()).state == "idle"

    async def test_keys_that_look_alike_have_files_of_their_own(
        self, registry: SessionRegistry
    ) -> None:
        alike = ["a/b", "a_b", "a-b", "a:b", "A/B", "a b"]
        paths = {(await registry.start(key, name="n")).path for key in alike}
        assert len(paths) == len(alike)


class TestEventRecordsWithParents:
    async def test_a_record_has_an_id_a_parent_and_a_time(self, session: Session) -> None:
        record_id = str(uuid4())
        root = await session.append("a", {"type": "started"}, key=record_id)
        child = await session.append("a", {"type": "ended"}, parent=root)
        found = await session.get(key=record_id)
        assert found is not None
        assert (found.db_id, found.parent) == (root, None)
        row = await session.get(child)
        assert row is not None
        assert row.parent == f"telegram_user123/{root}"

    async def test_the_head_is_the_last(self, session: Session) -> None:
        assert await session.head() is None
        await session.extend("a", [{"content": 1}, {"content": 2}])
        head = await session.head()
        assert head is not None
        assert head.message["content"] == 2

    async def test_children_are_found_across_sessions(self, registry: SessionRegistry) -> None:
        one, two = await registry.start("one"), await registry.start("two")
        root = await one.append("a", {"n": "root"})
        await two.append("b", {"n": "there"}, parent=f"one/{root}")
        await one.append("a", {"n": "here"}, parent=root)
        await two.append("b", {"n": "foreign"}, parent="ext-1")
        children = await one.children(root)
        assert [(child.session_id, child.row.message["n"]) for child in children] == [
            ("two", "there"),
            ("one", "here"),
        ]
        assert [child.row.message["n"] for child in await registry.children("ext-1")] == ["foreign"]
        assert await registry.children("one/99") == []

    async def test_in_memory_too(self) -> None:
        async with SessionRegistry(None) as registry:
            session = await registry.start("s")
            root = await session.append("a", USER)
            await session.append("a", CALL, parent=root)
            assert len(await session.children(root)) == 1


class TestPluggableStoresOfALoop:
    @pytest.mark.parametrize("in_memory", [False, True])
    async def test_append_flush_load_delete_and_list(self, tmp_path: Path, in_memory: bool) -> None:
        async with SessionRegistry(None if in_memory else tmp_path / "x") as registry:
            for session_id in ("b", "a"):
                session = await registry.start(session_id, name=session_id)
                await session.append("loop", json.loads(json.dumps(CALL)))
                await session.flush()
                assert contents(await session.messages()) == [None]
            assert [file.session_id for file in await registry.find("*")] == ["a", "b"]
            listed = await registry.sessions(order="created")
            assert [info.session_id for info in listed.sessions] == ["b", "a"]
            assert await registry.delete("a")
            assert not await registry.delete("a")

    async def test_what_a_header_tells(self, session: Session) -> None:
        await session.append("loop", USER)
        info = await session.info()
        assert info.session_id == "telegram_user123"
        assert info.created_at.tzinfo is UTC
        assert info.message_count == 1

    async def test_nothing_that_was_answered_is_only_in_memory(self, tmp_path: Path) -> None:
        async with SessionRegistry(tmp_path / "x") as registry:
            session = await registry.start("s")
            await session.append("loop", USER)
            assert session.path is not None
            with closing(sqlite3.connect(f"{session.path.as_uri()}?mode=ro", uri=True)) as file:
                assert file.execute("SELECT count(*) FROM messages").fetchone() == (1,)
