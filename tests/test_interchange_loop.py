"""Sessions of a loop's file store: into sessions, and out again."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_interchange_events import json_values

from sessionactor import SessionRegistry
from sessionactor.interchange import export_session, import_session
from sessionactor.testing import memory_registry

HEADER = {
    "session_id": "s",
    "created_at_ms": 1_700_000_000_123,
    "agent_loop_version": "0.31.0",
    "message_count": 2,
}
MESSAGES = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "日本"}]


def text_of(*lines: Any) -> str:
    return "".join(
        json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines
    )


loop_messages = st.dictionaries(st.text(max_size=5), json_values, max_size=4)


@given(st.lists(loop_messages, min_size=1, max_size=6), st.booleans(), st.integers(0, 2**47))
async def test_a_file_comes_back_as_it_was(
    messages: list[dict[str, Any]], has_header: bool, created_at_ms: int
) -> None:
    header = {**HEADER, "created_at_ms": created_at_ms, "message_count": len(messages)}
    lines = [header, *messages] if has_header else messages
    with tempfile.TemporaryDirectory() as place:
        file, again = Path(place, "s.jsonl"), Path(place, "again")
        again.mkdir()
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        async with memory_registry() as registry:
            imported = await import_session(registry, file, format="loop")
            assert (imported.status, imported.problems) == ("imported", ())
            rows = await registry.session("s").messages()
            assert [row.message for row in rows] == messages
            assert (await import_session(registry, file, format="loop")).status == "unchanged"
            exported = await export_session(registry, "s", again, format="loop")
            assert not exported.lost or not has_header
            back = [json.loads(text) for text in (again / "s.jsonl").read_bytes().splitlines()]
            assert back == lines
            assert list(back[0]) == list(lines[0])


async def test_the_header_becomes_metadata_and_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    header = {**HEADER, "model": {"name": "m", "n": 1.5}, "none": None}
    file.write_text(text_of(header, *MESSAGES))
    async with memory_registry() as registry:
        result = await import_session(registry, file, format="loop", agent_id="looper")
        assert (result.status, result.messages, result.session_id) == ("imported", 2, "s")
        session = registry.session("s")
        assert await session.get_metadata() == {
            "created_at_ms": "1700000000123",
            "agent_loop_version": "0.31.0",
            "loop_header": '{"model": {"name": "m", "n": 1.5}, "none": null}',
        }
        created_at = datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)
        info = await session.info()
        assert (info.created_at, info.message_count) == (created_at, 2)
        rows = await session.messages()
        assert [(row.agent_id, row.inserted_at) for row in rows] == [("looper", created_at)] * 2
        exported = await export_session(registry, "s", tmp_path / "out.jsonl", format="loop")
        assert exported.lost == ("agents of messages: 2",)
        assert (tmp_path / "out.jsonl").read_bytes() == file.read_bytes()
        # What is added counts.
        await session.append("looper", {"role": "user", "content": "more"})
        await export_session(registry, "s", tmp_path / "out.jsonl", format="loop")
        first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
        assert first == {**header, "message_count": 3}


async def test_without_a_header_the_file_tells_the_time_and_its_name_the_id(
    tmp_path: Path,
) -> None:
    file = tmp_path / "telegram_user1.jsonl"
    file.write_text(text_of(*MESSAGES))
    os.utime(file, ns=(0, 1_600_000_000_123_456_789))
    async with memory_registry() as registry:
        result = await import_session(registry, file, format="loop")
        assert result.session_id == "telegram_user1"
        (row, _) = await registry.session("telegram_user1").messages()
        assert row.inserted_at == datetime(2020, 9, 13, 12, 26, 40, 123456, UTC)
        # A copy of the file may be younger: it is the same content.
        os.utime(file)
        assert (await import_session(registry, file, format="loop")).status == "unchanged"
        await export_session(registry, "telegram_user1", tmp_path / "out.jsonl", format="loop")
        assert (tmp_path / "out.jsonl").read_bytes() == file.read_bytes()


async def test_a_header_alone_is_an_empty_session(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text(text_of({**HEADER, "message_count": 0}))
    async with memory_registry() as registry:
        result = await import_session(registry, file, format="loop")
        assert (result.status, result.messages) == ("imported", 0)
        await export_session(registry, "s", tmp_path / "out.jsonl", format="loop")
        assert (tmp_path / "out.jsonl").read_bytes() == file.read_bytes()


async def test_a_summary_is_a_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text(text_of(*MESSAGES, {"role": "summary"}, *MESSAGES))
    async with memory_registry() as registry:
        await import_session(registry, file, format="loop")
        page = await registry.session("s").messages_from_latest_checkpoint()
        assert (page.checkpoint_id, len(page.rows)) == (3, 3)


async def test_what_the_format_cannot_hold_is_told_of(tmp_path: Path) -> None:
    async with memory_registry() as registry, memory_registry() as other:
        session = await registry.start("s", name="n")
        await session.append("agent", {"role": "user"}, key="k1")
        await session.append("agent-2", {"role": "user", "x": {1: float("nan")}}, parent=1)
        async with session.turn("t", agent_id="agent") as turn:
            await turn.append({"role": "user"})
        await session.truncate_from(3)
        await session.save_metadata({"a": "b"})
        exported = await export_session(registry, "s", tmp_path / "s.jsonl", format="loop")
        assert dict(text.rsplit(": ", 1) for text in exported.lost) == {
            "agents of messages": "1",
            "ids that removed messages had": "1",
            "keys of messages": "1",
            "messages with values that JSON cannot hold, written as tags": "1",
            "pairs of metadata": "1",
            "parents of messages": "1",
            "times of messages": "2",
            "turns, removals and keys of removed messages": "2",
        }
        assert (tmp_path / "s.jsonl").read_text() == (
            '{"role":"user"}\n{"role":"user","x":{"$map":[[1,{"$float":"nan"}]]}}\n'
        )
        assert (await import_session(other, tmp_path / "s.jsonl", format="loop")).messages == 2


async def test_a_first_message_that_looks_like_a_header_is_not_taken_for_one(
    tmp_path: Path,
) -> None:
    async with memory_registry() as registry, memory_registry() as other:
        session = await registry.start("s", name="n")
        await session.append("agent", {**HEADER, "message_count": 1})
        await export_session(registry, "s", tmp_path / "s.jsonl", format="loop")
        assert (await import_session(other, tmp_path / "s.jsonl", format="loop")).messages == 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"message_count": 3}, "'message_count' is 3, the messages are 2"),
        ({"session_id": "another"}, "disagrees with the file's name"),
        ({"created_at_ms": -1}, "'created_at_ms' is not between"),
        ({"created_at_ms": 2**64}, "'created_at_ms' is not between"),
        ({"created_at_ms": "now"}, "'created_at_ms' is a string"),
        ({"agent_loop_version": None}, "'agent_loop_version' is a null"),
        ({"message_count": ...}, "there is no 'message_count'"),
    ],
)
async def test_a_bad_header_is_told_of(tmp_path: Path, damage: dict[str, Any], reason: str) -> None:
    file = tmp_path / "s.jsonl"
    header = {key: value for key, value in (HEADER | damage).items() if value is not ...}
    file.write_text(text_of(header, *MESSAGES))
    async with memory_registry() as registry:
        result = await import_session(registry, file, format="loop")
        assert (result.status, [problem.line for problem in result.problems]) == ("refused", [1])
        assert reason in result.problems[0].reason
        assert not await registry.exists("s")
        result = await import_session(registry, file, format="loop", skip_bad=True)
        assert (result.status, result.messages) == ("imported", 2)
        session = registry.session("s")
        assert [row.message for row in await session.messages()] == MESSAGES
        assert bool(await session.get_metadata()) is ("the messages are" in reason)


async def test_a_header_further_down_is_a_message(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text(text_of(*MESSAGES, HEADER))
    async with memory_registry() as registry:
        assert (await import_session(registry, file, format="loop")).messages == 3


@pytest.mark.parametrize("text", ["[]", '"text"', "7", "null"])
async def test_a_message_is_an_object(tmp_path: Path, text: str) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text(text_of(*MESSAGES) + text + "\n")
    async with memory_registry() as registry:
        result = await import_session(registry, file, format="loop")
        assert (result.status, result.problems[0].line) == ("refused", 3)
        assert "a message is an object" in result.problems[0].reason


@pytest.mark.parametrize("form", ["loop", "events"])
async def test_what_is_of_the_last_microseconds_of_all_is_imported(
    tmp_path: Path, form: Any
) -> None:
    event = {"id": "6f1e4f0e-3c1c-4a4e-9f0a-0d9f5a3b2c1d", "session_id": "s", "parent_id": None}
    event |= {"timestamp": "9999-12-31T23:59:59.999Z", "event": MESSAGES[0]}
    header = {**HEADER, "created_at_ms": 253_402_300_799_999, "message_count": 1}
    file = tmp_path / "s.jsonl"
    file.write_text(text_of(header, MESSAGES[0]) if form == "loop" else text_of(event))
    last = datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)
    async with SessionRegistry(tmp_path / "sessions") as registry:
        assert (await import_session(registry, file, format=form)).status == "imported"
        session = registry.session("s")
        assert [row.inserted_at for row in await session.messages()] == [last]
        assert await session.append("a", MESSAGES[1]) == 2
        await registry.stop("s")
        assert (await session.info()).last_activity == last
        assert [info.last_activity for info in (await registry.sessions()).sessions] == [last]
