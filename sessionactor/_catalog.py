"""The catalog: an index over all sessions of a place, derived from what they say.

It is told what happens, in passing; it is filled in the background; and it answers once all
is in that was told before. Losing it loses nothing: it is made anew and read from the files.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final, TypeVar

from sessionactor import _catalog_queries as queries
from sessionactor import _names as names
from sessionactor._catalog_events import Committed, Deleted, Event, Opened, Renamed
from sessionactor._catalog_file import LostError, Place
from sessionactor._catalog_queries import Child, Listing, Search
from sessionactor._catalog_rows import Here
from sessionactor._changes import Step, StoredInfo
from sessionactor._errors import NoCatalogError, SessionError, StorageError
from sessionactor._feed import Feed
from sessionactor._indexer import Indexer, Progress, Source
from sessionactor._loading import DAMAGE
from sessionactor._records import SearchHit, SessionInfo
from sessionactor._text import TextOf

_T = TypeVar("_T")

_ATTEMPTS: Final = 5


class Catalog:
    """Keeps an index of sessions, and answers from it.

    Args:
        place: Where it is.
        source: Where the sessions are.
        text_of: What text a message has; called in any thread.
        here: What it is not told of a session; called in any thread.
        lazy: Do nothing before the first question. Then closing a session does not wait for
            the catalog: what it was told is all that it needs.
        feed: The queue in front of it.
    """

    def __init__(
        self,
        place: Place,
        source: Source,
        text_of: TextOf,
        here: Here,
        *,
        lazy: bool = False,
        feed: Feed | None = None,
    ) -> None:
        self._place = place
        self._feed = feed or Feed()
        self._here = here
        self._lazy = lazy
        self._indexer = Indexer(place, source, text_of, self._feed)
        self._works = False

    def open(self) -> None:
        """Begin to work, in the background, unless it waits for the first question."""
        if not self._lazy:
            self._begin()

    async def aclose(self) -> None:
        """Take in what was told, and let go of everything."""
        if self._works:
            self._works = False
            await self._indexer.aclose()

    # what it is told

    def opened(self, info: StoredInfo) -> None:
        """A session is in use."""
        self._told(Opened(info))

    def committed(
        self, session_id: str, base_revision: int, steps: Sequence[Step], info: StoredInfo
    ) -> None:
        """Something happened to a session, on top of a revision."""
        self._told(Committed(session_id, base_revision, steps, info))

    def renamed(self, session_id: str, name: str) -> None:
        """A session's file has another name."""
        self._told(Renamed(session_id, name))

    def deleted(self, session_id: str) -> None:
        """A session's files are gone."""
        self._told(Deleted(session_id))

    async def taken(self, session_id: str) -> None:
        """Wait until a session's file may be closed: all that was told of it is in.

        Returns at once while the catalog cannot be written: then its file says it later.
        """
        if self._works and not self._lazy and not self._indexer.fails:
            try:
                await self._indexer.up_to_date(names.id_part(session_id))
            except StorageError:
                return  # it is logged, and tried again

    async def forgotten(self, session_id: str) -> None:
        """Wait until a session may be created: an earlier one of that id is not in any more.

        After a power loss nobody could tell by the name of its file that it is another one.
        """
        if self._feed.waits(names.id_part(session_id)):
            await self.taken(session_id)

    async def flush(self, session_id: str | None = None) -> None:
        """Wait until all that was told, of one session or of all, is in for every reader.

        Raises:
            StorageError: the disk fails.
        """
        if self._works:
            part = None if session_id is None else names.id_part(session_id)
            await self._indexer.up_to_date(part)

    # what it is asked

    async def sessions(self, asked: Listing) -> tuple[list[SessionInfo], str | None]:
        """A page of sessions, and the cursor of the next one.

        Raises:
            InvalidValueError: the cursor is none of this order.
            StorageError: the disk fails.
        """
        return await self.ask(partial(queries.sessions, asked, self._here))

    async def metadata(
        self, session_ids: Collection[str] | None, asked: Listing
    ) -> dict[str, dict[str, str | None]]:
        """All metadata of each session that is meant; raises `StorageError`."""
        return await self.ask(partial(queries.metadata, session_ids, asked))

    async def search(self, asked: Search) -> list[SearchHit]:
        """The messages, or sessions, that a search finds; raises `StorageError`."""
        return await self.ask(partial(queries.search, asked))

    async def children(self, parent: str) -> list[Child]:
        """The rows whose parent that is; raises `StorageError`."""
        return await self.ask(partial(queries.children, parent))

    async def running(self) -> list[SessionInfo]:
        """The sessions that run now, the longest running first; raises `StorageError`."""
        return await self.ask(partial(queries.running, self._here))

    async def rebuild(self, progress: Progress | None = None) -> None:
        """Make it anew and read all sessions; `progress` is told how many of how many.

        Raises:
            StorageError: the disk fails.
        """
        self._begin()
        await self._indexer.rebuild(progress)

    def _told(self, event: Event) -> None:
        if self._works:
            self._feed.put(event)

    async def ask(self, procedure: Callable[[sqlite3.Connection], _T]) -> _T:
        """What a procedure finds in it; raises `StorageError`."""
        self._begin()
        for _ in range(_ATTEMPTS):
            begun = await self._indexer.up_to_date()
            try:
                return await self._place.read(procedure)
            except LostError as error:
                self._indexer.lost(error, begun)
            except DAMAGE as error:
                if isinstance(error, SessionError):
                    raise
                raise StorageError(f"the catalog failed: {error!r}") from error
        raise StorageError("the catalog was lost again and again")

    def _begin(self) -> None:
        if not self._works:
            self._works = True
            self._indexer.start()


class NoCatalog:
    """What a registry has that was told to have no catalog."""

    def open(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""

    def opened(self, info: StoredInfo) -> None:
        """A session is in use."""

    def committed(
        self, session_id: str, base_revision: int, steps: Sequence[Step], info: StoredInfo
    ) -> None:
        """Something happened to a session."""

    def renamed(self, session_id: str, name: str) -> None:
        """A session's file has another name."""

    def deleted(self, session_id: str) -> None:
        """A session's files are gone."""

    async def taken(self, session_id: str) -> None:
        """Nothing was told, so all is in."""

    async def forgotten(self, session_id: str) -> None:
        """Nothing was told."""

    async def flush(self, session_id: str | None = None) -> None:
        """Nothing was told, so all is in."""

    async def sessions(self, asked: Listing) -> tuple[list[SessionInfo], str | None]:
        """Refuse."""
        raise _no_catalog()

    async def metadata(
        self, session_ids: Collection[str] | None, asked: Listing
    ) -> dict[str, dict[str, str | None]]:
        """Refuse."""
        raise _no_catalog()

    async def search(self, asked: Search) -> list[SearchHit]:
        """Refuse."""
        raise _no_catalog()

    async def children(self, parent: str) -> list[Child]:
        """Refuse."""
        raise _no_catalog()

    async def running(self) -> list[SessionInfo]:
        """Refuse."""
        raise _no_catalog()

    async def rebuild(self, progress: Progress | None = None) -> None:
        """Refuse."""
        raise _no_catalog()


def _no_catalog() -> NoCatalogError:
    return NoCatalogError("this registry has no catalog: open it without `catalog=False`")


__all__ = ["Catalog", "NoCatalog"]
