"""Messages from JSON text that may be anything: what `_to_json` tagged is made again."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any, Final

import msgpack

from sessionactor.interchange._to_json import LONG

MAX_DEPTH: Final = 1000
"""How deep the text may nest; a message of 256 levels needs 768."""

_ESCAPED: Final = re.compile(r"\\(?:u(d[89a-f][0-9a-f]{2})|\\)|\\")
_STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_NOT_BRACKET: Final = re.compile(r"[^][{}]+")
_DATETIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{6})?)"
    r"(?:([+-])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{6}))?)?)?( fold)?",
    re.ASCII,
)


class BadLineError(ValueError):
    """A line that is not what it has to be; the text says why."""


def parse(text: str, *, foreign: bool = False) -> Any:
    """The value of a JSON text, tags resolved unless it is foreign.

    Raises:
        BadLineError: it is not JSON, or not what JSON is used for here.
    """
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise BadLineError(f"it nests deeper than {MAX_DEPTH} levels")
    short, long = (_FOREIGN, _FOREIGN_LONG) if foreign else (_TAGGED, _TAGGED_LONG)
    try:
        if len(text) >= LONG:
            try:
                return long.decode(text)
            except RecursionError:  # it needs more of the stack
                pass
        return short.decode(text)
    except BadLineError:
        raise
    except json.JSONDecodeError as error:
        raise BadLineError(f"not JSON: {error.msg}, column {error.colno}") from error
    except RecursionError as error:
        raise BadLineError("it nests too deeply") from error
    except (ValueError, OverflowError) as error:  # a number of too many digits
        raise BadLineError(str(error)) from error


def _depth(text: str) -> int:
    deepest = depth = 0
    for bracket in _NOT_BRACKET.sub("", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
        if deepest > MAX_DEPTH:
            break
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise BadLineError(f"the member {twice!r} is there twice")
    return value


def _tagged(pairs: list[tuple[str, Any]]) -> Any:
    if len(pairs) == 1 and pairs[0][0].startswith("$"):
        name, content = pairs[0]
        build = _TAGS.get(name)
        if build is None:
            raise BadLineError(f"the tag {name} is not known")
        try:
            return build(content)
        except BadLineError:
            raise
        except Exception as error:
            raise BadLineError(f"that is no {name}: {error}") from error
    return _object(pairs)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise BadLineError(f"the number {text[:40]} is beyond what a double holds")
    return value


def _constant(name: str) -> Any:
    raise BadLineError(f"not JSON: {name}")


def _unescape(found: re.Match[str]) -> str:
    if found[1]:
        return chr(int(found[1], 16))
    if found[0] == "\\":
        raise BadLineError(r"a backslash in $text is \\ or \ud800 to \udfff")
    return "\\"


def _as(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise BadLineError(f"a {kind.__name__} is expected, not a {type(value).__name__}")
    return value


def _as_set(kind: type) -> Callable[[Any], Any]:
    def build(content: Any) -> Any:
        items = kind(_as(list, content))
        if len(items) != len(content):
            raise BadLineError(f"an item of a ${kind.__name__} is there twice")
        return items

    return build


def _pair(item: Any) -> tuple[Any, Any]:
    key, value = _as(list, item)
    return key, value


def _as_map(content: Any) -> dict[Any, Any]:
    value = dict(map(_pair, _as(list, content)))
    if len(value) != len(content):
        raise BadLineError("a key of a $map is there twice")
    return value


def _as_float(content: Any) -> float:
    text = _as(str, content)
    if text in ("inf", "-inf", "nan"):
        return float(text)
    if not text.startswith("nan:"):
        raise BadLineError(f"{text!r} is no $float")
    value: float = struct.unpack(">d", bytes.fromhex(text[4:]))[0]
    if not math.isnan(value):
        raise BadLineError(f"{text!r} is no $float")
    return value


def _as_datetime(content: Any) -> datetime:
    found = _DATETIME.fullmatch(_as(str, content))
    if found is None:
        raise BadLineError(f"{content!r} is no $datetime")
    local, sign, hours, minutes, seconds, microseconds, fold = found.groups()
    value = datetime.fromisoformat(local).replace(fold=1 if fold else 0)
    if not sign:
        return value
    off = timedelta(
        hours=int(hours),
        minutes=int(minutes),
        seconds=int(seconds or 0),
        microseconds=int(microseconds or 0),
    )
    return value.replace(tzinfo=timezone(off if sign == "+" else -off))


def _from_base64(content: Any) -> bytes:
    return base64.b64decode(_as(str, content), validate=True)


def _as_ext(content: Any) -> msgpack.ExtType:
    code, data = content
    return msgpack.ExtType(_as(int, code), _from_base64(data))


def _as_timestamp(content: Any) -> msgpack.Timestamp:
    seconds, nanoseconds = content
    return msgpack.Timestamp(_as(int, seconds), _as(int, nanoseconds))


_TAGS: Final[dict[str, Callable[[Any], Any]]] = {
    "$bytes": _from_base64,
    "$datetime": _as_datetime,
    "$ext": _as_ext,
    "$float": _as_float,
    "$frozenset": _as_set(frozenset),
    "$int": lambda content: int(_as(str, content), 16),
    "$map": _as_map,
    "$set": _as_set(set),
    "$text": lambda content: _ESCAPED.sub(_unescape, _as(str, content)),
    "$timestamp": _as_timestamp,
    "$tuple": lambda content: tuple(_as(list, content)),
}


def _decoder(hook: Callable[[list[tuple[str, Any]]], Any]) -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=hook, parse_float=_float, parse_constant=_constant)


def _in_steps(decoder: json.JSONDecoder) -> json.JSONDecoder:
    decoder.scan_once = py_make_scanner(decoder)  # type: ignore[attr-defined]
    return decoder


_FOREIGN: Final = _decoder(_object)
_FOREIGN_LONG: Final = _in_steps(_decoder(_object))
_TAGGED: Final = _decoder(_tagged)
_TAGGED_LONG: Final = _in_steps(_decoder(_tagged))

__all__ = ["BadLineError", "parse"]
