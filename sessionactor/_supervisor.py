"""The task in which all activations of an open registry live, and end before it does.

A task of its own, so that a registry can be opened in one task and closed in another.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import warnings
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup

from sessionactor._activation import Activation, Rename, Stop, Surroundings
from sessionactor._capacity import Capacity
from sessionactor._changes import StoredInfo
from sessionactor._copies import Copies
from sessionactor._copying import Origin
from sessionactor._directory import Directory
from sessionactor._errors import RegistryClosedError, SessionBusyError
from sessionactor._hub import Cursor, Hub
from sessionactor._mailbox import Command, Mailbox
from sessionactor._opening import Durability
from sessionactor._pace import Pace
from sessionactor._records import RegistryStatistics, SessionFile
from sessionactor._requests import ReadImage, ReadInfo, Request
from sessionactor._store import OpenStore, join_threads


class Supervisor:
    """Starts an activation per session in use, and stops them all together."""

    _group: TaskGroup

    def __init__(
        self,
        registry: str,
        directory: Directory,
        executor: Executor,
        open_store: OpenStore,
        durability: Durability,
        max_active: int,
        idle_timeout_s: float | None,
        mailbox_size: int,
        subscriber_buffer: int,
    ) -> None:
        self.directory = directory
        self._registry = registry
        self._executor = executor
        self._idle_timeout_s = idle_timeout_s
        self._mailbox_size = mailbox_size
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._pace = Pace(self._loop)
        self._hub = Hub(self._pace, subscriber_buffer)
        self._around = Surroundings(
            directory,
            open_store,
            durability,
            Capacity(max_active, self._loop),
            Copies(directory),
            self._hub,
            secrets.token_hex(16),
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
        """Whether a session's actor runs."""
        activation = self._activations.get(session_id)
        return activation is not None and activation.running

    def known(self, session_id: str) -> SessionFile | None:
        """A session's file as far as the index knows."""
        return self.directory.known(session_id)

    async def find(self, session_id: str) -> SessionFile | None:
        """A session's file, looked for again where the index has none."""
        return await self.directory.find(session_id)

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

    async def _run(self) -> None:
        try:
            try:
                await self.directory.open()
            except BaseException as error:
                self._started.set_exception(error)
                self._started.exception()  # whoever opens may have been cancelled
                return
            try:
                async with anyio.create_task_group() as group:
                    self._group = group
                    self._started.set_result(None)
                    async with anyio.create_task_group() as sweeping:
                        sweeping.start_soon(self._sweep)
                        await self._stop.wait()
                        sweeping.cancel_scope.cancel()
                    self._stop_all()
            finally:
                self._closing = True
                self._hub.close()
                with anyio.CancelScope(shield=True):
                    await self._around.copies.aclose()
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
