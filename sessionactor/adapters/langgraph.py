"""LangGraph's checkpoints as sessions: one thread, one session, one file.

    async with ActorSaver("threads") as saver:
        graph = builder.compile(checkpointer=saver)
        await graph.ainvoke({"messages": [...]}, {"configurable": {"thread_id": "t1"}})

A message is stored once, however many checkpoints have it, and as a row of its own: it is
found by `search`, and seen by `show` and `tail`. The rest of a checkpoint's values is stored
once for each version.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from sessionactor import Page, SessionRegistry
from sessionactor.adapters import _langgraph_rows as rows
from sessionactor.adapters._holding import Held, Where
from sessionactor.adapters._langgraph_calling import Synchronous
from sessionactor.adapters._langgraph_importing import ForeignFile
from sessionactor.adapters._langgraph_listing import all_threads, latest_of_all
from sessionactor.adapters._langgraph_messages import typed
from sessionactor.adapters._langgraph_reading import Found, Known
from sessionactor.adapters._langgraph_thread import Thread
from sessionactor.adapters._langgraph_threads import retain, session_id_of, threads_of
from sessionactor.adapters._langgraph_writes import batch_of, indexed, pending

_DRAFT: Final = "import of "
"""What the session of a thread that is being imported is called."""


class ActorSaver(Held, Synchronous):
    """A checkpoint saver whose threads are sessions.

    The newest checkpoint of a thread is the one that was put last, whatever the clocks said.
    What a call returned for is stored. Synchronous calls are for other threads than the event
    loop's; a program without a loop gets one in the background, and `close` ends it.

    Any call raises what a session raises: `SessionOwnedError` where another process has the
    thread, `MessageTooLargeError` for a value beyond the registry's `max_message_bytes`,
    `StorageError` for the disk.

    Args:
        where: An open registry, which stays open, or a directory.
        serde: As for any saver. What an encrypting one writes is stored encrypted alone, and
            so it is not found by `search`.
    """

    def __init__(self, where: Where, *, serde: SerializerProtocol | None = None) -> None:
        Held.__init__(self, where)
        Synchronous.__init__(self, serde)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, all of it or nothing; one that is put again is replaced.

        Raises:
            ValueError: it was removed before.
        """
        thread, namespace = await self._thread(config)
        await thread.put(
            namespace,
            get_checkpoint_id(config),
            checkpoint,
            get_checkpoint_metadata(config, metadata),
            self.serde.dumps_typed,
            self.serde.loads_typed,
        )
        return _config(config["configurable"]["thread_id"], namespace, checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote, all of it or nothing; what is repeated counts once."""
        thread, namespace = await self._thread(config)
        batch = batch_of(task_id, task_path, indexed(writes, self.serde.dumps_typed))
        await thread.put_writes(namespace, str(config["configurable"]["checkpoint_id"]), batch)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """A checkpoint and what was written after it; without an id the newest one."""
        thread, namespace = await self._thread(config)
        found = await thread.get(namespace, get_checkpoint_id(config))
        thread_id = config["configurable"]["thread_id"]
        return found and await self._tuple(thread, thread_id, found, Known())

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, the newest first; nothing is held between two of them.

        Args:
            config: Of which thread, namespace and id; without one, all threads, one after the
                other, the one that changed last first.
            filter: Only those whose metadata have all of these pairs.
            before: Only those with a smaller id than this one's.
            limit: At most so many.
        """
        wanted = None if config is None else get_checkpoint_id(config)
        bound = None if before is None else get_checkpoint_id(before)
        namespace = None if config is None else config["configurable"].get("checkpoint_ns")
        left = limit
        if left is not None and left <= 0:
            return
        async for thread_id, latest in self._threads(config, limit):
            thread, _ = await self._thread({"configurable": {"thread_id": thread_id}})
            known = Known()
            async for found in thread.walk(namespace, known, latest):
                checkpoint_id = found.message["id"]
                if (wanted and checkpoint_id != wanted) or (bound and checkpoint_id >= bound):
                    continue
                if filter and not rows.passes(self._metadata(found), filter):
                    continue
                if (one := await self._tuple(thread, thread_id, found, known)) is not None:
                    yield one
                    left = None if left is None else left - 1
                    if left == 0:
                        return

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What channels are rebuilt from: the writes since the nearest ancestor with their value.

        It takes one walk back over the thread, where the framework's own way is a search for
        each ancestor.
        """
        histories: dict[str, DeltaChannelHistory] = {name: {"writes": []} for name in channels}
        wanted = set(histories)
        thread, namespace = await self._thread(config)
        target = await thread.get(namespace, get_checkpoint_id(config)) if wanted else None
        if target is None:
            return histories
        async with aclosing(thread.ancestors(target)) as ancestors:
            async for found in ancestors:
                for task, channel, data in reversed(pending(found.writes)):
                    if channel in wanted:
                        write = (task, channel, self.serde.loads_typed(data))
                        histories[channel]["writes"].append(write)
                if seeded := wanted & rows.channels_of(found.message):
                    base = await thread.values(found, {}, Known())
                    if base is None:
                        break  # removed meanwhile
                    for channel in seeded:
                        histories[channel]["seed"] = self._value(base.values[channel])
                    wanted -= seeded
                if not wanted:
                    break
        for history in histories.values():
            history["writes"].reverse()
        return histories

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete a thread with its file."""
        thread, _ = await self._thread({"configurable": {"thread_id": thread_id}})
        thread.forget()
        await thread.registry.delete(thread.session_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints of these runs, and what was written after them, everywhere.

        It looks at all checkpoints of all threads. A thread that loses all of them stays, empty.
        As in any saver, a `DeltaChannel` may need what one of the runs wrote.
        """
        gone = set(map(str, run_ids))
        if not gone:
            return
        registry = await self._registry()
        async for thread_id in all_threads(registry):
            thread, _ = await self._thread({"configurable": {"thread_id": thread_id}})
            await retain(
                thread,
                lambda stored: [
                    one
                    for one in stored.checkpoints
                    if stored.content(one).message.get("run_id") not in gone
                ],
            )

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread whole, as of one moment.

        Raises:
            SessionNotFoundError: there is no such thread.
            SessionExistsError: the target is there already; it is left as it is.
        """
        source, _ = await self._thread({"configurable": {"thread_id": source_thread_id}})
        target_id = str(target_thread_id)
        session_id = session_id_of(target_id)
        fork = await source.session.fork(session_id)
        await fork.save_metadata(rows.marks(session_id, target_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove checkpoints of threads and give the space back.

        Args:
            thread_ids: Those that do not exist are passed over.
            strategy: `"keep_latest"` keeps the newest checkpoint of each namespace, and those
                that a `DeltaChannel` in it is rebuilt from; `"delete"` keeps nothing.

        Raises:
            ValueError: another strategy.
        """
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"strategy is 'keep_latest' or 'delete', not {strategy!r}")
        for thread_id in thread_ids:
            if strategy == "delete":
                await self.adelete_thread(thread_id)
                continue
            thread, _ = await self._thread({"configurable": {"thread_id": thread_id}})
            await retain(
                thread,
                lambda stored: stored.latest(
                    lambda content: self.serde.loads_typed(typed(content["metadata"]))
                ),
            )

    async def import_sqlite(self, path: str | os.PathLike[str]) -> int:
        """Take over the threads of a file of `SqliteSaver` or `AsyncSqliteSaver`; how many.

        The file is only read. Each thread comes whole or not at all; those that are here
        already stay as they are, so that an import that was cut off can be repeated.
        """
        foreign = ForeignFile(path)
        imported = 0
        try:
            for thread_id in foreign.thread_ids():
                target, _ = await self._thread({"configurable": {"thread_id": thread_id}})
                if await target.registry.exists(target.session_id):
                    continue
                draft_id = f"{_DRAFT}{target.session_id}"
                await self.adelete_thread(draft_id)
                draft, _ = await self._thread({"configurable": {"thread_id": draft_id}})
                async for one in foreign.checkpoints(thread_id):
                    await draft.put(
                        one.namespace,
                        one.parent,
                        self.serde.loads_typed(one.checkpoint),
                        cast(CheckpointMetadata, one.metadata),
                        self.serde.dumps_typed,
                        self.serde.loads_typed,
                    )
                    for writes in one.writes:
                        await draft.put_writes(one.namespace, one.checkpoint_id, writes)
                await self.acopy_thread(draft_id, thread_id)
                await self.adelete_thread(draft_id)
                imported += 1
        finally:
            foreign.close()
        return imported

    def get_next_version(self, current: str | int | None, channel: None) -> str:
        """The version after one: they sort as text, and two branches' are never the same."""
        number = 0
        if current is not None:
            number = current if isinstance(current, int) else int(str(current).split(".")[0])
        return f"{number + 1:032}.{random.random():016}"

    async def _registry(self) -> SessionRegistry:
        self._caller.bind()
        return await self._holding.registry()

    async def _thread(self, config: RunnableConfig) -> tuple[Thread, str]:
        registry = await self._registry()
        configurable = config["configurable"]
        thread = threads_of(registry).get(registry, str(configurable["thread_id"]))
        return thread, configurable.get("checkpoint_ns", "")

    async def _threads(
        self, config: RunnableConfig | None, limit: int | None
    ) -> AsyncIterator[tuple[str, Page | None]]:
        """The threads to list, and the latest chapter of each where it was read with others'."""
        if config is not None:
            yield str(config["configurable"]["thread_id"]), None
            return
        async for thread_id, latest in latest_of_all(await self._registry(), limit):
            yield thread_id, latest

    def _value(self, value: rows.Value) -> Any:
        load = self.serde.loads_typed
        if isinstance(value, rows.Whole):
            return load(value.data)
        array = value.array() if type(self.serde) is JsonPlusSerializer else None
        return [load(one.data) for one in value.elements] if array is None else load(array)

    def _metadata(self, found: Found) -> CheckpointMetadata:
        return cast(CheckpointMetadata, self.serde.loads_typed(typed(found.message["metadata"])))

    async def _tuple(
        self, thread: Thread, thread_id: str, found: Found, known: Known
    ) -> CheckpointTuple | None:
        load = self.serde.loads_typed
        message = found.message
        checkpoint = load(typed(message["checkpoint"]))
        base = await thread.values(found, checkpoint["channel_versions"], known)
        if base is None:
            return None
        checkpoint["channel_values"] = {
            channel: self._value(value) for channel, value in base.values.items()
        }
        namespace, parent = message["namespace"], message["parent"]
        return CheckpointTuple(
            _config(thread_id, namespace, message["id"]),
            cast(Checkpoint, checkpoint),
            self._metadata(found),
            _config(thread_id, namespace, parent) if parent else None,
            [(task, channel, load(data)) for task, channel, data in pending(found.writes)],
        )


def _config(thread_id: Any, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": namespace,
            "checkpoint_id": checkpoint_id,
        }
    }
