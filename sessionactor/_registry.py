"""The registry: the only place where actor, store, mailbox and handle meet."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

from sessionactor import _names as names
from sessionactor._arguments import Arguments
from sessionactor._batch import Batch
from sessionactor._commands import Create, Delete, Start, Stop
from sessionactor._deciding import begin
from sessionactor._errors import InvalidValueError, RegistryClosedError, SessionError, not_found
from sessionactor._leafing import Leafing
from sessionactor._opening import Durability
from sessionactor._read_only import refusal
from sessionactor._records import RegistryStatistics, SessionFile
from sessionactor._requests import Compact, Operation, Write
from sessionactor._session import Session
from sessionactor._settings import (
    DEFAULT_IDLE_TIMEOUT_S,
    DEFAULT_MAILBOX_SIZE,
    DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_SUBSCRIBER_BUFFER,
    Settings,
    affordable,
)
from sessionactor._store import OpenStore, open_store
from sessionactor._subscription import Subscription
from sessionactor._supervisor import Supervisor
from sessionactor._text import TextOf
from sessionactor._times import now


class SessionRegistry(Leafing):
    """Owns the actors of one directory: starts, finds, passivates and stops them.

    Use it as an async context manager, or call `open` and `aclose`. It belongs to the
    event loop and the process in which it was opened.

    Args:
        directory: Where the session files are; made if it does not exist. `None`: sessions
            live in memory and end with the registry.
        durability: `"full"`: a write that returned survives power loss. `"normal"`: it
            survives the death of the process; after a power loss a session is a prefix of
            its history and goes on from there.
        max_active: How many sessions hold an open file and a thread at once; others are
            passivated and wait. `None`: what the limit of open files allows.
        idle_timeout_s: Seconds after which a session that nobody asks is passivated;
            `None`: never.
        mailbox_size: Requests that wait for one session before callers wait to get in.
        max_message_bytes: How large one encoded message may be.
        subscriber_buffer: Events that may wait for a subscriber before it is told that it
            lagged; 64 MiB of messages are as many.
        read_only: Read sessions that others own, or nobody. Nothing in the directory is
            written, made or locked; what would change a session raises `ReadOnlyError`.
        open_store: Opens a session's store: the seam for another one.
        catalog: Whether there is an index over all sessions: what listing, searching and all
            else that looks at more than one session needs. All registries of a directory
            should be told the same: what one without it does is not in the catalog.
        text_of: What text a message has, for `search`; `None`: what is text in the shapes that
            people use. It is called in other threads, and what it raises is no text.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None,
        *,
        durability: Durability = "full",
        max_active: int | None = None,
        idle_timeout_s: float | None = DEFAULT_IDLE_TIMEOUT_S,
        mailbox_size: int = DEFAULT_MAILBOX_SIZE,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        subscriber_buffer: int = DEFAULT_SUBSCRIBER_BUFFER,
        read_only: bool = False,
        open_store: OpenStore = open_store,
        catalog: bool = True,
        text_of: TextOf | None = None,
    ) -> None:
        self._path = None if directory is None else Path(os.path.abspath(directory))
        self._settings = Settings(
            durability,
            affordable() if max_active is None else max_active,
            idle_timeout_s,
            mailbox_size,
            max_message_bytes,
            subscriber_buffer,
            open_store,
            catalog,
            text_of,
            read_only,
        )
        if read_only and self._path is None:
            raise InvalidValueError("read_only is for sessions in a directory, not in memory")
        self._supervisor: Supervisor | None = None
        self._handles: WeakValueDictionary[str, Session] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<SessionRegistry {str(self._path) if self._path else 'in memory'!r}>"

    @property
    def max_message_bytes(self) -> int:
        """How large one encoded message may be."""
        return self._settings.max_message_bytes

    async def __aenter__(self) -> SessionRegistry:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Scan the directory and get ready; idempotent.

        Raises:
            StorageError: the directory cannot be used.
        """
        if self._supervisor is None:
            self._supervisor = self._supervise()
        supervisor = self._usable()
        try:
            await supervisor.started()
        except BaseException:
            if self._supervisor is supervisor:
                self._supervisor = None
            raise

    async def aclose(self) -> None:
        """Take no more requests, serve those accepted, and close every file; idempotent.

        Cancelling it does not cut it short: it ends, and is cancelled then.
        """
        supervisor = self._supervisor
        if supervisor is None:
            return
        supervisor.check_place()
        try:
            await supervisor.stop()
        finally:
            if self._supervisor is supervisor:
                self._supervisor = None

    async def start(self, session_id: str | None = None, *, name: str | None = None) -> Session:
        """Open the session or create it, and start its actor.

        A running session is returned as it is. Creating is atomic: no crash leaves half a
        session. Cancelled, the session may have been created. A session that other hands than
        a registry's put into a large directory at this very moment may be overlooked.

        Args:
            session_id: 1 to 200 characters; `None`: a fresh random one.
            name: Its name, if it is created; `None`: a readable one that is not in use yet.

        Raises:
            SessionExistsError: the session exists under another name.
            ReadOnlyError: it does not exist, and the registry is read-only.
            InvalidNameError: that cannot be an id or name; nothing was created.
            SessionOwnedError: another process or registry owns it.
            SchemaVersionError: a newer version of this package wrote it.
            StorageError: the disk failed.
        """
        supervisor = self._usable()
        if session_id is None:
            self._check_writable()
        session_id = self._new_id(session_id)
        if name is not None:
            name = names.check(name, "name")
        await supervisor.command(session_id, Start(name))
        return self._handle(session_id)

    def create(self, session_id: str, *, name: str | None = None) -> Batch:
        """Collect in `async with` what a new session begins with; at its end it is created.

        It is there with all of that or not at all, and whoever creates it is the only one.
        It costs no more than an empty session does. Nothing is done when the block raises.

            async with registry.create("a1b2c3d4") as batch:
                batch.set_context(channel_id="telegram")
                batch.append("agent-1", {"role": "user", "content": "hello"})

        Args:
            session_id: 1 to 200 characters.
            name: `None`: a readable one that is not in use yet.

        Raises:
            SessionExistsError: there is a session of that id; it is left as it is.
            InvalidNameError: that cannot be an id or name.
            ReadOnlyError: the registry is read-only.
            SessionOwnedError: another process or registry owns it.
            StorageError: the disk failed.
        """
        self._usable()
        session_id = names.check(session_id, "id")
        if name is not None:
            name = names.check(name, "name")
        self._check_writable(session_id)

        async def create(operations: tuple[Operation, ...]) -> tuple[int | None, ...]:
            beginning = begin(session_id, Write(operations), now())
            (answer,) = beginning.answers
            if isinstance(answer, SessionError):
                raise answer
            await self._usable().command(session_id, Create(name, beginning))
            return answer

        return Batch(Arguments(session_id, self.max_message_bytes), create)

    def session(self, session_id: str) -> Session:
        """A handle, without I/O; its first call activates the session, and never creates one.

        Raises:
            InvalidNameError: that cannot be an id.
        """
        self._usable()
        return self._handle(names.check(session_id, "id"))

    def whereis(self, session_id: str) -> Session | None:
        """A handle, if the session's actor is running now."""
        running = self._usable().is_running(names.check(session_id, "id"))
        return self._handle(session_id) if running else None

    async def stop(self, session_id: str) -> bool:
        """Serve what was asked, and close the session now; whether its actor was running.

        The file stays, and a later request activates the session again.

        Raises:
            SessionNotFoundError: no such session exists.
        """
        session_id = names.check(session_id, "id")
        supervisor = self._usable()
        if supervisor.is_active(session_id) and await supervisor.command(session_id, Stop()):
            return True
        if not await self.exists(session_id):
            raise not_found(session_id)
        return False

    async def delete(self, session_id: str) -> bool:
        """Stop the session and remove its files, for good; whether there was one.

        Requests made before this returns were served or get `SessionNotFoundError`; none
        reaches a session that is created again under the id.

        Raises:
            SessionOwnedError: another process or registry owns it.
            StorageError: the disk failed.
        """
        supervisor = self._usable()
        session_id = names.check(session_id, "id")
        self._check_writable(session_id)
        deleted: bool = await supervisor.command(session_id, Delete())
        return deleted

    def statistics(self) -> RegistryStatistics:
        """What this registry does and did."""
        return self._usable().statistics()

    async def ask(self, session_id: str, request: object) -> Any:
        """Carry a request to a session's actor and its answer back: what handles call."""
        supervisor = self._supervisor
        if supervisor is None or supervisor.is_elsewhere():
            supervisor = self._usable()
        if self._settings.read_only and isinstance(request, Write | Compact):
            self._check_writable(session_id)
        mailbox = supervisor.mailbox(session_id)
        envelope = await mailbox.put(request) if mailbox.full else mailbox.post(request)
        return await envelope.reply

    def subscribe(self, session_id: str, since: int | None, agent_id: str | None) -> Subscription:
        """Follow a session: what `Session.subscribe` calls."""
        cursor = self._usable().follow(session_id)
        return Subscription(partial(self.ask, session_id), cursor, session_id, since, agent_id)

    async def rename(self, session_id: str, name: str | None) -> None:
        """Give a session another name: what `Session.rename` calls."""
        if name is not None:
            name = names.check(name, "name")
        supervisor = self._usable()
        self._check_writable(session_id)
        await supervisor.rename(session_id, name)

    async def fork(
        self,
        session_id: str,
        new_id: str | None,
        name: str | None,
        before: int | None,
        whole_turns: bool,
    ) -> Session:
        """Create a session with the history of another one: what `Session.fork` calls."""
        new_id = self._new_id(new_id)
        if name is not None:
            name = names.check(name, "name")
        supervisor = self._usable()
        self._check_writable(new_id)
        origin = await supervisor.origin(session_id)
        origin = origin._replace(before=before, whole_turns=whole_turns)
        await supervisor.command(new_id, Create(name, origin))
        return self._handle(new_id)

    async def back_up(self, session_id: str, path: Path) -> None:
        """Write a copy of a session to a new file: what `Session.backup` calls."""
        await self._usable().back_up(session_id, path)

    def file_of(self, session_id: str) -> SessionFile:
        """What the index knows of a session: what handles ask for their name and path."""
        file = self._usable().known(session_id)
        if file is None:
            raise not_found(session_id)
        return file

    def _handle(self, session_id: str) -> Session:
        handle = self._handles.get(session_id)
        if handle is None:
            handle = self._handles[session_id] = Session(self, session_id, self.max_message_bytes)
        return handle

    def _new_id(self, session_id: str | None) -> str:
        """The id of a session that is to be created."""
        if session_id is not None:
            return names.check(session_id, "id")
        session_id = names.new_session_id()
        while self._usable().known(session_id) is not None:
            session_id = names.new_session_id()
        return session_id

    def _check_writable(self, session_id: str | None = None) -> None:
        """Refuse what would change a session.

        Raises:
            ReadOnlyError: the registry is read-only.
        """
        if self._settings.read_only:
            raise refusal(self._path, session_id)

    def _usable(self) -> Supervisor:
        supervisor = self._supervisor
        if supervisor is None:
            raise RegistryClosedError(f"{self!r} is not open; use it in `async with`")
        supervisor.check_place()
        supervisor.check_open()
        return supervisor

    def _supervise(self) -> Supervisor:
        return Supervisor(repr(self), self._path, self._settings)


__all__ = ["SessionRegistry"]
