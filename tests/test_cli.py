"""The command line as users have it: its entry point, beside other processes, on terminals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import ENVIRONMENT, PATIENCE_S, Done, Terminal, command, fill, run
from processes import Process, owner, process

from sessionactor import SessionRegistry

ESCAPE = "\x1b["
HOSTILE = "[red]x[/red] \x1b[31mred\x07 \u202eevil \ud800 \x9b1m"
HOSTILE_SHOWN = r"[red]x[/red] \x1b[31mred\x07 \u202eevil \ud800 \x9b1m"


async def conversations(registry: SessionRegistry) -> None:
    session = await registry.start("a1b2c3d4", name="crazy-mango")
    await session.append("agent-1", {"role": "user", "content": "What is an actor?"})
    await session.append("agent-1", {"role": "assistant", "content": "A task with a mailbox."})
    await session.append("agent-1", {"role": "summary", "content": "We defined actors."})
    await session.append("agent-1", {"role": "user", "content": "Where is my parcel?"})
    await session.save_metadata({"customer": "Ada"})
    other = await registry.start("a1ffffff", name="hostile \x1b[2J[bold]")
    await other.append("agent-2", {"role": "user", "content": HOSTILE})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "sessions"
    fill(directory, conversations)
    return directory


def shown_in(done: Done, *texts: str) -> None:
    for text in texts:
        assert text in done.out, done


# each command, as a process


def test_a_look_around(place: Path) -> None:
    listed = run(place, "ls")
    assert listed.code == 0
    assert [line.split("\t")[:3] for line in listed.out.splitlines()] == [
        ["a1ffffff", r"hostile \x1b[2J[bold]", "1"],
        ["a1b2c3d4", "crazy-mango", "4"],
    ]
    shown = run(place, "show", "a1b")
    assert shown.code == 0
    shown_in(shown, "We defined actors.", "Where is my parcel?", "--before 3")
    assert "What is an actor?" not in shown.out
    assert shown.out.index("We defined") < shown.out.index("parcel")
    found = run(place, "search", "parcel")
    shown_in(found, "a1b2c3d4", "crazy-mango", "Where is my parcel?")
    shown_in(run(place, "info", "crazy-mango"), "a1b2c3d4", "customer = Ada", "messages      4")
    shown_in(run(place, "stats"), "2 sessions", "5 messages", "crazy-mango")
    assert run(place, "doctor") == Done(0, "nothing is wrong\n", "")


def test_sessions_change(place: Path) -> None:
    assert run(place, "rename", "a1b2", "other").code == 0
    assert run(place, "info", "other", "--json").records[0]["session_id"] == "a1b2c3d4"
    forked = run(place, "fork", "other", "--before", "3", "--json")
    assert forked.records[0]["message_count"] == 2
    assert forked.records[0]["parent"] == "a1b2c3d4/2"
    removed = run(place, "rm", "--yes", "oth*", forked.records[0]["session_id"])
    assert removed.code == 0
    assert [row.split("\t")[0] for row in run(place, "ls").out.splitlines()] == ["a1ffffff"]


def test_sessions_travel(place: Path, tmp_path: Path) -> None:
    before = run(place, "show", "a1b2", "--all", "--json").out
    exported = run(place, "export", "--all", tmp_path / "out")
    assert exported.code == 0, exported
    there = tmp_path / "elsewhere"
    imported = run(there, "import", tmp_path / "out")
    assert imported.code == 0, imported
    assert run(there, "show", "a1b2", "--all", "--json").out == before
    assert run(place, "backup", "a1b2", tmp_path / "copy.db").code == 0
    assert (tmp_path / "copy.db").read_bytes().startswith(b"SQLite format 3")


def test_sessions_are_looked_after(place: Path) -> None:
    compacted = run(place, "compact", "--all")
    assert compacted.code == 0
    shown_in(compacted, "2 sessions")
    shown_in(run(place, "clean", "--older-than", "0s", "--dry-run"), "a1b2c3d4", "a1ffffff")
    assert len(run(place, "ls").out.splitlines()) == 2
    assert run(place, "clean", "--older-than", "30d", "--yes").out == ""
    assert run(place, "clean", "--older-than", "0s", "--yes").code == 0
    assert run(place, "ls").out == ""


# beside a server


@pytest.fixture
def server(place: Path) -> Iterator[Process]:
    with owner(place, "served") as running:
        yield running


def test_looking_works_while_a_server_has_the_sessions(place: Path, server: Process) -> None:
    for arguments in (
        ("show", "served"),
        ("info", "served"),
        ("tail", "served"),
        ("doctor",),
        ("stats",),
        ("show", "a1b2"),
        ("backup", "served", place.parent / "copy.db"),
        ("export", "served", place.parent / "out"),
    ):
        done = run(place, *arguments)
        assert done.code == 0, done
    assert "served" in run(place, "ls").out
    assert run(place, "info", "served", "--json").records[0]["message_count"] == 1


@pytest.mark.parametrize(
    "arguments",
    [("rename", "served", "x"), ("rm", "--yes", "served"), ("compact", "served")],
    ids=lambda arguments: arguments[0],
)
def test_what_needs_the_owner_says_who_it_is(
    place: Path, server: Process, arguments: tuple[str, ...]
) -> None:
    done = run(place, *arguments)
    assert done.code == 3
    assert str(server.pid) in done.err
    told = json.loads(run(place, *arguments, "--json").err.splitlines()[-1])
    assert (told["error"], told["pid"]) == ("SessionOwnedError", server.pid)


WRITER = """
async def main(directory):
    async with SessionRegistry(directory) as registry:
        session = await registry.start("live", name="live")
        await session.append("agent-1", {"role": "user", "content": "before"})
        say("ready")
        for command in iter(wait, "end\\n"):
            if command == "stream\\n":
                await session.append("agent-1", {"role": "assistant", "content": "One"})
                await session.update_last({"role": "assistant", "content": "One two"})
            elif command == "cut\\n":
                await session.truncate_from(2)
            elif command == "delete\\n":
                await registry.delete("live")
            say("done")

asyncio.run(main(sys.argv[1]))
"""


def test_a_tail_follows_what_another_process_writes(place: Path) -> None:
    with process(WRITER, place) as writer:
        writer.hear()
        tail = Terminal(place, "tail", "-f", "live")
        tail.wait_for("before")
        writer.tell("stream")
        tail.wait_for("two")
        writer.tell("cut")
        tail.wait_for("removed: 2 and all later")
        writer.tell("delete")
        tail.wait_for("deleted")
        assert tail.end() == 0
        writer.tell("end")


def test_a_tail_ends_with_ctrl_c(place: Path) -> None:
    tail = Terminal(place, "tail", "-f", "a1b2")
    tail.wait_for("parcel")
    assert tail.interrupt() == 130
    assert "Traceback" not in tail.shown


def test_a_tail_into_a_pipe_gives_each_event_at_once(place: Path) -> None:
    with process(WRITER, place) as writer:
        writer.hear()
        tail = subprocess.Popen(
            command("tail", "-f", "-n", "1", "--json", "live"),
            env={**ENVIRONMENT, "SESSIONACTOR_DIR": str(place)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["row"]["message"]["content"] == "before"
        writer.tell("stream")
        assert json.loads(tail.stdout.readline())["event"] == "appended"
        tail.send_signal(signal.SIGINT)
        _, said = tail.communicate(timeout=PATIENCE_S)
        assert tail.returncode == 130
        assert said == ""
        writer.tell("end")


# terminals


def test_a_terminal_gets_colours_and_a_table(place: Path) -> None:
    listing = Terminal(place, "ls")
    assert listing.end() == 0
    assert ESCAPE in listing.shown
    assert "NAME" in listing.shown
    assert "crazy-mango" in listing.shown
    plain = Terminal(place, "show", "a1b2", "--no-pager", env={"NO_COLOR": "1"})
    assert plain.end() == 0
    assert f"{ESCAPE}32m" not in plain.shown
    assert f"{ESCAPE}32m" in _shown(Terminal(place, "show", "a1b2", "--no-pager"))


def test_a_terminal_gets_a_pager(place: Path, tmp_path: Path) -> None:
    pager = tmp_path / "pager.py"
    pager.write_text(
        f"#!{sys.executable}\nimport sys\nfor line in sys.stdin: print('paged', line, end='')\n"
    )
    pager.chmod(0o755)
    shown = _shown(Terminal(place, "show", "a1b2", env={"PAGER": str(pager)}))
    assert "paged " in shown
    assert "Where is my parcel?" in shown
    assert ESCAPE in shown


def test_a_pager_may_be_left_early(place: Path) -> None:
    async def long(registry: SessionRegistry) -> None:
        session = await registry.start("long")
        await session.extend("a", [{"role": "user", "content": "x" * 500}] * 5000)

    fill(place, long)
    shown = Terminal(place, "show", "long", "--all", env={"PAGER": "head -n 1"})
    assert shown.end() == 0
    assert "Traceback" not in shown.shown


def test_a_pager_that_is_not_there_is_said_and_done_without(place: Path) -> None:
    shown = _shown(Terminal(place, "show", "a1b2", env={"PAGER": "/nonexistent/pager"}))
    assert "no pager" in shown
    assert "Where is my parcel?" in shown


def test_nobody_deletes_without_being_asked_on_a_terminal(place: Path) -> None:
    asking = Terminal(place, "rm", "a1b2")
    asking.wait_for("[y/N]")
    asking.type("n\n")
    assert asking.end() == 1
    interrupted = Terminal(place, "rm", "a1b2")
    interrupted.wait_for("[y/N]")
    assert interrupted.interrupt() == 130
    assert "Traceback" not in interrupted.shown
    assert len(run(place, "ls").out.splitlines()) == 2
    willing = Terminal(place, "rm", "a1b2")
    willing.wait_for("[y/N]")
    willing.type("y\n")
    assert willing.end() == 0
    assert len(run(place, "ls").out.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls",),
        ("show", "a1ff", "--no-pager"),
        ("tail", "a1ff"),
        ("info", "a1ff"),
        ("search", "evil"),
        ("stats",),
        ("show", "a1"),
        ("rename", "a1ff"),
    ],
    ids=" ".join,
)
def test_nothing_that_is_stored_commands_a_terminal(
    place: Path, arguments: tuple[str, ...]
) -> None:
    terminal = Terminal(place, *arguments)
    terminal.end()
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown)  # what colours text is ours
    assert shown.replace("\r\n", "\n").replace("\n", "").isprintable(), shown
    assert "\u202e" not in shown
    assert "[31m" not in re.sub(r"\\x1b\[31m", "", shown)
    if arguments[0] in ("show", "tail") and arguments[1] == "a1ff":
        assert HOSTILE_SHOWN in shown


def _shown(terminal: Terminal) -> str:
    assert terminal.end() == 0, terminal.shown
    return terminal.shown


# ends


def test_a_reader_that_goes_away_is_no_error(place: Path) -> None:
    async def many(registry: SessionRegistry) -> None:
        session = await registry.start("long")
        await session.extend("a", [{"role": "user", "content": "x" * 500}] * 2000)

    fill(place, many)
    for arguments in (("show", "long", "--all"), ("show", "long", "--all", "--json")):
        reading = subprocess.Popen(
            command(*arguments),
            env={**ENVIRONMENT, "SESSIONACTOR_DIR": str(place)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert reading.stdout is not None
        assert reading.stderr is not None
        reading.stdout.readline()
        reading.stdout.close()
        said = reading.stderr.read()
        reading.stderr.close()
        assert (reading.wait(PATIENCE_S), said) == (141, b"")


def test_a_terminal_without_unicode_is_not_sent_any(place: Path) -> None:
    shown = run(place, "show", "a1ff", env={"PYTHONIOENCODING": "ascii"})
    assert shown.code == 0
    assert shown.out.isascii()


def test_without_its_extra_it_says_what_to_install(place: Path, tmp_path: Path) -> None:
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("raise ModuleNotFoundError(name='rich')")
    done = run(place, "ls", env={"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"})
    assert done.code == 1
    assert "pip install 'sessionactor[cli]'" in done.err


def test_the_core_does_not_import_the_command_line() -> None:
    script = (
        "import sys, sessionactor, sessionactor.testing; "
        "print(any(name in sys.modules for name in ('click', 'rich', 'sessionactor.cli')))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_ids_and_names(place: Path, shell: str) -> None:
    script = run(place, "completion", shell)
    assert script.code == 0
    assert "_SESSIONACTOR_COMPLETE" in script.out


def test_completion_offers_ids_and_names_that_are_safe(place: Path) -> None:
    def completed(words: str) -> list[str]:
        done = run(
            place,
            env={
                "_SESSIONACTOR_COMPLETE": "bash_complete",
                "COMP_WORDS": f"sessionactor {words}",
                "COMP_CWORD": str(len(words.split())),
            },
        )
        return [line.partition(",")[2] for line in done.out.split()]

    assert completed("show a1") == ["a1b2c3d4", "a1ffffff"]
    assert completed("show crazy") == ["crazy-mango"]
    assert completed("show hostile") == []
    assert "search" in completed("se")


def test_the_entry_point_is_the_same_as_the_module(place: Path) -> None:
    module = [sys.executable, "-m", "sessionactor.cli", "--version"]
    assert subprocess.check_output(module) == subprocess.check_output(command("--version"))
