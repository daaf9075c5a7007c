"""The pages and examples of ADK and Pydantic AI run, and say what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = {
    "google_adk_agent.py": """\
killed; what is there
  user  What is the weather in Cologne?
  guide weather({'city': 'Cologne'})
resumed
  guide -> {'weather': 'It rains in Cologne.'}
  guide It rains in Cologne. Take a hat.
asked again, and rewound
  {'city': 'Bonn', 'user:asked': 2} became {'city': 'Cologne', 'user:asked': 2}
  guide weather({'city': 'Aachen'})
  guide -> {'weather': 'It rains in Aachen.'}
  guide It rains in Aachen. Take a hat.
forked: 2 sessions, of Aachen and Cologne
found in travel/ada/trip: 2 messages with a hat
""",
    "pydantic_ai_agent.py": """\
killed; what is there
  user-prompt What is the weather in Cologne?
  tool-call   weather({'city': 'Cologne'})
resumed
  tool-return It rains in Cologne.
  text        It rains in Cologne. Take an umbrella.
rewound to the question, and asked another one
  user-prompt And in Bonn?
  tool-call   weather({'city': 'Bonn'})
  tool-return It rains in Bonn.
  text        It rains in Bonn. Take an umbrella.
  left behind, and kept: 4 messages
forked: 4 messages here, 8 there
found in trip: 2 messages with an umbrella
""",
}


def output_of(program: Path, place: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_agent_is_killed_resumed_rewound_and_forked(name: str, tmp_path: Path) -> None:
    assert output_of(ROOT / "examples" / "frameworks" / name, tmp_path) == EXAMPLES[name]


@pytest.mark.parametrize(("page", "promised"), [("google-adk", 2), ("pydantic-ai", 2)])
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
