"""Opening a session's file, in the thread that its connection will live in."""

from __future__ import annotations

import asyncio
import errno
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from sessionactor import _copying as copying
from sessionactor import _files as files
from sessionactor import _loading as loading
from sessionactor import _names as names
from sessionactor import _presence as presence
from sessionactor import _schema as schema
from sessionactor import _sql as sql
from sessionactor._copying import Stopped
from sessionactor._deciding import Decision
from sessionactor._errors import (
    SchemaVersionError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
    StorageError,
)
from sessionactor._takeover import Origin
from sessionactor._times import now

Durability: TypeAlias = Literal["full", "normal"]


_CHECKED_S: Final = 0.25
"""How long a file that is in use may be gone before a commit notices."""


class Identity(NamedTuple):
    """The true id and name of a session, as its file holds them."""

    session_id: str
    name: str


class Opening(NamedTuple):
    """Which session a store is opened for, and how."""

    session_id: str
    name: str
    path: Path | None
    """`None`: in memory."""
    create: bool
    """Whether to make the session; otherwise it has to be there."""
    durability: Durability
    image: bytes | None = None
    """In memory: the content, as `keep` was given it."""
    keep: Callable[[bytes], None] | None = None
    """In memory: takes the content when the store closes."""
    token: str = ""
    """Of the registry: whose `running` it is."""
    beginning: Origin | Decision | None = None
    """What a session that is created begins with: another one's history, or what was decided."""


class Connector:
    """Opens the connection in its own thread, and closes it again if nobody waits any more."""

    loaded: loading.Loaded
    thread: threading.Thread | None = None

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._abandoned = False
        self._key: tuple[int, int] | None = None
        self._checked_s = -math.inf
        self._is_log_void = False

    def __call__(self) -> sqlite3.Connection:
        self.thread = threading.current_thread()
        with presence.opening(self._opening.path):
            return self._opened()

    def _opened(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            connection = self._connect()
            self.loaded = _prepare(self._opening, connection)
            with self._lock:
                if self._abandoned:
                    raise asyncio.CancelledError
                self._connection = connection
        except BaseException as error:
            sql.let_go(error)
            if connection is not None:
                connection.close()
            self.leave()
            raise
        return connection

    def abandon(self) -> None:
        """Undo the opening, whenever it will have happened."""
        with self._lock:
            self._abandoned = True
            if self._connection is not None:
                self._connection.close()
                self.leave()

    def is_in_place(self) -> bool:
        """Whether the file still has its name."""
        path = self._opening.path
        return path is None or self._key is None or files.is_at(path, self._key)

    def check_place(self) -> None:
        """Notice, not on every call, when other hands removed or replaced the file.

        Raises:
            StorageError: they did; what was just stored is in no file that anybody finds.
        """
        if time.monotonic() < self._checked_s + _CHECKED_S:
            return
        self._checked_s = time.monotonic()
        if not self.is_in_place():
            cause = FileNotFoundError(errno.ENOENT, "it was removed, moved or replaced")
            raise storage_error(self._opening, cause) from cause

    def settle(self, connection: sqlite3.Connection) -> None:
        """Before closing a file that other hands moved: move its log into it, wherever it is.

        SQLite would leave the log where it is, and replay it into whatever comes there.
        """
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._is_log_void = not busy

    def leave(self) -> None:
        """Take note that the connection is closed."""
        key, self._key = self._key, None
        if key is None:
            return
        path = self._opening.path
        try:
            if path is not None and self._is_log_void and not files.is_at(path, key):
                files.remove_side_files(path)
        finally:
            presence.leave(key, path)

    def _connect(self) -> sqlite3.Connection:
        opening, path = self._opening, self._opening.path
        if path is None:
            connection = sqlite3.connect(
                ":memory:", isolation_level=None, check_same_thread=False, factory=sql.Connection
            )
            connection.deserialize(opening.image or new_image(opening, now()))
            return connection
        if opening.create:
            _create(opening, path, lambda: self._abandoned)
        kind, key = presence.enter(path, owning=True)
        if kind is not presence.Kind.SESSION:
            raise not_a_session(kind, path, opening.session_id)
        self._key = key
        connection = sqlite3.connect(
            files.uri(path),
            uri=True,
            timeout=files.BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            factory=sql.Connection,
        )
        connection.key = key
        return connection


def new_image(opening: Opening, created_at: int) -> bytes:
    """A whole new session, as a database for memory."""
    image = _image(opening, created_at)
    if isinstance(opening.beginning, Origin):
        image = copying.fork_image(image, opening.beginning, created_at)
    return image


def _image(opening: Opening, created_at: int) -> bytes:
    fill = None
    if isinstance(opening.beginning, Decision):
        created_at = opening.beginning.state.last_at
        fill = partial(sql.apply, opening.beginning, opening.token)
    return schema.image(opening.session_id, opening.name, created_at, fill)


def _create(opening: Opening, path: Path, stopped: Stopped) -> None:
    created_at = now()
    image = _image(opening, created_at)
    if isinstance(opening.beginning, Origin):
        build = partial(copying.fork_file, image, opening.beginning, created_at, stopped)
    else:
        build = partial(files.write, schema.as_wal(image))
    try:
        files.create(path, path.with_name(names.draft_name(names.part_of(path.name))), build)
    except FileExistsError as error:
        raise SessionExistsError(
            f"session {opening.session_id!r} cannot be created: {path} exists already and is"
            f" {presence.inspect(path).value}; move it away or use another id or name",
            session_id=opening.session_id,
        ) from error


def not_a_session(kind: presence.Kind, path: Path, session_id: str) -> SessionError:
    """The error for what is not a session of this version."""
    if kind is presence.Kind.NEWER:
        return newer_version(path, session_id)
    return SessionNotFoundError(
        f"session {session_id!r} does not exist: {path} is {kind.value}", session_id=session_id
    )


def _prepare(opening: Opening, connection: sqlite3.Connection) -> loading.Loaded:
    is_full = opening.durability == "full"
    connection.execute(f"PRAGMA synchronous = {'FULL' if is_full else 'NORMAL'}")
    pages = schema.SHORT_WAL_PAGES if is_full else schema.WAL_PAGES
    connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
    if not opening.create:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > schema.VERSION and opening.path is not None:
            raise newer_version(opening.path, opening.session_id)
        schema.migrate(connection, version)
    return attend(opening, connection)


def attend(opening: Opening, connection: sqlite3.Connection) -> loading.Loaded:
    """What a session is, once what happened to it behind its owner's back is noted."""
    loaded = loading.load(connection)
    info, state = loaded
    if (info.session_id, info.name) != (opening.session_id, opening.name):
        # The file was copied or renamed by hand.
        loading.identify(opening.session_id, opening.name, state.revision + 1, connection)
        loaded = loading.load(connection)
    if info.state == "running" and info.token != opening.token:
        loading.interrupt(loaded.state, connection)
        loaded = loading.load(connection)
    return loaded


def read_identity(path: Path) -> Identity:
    """The true id and name of a session, from its file. Blocks.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        connection = sqlite3.connect(files.uri(path), uri=True)
        try:
            return Identity(*loading.read_identity(connection))
        finally:
            connection.close()
    except loading.DAMAGE as error:
        raise StorageError(f"cannot read {path}: {error}", path=path) from error


def newer_version(path: Path, session_id: str) -> SchemaVersionError:
    """The error for a file that a newer version of this package wrote."""
    return SchemaVersionError(
        f"{path} was written by a newer version of sessionactor than this one, which reads up"
        f" to version {schema.VERSION}: upgrade to open it",
        path=path,
        session_id=session_id,
    )


def storage_error(opening: Opening, error: BaseException) -> StorageError:
    place: Path | str = opening.path or "memory"
    if isinstance(opening.beginning, Origin) and opening.create:
        place = f"{place}, forked from {opening.beginning.session_id!r}"
    return StorageError(
        f"session {opening.session_id!r} in {place}: {error or type(error).__name__}",
        path=opening.path,
        session_id=opening.session_id,
    )
