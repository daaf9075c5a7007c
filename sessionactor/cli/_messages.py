"""Rows and chapters as lines for people: who says it, coloured by role, and the text.

Messages are understood in the shapes that people store (OpenAI, Anthropic, LangChain, Gemini);
what is in no known shape is shown as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.text import Text

from sessionactor import Row
from sessionactor.cli._json import plain
from sessionactor.cli._text import clean, clipped, counted, moment

SHOWN_CHARACTERS: Final = 4000
"""Of one message, unless all of it is asked for."""
_ARGUMENT_CHARACTERS: Final = 400
_DEPTH: Final = 32

_STYLES: Final = {
    "user": "green",
    "human": "green",
    "assistant": "cyan",
    "ai": "cyan",
    "model": "cyan",
    "system": "magenta",
    "developer": "magenta",
    "tool": "yellow",
    "function": "yellow",
    "summary": "bold blue",
}
_CALLS: Final = ("tool_calls", "function_call", "functionCall", "tool_use", "toolUse", "function")
_ANSWERS: Final = ("functionResponse", "function_response", "tool_result", "toolResult")
_SAYS: Final = ("thinking", "reasoning", "summary", "text", "content", "refusal", "parts")
_NESTED: Final = ("data", "message", "event")
_HOLDERS: Final = ("data", "message", "content")
"""Where a message that has no role itself may have one inside."""
_CALLED_WITH: Final = ("arguments", "args", "input", "action", "operation", "queries", "code")


def header(row: Row, *, note: str = "") -> Text:
    """The line above a message: its id, who says it, when, and what it belongs to."""
    role = role_of(row.message)
    style = _STYLES.get(role, "")
    line = Text()
    line.append(str(row.db_id), style="bold")
    line.append("  ")
    line.append(clean(clipped(role or "?", 40)), style=f"bold {style}".strip())
    line.append(f"  {clean(row.agent_id)}")
    about = [moment(row.inserted_at)]
    if row.turn is not None:
        about.append(f"turn {clean(row.turn)}")
    if row.parent is not None:
        about.append(f"parent {clean(row.parent)}")
    if row.checkpoint:
        kept = "" if row.keep_from is None else f" of what is older than {row.keep_from}"
        about.append(f"checkpoint{kept}")
    if row.updated_at is not None:
        about.append(f"updated {moment(row.updated_at)}")
    if note:
        about.append(note)
    line.append("  " + "  ".join(about), style="dim")
    return line


def body(row: Row, *, whole: bool = False) -> Text:
    """A message's text, in the colour of its role."""
    return Text(shown(text(row.message), whole=whole), style=_STYLES.get(role_of(row.message), ""))


def shown(full: str, *, whole: bool = False) -> str:
    """The text of a message, safe, and cut where it is very long."""
    if whole or len(full) <= SHOWN_CHARACTERS:
        return clean(full, lines=True)
    left = counted(len(full) - SHOWN_CHARACTERS, "character")
    return f"{clean(full[:SHOWN_CHARACTERS], lines=True)}…\n[{left} more: --full]"


def role_of(message: Mapping[Any, Any]) -> str:
    """Who says it, by the message itself."""
    for holder in (message, *(message.get(key) for key in _HOLDERS)):
        if isinstance(holder, Mapping):
            for key in ("role", "type"):
                role = holder.get(key)
                if isinstance(role, str) and role:
                    return role
    return ""


def text(message: Mapping[Any, Any]) -> str:
    """All that a message says, a piece a line: its text, the calls of tools and their answers."""
    pieces = [piece for piece in _pieces(message, 0) if piece]
    if not pieces and isinstance(message.get("note"), str):
        return str(message["note"])  # of a row that an adapter keeps beside the messages
    return "\n".join(pieces) if pieces else _json(message)


def _pieces(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth > _DEPTH:
        yield _json(value)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _pieces(part, depth + 1)
    elif isinstance(value, Mapping):
        yield from _part(value, depth)
    elif value is not None:
        yield _json(value)


def _part(value: Mapping[Any, Any], depth: int) -> Iterator[str]:
    """A message, or a part of one."""
    kind = value.get("type")
    if not isinstance(kind, str):
        kind = ""
    if kind in ("tool_use", "function_call", "tool_call") or kind.endswith("_call"):
        yield _call(value)
    elif kind == "tool_result" or kind.endswith("_call_output"):
        yield from _answer(value.get("content", value.get("output")), depth)
    elif _is_known(value):
        for key in _SAYS:
            yield from _pieces(value.get(key), depth + 1)
        for key in _CALLS:
            calls = value.get(key) or []
            yield from map(_call, calls if isinstance(calls, list) else [calls])
        for key in _ANSWERS:
            yield from _answer(value.get(key), depth)
    else:
        nested = [value[key] for key in _NESTED if _is_known(value.get(key))]
        if nested:
            yield from _pieces(nested, depth)
        elif depth:
            yield _json(value)


def _is_known(value: Any) -> bool:
    return isinstance(value, Mapping) and any(
        value.get(key) for key in (*_SAYS, *_CALLS, *_ANSWERS)
    )


def _call(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"→ {_json(value)}"
    called = value.get("function") if isinstance(value.get("function"), Mapping) else value
    assert isinstance(called, Mapping)
    given = next((called[key] for key in _CALLED_WITH if key in called), None)
    if not isinstance(given, str):
        given = "" if given is None else _json(given)
    name = called.get("name") or called.get("type") or "?"
    return f"→ {name}({clipped(given, _ARGUMENT_CHARACTERS)})"


def _answer(value: Any, depth: int) -> Iterator[str]:
    for piece in _pieces(value, depth + 1):
        yield f"← {piece}"


def _json(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False)


__all__ = ["body", "header", "role_of", "shown", "text"]
