"""Where the output of a command goes: a terminal, a pipe, a pager, and progress to stderr."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import IO, Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sessionactor.cli._exits import details_of, message_of
from sessionactor.cli._json import encoded
from sessionactor.cli._text import clean

_PAGER: Final = "less -R"
_ID_WIDTH: Final = 36


class _Console(Console):
    """Takes text as it is, and lets whoever prints know that nobody reads."""

    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError that is being handled


class Output:
    """What a command says: to people, or with `as_json` to programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        self.console = _console(sys.stdout)
        self._errors = _console(sys.stderr)
        self._bar: Progress | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether people look at it while it comes."""
        return self.console.is_terminal and not self.as_json

    @property
    def asks(self) -> bool:
        """Whether somebody can be asked."""
        return sys.stdin.isatty() and self._errors.is_terminal

    def record(self, value: Any) -> None:
        """A value as a line of JSON."""
        sys.stdout.write(encoded(value) + "\n")

    def line(self, text: Text | str) -> None:
        """A line for people; long ones are left to the terminal to break."""
        with self._apart_from_bar():
            if self.console.is_terminal:
                _print(self.console, text)
            else:
                sys.stdout.write(f"{text}\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Text | str]]) -> None:
        """Rows for people; into a pipe, values with tabs between them and no heading.

        Args:
            columns: Their names. The first one is that of ids, which are cut last; behind
                `>` stand those of numbers.
            rows: Values that are safe.
        """
        if not self.console.is_terminal:
            for row in rows:
                sys.stdout.write("\t".join(str(value) for value in row) + "\n")
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        longest = max((len(str(row[0])) for row in rows), default=0)
        for number, column in enumerate(columns):
            name = column.lstrip(">")
            table.add_column(
                name,
                justify="right" if name != column else "left",
                no_wrap=True,
                overflow="ellipsis",
                min_width=min(longest, _ID_WIDTH) if number == 0 else len(name),
            )
        for row in rows:
            table.add_row(*(Text(value) if isinstance(value, str) else value for value in row))
        self.console.print(table)

    def note(self, text: str, **details: Any) -> None:
        """Something beside the output, to stderr: with `as_json`, the details."""
        self.flush()
        if self.as_json:
            click.echo(encoded(details or {"note": text}), err=True)
        else:
            with self._apart_from_bar():
                _print(self._errors, clean(text, lines=True))

    def failed(self, error: BaseException) -> None:
        """Say what went wrong, to stderr."""
        with contextlib.suppress(BrokenPipeError):
            self.flush()
        if self.as_json:
            click.echo(encoded(details_of(error)), err=True)
        else:
            line = Text("sessionactor: ", style="bold red")
            line.append(clean(message_of(error), lines=True), style="not bold default")
            with self._apart_from_bar():
                _print(self._errors, line)

    def flush(self) -> None:
        """Send what was written."""
        sys.stdout.flush()

    @contextlib.contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar on stderr, if that is a terminal; gives what is told `(done, of)`."""
        if self.as_json or not self._errors.is_terminal:
            yield lambda done, of: None
            return
        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._errors,
            transient=True,
        )
        self._bar = bar
        with bar:
            task = bar.add_task(what, total=None)

            def told(done: int, of: int) -> None:
                bar.update(task, completed=done, total=of)

            try:
                yield told
            finally:
                self._bar = None

    @contextlib.contextmanager
    def _apart_from_bar(self) -> Iterator[None]:
        """Take the bar off the terminal while something else is printed there."""
        bar = self._bar if self.console.is_terminal else None
        if bar is not None:
            bar.stop()
        yield
        if bar is not None:
            bar.start()

    def confirmed(self, question: str) -> bool:
        """Ask whoever sits there; Ctrl-C ends the command as it does elsewhere."""
        self.flush()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return click.confirm(clean(question, lines=True), err=True)
        finally:
            signal.signal(signal.SIGINT, before)

    async def paged(self, lines: AsyncIterator[Text | str]) -> None:
        """Lines to the user's pager, as they come, if people look at it; else to stdout."""
        command = shlex.split(os.environ.get("PAGER") or _PAGER)
        pager = self._start(command) if self.is_terminal and sys.stdin.isatty() else None
        if pager is None:
            async for line in lines:
                self.line(line)
            return
        assert pager.stdin is not None
        through = _Console(
            file=pager.stdin,
            force_terminal=True,
            width=self.console.width,
            color_system=self.console.color_system,  # type: ignore[arg-type]
            no_color=self.console.no_color,
            **_AS_IT_IS,
        )
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pager's
        try:
            with contextlib.suppress(BrokenPipeError):  # it was quit
                async for line in lines:
                    # In a thread: a pager that waits for its user must not stop the loop.
                    await asyncio.to_thread(_print, through, line)
        finally:
            with contextlib.suppress(BrokenPipeError):
                pager.stdin.close()
            await asyncio.to_thread(pager.wait)
            signal.signal(signal.SIGINT, before)

    def _start(self, command: list[str]) -> subprocess.Popen[str] | None:
        environment = {"LESS": "-R", "LESSCHARSET": "utf-8", **os.environ}
        if not command or command == ["cat"]:
            return None
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                env=environment,
                encoding="utf-8",
                errors="backslashreplace",
            )
        except OSError as error:
            self.note(f"no pager: {message_of(error)}")
            return None


_AS_IT_IS: Final[dict[str, Any]] = {"markup": False, "emoji": False, "highlight": False}


def _console(stream: IO[str]) -> Console:
    return _Console(file=stream, **_AS_IT_IS)


def _print(console: Console, line: Text | str) -> None:
    console.print(Text(line) if isinstance(line, str) else line, soft_wrap=True)


__all__ = ["Output"]
