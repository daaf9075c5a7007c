"""The parent's side: starting the server, watching it, killing it, and the screen."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict

EVERY_S = 5.0
"""How often a line comes where the screen is no terminal."""


class State(TypedDict):
    """What the server prints of itself, as JSON, several times a second."""

    resumed: int
    stored: int
    active: int
    files: int
    memory: int


class Run(NamedTuple):
    """One life of the server, as its parent saw it."""

    returncode: int
    seconds: float
    most_active: int
    most_files: int
    most_memory: int


@dataclass
class Screen:
    """One line that keeps changing on a terminal; now and then a line anywhere else."""

    total: int
    terminal: bool = field(default_factory=lambda: sys.stdout.isatty())
    began: float = field(default_factory=time.perf_counter)
    shown_at: float = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    def say(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        print(f"{self.elapsed:5.1f} s  {text}", flush=True)

    def show(self, state: State) -> None:
        """How far the server is."""
        stored = state["stored"]
        text = f"{stored:,} of {self.total:,} messages, {state['active']} sessions open"
        if self.terminal:
            done = 20 * stored // self.total
            bar = "█" * done + "░" * (20 - done)
            print(f"\r\033[K{self.elapsed:5.1f} s  {bar}  {text}", end="", flush=True)
        elif self.elapsed - self.shown_at >= EVERY_S:
            self.shown_at = self.elapsed
            self.say(text)

    def clear(self) -> None:
        """Take the changing line away."""
        if self.terminal:
            print("\r\033[K", end="", flush=True)


def run_server(
    command: list[str], conversations: int, screen: Screen, kill_at: int | None = None
) -> Run:
    """Run the server to its end, or kill it as soon as it has stored that many messages."""
    began, under_way = screen.elapsed, False
    active, files, memory = [0], [0], [0]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as server:
        assert server.stdout is not None
        try:
            for line in server.stdout:
                state: State = json.loads(line)
                active.append(state["active"])
                files.append(state["files"])
                memory.append(state["memory"])
                if not under_way and state["resumed"] == conversations:
                    under_way = True
                    took = f"{screen.elapsed - began:.1f} s"
                    screen.say(f"the server has all {conversations} conversations after {took}")
                if under_way:
                    screen.show(state)
                if kill_at is not None and state["stored"] >= kill_at:
                    server.kill()
                    break
        except BaseException:
            server.kill()
            raise
    screen.clear()
    return Run(server.returncode, screen.elapsed - began, max(active), max(files), max(memory))
