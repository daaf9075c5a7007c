"""Lists of messages in rows: a chain, in which each message names the one before it.

Pure functions, no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias

from langchain_core.messages import BaseMessage

Typed: TypeAlias = tuple[str, bytes]
"""A value as the framework's serializer writes it."""
Dump: TypeAlias = Callable[[Any], Typed]
Message: TypeAlias = dict[str, Any]
State: TypeAlias = tuple[type, Any, Any]
"""A message's class, `dict` or a message's own, its fields and further fields."""
Run: TypeAlias = list[int]
"""Messages of a chain: the first row, the last, and how many they are."""

MESSAGE: Final = "message"
_MAX_RUNS: Final = 32
"""A list of more pieces is stored anew."""
_PLAIN: Final = frozenset({"msgpack", "json", "null", "bytes", "bytearray"})
"""Serialized so, a value may be stored readable as well; others are encrypted, perhaps."""
_ARRAY_32: Final = b"\xdd"
_SCALARS: Final = frozenset({str, int, float, bool, bytes, type(None)})


def stored(data: Typed) -> Any:
    """A value as a row has it. Nearly all are MessagePack, of which no more is said."""
    kind, content = data
    return content if kind == "msgpack" else [kind, content]


def typed(value: Any) -> Typed:
    """A value that a row has."""
    if isinstance(value, bytes):
        return "msgpack", value
    kind, content = value
    return kind, content


class Element(NamedTuple):
    """A message of a list; a negative row is counted from the checkpoint's own on."""

    row: int
    previous: int
    data: Typed
    state: State | None = None
    """What the message was when it was serialized, if that can be compared."""


@dataclass(slots=True)
class Chain:
    """A list of messages."""

    elements: list[Element]
    runs: list[Run]
    size: int
    """Bytes, not counting the array."""
    _array: Typed | None = None

    @classmethod
    def of(cls, elements: list[Element]) -> Chain:
        """The list of these."""
        return cls(elements, runs_of(elements), sum(len(one.data[1]) for one in elements))

    def array(self) -> Typed | None:
        """The list as one MessagePack array, if that is how all of its messages are serialized.

        It is read more quickly than each message by itself, and kept for the next time.
        """
        if self._array is None:
            contents = [data for _, _, (kind, data), _ in self.elements if kind == "msgpack"]
            if len(contents) < len(self.elements):
                return None
            length = len(contents).to_bytes(4, "big")
            self._array = "msgpack", b"".join((_ARRAY_32, length, *contents))
        return self._array


class Chained(NamedTuple):
    """A list of messages on its way: from `start` on it has messages that are new."""

    chain: Chain
    start: int
    rows: list[Message]

    def settle(self, db_id: int) -> Chain:
        """The list that it is, now that the row of its checkpoint is known."""
        elements = self.chain.elements
        for index in range(self.start, self.start + len(self.rows)):
            row, previous, data, state = elements[index]
            if previous < 0:
                previous = db_id - previous
            elements[index] = Element(db_id - row, previous, data, state)
        return Chain(elements, settled_runs(db_id, self.chain.runs), self.chain.size)


def chained(before: Chain | None, messages: Sequence[Any], offset: int, dump: Dump) -> Chained:
    """The list, and the rows of those messages that were not in it before."""
    known = before.elements if before is not None and len(before.runs) < _MAX_RUNS else []
    elements = known[: len(messages)]
    for index, (old, message) in enumerate(zip(elements, messages, strict=False)):
        if not _is_same(old.state, message):
            if dump(message) != old.data:
                del elements[index:]
                break
            elements[index] = old._replace(state=_state(message))
    shared = len(elements)
    dumped = [dump(message) for message in messages[shared:]]
    kept = 0
    for old, new in zip(reversed(known[shared:]), reversed(dumped), strict=False):
        if old.data != new:
            break
        kept += 1
    stop = len(dumped) - kept
    previous = elements[-1].row if elements else 0
    rows: list[Message] = []
    for message, data in zip(messages[shared:], dumped[:stop], strict=False):
        own = -(offset + len(rows) + 1)
        elements.append(Element(own, previous, data, _state(message)))
        # Counted from the message's own row, the one before it is the one above it.
        rows.append(_message_row(message, -1 if previous < 0 else previous, data))
        previous = own
    if before is None or not shared or shared < len(known):
        elements += known[len(known) - kept :]
        return Chained(Chain.of(elements), shared, rows)
    runs = before.runs
    if rows:
        first, _, count = runs[-1]
        runs = [*runs[:-1], [first, previous, count + len(rows)]]
    size = before.size + sum(len(data) for _, data in dumped)
    return Chained(Chain(elements, runs, size), shared, rows)


def _is_same(state: State | None, message: Any) -> bool:
    """Whether a message is what it was: comparing it is quicker than serializing it."""
    if state is None:
        return False
    kind, fields, extra = state
    is_kind: bool = type(message) is kind
    if not is_kind or kind is dict:
        return is_kind and bool(message == fields)
    return bool(message.__dict__ == fields and message.__pydantic_extra__ == extra)


def _state(message: Any) -> State | None:
    """What a message is now; `None` where something in it cannot be compared."""
    try:
        if type(message) is dict:
            return dict, _copied(message), None
        return type(message), _copied(message.__dict__), _copied(message.__pydantic_extra__)
    except TypeError:
        return None


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        return {_copied(key): _copied(item) for key, item in value.items()}
    if kind is list:
        return [_copied(item) for item in value]
    raise TypeError(f"a {kind.__name__} may be equal to another one and yet be stored otherwise")


def _message_row(message: Any, previous: int, data: Typed) -> Message:
    row: Message = {"langgraph": MESSAGE, "previous": previous, "value": stored(data)}
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


def is_conversation(value: object) -> bool:
    """Whether it is a list of messages, and of nothing else."""
    if type(value) is not list or not value:
        return False
    kinds = set(map(type, value))
    return all(one is dict or issubclass(one, BaseMessage) for one in kinds) and (
        dict not in kinds
        or all(
            isinstance(one.get("role"), str) and "content" in one
            for one in value
            if type(one) is dict
        )
    )


def _breaks(elements: Sequence[Element]) -> Iterator[int]:
    """Where the elements do not follow from each other: where runs begin."""
    last = None
    for index, one in enumerate(elements):
        if one.previous != last:
            yield index
        last = one.row


def runs_of(elements: Sequence[Element]) -> list[Run]:
    """Of which runs a list is made."""
    starts = [*_breaks(elements), len(elements)]
    return [
        [elements[start].row, elements[stop - 1].row, stop - start]
        for start, stop in pairwise(starts)
    ]


def element(db_id: int, message: Mapping[str, Any]) -> Element:
    """A message row as the element that it is."""
    previous = message["previous"]
    return Element(db_id, db_id - 1 if previous < 0 else previous, typed(message["value"]))


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
