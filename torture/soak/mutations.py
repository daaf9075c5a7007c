"""Faults of the library that this campaign has to see."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from sessionactor import _files as files
from sessionactor import _schema as schema
from sessionactor._activation import Activation
from sessionactor._disk import DiskDirectory
from sessionactor._hub import Cursor, Log
from sessionactor._store import SqliteStore
from torture.campaign import Mutation


@contextmanager
def leak_connections() -> Iterator[None]:
    """A session that goes out of use keeps its file open."""

    async def close(self: SqliteStore) -> None:
        kept.append(self)
        self._connector.leave()

    kept: list[SqliteStore] = []
    with patch.object(SqliteStore, "_close", close):
        yield


@contextmanager
def remember_subscribers() -> Iterator[None]:
    """Who followed once is in a list for good."""

    def init(self: Cursor, log: Log) -> None:
        honest(self, log)
        kept.append(self)

    honest = Cursor.__init__
    kept: list[Cursor] = []
    with patch.object(Cursor, "__init__", init):
        yield


@contextmanager
def remember_tasks() -> Iterator[None]:
    """The task of each activation is in a list for good."""

    async def run(self: Activation) -> None:
        kept.append(asyncio.current_task())
        await honest(self)

    honest = Activation.run
    kept: list[asyncio.Task[None] | None] = []
    with patch.object(Activation, "run", run):
        yield


@contextmanager
def let_tasks_wait() -> Iterator[None]:
    """Every fourth activation that has ended waits for what never comes."""

    async def run(self: Activation) -> None:
        await honest(self)
        if next(ended) % 4 == 0:
            await asyncio.Event().wait()

    honest = Activation.run
    ended = itertools.count(1)
    with patch.object(Activation, "run", run):
        yield


@contextmanager
def leave_directories_open() -> Iterator[None]:
    """What a directory was synced with stays open."""

    def sync(directory: Path) -> None:
        os.fsync(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))

    with patch.object(files, "sync_directory", sync):
        yield


@contextmanager
def keep_locks() -> Iterator[None]:
    """A session out of use is still owned."""
    with patch.object(DiskDirectory, "release", lambda *_: None):
        yield


@contextmanager
def never_empty_logs() -> Iterator[None]:
    """A session's log is moved into its file when it goes out of use, and no sooner."""
    with patch.object(schema, "WAL_PAGES", 0), patch.object(schema, "SHORT_WAL_PAGES", 0):
        yield


MUTATIONS: dict[str, Mutation] = {
    "leak-connections": leak_connections,
    "remember-subscribers": remember_subscribers,
    "remember-tasks": remember_tasks,
    "let-tasks-wait": let_tasks_wait,
    "leave-directories-open": leave_directories_open,
    "keep-locks": keep_locks,
    "never-empty-logs": never_empty_logs,
}
