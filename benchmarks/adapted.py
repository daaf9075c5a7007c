"""The frameworks' own interfaces on this package: what `peers` measures, kept in sessions.

A LangGraph conversation is a graph's here: each checkpoint holds all messages so far.
"""
# ruff: noqa: D102  (the base classes say what their methods do)

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from benchmarks.candidates import Candidate, Conversation
from benchmarks.peers import (
    AdkConversation,
    AdkDatabase,
    AdkSqlite,
    LangGraph,
    OpenAIConversation,
)
from benchmarks.workloads import Message
from sessionactor import SessionRegistry


class OnSessions(Candidate):
    """An adapter on a registry of its own."""

    async def open(self) -> None:
        self.registry = SessionRegistry(self.directory)
        await self.resources.enter_async_context(self.registry)


class ActorOpenAI(OnSessions):
    """`ActorSession`."""

    name = "ActorSession"

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncIterator[Conversation]:
        from sessionactor.adapters.openai_agents import ActorSession

        yield OpenAIConversation(ActorSession(session_id, self.registry))


class GraphConversation(Conversation):
    """A thread of a graph that keeps its messages in a channel."""

    def __init__(self, saver: Any, thread_id: str) -> None:
        from langchain_core.messages import HumanMessage
        from langgraph.checkpoint.base import empty_checkpoint
        from langgraph.checkpoint.base.id import uuid6

        self._human, self._empty, self._uuid6 = HumanMessage, empty_checkpoint, uuid6
        self._saver = saver
        self._thread = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        self._config: Any = self._thread
        self._steps = count()
        self._messages: list[Any] = []

    async def append(self, message: Message) -> None:
        step = next(self._steps)
        self._messages.append(self._human(message["content"], id=f"m{step}"))
        version = f"{step + 1:032}.0"
        checkpoint = {
            **self._empty(),
            "id": str(self._uuid6(clock_seq=step)),
            "channel_values": {"messages": list(self._messages)},
            "channel_versions": {"messages": version},
        }
        metadata = {"source": "loop", "step": step, "parents": {}}
        self._config = await self._saver.aput(
            self._config, checkpoint, metadata, {"messages": version}
        )

    async def newest(self, limit: int) -> Sequence[object]:
        found = await self._saver.aget_tuple(self._thread)
        messages: Sequence[object] = found.checkpoint["channel_values"]["messages"]
        return messages[-limit:]


class Threads(Candidate):
    """Threads of graphs, with whole conversations."""

    saver: Any

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncIterator[Conversation]:
        yield GraphConversation(self.saver, session_id)

    async def listed(self, limit: int | None = None) -> Sequence[object]:
        """Checkpoints of all threads."""
        return [one async for one in self.saver.alist(None, limit=limit)]


class Graph(Threads, LangGraph):
    """LangGraph's own saver."""

    name = "AsyncSqliteSaver"


class GraphInMemory(Threads):
    """LangGraph's saver without a file: what is left is the framework's own work."""

    name = "InMemorySaver, which has no file"

    async def open(self) -> None:
        from langgraph.checkpoint.memory import InMemorySaver

        self.saver = InMemorySaver()


class ActorGraph(Threads, OnSessions):
    """`ActorSaver`."""

    name = "ActorSaver"

    async def open(self) -> None:
        from sessionactor.adapters.langgraph import ActorSaver

        await super().open()
        self.saver = ActorSaver(self.registry)


class Turns(AdkConversation):
    """An event after another, through the session object that ADK gave, as its runner does."""

    async def create(self) -> Any:
        self._given = await super().create()
        return self._given

    async def append(self, message: Message) -> None:
        await self._service.append_event(self._given, self._event_of(message))
        self._given.events.clear()  # a runner reads them again for each turn


class Adk(AdkSqlite):
    """ADK's own service, with a runner's session objects."""

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncIterator[Conversation]:
        turns = Turns(self.service, session_id)
        await turns.create()
        yield turns


class AdkOnDatabase(Adk):
    """ADK's other one."""

    name = AdkDatabase.name
    open = AdkDatabase.open


class AdkInMemory(Adk):
    """ADK's service without a file: what is left is the framework's own work."""

    name = "InMemorySessionService, which has no file"

    async def open(self) -> None:
        from google.adk.sessions import InMemorySessionService

        self.service = InMemorySessionService()


class ActorAdk(Adk):
    """`ActorSessionService`."""

    name = "ActorSessionService"

    async def open(self) -> None:
        from sessionactor.adapters.google_adk import ActorSessionService

        registry = SessionRegistry(self.directory)
        await self.resources.enter_async_context(registry)
        self.service = ActorSessionService(registry)
