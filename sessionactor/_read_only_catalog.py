"""The catalog of a registry for reading only: the one that the owners keep, as they left it.

Where there is none or it cannot be read, or where sessions changed that nobody who keeps it told
it of, because their owner was killed, what it lacks is read from their files into a copy in
memory, anew for each question. Where that would be too large, the answer is what the catalog has.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sessionactor import _catalog_queries as queries
from sessionactor import _catalog_schema as schema
from sessionactor import _catalog_sql as sql
from sessionactor import _looking as looking
from sessionactor import _names as names
from sessionactor._catalog import Catalog, NoCatalog
from sessionactor._catalog_events import Listed
from sessionactor._catalog_file import MemoryCatalog
from sessionactor._catalog_queries import Child, Listing, Search
from sessionactor._catalog_rows import Here
from sessionactor._errors import SchemaVersionError, SessionNotFoundError, StorageError
from sessionactor._indexer import Source
from sessionactor._read_only import ReadOnlyDirectory
from sessionactor._records import SearchHit, SessionInfo
from sessionactor._schema import for_memory
from sessionactor._sources import DiskSource
from sessionactor._text import TextOf

logger = logging.getLogger("sessionactor")

_T = TypeVar("_T")

_MOST_COPIED_BYTES: Final = 512 * 1024 * 1024


class _LacksError(Exception):
    """The catalog lacks what sessions say: here is a copy, to be completed."""

    def __init__(self, image: bytes | None) -> None:
        super().__init__("the catalog is not up to date")
        self.image = image


class ReadOnlyCatalog(NoCatalog):
    """Answers from the catalog that is there; it is told nothing."""

    def __init__(
        self,
        directory: ReadOnlyDirectory,
        source: Source,
        text_of: TextOf,
        here: Here,
    ) -> None:
        self._directory = directory
        self._source = source
        self._text_of = text_of
        self._here = here

    async def sessions(self, asked: Listing) -> tuple[list[SessionInfo], str | None]:
        """A page of sessions, and the cursor of the next one; raises as `Catalog.sessions`."""
        return await self._ask(partial(queries.sessions, asked, self._here))

    async def metadata(
        self, session_ids: Collection[str] | None, asked: Listing
    ) -> dict[str, dict[str, str | None]]:
        """All metadata of each session that is meant; raises `StorageError`."""
        return await self._ask(partial(queries.metadata, session_ids, asked))

    async def search(self, asked: Search) -> list[SearchHit]:
        """The messages, or sessions, that a search finds; raises `StorageError`."""
        return await self._ask(partial(queries.search, asked))

    async def children(self, parent: str) -> list[Child]:
        """The rows whose parent that is; raises `StorageError`."""
        return await self._ask(partial(queries.children, parent))

    async def running(self) -> list[SessionInfo]:
        """The sessions that run now, the longest running first; raises `StorageError`."""
        return await self._ask(partial(queries.running, self._here))

    async def _ask(self, procedure: Callable[[sqlite3.Connection], _T]) -> _T:
        listing = await self._source.listing()
        try:
            return await self._directory.run(self._answer, procedure, listing)
        except _LacksError as error:
            complete = Catalog(
                MemoryCatalog(error.image), self._source, self._text_of, self._here, lazy=True
            )
        try:
            return await complete.ask(procedure)
        finally:
            await complete.aclose()

    def _answer(
        self, procedure: Callable[[sqlite3.Connection], _T], listing: Mapping[str, Listed]
    ) -> _T:
        path = self._directory.catalog

        def see(uri: str) -> _T:
            with looking.opened(uri) as connection:
                if not schema.is_catalog(connection):
                    raise _LacksError(None)
                if self._lacks(listing, connection):
                    raise _LacksError(for_memory(connection.serialize()))
                connection.execute("COMMIT")  # questions choose their moment themselves
                return procedure(connection)

        if path.is_symlink() or not path.is_file():
            raise _LacksError(None)
        try:
            return looking.still(path, f"the catalog {path}", see)
        except StorageError as error:
            logger.warning("%s; what was asked is read from the sessions' files", error)
            raise _LacksError(None) from error

    def _lacks(self, listing: Mapping[str, Listed], connection: sqlite3.Connection) -> bool:
        """Whether sessions have to be read of which no owner will tell."""
        found = sql.compare(self._source.exists, listing, connection)
        if not found.missing and all(map(self._directory.holder, found.wanted)):
            return False
        size = sum(stamp.size for stamp in looking.stamps(self._directory.catalog) if stamp)
        if size > _MOST_COPIED_BYTES:
            logger.warning(
                "%s is not up to date, and too large to be copied", self._directory.catalog
            )
            return False
        return True


class ReadOnlySource(DiskSource):
    """The files of a directory, of which none is written."""

    def _opened(self, part: str, entry: str, read: Callable[[sqlite3.Connection], _T]) -> _T | None:
        path: Path = self._path / entry
        try:
            return looking.read(path, names.parse_id(entry), read)
        except (SessionNotFoundError, SchemaVersionError):
            return None


__all__ = ["ReadOnlyCatalog", "ReadOnlySource"]
