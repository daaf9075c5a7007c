"""What a thread of LangGraph is in the rows of a session: pure functions, no I/O.

A *checkpoint* row has a checkpoint without its channel values, and those of the values that
are new in it; for the others it names the row that has them. A list of messages is a chain
of *message* rows, each naming the one before it, as commits do in Git: a checkpoint names
only the chain's end, and threads that part later share what came before. The rows that a
checkpoint is stored with are named relative to it, because it is not known yet which they
will be. *Writes* rows are what tasks wrote after a checkpoint.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata

from sessionactor.adapters._langgraph_messages import (
    Dump,
    Element,
    Message,
    Run,
    Typed,
    chained,
    is_conversation,
    runs_of,
)

CHECKPOINT: Final = "checkpoint"
REVISED: Final = "revised"
"""What a checkpoint that was put again is now."""
VALUES: Final = "values"
"""What is left of a removed checkpoint: values that others name."""
WRITES: Final = "writes"
NAMESPACE: Final = "namespace"
"""That there is such a namespace: to know that there is none takes no search."""

SMALL_BYTES: Final = 64
"""A value so small is stored again rather than named."""
CHAPTER_CHECKPOINTS: Final = 16


class Whole(NamedTuple):
    """A channel's value that is stored in one piece, and the row that has it."""

    row: int
    data: Typed


Value: TypeAlias = Whole | list[Element]


@dataclass(slots=True)
class Base:
    """A stored checkpoint's values, to which the next one's are compared."""

    checkpoint_id: str
    versions: ChannelVersions
    values: dict[str, Value]
    since: int
    """How many checkpoints the chapter has before it."""

    def size(self) -> int:
        """Bytes."""
        return sum(
            len(one.data[1])
            for value in self.values.values()
            for one in ([value] if isinstance(value, Whole) else value)
        )


@dataclass(slots=True)
class Draft:
    """A checkpoint on its way: its row, the rows of messages behind it, and what it will be."""

    row: Message
    base: Base
    messages: list[tuple[str, list[Message]]] = field(default_factory=list)
    """For each channel."""
    opens_chapter: bool = False
    is_first: bool = False

    def stored_as(self, db_id: int) -> Base:
        """The base that it is, now that its row is known."""

        def settled(row: int) -> int:
            return row if row > 0 else db_id - row

        for channel, value in self.base.values.items():
            if isinstance(value, Whole):
                self.base.values[channel] = value._replace(row=settled(value.row))
            elif any(one.row <= 0 for one in value):
                self.base.values[channel] = [
                    one
                    if one.row > 0
                    else one._replace(
                        row=settled(one.row), previous=one.previous and settled(one.previous)
                    )
                    for one in value
                ]
        return self.base


def agent_of(namespace: str) -> str:
    """The agent that says checkpoints and writes of a namespace."""
    return f"graph/{namespace}" if namespace else "graph"


def speaker_of(channel: str, namespace: str) -> str:
    """The agent that says the messages of a channel."""
    return f"{channel}/{namespace}" if namespace else channel


def key_of(namespace: str, checkpoint_id: str) -> str:
    """The key of a checkpoint's row."""
    return f"checkpoint {namespace}/{checkpoint_id}"


def namespace_key(namespace: str) -> str:
    """The key of the row that says that there is such a namespace."""
    return f"namespace {namespace}"


def marks(session_id: str, thread_id: str) -> dict[str, str]:
    """The metadata of a thread's session, by which threads are found and told apart."""
    marks = {"framework": "langgraph"}
    if session_id != thread_id:
        marks["thread_id"] = json.dumps(thread_id)
    return marks


def kind_of(message: Mapping[Any, Any]) -> str | None:
    """What a row is, if it is one of ours."""
    kind = message.get("langgraph")
    return kind if isinstance(kind, str) else None


def channels_of(message: Mapping[str, Any]) -> set[str]:
    """The channels that a checkpoint's row has values for."""
    return {channel for part in ("values", "named", "lists") for channel in message[part]}


def draft(
    namespace: str,
    parent: str | None,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    base: Base | None,
    dump: Dump,
) -> Draft:
    """What to store of a checkpoint, given the one before it."""
    versions = checkpoint["channel_versions"]
    known = {} if base is None else base.values
    same = (
        set()
        if base is None
        else {channel for channel in known if base.versions.get(channel) == versions.get(channel)}
    )
    since = CHAPTER_CHECKPOINTS if base is None else base.since + 1
    opens = since >= CHAPTER_CHECKPOINTS or metadata.get("source") == "input"
    rest = {name: value for name, value in checkpoint.items() if name != "channel_values"}
    step, source = metadata.get("step"), metadata.get("source")
    row: Message = {
        "langgraph": CHECKPOINT,
        "role": "checkpoint",
        "note": f"step {step}, {source}" + (f", of {namespace}" if namespace else ""),
        "namespace": namespace,
        "id": checkpoint["id"],
        "parent": parent,
        "checkpoint": list(dump(rest)),
        "metadata": list(dump(metadata)),
        "since": 0 if opens else since,
        # Never the same row twice: one that was removed is not taken for stored.
        "nonce": random.getrandbits(63),
    }
    if isinstance(run_id := metadata.get("run_id"), str):
        row["run_id"] = run_id
    made = Draft(
        row, Base(checkpoint["id"], dict(versions), {}, row["since"]), [], opens, base is None
    )
    held: dict[str, list[str | bytes]] = {}
    named: dict[str, int] = {}
    lists: dict[str, list[Run]] = {}
    offset = 0
    for channel, value in checkpoint["channel_values"].items():
        old = known.get(channel)
        if is_conversation(value):
            before = old if isinstance(old, list) else []
            if channel in same and len(before) == len(value):
                elements = before
            else:
                elements, rows = chained(before, value, offset, dump)
                offset += len(rows)
                if rows:
                    made.messages.append((speaker_of(channel, namespace), rows))
            made.base.values[channel] = elements
            lists[channel] = runs_of(elements)
            continue
        if isinstance(old, Whole) and channel in same:
            if len(old.data[1]) > SMALL_BYTES:
                named[channel] = old.row
                made.base.values[channel] = old
                continue
            data = old.data
        else:
            data = dump(value)
        held[channel] = list(data)
        made.base.values[channel] = Whole(0, data)
    row.update(values=held, named=named, lists=lists)
    return made
