"""Every example runs, and says what it promises."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = ("--conversations", "6", "--steps", "60", "--think", "0.04", "--directory", "kept")

ARGUMENTS = {"agent_server.py": SMALL}
EXPECTED = {
    "agent_server.py": r"""
        6 conversations about the standard library, 60 messages each
        the server has all 6 conversations
        SIGKILL after [1-9]\d+ answered messages; the files hold [1-9]\d+: none lost or doubled
        the server has all 6 conversations
        finished: \d+ answered; the files hold 360: none lost or doubled
        conversation-0003 \(about-[\w.-]+\), \d answers given
        the latest chapter
        \d+  summary    Found out so far: - `[\w.]+` is in \w+
        \d+  user       .*`
        \d+  assistant  I look for
        \d+  tool       \w+\.py:\d+:
        the chapter before \d+
        1  user       .*`
        messages      360, [\d.]+ MB of text, \d+ summaries
        throughput    [\d,]+ appends/s
        an append     p50 [\d.]+ ms, p95 [\d.]+ ms, p99 [\d.]+ ms
        open at once  6 sessions in \d+ files
        memory        \d+ MB
        OK: nothing that was answered is lost or doubled
        """,
    "shortest.py": r"""
        1 user What is an actor\?
        2 agent One task, one mailbox\.
        in .*/sessions/[0-9a-f]+_crazy-mango\.db
        """,
    "two_agents.py": r"""
        refused: the critic had read up to 1, now it is 2
        1 writer: A session is one file\.
        2 writer: A session is one actor and one file\.
        3 critic, about .*2: Publish it\.
        the writer alone: \[1, 2\]
        the critic alone: \[3\]
        """,
    "edit_message.py": r"""
        before:
        1 user: Hello!
        2 user: What is the capital of Australia\?
        3 assistant: Canberra\.
        edited: 2 messages removed, the new one is 4
        after:
        1 user: Hello!
        4 user: What is the capital of Austria\?
        5 assistant: Vienna\.
        refused: seen at revision \d+, now at \d+
        """,
    "resume_by_name.py": r"""
        support-anna resumes from message 6:
        6 support-anna has counted to five
        5 support-anna says 5
        7 support-anna is still there
        support-bert resumes from message 6:
        2 of 3 sessions are open
        sales-anna is running: False
        no session has the name 'support-carl'
        """,
    "retry_with_keys.py": r"""
        without a key:
        the retry returned 2, the session holds \[1, 2\]
        with the key run-7/step-3:
        the retry returned 1, the session holds \[1\]
        under that key: 42 rows were deleted
        refused: the key is message 1's
        """,
}


def run(name: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_example_runs_and_says_what_it_promises(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path, *ARGUMENTS.get(name, ()))

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    rest = done.stdout
    for line in EXPECTED[name].strip().splitlines():
        found = re.search(line.strip(), rest)
        assert found, f"{line.strip()!r} does not follow in:\n{done.stdout}"
        rest = rest[found.end() :]


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("demonstrated")
    arguments = ("--conversations", "2", "--steps", "6", "--think", "0.3")
    done = run("agent_server.py", directory, *arguments, "--directory", "kept")
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / "kept"


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        (None, None),
        ("DELETE FROM messages WHERE id = 6", "step-6 was answered and is not there"),
        ("DELETE FROM messages WHERE id = 3", "its ids are not 1, 2, 3 …"),
        (
            "INSERT INTO messages (id, agent_id, data, inserted_at, key, turn, revision) SELECT"
            " 7, agent_id, data, inserted_at, key, turn, revision FROM messages WHERE id = 6",
            "its steps are not each there once, in order",
        ),
        (
            "UPDATE messages SET data = (SELECT data FROM messages WHERE id = 2) WHERE id = 6",
            "step-6 has another content than what was answered",
        ),
    ],
)
def test_the_proof_of_the_agent_server_sees_what_is_wrong(
    demonstrated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tampering: str | None,
    problem: str | None,
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from agent.proof import prove

    for path in (demonstrated / "sessions").glob("*.db"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if tampering:
        with closing(sqlite3.connect(min(tmp_path.glob("*.db")))) as file, file:
            file.execute(tampering)

    proof = prove(
        tmp_path,
        sorted(demonstrated.glob("answered-*.jsonl")),
        ["conversation-0000", "conversation-0001"],
        6,
    )

    if problem is None:
        assert proof.problems == []
        assert proof.stored == 12 >= proof.answered >= 10  # what the kill met has no answer
    else:
        assert any(problem in found for found in proof.problems), proof.problems


def test_the_proof_of_the_agent_server_sees_what_was_answered_twice(
    demonstrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from agent.proof import prove

    journals = sorted(demonstrated.glob("answered-*.jsonl"))
    sessions = ["conversation-0000", "conversation-0001"]

    proof = prove(demonstrated / "sessions", [*journals, journals[0]], sessions, 6)

    assert "conversation-0000: step-1 was answered twice" in proof.problems
