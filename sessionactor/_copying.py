"""Copies of a session, made while it goes on: what a fork begins with, and a backup.

All of it blocks. A copy reads through a connection of its own. That may write, but does not:
the last one of a file to close tidies its log up, and one for reading only would leave it behind.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from sessionactor import _files as files
from sessionactor import _names as names
from sessionactor import _presence as presence
from sessionactor import _schema as schema
from sessionactor._sql import Connection
from sessionactor._takeover import Origin, Takeover, vanished

Stopped: TypeAlias = Callable[[], bool]
"""Whether nobody wants the copy any more."""
Look: TypeAlias = Callable[[Path, str, Callable[[str], None]], None]
"""Has a session's file seen; `looking.look` is one."""

_SYNC_BYTES: Final = 16 << 20
"""By which a copy grows before it is synced: all at once it would hold up others' commits."""


def fork_image(image: bytes, origin: Origin, now: int) -> bytes:
    """The image of a new session with the history of another one, all in memory.

    Raises:
        SessionBusyError: the origin is being imported.
    """
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.deserialize(image)
        _attach(origin, connection)
        Takeover(origin, connection, lambda: None).fork(now)
        return connection.serialize()


def fork_file(image: bytes, origin: Origin, now: int, stopped: Stopped, draft: Path) -> None:
    """Make a new session's file, of its image and with the history of another one, and sync it.

    Raises:
        SessionNotFoundError: the origin is not at its path (any more).
        SessionBusyError: it is being imported.
    """
    with _drafted(image, origin, stopped, draft) as copy:
        copy.fork(now)


def back_up(origin: Origin, target: Path, stopped: Stopped, look: Look | None = None) -> None:
    """Put a copy of a session in place, as one file, or nothing.

    `look`, if given, calls back with the URI to read the origin by, until what was read holds.

    Raises:
        SessionNotFoundError: it is not at its path (any more).
        FileExistsError: the target is something already; it is left as it is.
        BlockingIOError: another copy is put there now.
    """
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the directory {target.parent} does not exist; make it first")

    def build(draft: Path) -> None:
        if look is None or origin.path is None:
            _write_backup(origin, stopped, draft)
        else:
            look(
                origin.path,
                origin.session_id,
                lambda uri: _write_backup(origin._replace(uri=uri), stopped, draft),
            )

    draft = target.with_name(names.part_file_name(target.name))
    files.check_path(draft, origin.session_id)
    with files.making(draft):
        files.create(target, draft, build)


def _write_backup(origin: Origin, stopped: Stopped, draft: Path) -> None:
    image = schema.image(origin.session_id, "", origin.created_at)
    with _drafted(image, origin, stopped, draft) as copy:
        copy.back_up()


@contextlib.contextmanager
def _drafted(image: bytes, origin: Origin, stopped: Stopped, draft: Path) -> Iterator[Takeover]:
    """A copy that is made in a file, and synced."""
    with open(draft, "wb") as file:
        file.write(image)
        file.flush()
        synced = 0

        def pause() -> None:
            nonlocal synced
            if stopped():
                raise InterruptedError("nobody waits for this copy any more")
            size = os.fstat(file.fileno()).st_size
            if size - synced > _SYNC_BYTES:
                os.fsync(file.fileno())
                synced = size

        with contextlib.ExitStack() as stack:
            with presence.settling():
                key = None
                if origin.path is not None:
                    # Closing any descriptor of it would drop SQLite's locks.
                    kind, key = presence.enter(origin.path)
                    if kind is not presence.Kind.SESSION:
                        raise vanished(origin)
                    stack.callback(presence.leave, key)
                connection = stack.enter_context(contextlib.closing(_connect(draft)))
                connection.key = key
                # What fails is thrown away: nothing is ever rolled back.
                connection.execute("PRAGMA main.journal_mode = OFF")
                connection.execute("PRAGMA main.synchronous = OFF")
                _attach(origin, connection)
            yield Takeover(origin, connection, pause)
    files.seal(draft)


def _connect(path: Path) -> Connection:
    # Nobody else opens it; SQLite's locks would not go with that on the file everywhere.
    return sqlite3.connect(
        f"{files.uri(path)}&nolock=1",
        uri=True,
        timeout=files.BUSY_TIMEOUT_S,
        isolation_level=None,
        factory=Connection,
    )


def _attach(origin: Origin, connection: sqlite3.Connection) -> None:
    """Open the origin, as far as its log."""
    if origin.path is not None:
        connection.execute("ATTACH ? AS origin", (origin.uri or files.uri(origin.path),))
        connection.execute("PRAGMA origin.user_version").fetchone()
    else:
        assert origin.image is not None
        connection.execute("ATTACH ':memory:' AS origin")
        connection.deserialize(origin.image, name="origin")


__all__ = ["Stopped", "back_up", "fork_file", "fork_image"]
