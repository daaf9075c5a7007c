"""Every code block of the README and the docs runs, and says what it promises."""

from __future__ import annotations

import asyncio
import inspect
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_line import fill, invoke

from sessionactor import SessionRegistry
from sessionactor.cli._app import app

ROOT = Path(__file__).parent.parent
ADAPTERS = {path.stem.replace("_", "-") for path in ROOT.glob("sessionactor/adapters/[a-z]*.py")}
"""Their pages need the frameworks: tests/adapters runs them."""
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.stem not in ADAPTERS),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(language, code, id=f"{page.name}-{number}-{language}")
    for page in PAGES
    for number, (language, code) in enumerate(BLOCK.findall(page.read_text()), 1)
]
KNOWN = {"python", "sql", "sh", "text"}


def run_program(code: str, place: Path) -> str:
    file = place / "program.py"
    file.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(file)],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_kind_of_block_is_known_to_these_tests() -> None:
    assert {language for page in PAGES for language, _ in BLOCK.findall(page.read_text())} <= KNOWN


@pytest.mark.parametrize(
    ("language", "code"), [block for block in BLOCKS if block.values[0] == "python"]
)
def test_python_blocks_run(language: str, code: str, tmp_path: Path) -> None:
    if "asyncio.run(" in code:
        assert run_program(code, tmp_path)
        return
    names: dict[str, Any] = {}
    exec(compile(code, "block", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        assert inspect.iscoroutinefunction(test)
        asyncio.run(test())


@pytest.mark.parametrize(
    ("language", "code"), [block for block in BLOCKS if block.values[0] == "sql"]
)
async def test_sql_blocks_run_on_a_session_file(language: str, code: str, tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start()
        await session.extend("agent-1", [{"n": n} for n in range(20)])
        assert session.path is not None
        with closing(sqlite3.connect(session.path)) as connection:
            rows = connection.execute(code).fetchall()
    assert [row[0] for row in rows] == list(range(20, 10, -1))


@pytest.mark.parametrize(
    ("language", "code"),
    [block for block in BLOCKS if block.values[0] == "sh" and "sessionactor " not in str(block)],
)
def test_commands_are_targets_of_the_makefile(language: str, code: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [line.split("#")[0].split() for line in code.splitlines() if line.strip()]
    assert commands
    for make, target in commands:
        assert make == "make"
        assert target in targets


def test_the_commands_of_the_command_line_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "sessions", a_conversation)
    page = (ROOT / "docs" / "command-line.md").read_text()
    shown = [line for language, code in BLOCK.findall(page) if language == "sh"
             for line in code.splitlines()]  # fmt: skip
    commands = [shlex.split(line) for line in shown if line.startswith("sessionactor ")]
    words = {word for arguments in commands for word in arguments}
    assert words >= {*app.commands} - {"completion"}
    for arguments in commands:
        done = invoke(tmp_path / "sessions", *arguments[1:])
        assert done.code == 0, (arguments, done)


async def a_conversation(registry: SessionRegistry) -> None:
    session = await registry.start("a1b2c3d4", name="crazy-mango")
    for role in ("user", "assistant", "user", "summary", "user"):
        await session.append("agent-1", {"role": role, "content": "a late parcel, a refund"})
    await session.save_metadata({"customer": "Ada"})


def test_the_first_program_prints_the_latest_chapter(tmp_path: Path) -> None:
    code = next(code for lang, code in BLOCK.findall(PAGES[0].read_text()) if lang == "python")
    assert run_program(code, tmp_path).splitlines() == [
        "3 summary We defined actors.",
        "4 user And a session?",
    ]
    assert (tmp_path / "sessions" / "a1b2c3d4_crazy-mango.db").exists()


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
