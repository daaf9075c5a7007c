"""What commands print with `--json`: stable fields, and no value that JSON cannot hold.

All of it is ASCII, so that nothing that a message holds can command a terminal.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Mapping, Set
from datetime import datetime
from typing import Any, Final

from sessionactor import Event

_MANY_BITS: Final = 10_000
"""Of an integer that neither Python nor other programs read in decimal."""


def encoded(value: Any) -> str:
    """A value as a line of JSON."""
    text = json.dumps(plain(value), ensure_ascii=True, allow_nan=False)
    return text.replace("\x7f", "\\u007f")


def plain(value: Any) -> Any:
    """A value as JSON can hold it.

    Times become ISO 8601 text, paths text, sets and tuples arrays, keys text, `bytes`
    `{"$bytes": <base64>}`, integers of thousands of digits `{"$int": <hex>}`, and what is no
    number text: `"NaN"`, `"Infinity"`, `"-Infinity"`.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < _MANY_BITS else {"$int": hex(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): plain(part) for key, part in value.items()}
    if isinstance(value, Set):
        return sorted(map(plain, value), key=json.dumps)
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else _no_number(value)
        case bytes():
            return {"$bytes": base64.b64encode(value).decode("ascii")}
        case datetime():
            return value.isoformat()
    return str(value)


def event(value: Event) -> dict[str, Any]:
    """What a subscriber was told, with its kind."""
    fields: dict[str, Any] = plain(value)
    return {"event": _in_words(type(value).__name__), **fields}


def _in_words(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    found = plain(key)
    return found if isinstance(found, str) else json.dumps(found)


def _no_number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


__all__ = ["encoded", "event", "plain"]
