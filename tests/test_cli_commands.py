"""What each command of the command line does, its options, its JSON, and how it fails."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from command_line import Done, fill, invoke
from processes import owner

from sessionactor import Row, SearchHit, SessionInfo, SessionRegistry
from sessionactor.cli import _finding
from sessionactor.cli._app import app

INFO = set(SessionInfo._fields)


async def conversations(registry: SessionRegistry) -> None:
    session = await registry.start("a1b2c3d4", name="crazy-mango")
    for number in range(1, 13):
        role = "summary" if number % 4 == 0 else "user"
        await session.append(f"agent-{number % 2}", {"role": role, "content": f"message {number}"})
    await session.save_metadata({"customer": "Ada", "plan": "free"})
    await session.set_context(channel_id="discord", room_id="r", sender_id="s")
    await session.set_agent_alias("helper")
    second = await registry.start("a1ffffff", name="crazy-pear")
    await second.append("agent-0", {"role": "user", "content": "a late parcel"})
    await second.set_state("running", "turn-1")
    await second.set_state("error")
    await registry.start("b2", name="calm-fig")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "sessions"
    fill(directory, conversations)
    return directory


def ids(done: Done) -> list[str]:
    assert done.code == 0, done
    return [record["session_id"] for record in done.records]


def contents(done: Done) -> list[str]:
    assert done.code == 0, done
    return [record["message"]["content"] for record in done.records]


def messages(*numbers: int) -> list[str]:
    return [f"message {number}" for number in numbers]


# which session


@pytest.mark.parametrize(
    ("text", "session_id"),
    [
        ("a1b2c3d4", "a1b2c3d4"),
        ("a1b", "a1b2c3d4"),
        ("crazy-pear", "a1ffffff"),
        ("*-pear", "a1ffffff"),
        ("c*g", "b2"),
        ("b", "b2"),
    ],
)
def test_a_session_is_found(place: Path, text: str, session_id: str) -> None:
    assert ids(invoke(place, "info", text, "--json")) == [session_id]


def test_an_id_counts_before_a_name_and_a_name_before_the_beginning_of_an_id(place: Path) -> None:
    async def build(registry: SessionRegistry) -> None:
        await registry.start("x", name="a1b")  # as one id begins
        await registry.start("y", name="b2")  # as one id is
        await registry.start("z", name="odd[1]")
        await registry.start("[", name="bracket")

    fill(place, build)
    assert ids(invoke(place, "info", "a1b", "--json")) == ["x"]
    assert ids(invoke(place, "info", "b2", "--json")) == ["b2"]
    assert ids(invoke(place, "info", "odd[1]", "--json")) == ["z"]
    assert ids(invoke(place, "info", "[", "--json")) == ["["]


def test_several_sessions_where_one_is_meant_are_listed(place: Path) -> None:
    for text in ("a1", "crazy-*"):
        done = invoke(place, "info", text)
        assert done.code == 1
        assert "means 2 sessions" in done.err
        assert "a1b2c3d4  crazy-mango\n  a1ffffff  crazy-pear" in done.err
        told = json.loads(invoke(place, "info", text, "--json").err)
        assert told["session_ids"] == ["a1b2c3d4", "a1ffffff"]


def test_very_many_are_not_all_listed(place: Path) -> None:
    async def build(registry: SessionRegistry) -> None:
        for number in range(30):
            await registry.start(f"many-{number}")

    fill(place, build)
    done = invoke(place, "info", "many")
    assert done.err.count("many-") == _finding._LISTED
    assert "and 20 more" in done.err


@pytest.mark.parametrize("text", ["nope", "", "x" * 300, "no-*", "\udcff", "a\x00b", "../b2"])
def test_no_such_session_is_said(place: Path, text: str) -> None:
    for command in ("info", "show", "tail", "rename", "fork", "compact"):
        done = invoke(place, command, text)
        assert done.code == 1, done
        assert "no session" in done.err
        assert done.out == ""


# where


def test_the_directory_is_said_by_option_or_environment(place: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert ids(invoke(empty, "ls", "--dir", place, "b2", "--json")) == []
    assert len(ids(invoke(empty, "ls", "--dir", place, "--json"))) == 3
    assert len(ids(invoke(empty, "--dir", place, "ls", "--json"))) == 3
    assert ids(invoke(empty, "ls", "--json")) == []
    result = CliRunner().invoke(app, ["ls"], env={"SESSIONACTOR_DIR": None})
    assert result.exit_code == 2
    assert "SESSIONACTOR_DIR" in result.stderr


@pytest.mark.parametrize("command", ["ls", "stats", "doctor", "clean --older-than 1d", "info x"])
def test_a_directory_that_is_none_is_said_and_not_made(tmp_path: Path, command: str) -> None:
    done = invoke(tmp_path / "missing", *command.split())
    assert done.code == 2
    assert "does not exist" in done.err
    assert not (tmp_path / "missing").exists()
    (tmp_path / "file").write_text("x")
    done = invoke(tmp_path / "file", *command.split())
    assert done.code == 2
    assert "is no directory" in done.err


def test_a_path_too_long_for_sqlite_is_said(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 100] * 6)
    deep.mkdir(parents=True)
    done = invoke(deep, "ls")
    assert done.code == 1
    assert "shorter path" in done.err


# ls


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("", {"a1b2c3d4", "a1ffffff", "b2"}),
        ("crazy-*", {"a1b2c3d4", "a1ffffff"}),
        ("--state error", {"a1ffffff"}),
        ("--agent helper", {"a1b2c3d4"}),
        ("--channel discord --room r --sender s", {"a1b2c3d4"}),
        ("--channel slack", set()),
        ("--meta customer=Ada --meta plan=free", {"a1b2c3d4"}),
        ("--meta customer=Ada --meta plan=paid", set()),
        ("--since 1h", {"a1b2c3d4", "a1ffffff", "b2"}),
        ("--since 2999-01-01", set()),
        ("--until 1h", set()),
        ("--until 2999-01-01T00:00", {"a1b2c3d4", "a1ffffff", "b2"}),
    ],
)
def test_ls_filters(place: Path, options: str, found: set[str]) -> None:
    assert set(ids(invoke(place, "ls", "--json", *options.split()))) == found


def test_ls_has_an_order(place: Path) -> None:
    by_change = ids(invoke(place, "ls", "--json"))
    assert by_change[0] == "b2"
    fill(place, lambda registry: registry.session("a1b2c3d4").save_metadata({"x": "y"}))
    assert ids(invoke(place, "ls", "--json"))[0] == "a1b2c3d4"
    by_creation = ids(invoke(place, "ls", "--json", "--order", "created"))
    assert set(by_creation) == set(by_change)
    assert "a1b2c3d4" in (by_creation[0], by_creation[-1])


def test_ls_goes_on_where_it_ended(place: Path) -> None:
    seen: list[str] = []
    cursor: list[str] = []
    for _ in range(3):
        done = invoke(place, "ls", "--json", "--limit", "1", *cursor)
        seen += ids(done)
        if not done.err:
            break
        cursor = ["--cursor", json.loads(done.err)["cursor"]]
    assert sorted(seen) == ["a1b2c3d4", "a1ffffff", "b2"]
    assert "more: --cursor" in invoke(place, "ls", "--limit", "1").err
    assert ids(invoke(place, "ls", "--json", "--all")) == seen
    assert invoke(place, "ls", "--all").err == ""


@pytest.mark.parametrize(
    "options",
    [
        "--cursor nonsense",
        "--limit 0",
        "--limit x",
        "--since yesterday",
        "--until 5y",
        "--meta x",
        "--meta =x",
        "--state asleep",
        "--since 999999999999d",
        "--order sideways",
        "--nonsense",
    ],
)
def test_options_that_mean_nothing_are_said(place: Path, options: str) -> None:
    done = invoke(place, "ls", *options.split())
    assert done.code == 2
    assert done.err
    assert done.out == ""


def test_the_json_of_ls_has_stable_fields(place: Path) -> None:
    (record,) = invoke(place, "ls", "*-mango", "--json").records
    assert set(record) == INFO
    assert record["path"] == str(place / "a1b2c3d4_crazy-mango.db")
    assert datetime.fromisoformat(record["created_at"]).tzinfo is not None
    assert record["message_count"] == 12


# show and tail


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ("", [12]),
        ("--chapters 2", [8, 9, 10, 11, 12]),
        ("--chapters 99", list(range(1, 13))),
        ("--before 12", [8, 9, 10, 11]),
        ("--before 12 --chapters 2", [4, 5, 6, 7, 8, 9, 10, 11]),
        ("--all", list(range(1, 13))),
        ("--last 3", [10, 11, 12]),
        ("--last 2 --agent agent-1", [9, 11]),
        ("--all --agent agent-1", [1, 3, 5, 7, 9, 11]),
    ],
)
def test_show_prints_what_is_asked_for_with_the_newest_last(
    place: Path, options: str, numbers: list[int]
) -> None:
    done = invoke(place, "show", "crazy-mango", "--json", *options.split())
    assert contents(done) == messages(*numbers)
    shown = invoke(place, "show", "crazy-mango", *options.split()).out
    assert [line for line in shown.splitlines() if line.startswith("message")] == messages(*numbers)


def test_show_tells_how_to_see_earlier_chapters(place: Path) -> None:
    done = invoke(place, "show", "crazy-mango")
    assert "--before 12" in done.out
    told = json.loads(invoke(place, "show", "crazy-mango", "--json").err)
    assert told == {"before": 12}
    assert "earlier" not in invoke(place, "show", "crazy-mango", "--before", "4").out
    assert invoke(place, "show", "crazy-mango", "--before", "4", "--json").err == ""


@pytest.mark.parametrize(
    "options", ["--all --last 3", "--all --before 3", "--all --chapters 2", "--before 0"]
)
def test_show_refuses_what_excludes_each_other(place: Path, options: str) -> None:
    assert invoke(place, "show", "b2", *options.split()).code == 2


def test_the_json_of_show_has_stable_fields(place: Path) -> None:
    (record,) = invoke(place, "show", "crazy-pear", "--json").records
    assert set(record) == set(Row._fields)


def test_rows_that_cannot_be_decoded_are_said_or_passed_over(place: Path) -> None:
    with closing(sqlite3.connect(place / "a1b2c3d4_crazy-mango.db")) as connection, connection:
        connection.execute("UPDATE messages SET data = x'c1' WHERE id = 11")
    for command in (["show", "--all"], ["show", "--last", "3"], ["tail"]):
        done = invoke(place, *command, "crazy-mango")
        assert done.code == 1
        assert "row 11" in done.err
        assert invoke(place, *command, "crazy-mango", "--skip-bad").code == 0
    left = contents(invoke(place, "show", "crazy-mango", "--last", "3", "--skip-bad", "--json"))
    assert left == messages(10, 12)


def test_tail_prints_the_last_messages_of_any_chapter(place: Path) -> None:
    records = invoke(place, "tail", "crazy-mango", "--json").records
    assert [record["row"]["db_id"] for record in records] == list(range(3, 13))
    assert {record["event"] for record in records} == {"appended"}
    assert set(records[0]) == {"event", "revision", "row"}
    assert invoke(place, "tail", "crazy-mango", "-n", "0").out == ""
    assert "message 12" in invoke(place, "tail", "crazy-mango", "-n", "1").out


# search


def test_search_finds_messages(place: Path) -> None:
    hits = invoke(place, "search", "late", "parc*", "--json").records
    assert [hit["session_id"] for hit in hits] == ["a1ffffff"]
    assert set(hits[0]) == set(SearchHit._fields)
    assert len(invoke(place, "search", "message", "--json").records) == 12
    assert len(invoke(place, "search", "message", "--limit", "3", "--json").records) == 3
    assert len(invoke(place, "search", "message", "--sessions", "--json").records) == 1
    assert len(invoke(place, "search", "message", "--agent", "agent-1", "--json").records) == 6
    assert invoke(place, "search", "message", "--session", "a1f", "--json").records == []
    assert invoke(place, "search", "message", "--session", "nope").code == 1


@pytest.mark.parametrize("query", ['"', "(", "AND", "", "*", "-- -x", "\x00", "\udcff"])
def test_no_query_is_an_error(place: Path, query: str) -> None:
    done = invoke(place, "search", "--", query)
    assert done.code == 0
    assert done.err == "nothing found\n"


# info and stats


def test_info_has_metadata_and_size(place: Path) -> None:
    (record,) = invoke(place, "info", "crazy-mango", "--json").records
    assert set(record) == INFO | {"metadata", "size"}
    assert record["metadata"] == {"customer": "Ada", "plan": "free"}
    assert record["size"] == (place / "a1b2c3d4_crazy-mango.db").stat().st_size
    shown = invoke(place, "info", "crazy-mango").out
    for text in ("discord", "helper", "customer = Ada", "idle"):
        assert text in shown
    assert "turn-1" in invoke(place, "info", "crazy-pear").out


def test_stats_count_all_sessions(place: Path) -> None:
    (record,) = invoke(place, "stats", "--json").records
    assert (record["sessions"], record["messages"]) == (3, 13)
    assert record["states"] == {"idle": 2, "error": 1}
    assert {session["session_id"] for session in record["largest"]} == {
        "a1b2c3d4",
        "a1ffffff",
        "b2",
    }
    assert 0 < record["session_bytes"] <= record["directory_bytes"]
    shown = invoke(place, "stats").out
    assert "3 sessions: 1 error, 2 idle" in shown
    assert "13 messages" in shown


def test_an_empty_directory_has_figures_too(tmp_path: Path) -> None:
    (record,) = invoke(tmp_path, "stats", "--json").records
    assert record["sessions"] == 0
    assert record["oldest_activity"] is None
    assert "0 sessions" in invoke(tmp_path, "stats").out
    assert invoke(tmp_path, "ls").out == ""
    assert invoke(tmp_path, "doctor").code == 0


# rename, fork, rm


def test_rename_gives_the_name_or_makes_one_up(place: Path) -> None:
    (record,) = invoke(place, "rename", "b2", "日本語", "--json").records
    assert record == {
        "session_id": "b2",
        "name": "日本語",
        "path": str(next(place.glob("b2_*.db"))),
    }
    assert "日本語 → " in invoke(place, "rename", "日本語").out
    assert ids(invoke(place, "info", "b2", "--json")) == ["b2"]


@pytest.mark.parametrize("name", ["", "x" * 201, "\udcff"])
def test_a_name_that_cannot_be_one_is_refused(place: Path, name: str) -> None:
    done = invoke(place, "rename", "b2", name)
    assert done.code == 2
    assert "name" in done.err
    assert (place / "b2_calm-fig.db").exists()


def test_fork_takes_the_history_over(place: Path) -> None:
    forked = invoke(
        place, "fork", "crazy-mango", "--id", "new", "--name", "what-if", "--before", "5", "--json"
    )
    assert ids(forked) == ["new"]
    assert contents(invoke(place, "show", "what-if", "--all", "--json")) == messages(1, 2, 3, 4)
    again = invoke(place, "fork", "crazy-mango", "--id", "new")
    assert again.code == 1
    assert "what-if" in again.err
    assert "12 messages" in invoke(place, "fork", "crazy-mango").out


def test_rm_deletes_all_that_is_meant_and_asks_before(place: Path) -> None:
    unasked = invoke(place, "rm", "crazy-*", "b2")
    assert unasked.code == 2
    assert "--yes" in unasked.err
    assert invoke(place, "rm").code == 2
    assert invoke(place, "rm", "--yes", "b2", "nope").code == 1
    assert len(ids(invoke(place, "ls", "--json"))) == 3
    assert invoke(place, "rm", "--yes", "a1").code == 1  # two of them, and no glob
    done = invoke(place, "rm", "--yes", "crazy-*", "b2", "b2", "--json")
    assert sorted(ids(done)) == ["a1b2c3d4", "a1ffffff", "b2"]
    assert list(place.glob("*.db")) == []


def test_rm_deletes_the_others_when_one_is_in_use(place: Path) -> None:
    with owner(place, "served"):
        done = invoke(place, "rm", "--yes", "*")
    assert done.code == 3
    assert "served" in done.err
    assert [path.name for path in place.glob("*.db")] == ["served_owned.db"]


# compact, clean, backup


def test_compact_gives_space_back(place: Path) -> None:
    async def build(registry: SessionRegistry) -> None:
        session = registry.session("b2")
        await session.extend("a", [{"role": "user", "content": "x" * 1000}] * 500)
        await session.clear()

    fill(place, build)
    (record,) = invoke(place, "compact", "b2", "--json").records
    assert record["session_id"] == "b2"
    assert record["size_after"] < record["size_before"]
    assert "3 sessions" in invoke(place, "compact", "*").out
    assert invoke(place, "compact").code == 2
    assert invoke(place, "compact", "b2", "--all").code == 2


def test_clean_deletes_what_is_old(place: Path) -> None:
    dry = invoke(place, "clean", "--older-than", "0s", "--dry-run", "--json").records[0]
    assert sorted(dry["deleted"]) == ["a1b2c3d4", "a1ffffff", "b2"]
    assert (dry["dry_run"], dry["failed"]) == (True, {})
    assert "--yes" in invoke(place, "clean", "--older-than", "0s").err
    assert invoke(place, "clean", "--older-than", "1w2d", "--yes").out == ""
    assert len(ids(invoke(place, "ls", "--json"))) == 3
    with owner(place, "served"):
        done = invoke(place, "clean", "--older-than", "0s", "--yes")
    assert sorted(done.out.split()) == ["a1b2c3d4", "a1ffffff", "b2"]
    assert ids(invoke(place, "ls", "--json")) == ["served"]


@pytest.mark.parametrize("duration", ["", "5", "d", "-1d", "1y", "999999999999d", "1d 2h"])
def test_clean_refuses_what_is_no_duration(place: Path, duration: str) -> None:
    assert invoke(place, "clean", "--older-than", duration, "--yes").code == 2
    assert invoke(place, "clean", "--yes").code == 2


def test_backups_are_sessions_again(place: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    done = invoke(place, "backup", "--all", copies, "--json")
    assert sorted(ids(done)) == ["a1b2c3d4", "a1ffffff", "b2"]
    assert contents(invoke(copies, "show", "crazy-mango", "--all", "--json")) == messages(
        *range(1, 13)
    )
    again = invoke(place, "backup", "b2", copies)
    assert again.code == 1
    assert "b2_calm-fig.db" in again.err
    assert invoke(place, "backup", "b2", tmp_path / "one.db").code == 0
    assert invoke(place, "backup", "b2", tmp_path / "no" / "such" / "place.db").code == 1
    assert invoke(place, "backup", tmp_path / "x").code == 2


# doctor


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def test_doctor_says_what_is_wrong_and_repairs_what_is_safe(place: Path) -> None:
    execute(place / "a1b2c3d4_crazy-mango.db", "DELETE FROM messages WHERE id = 5")
    (place / "gone_x.db-wal").write_bytes(b"rows")
    (place / "b2_calm-fig.db").rename(place / "b3_calm-fig.db")
    done = invoke(place, "doctor")
    assert done.code == 4
    for text in ("count", "log", "identity", "gone_x.db-wal", "(--fix: "):
        assert text in done.out
    records = invoke(place, "doctor", "--json").records
    assert set(records[0]) == {
        *("problem", "path", "session_id", "detail", "remedy", "fixed", "error")
    }
    fixed = invoke(place, "doctor", "--fix")
    assert fixed.code == 0, fixed
    assert fixed.out.count("repaired") >= 3
    assert invoke(place, "doctor") == Done(0, "nothing is wrong\n", "")
    assert len(invoke(place, "show", "crazy-mango", "--all", "--json").records) == 11
    assert invoke(place, "info", "crazy-mango", "--json").records[0]["message_count"] == 11
    (listed,) = invoke(place, "ls", "*-mango", "--json").records
    assert listed["message_count"] == 11


def test_doctor_leaves_what_is_not_safe(place: Path) -> None:
    execute(place / "b2_calm-fig.db", "PRAGMA user_version = 99")
    (place / "foreign_x.db").write_bytes(b"hello" * 100)
    before = {path.name: path.read_bytes() for path in place.glob("*.db")}
    done = invoke(place, "doctor", "--fix")
    assert done.code == 4
    assert "newer" in done.out
    assert "foreign" in done.out
    assert {path.name: path.read_bytes() for path in place.glob("*.db")} == before


def test_doctor_leaves_sessions_to_their_owner(place: Path) -> None:
    with owner(place, "served") as other:
        execute(place / "served_owned.db", "UPDATE session SET removed = removed - 4")
        done = invoke(place, "doctor", "--fix", "--json")
        assert done.code == 4
        records = [record for record in done.records if record["problem"] == "count"]
        assert [record["fixed"] for record in records] == [False]
        assert records[0]["error"]["pid"] == other.pid
        assert str(other.pid) in invoke(place, "doctor", "--fix").out


def test_doctor_makes_a_catalog_that_says_something_else_anew(place: Path) -> None:
    assert len(ids(invoke(place, "ls", "--json"))) == 3
    (catalog,) = (path for path in place.iterdir() if path.name == ".sessionactor.catalog")
    execute(catalog, "UPDATE sessions SET message_count = 99 WHERE session_id = 'b2'")
    done = invoke(place, "doctor")
    assert done.code == 4
    assert "catalog" in done.out
    assert invoke(place, "doctor", "--fix").code == 0
    assert invoke(place, "doctor").code == 0
    (listed,) = invoke(place, "ls", "calm-*", "--json").records
    assert listed["message_count"] == 0


def test_a_catalog_that_is_missing_is_done_without_until_doctor_makes_it(place: Path) -> None:
    catalog = place / ".sessionactor.catalog"
    catalog.unlink()
    listed = invoke(place, "ls")
    assert len(listed.out.splitlines()) == 3
    assert "doctor --fix" in listed.err
    assert "a1ffffff" in invoke(place, "search", "parcel").out
    assert invoke(place, "stats", "--json").records[0]["sessions"] == 3
    assert invoke(place, "ls", "--json").err == ""
    assert invoke(place, "doctor").code == 0
    assert not catalog.exists()
    assert invoke(place, "doctor", "--fix").code == 0
    assert catalog.exists()
    assert invoke(place, "ls").err == ""


# import and export


def exported(place: Path, *arguments: object) -> list[Any]:
    done = invoke(place, "export", *arguments, "--json")
    assert done.code == 0, done
    return done.records


def test_an_export_is_a_file_or_a_directory_of_them(place: Path, tmp_path: Path) -> None:
    (record,) = exported(place, "b2", tmp_path / "one.jsonl")
    assert (record["session_id"], record["status"]) == ("b2", "exported")
    assert (tmp_path / "one.jsonl").read_text()
    records = exported(place, "--all", tmp_path / "out")
    assert sorted(record["session_id"] for record in records) == ["a1b2c3d4", "a1ffffff", "b2"]
    assert len(os.listdir(tmp_path / "out")) == 3
    assert {record["status"] for record in exported(place, "*", tmp_path / "out")} == {"unchanged"}
    assert invoke(place, "export", tmp_path / "x").code == 2
    assert invoke(place, "export", "nope", tmp_path / "x").code == 1


def test_an_import_never_doubles_and_never_overwrites(place: Path, tmp_path: Path) -> None:
    exported(place, "--all", tmp_path / "out")
    there = tmp_path / "there"
    done = invoke(there, "import", tmp_path / "out", "--json")
    assert done.code == 0, done
    assert {record["status"] for record in done.records} == {"imported"}
    again = invoke(there, "import", tmp_path / "out", "--json")
    assert {record["status"] for record in again.records} == {"unchanged"}
    fill(there, lambda registry: registry.session("b2").append("a", {"role": "user"}))
    moved_on = invoke(there, "import", tmp_path / "out", "--json")
    assert {r["session_id"]: r["status"] for r in moved_on.records}["b2"] == "exists"
    assert moved_on.code == 1
    assert len(invoke(there, "show", "b2", "--all", "--json").records) == 1


def test_what_is_wrong_with_a_file_is_told_with_its_line(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "loop.jsonl"
    file.write_text('{"role": "user", "content": "one"}\n{"role": \n{"role": "user"}\n')
    done = invoke(place, "import", file, "--format", "loop")
    assert done.code == 1
    assert "loop.jsonl:2" in done.err
    assert invoke(place, "info", "loop").code == 1
    skipped = invoke(place, "import", file, "--format", "loop", "--skip-bad")
    assert "loop.jsonl:2" in skipped.err
    assert len(invoke(place, "show", "loop", "--all", "--json").records) == 2


def test_nothing_to_import_is_said(place: Path, tmp_path: Path) -> None:
    done = invoke(place, "import", tmp_path / "missing.jsonl")
    assert done.code in (1, 2)
    assert "missing.jsonl" in done.err
    assert invoke(place, "import").code == 2
