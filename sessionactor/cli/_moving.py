"""Commands that take sessions elsewhere and back: `export`, `import`, `backup`."""

from __future__ import annotations

from pathlib import Path

import click

from sessionactor import SessionError
from sessionactor.cli import _finding as finding
from sessionactor.cli._exits import Exit, code_of
from sessionactor.cli._options import SESSIONS, command
from sessionactor.cli._place import Place
from sessionactor.cli._text import clean


@command("export")
async def export(place: Place) -> None:
    """To come."""


@command("import")
async def import_(place: Place) -> None:
    """To come."""


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
