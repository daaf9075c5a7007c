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
    Chain,
    Chained,
    Dump,
    Message,
    Run,
    Typed,
    chained,
    is_conversation,
    stored,
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
    """0: that of the checkpoint on its way."""
    data: Typed

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data[1])


Value: TypeAlias = Whole | Chain


@dataclass(slots=True)
class Base:
    """A stored checkpoint's values, to which the next one's are compared."""

    checkpoint_id: str
    versions: ChannelVersions
    values: dict[str, Value]
    since: int
    """How many checkpoints the chapter has before it."""

    def size(self) -> int:
        """Bytes: lists count twice, because what they are read as is kept as well."""
        return sum(
            value.size if isinstance(value, Whole) else 2 * value.size
            for value in self.values.values()
        )


@dataclass(slots=True)
class Draft:
    """A checkpoint on its way: its row, the rows of messages behind it, and what it will be."""

    row: Message
    base: Base
    lists: dict[str, Chained] = field(default_factory=dict)
    """For each channel that has messages."""
    opens_chapter: bool = False
    is_first: bool = False

    def stored_as(self, db_id: int) -> Base:
        """The base that it is, now that its row is known."""
        values = self.base.values
        for channel, made in self.lists.items():
            values[channel] = made.settle(db_id)
        for channel, value in values.items():
            if isinstance(value, Whole) and not value.row:
                values[channel] = value._replace(row=db_id)
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
    return {channel for part in ("values", "named", "lists") for channel in message.get(part, ())}


def passes(metadata: Mapping[str, Any], pairs: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's metadata have all of these pairs."""
    return all(_at(metadata, key) == value for key, value in pairs.items())


def _at(metadata: Any, key: str) -> Any:
    """What a key names; with dots in it, in mappings inside, as in the framework's own saver."""
    if key in metadata:
        return metadata[key]
    for part in key.split("."):
        metadata = metadata.get(part) if isinstance(metadata, Mapping) else None
    return metadata


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
        "checkpoint": stored(dump(rest)),
        "metadata": stored(dump(metadata)),
        "since": 0 if opens else since,
        # Never the same row twice: one that was removed is not taken for stored.
        "nonce": random.getrandbits(63),
    }
    if isinstance(run_id := metadata.get("run_id"), str):
        row["run_id"] = run_id
    made = Draft(
        row, Base(checkpoint["id"], dict(versions), {}, row["since"]), {}, opens, base is None
    )
    held: dict[str, Any] = {}
    named: dict[str, int] = {}
    lists: dict[str, list[Run]] = {}
    offset = 0
    for channel, value in checkpoint["channel_values"].items():
        old = known.get(channel)
        if is_conversation(value):
            chain = old if isinstance(old, Chain) else None
            if chain is None or channel not in same or len(chain.elements) != len(value):
                made.lists[channel] = new = chained(chain, value, offset, dump)
                offset += len(new.rows)
                chain = new.chain
            made.base.values[channel] = chain
            lists[channel] = chain.runs
            continue
        if isinstance(old, Whole) and channel in same:
            if old.size > SMALL_BYTES:
                named[channel] = old.row
                made.base.values[channel] = old
                continue
            data = old.data
        else:
            data = dump(value)
        held[channel] = stored(data)
        made.base.values[channel] = Whole(0, data)
    parts = {"values": held, "named": named, "lists": lists}
    row.update((part, channels) for part, channels in parts.items() if channels)
    return made
