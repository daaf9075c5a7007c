"""Faults of the library that this campaign has to see."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from sessionactor import _files as files
from sessionactor import _loading as loading
from sessionactor import _names as names
from sessionactor import _sql as sql
from sessionactor._changes import State
from sessionactor._deciding import Decision, decide
from sessionactor._inserting import KEYED
from sessionactor._ownership import Ownership
from sessionactor._requests import Write
from torture.campaign import Mutation


@contextmanager
def answer_before_the_commit() -> Iterator[None]:
    """Every third group commits those before it as well."""

    def commit(
        session_id: str,
        group: Sequence[Write],
        state: State,
        now: int,
        token: str,
        connection: sql.Connection,
    ) -> Decision:
        cursor = connection.cursor()
        decision = decide(session_id, group, state, now, sql._Content(cursor))
        if decision.steps:
            if not connection.in_transaction:
                cursor.execute("BEGIN IMMEDIATE")
            sql._apply(decision, token, cursor)
            if decision.state.revision % 3 == 0:
                cursor.execute("COMMIT")
        return decision

    with patch.object(sql, "commit", commit):
        yield


@contextmanager
def forget_the_high_water_mark() -> Iterator[None]:
    """What a session opened anew knows of ids is its newest row."""
    load = loading.load

    def forgetful(connection: sqlite3.Connection) -> loading.Loaded:
        info, state = load(connection)
        return loading.Loaded(info, state._replace(high_water=state.head))

    with patch.object(loading, "load", forgetful):
        yield


@contextmanager
def store_no_key() -> Iterator[None]:
    """Every third key is known only as long as it is asked about at once."""
    insert = "INSERT INTO keys (key, message_id, digest) SELECT ?1, ?2, ?3 WHERE ?2 % 3"
    view, trigger = KEYED
    forgetful = trigger.replace("NEW.digest IS NOT NULL", "NEW.digest IS NOT NULL AND NEW.id % 3")
    assert forgetful != trigger
    with patch.object(sql, "INSERT_KEY", insert), patch.object(sql, "KEYED", (view, forgetful)):
        yield


@contextmanager
def take_no_lock() -> Iterator[None]:
    """Who asks for a session gets it."""
    with patch.object(Ownership, "claim", lambda *_: None):
        yield


@contextmanager
def commit_half_a_batch() -> Iterator[None]:
    """Each step of a group is a transaction."""
    apply = sql._apply

    def piecemeal(decision: Decision, token: str, cursor: sqlite3.Cursor) -> None:
        for step in decision.steps:
            apply(decision._replace(steps=[step]), token, cursor)
            cursor.execute("COMMIT")
            cursor.execute("BEGIN IMMEDIATE")

    with patch.object(sql, "_apply", piecemeal):
        yield


@contextmanager
def leave_turns_running() -> Iterator[None]:
    """A session that nobody runs any more is not marked so."""
    with patch.object(loading, "interrupt", lambda *_: None):
        yield


@contextmanager
def make_files_in_place() -> Iterator[None]:
    """A new session takes its name before it is whole."""

    def create(path: Path, draft: Path, build: Callable[[Path], None]) -> None:
        if os.path.lexists(path):
            raise FileExistsError(path)
        path.touch()
        build(draft)
        os.replace(draft, path)

    with patch.object(files, "create", create):
        yield


@contextmanager
def lose_track_of_copies() -> Iterator[None]:
    """A backup is made under a name that nobody knows."""

    def part_file_name(*_: Any) -> str:
        return f".{secrets.token_hex(16)}.part"

    with patch.object(names, "part_file_name", part_file_name):
        yield


AIMED: Final[dict[str, tuple[str, ...]]] = {
    "commit-half-a-batch": ("sql INSERT INTO metadata",),
    "make-files-in-place": ("replace before", "fsync before", "fsync after"),
    "lose-track-of-copies": ("sql INSERT INTO main.", "sql UPDATE main.", "link before"),
}
"""The steps at which a process dies of a fault that shows only there."""

MUTATIONS: dict[str, Mutation] = {
    "answer-before-the-commit": answer_before_the_commit,
    "forget-the-high-water-mark": forget_the_high_water_mark,
    "store-no-key": store_no_key,
    "take-no-lock": take_no_lock,
    "commit-half-a-batch": commit_half_a_batch,
    "leave-turns-running": leave_turns_running,
    "make-files-in-place": make_files_in_place,
    "lose-track-of-copies": lose_track_of_copies,
}
