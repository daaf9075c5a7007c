"""What all commands have in common: `--dir`, `--json`, how arguments are read, how they end."""

from __future__ import annotations

import asyncio
import functools
import glob
import os
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

import click
from click.shell_completion import CompletionItem

from sessionactor import SessionError, SessionRegistry
from sessionactor.cli._exits import Exit, FailedError, code_of
from sessionactor.cli._output import Output
from sessionactor.cli._place import Place
from sessionactor.cli._text import clean

VARIABLE: Final = "SESSIONACTOR_DIR"

_Command: TypeAlias = Callable[..., Coroutine[Any, Any, Exit | None]]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")


def duration(text: str) -> timedelta:
    """A number and a unit, or several of them."""
    if not _DURATION.fullmatch(text):
        raise click.BadParameter(
            f"{text!r}: a duration is a number and a unit: 45s, 90m, 12h, 30d, 2w, 1d12h"
        )
    parts = re.findall(r"([\d.]+)([smhdw])", text)
    try:
        return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))
    except OverflowError:
        raise click.BadParameter(f"{text!r}: that is too long") from None


def moment(text: str) -> datetime:
    """A time by the clock, or how long ago it was."""
    try:
        if _DURATION.fullmatch(text):
            return datetime.now(UTC) - duration(text)
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r}: a time is ISO 8601, as 2026-11-20 or 2026-11-20T12:30, or how long ago: 2h"
        ) from None


def pair(text: str) -> tuple[str, str]:
    """A key and its value."""
    key, found, value = text.partition("=")
    if not found or not key:
        raise click.BadParameter(f"{text!r}: a pair is KEY=VALUE")
    return key, value


def _complete(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem | str]:
    """Ids and names of sessions that begin so; nothing where that cannot be told."""
    directory = _directory(ctx, ctx.params.get("directory"))
    if directory is None or not directory.is_dir():
        return []

    async def look() -> list[CompletionItem | str]:
        async with SessionRegistry(directory, read_only=True) as registry:
            by_id = await registry.find_by_prefix(incomplete)
            by_name = await registry.find(f"{glob.escape(incomplete)}*")
        return [
            CompletionItem(text, help=clean(other))
            for text, other in (
                *((file.session_id, file.name) for file in by_id),
                *((file.name, file.session_id) for file in by_name),
            )
            if text == clean(text)
        ]

    try:
        return asyncio.run(look())
    except (SessionError, OSError):
        return []


SESSION: Final = click.argument("session", shell_complete=_complete)
SESSIONS: Final = click.argument("sessions", nargs=-1, shell_complete=_complete)
YES: Final = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def _directory(ctx: click.Context, given: Path | None) -> Path | None:
    if given is None:
        given = ctx.find_root().params.get("directory")
    if given is None and os.environ.get(VARIABLE):
        given = Path(os.environ[VARIABLE])
    return given


def directory_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where the sessions are."""
    return click.option(
        "--dir",
        "directory",
        type=click.Path(path_type=Path),
        help=f"The directory of the sessions; else {VARIABLE} says it.",
    )(function)


def command(name: str, *, creates: bool = False) -> Callable[[_Command], click.Command]:
    """Make a command of a coroutine function that is given a `Place` and its own parameters.

    Args:
        name: What it is called.
        creates: Whether the directory may be missing.
    """

    def decorate(function: _Command) -> click.Command:
        @functools.wraps(function)
        def run(directory: Path | None, as_json: bool, **arguments: Any) -> None:
            ctx = click.get_current_context()
            place = Place(_checked(ctx, directory, creates), Output(as_json=as_json))
            ctx.exit(_carried_out(function(place, **arguments), place.output))

        as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
        return click.command(name)(as_json(directory_option(run)))

    return decorate


def _checked(ctx: click.Context, given: Path | None, creates: bool) -> Path:
    directory = _directory(ctx, given)
    if directory is None:
        raise click.UsageError(f"say where the sessions are: --dir, or {VARIABLE}", ctx)
    try:
        is_there = directory.is_dir()
        if not is_there and (directory.exists() or not creates):
            what = "is no directory" if directory.exists() else "does not exist"
            raise click.UsageError(f"{clean(str(directory))} {what}", ctx)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{clean(str(directory))}: {error}", ctx) from None
    return directory


def _carried_out(coroutine: Coroutine[Any, Any, Exit | None], output: Output) -> int:
    try:
        code = asyncio.run(coroutine) or Exit.DONE
        output.flush()
    except BrokenPipeError:
        return Exit.PIPE_CLOSED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except (FailedError, SessionError, OSError) as error:
        output.failed(error)
        return code_of(error)
    return code


__all__ = [
    "SESSION",
    "SESSIONS",
    "VARIABLE",
    "YES",
    "command",
    "directory_option",
    "duration",
    "moment",
    "pair",
]
