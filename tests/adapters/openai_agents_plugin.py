"""Runs OpenAI Agents' own tests with `ActorSession` in the place of `SQLiteSession`.

A pytest plugin: `pytest -p openai_agents_plugin <their tests>`. Of their tests it runs those that
make such a session, but for those of `openai_agents_excluded.txt`; nothing of theirs is copied.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agents
import agents.extensions.memory.advanced_sqlite_session
import agents.extensions.memory.encrypt_session
import agents.memory
import agents.memory.sqlite_session
import pytest

from sessionactor.adapters.openai_agents import ActorSession

EXCLUDED = Path(__file__).with_name("openai_agents_excluded.txt")
made: list[ActorSession] = []
places: dict[str, str] = {}
"""Where the sessions of a file are: they remove its directory while the catalog still works."""


class SQLiteSession(ActorSession):
    """`ActorSession` with the arguments of the class in whose place it is."""

    def __init__(
        self,
        session_id: str,
        db_path: str | Path = ":memory:",
        sessions_table: str = "agent_sessions",
        messages_table: str = "agent_messages",
        session_settings: Any = None,
    ) -> None:
        where = places.get(str(db_path)) or tempfile.mkdtemp()
        if str(db_path) != ":memory:":
            places[str(db_path)] = where
        super().__init__(session_id, where, session_settings=session_settings)
        self.directory = where
        made.append(self)


for module in (agents, agents.memory, agents.memory.sqlite_session):
    module.SQLiteSession = SQLiteSession  # type: ignore[misc, assignment, attr-defined]


def excluded() -> dict[str, str]:
    """The tests that are not run, and why."""
    found = {}
    for line in EXCLUDED.read_text().splitlines():
        if line and not line.startswith("#"):
            test, _, reason = line.partition(": ")
            found[test] = reason
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know whether all of their tests were collected."""
    parser.addoption("--whole", action="store_true", help="an exclusion of nothing is an error")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is excluded."""
    leave = set(excluded())
    kept, gone = [], []
    unused = set(leave)
    for item in items:
        test = item.nodeid.split("tests/", 1)[1]
        found = leave & {test, test.split("[")[0]}
        unused -= found
        (gone if found else kept).append(item)
    if unused and config.getoption("--whole"):
        raise pytest.UsageError(f"there is nothing to exclude: {sorted(unused)}")
    config.hook.pytest_deselected(items=gone)
    items[:] = kept


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Count the tests that made a session, and remove what they left."""
    made.clear()
    yield
    if made:
        item.config.stash.setdefault(COUNT, []).append(item.nodeid)
    for session in made:
        shutil.rmtree(session.directory, ignore_errors=True)  # type: ignore[attr-defined]
    places.clear()


COUNT = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say in how many tests `ActorSession` took part."""
    ran = len(config.stash.get(COUNT, []))
    terminalreporter.write_line(f"ActorSession took part in {ran} of OpenAI Agents' own tests")
