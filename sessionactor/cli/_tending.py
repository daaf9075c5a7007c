"""Commands that look after a directory: `compact`, `clean`, `doctor`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import NamedTuple

import click
from rich.text import Text

from sessionactor import SessionError
from sessionactor.checkup import Finding, check, check_catalog, has_catalog, repair
from sessionactor.cli import _finding as finding
from sessionactor.cli import _json as json
from sessionactor.cli._exits import Exit, code_of, details_of, message_of
from sessionactor.cli._options import SESSIONS, YES, command, duration
from sessionactor.cli._output import Output
from sessionactor.cli._place import Place
from sessionactor.cli._text import clean, counted, size


@command("compact")
@SESSIONS
@click.option("--all", "everything", is_flag=True, help="All sessions.")
async def compact(place: Place, sessions: tuple[str, ...], everything: bool) -> Exit:
    """Give the space of removed messages back to the disk.

    A glob means all sessions that it matches.
    """
    output = place.output
    if bool(sessions) == everything:
        raise click.UsageError("say which sessions, or --all")
    worst = Exit.DONE
    before = after = 0
    async with place.writing() as registry:
        files = await finding.several(registry, sessions, everything=everything)
        with output.progress("compacting") as told:
            for done, file in enumerate(files):
                told(done, len(files))
                try:
                    report = await registry.session(file.session_id).compact()
                except SessionError as error:
                    output.failed(error)
                    worst = max(worst, code_of(error))
                    continue
                before += report.size_before
                after += report.size_after
                if output.as_json:
                    output.record({"session_id": file.session_id, **json.plain(report)})
    if not output.as_json:
        output.line(f"{counted(len(files), 'session')}: {size(before)} → {size(after)}")
    return worst


@command("clean")
@click.option(
    "--older-than",
    type=duration,
    required=True,
    metavar="DURATION",
    help="Without activity for so long: 30d, 12h.",
)
@click.option("--dry-run", is_flag=True, help="Only tell which would be deleted.")
@YES
async def clean_up(place: Place, older_than: timedelta, dry_run: bool, yes: bool) -> Exit:
    """Delete sessions that nothing happened to for long.

    Never one that is running or in use, here or in another process.
    """
    output = place.output
    async with place.writing() as registry:
        if not dry_run and not yes:
            planned = await registry.cleanup(older_than, dry_run=True)
            number = counted(len(planned.deleted), "session")
            if not output.asks:
                raise click.UsageError(f"--yes is needed where nobody can be asked: {number}")
            if planned.deleted and not output.confirmed(f"delete {number} for good?"):
                return Exit.FAILED
        report = await registry.cleanup(older_than, dry_run=dry_run)
    if output.as_json:
        failed = {session_id: details_of(error) for session_id, error in report.failed.items()}
        output.record({"dry_run": dry_run, "deleted": report.deleted, "failed": failed})
    else:
        for session_id in report.deleted:
            output.line(clean(session_id))
        done = "would be deleted" if dry_run else "deleted"
        output.note(f"{counted(len(report.deleted), 'session')} {done}")
        for error in report.failed.values():
            output.failed(error)
    return max((code_of(error) for error in report.failed.values()), default=Exit.DONE)


@command("doctor")
@click.option("--fix", is_flag=True, help="Repair what is safe; no message is ever removed.")
async def doctor(place: Place, fix: bool) -> Exit:
    """Check every file and the catalog; --fix: repair.

    It looks beside whoever has the sessions open, and repairs only what nobody owns.
    """
    output = place.output
    found: list[_Treated] = []
    with output.progress("files") as told:
        async for one in _in_a_thread(check(place.directory, told)):
            found.append(await _treated(one, fix=fix))
            _tell(found[-1], output, fix=fix)
    repaired = [one.finding.session_id for one in found if one.fixed]
    for treated in await _catalog(place, repaired, fix=fix):
        found.append(treated)
        _tell(treated, output, fix=fix)
    fixed = sum(one.fixed for one in found)
    if found:
        output.note(counted(len(found), "problem") + (f", {fixed} repaired" if fix else ""))
    elif not output.as_json:
        output.line("nothing is wrong")
    return Exit.UNSOUND if fixed < len(found) else Exit.DONE


class _Treated(NamedTuple):
    """A finding, and what became of it."""

    finding: Finding
    fixed: bool = False
    error: SessionError | None = None


async def _treated(one: Finding, *, fix: bool) -> _Treated:
    if not fix:
        return _Treated(one)
    try:
        return _Treated(one, await asyncio.to_thread(repair, one))
    except SessionError as error:
        return _Treated(one, error=error)


async def _catalog(place: Place, repaired: list[str | None], *, fix: bool) -> list[_Treated]:
    if any(repaired):
        async with place.writing() as registry:  # which tells the catalog of them
            for session_id in filter(None, repaired):
                with contextlib.suppress(SessionError):
                    await registry.session(session_id).info()
    async with place.reading() as registry:
        with place.output.progress("catalog") as told:
            found = await check_catalog(registry, told)
    if fix and not has_catalog(place.directory):
        found.append(Finding("catalog", place.directory, None, "there is none", "make it"))
    if not fix or not found:
        return [_Treated(one) for one in found]
    try:
        async with place.writing() as registry:
            with place.output.progress("building the catalog") as told:
                await registry.rebuild_catalog(told)
    except SessionError as error:
        return [_Treated(one, error=error) for one in found]
    return [_Treated(one, fixed=True) for one in found]


def _tell(treated: _Treated, output: Output, *, fix: bool) -> None:
    one, fixed, error = treated
    if output.as_json:
        about = {"fixed": fixed, "error": None if error is None else details_of(error)}
        output.record({**json.plain(one), **about})
        return
    line = Text("repaired " if fixed else "", style="green")
    line.append(one.problem, style="yellow" if one.remedy else "red")
    what = one.path.name or one.session_id or ""
    line.append(f"  {clean(what)}: {clean(one.detail)}", style="default")
    if one.remedy is not None and not fix:
        line.append(f" (--fix: {one.remedy})", style="dim")
    if error is not None:
        line.append(f"; not repaired: {clean(message_of(error))}", style="default")
    output.line(line)


async def _in_a_thread(findings: Iterator[Finding]) -> AsyncIterator[Finding]:
    """Findings as they come; Ctrl-C need not wait for the last one."""
    while (found := await asyncio.to_thread(next, findings, None)) is not None:
        yield found


__all__ = ["clean_up", "compact", "doctor"]
