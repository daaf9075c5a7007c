"""Event records of another store: into sessions, and out again."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionactor import Session, SessionRegistry
from sessionactor.interchange import export_session, import_session
from sessionactor.testing import memory_registry

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | st.sampled_from(["\ud800", "$event"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["$event", "$map"]), inner)
    ),
    max_leaves=10,
)


@st.composite
def timestamps(draw: st.DrawFn) -> str:
    moment = draw(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)))
    text = moment.replace(microsecond=0).isoformat()
    fraction = draw(
        st.sampled_from(["", ".5", ".123", ".123000", ".1234567", ".123456789", ".000000000001"])
    )
    return text + fraction + draw(st.sampled_from(["Z", "z", "+00:00", "-03:30", "+23:59"]))


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    record = {
        "id": str(draw(st.uuids())),
        "session_id": "s",
        "parent_id": draw(st.none() | st.uuids().map(str) | st.just("any text")),
        "timestamp": draw(timestamps()),
        "event": draw(json_values),
    }
    if draw(st.booleans()):
        record |= draw(st.dictionaries(st.sampled_from(["seq", "agent"]), json_values))
    return record


def line(record: Any) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"


def record(n: int, **more: Any) -> dict[str, Any]:
    return {
        "id": str(UUID(int=n)),
        "session_id": "s",
        "parent_id": None,
        "timestamp": f"2024-01-01T00:00:{n:02}Z",
        "event": {"type": "text_delta", "n": n},
        **more,
    }


@given(st.lists(records(), min_size=1, max_size=8, unique_by=lambda record: record["id"]))
async def test_records_come_back_as_they_were(originals: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        file, again = Path(place, "s.jsonl"), Path(place, "again")
        again.mkdir()
        file.write_text("".join(map(line, originals)))
        async with memory_registry() as registry:
            imported = await import_session(registry, file, format="events")
            assert (imported.status, imported.problems) == ("imported", ())
            rows = await registry.session("s").messages()
            assert [row.key for row in rows] == [one["id"] for one in originals]
            assert [row.parent for row in rows] == [one["parent_id"] for one in originals]
            times = [row.inserted_at for row in rows]
            assert times == sorted(times)
            assert (await import_session(registry, file, format="events")).status == "unchanged"
            exported = await export_session(registry, "s", again, format="events")
            assert exported.lost == ()
            back = [json.loads(text) for text in (again / "s.jsonl").read_bytes().splitlines()]
            assert back == originals
            assert [list(one)[:4] for one in back] == [list(one)[:4] for one in originals]


async def test_a_plain_record_is_a_plain_row(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    first, second = record(1), record(2, parent_id=str(UUID(int=1)))
    file.write_text(line(first) + line(second))
    async with memory_registry() as registry:
        await import_session(registry, file, format="events", agent_id="events")
        session = registry.session("s")
        one, two = await session.messages()
        assert one.message == first["event"]
        assert one.key == first["id"]
        assert two.parent == one.key
        assert (one.agent_id, one.checkpoint, one.turn) == ("events", False, None)
        assert one.inserted_at == datetime(2024, 1, 1, 0, 0, 1, tzinfo=UTC)
        assert (await session.info()).created_at == one.inserted_at
        assert await session.revision() == 2
        # The id is a key: what was imported is not doubled by whoever has it already.
        assert await session.append("events", first["event"], key=first["id"]) == 1
        exported = await export_session(registry, "s", tmp_path / "out.jsonl", format="events")
        assert exported.lost == ("agents of messages: 2",)
        assert (tmp_path / "out.jsonl").read_bytes() == file.read_bytes()


async def test_a_time_that_a_row_cannot_hold_is_kept_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    late, early, exact = (
        record(1, timestamp="2024-01-01T00:00:09Z"),
        record(2, timestamp="2024-01-01T00:00:01Z"),
        record(3, timestamp="2024-01-01T00:00:10.123456789Z"),
    )
    file.write_text(line(late) + line(early) + line(exact))
    async with memory_registry() as registry:
        await import_session(registry, file, format="events")
        rows = await registry.session("s").messages()
        assert [row.message["n"] for row in rows] == [1, 2, 3]  # the file's order
        assert [row.inserted_at.second for row in rows] == [9, 9, 10]
        assert rows[2].inserted_at.microsecond == 123456
        assert [row.message for row in rows] == [one["event"] for one in (late, early, exact)]
        await export_session(registry, "s", tmp_path / "out.jsonl", format="events")
        assert (tmp_path / "out.jsonl").read_bytes() == file.read_bytes()


async def test_what_is_kept_beside_a_row_goes_where_the_row_goes(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    whole = [
        record(1, timestamp="2024-01-01T00:00:01.123456789Z"),
        record(2, seq=7, tags={"$map": [["a", {"$bytes": "AA=="}]]}),
        record(3, event="started"),
        record(4, event={"$event": 1}),
        record(5, timestamp="2023-01-01T00:00:00Z"),
    ]
    file.write_text("".join(map(line, whole)))
    async with (
        SessionRegistry(tmp_path / "a") as registry,
        SessionRegistry(tmp_path / "b") as other,
    ):
        await import_session(registry, file, format="events")
        session = registry.session("s")

        async def records_of(session: Session) -> list[Any]:
            out = tmp_path / "out.jsonl"
            where = registry if session is not copy else other
            await export_session(where, session.session_id, out, format="events")
            return [json.loads(text) for text in out.read_bytes().splitlines()]

        # Through the lossless format, unchanged …
        copy = other.session("s")
        await export_session(registry, "s", tmp_path / "native.jsonl")
        assert (await import_session(other, tmp_path / "native.jsonl")).status == "imported"
        assert (await import_session(registry, tmp_path / "native.jsonl")).status == "unchanged"
        assert await records_of(copy) == whole
        # … into a fork and a backup …
        fork = await session.fork("forked")
        renamed = [{**one, "session_id": "forked"} for one in whole]
        assert [{**one, "parent_id": None} for one in await records_of(fork)] == renamed
        # … and with an update, but not beyond the row.
        await session.update(2, {"n": "edited"})
        await session.update(3, {"n": "edited"})
        await session.remove([1])
        await session.truncate_from(5)
        edited = [
            {**whole[1], "event": {"n": "edited"}},
            {**whole[2], "event": {"n": "edited"}},
            whole[3],
        ]
        assert await records_of(session) == edited
        path = session.path
        await registry.stop("s")
    assert path is not None
    with closing(sqlite3.connect(path)) as connection:
        kept = connection.execute("SELECT message_id FROM origins").fetchall()
    assert kept == [(2,), (3,)]


async def test_what_the_format_cannot_hold_is_told_of(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    async with memory_registry() as registry, memory_registry() as other:
        session = await registry.start("s", name="n")
        await session.append("agent", {"role": "user", "content": "keyed"}, key="k1")
        await session.append("agent", {"role": "user", "content": b"\x00"}, parent=1)
        await session.append("agent-2", {"role": "summary"}, keep_from=2, parent="other/7")
        await session.append("agent", {"role": "user", "content": "gone"}, key="k4")
        await session.remove([4])
        await session.update(1, {"role": "user", "content": "edited"})
        async with session.turn("t", agent_id="agent") as turn:
            await turn.append({"role": "user"}, checkpoint=True, parent=4)
        await session.save_metadata({"a": "b"})
        await session.set_context(room_id="r")
        exported = await export_session(registry, "s", out, format="events")
        assert dict(text.rsplit(": ", 1) for text in exported.lost) == {
            "agents of messages": "1",
            "bounds of checkpoints": "1",
            "checkpoint marks": "1",
            "fields of its context": "1",
            "ids that removed messages had": "1",
            "items of its keys of removed messages": "1",
            "items of its log of removals": "1",
            "items of its metadata": "1",
            "items of its turns": "1",
            "messages with values that JSON cannot hold, written as tags": "1",
            "messages without a key, which got an id": "3",
            "parents, which became the ids of their records": "1",
            "times of updates": "1",
            "turns of messages": "1",
        }
        one, two, three, five = (json.loads(text) for text in out.read_text().splitlines())
        assert one["id"] == two["parent_id"] == "k1"
        assert UUID(two["id"]).version == 5
        assert three["parent_id"] == "other/7"
        assert five["parent_id"] == "s/4"  # it is gone
        assert two["event"]["content"] == {"$bytes": "AA=="}
        # The ids that were made up are the same the next time.
        before = out.read_bytes()
        await export_session(registry, "s", out, format="events")
        assert out.read_bytes() == before
        assert (await import_session(other, out, format="events")).messages == 4


async def test_parents_become_the_ids_that_children_are_found_by(tmp_path: Path) -> None:
    async with memory_registry() as registry:
        session = await registry.start("s", name="n")
        for n in range(1, 200):
            await session.append(
                "agent", {"n": n}, parent=max(1, n // 2), key=None if n % 3 else f"{n}"
            )
        await export_session(registry, "s", tmp_path / "s.jsonl", format="events")
    ids: dict[int, str] = {}
    for text in (tmp_path / "s.jsonl").read_text().splitlines():
        one = json.loads(text)
        n = one["event"]["n"]
        ids[n] = one["id"]
        assert one["parent_id"] == ids[max(1, n // 2)]


async def test_a_moved_on_session_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text(line(record(1)))
    async with memory_registry() as registry:
        await import_session(registry, file, format="events")
        session = registry.session("s")
        await session.append("agent", {"n": 2})
        result = await import_session(registry, file, format="events")
        assert result.status == "exists"
        assert "revision 2" in result.problems[0].reason
        assert len(await session.messages()) == 2


async def test_a_file_that_grew_is_another_one(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text(line(record(1)))
    async with SessionRegistry(tmp_path / "a") as registry:
        await import_session(registry, file, format="events")
        file.write_text(line(record(1)) + line(record(2)))
        assert (await import_session(registry, file, format="events")).status == "exists"
        assert len(await registry.session("s").messages()) == 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"session_id": "another"}, "disagrees with the file's name 's.jsonl'"),
        ({"session_id": 7}, "'session_id' is a number"),
        ({"id": str(UUID(int=1))}, "was used before, in line 1"),
        ({"id": None}, "'id' is a null"),
        ({"id": "a\0b"}, "NUL"),
        ({"parent_id": 5}, "'parent_id' is a number"),
        ({"parent_id": "\ud800"}, "lone surrogate"),
        ({"timestamp": "yesterday"}, "RFC 3339"),
        ({"timestamp": "2024-13-01T00:00:00Z"}, "RFC 3339"),
        ({"timestamp": "2024-01-01T00:00:00"}, "RFC 3339"),
        ({"timestamp": 1704067200}, "'timestamp' is a number"),
        ({"event": {"deep": eval("[" * 80 + "]" * 80)}}, None),
    ],
)
async def test_a_bad_record_is_told_of_and_nothing_is_imported(
    tmp_path: Path, damage: dict[str, Any], reason: str | None
) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text(line(record(1)) + line(record(2, **damage)) + line(record(3)))
    async with memory_registry() as registry:
        result = await import_session(registry, file, format="events")
        if reason is None:
            assert result.status == "imported"
            return
        assert result.status == "refused"
        assert [problem.line for problem in result.problems] == [2]
        assert reason in result.problems[0].reason
        assert not await registry.exists("s")
        result = await import_session(registry, file, format="events", skip_bad=True)
        assert (result.status, result.messages, result.problem_count) == ("imported", 2, 1)
        rows = await registry.session("s").messages()
        assert [(row.db_id, row.message["n"]) for row in rows] == [(1, 1), (2, 3)]
        result = await import_session(registry, file, format="events", skip_bad=True)
        assert result.status == "unchanged"


@pytest.mark.parametrize("missing", ["id", "session_id", "timestamp", "event"])
async def test_a_record_without_one_of_its_members_is_bad(tmp_path: Path, missing: str) -> None:
    file = tmp_path / "s.jsonl"
    broken = record(2)
    del broken[missing]
    file.write_text(line(record(1)) + line(broken))
    async with memory_registry() as registry:
        result = await import_session(registry, file, format="events")
        assert (result.status, result.problems[0].line) == ("refused", 2)
        assert f"there is no '{missing}'" in result.problems[0].reason


async def test_a_parent_may_be_missing(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    root = record(1)
    del root["parent_id"]
    file.write_text(line(root))
    async with memory_registry() as registry:
        assert (await import_session(registry, file, format="events")).status == "imported"


@pytest.mark.parametrize(
    ("name", "session_id"),
    [
        ("telegram_user123", "telegram_user123"),
        ("telegram%5fuser123", "telegram_user123"),
        ("user%2f42", "user/42"),
        ("a%2fb", "a%2fb"),  # an id that looks like an escaped one
        ("Ünïcode und Leerzeichen", "Ünïcode und Leerzeichen"),
        ("0fae2753-6c84-4afa-9d64-d3c41299e104", None),
    ],
)
async def test_the_name_of_a_file_and_its_records_agree(
    tmp_path: Path, name: str, session_id: str | None
) -> None:
    file = tmp_path / f"{name}.jsonl"
    file.write_text(line(record(1, session_id=session_id or name)))
    async with memory_registry() as registry:
        result = await import_session(registry, file, format="events")
        assert (result.status, result.session_id) == ("imported", session_id or name)
