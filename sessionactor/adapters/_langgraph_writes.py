"""What tasks wrote after a checkpoint, in rows: pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import WRITES_IDX_MAP, writes_sort_key

from sessionactor.adapters._langgraph_messages import Dump, Message, Typed


def batch_of(task_id: str, task_path: str, writes: Iterable[tuple[int, str, Typed]]) -> Message:
    """What a task wrote: for each write its index in the task, the channel, the value."""
    return {
        "task_id": task_id,
        "task_path": task_path,
        "writes": [[index, channel, *data] for index, channel, data in writes],
    }


def indexed(writes: Sequence[tuple[str, Any]], dump: Dump) -> Iterator[tuple[int, str, Typed]]:
    """Writes of a task, each with its index: the framework's own for its special channels."""
    for index, (channel, value) in enumerate(writes):
        yield WRITES_IDX_MAP.get(channel, index), channel, dump(value)


def pending(batches: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, Typed]]:
    """All writes of a checkpoint, in the framework's order.

    A task's write that is repeated counts once: the first, of special channels the last.
    """
    found: dict[tuple[str, int], tuple[str, str, Typed]] = {}
    for batch in batches:
        task_id, path = batch["task_id"], batch["task_path"]
        for index, channel, kind, data in batch["writes"]:
            if index < 0 or (task_id, index) not in found:
                found[task_id, index] = (path, channel, (kind, data))
    ordered = sorted(found.items(), key=lambda item: writes_sort_key(item[1][0], *item[0]))
    return [(task_id, channel, data) for (task_id, _), (_, channel, data) in ordered]
