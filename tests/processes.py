"""Other Python processes: a script that says lines, waits for lines, and can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE_S = 60

_PREAMBLE = """
import asyncio, json, os, sqlite3, sys
from sessionactor import *

def say(value):
    print(json.dumps(value), flush=True)

def wait():
    return sys.stdin.readline()
"""


class Process:
    """A script that runs in a process of its own."""

    def __init__(self, script: str, *arguments: object) -> None:
        self.popen = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "error",
                "-c",
                _PREAMBLE + textwrap.dedent(script),
                *map(str, arguments),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def hear(self) -> str:
        """The next line that it says; fails if it ended instead."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, f"the process ended with {self.popen.wait(PATIENCE_S)}"
        return line.strip()

    def tell(self, line: str = "") -> None:
        """Let its `wait()` return."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def end(self) -> int:
        """Let it go on to its end; its exit code."""
        self.popen.communicate(timeout=PATIENCE_S)
        return self.popen.returncode

    def kill(self) -> None:
        """End it without a chance to tidy up, and with it what it has forked."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.communicate()


@contextmanager
def process(script: str, *arguments: object) -> Iterator[Process]:
    """A process that does not outlive the block."""
    running = Process(script, *arguments)
    try:
        yield running
    finally:
        running.kill()


def output_of(script: str, *arguments: object) -> str:
    """What a script says, run to its end."""
    with process(script, *arguments) as running:
        said, _ = running.popen.communicate(timeout=PATIENCE_S)
        assert running.popen.returncode == 0
        return said.strip()


OWNER = """
async def main(directory, *session_ids):
    async with SessionRegistry(directory) as registry:
        for session_id in session_ids:
            session = await registry.start(session_id, name="owned")
            await session.append("owner", {"role": "user", "content": session_id})
        say("ready")
        await asyncio.to_thread(wait)

asyncio.run(main(*sys.argv[1:]))
"""
"""Owns sessions, named `owned` and with a message each, until it is told to end."""

READER = """
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, isolation_level=None)
connection.execute("BEGIN")
say(connection.execute("SELECT count(*) FROM messages").fetchone()[0])
wait()
say(connection.execute("SELECT count(*) FROM messages").fetchone()[0])
connection.execute("COMMIT")
connection.close()
"""
"""Reads a session file in one transaction: says how many messages, twice, and ends."""


@contextmanager
def owner(directory: Path, *session_ids: str) -> Iterator[Process]:
    """Another process that owns sessions of a directory."""
    with process(OWNER, directory, *session_ids) as running:
        running.hear()
        yield running


@contextmanager
def reader(path: Path) -> Iterator[Process]:
    """Another process that has a read transaction open on a session file."""
    with process(READER, path) as running:
        running.hear()
        yield running
