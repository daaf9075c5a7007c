"""One session's activation: from its first request until nothing keeps it open.

It opens the store when something waits in its mailbox, lets an actor serve, and closes
the store when the actor is told to give way. Starting, stopping, renaming and deleting are
commands in the same mailbox, so that all that happens to one session happens in one order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio

from sessionactor import _files as files
from sessionactor._actor import Actor, is_ending
from sessionactor._changes import StateName
from sessionactor._commands import Create, Delete, Expire, Rename, Start, Stop
from sessionactor._deciding import Decision
from sessionactor._errors import (
    RegistryClosedError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
    StorageError,
    not_found,
)
from sessionactor._mailbox import Envelope, Mailbox
from sessionactor._records import SessionFile
from sessionactor._requests import SetName, Write
from sessionactor._store import Store
from sessionactor._surroundings import Surroundings
from sessionactor._takeover import Origin

logger = logging.getLogger("sessionactor")


class Activation:
    """Owns one session's mailbox, store and ownership while it is in use."""

    def __init__(
        self,
        session_id: str,
        mailbox: Mailbox,
        around: Surroundings,
        ended: Callable[[Activation], None],
    ) -> None:
        self.session_id = session_id
        self.mailbox = mailbox
        self.used_at_s = 0.0
        self._around = around
        self._ended = ended
        self._store: Store | None = None
        self._revision = 0

    @property
    def running(self) -> bool:
        """Whether an actor serves the session now."""
        return self._store is not None

    @property
    def revision(self) -> int | None:
        """The session's revision, while an actor serves it."""
        return None if self._store is None else self._store.info().revision

    def give_way(self) -> None:
        """Let the actor end after its current group; what waits activates it again."""
        self.mailbox.interrupt()

    async def run(self) -> None:
        """Serve until the mailbox is empty and the store is closed; never raises an error."""
        failure: BaseException = RegistryClosedError(
            f"the registry was closed before session {self.session_id!r} could answer",
            session_id=self.session_id,
        )
        try:
            while True:
                if self.mailbox.commanded:
                    await self._obey(self.mailbox.pop())
                elif self._store is not None:
                    await self._serve(self._store)
                elif self.mailbox:
                    await self._open_for_requests()
                else:
                    return
        except Exception as error:
            logger.exception("the activation of session %r failed", self.session_id)
            failure = error
        finally:
            # From here on a new request finds a new activation, which has to wait for this one.
            with anyio.CancelScope(shield=True):
                await self._close()
            self.mailbox.fail_all(failure)
            self._ended(self)

    async def _serve(self, store: Store) -> None:
        try:
            await Actor(self.session_id, self.mailbox, store, self._served).run()
        except SessionError as error:
            self._around.counters.crashes += not isinstance(error, StorageError)
            await self._close()
        else:
            if self.mailbox.interrupted or not self.mailbox.commanded:
                await self._close()

    def _served(self, requests: int, decision: Decision | None) -> None:
        counters = self._around.counters
        counters.requests += requests
        self._around.capacity.touch(self)
        if decision is not None:
            counters.commits += 1
            assert self._store is not None
            self._committed(self._store, decision)
            self._around.hub.committed(self.session_id, decision.steps, decision.state)

    def _committed(self, store: Store, decision: Decision) -> None:
        if decision.steps:
            info = store.info()
            self._around.catalog.committed(self.session_id, self._revision, decision.steps, info)
            self._revision = info.revision
        self._note_running(decision.state.status.state)

    def _note_running(self, state: StateName) -> None:
        if state == "running":
            self._around.running.add(self.session_id)
        else:
            self._around.running.discard(self.session_id)

    async def _open_for_requests(self) -> None:
        waiting = len(self.mailbox)
        try:
            if await self._open_existing() is None:
                self._around.hub.absent(self.session_id)
                self._around.catalog.deleted(self.session_id)  # perhaps by other hands
                raise not_found(self.session_id)
        except SessionError as error:
            # Who came while it was looked for may know better: another process has created it.
            self.mailbox.fail_requests(error, waiting)

    async def _obey(self, envelope: Envelope) -> None:
        try:
            match envelope.content:
                case Start(name):
                    await self._start(name)
                    envelope.answer(None)
                case Stop():
                    running = self.running
                    await self._close()
                    envelope.answer(running)
                case Delete():
                    envelope.answer(await self._delete())
                case Expire(before):
                    envelope.answer(await self._expire(before))
                case Rename(name):
                    await self._rename(name)
                    envelope.answer(None)
                case Create(name, beginning):
                    await self._create(name, beginning)
                    envelope.answer(None)
        except SessionError as error:
            envelope.fail(error)
        except BaseException as error:
            envelope.fail(self._not_carried_out(error))
            if is_ending(error):
                raise

    async def _start(self, name: str | None) -> None:
        self._around.directory.claim(self.session_id)
        try:
            if await self._open_existing(name, creating=True) is not None:
                return
            directory = self._around.directory
            planned = directory.plan(self.session_id, name or directory.unused_name())
            try:
                await self._open(planned, create=True)
            except SessionExistsError:
                # A file of that name: other hands may just have put the session there.
                if await self._open_existing(name) is None:
                    raise
        finally:
            self._release_if_closed()

    async def _create(self, name: str | None, beginning: Origin | Decision) -> None:
        directory, copies = self._around.directory, self._around.copies
        directory.claim(self.session_id)
        try:
            if existing := await directory.find(self.session_id, creating=True):
                raise SessionExistsError(
                    f"session {self.session_id!r} exists, named {existing.name!r}; use another id",
                    session_id=self.session_id,
                )
            planned = directory.plan(self.session_id, name or directory.unused_name())
            if isinstance(beginning, Origin):
                await copies.make(beginning, partial(self._open, planned, create=True))
            else:
                await self._open(planned, beginning, create=True)
        finally:
            self._release_if_closed()

    async def _delete(self) -> bool:
        self._around.directory.claim(self.session_id)
        try:
            # What a crash leaves until the file is gone is a session, and in the catalog.
            await self._around.catalog.taken(self.session_id)
            await self._close(release=False)
            deleted = await self._around.directory.remove(self.session_id)
            self._around.catalog.deleted(self.session_id)
            self._around.running.discard(self.session_id)
            if deleted:
                self._around.hub.deleted(self.session_id)
        finally:
            self._release_if_closed()
        self.mailbox.fail_requests(not_found(self.session_id))
        return deleted

    async def _expire(self, before: int) -> bool:
        if self.running or self.mailbox:
            return False  # it is in use
        try:
            if await self._open_existing() is None or self._store is None:
                return False
            info = self._store.info()
            if info.state == "running" or info.last_at > before or self.mailbox:
                return False
            return await self._delete()
        finally:
            await self._close()

    async def _rename(self, name: str | None) -> None:
        self._around.directory.claim(self.session_id)
        try:
            file = await self._open_existing()
            if file is None:
                raise not_found(self.session_id)
            name = name or self._around.directory.unused_name()
            if file.name == name:
                return
            planned = self._around.directory.plan(self.session_id, name)
            with self._around.copies.moving(self.session_id):
                decision = await self._store_name(planned.name)
                await self._close(release=False)  # checkpoints the log, unless somebody reads it
                await self._around.directory.rename(self.session_id, planned.name)
            self._around.catalog.renamed(self.session_id, planned.name)
            self._around.hub.renamed(self.session_id, decision.steps, decision.state)
        finally:
            self._release_if_closed()

    async def _store_name(self, name: str) -> Decision:
        assert self._store is not None
        try:
            decision = await self._store.commit([Write((SetName(name),))])
        except BaseException:
            # It may be stored: opened again, the session tells, and has its file's name.
            await self._close(release=False)
            raise
        self._committed(self._store, decision)
        return decision

    async def _open_existing(
        self, name: str | None = None, *, creating: bool = False
    ) -> SessionFile | None:
        """Open the session's file, or return `None` where there is none."""
        directory = self._around.directory
        for _ in range(2):
            # Opening tells by itself whether the file is a session: no hop for that before.
            file = await directory.find(self.session_id, creating=creating, look=False)
            if file is not None and name not in (None, file.name):
                file = await directory.find(self.session_id)
            if file is None:
                return None
            if name not in (None, file.name):
                raise SessionExistsError(
                    f"session {self.session_id!r} exists under the name {file.name!r}, not"
                    f" {name!r}; start it without a name, or rename it",
                    session_id=self.session_id,
                )
            if self._store is not None:
                return file
            try:
                await self._open(file, create=False)
            except SessionNotFoundError:
                directory.vanished(file)  # removed or renamed by other hands
                creating = False
            else:
                return file
        return None

    async def _open(
        self, file: SessionFile, beginning: Origin | Decision | None = None, *, create: bool
    ) -> None:
        around = self._around
        around.directory.claim(self.session_id)
        try:
            await around.capacity.acquire(self)
            opening = around.directory.opening(file, around.durability, create=create)
            opening = opening._replace(token=around.token, beginning=beginning)
            left_open = around.durability == "normal" and files.has_log(file.path)
            if create:
                await around.catalog.forgotten(self.session_id)
                with around.directory.creating(file):
                    self._store = await around.open_store(opening)
            else:
                self._store = await around.open_store(opening)
        except BaseException as error:
            if isinstance(error, SessionError) or is_ending(error):
                raise
            raise self._not_carried_out(error, file.path) from error
        finally:
            if self._store is None:
                around.capacity.release(self)
                self._release_if_closed()
        around.counters.activations += 1
        info = self._store.info()
        self._revision = info.revision
        if isinstance(beginning, Decision):
            around.catalog.committed(self.session_id, 0, beginning.steps, info)
        else:
            around.catalog.opened(info)
        if left_open:
            # A power loss may have taken what the catalog has, and soon there is as much again.
            await around.catalog.taken(self.session_id)
        self._note_running(info.state)
        around.hub.opened(self.session_id, info.revision, created=create)

    async def _close(self, *, release: bool = True) -> None:
        store, self._store = self._store, None
        if store is None:
            return
        self.mailbox.resume()
        try:
            # Were the process killed after this, nobody would look at the file again.
            await self._around.catalog.taken(self.session_id)
            await store.close()
        except Exception:
            # What was answered is stored; the file will say more when it is opened again.
            logger.exception("closing session %r failed", self.session_id)
        finally:
            self._around.capacity.release(self)
            self._around.counters.passivations += 1
            if release:
                self._release_if_closed()

    def _release_if_closed(self) -> None:
        if self._store is None and self.session_id not in self._around.running:
            self._around.directory.release(self.session_id)

    def _not_carried_out(self, error: BaseException, path: Path | None = None) -> SessionError:
        file = self._around.directory.known(self.session_id)
        path = path or (file and file.path)
        failure = StorageError(
            f"session {self.session_id!r} in {path or 'memory'} could not be opened or changed:"
            f" {error!r}",
            path=path,
            session_id=self.session_id,
        )
        failure.__cause__ = error
        return failure
