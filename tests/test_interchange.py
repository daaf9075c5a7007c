"""Whole sessions to the lossless format and back, whatever happened to them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import owner
from tables import tables
from test_codec import any_text, messages, same

from sessionactor import (
    IdempotencyError,
    InvalidValueError,
    ReadOnlyError,
    Session,
    SessionBusyError,
    SessionError,
    SessionNotFoundError,
    SessionOwnedError,
    SessionRegistry,
    TurnClosedError,
    TurnOpenError,
)
from sessionactor._requests import Restore, Write
from sessionactor.interchange import (
    ExportReport,
    Progress,
    export_session,
    export_sessions,
    import_session,
    import_sessions,
)
from sessionactor.testing import memory_registry

HELLO = {"role": "user", "content": "hello"}

agents = st.sampled_from(["a", "b", "日本"])
texts = any_text.filter(lambda text: "\0" not in text and text.isprintable())
keys = st.none() | st.sampled_from(["k1", "k2", "k3", "ключ", ""])
turns = st.sampled_from(["t1", "t2", "t3"])
ids = st.integers(1, 14)

operations = st.one_of(
    st.tuples(
        st.just("append"),
        agents,
        messages | st.just({"role": "summary", "content": "so far"}),
        keys,
        st.none() | turns,
        st.none() | ids | st.sampled_from(["other/3", "uuid"]),
    ),
    st.tuples(st.just("summary"), agents, ids),
    st.tuples(st.just("update"), ids, messages),
    st.tuples(st.just("update_last"), messages),
    st.tuples(st.just("remove"), st.lists(ids, max_size=4)),
    st.tuples(st.just("remove_last")),
    st.tuples(st.just("truncate_from"), ids),
    st.tuples(st.just("clear")),
    st.tuples(st.just("metadata"), st.dictionaries(texts, st.none() | texts, max_size=3)),
    st.tuples(st.just("context"), st.none() | texts, st.none() | texts),
    st.tuples(st.just("alias"), st.none() | texts),
    st.tuples(st.just("state"), st.sampled_from(["idle", "running", "error"]), st.none() | turns),
    st.tuples(st.just("turn"), turns, agents, st.booleans()),
    st.tuples(st.just("begin"), turns, agents),
    st.tuples(st.just("discard"), turns),
    st.tuples(st.just("batch"), ids, messages),
    st.tuples(st.just("rename"), st.sampled_from(["n", "m"])),
    st.tuples(st.just("stop")),
)


async def carry_out(registry: SessionRegistry, session: Session, operation: Any) -> None:
    match operation:
        case "append", agent_id, message, key, turn, parent:
            await session.append(agent_id, message, key=key, turn=turn, parent=parent)
        case "summary", agent_id, keep_from:
            await session.append(agent_id, {"role": "summary"}, keep_from=keep_from)
        case "update", db_id, message:
            await session.update(db_id, message)
        case "update_last", message:
            await session.update_last(message)
        case "remove", db_ids:
            await session.remove(db_ids)
        case ("remove_last",):
            await session.remove_last()
        case "truncate_from", db_id:
            await session.truncate_from(db_id)
        case ("clear",):
            await session.clear()
        case "metadata", mapping:
            await session.save_metadata(mapping)
        case "context", room_id, sender_id:
            await session.set_context(room_id=room_id, sender_id=sender_id)
        case "alias", alias:
            await session.set_agent_alias(alias)
        case "state", state, turn_id:
            await session.set_state(state, turn_id)
        case "turn", turn_id, agent_id, fails:
            with contextlib.suppress(ZeroDivisionError):
                async with session.turn(turn_id, agent_id=agent_id) as turn:
                    await turn.append(HELLO)
                    if fails:
                        raise ZeroDivisionError
        case "begin", turn_id, agent_id:
            await session.turn(turn_id, agent_id=agent_id).__aenter__()
        case "discard", turn_id:
            await session.discard_turn(turn_id)
        case "batch", db_id, message:
            async with session.batch() as batch:
                batch.append("a", HELLO)
                batch.update_last(message)
                batch.remove([db_id])
                batch.save_metadata({"in": "a batch"})
        case "rename", name:
            await session.rename(name)
        case ("stop",):
            await registry.stop(session.session_id)


async def file_of(registry: SessionRegistry, session_id: str) -> Path:
    """A session's file, once it is closed."""
    await registry.stop(session_id)
    path = (await registry.find_by_id(session_id)).path
    assert path is not None
    return path


@given(st.lists(operations, max_size=25))
@settings(max_examples=80)
async def test_a_session_comes_back_as_it_was(done: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as place:
        here, there, out = Path(place, "here"), Path(place, "there"), Path(place, "s.jsonl")
        async with (
            SessionRegistry(here, durability="normal", catalog=False) as registry,
            SessionRegistry(there, durability="normal", catalog=False) as other,
        ):
            session = await registry.start("s", name="n")
            for operation in done:
                with contextlib.suppress(SessionError):
                    await carry_out(registry, session, operation)
            exported = await export_session(registry, "s", out)
            assert (exported.status, exported.lost, exported.problems) == ("exported", (), ())
            imported = await import_session(other, out)
            assert (imported.status, imported.problems) == ("imported", ())
            assert exported.messages == imported.messages == (await session.info()).message_count
            copy = other.session("s")
            for row, again in zip(await session.messages(), await copy.messages(), strict=True):
                assert row._replace(message={}) == again._replace(message={})
                assert same(row.message, again.message)
            assert await session.get_metadata() == await copy.get_metadata()
            # Again, it is the same file, and nothing is done.
            assert (await export_session(other, "s", Path(place, "again.jsonl"))).messages == (
                exported.messages
            )
            assert Path(place, "again.jsonl").read_bytes() == out.read_bytes()
            assert (await export_session(registry, "s", out)).status == "unchanged"
            for each in (registry, other):
                assert (await import_session(each, out)).status == "unchanged"
            mine, copied = await file_of(registry, "s"), await file_of(other, "s")
            assert mine.name == copied.name
            assert tables(mine) == tables(copied)


async def eventful(registry: SessionRegistry, session_id: str = "s", name: str = "n") -> Session:
    """A session with everything in it."""
    session = await registry.start(session_id, name=name)
    for n in range(1, 9):
        await session.append("agent-1", {"role": "user", "content": f"n {n}"}, key=f"k{n}")
    await session.append("agent-2", {"role": "summary", "content": "so far"}, keep_from=7)
    await session.update(3, {"role": "user", "content": "edited"})
    await session.remove([2, 4, 5])
    await session.append("agent-1", HELLO, key="cut")
    await session.truncate_from(10)
    async with session.turn("turn-1", agent_id="agent-1") as turn:
        await turn.append({"role": "user", "content": b"\x00", "at": datetime(2024, 1, 1)})
        await turn.append({"role": "assistant", "n": 2**70, "set": {1, 2}}, parent=11)
    await session.save_metadata({"model": "m", "nothing": None})
    await session.set_context(channel_id="c", room_id="r")
    await session.set_state("error", "turn-9")
    return session


async def test_what_is_imported_goes_on_as_the_original_would(
    place: Path | None, tmp_path: Path
) -> None:
    async with SessionRegistry(place) as registry, memory_registry() as other:
        session = await eventful(registry)
        await export_session(registry, "s", tmp_path / "s.jsonl")
        await import_session(other, tmp_path / "s.jsonl")
        copy = other.session("s")
        for each in (session, copy):
            said = {"role": "user", "content": "n 3"}
            assert await each.append("agent-1", said, key="k3") == 3  # updated since
            assert await each.append("agent-1", HELLO, key="cut") == 10  # gone since
            with pytest.raises(IdempotencyError):
                await each.append("agent-1", HELLO, key="k2")
            with pytest.raises(TurnClosedError):
                await each.append("agent-1", HELLO, turn="turn-1")
            assert await each.append("agent-1", HELLO) == 13
            assert (await each.messages_from_latest_checkpoint()).checkpoint_id == 9
        assert await session.revision() == await copy.revision()
        info, again = await session.info(), await copy.info()
        assert (info.state, info.turn_id) == (again.state, again.turn_id) == ("error", "turn-9")
        assert (info.created_at, info.name) == (again.created_at, again.name)


@pytest.mark.parametrize("reopened", [False, True])
async def test_open_turns_are_interrupted_in_the_copy(tmp_path: Path, reopened: bool) -> None:
    async with memory_registry() as registry, memory_registry() as other:
        session = await registry.start("s", name="n")
        async with session.turn("t", agent_id="a") as turn:
            await turn.append(HELLO)
            async with session.turn("u", agent_id="b") as turn:
                await turn.append(HELLO)
                await export_session(registry, "s", tmp_path / "s.jsonl")
        if not reopened:
            await other.start("s", name="n")
        await import_session(other, tmp_path / "s.jsonl")
        copy = other.session("s")
        assert (other.whereis("s") is None) is reopened
        assert (await copy.info()).state == "interrupted"
        assert [row.turn for row in await copy.interrupted_turn()] == ["t", "u"]
        with pytest.raises(TurnOpenError, match="interrupted"):
            await copy.turn("v", agent_id="a").__aenter__()
        assert await copy.discard_turn("t") == 1
        assert (await copy.info()).state == "interrupted"
        await copy.finish_turn("u")
        assert (await copy.info()).state == "idle"
        assert [row.turn for row in await copy.messages()] == ["u"]


async def test_a_row_that_cannot_be_decoded_comes_back_as_it_is(tmp_path: Path) -> None:
    async with (
        SessionRegistry(tmp_path / "a") as registry,
        SessionRegistry(tmp_path / "b") as other,
    ):
        session = await registry.start("s", name="n")
        await session.extend("a", [HELLO] * 3)
        path = await file_of(registry, "s")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE messages SET data = x'c1ff' WHERE id = 2")
        exported = await export_session(registry, "s", tmp_path / "s.jsonl")
        assert (exported.status, exported.messages, exported.problems) == ("exported", 3, ())
        line = json.loads((tmp_path / "s.jsonl").read_text().splitlines()[2])
        assert base64.b64decode(line["data"]) == b"\xc1\xff"
        assert (await import_session(other, tmp_path / "s.jsonl")).status == "imported"
        assert tables(await file_of(other, "s")) == tables(await file_of(registry, "s"))


async def test_a_row_whose_text_is_damaged_is_left_out_and_told_of(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path / "a") as registry, memory_registry() as other:
        session = await registry.start("s", name="n")
        await session.extend("a", [HELLO] * 100)
        path = await file_of(registry, "s")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE messages SET agent_id = CAST(x'ff' AS TEXT) WHERE id = 70")
        exported = await export_session(registry, "s", tmp_path / "s.jsonl")
        assert exported.messages == 99
        assert "message 70 " in exported.problems[0].reason
        imported = await import_session(other, tmp_path / "s.jsonl", skip_bad=True)
        assert (imported.status, imported.messages) == ("imported", 99)


# which session, which file


IDS = [
    *("plain", "telegram_user123", "user/42@example.org", "../../up", ".hidden", "日本語"),
    *("A", "a", "x" * 200, "con:.*?", "%41", "-rf"),
]


@pytest.mark.parametrize("format", ["sessionactor", "events", "loop"])
async def test_every_session_gets_a_file_in_the_directory_and_back(
    tmp_path: Path, format: Any
) -> None:
    async with memory_registry() as registry, memory_registry() as other:
        for number, session_id in enumerate(IDS):
            session = await registry.start(session_id, name=f"name {number}")
            await session.append("agent", {"role": "user", "content": session_id}, key="k")
        out = tmp_path / "deep" / "out"
        report = await export_sessions(registry, out, format=format)
        assert [one.session_id for one in report.sessions] == sorted(IDS)
        assert all(one.status == "exported" for one in report.sessions)
        assert {one.path.parent for one in report.sessions} == {out}
        folded = {one.path.name.casefold() for one in report.sessions}
        assert len(folded) == len(IDS) == len(list(out.iterdir()))
        assert [path.name for path in tmp_path.iterdir()] == ["deep"]
        back = await import_sessions(other, out, format=format)
        assert {file.session_id: file.status for file in back.files} == dict.fromkeys(
            IDS, "imported"
        )
        for session_id in IDS:
            (row,) = await other.session(session_id).messages()
            assert row.message["content"] == session_id


async def test_foreign_formats_name_files_as_their_stores_look_for_them(tmp_path: Path) -> None:
    async with memory_registry() as registry:
        for session_id in ("telegram_user123", "Team-A"):
            await (await registry.start(session_id)).append("a", HELLO)
        await export_sessions(registry, tmp_path, format="loop")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "Team-A.jsonl",
        "telegram_user123.jsonl",
    ]


async def test_only_sessions_that_match_are_exported(tmp_path: Path) -> None:
    async with memory_registry() as registry:
        for name in ("one-a", "one-b", "two"):
            await registry.start(name, name=name)
        report = await export_sessions(registry, tmp_path, pattern="one-*")
        assert [one.session_id for one in report.sessions] == ["one-a", "one-b"]


async def test_done_again_only_what_changed_is_written(tmp_path: Path) -> None:
    async with memory_registry() as registry:
        for session_id in "abc":
            await (await registry.start(session_id)).append("a", HELLO)

        def statuses(report: ExportReport) -> str:
            return " ".join(one.status for one in report.sessions)

        assert statuses(await export_sessions(registry, tmp_path)) == "exported exported exported"
        await registry.session("b").append("a", HELLO)
        (tmp_path / "c.jsonl").write_text((tmp_path / "c.jsonl").read_text()[:-5])
        assert statuses(await export_sessions(registry, tmp_path)) == "unchanged exported exported"
        await registry.session("b").rename("another")
        assert statuses(await export_sessions(registry, tmp_path)) == "unchanged exported unchanged"


async def test_a_session_that_cannot_be_exported_stops_no_other(tmp_path: Path) -> None:
    async with memory_registry() as registry:
        for session_id in "abc":
            await (await registry.start(session_id)).append("a", HELLO)
        (tmp_path / "b.jsonl").mkdir()
        report = await export_sessions(registry, tmp_path)
        assert [one.status for one in report.sessions] == ["exported", "failed", "exported"]
        (problem,) = report.problems
        assert problem.path == tmp_path / "b.jsonl"
        assert "directory" in str(problem)
        with pytest.raises(IsADirectoryError):
            await export_session(registry, "b", tmp_path)


async def test_what_is_asked_wrongly_is_refused(tmp_path: Path) -> None:
    async with memory_registry() as registry:
        with pytest.raises(SessionNotFoundError):
            await export_session(registry, "nobody", tmp_path / "s.jsonl")
        with pytest.raises(InvalidValueError):
            await export_sessions(registry, tmp_path, format="csv")  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError):
            await import_session(registry, tmp_path, format="csv")  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError):
            await import_session(registry, tmp_path, agent_id="\0")
        with pytest.raises(FileNotFoundError):
            await import_session(registry, tmp_path / "nothing.jsonl")
        with pytest.raises(FileNotFoundError):
            await import_sessions(registry, tmp_path / "nowhere")
        with pytest.raises(OSError, match="not a regular file"):
            await import_session(registry, tmp_path)
        assert list(tmp_path.iterdir()) == []


# beside what else is there


async def test_a_session_that_has_moved_on_is_left_alone(tmp_path: Path) -> None:
    changes: list[Callable[[Session], Any]] = [
        lambda s: s.append("a", HELLO),
        lambda s: s.update(1, HELLO),
        lambda s: s.truncate_from(9),
        lambda s: s.save_metadata({"x": "y"}),
        lambda s: s.rename("another"),
        lambda s: s.set_state("idle"),
    ]
    for number, change in enumerate(changes):
        async with SessionRegistry(tmp_path / str(number)) as registry:
            session = await eventful(registry)
            await export_session(registry, "s", tmp_path / "s.jsonl")
            await change(session)
            before = tables(await file_of(registry, "s"))
            result = await import_session(registry, tmp_path / "s.jsonl")
            assert result.status == "exists"
            assert "revision" in result.problems[0].reason
            assert tables(await file_of(registry, "s")) == before


async def test_another_session_of_that_id_is_left_alone(tmp_path: Path) -> None:
    async with memory_registry() as registry, memory_registry() as other:
        await (await registry.start("s", name="n")).append("a", HELLO)
        await export_session(registry, "s", tmp_path / "s.jsonl")
        session = await other.start("s", name="n")
        await session.append("a", {"role": "user", "content": "something else"})
        assert (await import_session(other, tmp_path / "s.jsonl")).status == "exists"
        assert [row.message["content"] for row in await session.messages()] == ["something else"]


async def test_an_edited_copy_is_another_session(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    async with memory_registry() as registry:
        await eventful(registry)
        await export_session(registry, "s", file)
        file.write_text(file.read_text().replace("n 8", "n 9"))
        result = await import_session(registry, file)
        assert result.status == "exists"
        number = next(n for n, line in enumerate(file.read_text().split("\n"), 1) if "n 9" in line)
        assert f"line {number} " in result.problems[0].reason


@pytest.mark.parametrize("kind", ["metadata", "turn", "removal", "key"])
async def test_a_copy_that_lacks_something_is_another_session(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "s.jsonl"
    async with memory_registry() as registry:
        await eventful(registry)
        await export_session(registry, "s", file)
        lines = file.read_text().splitlines(keepends=True)
        number = next(n for n, line in enumerate(lines, 1) if f'"type":"{kind}"' in line)
        file.write_text("".join(lines[: number - 1] + lines[number:]))
        result = await import_session(registry, file)
        assert result.status == "exists"
        assert f"line {number} " in result.problems[0].reason


async def test_a_session_is_imported_into_an_empty_one_of_its_name(tmp_path: Path) -> None:
    async with memory_registry() as registry, memory_registry() as other:
        await eventful(registry)
        await export_session(registry, "s", tmp_path / "s.jsonl")
        await other.start("s", name="another")
        assert (await import_session(other, tmp_path / "s.jsonl")).status == "exists"
        assert await other.session("s").messages() == []
        await other.delete("s")
        await other.start("s", name="n")
        assert (await import_session(other, tmp_path / "s.jsonl")).status == "imported"


async def test_an_older_file_of_that_name_is_replaced_and_a_link_is_not_followed(
    tmp_path: Path,
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "s.jsonl").symlink_to(precious)
    async with memory_registry() as registry:
        await eventful(registry)
        assert (await export_session(registry, "s", tmp_path / "s.jsonl")).status == "exported"
    assert precious.read_text() == "precious"
    assert not (tmp_path / "s.jsonl").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "s.jsonl"]


@pytest.mark.parametrize("format", ["sessionactor", "events", "loop"])
async def test_links_and_pipes_in_a_directory_are_not_read(tmp_path: Path, format: Any) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"role":"user"}\n')
    out = tmp_path / "out"
    out.mkdir()
    (out / "link.jsonl").symlink_to(secret)
    os.mkfifo(out / "pipe.jsonl")
    (out / "directory.jsonl").mkdir()
    (out / "other.txt").write_text("not asked for")
    async with memory_registry() as registry:
        report = await import_sessions(registry, out, format=format)
        assert [(file.path.stem, file.status) for file in report.files] == [
            ("directory", "failed"),
            ("link", "failed"),
            ("pipe", "failed"),
        ]
        assert await registry.find("*") == []


# a session that goes on meanwhile


@asynccontextmanager
async def meanwhile(work: Callable[[], Any]) -> AsyncIterator[None]:
    """Do something again and again in the background."""

    async def again() -> None:
        while True:
            await work()
            await asyncio.sleep(0)

    task = asyncio.create_task(again())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def counted(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


async def test_an_export_is_of_one_moment_while_rows_are_added(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path / "a", durability="normal") as registry:
        session = await registry.start("s", name="n")
        await session.extend("a", [HELLO] * 6000)
        number = 0

        async def add() -> None:
            nonlocal number
            number += 1
            async with session.batch() as batch:
                batch.append("a", HELLO, key=f"key {number}")
                batch.save_metadata({"number": number})

        async with meanwhile(add):
            for _ in range(5):
                await export_session(registry, "s", tmp_path / "s.jsonl")
                heading, metadata, *rows, end = counted(tmp_path / "s.jsonl")
                added = int(metadata.get("value", 0)) if metadata["type"] == "metadata" else 0
                assert heading["revision"] == 1 + added
                assert heading["high_water"] == heading["message_count"] == 6000 + added
                assert len(rows) + (metadata["type"] == "message") == 6000 + added
                assert end == {"type": "end"}
        assert number > 5


@pytest.mark.parametrize("size", [10, 5000])
async def test_an_export_is_of_one_moment_while_rows_are_changed(tmp_path: Path, size: int) -> None:
    """A small session is read at once; a large one that never rests is copied first."""
    async with SessionRegistry(tmp_path / "a", durability="normal") as registry:
        session = await registry.start("s", name="n")
        await session.extend("a", [{"n": 0}] * size)
        number = 0

        async def change() -> None:
            nonlocal number
            number += 1
            async with session.batch() as batch:
                batch.update(1, {"n": number})
                batch.update(size, {"n": number})

        await session.set_state("running", "t")
        out = tmp_path / "out"
        out.mkdir()
        async with meanwhile(change):
            for _ in range(3):
                result = await export_session(registry, "s", out)
                assert result.messages == size
                heading, *rows, _ = counted(out / "s.jsonl")
                assert rows[0]["message"] == rows[-1]["message"]
                if rows[0]["message"]["n"]:
                    assert heading["revision"] == rows[0]["revision"] == rows[-1]["revision"]
                assert (heading["state"], heading["turn_id"]) == ("interrupted", "t")
                assert [path.name for path in out.iterdir()] == ["s.jsonl"]
        assert number > 3


async def test_a_read_only_registry_exports_beside_an_owner(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    async with SessionRegistry(tmp_path / "a") as registry, memory_registry() as other:
        session = await eventful(registry)
        async with SessionRegistry(tmp_path / "a", read_only=True) as reading:
            assert (await export_session(reading, "s", file)).status == "exported"
            assert (await import_session(reading, file)).status == "unchanged"
            await session.append("a", HELLO)
            assert (await import_session(reading, file)).status == "exists"
            assert (await export_session(reading, "s", file)).status == "exported"
            assert (await import_session(registry, file)).status == "unchanged"
            await other.start("new", name="n")
            await export_session(other, "new", tmp_path / "new.jsonl")
            with pytest.raises(ReadOnlyError):
                await import_session(reading, tmp_path / "new.jsonl")


async def test_an_importing_session_takes_nothing_else_and_is_not_exported(
    tmp_path: Path,
) -> None:
    file = tmp_path / "s.jsonl"
    async with memory_registry() as registry, memory_registry() as other:
        await (await registry.start("s", name="n")).extend("a", [HELLO] * 8000)
        await export_session(registry, "s", file)
        stopped = asyncio.Event()

        def progress(state: Progress) -> None:
            if state.done > state.total * 0.8:
                stopped.set()

        importing = asyncio.create_task(import_session(other, file, progress=progress))
        await stopped.wait()
        importing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await importing
        session = other.session("s")
        info = await session.info()
        assert info.state == "importing"
        assert 2000 <= info.message_count < 8000
        assert info.revision == 1  # that of its rows
        for call in (
            session.append("a", HELLO),
            session.save_metadata({"x": 1}),
            session.clear(),
            export_session(other, "s", tmp_path / "t.jsonl"),
        ):
            with pytest.raises(SessionBusyError, match="import"):
                await call
        assert not (tmp_path / "t.jsonl").exists()
        assert (await import_session(other, file)).status == "imported"
        assert (await session.info()).message_count == 8000
        assert (await import_session(other, file)).status == "unchanged"


async def test_an_import_is_not_gone_on_with_from_another_file(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    async with memory_registry() as registry, memory_registry() as other:
        session = await registry.start("s", name="n")
        await session.extend("a", [HELLO] * 3000)
        await export_session(registry, "s", file)

        def stop(state: Progress) -> None:
            if state.done > state.total * 0.7:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await import_session(other, file, progress=stop)
        first = file.read_bytes()
        await session.update(3000, {"role": "user"})
        await export_session(registry, "s", file)
        result = await import_session(other, file)
        assert result.status == "exists"
        assert "delete the session" in result.problems[0].reason
        file.write_bytes(first)
        assert (await import_session(other, file, skip_bad=True)).status == "exists"
        assert (await import_session(other, file)).status == "imported"


async def test_a_cancelled_export_leaves_no_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    async with SessionRegistry(tmp_path / "a", durability="normal") as registry:
        await (await registry.start("s", name="n")).extend("a", [HELLO] * 20_000)
        begun = asyncio.Event()
        exporting = asyncio.create_task(
            export_session(registry, "s", out, progress=lambda _: begun.set())
        )
        await begun.wait()
        exporting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exporting
        assert list(out.iterdir()) == []


async def test_sessions_that_were_not_in_use_are_let_go_of(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path / "a") as registry:
        for session_id in "abc":
            await (await registry.start(session_id)).append("a", HELLO)
        await registry.stop("a")
        await registry.stop("b")
        await export_sessions(registry, tmp_path / "out")
        assert registry.statistics().active == 1
        async with SessionRegistry(tmp_path / "b") as other:
            await import_sessions(other, tmp_path / "out")
            assert other.statistics().active == 0


async def test_progress_comes_to_its_end(tmp_path: Path) -> None:
    async with memory_registry() as registry, memory_registry() as other:
        await (await registry.start("s", name="n")).extend("a", [HELLO] * 5000)
        told: list[Progress] = []
        await export_session(registry, "s", tmp_path / "s.jsonl", progress=told.append)
        assert [state.done for state in told] == sorted(state.done for state in told)
        assert told[-1] == Progress(tmp_path / "s.jsonl", 5000, 5000)
        size = (tmp_path / "s.jsonl").stat().st_size
        for status in ("imported", "unchanged"):
            told.clear()
            result = await import_session(other, tmp_path / "s.jsonl", progress=told.append)
            assert result.status == status
            assert [state.done for state in told] == sorted(state.done for state in told)
            assert told[-1] == Progress(tmp_path / "s.jsonl", 2 * size, 2 * size)


# the format


async def test_plain_messages_stay_plain(tmp_path: Path) -> None:
    message = {"role": "user", "content": "日本 \u2028 \"q\" \x7f $", "price": {"$": 1, "x": 0.1},
               "n": [2**64 - 1, -(2**63), None, True, 1e300, -0.0, {}]}  # fmt: skip
    async with memory_registry() as registry:
        await (await registry.start("s", name="n")).append("a", message)
        await export_session(registry, "s", tmp_path / "s.jsonl")
    lines = counted(tmp_path / "s.jsonl")
    assert [line["type"] for line in lines] == ["session", "message", "end"]
    assert lines[1]["message"] == message
    assert "日本" in (tmp_path / "s.jsonl").read_text()
    at = datetime.fromisoformat(lines[1]["inserted_at"])
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"\x00\xff", '{"$bytes":"AP8="}'),
        ((1, (2,)), '{"$tuple":[1,{"$tuple":[2]}]}'),
        ({9, 1}, '{"$set":[1,9]}'),
        (frozenset({"b", "a"}), '{"$frozenset":["a","b"]}'),
        (datetime(2024, 1, 1, 12, 30), '{"$datetime":"2024-01-01T12:30:00"}'),
        (datetime(2024, 1, 1, fold=1), '{"$datetime":"2024-01-01T00:00:00 fold"}'),
        (
            datetime(2024, 1, 1, 0, 0, 0, 1, UTC),
            '{"$datetime":"2024-01-01T00:00:00.000001+00:00"}',
        ),
        (2**64, '{"$int":"0x10000000000000000"}'),
        (-(2**70), '{"$int":"-0x400000000000000000"}'),
        (float("-inf"), '{"$float":"-inf"}'),
        (float("nan"), '{"$float":"nan"}'),
        ("a\\\ud800", r'{"$text":"a\\\\\\ud800"}'),
        ({1: 2}, '{"$map":[[1,2]]}'),
        ({"$bytes": "AP8="}, '{"$map":[["$bytes","AP8="]]}'),
        ({"$map": []}, '{"$map":[["$map",[]]]}'),
        ({"$": 1}, '{"$map":[["$",1]]}'),
    ],
)
async def test_what_json_cannot_hold_is_tagged(tmp_path: Path, value: Any, text: str) -> None:
    file = tmp_path / "s.jsonl"
    async with memory_registry() as registry, memory_registry() as other:
        await (await registry.start("s", name="n")).append("a", {"value": value})
        await export_session(registry, "s", file)
        assert f'"message":{{"value":{text}}}' in file.read_text()
        await import_session(other, file)
        (row,) = await other.session("s").messages()
        assert same(row.message["value"], value)


async def test_the_order_in_sets_is_no_difference(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    async with memory_registry() as registry, memory_registry() as other:
        await (await registry.start("s", name="n")).append("a", {"set": {1, 9, 17}})
        await export_session(registry, "s", file)
        file.write_text(file.read_text().replace("[1,17,9]", "[17,9,1]"))
        for each in (registry, other, other):
            status = (await import_session(each, file)).status
        assert status == "unchanged"
        assert (await import_session(registry, file)).status == "unchanged"


async def test_long_messages_and_deep_ones_come_back(tmp_path: Path) -> None:
    deep: Any = 1
    for level in range(160):
        deep = {level: (deep,)} if level % 2 else [deep]
    messages = [
        {"deep": deep if level else [deep], "long": "x" * level} for level in (1, 600_000)
    ] + [{"many": [{"n": n, "b": b"."} for n in range(50_000)]}]
    async with memory_registry() as registry, memory_registry() as other:
        await (await registry.start("s", name="n")).extend("a", messages)
        await export_session(registry, "s", tmp_path / "s.jsonl")
        assert (await import_session(other, tmp_path / "s.jsonl")).problems == ()
        rows = await other.session("s").messages()
        assert all(same(row.message, one) for row, one in zip(rows, messages, strict=True))


# who else is there


async def test_two_exports_to_one_file_do_not_mix(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    async with SessionRegistry(tmp_path / "a", durability="normal") as registry:
        session = await registry.start("s", name="n")
        await session.extend("a", [HELLO] * 20_000)
        begun = asyncio.Event()
        first = asyncio.create_task(
            export_session(registry, "s", out, progress=lambda _: begun.set())
        )
        await begun.wait()
        with pytest.raises(BlockingIOError, match="by somebody else"):
            await export_session(registry, "s", out)
        assert (await first).status == "exported"
        assert (await import_session(registry, out)).status == "unchanged"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "s.jsonl"]


async def test_a_session_of_another_process_is_left_to_it(tmp_path: Path) -> None:
    place, file = tmp_path / "a", tmp_path / "s.jsonl"
    async with memory_registry() as registry:
        await (await registry.start("s", name="owned")).append("a", HELLO)
        await export_session(registry, "s", file)
    with owner(place, "s") as running:
        async with SessionRegistry(place) as registry:
            for call in (import_session(registry, file), export_session(registry, "s", file)):
                with pytest.raises(SessionOwnedError, match=str(running.pid)):
                    await call
            imported = await import_sessions(registry, tmp_path)
            assert [(one.session_id, one.status) for one in imported.files] == [("s", "failed")]
            exported = await export_sessions(registry, tmp_path / "out")
            assert [one.status for one in exported.sessions] == ["failed"]
            assert str(running.pid) in next(exported.problems).reason


async def test_parts_are_taken_in_turn_and_into_an_empty_session_only(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        assert await session.revision() == 0
        await registry.ask("s", Write((Restore(None, "one"),)))
        for wrong in (None, "two", ""):
            with pytest.raises(SessionBusyError, match="stands at 'one'"):
                await registry.ask("s", Write((Restore(wrong, "other"),)))
        await registry.ask("s", Write((Restore("one", "two"),)))
        await registry.stop("s")
        info = await session.info()
        assert (info.state, info.turn_id, info.message_count) == ("importing", "two", 0)
        other = await registry.start("other")
        await other.save_metadata({"a": "b"})
        with pytest.raises(SessionBusyError, match="not empty"):
            await registry.ask("other", Write((Restore(None, "one"),)))
        assert (await other.info()).state == "idle"
