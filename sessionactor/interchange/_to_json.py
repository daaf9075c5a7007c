"""Messages as JSON text.

What JSON cannot hold is tagged. A tag is an object with one member, whose name begins with `$`.
An object of a message that looks like one is written as the tag `$map`, so that nothing is
mistaken. `docs/import-export.md` lists the tags.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final

import msgpack

from sessionactor._codec import decode

LONG: Final = 1 << 18
"""Bytes from which on text is made and parsed in small steps: else no other thread runs."""

_LONE: Final = re.compile("[\ud800-\udfff]")
_TO_ESCAPE: Final = re.compile("[\\\\\ud800-\udfff]")
_ZERO: Final = timedelta(0)
_NAN: Final = struct.pack(">d", math.nan)
_plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_ascii = json.JSONEncoder(ensure_ascii=True).encode


def quoted(value: str | float | None) -> str:
    """A string or number as JSON."""
    return _plain(value)


def message_text(data: bytes, *, foreign: bool = False) -> tuple[str, bool]:
    """An encoded message as JSON, and whether anything in it had to be tagged.

    `foreign`: for readers who know no tags. Numbers of any size and lone surrogates are
    written plainly then.

    Raises:
        UndecodableError: it is not a message.
    """
    if len(data) < LONG:
        text = _plain_text(data)
        if text is not None and (foreign or '{"$' not in text):
            return text, False
    return value_text(decode(data), foreign=foreign)


def value_text(value: Any, *, foreign: bool = False) -> tuple[str, bool]:
    """A value of a message as JSON, and whether anything in it had to be tagged."""
    writer = _Writer(foreign)
    writer.write(value)
    return "".join(writer.pieces), writer.tagged


def _plain_text(data: bytes) -> str | None:
    """A message as JSON, if JSON holds all of it."""
    try:
        message = msgpack.unpackb(data, strict_map_key=True, ext_hook=_refuse)
        return _plain(message) if type(message) is dict else None
    except Exception:  # it is looked at more closely then
        return None


def _refuse(code: int, data: bytes) -> Any:
    raise ValueError


class _Writer:
    """Writes values of all types that a message can hold; a call deeper for a level of them."""

    def __init__(self, foreign: bool) -> None:
        self.pieces: list[str] = []
        self.tagged = False
        self._foreign = foreign

    def write(self, value: Any) -> None:
        _WRITERS[type(value)](self, value)

    def put_scalar(self, value: bool | None) -> None:
        self.pieces.append(quoted(value))

    def put_dict(self, value: dict[Any, Any]) -> None:
        put = self.pieces.append
        is_plain = self._is_plain(value)
        begin, middle, between, end = ("{", ":", ",", "}") if is_plain else _MAP
        self.tagged |= not is_plain
        put(begin)
        separator = ""
        for key, item in value.items():
            put(separator)
            separator = between
            if is_plain:
                put(_ascii(key) if _LONE.search(key) else quoted(key))
            else:
                _WRITERS[type(key)](self, key)
            put(middle)
            _WRITERS[type(item)](self, item)
        put(end)

    def _is_plain(self, value: dict[Any, Any]) -> bool:
        if any(type(key) is not str for key in value):
            return False
        if self._foreign:
            return all(map(_stays, value))
        if len(value) == 1 and next(iter(value)).startswith("$"):
            return False
        return not any(map(_LONE.search, value))

    def put_list(self, items: list[Any]) -> None:
        self._items("[", items, "]")

    def put_tuple(self, items: tuple[Any, ...]) -> None:
        self.tagged = True
        self._items('{"$tuple":[', items, "]}")

    def _items(self, begin: str, items: Iterable[Any], end: str) -> None:
        put = self.pieces.append
        put(begin)
        separator = ""
        for item in items:
            put(separator)
            separator = ","
            _WRITERS[type(item)](self, item)
        put(end)

    def put_set(self, items: Iterable[Any]) -> None:
        texts = []
        for item in items:
            apart = _Writer(self._foreign)
            _WRITERS[type(item)](apart, item)
            texts.append("".join(apart.pieces))
        texts.sort()  # sets are stored in an order of chance
        self._tag(f"${type(items).__name__}", f"[{','.join(texts)}]")

    def put_text(self, value: str) -> None:
        if not _LONE.search(value):
            self.pieces.append(quoted(value))
        elif self._foreign and _stays(value):
            self.pieces.append(_ascii(value))
        else:
            self._tag("$text", quoted(_TO_ESCAPE.sub(_escape, value)))

    def put_int(self, value: int) -> None:
        if -(2**63) <= value < 2**64 or (self._foreign and value.bit_length() < 10_000):
            self.pieces.append(str(value))
        else:
            self._tag("$int", quoted(hex(value)))

    def put_float(self, value: float) -> None:
        if math.isfinite(value):
            self.pieces.append(quoted(value))
        else:
            self._tag("$float", quoted(_float_text(value)))

    def put_bytes(self, value: bytes) -> None:
        self._tag("$bytes", quoted(_base64(value)))

    def put_datetime(self, value: datetime) -> None:
        self._tag("$datetime", quoted(_datetime_text(value)))

    def put_timestamp(self, value: msgpack.Timestamp) -> None:
        self._tag("$timestamp", f"[{value.seconds},{value.nanoseconds}]")

    def put_extension(self, value: msgpack.ExtType) -> None:
        self._tag("$ext", f"[{value.code},{quoted(_base64(value.data))}]")

    def _tag(self, name: str, content: str) -> None:
        self.tagged = True
        self.pieces.append(f'{{"{name}":{content}}}')


_MAP: Final = ('{"$map":[[', ",", "],[", "]]}")
_WRITERS: Final[dict[type, Callable[[_Writer, Any], None]]] = {
    type(None): _Writer.put_scalar,
    bool: _Writer.put_scalar,
    int: _Writer.put_int,
    float: _Writer.put_float,
    str: _Writer.put_text,
    bytes: _Writer.put_bytes,
    dict: _Writer.put_dict,
    list: _Writer.put_list,
    tuple: _Writer.put_tuple,
    set: _Writer.put_set,
    frozenset: _Writer.put_set,
    datetime: _Writer.put_datetime,
    msgpack.Timestamp: _Writer.put_timestamp,
    msgpack.ExtType: _Writer.put_extension,
}


def _stays(text: str) -> bool:
    """Whether escapes of single surrogates give the same text again."""
    if not _LONE.search(text):
        return True
    again: str = json.loads(_ascii(text))
    return again == text


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    return "\\\\" if char == "\\" else f"\\u{ord(char):04x}"


def _float_text(value: float) -> str:
    if math.isnan(value):
        bits = struct.pack(">d", value)
        return "nan" if bits == _NAN else f"nan:{bits.hex()}"
    return "inf" if value > 0 else "-inf"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _datetime_text(value: datetime) -> str:
    text = datetime.combine(value.date(), value.time()).isoformat()
    offset = value.utcoffset()
    if offset is not None:
        sign, off = ("-", -offset) if offset < _ZERO else ("+", offset)
        hours, rest = divmod(off.seconds, 3600)
        text += f"{sign}{hours:02}:{rest // 60:02}"
        if rest % 60 or off.microseconds:
            text += f":{rest % 60:02}"
        if off.microseconds:
            text += f".{off.microseconds:06}"
    return f"{text} fold" if value.fold else text


__all__ = ["LONG", "message_text", "quoted", "value_text"]
