"""A thread of LangGraph in its session, read: its checkpoints, their values and writes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final, NamedTuple
from weakref import ref

from sessionactor import Page, Row, Session, SessionNotFoundError, SessionRegistry
from sessionactor.adapters import _langgraph_messages as chains
from sessionactor.adapters import _langgraph_rows as rows
from sessionactor.adapters._langgraph_bases import Bases
from sessionactor.adapters._langgraph_messages import Element
from sessionactor.adapters._langgraph_rows import Base, Value, Whole

_PAGE: Final = 32


class Found(NamedTuple):
    """A checkpoint as it is stored, and what was written after it."""

    row: Row
    """What it is; of one that was put again, another row than its first one."""
    writes: list[Mapping[str, Any]]

    @property
    def message(self) -> dict[Any, Any]:
        """The row's content."""
        return self.row.message


class Known:
    """What was met of a thread's rows already, and is not read again."""

    def __init__(self) -> None:
        self.elements: dict[int, Element] = {}
        self.held: dict[int, Mapping[str, Any]] = {}
        """Rows that have values for others to name, and these."""

    def learn(self, page: Iterable[Row]) -> None:
        """Know a page of a walk. What comes after it names nothing that came before it."""
        self.held.clear()
        for row in page:
            if rows.kind_of(row.message) == chains.MESSAGE:
                self.elements[row.db_id] = chains.element(row.db_id, row.message)
            elif (held := row.message.get("values")) is not None:
                self.held[row.db_id] = held


class Reading:
    """What can be asked of a thread. Base of `Thread`."""

    def __init__(
        self, registry: SessionRegistry, session_id: str, thread_id: str, bases: Bases
    ) -> None:
        self._registry = ref(registry)  # whose threads this is one of
        self.thread_id = thread_id
        self.session_id = session_id
        self._newest: dict[str, str | None] = {}
        self._bases = bases

    @property
    def session(self) -> Session:
        """Its session, which may not exist."""
        return self.registry.session(self.session_id)

    @property
    def registry(self) -> SessionRegistry:
        """Where its session is."""
        registry = self._registry()
        assert registry is not None, "the saver that calls holds it"
        return registry

    async def get(self, namespace: str, checkpoint_id: str | None) -> Found | None:
        """A checkpoint; without an id the one that was put last."""
        try:
            if checkpoint_id is None:
                async with aclosing(self.walk(namespace)) as walk:
                    return await anext(walk, None)
            row = await self._row(namespace, checkpoint_id)
            if row is None:
                return None
            return await self._found(row, await self._writes_after(row, namespace))
        except SessionNotFoundError:
            return None

    async def walk(
        self, namespace: str | None, known: Known | None = None, latest: Page | None = None
    ) -> AsyncGenerator[Found]:
        """The checkpoints of a namespace or of all, the newest first.

        Between two of them nothing is held, and what is put meanwhile does not come. `known`
        learns what is met; `latest` is the latest chapter, where it was read already.
        """
        if namespace and namespace not in self._newest and not await self._has(namespace):
            return
        agent = None if namespace is None else rows.agent_of(namespace)
        waiting: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        try:
            async for page in self._chapters(agent, latest):
                if known is not None:
                    known.learn(page.rows)
                for row in reversed(page.rows):
                    kind = rows.kind_of(row.message)
                    if kind == rows.WRITES:
                        waiting.setdefault(_place(row), []).append(row.message)
                    elif kind == rows.CHECKPOINT:
                        found = await self._found(row, reversed(waiting.pop(_place(row), [])))
                        if found is not None:
                            yield found
        except SessionNotFoundError:
            return

    async def _chapters(self, agent: str | None, latest: Page | None) -> AsyncGenerator[Page]:
        session = self.session
        page = latest or await session.messages_from_latest_checkpoint(agent_id=agent)
        yield page
        while page.checkpoint_id is not None and page.checkpoint_id > 1:  # that is the first row
            page = await session.messages_before_checkpoint(page.checkpoint_id, agent_id=agent)
            yield page

    async def ancestors(self, found: Found) -> AsyncGenerator[Found]:
        """The checkpoints that one goes back to, the nearest first.

        They nearly always lie in the order in which they were put: one walk meets them all.
        """
        namespace, parent = found.message["namespace"], found.message["parent"]
        met = {None, found.message["id"]}  # one that was put again may go back to itself
        async with aclosing(self.walk(namespace)) as walk:
            async for one in walk:
                if parent in met:
                    return
                if one.message["id"] == parent:
                    met.add(parent)
                    yield one
                    parent = one.message["parent"]
        while parent not in met and (ancestor := await self.get(namespace, parent)) is not None:
            met.add(parent)
            yield ancestor
            parent = ancestor.message["parent"]

    async def values(self, found: Found, versions: Mapping[str, Any], known: Known) -> Base | None:
        """The values of a checkpoint, serialized; `None`: it was removed meanwhile.

        What is `known` of messages is not read again.

        Raises:
            LookupError: other hands removed rows that it needs.
        """
        try:
            return await self._values(found, versions, known)
        except SessionNotFoundError:
            return None
        except LookupError:
            if await self._row(found.message["namespace"], found.message["id"]) is None:
                return None
            raise

    async def _values(self, found: Found, versions: Mapping[str, Any], known: Known) -> Base:
        message, db_id = found.message, found.row.db_id
        cached = self._bases.get(self.thread_id, message["namespace"])
        if cached is not None and cached.checkpoint_id == message["id"]:
            return cached
        values: dict[str, Value] = {
            channel: Whole(db_id, chains.typed(held))
            for channel, held in message.get("values", {}).items()
        }
        for channel, holder in message.get("named", {}).items():
            if holder not in known.held:
                row = await self.session.get(holder)
                known.held[holder] = {} if row is None else row.message.get("values", {})
            if channel not in known.held[holder]:
                raise self._lost(found, holder)
            values[channel] = Whole(holder, chains.typed(known.held[holder][channel]))
        for channel, runs in message.get("lists", {}).items():
            elements: list[Element] = []
            for run in chains.settled_runs(db_id, runs):
                elements += await self._run(found, channel, run, known)
            values[channel] = chains.Chain.of(elements)
        return Base(message["id"], dict(versions), values, message["since"])

    async def _run(
        self, found: Found, channel: str, run: chains.Run, known: Known
    ) -> list[Element]:
        first, last, _ = run
        if (elements := chains.chain(run, known.elements)) is None:
            speaker = rows.speaker_of(channel, found.message["namespace"])
            for row in await self.session.messages(
                agent_id=speaker, after=first - 1, before=last + 1
            ):
                if rows.kind_of(row.message) == chains.MESSAGE:
                    known.elements[row.db_id] = chains.element(row.db_id, row.message)
            elements = chains.chain(run, known.elements)
        if elements is None:
            raise self._lost(found, first)
        return elements

    def _lost(self, found: Found, db_id: int) -> LookupError:
        return LookupError(
            f"checkpoint {found.message['id']!r} of thread {self.thread_id!r} needs row {db_id}"
            f" or one after it, which somebody removed from session {self.session_id!r}"
        )

    async def _row(self, namespace: str, checkpoint_id: str) -> Row | None:
        row = await self.session.get(key=rows.key_of(namespace, checkpoint_id))
        return None if row is None or rows.kind_of(row.message) != rows.CHECKPOINT else row

    async def _has(self, namespace: str) -> bool:
        try:
            return await self.session.get(key=rows.namespace_key(namespace)) is not None
        except SessionNotFoundError:
            return False

    async def _found(self, row: Row, writes: Iterable[Mapping[str, Any]]) -> Found | None:
        message = row.message
        batches = [*message.get("early", ()), *writes, *message.get("late", ())]
        if (revised := message.get("revised")) is not None:
            other = await self.session.get(revised)
            if other is None:
                return None  # removed meanwhile
            row = other
        return Found(row, batches)

    async def _writes_after(self, row: Row, namespace: str) -> list[Mapping[str, Any]]:
        """The writes between a checkpoint and the next one of its namespace."""
        found: list[Mapping[str, Any]] = []
        after = row.db_id
        while True:
            page = await self.session.messages(
                agent_id=rows.agent_of(namespace), after=after, limit=_PAGE
            )
            for one in page:
                kind = rows.kind_of(one.message)
                if kind == rows.CHECKPOINT:
                    return found
                if kind == rows.WRITES and _place(one) == _place(row):
                    found.append(one.message)
            if len(page) < _PAGE:
                return found
            after = page[-1].db_id


def _place(row: Row) -> tuple[str, str]:
    return row.message["namespace"], row.message["id"]
