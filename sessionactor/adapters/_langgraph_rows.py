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
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata

Typed: TypeAlias = tuple[str, bytes]
"""A value as the framework's serializer writes it."""
Dump: TypeAlias = Callable[[Any], Typed]
Message: TypeAlias = dict[str, Any]
Run: TypeAlias = list[int]
"""Messages of a chain: the first row, the last, and how many they are."""

CHECKPOINT: Final = "checkpoint"
REVISED: Final = "revised"
"""What a checkpoint that was put again is now."""
VALUES: Final = "values"
"""What is left of a removed checkpoint: values that others name."""
WRITES: Final = "writes"
MESSAGE: Final = "message"
NAMESPACE: Final = "namespace"
"""That there is such a namespace: to know that there is none takes no search."""

SMALL_BYTES: Final = 64
"""A value so small is stored again rather than named."""
CHAPTER_CHECKPOINTS: Final = 16
_MAX_RUNS: Final = 32
"""A list of more pieces is stored anew."""
_PLAIN: Final = frozenset({"msgpack", "json", "null", "bytes", "bytearray"})
"""Serialized so, a value may be stored readable as well; others are encrypted, perhaps."""


class Element(NamedTuple):
    """A message of a list; a negative row is counted from the checkpoint's own on."""

    row: int
    previous: int
    data: Typed


class Held(NamedTuple):
    """A channel's value, and the row that has it."""

    row: int
    data: Typed


Value: TypeAlias = Held | list[Element]


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
            for one in ([value] if isinstance(value, Held) else value)
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
            if isinstance(value, Held):
                self.base.values[channel] = value._replace(row=settled(value.row))
            elif any(one.row <= 0 for one in value):
                self.base.values[channel] = [
                    one
                    if one.row > 0
                    else Element(settled(one.row), one.previous and settled(one.previous), one.data)
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
        "nonce": secrets.token_bytes(8),
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
        if _is_conversation(value):
            before = old if isinstance(old, list) else []
            if channel in same and len(before) == len(value):
                elements = before
            else:
                elements, rows = _chained(before, value, offset, dump)
                offset += len(rows)
                if rows:
                    made.messages.append((speaker_of(channel, namespace), rows))
            made.base.values[channel] = elements
            lists[channel] = _runs(elements)
            continue
        if isinstance(old, Held) and channel in same:
            if len(old.data[1]) > SMALL_BYTES:
                named[channel] = old.row
                made.base.values[channel] = old
                continue
            data = old.data
        else:
            data = dump(value)
        held[channel] = list(data)
        made.base.values[channel] = Held(0, data)
    row.update(values=held, named=named, lists=lists)
    return made


def _chained(
    before: Sequence[Element], messages: Sequence[Any], offset: int, dump: Dump
) -> tuple[list[Element], list[Message]]:
    """The list's elements, and the rows of those that were not in it before."""
    dumped = [dump(message) for message in messages]
    if len(list(_breaks(before))) >= _MAX_RUNS:
        before = []
    shared = 0
    for old, new in zip(before, dumped, strict=False):
        if old.data != new:
            break
        shared += 1
    kept = 0
    for old, new in zip(reversed(before[shared:]), reversed(dumped[shared:]), strict=False):
        if old.data != new:
            break
        kept += 1
    stop = len(messages) - kept
    previous = before[shared - 1].row if shared else 0
    elements = list(before[:shared])
    rows: list[Message] = []
    for message, data in zip(messages[shared:stop], dumped[shared:stop], strict=True):
        own = -(offset + len(rows) + 1)
        elements.append(Element(own, previous, data))
        # Counted from the message's own row, the one before it is the one above it.
        rows.append(_message_row(message, -1 if previous < 0 else previous, data))
        previous = own
    elements += before[len(before) - kept :]
    return elements, rows


def _message_row(message: Any, previous: int, data: Typed) -> Message:
    row: Message = {"langgraph": MESSAGE, "previous": previous, "value": list(data)}
    if isinstance(message, BaseMessage):
        role, content, name = message.type, message.content, message.name
        calls = getattr(message, "tool_calls", None) or ()
    else:
        role, content, name, calls = message["role"], message["content"], message.get("name"), ()
    row["role"] = role
    if data[0] in _PLAIN:
        row["content"] = _text_of(content)
        if isinstance(name, str):
            row["name"] = name
        if calls:
            row["tool_calls"] = [
                {
                    "name": str(call.get("name")),
                    "args": json.dumps(call.get("args"), default=str, ensure_ascii=False),
                }
                for call in calls
            ]
    return row


def _text_of(content: Any) -> str:
    """The text of a message's content, without what else is in it."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return "\n".join(text for text in texts if isinstance(text, str))


def _is_conversation(value: object) -> bool:
    return type(value) is list and bool(value) and all(map(_is_message, value))


def _is_message(value: object) -> bool:
    return isinstance(value, BaseMessage) or (
        type(value) is dict and isinstance(value.get("role"), str) and "content" in value
    )


def _breaks(elements: Sequence[Element]) -> Iterator[int]:
    """Where the elements do not follow from each other: where runs begin."""
    last = None
    for index, one in enumerate(elements):
        if one.previous != last:
            yield index
        last = one.row


def _runs(elements: Sequence[Element]) -> list[Run]:
    starts = [*_breaks(elements), len(elements)]
    return [
        [elements[start].row, elements[stop - 1].row, stop - start]
        for start, stop in pairwise(starts)
    ]


def element(db_id: int, message: Mapping[str, Any]) -> Element:
    """A message row as the element that it is."""
    previous = message["previous"]
    kind, data = message["value"]
    return Element(db_id, db_id - 1 if previous < 0 else previous, (kind, data))


def chain(run: Run, known: Mapping[int, Element]) -> list[Element] | None:
    """The messages of a run, if all of them are known."""
    _, row, count = run
    elements: list[Element] = []
    while len(elements) < count:
        one = known.get(row)
        if one is None:
            return None
        elements.append(one)
        row = one.previous
    elements.reverse()
    return elements


def settled_runs(db_id: int, runs: Iterable[Run]) -> list[Run]:
    """The runs of a checkpoint's row, with the rows that they have."""
    return [
        [db_id - first if first < 0 else first, db_id - last if last < 0 else last, count]
        for first, last, count in runs
    ]
