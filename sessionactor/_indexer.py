"""The task that fills the catalog: from what it is told, and from what sessions say.

It works for at most a tenth of the time, so that appends keep the rest, unless somebody waits
for it. Nothing that goes wrong here reaches the sessions: a catalog that is lost is begun
again, a disk that fails is tried again, and those who wait are told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeAlias

from sessionactor import _catalog_sql as sql
from sessionactor._catalog_events import Listed, Wanted
from sessionactor._catalog_file import LostError, Place
from sessionactor._catalog_stage import Prepared
from sessionactor._changes import StoredRow
from sessionactor._errors import StorageError
from sessionactor._feed import Feed
from sessionactor._history import Changes
from sessionactor._records import Page
from sessionactor._requests import OnCorrupt
from sessionactor._text import TextOf

logger = logging.getLogger("sessionactor")

Progress: TypeAlias = Callable[[int, int], object]
"""Told how many sessions have been read, of how many."""

_REST_FACTOR: Final = 9
_SHORTEST_REST_S: Final = 0.2
"""Each time costs by itself what some hundred messages do."""
_LONGEST_REST_S: Final = 2.0
_RETRY_S: Final = 5.0
_READ_SESSIONS: Final = 1024
_FIRST_SLICE: Final = 8
"""The first slice is so much smaller, and each one twice the one before: whoever takes them in
begins soon."""
_PURGED: Final = 256
_ATTEMPTS: Final = 5


class Said(NamedTuple):
    """What sessions said."""

    changes: Sequence[Changes | None]
    """Of the first ones that were wanted, one at least; `None`: it cannot be read."""
    prepared: Prepared
    """What their rows come to, as far as it was found out on the way."""


class Source(Protocol):
    """Where the truth is: what the catalog is filled from."""

    async def listing(self) -> Mapping[str, Listed]:
        """All sessions, by id part.

        Raises:
            StorageError: the disk failed.
        """

    async def changes(self, wanted: Sequence[Wanted], max_rows: int, text_of: TextOf) -> Said:
        """What happened to sessions since some revisions; about `max_rows` rows together.

        Raises:
            StorageError: the disk failed.
        """

    async def rows(self, session_id: str, db_ids: Sequence[int]) -> list[StoredRow]:
        """Rows of a session by their ids; of those that are there.

        Raises:
            StorageError: the disk failed.
        """

    async def latest(self, session_ids: Iterable[str], on_corrupt: OnCorrupt) -> dict[str, Page]:
        """The latest chapters of sessions that are not in use.

        Those that are missing have to be asked themselves: they are long, or something is amiss.
        """

    def exists(self, entry: str) -> bool:
        """Whether a session is there now; in any thread."""


class _Slice(NamedTuple):
    """What was read, to be taken in."""

    wanted: Sequence[Wanted]
    said: Said


class Indexer:
    """Takes in what waits in the feed, from `start` to `aclose`."""

    _task: asyncio.Task[None]
    _begun: asyncio.Future[None]

    def __init__(self, place: Place, source: Source, text_of: TextOf, feed: Feed) -> None:
        self._place = place
        self._source = source
        self._text_of = text_of
        self._feed = feed
        self._failure: StorageError | None = None
        self._anew = False
        self._has_dead = False
        self._ahead: asyncio.Task[_Slice | None] | None = None
        self._cancelled: set[asyncio.Task[_Slice | None]] = set()
        self._last_rows = 0  # that the slice before might have
        self._progress: Progress | None = None
        self._total = 0
        self._losses = 0

    @property
    def fails(self) -> bool:
        """Whether the catalog cannot be written now."""
        return self._failure is not None

    def start(self) -> None:
        """Begin to work."""
        loop = asyncio.get_running_loop()
        self._begun = loop.create_future()
        self._task = loop.create_task(self._run(), name="sessionactor catalog")

    async def aclose(self) -> None:
        """Take in what was told, and end. What is still to be read is read the next time."""
        self._feed.close()
        if self._ahead is not None:
            self._ahead.cancel()
        await asyncio.wait([self._task])
        if not self._begun.done():
            self._begun.set_result(None)
        self._feed.fail(None)
        await self._place.aclose()

    async def up_to_date(self, part: str | None = None) -> object:
        """Wait until all that was told by now, of one session or of all, is in.

        It returns what `lost` wants to be given.

        Raises:
            StorageError: the disk fails.
        """
        for _ in range(_ATTEMPTS):
            begun = self._begun
            if self._feed.is_closed:
                return begun
            if self._failure is not None:
                self._feed.wake()  # try again now
            await asyncio.shield(begun)
            await self._feed.barrier(part)
            if begun is self._begun:  # and not begun again meanwhile
                return begun
        raise StorageError("the catalog was lost again and again")

    def lost(self, error: LostError, begun: object) -> None:
        """Begin again, unless that happened since: the catalog is gone, or is another one."""
        if begun is self._begun:
            self._begin_again(anew=error.is_ruined)

    def _begin_again(self, *, anew: bool) -> None:
        self._anew = self._anew or anew
        if self._begun.done():
            self._begun = asyncio.get_running_loop().create_future()
        self._feed.wake()

    async def rebuild(self, progress: Progress | None) -> None:
        """Begin with an empty catalog, and wait until all sessions are in.

        Raises:
            StorageError: the disk fails.
        """
        self._progress = progress
        self._begin_again(anew=True)
        try:
            await self.up_to_date()
        finally:
            self._progress = None

    async def _run(self) -> None:
        while not (self._feed.is_closed and (self.fails or not self._feed.has_events)):
            try:
                await self._step()
                self._failure = None
            except LostError as error:
                self._unread()
                self._begin_again(anew=error.is_ruined)
                self._losses += 1
                if self._losses > _ATTEMPTS:
                    await self._failed(StorageError("the catalog was lost again and again"))
            except asyncio.CancelledError:
                # Whoever cancels all tasks closes the registry then, and sessions that close
                # need the catalog till the end.
                self._unread()
                asyncio.current_task().uncancel()  # type: ignore[union-attr]
            except Exception as error:
                await self._failed(error)
        self._unread()
        if self._cancelled:
            await asyncio.wait(self._cancelled)

    def _unread(self) -> None:
        """Give up what is read ahead: it is read again."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            self._cancelled.add(ahead)
            ahead.add_done_callback(self._cancelled.discard)
            ahead.add_done_callback(_retrieved)
        self._feed.unread()

    async def _step(self) -> None:
        if not self._begun.done():
            await self._begin()
            return
        began_s = time.perf_counter()
        if self._feed.has_events:
            await self._take_in()
        elif not self._feed.left and not self._has_dead:
            await self._feed.arrival()
            return
        if self._feed.left:
            await self._read_some()
        elif self._has_dead and not self._feed.is_closed:
            self._has_dead = await self._place.write(partial(sql.purge_some, _PURGED))
        self._losses = 0
        rest_s = (time.perf_counter() - began_s) * _REST_FACTOR
        least_s = 0.0 if self._feed.is_crowded else _SHORTEST_REST_S
        await self._feed.rest(min(max(rest_s, least_s), _LONGEST_REST_S))

    async def _begin(self) -> None:
        """Have a catalog, and compare it with what sessions there are."""
        if self._anew:
            await self._place.renew()
            self._anew = False
        else:
            await self._place.open()
        listing = await self._source.listing()
        wanted = await self._place.write(partial(sql.reconcile, self._source.exists, listing))
        self._feed.want(wanted)
        self._total = self._feed.left
        self._has_dead = True
        if not self._anew:  # or it is wanted anew since this began
            self._begun.set_result(None)

    async def _take_in(self) -> None:
        batch = self._feed.batch(self._place.slice_rows)
        events = [queued.event for queued in batch if queued.event is not None]
        try:
            fed = await self._place.write(
                partial(sql.feed, self._text_of, self._source.exists, events)
            )
        except (LostError, StorageError, asyncio.CancelledError):
            raise
        except Exception as error:
            self._feed.fail(_mistake(error))
            self._feed.done(batch)  # again it would do the same
            raise
        self._feed.done(batch, fed.behind)
        self._has_dead = fed.has_dead

    async def _read_some(self) -> None:
        """Take in what sessions say, while the next ones are read already."""
        loop = asyncio.get_running_loop()
        if self._ahead is None:
            self._ahead = loop.create_task(self._read())
        part = await self._ahead
        self._ahead = None if part is None else loop.create_task(self._read())
        if part is None:
            return
        parts = [wanted.part for wanted in part.wanted]
        try:
            again = await self._refill(part)
        except (LostError, StorageError, asyncio.CancelledError):
            raise
        except Exception as error:
            self._feed.fail(_mistake(error))
            self._feed.read_done(parts)  # again it would do the same
            raise
        self._feed.read_again(again)
        self._feed.read_done(parts)
        self._tell_progress()

    def _tell_progress(self) -> None:
        if self._progress is None:
            return
        self._total = max(self._total, self._feed.left)
        try:
            self._progress(self._total - self._feed.left, self._total)
        except Exception:
            logger.exception("what is told of the progress of a rebuild failed")
            self._progress = None

    async def _read(self) -> _Slice | None:
        parts = self._feed.read(_READ_SESSIONS)
        if not parts:
            self._last_rows = 0
            return None
        known = await self._place.read(partial(sql.revisions, parts))
        wanted = [Wanted(part, known.get(part, 0)) for part in parts]
        most = self._place.slice_rows
        self._last_rows = min(2 * self._last_rows, most) or most // _FIRST_SLICE
        said = await self._source.changes(wanted, self._last_rows, self._text_of)
        self._feed.read_again(parts[len(said.changes) :])
        return _Slice(wanted[: len(said.changes)], said)

    async def _refill(self, part: _Slice) -> list[str]:
        """Take in a slice; the sessions that have to be read once more."""
        pairs = list(zip(part.wanted, part.said.changes, strict=True))
        found = [(wanted, changes) for wanted, changes in pairs if changes is not None]
        exists = self._source.exists
        revisions = await self._place.write(
            partial(sql.refill, self._text_of, exists, found, part.said.prepared)
        )
        gone = [wanted.part for wanted, changes in pairs if changes is None]
        if gone:
            await self._place.write(partial(sql.missing, exists, gone))
        self._has_dead = True
        return [
            wanted.part
            for (wanted, changes), revision in zip(found, revisions, strict=True)
            if changes.more or revision != changes.upto
        ]

    async def _failed(self, error: Exception) -> None:
        """Tell those who wait, and wait until somebody asks, or for a while."""
        self._unread()
        if not isinstance(error, StorageError):
            logger.error("the catalog failed", exc_info=error)
            error = _mistake(error)
        elif self._failure is None:
            logger.warning("the catalog cannot be written now: %s", error)
        self._failure = error
        if not self._begun.done():
            self._begun.set_exception(error)
            self._begun.exception()  # perhaps nobody waits
            self._begin_again(anew=False)
        self._feed.fail(error)
        with contextlib.suppress(asyncio.CancelledError):
            await self._feed.rest(_RETRY_S)


def _retrieved(task: asyncio.Task[_Slice | None]) -> None:
    if not task.cancelled():
        task.exception()  # nobody waits for it


def _mistake(error: Exception) -> StorageError:
    failure = StorageError(f"the catalog failed: {error!r}")
    failure.__cause__ = error
    return failure


__all__ = ["Indexer", "Progress", "Said", "Source"]
