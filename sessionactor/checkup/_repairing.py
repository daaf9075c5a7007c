"""What is safe to do about a finding, by whoever owns the session meanwhile."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sessionactor import _files as files
from sessionactor import _names as names
from sessionactor._errors import StorageError
from sessionactor._loading import Loaded
from sessionactor._opening import Connector, Opening, read_identity
from sessionactor._ownership import Ownership
from sessionactor._sql import SAVE_STATE
from sessionactor._syncing import sync_directory
from sessionactor.checkup._content import COUNT, INTEGRITY
from sessionactor.checkup._finding import Finding
from sessionactor.checkup._listing import is_orphan

ASIDE: Final = ".orphan"
"""What the name of a log that was put aside ends in."""


def repair(finding: Finding) -> bool:
    """Do what a finding's `remedy` says; whether that was possible. Blocks.

    No row is ever removed. The session is owned meanwhile.

    Raises:
        SessionOwnedError: another process or registry owns the session.
        StorageError: the disk or SQLite failed.
    """
    if finding.remedy is None or finding.problem == "catalog":
        return False
    try:
        with _owning(finding) as ownership:
            match finding.problem:
                case "draft":
                    _remove_draft(finding.path, ownership)
                    return not os.path.lexists(finding.path)
                case "log":
                    return _put_aside(finding.path)
                case "identity" | "older" | "unreadable":
                    with _opened(finding):
                        return True  # opening it sees to that
                case "count":
                    with _opened(finding) as (connection, loaded):
                        _recount(connection, loaded)
                        return True
                case "index":
                    with _opened(finding) as (connection, _):
                        connection.execute("REINDEX")
                        return connection.execute(INTEGRITY).fetchall() == [("ok",)]
    except (OSError, sqlite3.Error) as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"{finding.path} could not be repaired: {error}",
            path=finding.path,
            session_id=finding.session_id,
        ) from error
    return False


@contextlib.contextmanager
def _owning(finding: Finding) -> Iterator[Ownership]:
    ownership = Ownership(finding.path.parent)
    try:
        if finding.session_id is not None:
            ownership.claim(finding.session_id)
        yield ownership
    finally:
        ownership.close()


@contextlib.contextmanager
def _opened(finding: Finding) -> Iterator[tuple[sqlite3.Connection, Loaded]]:
    """The session as its owner opens it, which migrates it and makes it be what its file says."""
    path = finding.path
    assert finding.session_id is not None
    name = read_identity(path).name if names.is_cut(path.name) else names.parse_name(path.name)
    connector = Connector(Opening(finding.session_id, name, path, create=False, durability="full"))
    connection = connector()
    try:
        yield connection, connector.loaded
    finally:
        connection.close()
        connector.leave()


def _recount(connection: sqlite3.Connection, loaded: Loaded) -> None:
    state = loaded.state
    connection.execute("BEGIN IMMEDIATE")
    try:
        (counted,) = connection.execute(COUNT).fetchone()
        removed = state.high_water - counted
        values = (state.high_water, state.revision + 1, state.last_at, removed)
        connection.execute(SAVE_STATE, values)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _remove_draft(path: Path, ownership: Ownership) -> None:
    if not names.is_part_file(path.name):
        ownership.remove_drafts()
    elif files.is_left_over(path):
        with contextlib.suppress(BlockingIOError), files.making(path):
            pass  # afterwards nothing has that name


def _put_aside(path: Path) -> bool:
    """A log may hold messages, should its database come back: it is never removed."""
    if not is_orphan(path):
        return False
    if path.name.endswith(names.SIDE_FILES[1]) or not path.stat().st_size:
        path.unlink()
    else:
        path.rename(f"{path}{ASIDE}")
    sync_directory(path.parent)
    return True


__all__ = ["ASIDE", "repair"]
