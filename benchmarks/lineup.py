"""Who takes part."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias

from benchmarks.candidates import Candidate, NaiveAiosqlite, Ours, RawSqlite
from benchmarks.peers import PEERS, AdkDatabase, Agno, LangGraph, OpenAISQLite, Peer
from benchmarks.workloads import data_directory, message_of

Candidates: TypeAlias = Sequence[type[Candidate]]

BASELINES: Candidates = (Ours, RawSqlite, NaiveAiosqlite)
SHORT: Candidates = (*BASELINES, OpenAISQLite)
READERS: Candidates = tuple(
    candidate
    for candidate in (*BASELINES, *PEERS)
    if candidate not in (LangGraph, AdkDatabase, Agno)
)
"""Those that read messages by number, except for the slowest to fill."""


def peers() -> Sequence[type[Peer]]:
    """Those whose packages are installed."""
    return [peer for peer in PEERS if peer.version() is not None]


def everyone() -> Candidates:
    """All candidates that can run."""
    return (*BASELINES, *peers())


def installed(candidates: Candidates) -> Candidates:
    """Those of them that can run."""
    return [candidate for candidate in candidates if candidate in everyone()]


async def warm_up() -> None:
    """Import what the candidates import, and compile what they compile."""
    for candidate in everyone():
        with data_directory() as directory, suppress(Exception):  # its figures will tell
            async with candidate(directory) as store, store.session("s") as conversation:
                await conversation.append(message_of(300))
