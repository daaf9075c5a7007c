"""Commands that look into one session: `show`, `tail`, `info`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import click
from rich.text import Text

from sessionactor import Page, Row, Session
from sessionactor.cli import _finding as finding
from sessionactor.cli import _json as json
from sessionactor.cli import _messages as messages
from sessionactor.cli._exits import Exit, FailedError
from sessionactor.cli._following import follow
from sessionactor.cli._options import SESSION, command
from sessionactor.cli._place import Place
from sessionactor.cli._text import clean, moment, size

_AGENT = click.option("--agent", "agent_id", metavar="ID", help="Only this agent's messages.")
_FULL = click.option("--full", is_flag=True, help="Long messages whole.")
_SKIP = click.option("--skip-bad", is_flag=True, help="Pass over rows that cannot be decoded.")


@command("show")
@SESSION
@_AGENT
@click.option(
    "--chapters",
    "count",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="So many of the latest chapters; 1 unless given.",
)
@click.option(
    "--before",
    type=click.IntRange(min=1),
    metavar="ID",
    help="Chapters before this checkpoint.",
)
@click.option("--all", "everything", is_flag=True, help="All messages, in the order of insertion.")
@click.option(
    "--last", type=click.IntRange(min=1), metavar="N", help="The last messages, of any chapter."
)
@_FULL
@_SKIP
@click.option("--no-pager", is_flag=True, help="Straight to the terminal.")
async def show(
    place: Place,
    session: str,
    agent_id: str | None,
    count: int,
    before: int | None,
    everything: bool,
    last: int | None,
    full: bool,
    skip_bad: bool,
    no_pager: bool,
) -> None:
    """Print a session's messages, the newest last.

    By itself its latest chapter. A chapter is what lies between two checkpoints (summaries).
    """
    if sum((everything, last is not None, before is not None)) > 1 or (
        count > 1 and (everything or last is not None)
    ):
        raise click.UsageError("--all, --last, and --before or --chapters exclude each other")
    output = place.output
    on_corrupt: Literal["raise", "skip"] = "skip" if skip_bad else "raise"
    async with place.reading() as registry:
        file = await finding.one(registry, session)
        handle = registry.session(file.session_id)
        rows: AsyncIterator[Row]
        earlier = None
        if everything:
            rows = handle.stream(agent_id=agent_id, on_corrupt=on_corrupt)
        elif last is not None:
            rows = handle.stream(agent_id=agent_id, limit=last, newest=True, on_corrupt=on_corrupt)
        else:
            pages = await _chapters(handle, agent_id, count, before, on_corrupt)
            earlier = pages[-1].checkpoint_id
            rows = _each([row for page in reversed(pages) for row in page.rows])
        if output.as_json:
            async for row in rows:
                output.record(row)
            if earlier is not None:
                output.note("", before=earlier)
            return
        lines = _lines(rows, earlier, full=full)
        if no_pager:
            async for line in lines:
                output.line(line)
        else:
            await output.paged(lines)


async def _chapters(
    session: Session,
    agent_id: str | None,
    count: int,
    before: int | None,
    on_corrupt: Literal["raise", "skip"],
) -> list[Page]:
    """So many chapters, newest first."""
    if before is None:
        page = await session.messages_from_latest_checkpoint(
            agent_id=agent_id, on_corrupt=on_corrupt
        )
    else:
        page = await session.messages_before_checkpoint(
            before, agent_id=agent_id, on_corrupt=on_corrupt
        )
    pages = [page]
    while len(pages) < count and pages[-1].checkpoint_id is not None:
        page = await session.messages_before_checkpoint(
            pages[-1].checkpoint_id, agent_id=agent_id, on_corrupt=on_corrupt
        )
        pages.append(page)
    return pages


async def _each(rows: list[Row]) -> AsyncIterator[Row]:
    for row in rows:
        yield row


async def _lines(
    rows: AsyncIterator[Row], earlier: int | None, *, full: bool
) -> AsyncIterator[Text | str]:
    if earlier is not None:
        yield Text(f"earlier messages: --before {earlier}, or --all", style="dim")
        yield ""
    row = None
    async for row in rows:
        if row.checkpoint:
            yield Text("─" * 8 + f" chapter from {row.db_id} " + "─" * 8, style="bold blue")
        yield messages.header(row)
        yield messages.body(row, whole=full)
        yield ""
    if row is None:
        yield Text("no messages", style="dim")


@command("tail")
@SESSION
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with what comes, live.")
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(min=0),
    default=10,
    metavar="N",
    help="So many messages at first; 10 unless given.",
)
@_AGENT
@_FULL
@_SKIP
async def tail(
    place: Place,
    session: str,
    following: bool,
    count: int,
    agent_id: str | None,
    full: bool,
    skip_bad: bool,
) -> None:
    """Print a session's last messages; -f: and what follows.

    With -f it goes on with all that happens to the session, until Ctrl-C.
    """
    async with place.reading() as registry:
        file = await finding.one(registry, session)
        handle = registry.session(file.session_id)
        await follow(
            handle,
            place.output,
            count=count,
            agent_id=agent_id,
            live=following,
            full=full,
            on_corrupt="skip" if skip_bad else "raise",
        )


@command("info")
@SESSION
async def info(place: Place, session: str) -> Exit | None:
    """Print what is known of a session, and its metadata."""
    async with place.reading() as registry:
        file = await finding.one(registry, session)
        handle = registry.session(file.session_id)
        found = await handle.info()
        metadata = await handle.get_metadata()
    if found.path is None:
        raise FailedError("sessions in memory have no files")
    size_bytes = found.path.stat().st_size
    if place.output.as_json:
        place.output.record({**json.plain(found), "size": size_bytes, "metadata": metadata})
        return None
    pairs = [
        ("id", found.session_id),
        ("name", found.name),
        ("file", str(found.path)),
        ("size", size(size_bytes)),
        ("messages", f"{found.message_count:,}"),
        ("created", moment(found.created_at)),
        ("last activity", moment(found.last_activity)),
        ("state", found.state),
        ("turn", found.turn_id),
        ("turn since", moment(found.turn_started_at)),
        ("agent", found.agent_alias),
        ("channel", found.channel_id),
        ("room", found.room_id),
        ("sender", found.sender_id),
        ("parent", found.parent),
        ("revision", f"{found.revision:,}"),
    ]
    for label, value in pairs:
        if value:
            place.output.line(_pair(label, clean(value)))
    if metadata:
        place.output.line(Text("metadata", style="bold"))
        for key, data in sorted(metadata.items()):
            place.output.line(f"  {clean(key)} = {'-' if data is None else clean(data)}")
    return None


def _pair(label: str, value: str) -> Text:
    line = Text(f"{label:<14}", style="bold")
    return line.append(value, style="not bold")


__all__ = ["info", "show", "tail"]
