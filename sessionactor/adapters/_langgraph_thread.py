"""A thread of LangGraph in its session, written: what is stored, and in which order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata

from sessionactor import (
    Batch,
    IdempotencyError,
    Row,
    SessionExistsError,
    SessionNotFoundError,
    SessionRegistry,
    StaleRevisionError,
)
from sessionactor.adapters import _langgraph_rows as rows
from sessionactor.adapters._langgraph_bases import Bases
from sessionactor.adapters._langgraph_messages import Dump, Typed, typed
from sessionactor.adapters._langgraph_reading import Known, Reading
from sessionactor.adapters._langgraph_rows import Base

_T = TypeVar("_T")

_KEPT_EARLY: Final = 256


class Thread(Reading):
    """One thread, shared by all savers on a registry: they see each other's calls at once.

    What belongs together in time is done between two awaits, so that a session serves it in
    that order: which checkpoint is the newest of a namespace is known from the call of its
    put on, and a put never names rows that were removed before it.
    """

    def __init__(
        self, registry: SessionRegistry, session_id: str, thread_id: str, bases: Bases
    ) -> None:
        super().__init__(registry, session_id, thread_id, bases)
        self._started = False
        self._marked = False
        self._changes = 0
        self._early: OrderedDict[tuple[str, str], list[dict[str, Any]]] = OrderedDict()

    async def put(
        self,
        namespace: str,
        parent: str | None,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        dump: Dump,
        load: Callable[[Typed], Any],
    ) -> None:
        """Store a checkpoint, or what one of that id is from now on: all of it or nothing."""
        place = (namespace, checkpoint["id"])

        async def write() -> None:
            base = await self._settled(lambda: self._base_of(namespace, parent, load))
            made = rows.draft(namespace, parent, checkpoint, metadata, base, dump)
            self._changes += 1
            self._newest[namespace] = checkpoint["id"]
            if early := self._early.get(place):
                made.row["early"] = early
            try:
                db_id = await self._store(made, namespace, rows.key_of(*place))
            except IdempotencyError:
                db_id = await self._revise(made, place)
            self._early.pop(place, None)
            self._bases.put(self.thread_id, namespace, made.stored_as(db_id))

        try:
            await self._created(write, begins=parent is None)
        except BaseException:
            self._newest.pop(namespace, None)  # whichever it is now
            raise

    async def _store(self, made: rows.Draft, namespace: str, key: str | None) -> int:
        if not self._started:
            with suppress(SessionExistsError):
                return await self._store_by(
                    self.registry.create(self.session_id), made, namespace, key
                )
            self._started = True
        return await self._store_by(self.session.batch(), made, namespace, key)

    async def _store_by(
        self, batch: Batch, made: rows.Draft, namespace: str, key: str | None
    ) -> int:
        async with batch:
            agent = rows.agent_of(namespace)
            batch.append(agent, made.row, key=key, checkpoint=made.opens_chapter)
            for channel, chained in made.lists.items():
                if chained.rows:
                    batch.extend(rows.speaker_of(channel, namespace), chained.rows)
            if made.is_first and namespace:
                marker = {"langgraph": rows.NAMESPACE, "role": "namespace", "note": namespace}
                batch.append(agent, marker, key=rows.namespace_key(namespace))
            if not self._marked:
                batch.save_metadata(rows.marks(self.session_id, self.thread_id))
        self._started = self._marked = True
        db_id: int = batch.results[0]
        return db_id

    async def _revise(self, made: rows.Draft, place: tuple[str, str]) -> int:
        """Put a checkpoint again: its first row stays where it is, and names the other one."""
        self._newest.pop(place[0], None)
        first = await self.session.get(key=rows.key_of(*place))
        if first is None or rows.kind_of(first.message) != rows.CHECKPOINT:
            raise ValueError(
                f"checkpoint {place[1]!r} was removed from thread {self.thread_id!r};"
                " its id cannot be used again"
            )
        made.row["langgraph"] = rows.REVISED
        made.opens_chapter = False
        db_id = await self._store(made, place[0], None)
        await self._change(first.db_id, lambda old: {**old, "revised": db_id})
        return db_id

    async def put_writes(self, namespace: str, checkpoint_id: str, batch: dict[str, Any]) -> None:
        """Store what a task wrote after a checkpoint, which may be stored later than that."""
        await self._created(lambda: self._put_writes(namespace, checkpoint_id, batch))

    async def _put_writes(self, namespace: str, checkpoint_id: str, batch: dict[str, Any]) -> None:
        if self._newest.get(namespace) != checkpoint_id:
            newest, row = await self._settled(lambda: self._place_of(namespace, checkpoint_id))
            self._newest[namespace] = newest
            if newest != checkpoint_id:
                if row is not None:
                    await self._change(
                        row.db_id, lambda old: {**old, "late": [*old.get("late", ()), batch]}
                    )
                    return
                self._early.setdefault((namespace, checkpoint_id), []).append(batch)
                while len(self._early) > _KEPT_EARLY:
                    self._early.popitem(last=False)
        message = {
            "langgraph": rows.WRITES,
            "role": "writes",
            "note": ", ".join(channel for _, channel, *_ in batch["writes"]),
            "namespace": namespace,
            "id": checkpoint_id,
            **batch,
        }
        await self.session.append(rows.agent_of(namespace), message)

    async def _base_of(
        self, namespace: str, parent: str | None, load: Callable[[Typed], Any]
    ) -> Base | None:
        cached = self._bases.get(self.thread_id, namespace)
        if parent is None or (cached is not None and cached.checkpoint_id == parent):
            return None if parent is None else cached
        found = await self.get(namespace, parent)
        if found is None:
            return None
        versions = load(typed(found.message["checkpoint"]))["channel_versions"]
        return await self.values(found, versions, Known())

    async def _place_of(self, namespace: str, checkpoint_id: str) -> tuple[str | None, Row | None]:
        """Which checkpoint is the newest, and the row of this one."""
        newest = self._newest.get(namespace)
        if newest is None:
            found = await self.get(namespace, None)
            newest = None if found is None else found.message["id"]
        row = None if newest == checkpoint_id else await self._row(namespace, checkpoint_id)
        return newest, row

    async def _change(self, db_id: int, change: Callable[[dict[Any, Any]], dict[Any, Any]]) -> None:
        """Replace a row's content by what it is with a change; no other change is lost."""
        while True:
            revision = await self.session.revision()
            row = await self.session.get(db_id)
            if row is None:
                return  # removed meanwhile
            try:
                async with self.session.batch(expected_revision=revision) as batch:
                    batch.update(db_id, change(row.message))
            except StaleRevisionError:
                continue
            return

    async def _settled(self, read: Callable[[], Awaitable[_T]]) -> _T:
        """What was read while nothing was put or removed."""
        while True:
            changes = self._changes
            found = await read()
            if changes == self._changes:
                return found

    async def _created(self, write: Callable[[], Awaitable[_T]], *, begins: bool = False) -> _T:
        """Carry out a write, in a session that is created when there is none.

        A write that `begins` one creates it itself.
        """
        while True:
            if not self._started and not begins:
                await self.registry.start(self.session_id)
                self._started = True
            try:
                return await write()
            except SessionNotFoundError:
                self.forget()

    def forget(self) -> None:
        """Know nothing any more: rows, or all of the session, were removed."""
        self._changes += 1
        self._started = self._marked = False
        self._newest.clear()
        self._bases.forget(self.thread_id)
