"""Commands that look over all sessions: `ls`, `search`, `stats`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final, Literal

import click
from rich.text import Text

from sessionactor import SessionInfo, SessionRegistry
from sessionactor.checkup import has_catalog
from sessionactor.cli import _finding as finding
from sessionactor.cli._options import command, pair
from sessionactor.cli._options import moment as ago
from sessionactor.cli._place import Place
from sessionactor.cli._text import clean, counted, moment, size

_PAGE: Final = 100_000
"""Of a walk over all: where there is no catalog, each page is a look at every file."""
_LARGEST: Final = 5
_STATES: Final = {
    "running": "green",
    "error": "red",
    "interrupted": "yellow",
    "importing": "yellow",
}


@command("ls")
@click.argument("name", required=False)
@click.option(
    "--state",
    type=click.Choice(["idle", "running", "error", "interrupted", "importing"]),
    metavar="STATE",
    help="Only those: idle, running, error, interrupted.",
)
@click.option("--agent", "agent_alias", metavar="ALIAS", help="Only those of this agent alias.")
@click.option("--channel", "channel_id", metavar="ID", help="Only those of this channel.")
@click.option("--room", "room_id", metavar="ID", help="Only those of this room.")
@click.option("--sender", "sender_id", metavar="ID", help="Only those of this sender.")
@click.option(
    "--meta",
    "metadata",
    type=pair,
    multiple=True,
    metavar="KEY=VALUE",
    help="Only those with this in their metadata; may be given again.",
)
@click.option("--since", type=ago, metavar="TIME", help="Only those changed since: 2h, 2026-11-20.")
@click.option("--until", type=ago, metavar="TIME", help="Only those not changed since.")
@click.option(
    "--order",
    type=click.Choice(["updated", "created"]),
    default="updated",
    help="updated: what changed last first; created: the oldest first.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, metavar="N", help="So many; 50 unless given."
)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--cursor", metavar="CURSOR", help="Go on where a listing ended.")
async def ls(
    place: Place,
    name: str | None,
    metadata: tuple[tuple[str, str], ...],
    since: datetime | None,
    until: datetime | None,
    limit: int,
    everything: bool,
    cursor: str | None,
    **filters: Any,
) -> None:
    """List sessions, the newest first.

    NAME is a glob on their names.
    """
    output = place.output
    filters.update(
        name=name,
        metadata=dict(metadata) or None,
        updated_after=since,
        updated_before=until,
        limit=_PAGE if everything else limit,
    )
    async with place.reading() as registry:
        more: str | None = cursor
        rows: list[list[Text | str]] = []
        while True:
            found = await registry.sessions(cursor=more, **filters)
            more = found.cursor
            if output.as_json:
                for session in found.sessions:
                    output.record(session)
            else:
                rows += map(_row, found.sessions)
            if not everything or more is None:
                break
    if not output.as_json:
        output.table(_COLUMNS, rows)
    if more is not None:
        output.note(f"more: --cursor {more}, or --all", cursor=more)
    _tell_of_missing_catalog(place)


_COLUMNS: Final = ("ID", "NAME", ">MESSAGES", "STATE", "LAST ACTIVITY", "AGENT", "CHANNEL")


def _row(session: SessionInfo) -> list[Text | str]:
    return [
        clean(session.session_id),
        Text(clean(session.name), style="bold"),
        str(session.message_count),
        Text(session.state, style=_STATES.get(session.state, "dim")),
        moment(session.last_activity),
        clean(session.agent_alias or ""),
        clean(session.channel_id or ""),
    ]


@command("search")
@click.argument("query", nargs=-1, required=True)
@click.option("--session", metavar="SESSION", help="Only in this session.")
@click.option("--agent", "agent_id", metavar="ID", help="Only this agent's messages.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, metavar="N", help="So many; 20 unless given."
)
@click.option(
    "--order",
    type=click.Choice(["newest", "rank"]),
    default="newest",
    help="The newest first, or the best.",
)
@click.option("--sessions", "by_session", is_flag=True, help="The best hit of each session.")
async def search(
    place: Place,
    query: tuple[str, ...],
    session: str | None,
    agent_id: str | None,
    limit: int,
    order: Literal["newest", "rank"],
    by_session: bool,
) -> None:
    """Find the messages that have all words of QUERY.

    A "quoted phrase" is found as it stands, foo* finds what begins so.
    """
    output = place.output
    async with place.reading() as registry:
        session_id = None
        if session is not None:
            session_id = (await finding.one(registry, session)).session_id
        hits = await registry.search(
            " ".join(query),
            limit=limit,
            session_id=session_id,
            agent_id=agent_id,
            order=order,
            by="session" if by_session else "message",
        )
    for hit in hits:
        if output.as_json:
            output.record(hit._asdict())
            continue
        line = Text(clean(hit.session_id), style="bold")
        line.append(f"  {clean(hit.name)}  ", style="not bold")
        line.append(str(hit.db_id), style="not bold cyan")
        line.append(f"  {clean(hit.agent_id)}  {moment(hit.inserted_at)}", style="not bold dim")
        output.line(line)
        output.line(Text("    " + clean(" ".join(hit.snippet.split()))))
    if not hits and not output.as_json:
        output.note("nothing found")
    _tell_of_missing_catalog(place)


@command("stats")
async def stats(place: Place) -> None:
    """Print figures: sessions, messages, bytes, the largest."""
    output = place.output
    async with place.reading() as registry:
        sessions = [session async for session in _all(registry)]
    sizes = {session.session_id: _bytes(session) for session in sessions}
    states = Counter(session.state for session in sessions)
    largest = sorted(sessions, key=lambda session: -sizes[session.session_id])[:_LARGEST]
    on_disk = sum(item.stat().st_size for item in place.directory.iterdir() if item.is_file())
    changed = [session.last_activity for session in sessions]
    messages = sum(session.message_count for session in sessions)
    if output.as_json:
        output.record(
            {
                "directory": place.directory,
                "sessions": len(sessions),
                "messages": messages,
                "states": dict(states),
                "session_bytes": sum(sizes.values()),
                "directory_bytes": on_disk,
                "oldest_activity": min(changed, default=None),
                "newest_activity": max(changed, default=None),
                "largest": [
                    {
                        "session_id": session.session_id,
                        "name": session.name,
                        "bytes": sizes[session.session_id],
                        "messages": session.message_count,
                    }
                    for session in largest
                ],
            }
        )
        return
    of_states = ", ".join(f"{number:,} {state}" for state, number in sorted(states.items()))
    output.line(counted(len(sessions), "session") + (f": {of_states}" if states else ""))
    output.line(counted(messages, "message"))
    output.line(f"{size(sum(sizes.values()))} in sessions, {size(on_disk)} in the directory")
    if changed:
        output.line(f"changed from {moment(min(changed))} to {moment(max(changed))}")
        output.line("")
        output.table(
            ("ID", "NAME", ">SIZE", ">MESSAGES"),
            [
                [
                    clean(session.session_id),
                    Text(clean(session.name), style="bold"),
                    size(sizes[session.session_id]),
                    str(session.message_count),
                ]
                for session in largest
            ],
        )


def _tell_of_missing_catalog(place: Place) -> None:
    if not place.output.as_json and not has_catalog(place.directory):
        place.output.note("there is no catalog here, so all files were read: doctor --fix makes it")


async def _all(registry: SessionRegistry) -> AsyncIterator[SessionInfo]:
    cursor = None
    while True:
        found = await registry.sessions(order="created", limit=_PAGE, cursor=cursor)
        for session in found.sessions:
            yield session
        cursor = found.cursor
        if cursor is None:
            return


def _bytes(session: SessionInfo) -> int:
    """Of the database; its log is a megabyte at most."""
    try:
        return 0 if session.path is None else session.path.stat().st_size
    except OSError:
        return 0  # deleted meanwhile


__all__ = ["ls", "search", "stats"]
