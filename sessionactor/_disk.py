"""The sessions of a directory on disk.

It is scanned once; after that the registry's own operations keep the index in memory,
and a miss shares one rescan, because files come and go by other hands.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

from sessionactor import _files as files
from sessionactor import _names as names
from sessionactor._catalog_events import Listed
from sessionactor._directory import Followed, matching
from sessionactor._errors import (
    RegistryClosedError,
    SessionError,
    SessionExistsError,
    StorageError,
)
from sessionactor._index import Index
from sessionactor._inspecting import Checked, look_at
from sessionactor._opening import Durability, Identity, Opening, newer_version, read_identity
from sessionactor._ownership import Ownership
from sessionactor._records import SessionFile
from sessionactor._scan import Scan, scan
from sessionactor._syncing import make_directory
from sessionactor._threads import submit

logger = logging.getLogger("sessionactor")

_T = TypeVar("_T")


class DiskDirectory:
    """A directory of session files; blocking work runs in `executor`."""

    in_memory = False
    read_only = False
    _ownership: Ownership
    _scan: Scan

    def __init__(self, path: Path, executor: Executor) -> None:
        self._path = path
        self._executor = executor
        self._index = Index()
        self._scanning: asyncio.Task[None] | None = None
        self._listing: asyncio.Future[Scan] | None = None
        self._listed: Scan | None = None  # what the catalog has seen
        self._closed = False

    async def open(self) -> None:
        files.check_path(self._path / names.file_name("x", "x"))
        try:
            self._ownership = await self.run(self._get_ready)
            try:
                await self.run(self._ownership.remove_drafts)
                self._scan = await self.run(self._read)
                self._index.take(self._scan.entries, {})
            except BaseException:
                self._ownership.close()
                raise
        except OSError as error:
            raise self._failed(error) from error

    def _get_ready(self) -> Ownership:
        make_directory(self._path)
        return Ownership(self._path)

    async def aclose(self) -> None:
        self._closed = True  # those who wait are told
        if self._scanning is not None:
            self._scanning.cancel()
        if self._listing is not None:
            await asyncio.wait([self._listing])
        self._ownership.close()

    def claim(self, session_id: str) -> None:
        self._ownership.claim(session_id)

    def release(self, session_id: str) -> None:
        self._ownership.release(session_id)

    def known(self, session_id: str) -> SessionFile | None:
        entry = self.entry(names.id_part(session_id))
        if entry is None:
            return None
        return SessionFile(self._path / entry, session_id, self._index.identity(entry).name)

    async def find(
        self, session_id: str, *, creating: bool = False, look: bool = True
    ) -> SessionFile | None:
        part, moved = names.id_part(session_id), False
        for _ in range(3):  # others may be moving it
            moved |= self._drop_if_missing(self.entry(part))
            if self.entry(part) is None:
                if not self._is_outdated(creating=creating and not moved):
                    break
                await self._rescan()
            entry = self.entry(part)
            if entry is not None and (look or names.is_cut(entry)):
                checked = await self._check([entry])
                if checked.newer:
                    raise newer_version(self._path / entry, session_id)
            if self.entry(part) is not None:
                break
            # Whoever was moving it meanwhile still holds it, or has told of it since.
            creating = self.holder(part) in (None, os.getpid())
        return self.known(session_id)

    async def glob(self, pattern: str) -> list[SessionFile]:
        def is_meant(entry: str) -> bool:
            return fnmatch.fnmatchcase(names.parse_name(entry), pattern)

        return await self.run(self._matching, pattern, await self._those(is_meant))

    async def starting(self, prefix: str) -> list[SessionFile]:
        those = await self._those(lambda entry: names.parse_id(entry).startswith(prefix))
        found = await self.run(self._matching, "*", those)
        return [file for file in found if file.session_id.startswith(prefix)]

    async def _those(self, is_meant: Callable[[str], bool]) -> list[str]:
        """The entries that are meant, looked at, and those of which only their files tell."""
        if self._is_outdated():
            await self._rescan()
        every = list(self._index.entries.values())
        found = await self.run(
            lambda: [entry for entry in every if names.is_cut(entry) or is_meant(entry)]
        )
        await self._check(found)
        return found

    async def named(self, name: str) -> list[SessionFile]:
        if self._is_outdated():
            await self._rescan()
        ending = f"_{names.name_part(name)}{names.SUFFIX}"
        found = [
            entry
            for part, entry in self._index.entries.items()
            if names.is_cut(entry)  # what its file says decides
            or (entry.endswith(ending) and len(entry) == len(part) + len(ending))
        ]
        found = [entry for entry in found if not self._drop_if_missing(entry)]
        await self._check(found)
        return [file for file in self._matching("*", found) if file.name == name]

    def opening(self, file: SessionFile, durability: Durability, *, create: bool) -> Opening:
        return Opening(file.session_id, file.name, file.path, create, durability)

    def plan(self, session_id: str, name: str) -> SessionFile:
        path = self._path / names.file_name(session_id, name)
        files.check_path(path, session_id)
        return SessionFile(path, session_id, name)

    def unused_name(self) -> str:
        return self._index.unused_name()

    @contextlib.contextmanager
    def creating(self, file: SessionFile) -> Iterator[None]:
        with self._ownership.changing():
            try:
                yield
            except BaseException:
                self._index.place(file.session_id, file.name, certain=False)
                raise
        self._index.place(file.session_id, file.name)

    async def listing(self) -> dict[str, Listed]:
        """All that look like sessions, by id part, as of a scan after the one before."""
        if self._listed is self._scan:
            await self._rescan()
        self._listed = found = self._scan
        return await self.run(self._left_open, dict(found.entries), found.logs)

    def _left_open(self, entries: dict[str, str], logs: frozenset[str]) -> dict[str, Listed]:
        return {
            part: Listed(entry, entry in logs and self.holder(part) is None)
            for part, entry in entries.items()
        }

    def entry(self, part: str) -> str | None:
        """The file name of an id part, as far as the index knows."""
        return self._index.entries.get(part)

    @property
    def path(self) -> Path:
        """Where the files are."""
        return self._path

    @property
    def catalog(self) -> Path:
        """The file of the catalog."""
        return self._path / names.CATALOG_FILE

    def holder(self, part: str) -> int | None:
        """The process that owns the session of an id part; in any thread."""
        return self._ownership.holder(part)

    def replacing_catalog(self) -> contextlib.AbstractContextManager[None]:
        """Surround what opens or replaces the catalog's file; blocks."""
        return self._ownership.replacing_catalog()

    def vanished(self, file: SessionFile) -> None:
        if file.path is not None:
            self._index.drop(file.path.name)

    async def remove(self, session_id: str) -> bool:
        file = await self.find(session_id)
        if file is None or file.path is None:
            return False
        with self._ownership.changing():
            removed = await self.run(files.remove, file.path)
        self._index.put(names.id_part(session_id), None)
        return removed

    async def rename(self, session_id: str, name: str) -> None:
        old, new = self.known(session_id), self.plan(session_id, name)
        assert old is not None
        assert old.path is not None
        assert new.path is not None
        with self._ownership.changing():
            try:
                await self.run(files.move, old.path, new.path, session_id)
            except FileExistsError as error:
                raise SessionExistsError(
                    f"session {session_id!r} cannot be renamed to {name!r}: {error}",
                    session_id=session_id,
                ) from error
        self._index.place(session_id, name)

    async def watch(self, followed: Followed) -> None:
        return None

    def _drop_if_missing(self, entry: str | None) -> bool:
        """Take an entry out of the index whose file went by other hands."""
        if entry is None or os.path.lexists(self._path / entry):
            return False
        self._index.drop(entry)
        return True

    def _is_outdated(self, *, creating: bool = False) -> bool:
        """Whether the index may lack a file that somebody else put here."""
        self._check_open()
        foreign_changes = self._ownership.foreign_changes()
        return self._scan.is_outdated(self._path, foreign_changes, creating=creating)

    async def _rescan(self) -> None:
        """Wait for a scan that begins after this call, shared with all who wait."""
        asked_s = time.monotonic()
        while self._scan.began_s < asked_s:
            self._check_open()
            if self._scanning is None or self._scanning.done():
                self._scanning = asyncio.create_task(self._scan_again())
            scanning = self._scanning
            await asyncio.wait([scanning])
            if not scanning.cancelled():  # as it is when the registry closes
                scanning.result()

    async def _scan_again(self) -> None:
        try:
            await asyncio.sleep(max(0.0, self._scan.pause_s()))
            with self._index.noting() as noted:
                self._listing = self._begin(self._read)
                found = await self._listing
            self._index.take(found.entries, noted)
            self._scan = found
        except OSError as error:
            raise self._failed(error) from error

    def _read(self) -> Scan:
        return scan(self._path, self._index.entries, self._ownership.foreign_changes())

    async def _check(self, entries: list[str]) -> Checked:
        """Look at the files of entries that nobody looked at yet, and drop what is foreign."""
        entries = self._index.unverified(entries)
        if not entries:
            return Checked([], [], [], {})
        try:
            checked = await self.run(look_at, self._path, entries, self._read_identity)
        except OSError as error:
            raise self._failed(error) from error
        self._index.looked_at(checked)
        return checked

    def _read_identity(self, path: Path) -> Identity:
        return read_identity(path)

    def _matching(self, pattern: str, entries: list[str]) -> list[SessionFile]:
        found = []
        for entry in entries:
            if self._index.is_verified(entry):
                session_id, name = self._index.identity(entry)
                found.append(SessionFile(self._path / entry, session_id, name))
        return matching(found, pattern)

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryClosedError(f"the registry of {self._path} was closed")

    def _failed(self, error: OSError) -> OSError:
        if isinstance(error, SessionError):
            return error
        return StorageError(
            f"cannot use {self._path} as a directory of sessions: {error}", path=self._path
        )

    async def run(self, function: Callable[..., _T], *args: object) -> _T:
        """Run what blocks, in the directory's threads; not at all where none can be started."""
        return await self._begin(function, *args)

    def _begin(self, function: Callable[..., _T], *args: object) -> asyncio.Future[_T]:
        self._check_open()
        try:
            return asyncio.wrap_future(submit(self._executor, function, *args))
        except OSError as error:
            raise self._failed(error) from error
