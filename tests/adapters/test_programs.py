"""The pages and examples of OpenAI Agents and Claude run, and say what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples" / "frameworks"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

EXPECTED = {
    "openai_agents_loop.py": """\
killed; what is there
  user                 What is the weather in Cologne?
resumed
  function_call        {"city":"Cologne"}
  function_call_output It rains in Cologne.
  assistant            It rains in Cologne. Take an umbrella.
rewound
  user                 And in Aachen?
  function_call        {"city":"Aachen"}
  function_call_output It rains in Aachen.
  assistant            It rains in Aachen. Take an umbrella.
forked
  8 items here, 12 there
  found in trip: It rains in Cologne. Take an umbrella.
""",
    "claude_store.py": """\
killed; what is there
  user      What is the weather in Cologne?
  assistant {'city': 'Cologne'}
resumed
  user      It rains in Cologne.
  assistant It rains in Cologne. Take an umbrella.
rewound: 4 entries removed, and others said
  user      And in Aachen?
  assistant {'city': 'Aachen'}
  user      It rains in Aachen.
  assistant It rains in Aachen. Take an umbrella.
forked: 8 entries here, 12 there
listed: What is the weather in Cologne?, What is the weather in Cologne?
found: It rains in Aachen. Take an umbrella.
""",
}


def environment(place: Path) -> dict[str, str]:
    """No keys; and in the place of `claude` the scripted one, with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
    commands = place / "bin"
    if not commands.exists():
        commands.mkdir()
        scripted = EXAMPLES / "claude_scripted.py"
        (commands / "claude").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{scripted}" "$@"\n')
        (commands / "claude").chmod(0o755)
    path = os.pathsep.join([str(commands), kept["PATH"]])
    return {**kept, "PATH": path, "CLAUDE_CONFIG_DIR": str(place / "config")}


def output_of(program: Path, place: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_agent_is_killed_resumed_rewound_and_forked(name: str, tmp_path: Path) -> None:
    assert output_of(EXAMPLES / name, tmp_path) == EXPECTED[name]


@pytest.mark.parametrize(("page", "promised"), [("openai-agents", 4), ("claude", 3)])
def test_a_page_runs_from_its_beginning_to_its_end(
    page: str, promised: int, tmp_path: Path
) -> None:
    printed = ""
    promises = 0
    for kind, code in BLOCK.findall((ROOT / f"docs/{page}.md").read_text()):
        if kind == "python":
            program = tmp_path / "program.py"
            program.write_text(code)
            printed = output_of(program, tmp_path)
        else:
            assert printed == code
            promises += 1
    assert promises == promised
