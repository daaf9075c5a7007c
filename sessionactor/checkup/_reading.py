"""A session's file, opened to look only, beside whoever owns it, and left as it was found."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sessionactor import _names as names

_TIMEOUT_S: Final = 5.0


class Meanwhile(Exception):  # noqa: N818  no error: it is looked at again
    """Somebody opened the file while it was read as one that nobody has open."""


@contextlib.contextmanager
def looking(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection in a transaction, so that all it reads is of one moment.

    A file without a log is read as one that does not change: otherwise SQLite would leave an
    empty log beside it.

    Raises:
        Meanwhile: what was read, or an error in reading it, means nothing.
        sqlite3.Error: it cannot be read.
    """
    before = _stamp(path)
    still = before[0] is None
    mode = "immutable=1" if still else "mode=ro"
    try:
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(path))}?{mode}",
            uri=True,
            timeout=_TIMEOUT_S,
            isolation_level=None,
        )
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()
    except (sqlite3.Error, OSError):
        if still and _stamp(path) != before:
            raise Meanwhile from None
        raise
    if still and _stamp(path) != before:
        raise Meanwhile


def _stamp(path: Path) -> tuple[int | None, tuple[int, int] | None]:
    """Whether there is a log, and what tells that the database was written."""
    wal = _stat(f"{path}{names.SIDE_FILES[0]}")
    database = _stat(path)
    return (
        None if wal is None else wal.st_ino,
        None if database is None else (database.st_mtime_ns, database.st_size),
    )


def _stat(path: str | Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


__all__ = ["Meanwhile", "looking"]
