"""Synchronous calls of what runs in an event loop: in the one in use, or in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

_T = TypeVar("_T")

_WATCH_S: Final = 0.1
"""How often a loop of its own looks whether the program has come to its end."""


class Caller:
    """Takes calls from threads that have no loop to the event loop that serves them.

    That is the loop that the saver is used in. A program without one gets one, in a thread
    that ends with `close`, or with the main thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()

    def bind(self) -> None:
        """Serve synchronous calls in this loop, if no other one does."""
        if self._loop is None or (self._loop.is_closed() and self._thread is None):
            self._loop = asyncio.get_running_loop()

    def __call__(
        self,
        call: Callable[[], Coroutine[Any, Any, _T]],
        end: Callable[[], Coroutine[Any, Any, None]],
    ) -> _T:
        """The result of a call; `end` is what a loop of its own calls at its end.

        Raises:
            asyncio.InvalidStateError: from an event loop, which it would stop.
        """
        running = None
        with contextlib.suppress(RuntimeError):
            running = asyncio.get_running_loop()
        if running is not None and self._loop in (None, running):
            raise asyncio.InvalidStateError(
                "a synchronous call of ActorSaver would stop the event loop that it is made in:"
                " use its async methods here (aget_tuple, aput, alist, ...; graph.ainvoke), or"
                " call from another thread (asyncio.to_thread)"
            )
        with self._lock:
            if self._loop is None or self._loop.is_closed():
                self._loop = self._own(end)
        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _own(self, end: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.AbstractEventLoop:
        started: list[asyncio.AbstractEventLoop] = []
        ready = threading.Event()

        async def main() -> None:
            self._stop = asyncio.Event()
            started.append(asyncio.get_running_loop())
            ready.set()
            while not self._stop.is_set() and threading.main_thread().is_alive():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), _WATCH_S)
            await end()

        self._thread = threading.Thread(target=lambda: asyncio.run(main()), name="actor-saver")
        self._thread.start()
        ready.wait()
        return started[0]

    def close(self, end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Carry out the end, and end a loop of its own."""
        thread, loop = self._thread, self._loop
        if loop is None or loop.is_closed():
            return
        if thread is None:
            self(end, end)
            return
        loop.call_soon_threadsafe(self._stop.set)
        thread.join()
        self._thread = self._loop = None


class Synchronous(BaseCheckpointSaver[str]):
    """A saver's synchronous calls, made of its asynchronous ones."""

    def __init__(self, serde: SerializerProtocol | None) -> None:
        super().__init__(serde=serde)
        self._caller = Caller()

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `aput`."""
        return self._call(lambda: self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """As `aput_writes`."""
        self._call(lambda: self.aput_writes(config, writes, task_id, task_path))

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `aget_tuple`."""
        return self._call(lambda: self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """As `alist`."""
        found = self.alist(config, filter=filter, before=before, limit=limit)

        async def following() -> CheckpointTuple | None:
            return await anext(found, None)

        while (one := self._call(following)) is not None:
            yield one

    def delete_thread(self, thread_id: str) -> None:
        """As `adelete_thread`."""
        self._call(lambda: self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `adelete_for_runs`."""
        self._call(lambda: self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `acopy_thread`."""
        self._call(lambda: self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `aprune`."""
        self._call(lambda: self.aprune(thread_ids, strategy=strategy))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `aget_delta_channel_history`."""
        return self._call(lambda: self.aget_delta_channel_history(config=config, channels=channels))

    def close(self) -> None:
        """As `aclose`, for programs without an event loop."""
        self._caller.close(self.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _call(self, call: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        return self._caller(call, self.aclose)

    async def aclose(self) -> None:
        """Close what was opened."""
        raise NotImplementedError
