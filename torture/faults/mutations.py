"""Faults of the library that this campaign has to see."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from sessionactor import _codec as codec
from sessionactor import _files as files
from sessionactor import _sql as sql
from sessionactor._changes import State
from sessionactor._deciding import Decision, decide
from sessionactor._opening import Connector
from sessionactor._requests import Write
from sessionactor._store import SqliteStore
from torture.campaign import Mutation


@contextmanager
def swallow_errors_of_a_commit() -> Iterator[None]:
    """A disk that fails is no reason not to answer."""

    def commit(
        session_id: str,
        group: Sequence[Write],
        state: State,
        now: int,
        token: str,
        connection: sql.Connection,
    ) -> Decision:
        try:
            return honest(session_id, group, state, now, token, connection)
        except sqlite3.Error:
            return decide(session_id, group, state, now, sql._Content(connection.cursor()))

    honest = sql.commit
    with patch.object(sql, "commit", commit):
        yield


@contextmanager
def fail_with_the_system_s_errors() -> Iterator[None]:
    """What SQLite says is said as it is."""

    async def call(self: SqliteStore, procedure: Callable[[sqlite3.Connection], Any]) -> Any:
        return await self._database.execute_fetchall(sql.CALL, (procedure,))

    with patch.object(SqliteStore, "_call", call):
        yield


@contextmanager
def believe_that_a_file_stays() -> Iterator[None]:
    """Nobody looks whether the file is still there."""
    with patch.object(Connector, "check_place", lambda _: None):
        yield


@contextmanager
def leave_the_log_of_a_moved_file() -> Iterator[None]:
    """What is closed leaves its log to whatever file comes to its place."""
    with patch.object(Connector, "settle", lambda *_: None):
        yield


@contextmanager
def hold_cursors_after_an_error() -> Iterator[None]:
    """A connection that failed is closed whenever its last cursor is gone."""
    kept: list[BaseException] = []
    with patch.object(sql, "let_go", kept.append):
        yield


@contextmanager
def keep_large_buffers() -> Iterator[None]:
    """The memory that a huge message took is not given back."""
    with patch.object(codec._Packers, "renew", lambda _: None):
        yield


@contextmanager
def trust_the_clock() -> Iterator[None]:
    """A message's time is what the clock says, which may be earlier than that of the one before."""
    draft_now = sql.commit

    def commit(
        session_id: str,
        group: Sequence[Write],
        state: State,
        now: int,
        token: str,
        connection: sql.Connection,
    ) -> Decision:
        trusting = state._replace(last_at=min(state.last_at, now))
        return draft_now(session_id, group, trusting, now, token, connection)

    with patch.object(sql, "commit", commit):
        yield


@contextmanager
def leave_half_of_a_file() -> Iterator[None]:
    """What could not be made whole is put in place all the same."""
    create = files.create

    def careless(path: Any, draft: Any, build: Callable[[Any], None]) -> None:
        def half(at: Any) -> None:
            with contextlib.suppress(OSError, sqlite3.Error):
                build(at)

        create(path, draft, half)

    with patch.object(files, "create", careless):
        yield


MUTATIONS: dict[str, Mutation] = {
    "swallow-errors-of-a-commit": swallow_errors_of_a_commit,
    "fail-with-the-system-s-errors": fail_with_the_system_s_errors,
    "believe-that-a-file-stays": believe_that_a_file_stays,
    "leave-the-log-of-a-moved-file": leave_the_log_of_a_moved_file,
    "hold-cursors-after-an-error": hold_cursors_after_an_error,
    "keep-large-buffers": keep_large_buffers,
    "trust-the-clock": trust_the_clock,
    "leave-half-of-a-file": leave_half_of_a_file,
}

AIMED: Final[dict[str, tuple[str, ...]]] = {
    "swallow-errors-of-a-commit": ("no room in session", "a full disk"),
    "fail-with-the-system-s-errors": ("a file replaced by empty", "no room in session"),
    "believe-that-a-file-stays": ("a file replaced by copy", "a file that is removed"),
    "leave-the-log-of-a-moved-file": ("a file replaced by copy", "a file that is removed"),
    "hold-cursors-after-an-error": ("no room in catalog", "no room in session"),
    "keep-large-buffers": ("little memory",),
    "trust-the-clock": ("a clock a day fast", "a clock a day slow"),
    "leave-half-of-a-file": ("few descriptors", "no room in directory"),
}
"""The kinds of faults that each is to be seen by: the only ones then, so that it is seen soon."""
