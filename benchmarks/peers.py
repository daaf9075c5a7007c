"""The session stores of agent frameworks, as their documentation has them used.

All run at `synchronous=FULL`: none of them sets it, and it is SQLite's default, which
`__main__` checks. Their packages are imported where they are used, so that a candidate whose
package is not installed fails alone.
"""
# ruff: noqa: D102  (the base classes say what their methods do)

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from typing import Any, ClassVar
from uuid import uuid4

from benchmarks.candidates import Candidate, Conversation
from benchmarks.workloads import Message


class Peer(Candidate):
    """A store of another package."""

    distribution: ClassVar[str]

    @classmethod
    def version(cls) -> str | None:
        """Which version is installed, if any."""
        try:
            return version(cls.distribution)
        except PackageNotFoundError:
            return None


class OpenAIConversation(Conversation):
    """What all the sessions of the OpenAI Agents SDK have in common."""

    def __init__(self, session: Any) -> None:
        self.session = session

    async def append(self, message: Message) -> None:
        await self.session.add_items([message])

    async def extend(self, messages: Sequence[Message]) -> None:
        await self.session.add_items(list(messages))

    async def newest(self, limit: int) -> Sequence[object]:
        items: Sequence[object] = await self.session.get_items(limit=limit)
        return items

    async def everything(self) -> Sequence[object]:
        items: Sequence[object] = await self.session.get_items()
        return items


class OpenAISQLite(Peer):
    """One database, a connection for each session and thread."""

    name = "openai SQLiteSession"
    distribution = "openai-agents"

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncIterator[Conversation]:
        from agents import SQLiteSession

        with closing(SQLiteSession(session_id, self.directory / "all.db")) as session:
            yield OpenAIConversation(session)


class OpenAIAsyncSQLite(Peer):
    """One database, a connection for each session."""

    name = "openai AsyncSQLiteSession"
    distribution = "openai-agents"

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncIterator[Conversation]:
        from agents.extensions.memory import AsyncSQLiteSession

        session = AsyncSQLiteSession(session_id, self.directory / "all.db")
        try:
            yield OpenAIConversation(session)
        finally:
            await session.close()


class OpenAIAdvancedSQLite(Peer):
    """SQLiteSession with branches and usage."""

    name = "openai AdvancedSQLiteSession"
    distribution = "openai-agents"

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncIterator[Conversation]:
        from agents.extensions.memory import AdvancedSQLiteSession

        path = self.directory / "all.db"
        with closing(
            AdvancedSQLiteSession(session_id=session_id, db_path=path, create_tables=True)
        ) as session:
            yield OpenAIConversation(session)


class OpenAISQLAlchemy(Peer):
    """One database behind one engine."""

    name = "openai SQLAlchemySession"
    distribution = "openai-agents"

    async def open(self) -> None:
        from sqlalchemy.ext.asyncio import create_async_engine

        self.engine = create_async_engine(f"sqlite+aiosqlite:///{self.directory / 'all.db'}")
        self.resources.push_async_callback(self.engine.dispose)

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncIterator[Conversation]:
        from agents.extensions.memory import SQLAlchemySession

        yield OpenAIConversation(
            SQLAlchemySession(session_id, engine=self.engine, create_tables=True)
        )


class LangGraphConversation(Conversation):
    """A checkpoint per message, which holds only that one: less than LangGraph itself saves."""

    def __init__(self, saver: Any, session_id: str) -> None:
        from langgraph.checkpoint.base import empty_checkpoint
        from langgraph.checkpoint.base.id import uuid6

        self._empty, self._uuid6 = empty_checkpoint, uuid6
        self._saver = saver
        self._config = {"configurable": {"thread_id": session_id, "checkpoint_ns": ""}}
        self._steps = count()

    async def append(self, message: Message) -> None:
        step = next(self._steps)
        checkpoint = {
            **self._empty(),
            "id": str(self._uuid6(clock_seq=step)),
            "channel_values": {"messages": [message]},
            "channel_versions": {"messages": step},
        }
        metadata = {"source": "loop", "step": step, "parents": {}}
        self._config = await self._saver.aput(
            self._config, checkpoint, metadata, {"messages": step}
        )


class LangGraph(Peer):
    """One database, one connection, one lock."""

    name = "LangGraph AsyncSqliteSaver.aput"
    distribution = "langgraph-checkpoint-sqlite"

    async def open(self) -> None:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        self.saver = await self.resources.enter_async_context(
            AsyncSqliteSaver.from_conn_string(str(self.directory / "all.db"))
        )

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncIterator[Conversation]:
        yield LangGraphConversation(self.saver, session_id)


class AdkConversation(Conversation):
    """An event per message, through a session object that is never stale."""

    def __init__(self, service: Any, session_id: str) -> None:
        from google.adk.events import Event
        from google.adk.sessions import Session
        from google.adk.sessions.base_session_service import GetSessionConfig
        from google.genai import types

        self._event, self._session, self._config = Event, Session, GetSessionConfig
        self._types = types
        self._service = service
        self._whose = {"app_name": "app", "user_id": "user"}
        self._session_id = session_id

    async def create(self) -> Any:
        """Create the session; ADK's object of it."""
        return await self._service.create_session(**self._whose, session_id=self._session_id)

    async def append(self, message: Message) -> None:
        fresh = self._session(**self._whose, id=self._session_id, last_update_time=math.inf)
        await self._service.append_event(fresh, self._event_of(message))

    def _event_of(self, message: Message) -> Any:
        part = self._types.Part(text=message["content"])
        content = self._types.Content(role="user", parts=[part])
        return self._event(author="user", content=content)

    async def newest(self, limit: int) -> Sequence[object]:
        return await self._events(self._config(num_recent_events=limit))

    async def everything(self) -> Sequence[object]:
        return await self._events(None)

    async def _events(self, config: Any) -> Sequence[object]:
        session = await self._service.get_session(
            **self._whose, session_id=self._session_id, config=config
        )
        events: Sequence[object] = session.events
        return events


class AdkSqlite(Peer):
    """One database in rollback-journal mode, a connection for each call."""

    name = "ADK SqliteSessionService"
    distribution = "google-adk"

    async def open(self) -> None:
        from google.adk.sessions.sqlite_session_service import SqliteSessionService

        self.service: Any = SqliteSessionService(str(self.directory / "all.db"))
        self.resources.push_async_callback(self.service.close)

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncIterator[Conversation]:
        conversation = AdkConversation(self.service, session_id)
        await conversation.create()
        yield conversation

    async def create(self, session_id: str) -> None:
        """A session without events."""
        await AdkConversation(self.service, session_id).create()

    async def listed(self) -> Sequence[object]:
        """All sessions: there are no pages."""
        found = await self.service.list_sessions(app_name="app", user_id="user")
        sessions: Sequence[object] = found.sessions
        return sessions


class AdkDatabase(AdkSqlite):
    """One database in rollback-journal mode, behind SQLAlchemy."""

    name = "ADK DatabaseSessionService"

    async def open(self) -> None:
        from google.adk.sessions import DatabaseSessionService

        path = self.directory / "all.db"
        self.service = DatabaseSessionService(f"sqlite+aiosqlite:///{path}")
        self.resources.push_async_callback(self.service.close)


class AgnoConversation(Conversation):
    """A run per message, saved on the event loop: no thread hop."""

    def __init__(self, database: Any, session_id: str) -> None:
        from agno.models.message import Message as AgnoMessage
        from agno.run.agent import RunOutput

        self._message, self._run = AgnoMessage, RunOutput
        self._database = database
        self._session_id = session_id
        self._indices = count()

    async def append(self, message: Message) -> None:
        run = self._run(
            run_id=str(uuid4()),
            session_id=self._session_id,
            agent_id="agent-1",
            messages=[self._message(role=message["role"], content=message["content"])],
        )
        self._database.upsert_run(run, self._session_id, run_index=next(self._indices))


class Agno(Peer):
    """One database behind SQLAlchemy, synchronous."""

    name = "agno SqliteDb"
    distribution = "agno"

    async def open(self) -> None:
        from agno.db.sqlite import SqliteDb

        self.database = SqliteDb(db_file=str(self.directory / "all.db"))
        self.resources.callback(self.database.close)

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncIterator[Conversation]:
        from agno.session import AgentSession

        self.database.upsert_session(AgentSession(session_id=session_id, agent_id="agent-1"))
        yield AgnoConversation(self.database, session_id)


PEERS: tuple[type[Peer], ...] = (
    OpenAISQLite,
    OpenAIAsyncSQLite,
    OpenAIAdvancedSQLite,
    OpenAISQLAlchemy,
    LangGraph,
    AdkSqlite,
    AdkDatabase,
    Agno,
)
"""All, installed or not."""
