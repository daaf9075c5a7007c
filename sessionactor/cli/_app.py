"""The command line as a whole: its commands, and how mistakes in its use end."""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import get_completion_class

from sessionactor import __version__
from sessionactor.cli import _changing as changing
from sessionactor.cli import _listing as listing
from sessionactor.cli import _moving as moving
from sessionactor.cli import _reading as reading
from sessionactor.cli import _tending as tending
from sessionactor.cli._exits import Exit
from sessionactor.cli._options import directory_option
from sessionactor.cli._text import clean


class _App(click.Group):
    """The commands in the order of their groups; every way out has its exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except click.ClickException as error:
            said = io.StringIO()
            error.show(said)
            click.echo(clean(said.getvalue(), lines=True), err=True, nl=False)
            code = error.exit_code
        except click.Abort:
            code = Exit.INTERRUPTED
        if code == Exit.PIPE_CLOSED:
            # What is still buffered would fail again when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(int(code or 0))


@click.group(cls=_App, context_settings={"help_option_names": ["-h", "--help"]})
@directory_option
@click.version_option(__version__, message="%(prog)s %(version)s")
def app(directory: Path | None) -> None:
    """Look at the sessions of a directory, and look after them.

    SESSION is an id, the beginning of one, a name, or a glob such as 'crazy-*'.

    Commands that only look work while a server has the sessions open. Others need the session
    for themselves, and say which process has it.

    Exit codes: 0 done, 1 not found or failed, 2 not understood, 3 in use by another process,
    4 doctor found something wrong, 130 interrupted.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Safe("sessionactor: %(message)s"))
    logging.getLogger("sessionactor").handlers = [handler]


class _Safe(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record), lines=True)


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands, options, ids and names in a shell.

    For bash, in ~/.bashrc: eval "$(sessionactor completion bash)"
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(app, {}, "sessionactor", "_SESSIONACTOR_COMPLETE").source())


for _command in (
    *(listing.ls, reading.show, reading.tail, listing.search, reading.info),
    *(changing.rename, changing.fork, changing.rm),
    *(moving.export, moving.import_, moving.backup),
    *(tending.compact, tending.clean_up, tending.doctor, listing.stats, completion),
):
    app.add_command(_command)

__all__ = ["app"]
