"""This package, and what one would write without it."""
# ruff: noqa: D102  (the base classes say what their methods do)

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from time import time_ns
from typing import Any, ClassVar

import aiosqlite
import msgpack

from benchmarks.workloads import Message
from sessionactor import Row, Session, SessionRegistry

AGENT = "agent-1"


class Conversation:
    """One session of a candidate. What a candidate cannot do raises `NotImplementedError`."""

    async def append(self, message: Message) -> object:
        """Store one message."""
        raise NotImplementedError

    async def extend(self, messages: Sequence[Message]) -> object:
        """Store many."""
        for message in messages:
            await self.append(message)
        return None

    async def newest(self, limit: int) -> Sequence[object]:
        """The newest messages, oldest first."""
        raise NotImplementedError

    async def everything(self) -> Sequence[object]:
        """All messages, oldest first."""
        raise NotImplementedError


class Candidate:
    """A store with all its files in one directory, at `synchronous=FULL` unless told otherwise."""

    name: ClassVar[str]

    def __init__(self, directory: Path, synchronous: str = "FULL") -> None:
        self.directory = directory
        self.synchronous = synchronous
        self.resources = AsyncExitStack()

    async def __aenter__(self) -> Candidate:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.resources.aclose()

    async def open(self) -> None:
        """Open what all sessions share; `resources` closes it."""

    def session(self, session_id: str) -> AbstractAsyncContextManager[Conversation]:
        """A session, created on entering if there is none, and closed on leaving."""
        raise NotImplementedError


class OurConversation(Conversation):
    """A session of this package."""

    def __init__(self, session: Session) -> None:
        self.session = session

    async def append(self, message: Message) -> int:
        return await self.session.append(AGENT, message)

    async def extend(self, messages: Sequence[Message]) -> list[int]:
        return await self.session.extend(AGENT, messages)

    async def newest(self, limit: int) -> list[Row]:
        return await self.session.messages(limit=limit, newest=True)

    async def everything(self) -> list[Row]:
        return await self.session.messages()


class Ours(Candidate):
    """This package, as it comes."""

    name = "sessionactor"
    catalog = True

    async def open(self) -> None:
        durability: Any = self.synchronous.lower()
        self.registry = SessionRegistry(self.directory, durability=durability, catalog=self.catalog)
        await self.resources.enter_async_context(self.registry)

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncIterator[OurConversation]:
        yield OurConversation(await self.registry.start(session_id))
        await self.registry.stop(session_id)


class OursAlone(Ours):
    """This package without its catalog: what that costs is seen beside it."""

    name = "sessionactor, `catalog=False`"
    catalog = False


_COLUMNS = (
    "agent_id TEXT NOT NULL, data BLOB NOT NULL, inserted_at INTEGER NOT NULL,"
    " checkpoint INTEGER NOT NULL DEFAULT 0"
)
_INSERT = "INSERT INTO messages (agent_id, data, inserted_at, checkpoint) VALUES (?, ?, ?, ?)"
_SELECT = "SELECT id, agent_id, data, inserted_at, checkpoint FROM messages ORDER BY id"
_NEWEST = f"SELECT * FROM ({_SELECT} DESC LIMIT ?) ORDER BY id"


def values(message: Message) -> tuple[str, bytes, int, int]:
    """A message as the columns of a table."""
    return AGENT, msgpack.packb(message), time_ns() // 1000, message["role"] == "summary"


def rows(stored: Iterable[Sequence[Any]]) -> list[Row]:
    """What the tables below hold, as the rows that this package returns."""
    return [
        Row(
            db_id, agent_id, msgpack.unpackb(data), datetime.fromtimestamp(at / 1e6, UTC),
            checkpoint == 1, None, None, None, None, db_id,
        )
        for db_id, agent_id, data, at, checkpoint in stored
    ]  # fmt: skip


SESSION_ROWS = (
    "SELECT id, agent_id, data, inserted_at, checkpoint, keep_from, key, parent, turn, revision"
    " FROM messages"
)
"""In a session file of this package."""


def session_rows(stored: Iterable[Sequence[Any]]) -> list[Row]:
    """What `SESSION_ROWS` finds, as the rows that this package returns."""
    return [
        Row(
            db_id, agent_id, msgpack.unpackb(data), datetime.fromtimestamp(at / 1e6, UTC),
            checkpoint == 1, keep_from, key, parent, turn, revision,
        )
        for db_id, agent_id, data, at, checkpoint, keep_from, key, parent, turn, revision in stored
    ]  # fmt: skip


class RawConversation(Conversation):
    """A table, and nothing between it and the caller."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def commit(self, messages: Sequence[Message]) -> None:
        """Store messages in one transaction, without a thread or an event loop."""
        with self.connection:
            self.connection.executemany(_INSERT, map(values, messages))

    async def append(self, message: Message) -> None:
        self.commit([message])

    async def extend(self, messages: Sequence[Message]) -> None:
        self.commit(messages)

    async def newest(self, limit: int) -> list[Row]:
        return rows(self.connection.execute(_NEWEST, (limit,)))

    async def everything(self) -> list[Row]:
        return rows(self.connection.execute(_SELECT))


class RawSqlite(Candidate):
    """The standard library's `sqlite3`, a file per session, blocking whoever calls."""

    name = "raw sqlite3"

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncIterator[RawConversation]:
        with closing(sqlite3.connect(self.directory / f"{session_id}.db")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS messages(id INTEGER PRIMARY KEY, {_COLUMNS})"
            )
            yield RawConversation(connection)


class NaiveConversation(Conversation):
    """`execute`, then `commit`."""

    def __init__(self, database: aiosqlite.Connection) -> None:
        self.database = database

    async def append(self, message: Message) -> int | None:
        cursor = await self.database.execute(_INSERT, values(message))
        await self.database.commit()
        return cursor.lastrowid

    async def extend(self, messages: Sequence[Message]) -> None:
        await self.database.executemany(_INSERT, map(values, messages))
        await self.database.commit()

    async def newest(self, limit: int) -> list[Row]:
        return rows(await self.database.execute_fetchall(_NEWEST, (limit,)))

    async def everything(self) -> list[Row]:
        return rows(await self.database.execute_fetchall(_SELECT))


class NaiveAiosqlite(Candidate):
    """`aiosqlite` as its documentation shows it, a file per session."""

    name = "naive aiosqlite"

    def path(self, session_id: str) -> Path:
        """A session's file."""
        return self.directory / f"{session_id}.db"

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncIterator[NaiveConversation]:
        async with aiosqlite.connect(self.path(session_id)) as database:
            await database.execute("PRAGMA journal_mode = WAL")
            await database.execute(f"PRAGMA synchronous = {self.synchronous}")
            await database.execute(
                "CREATE TABLE IF NOT EXISTS messages"
                f"(id INTEGER PRIMARY KEY AUTOINCREMENT, {_COLUMNS})"
            )
            yield NaiveConversation(database)
