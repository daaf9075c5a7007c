"""The threads in a file of the framework's own SQLite savers."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from anyio import to_thread

from sessionactor.adapters._langgraph_messages import Typed
from sessionactor.adapters._langgraph_writes import batch_of

_PAGE: Final = 32
_CHECKPOINTS: Final = (
    "SELECT checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata"
    " FROM checkpoints WHERE thread_id = ? ORDER BY checkpoint_id, checkpoint_ns"
)
_WRITES: Final = (
    "SELECT task_id, {task_path}, idx, channel, type, value FROM writes"
    " WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ? ORDER BY task_id, idx"
)


class Foreign(NamedTuple):
    """A checkpoint of another saver, and what was written after it."""

    namespace: str
    checkpoint_id: str
    parent: str | None
    checkpoint: Typed
    metadata: dict[str, Any]
    writes: list[dict[str, Any]]


class ForeignFile:
    """A file of `SqliteSaver` or `AsyncSqliteSaver`, read only."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._connection = sqlite3.connect(
            f"{Path(path).absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
        )
        columns = [
            column for _, column, *_ in self._connection.execute("PRAGMA table_info(writes)")
        ]
        self._writes = _WRITES.format(task_path="task_path" if "task_path" in columns else "''")

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def thread_ids(self) -> list[str]:
        """The threads in it."""
        found = self._connection.execute("SELECT DISTINCT thread_id FROM checkpoints ORDER BY 1")
        return [thread_id for (thread_id,) in found]

    async def checkpoints(self, thread_id: str) -> AsyncIterator[Foreign]:
        """The checkpoints of a thread, the oldest first."""
        with closing(self._connection.execute(_CHECKPOINTS, (thread_id,))) as cursor:
            while page := await to_thread.run_sync(lambda: list(self._page(cursor, thread_id))):
                for one in page:
                    yield one

    def _page(self, cursor: sqlite3.Cursor, thread_id: str) -> Iterator[Foreign]:
        for namespace, checkpoint_id, parent, kind, data, metadata in cursor.fetchmany(_PAGE):
            tasks: dict[tuple[str, str], list[tuple[int, str, Typed]]] = {}
            place = (thread_id, namespace, checkpoint_id)
            for task_id, path, index, channel, *typed in self._connection.execute(
                self._writes, place
            ):
                tasks.setdefault((task_id, path), []).append((index, channel, (typed[0], typed[1])))
            yield Foreign(
                namespace,
                checkpoint_id,
                parent or None,
                (kind, data),
                json.loads(metadata) if metadata else {},
                [batch_of(task_id, path, writes) for (task_id, path), writes in tasks.items()],
            )
