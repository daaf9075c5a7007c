"""Commands that take sessions elsewhere and back: `export`, `import`, `backup`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from sessionactor import SessionError, SessionRegistry
from sessionactor.cli import _finding as finding
from sessionactor.cli._exits import Exit, code_of
from sessionactor.cli._options import SESSIONS, command
from sessionactor.cli._output import Output
from sessionactor.cli._place import Place
from sessionactor.cli._text import clean, counted
from sessionactor.interchange import (
    ExportedSession,
    Format,
    ImportedFile,
    OnProgress,
    Progress,
    export_session,
    import_session,
    import_sessions,
)

_FORMAT = click.option(
    "--format",
    "format_",
    type=click.Choice(["sessionactor", "events", "loop"]),
    default="sessionactor",
    help="sessionactor loses nothing; events and loop are those of other stores.",
)


@command("export")
@SESSIONS
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="All sessions.")
@_FORMAT
async def export(
    place: Place, sessions: tuple[str, ...], target: Path, everything: bool, format_: Format
) -> Exit:
    """Write SESSIONS to TARGET as JSON Lines.

    TARGET is a file, or a directory, in which each session has a file of its own. A glob means
    all sessions that it matches. Sessions may be in use. What was exported before is replaced if
    the session has changed since.
    """
    output = place.output
    if bool(sessions) == everything:
        raise click.UsageError("say which sessions, or --all, and where to")
    worst = Exit.DONE
    async with place.reading() as registry:
        files = await finding.several(registry, sessions, everything=everything)
        _is_directory(target, wanted=len(files) != 1 or everything)
        with output.progress("exporting") as told:
            for done, file in enumerate(files):
                told(done, len(files))
                try:
                    exported = await export_session(
                        registry, file.session_id, target, format=format_
                    )
                except (SessionError, OSError) as error:
                    output.failed(error)
                    worst = max(worst, code_of(error))
                    continue
                worst = max(worst, _tell_export(exported, output))
    return worst


def _tell_export(exported: ExportedSession, output: Output) -> Exit:
    if output.as_json:
        output.record(exported)
    else:
        what = counted(exported.messages, "message")
        where = clean(str(exported.path))
        output.line(f"{clean(exported.session_id)} → {where}  {what}, {exported.status}")
        for lost in exported.lost:
            output.note(f"{clean(exported.session_id)}: lost: {lost}")
        for problem in exported.problems:
            output.note(str(problem))
    return Exit.FAILED if exported.problems else Exit.DONE


@command("import", creates=True)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@_FORMAT
@click.option(
    "--agent",
    "agent_id",
    default="agent",
    metavar="ID",
    help="Who said what is in files that know no agents.",
)
@click.option("--skip-bad", is_flag=True, help="Of a damaged file, import what is whole.")
async def import_(
    place: Place, paths: tuple[Path, ...], format_: Format, agent_id: str, skip_bad: bool
) -> Exit:
    """Make sessions of files, or of all files of a directory.

    A session that is there already is never changed, and nothing is doubled. Of a damaged file
    nothing is imported, unless --skip-bad is given. What was interrupted goes on where it was.
    """
    output = place.output
    worst = Exit.DONE
    async with place.writing() as registry:
        with output.progress("importing") as told:
            for path in paths:

                def note(progress: Progress) -> None:
                    told(progress.done, progress.total)

                try:
                    files = await _imported(
                        registry, path, format_, agent_id, skip_bad=skip_bad, note=note
                    )
                except (SessionError, OSError) as error:
                    output.failed(error)
                    worst = max(worst, code_of(error))
                    continue
                for file in files:
                    worst = max(worst, _tell_import(file, output))
    return worst


async def _imported(
    registry: SessionRegistry,
    path: Path,
    format_: Format,
    agent_id: str,
    *,
    skip_bad: bool,
    note: OnProgress,
) -> Sequence[ImportedFile]:
    if _is_directory(path, wanted=False):
        report = await import_sessions(
            registry, path, format=format_, agent_id=agent_id, skip_bad=skip_bad, progress=note
        )
        return report.files
    file = await import_session(
        registry, path, format=format_, agent_id=agent_id, skip_bad=skip_bad, progress=note
    )
    return [file]


def _tell_import(file: ImportedFile, output: Output) -> Exit:
    if output.as_json:
        output.record(file)
    else:
        what = counted(file.messages, "message")
        whose = "?" if file.session_id is None else clean(file.session_id)
        output.line(f"{clean(str(file.path))} → {whose}  {what}, {file.status}")
        for problem in file.problems:
            output.note(str(problem))
        if file.problem_count > len(file.problems):
            output.note(f"and {counted(file.problem_count - len(file.problems), 'problem')} more")
    is_there = file.status in ("imported", "unchanged")
    return Exit.DONE if is_there and not file.problem_count else Exit.FAILED


@command("backup")
@SESSIONS
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="All sessions.")
async def backup(place: Place, sessions: tuple[str, ...], target: Path, everything: bool) -> Exit:
    """Copy SESSIONS to TARGET, each as of one moment.

    TARGET is a new file, or a directory, in which copies have the file names of their sessions.
    A glob means all sessions that it matches. Sessions may be in use, and nothing is ever
    overwritten.
    """
    output = place.output
    if bool(sessions) == everything:
        raise click.UsageError("say which sessions, or --all, and where to")
    worst = Exit.DONE
    async with place.reading() as registry:
        files = await finding.several(registry, sessions, everything=everything)
        is_directory = _is_directory(target, wanted=len(files) != 1 or everything)
        with output.progress("copying") as told:
            for done, file in enumerate(files):
                told(done, len(files))
                assert file.path is not None
                path = target / file.path.name if is_directory else target
                try:
                    await registry.session(file.session_id).backup(path)
                except SessionError as error:
                    output.failed(error)
                    worst = max(worst, code_of(error))
                    continue
                if output.as_json:
                    record = {"session_id": file.session_id, "name": file.name, "path": path}
                    output.record(record)
                else:
                    output.line(f"{clean(file.session_id)} → {clean(str(path))}")
    return worst


def _is_directory(target: Path, *, wanted: bool) -> bool:
    if wanted:
        target.mkdir(parents=True, exist_ok=True)
    return target.is_dir()


__all__ = ["backup", "export", "import_"]
