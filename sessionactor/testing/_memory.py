"""A store that lives in the event loop: SQLite in memory, no thread, no file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypedDict, Unpack

from sessionactor import _opening as opening_
from sessionactor._changes import StoredInfo
from sessionactor._content import Content
from sessionactor._deciding import Decision
from sessionactor._errors import SessionNotFoundError
from sessionactor._opening import Durability, Opening
from sessionactor._registry import SessionRegistry
from sessionactor._requests import Read, Write
from sessionactor._sql import Connection
from sessionactor._store import OpenStore, Store
from sessionactor._text import TextOf
from sessionactor._times import now


async def _yield() -> None:
    await asyncio.sleep(0)


class MemoryVault:
    """Keeps the content of sessions while no store has them open.

    `open_store` is for a `SessionRegistry(None)`. Two registries, one after the other, that
    are given one vault do not see each other's sessions: which sessions there are is the
    registry's knowledge, not the store's.

    Args:
        hop: Awaited before and after every step of a store, in the place of the way to a
            thread and back: where a scheduler may let others go first. By default each
            is one turn of the event loop.
        clock: Microseconds since the epoch, for `inserted_at`.
    """

    def __init__(
        self, *, hop: Callable[[], Awaitable[None]] = _yield, clock: Callable[[], int] = now
    ) -> None:
        self.hop = hop
        self.clock = clock
        self._images: dict[str, bytes] = {}

    async def open_store(self, opening: Opening) -> Store:
        """Open or create a session.

        Raises:
            SessionNotFoundError: the vault has none of that id, and none is to be created.
        """
        await self.hop()
        session_id = opening.session_id
        if opening.create:
            self._images[session_id] = opening_.new_image(opening, self.clock())
        image = self._images.get(session_id)
        if image is None:
            raise SessionNotFoundError(
                f"session {session_id!r} is not in this vault", session_id=session_id
            )
        connection = sqlite3.connect(":memory:", isolation_level=None, factory=Connection)
        connection.deserialize(image)
        loaded = opening_.attend(opening, connection)
        await self.hop()
        content = Content(session_id, loaded, opening.token, self.clock)
        return MemoryStore(content, connection, self, session_id)

    def keep(self, session_id: str, image: bytes) -> None:
        """Take the content of a store that closes."""
        self._images[session_id] = image


class MemoryStore:
    """One session of a `MemoryVault`, with the code that runs on files."""

    def __init__(
        self, content: Content, connection: Connection, vault: MemoryVault, session_id: str
    ) -> None:
        self._content = content
        self._connection = connection
        self._vault = vault
        self._session_id = session_id

    async def commit(self, group: Sequence[Write]) -> Decision:
        """Decide a group and take it over, at one moment."""
        await self._vault.hop()
        decision = self._content.commit(group, self._connection)
        self._content.follow(decision)
        await self._vault.hop()
        return decision

    async def read(self, request: Read, max_rows: int) -> Any:
        """Answer a read as of one moment."""
        await self._vault.hop()
        answer = self._content.known(request)
        if answer is None:
            answer = self._content.read(request, max_rows, self._connection)
        await self._vault.hop()
        return answer

    def info(self) -> StoredInfo:
        """What the session is."""
        return self._content.info

    async def close(self) -> None:
        """Leave the content in the vault."""
        self._vault.keep(self._session_id, self._connection.serialize())
        self._connection.close()
        await self._vault.hop()


class RegistrySettings(TypedDict, total=False):
    """The keywords of `SessionRegistry`."""

    durability: Durability
    max_active: int | None
    idle_timeout_s: float | None
    mailbox_size: int
    max_message_bytes: int
    open_store: OpenStore
    catalog: bool
    text_of: TextOf | None


def memory_registry(**settings: Unpack[RegistrySettings]) -> SessionRegistry:
    """A registry for users' tests: in memory, in the event loop, nothing to clean up.

    It behaves as one on disk does, ids, keys, chapters, refusals, passivation and all, but
    nothing outlives it. It starts no threads, so that a test takes microseconds.

        async def test_my_agent_remembers() -> None:
            async with memory_registry() as registry:
                session = await registry.start("chat-1")
                await my_agent(session, "hello")
                assert [row.message["role"] for row in await session.messages()] == [
                    "user", "assistant",
                ]

    Args:
        settings: Keywords of `SessionRegistry`. To make it fail, give
            `open_store=faulty_store(faults, MemoryVault().open_store)`.
    """
    settings.setdefault("open_store", MemoryVault().open_store)
    return SessionRegistry(None, **settings)


__all__ = ["MemoryStore", "MemoryVault", "memory_registry"]
