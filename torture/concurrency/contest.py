"""Several processes on one directory, some of them killed; and then whose history holds.

All stamp their calls with one clock, which the system has since it started. What a process did
not answer before it was killed happened before it was gone, or never.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from sessionactor import SessionRegistry
from torture.campaign import Budget, environment
from torture.concurrency.asking import ask
from torture.concurrency.calls import COMMANDS, Call, Done, Read, from_json
from torture.concurrency.contender import SESSIONS

PROCESSES = 3
SECONDS = 4.0
"""How long a contest goes on, once it has begun."""
_PATIENCE_S = 30.0


@dataclass
class Result:
    """What a contest came to."""

    history: list[Done] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    kills: int = 0
    owned: int = 0
    """Calls that came to nothing because another process owned the session."""
    lost: int = 0
    """Calls that may have happened."""


def contest(budget: Budget, case: str) -> Result:
    """One contest."""
    result = Result()
    with tempfile.TemporaryDirectory() as place:
        contest = _Contest(budget, case, Path(place), result)
        contest.run()
        asyncio.run(contest.look())
    return result


class _Process:
    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "torture.concurrency", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(),
        )

    @property
    def has_begun(self) -> bool:
        return self.log.exists() and self.log.stat().st_size > 0

    def end(self) -> str:
        """Let it end by itself: what it says went wrong."""
        try:
            _, said = self.popen.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            _, said = self.popen.communicate()
            return f"it does not end: {said.decode()}"
        return said.decode() if self.popen.returncode or said else ""


class _Contest:
    def __init__(self, budget: Budget, case: str, place: Path, result: Result) -> None:
        self._budget = budget
        self._case = case
        self._place = place
        self._directory = place / "sessions"
        self._result = result
        self._random: Random = budget.random("contest", case)
        self._count = 0
        self._written: list[tuple[Path, int]] = []
        """Logs, and when their writers were gone."""

    def run(self) -> None:
        running = [self._start() for _ in range(PROCESSES)]
        self._wait_for(running)
        over_at = time.monotonic() + min(SECONDS, max(1.0, self._budget.left))
        while (left := over_at - time.monotonic()) > 0:
            time.sleep(min(left, 0.2 + self._random.random()))
            if left > 1.0 and self._random.random() < 0.7:
                killed = running.pop(self._random.randrange(len(running)))
                self._kill(killed)
                running.append(self._start())
        for process in running:
            if wrong := process.end():
                self._result.complaints.append(f"process {process.popen.pid}: {wrong}")
            self._gone(process)
        for log, gone in self._written:
            self._read(log, gone)

    async def look(self) -> None:
        """What there is in the end."""
        async with SessionRegistry(self._directory) as registry:
            for session_id in SESSIONS:
                for what in ("messages", "metadata", "info"):
                    call = Read(what)
                    began = time.monotonic_ns()
                    answer = await ask(registry, session_id, call)
                    done = Done(session_id, call, began, time.monotonic_ns(), answer)
                    self._result.history.append(done)

    def _start(self) -> _Process:
        self._count += 1
        log = self._place / f"{self._count}.log"
        arguments = [str(self._directory), str(log), "--case", self._case]
        arguments += ["--number", str(self._count), *self._budget.arguments()]
        return _Process(arguments, log)

    def _wait_for(self, processes: list[_Process]) -> None:
        while not all(one.has_begun or one.popen.poll() is not None for one in processes):
            time.sleep(0.02)

    def _kill(self, process: _Process) -> None:
        process.popen.send_signal(signal.SIGKILL)
        process.popen.communicate()
        self._result.kills += 1
        self._gone(process)

    def _gone(self, process: _Process) -> None:
        self._written.append((process.log, time.monotonic_ns()))

    def _read(self, log: Path, gone: int) -> None:
        """Take the calls of a log into the history."""
        result = self._result
        made: dict[int, tuple[int, str, Call]] = {}
        waiting: dict[int, int] = {}  # calls that were given up, and when
        for how, number, at, *rest in _lines(log):
            if how == "began":
                made[number] = (at, *rest)
            elif how == "lost":
                waiting[number] = at
            elif how != "closed":
                began, session_id, call = made.pop(number)
                if how == "answered":
                    result.history.append(Done(session_id, call, began, at, rest[0]))
                elif how == "not":
                    result.owned += 1
                else:
                    result.complaints.append(f"{session_id} {call}: {rest[0]}")
                # A process is served in order: what was given up before this was asked is over.
                for lost in [n for n, when in waiting.items() if when < began]:
                    if made[lost][1] == session_id and not isinstance(made[lost][2], COMMANDS):
                        del waiting[lost]
                        self._lose(made.pop(lost), at)
        for lost_call in made.values():
            self._lose(lost_call, gone)

    def _lose(self, call: tuple[int, str, Call], ended: int) -> None:
        """Note a call that may have happened."""
        began, session_id, asked = call
        self._result.lost += 1
        self._result.history.append(Done(session_id, asked, began, ended, answered=False))


def _lines(log: Path) -> Iterator[tuple[Any, ...]]:
    if not log.exists():
        return
    for line in log.read_text().splitlines():
        try:
            yield from_json(line)
        except json.JSONDecodeError:
            return  # the last one, cut off by a kill
