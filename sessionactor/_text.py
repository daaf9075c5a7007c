"""What text a message has, in the shapes that people store.

The shapes are those of OpenAI (content parts, tool calls, responses), Anthropic (blocks),
LangChain, Gemini, Bedrock and what resembles them. Who says it, ids, addresses and encoded
files are not text; what tools are called with, and what they answer, is.

How text is indexed and queried is in `_terms`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto
from itertools import chain, islice
from typing import Any, Final, TypeAlias

MAX_CHARACTERS: Final = 1 << 18
"""Of one message; what comes after them is not found."""
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 1 << 16
"""How many values of one message are looked at."""

_ENCODED_CHARACTERS: Final = 256
"""A run of so many letters and digits is an encoded file, and nobody looks for it."""
_BLOCK: Final = _ENCODED_CHARACTERS // 2


class _Kind(Enum):
    """How a value is to be understood."""

    CONTENT = auto()
    """Text, parts of a message, or a list of those."""
    CALL = auto()
    """A call of a tool: its name is text too."""
    ARGUMENTS = auto()
    """Anything: all that is in it, keys included."""
    RESULT = auto()
    """Anything: all values in it."""


_Item: TypeAlias = tuple[Any, _Kind]
TextOf: TypeAlias = Callable[[Mapping[Any, Any]], str]
"""What text a message has."""

_CALLED_WITH: Final = ("arguments", "args", "input")
_DONE: Final = ("action", "operation", "queries")
"""What tools of a model's vendor are called with: a command, a patch, a search."""
_KINDS: Final[dict[object, _Kind]] = {
    **dict.fromkeys(
        (
            *("content", "text", "parts", "message", "event", "transcript", "refusal", "summary"),
            *("thinking", "reasoning", "reasoning_content", "reasoningContent", "reasoningText"),
            *("tool_calls", "functionResponse", "function_response", "toolResult"),
            *("customTitle", "aiTitle"),
            *("executableCode", "executable_code", "code"),
            *("codeExecutionResult", "code_execution_result"),
        ),
        _Kind.CONTENT,
    ),
    **dict.fromkeys(
        ("function", "function_call", "functionCall", "toolUse", "tool_use"), _Kind.CALL
    ),
    **dict.fromkeys((*_CALLED_WITH, *_DONE), _Kind.ARGUMENTS),
    **dict.fromkeys(("output", "result", "response", "json"), _Kind.RESULT),
}
"""What is text in a message or in a part of one."""

_NESTED: Final = frozenset({"data", "kwargs"})
"""Where LangChain writes down a message inside of one; as text these are encoded files."""
_PLAIN: Final = frozenset(
    {"role", "content", "id", "name", "type", "timestamp", "created_at", "tool_call_id"}
)
"""With no other keys the content is all the text there is."""
_NAMES: Final = ("name", "tool_name", "toolName")
_NO_RESULTS: Final = frozenset({"id", "type", "mimeType", "mime_type", "signature"})

_ENCODED: Final = re.compile(
    r"data:[\w.+-]+/[\w.+-]+(?:;[\w.+=-]+)*,[^\s\"'<>()\[\]{}]*"
    rf"|(?<![\w+/=-])[A-Za-z0-9+/=_-]{{{_ENCODED_CHARACTERS},}}"
)


def text_of(message: Mapping[Any, Any]) -> str:
    """The text of a message, at most `MAX_CHARACTERS`; never raises."""
    if type(message) is dict and message.keys() <= _PLAIN:  # nearly all messages
        content = message.get("content")
        if type(content) is str:
            return _without_encoded(content[:MAX_CHARACTERS])
    pieces: list[str] = []
    room = MAX_CHARACTERS
    with contextlib.suppress(Exception):  # of mappings that are not what they seem
        for text in _texts(message):
            text = _without_encoded(text[:room])
            if not text or text.isspace():
                continue
            pieces.append(text)
            room -= len(text) + 1
            if room <= 0:
                break
    return pieces[0] if len(pieces) == 1 else "\n".join(pieces)


def _without_encoded(text: str) -> str:
    # A run that long fills one of these blocks: most texts are told by looking for spaces.
    for at in range(0, len(text) - _BLOCK + 1, _BLOCK):
        if " " not in text[at : at + _BLOCK]:
            break
    else:
        if "data:" not in text:
            return text
    return _ENCODED.sub(" ", text)


def _texts(message: Mapping[Any, Any]) -> Iterator[str]:
    stack: list[Iterator[_Item]] = [_parts(message, _Kind.CONTENT)]
    left = MAX_VALUES
    while stack and left:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
            continue
        left -= 1
        value, kind = item
        if isinstance(value, str) and kind is _Kind.ARGUMENTS:
            value = _parsed(value)
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping | list | tuple):
            if len(stack) < MAX_DEPTH:
                stack.append(_inside(value, kind))
        elif kind in (_Kind.ARGUMENTS, _Kind.RESULT) and _is_number(value):
            yield str(value)


def _inside(value: Any, kind: _Kind) -> Iterator[_Item]:
    if not isinstance(value, Mapping):
        return ((item, kind) for item in value)
    if kind is _Kind.ARGUMENTS:
        return chain.from_iterable(
            ((f"{key}:", _Kind.RESULT), (item, kind)) for key, item in value.items()
        )
    if kind is _Kind.RESULT:
        return ((item, kind) for key, item in value.items() if key not in _NO_RESULTS)
    return _parts(value, kind)


def _parts(value: Mapping[Any, Any], kind: _Kind) -> Iterator[_Item]:
    is_call = kind is _Kind.CALL or any(key in value for key in _CALLED_WITH)
    for key, item in value.items():
        found = _KINDS.get(key) if isinstance(key, str) else None
        if found is not None:
            if key == "content" and isinstance(item, Mapping) and _is_shapeless(item):
                found = _Kind.RESULT
            yield item, found
        elif key in _NESTED:
            if isinstance(item, Mapping):
                yield item, _Kind.CONTENT
        elif key in _NAMES:
            if is_call and isinstance(item, str):
                yield item, _Kind.CONTENT
        elif key == "source" and isinstance(item, Mapping) and item.get("type") == "text":
            yield item.get("data"), _Kind.CONTENT


def _is_shapeless(value: Mapping[Any, Any]) -> bool:
    return "type" not in value and not any(
        isinstance(key, str) and (key in _KINDS or key in _NESTED)
        for key in islice(value, MAX_DEPTH)
    )


def _parsed(text: str) -> Any:
    """Arguments are often JSON, in which other letters than ASCII are escaped."""
    if text[:1] not in "{[" or len(text) > MAX_CHARACTERS:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is_number(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and value.bit_length() <= 64
    return isinstance(value, float)


__all__ = ["MAX_CHARACTERS", "TextOf", "text_of"]
