"""The task in which all activations of an open registry live, and end before it does.

A task of its own, so that a registry can be opened in one task and closed in another.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import warnings
from collections.abc import Awaitable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
from anyio.abc import TaskGroup

from sessionactor import _names as names
from sessionactor._activation import Activation
from sessionactor._capacity import Capacity
from sessionactor._catalog import Catalog, NoCatalog
from sessionactor._catalog_file import CatalogFile, MemoryCatalog, Place
from sessionactor._catalog_rows import Here
from sessionactor._changes import StoredInfo, StoredRow
from sessionactor._commands import Rename, Stop
from sessionactor._copies import Copies
from sessionactor._directory import Directory, MemoryDirectory
from sessionactor._disk import DiskDirectory
from sessionactor._errors import RegistryClosedError, SessionBusyError, StorageError
from sessionactor._hub import Cursor, Hub
from sessionactor._indexer import Source
from sessionactor._mailbox import Command, Mailbox
from sessionactor._pace import Pace
from sessionactor._read_only import READING_THREADS, ReadOnlyDirectory, open_read_only
from sessionactor._read_only_catalog import ReadOnlyCatalog, ReadOnlySource
from sessionactor._records import Page, RegistryStatistics, SessionFile
from sessionactor._requests import OnCorrupt, ReadImage, ReadInfo, Request
from sessionactor._settings import Settings
from sessionactor._sources import DiskSource, MemorySource
from sessionactor._store import join_threads
from sessionactor._surroundings import Surroundings
from sessionactor._takeover import Origin
from sessionactor._text import text_of

_T = TypeVar("_T")

_DIRECTORY_THREADS: Final = 2


class Supervisor:
    """Starts an activation per session in use, and stops them all together."""

    _group: TaskGroup

    def __init__(
        self,
        registry: str,
        path: Path | None,
        settings: Settings,
    ) -> None:
        threads = READING_THREADS if settings.read_only else _DIRECTORY_THREADS
        self._executor = ThreadPoolExecutor(threads, "sessionactor-directory")
        self.directory: Directory = MemoryDirectory()
        if path is not None and settings.read_only:
            self.directory = ReadOnlyDirectory(path, self._executor)
        elif path is not None:
            self.directory = DiskDirectory(path, self._executor)
        self._registry = registry
        self._idle_timeout_s = settings.idle_timeout_s
        self._mailbox_size = settings.mailbox_size
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._token = secrets.token_hex(16)
        self._pace = Pace(self._loop)
        self._hub = Hub(self._pace, settings.subscriber_buffer, fed=not self.directory.read_only)
        open_store = settings.open_store
        self._source: Source = MemorySource(self.directory, self._look)
        if isinstance(self.directory, ReadOnlyDirectory):
            open_store = partial(open_read_only, self.directory)
            self._source = ReadOnlySource(self.directory)
        elif isinstance(self.directory, DiskDirectory):
            self._source = DiskSource(self.directory)
        self.catalog = self._make_catalog(path, settings) if settings.catalog else NoCatalog()
        self._around = Surroundings(
            self.directory,
            open_store,
            settings.durability,
            Capacity(settings.max_active, self._loop),
            Copies(self.directory),
            self._hub,
            self.catalog,
            self._token,
        )
        self._activations: dict[str, Activation] = {}
        self._closing = False
        self._stop = asyncio.Event()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._task = self._loop.create_task(self._run(), name=f"sessionactor {registry}")

    def __del__(self) -> None:
        if not self._task.done() and self._pid == os.getpid():
            warnings.warn(f"{self._registry} was never closed", ResourceWarning, stacklevel=1)

    async def started(self) -> None:
        """Wait until the directory is open; cancelled, everything is undone."""
        try:
            await asyncio.shield(self._started)
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Serve what was accepted, close everything, and only then return or be cancelled."""
        self._closing = True
        self._stop.set()
        cancelled = None
        with anyio.CancelScope(shield=True):
            while not self._task.done():
                try:
                    await asyncio.wait([self._task])
                except asyncio.CancelledError as error:
                    cancelled = error
        if cancelled is not None:
            raise cancelled

    def is_elsewhere(self) -> bool:
        """Whether the caller runs on another event loop or in another process."""
        return asyncio.get_running_loop() is not self._loop or os.getpid() != self._pid

    def check_place(self) -> None:
        """Refuse callers in other processes and on other event loops.

        Raises:
            RegistryClosedError: the registry was opened elsewhere.
        """
        if os.getpid() != self._pid:
            raise RegistryClosedError(
                f"{self._registry} was opened in process {self._pid}, not in this forked one;"
                " open another"
            )
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # a plain function; whatever it does needs no loop
        if loop is not self._loop:
            raise RegistryClosedError(
                f"{self._registry} was opened on another event loop; open one on this loop"
            )

    def check_open(self) -> None:
        """Refuse callers once the registry closes.

        Raises:
            RegistryClosedError: it does.
        """
        if self._closing:
            raise RegistryClosedError(f"{self._registry} is closed")

    def mailbox(self, session_id: str) -> Mailbox:
        """The mailbox of a session, whose activation begins if there is none."""
        activation = self._activations.get(session_id)
        if activation is None:
            self.check_open()
            mailbox = Mailbox(self._mailbox_size, self._loop)
            activation = Activation(session_id, mailbox, self._around, self._ended)
            self._activations[session_id] = activation
            self._group.start_soon(activation.run, name=f"sessionactor {session_id!r}")
        elif self._closing:
            self.check_open()
        self._pace.asked = True
        return activation.mailbox

    async def command(self, session_id: str, command: Command | Request) -> Any:
        """Have a session's activation, or its actor, do something in turn."""
        return await self.mailbox(session_id).post(command).reply

    async def _look(self, session_id: str, request: Request) -> Any:
        """What a session answers, which goes out of use again if it was not in use."""
        was_active = self.is_active(session_id)
        answer = await self.command(session_id, request)
        if not was_active:
            await self.command(session_id, Stop())
        return answer

    async def rename(self, session_id: str, name: str | None) -> None:
        """Give a session another name, as soon as no copy is made of it."""
        copies = self._around.copies
        while True:
            await copies.finished(session_id)
            try:
                await self.command(session_id, Rename(name))
            except SessionBusyError:
                if not copies.is_read(session_id):
                    raise
            else:
                return

    async def origin(self, session_id: str) -> Origin:
        """What a copy is made of, once all was served that the session was asked before."""
        info: StoredInfo = await self.command(session_id, ReadInfo())
        image = None
        if self.directory.in_memory:
            image = await self.command(session_id, ReadImage())
        return Origin(session_id, info.created_at, image=image)

    async def back_up(self, session_id: str, path: Path) -> None:
        """Write a copy of a session to a new file."""
        await self._around.copies.back_up(await self.origin(session_id), path)

    def follow(self, session_id: str) -> Cursor:
        """A place in the log of a session, from which all that is committed can be seen."""
        activation = self._activations.get(session_id)
        revision = None if activation is None else activation.revision
        return self._hub.follow(session_id, revision)

    def is_active(self, session_id: str) -> bool:
        """Whether a session is in use, or just going out of it."""
        return session_id in self._activations

    def is_running(self, session_id: str) -> bool:
        """Whether a session's actor runs; in any thread."""
        activation = self._activations.get(session_id)
        return activation is not None and activation.running

    def known(self, session_id: str) -> SessionFile | None:
        """A session's file as far as the index knows."""
        return self.directory.known(session_id)

    async def find(self, session_id: str) -> SessionFile | None:
        """A session's file, looked for again where the index has none."""
        return await self.directory.find(session_id)

    def in_use(self, session_id: str) -> bool:
        """Whether a session is in use, here or in another process."""
        activation = self._activations.get(session_id)
        if activation is not None and (activation.running or activation.mailbox):
            return True
        return self.directory.holder(names.id_part(session_id)) is not None

    def running_ids(self) -> list[str]:
        """The ids of the sessions whose actors run now."""
        return [one.session_id for one in self._activations.values() if one.running]

    async def rows(self, session_id: str, db_ids: Sequence[int]) -> list[StoredRow]:
        """Rows of a session by their ids; another process may own it."""
        return await self._source.rows(session_id, db_ids)

    async def latest(self, session_ids: Iterable[str], on_corrupt: OnCorrupt) -> dict[str, Page]:
        """The latest chapters of sessions that are not in use, of those that are read easily."""
        return await self._source.latest(session_ids, on_corrupt)

    async def ask_catalog(self, answer: Awaitable[_T]) -> _T:
        """What the catalog answers.

        Raises:
            RegistryClosedError: the registry closed meanwhile.
        """
        try:
            return await answer
        except StorageError:
            self.check_open()
            raise

    def statistics(self) -> RegistryStatistics:
        """What the registry does and did."""
        counters = self._around.counters
        return RegistryStatistics(
            active=self._around.capacity.used,
            max_active=self._around.capacity.places,
            queued=sum(len(activation.mailbox) for activation in self._activations.values()),
            activations=counters.activations,
            passivations=counters.passivations,
            requests=counters.requests,
            commits=counters.commits,
            crashes=counters.crashes,
        )

    def _make_catalog(self, path: Path | None, settings: Settings) -> Catalog | NoCatalog:
        directory, token = self.directory, self._token

        def is_live(session_id: str, of: str | None) -> bool:
            return of == token or directory.holder(names.id_part(session_id)) is not None

        here = Here(path, is_live, self.is_running)
        if isinstance(directory, ReadOnlyDirectory):
            return ReadOnlyCatalog(directory, self._source, settings.text_of or text_of, here)
        place: Place = MemoryCatalog()
        if isinstance(directory, DiskDirectory):
            place = CatalogFile(directory.catalog, directory.replacing_catalog)
        return Catalog(
            place,
            self._source,
            settings.text_of or text_of,
            here,
            lazy=directory.in_memory,
        )

    async def _run(self) -> None:
        try:
            try:
                await self.directory.open()
            except BaseException as error:
                self._started.set_exception(error)
                self._started.exception()  # whoever opens may have been cancelled
                return
            try:
                self.catalog.open()
                async with anyio.create_task_group() as group:
                    self._group = group
                    self._started.set_result(None)
                    async with anyio.create_task_group() as sweeping:
                        sweeping.start_soon(self._sweep)
                        sweeping.start_soon(self.directory.watch, self._hub)
                        await self._stop.wait()
                        sweeping.cancel_scope.cancel()
                    self._stop_all()
            finally:
                self._closing = True
                self._hub.close()
                with anyio.CancelScope(shield=True):
                    await self._around.copies.aclose()
                    await self.catalog.aclose()
                    await self.directory.aclose()
        finally:
            self._executor.shutdown()
            join_threads()

    def _stop_all(self) -> None:
        for activation in self._activations.values():
            activation.mailbox.fail_blocked(RegistryClosedError(f"{self._registry} was closed"))
            activation.mailbox.post(Stop()).reply.cancel()  # nobody waits for the answer

    async def _sweep(self) -> None:
        """Passivate those whom nobody asked for a while."""
        if self._idle_timeout_s is None:
            return
        while True:
            await anyio.sleep(self._around.capacity.evict_idle(self._idle_timeout_s))

    def _ended(self, activation: Activation) -> None:
        if self._activations.get(activation.session_id) is activation:
            del self._activations[activation.session_id]
