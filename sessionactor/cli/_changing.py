"""Commands that change sessions: `rename`, `fork`, `rm`."""

from __future__ import annotations

import click

from sessionactor import SessionError, SessionNotFoundError
from sessionactor.cli import _finding as finding
from sessionactor.cli._exits import Exit, code_of
from sessionactor.cli._options import SESSION, SESSIONS, YES, command
from sessionactor.cli._place import Place
from sessionactor.cli._text import clean, counted


@command("rename")
@SESSION
@click.argument("name", required=False)
async def rename(place: Place, session: str, name: str | None) -> None:
    """Give a session another NAME, or a generated one."""
    async with place.writing() as registry:
        file = await finding.one(registry, session)
        handle = registry.session(file.session_id)
        await handle.rename(name)
        new, path = handle.name, handle.path
    if place.output.as_json:
        place.output.record({"session_id": file.session_id, "name": new, "path": path})
    else:
        place.output.line(f"{clean(file.session_id)}: {clean(file.name)} → {clean(new)}")


@command("fork")
@SESSION
@click.option("--id", "session_id", metavar="ID", help="Of the new session; else a random one.")
@click.option("--name", metavar="NAME", help="Of the new session; else a generated one.")
@click.option(
    "--before",
    type=click.IntRange(min=1),
    metavar="ID",
    help="Only the history up to this message, without it.",
)
@click.option("--whole-turns", is_flag=True, help="Move --before down until it cuts no turn.")
async def fork(
    place: Place,
    session: str,
    session_id: str | None,
    name: str | None,
    before: int | None,
    whole_turns: bool,
) -> None:
    """Make a new session with the history of another one.

    The other one stays as it is.
    """
    async with place.writing() as registry:
        file = await finding.one(registry, session)
        new = await registry.session(file.session_id).fork(
            session_id, name=name, before=before, whole_turns=whole_turns
        )
        info = await new.info()
    if place.output.as_json:
        place.output.record(info)
    else:
        place.output.line(
            f"{clean(info.session_id)}  {clean(info.name)}"
            f"  {counted(info.message_count, 'message')}"
        )


@command("rm")
@SESSIONS
@YES
async def rm(place: Place, sessions: tuple[str, ...], yes: bool) -> Exit | None:
    """Delete SESSIONS for good.

    A glob means all sessions that it matches.
    """
    output = place.output
    if not sessions:
        raise click.UsageError("say which sessions")
    async with place.writing() as registry:
        files = await finding.several(registry, sessions)
        if not yes:
            names = "".join(f"\n  {file.session_id}  {file.name}" for file in files)
            if not output.asks:
                raise click.UsageError(f"--yes is needed where nobody can be asked; these:{names}")
            if not output.confirmed(f"delete for good:{names}\n{counted(len(files), 'session')}?"):
                return Exit.FAILED
        worst = Exit.DONE
        for file in files:
            try:
                if not await registry.delete(file.session_id):
                    raise SessionNotFoundError(
                        f"session {file.session_id!r} was deleted by somebody else",
                        session_id=file.session_id,
                    )
            except SessionError as error:
                output.failed(error)
                worst = max(worst, code_of(error))
                continue
            if output.as_json:
                output.record({"session_id": file.session_id, "name": file.name, "deleted": True})
            else:
                output.line(f"deleted {clean(file.session_id)}  {clean(file.name)}")
        return worst


__all__ = ["fork", "rename", "rm"]
