"""The page and the example of LangGraph run, and say what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLE = """\
killed before: tools
  human  What is the weather in Cologne?
  ai     weather({'city': 'Cologne'})
resumed
  tool   It rains in Cologne.
  ai     It rains in Cologne. Take an umbrella.
rewound to the beginning, 5 checkpoints ago
  human  And in Bonn?
  ai     weather({'city': 'Bonn'})
  tool   It rains in Bonn.
  ai     It rains in Bonn. Take an umbrella.
forked: 4 messages here, 8 there
found: 2 messages with an umbrella
"""


def output_of(program: Path, place: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_agent_is_killed_resumed_rewound_and_forked(tmp_path: Path) -> None:
    assert output_of(ROOT / "examples/frameworks/langgraph_agent.py", tmp_path) == EXAMPLE


def test_the_page_runs_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    printed = ""
    promises = 0
    for kind, code in BLOCK.findall((ROOT / "docs/langgraph.md").read_text()):
        if kind == "python":
            program = tmp_path / "program.py"
            program.write_text(code)
            printed = output_of(program, tmp_path)
        else:
            assert printed == code
            promises += 1
    assert promises == 2
