"""The command line, run as a user does: as a process, on a terminal; or in this process."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from sessionactor import SessionRegistry
from sessionactor.cli._app import app

SCRIPT = Path(sys.executable).with_name("sessionactor")
PATIENCE_S = 60
_PLAIN = {"NO_COLOR", "FORCE_COLOR", "PAGER", "LESS", "COLUMNS", "LINES", "SESSIONACTOR_DIR"}
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in _PLAIN}


class Done(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[Any]:
        """Its lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


def fill(place: Path, build: Callable[[SessionRegistry], Awaitable[object]]) -> None:
    """Put sessions into a directory."""

    async def main() -> None:
        async with SessionRegistry(place, durability="normal") as registry:
            await build(registry)

    asyncio.run(main())


def invoke(place: Path, *arguments: object, answer: str | None = None) -> Done:
    """Run a command in this process; it must not have printed a traceback."""
    result = CliRunner().invoke(
        app, [*map(str, arguments)], input=answer, env={"SESSIONACTOR_DIR": str(place)}
    )
    assert isinstance(result.exception, SystemExit | None), result.exc_info
    return Done(result.exit_code, result.stdout, result.stderr)


def command(*arguments: object) -> list[str]:
    """How a process is started: by the entry point, where the package is installed."""
    start = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "sessionactor.cli"]
    return [*start, *map(str, arguments)]


def run(place: Path, *arguments: object, env: Mapping[str, str] | None = None) -> Done:
    """Run a command as a process whose output goes into pipes."""
    done = subprocess.run(
        command(*arguments),
        env={**ENVIRONMENT, "SESSIONACTOR_DIR": str(place), **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


_IN_FRONT = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes the terminal that of the new session, so that Ctrl-C is a signal."""


class Terminal:
    """A command on a terminal of its own, 100 columns wide."""

    def __init__(
        self, place: Path, *arguments: object, env: Mapping[str, str] | None = None
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.popen = subprocess.Popen(
            [sys.executable, "-c", _IN_FRONT, *command(*arguments)],
            env={
                **ENVIRONMENT,
                "SESSIONACTOR_DIR": str(place),
                "TERM": "xterm-256color",
                **(env or {}),
            },
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""

    def wait_for(self, text: str) -> str:
        """Read until something was shown; all that was."""
        while text not in self.shown:
            if not self._read():
                raise AssertionError(f"{text!r} was not shown, but {self.shown!r}")
        return self.shown

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def interrupt(self) -> int:
        """Press Ctrl-C, again if it came too early for whoever was about to ask; the exit code."""
        while self.popen.poll() is None:
            self.type("\x03")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(0.2)
        code = self.end()
        return 128 + signal.SIGINT if code == -signal.SIGINT else code  # as shells call it

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        os.close(self._ours)
        return self.popen.wait(PATIENCE_S)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], PATIENCE_S)
        assert ready, f"nothing came any more after {self.shown!r}"
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # nobody has the other end any more
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)
