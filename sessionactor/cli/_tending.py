"""Commands that look after a directory: `compact`, `clean`, `doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import click
from rich.text import Text

from sessionactor import SessionError
from sessionactor.checkup import Finding, check, repair
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
    found = wrong = 0
    with output.progress("checking") as told:
        async for one in _in_a_thread(check(place.directory, told)):
            found += 1
            wrong += not await _treated(one, output, fix=fix)
    if not output.as_json:
        if not found:
            output.line("nothing is wrong")
        else:
            fixed = f", {found - wrong} repaired" if fix else ""
            output.note(f"{counted(found, 'problem')}{fixed}")
    return Exit.UNSOUND if wrong else Exit.DONE


async def _treated(one: Finding, output: Output, *, fix: bool) -> bool:
    """Tell a finding, and whether it is out of the way."""
    fixed, error = False, None
    if fix and one.remedy is not None:
        try:
            fixed = await asyncio.to_thread(repair, one)
        except SessionError as caught:
            error = caught
    if output.as_json:
        about = {"fixed": fixed, "error": None if error is None else details_of(error)}
        output.record({**json.plain(one), **about})
        return fixed
    line = Text("repaired " if fixed else "", style="green")
    line.append(one.problem, style="yellow" if one.remedy else "red")
    line.append(f"  {clean(one.path.name)}: {clean(one.detail)}", style="default")
    if one.remedy is not None and not fix:
        line.append(f" (--fix: {one.remedy})", style="dim")
    if error is not None:
        line.append(f"; not repaired: {clean(message_of(error))}", style="default")
    output.line(line)
    return fixed


async def _in_a_thread(findings: Iterator[Finding]) -> AsyncIterator[Finding]:
    """Findings as they come; Ctrl-C need not wait for the last one."""
    while (found := await asyncio.to_thread(next, findings, None)) is not None:
        yield found


__all__ = ["clean_up", "compact", "doctor"]
