"""What the catalog is filled from: session files, or sessions in memory that are asked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from sessionactor import _files as files
from sessionactor import _looking as looking
from sessionactor import _names as names
from sessionactor import _presence as presence
from sessionactor import _schema as schema
from sessionactor._catalog_events import Listed, Wanted
from sessionactor._catalog_stage import NOTHING, prepare
from sessionactor._changes import StoredRow
from sessionactor._directory import Directory
from sessionactor._disk import DiskDirectory
from sessionactor._errors import (
    RegistryClosedError,
    SchemaVersionError,
    SessionError,
    SessionNotFoundError,
    StorageError,
)
from sessionactor._history import Changes
from sessionactor._indexer import Said
from sessionactor._loading import DAMAGE
from sessionactor._reading import read_changes, read_chapter, read_some
from sessionactor._records import Page
from sessionactor._requests import OnCorrupt, ReadChanges, ReadChapter, ReadStored
from sessionactor._rows import decoded
from sessionactor._sql import Connection
from sessionactor._text import TextOf

logger = logging.getLogger("sessionactor")

_T = TypeVar("_T")

_CHAPTER_ROWS: Final = 2048
"""A chapter of more is not read at one stroke."""


class DiskSource:
    """The files of a directory, read through connections of the catalog's own.

    A file may be read while its owner writes it.
    """

    def __init__(self, directory: DiskDirectory) -> None:
        self._directory = directory
        self._path = directory.path

    async def listing(self) -> Mapping[str, Listed]:
        return await self._directory.listing()

    async def changes(self, wanted: Sequence[Wanted], max_rows: int, text_of: TextOf) -> Said:
        entries = [self._directory.entry(part) for part, _ in wanted]
        return await self._directory.run(self._read_all, wanted, entries, max_rows, text_of)

    async def rows(self, session_id: str, db_ids: Sequence[int]) -> list[StoredRow]:
        file = await self._directory.find(session_id, look=False)  # others may have made it
        if file is None or file.path is None:
            return []
        part, read = names.id_part(session_id), partial(read_some, db_ids)
        return await self._directory.run(self._opened, part, file.path.name, read) or []

    async def latest(self, session_ids: Iterable[str], on_corrupt: OnCorrupt) -> dict[str, Page]:
        paths: list[tuple[str, Path]] = []
        for session_id in session_ids:
            file = self._directory.known(session_id)
            if file is None:  # others may have made it
                file = await self._directory.find(session_id, look=False)
            if file is not None and file.path is not None and not names.is_cut(file.path.name):
                paths.append((session_id, file.path))
        parts = [paths[::2], paths[1::2]]  # SQLite opens files while other threads run
        found = await asyncio.gather(
            *(self._directory.run(_latest, part, on_corrupt) for part in parts if part)
        )
        return {session_id: page for pages in found for session_id, page in pages}

    def exists(self, entry: str) -> bool:
        return os.path.lexists(self._path / entry)

    def _read_all(
        self,
        wanted: Sequence[Wanted],
        entries: Sequence[str | None],
        max_rows: int,
        text_of: TextOf,
    ) -> Said:
        found: list[Changes | None] = []
        left = max_rows
        for (part, since), entry in zip(wanted, entries, strict=True):
            changes = self._read(part, entry, since, left)
            found.append(changes)
            left -= _rows(changes)
            if left <= 0:
                break
        return Said(found, prepare(wanted, found, text_of))

    def _read(self, part: str, entry: str | None, since: int, max_rows: int) -> Changes | None:
        if entry is None:
            return None
        try:
            changes = self._opened(part, entry, partial(read_changes, since, max_rows))
        except StorageError as error:
            logger.warning("not in the catalog as it is now: %s", error)
            return None
        return changes and _named(entry, changes)

    def _opened(self, part: str, entry: str, read: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """What a file says at one moment; `None`: it is not a session, or of another version."""
        path = self._path / entry
        try:
            with contextlib.ExitStack() as stack:
                with presence.settling():
                    kind, key = presence.enter(path)
                    if kind is not presence.Kind.SESSION:
                        return None
                    stack.callback(presence.leave, key)
                    mode = self._mode(part)
                    connection = stack.enter_context(_connected(path, key, mode))
                    (version,) = connection.execute("PRAGMA user_version").fetchone()
                return self._read_file(part, connection, version, read)
        except DAMAGE as error:
            raise StorageError(f"cannot read {path}: {error}", path=path) from error

    def _mode(self, part: str) -> Literal["rw", "ro"]:
        """How to open a file; the last one to close it tidies its log up, if it may write.

        Another process may have the log still open, but of a file in whose place this one was put.
        """
        return "rw" if self._directory.holder(part) in (None, os.getpid()) else "ro"

    def _read_file(
        self,
        part: str,
        connection: sqlite3.Connection,
        version: int,
        read: Callable[[sqlite3.Connection], _T],
    ) -> _T | None:
        if version < schema.VERSION:
            if self._directory.holder(part) is not None:
                return None  # its owner brings it up to date
            schema.migrate(connection, version)
        connection.execute("BEGIN")  # one moment of what its owner writes
        return read(connection)


def _latest(paths: Iterable[tuple[str, Path]], on_corrupt: OnCorrupt) -> list[tuple[str, Page]]:
    found = []
    for session_id, path in paths:
        with contextlib.suppress(StorageError, SchemaVersionError, SessionNotFoundError):
            page = looking.read(path, session_id, partial(_chapter, session_id, on_corrupt))
            if page is not None:
                found.append((session_id, page))
    return found


def _chapter(session_id: str, on_corrupt: OnCorrupt, connection: sqlite3.Connection) -> Page | None:
    """The latest chapter; `None`: it is long."""
    read = ReadChapter(on_corrupt=on_corrupt)
    stored, head, rest = read_chapter(read, _CHAPTER_ROWS, connection)
    return None if rest else Page(decoded(stored, on_corrupt, session_id), head)


def _connected(
    path: Path, key: tuple[int, int], mode: Literal["rw", "ro"]
) -> contextlib.closing[Connection]:
    connection = sqlite3.connect(
        files.uri(path, mode),
        uri=True,
        timeout=files.BUSY_TIMEOUT_S,
        isolation_level=None,
        factory=Connection,
    )
    connection.key = key
    return contextlib.closing(connection)


def _named(entry: str, changes: Changes) -> Changes | None:
    """The same, of the session that the file's name tells: the file may have been copied."""
    parts = names.parse(entry)
    if parts is None:
        return None
    info = changes.info._replace(
        session_id=parts.session_id or changes.info.session_id,
        name=parts.name or changes.info.name,
    )
    if not _is_named(entry, info.session_id, info.name):
        logger.warning("%s holds a session of another name, and is left out", entry)
        return None
    return changes._replace(info=info)


def _is_named(entry: str, session_id: Any, name: Any) -> bool:
    try:
        checked = names.check(session_id, "id"), names.check(name, "name")
    except ValueError:
        return False
    return names.file_name(*checked) == entry


def _rows(changes: Changes | None) -> int:
    """How many rows were read."""
    return 0 if changes is None else len(changes.inserted) + len(changes.updated)


class MemorySource:
    """The sessions of a registry in memory, which are asked themselves."""

    def __init__(
        self, directory: Directory, ask: Callable[[str, ReadChanges | ReadStored], Awaitable[Any]]
    ) -> None:
        self._directory = directory
        self._ask = ask
        self._ids: dict[str, str] = {}

    async def listing(self) -> Mapping[str, Listed]:
        found = await self._directory.glob("*")
        self._ids = {names.id_part(file.session_id): file.session_id for file in found}
        return {
            names.id_part(file.session_id): Listed(
                names.file_name(file.session_id, file.name), left_open=False
            )
            for file in found
        }

    async def changes(self, wanted: Sequence[Wanted], max_rows: int, text_of: TextOf) -> Said:
        found: list[Changes | None] = []
        left = max_rows
        for part, since in wanted:
            changes = await self._changes(part, since, left)
            found.append(changes)
            left -= _rows(changes)
            if left <= 0:
                break
        return Said(found, NOTHING)

    async def latest(self, session_ids: Iterable[str], on_corrupt: OnCorrupt) -> dict[str, Page]:
        return {}

    async def rows(self, session_id: str, db_ids: Sequence[int]) -> list[StoredRow]:
        try:
            rows: list[StoredRow] = await self._ask(session_id, ReadStored(tuple(db_ids)))
        except SessionNotFoundError:
            return []
        return rows

    def exists(self, entry: str) -> bool:
        session_id = self._ids.get(names.part_of(entry))
        return session_id is not None and self._directory.known(session_id) is not None

    async def _changes(self, part: str, since: int, max_rows: int) -> Changes | None:
        if part not in self._ids:
            await self.listing()
        session_id = self._ids.get(part)
        if session_id is None:
            return None
        try:
            changes: Changes = await self._ask(session_id, ReadChanges(since, max_rows))
        except RegistryClosedError as error:
            raise StorageError(str(error), session_id=session_id) from error
        except SessionError as error:
            if self._directory.known(session_id) is not None:
                logger.warning("session %r is not in the catalog: %s", session_id, error)
            return None
        else:
            return changes


__all__ = ["DiskSource", "MemorySource"]
