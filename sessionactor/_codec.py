"""Messages to bytes and back: msgpack, with extension types for what msgpack would lose.

Plain messages are plain msgpack, readable by any msgpack library. The extension codes are
negative, which `msgpack.ExtType` refuses to users, so nothing that a message holds can be
mistaken for ours. A tuple, set or frozenset is an array whose first element is an empty
extension that names the kind; datetimes and integers beyond 64 bit are extensions that
hold them. Decoding builds these types and nothing else.

Source of the format: the msgpack specification, https://github.com/msgpack/msgpack.
"""

from __future__ import annotations

import threading
import traceback
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any, Final

import msgpack

from sessionactor._errors import MessageEncodingError, MessageTooLargeError, StorageError
from sessionactor._nesting import MAX_DEPTH, SCALARS, blamed, is_too_deep

_TUPLE, _SET, _FROZENSET, _DATETIME, _INTEGER = -17, -18, -19, -20, -21
_SEQUENCES: Final[dict[type, int]] = {tuple: _TUPLE, set: _SET, frozenset: _FROZENSET}
_MICROSECOND: Final = timedelta(microseconds=1)
_CHUNK_BYTES: Final = 1 << 18
_KEPT_BYTES: Final = 1 << 20
_BUFFER_BYTES: Final = 2**31 - 1
# The complement of the bytes that can head a container: at most as many containers nest.
_NO_HEADER: Final = bytes(
    byte for byte in range(256) if not (0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF)
)


class UndecodableError(ValueError):
    """Bytes that `encode` never wrote."""


def encode(message: object, *, max_bytes: int, session_id: str | None = None) -> bytes:
    """Encode a message, without any effect on it and without keeping a reference to it.

    Raises:
        MessageEncodingError: naming the path of what cannot be stored.
        MessageTooLargeError: more than `max_bytes` encoded.
        StorageError: there is not enough memory.
    """
    try:
        if type(message) is not dict:
            if not isinstance(message, Mapping):
                raise TypeError(f"a message is a mapping, not {type(message).__name__}")
            message = dict(message)
        data = _pack(message)
    except MemoryError as error:
        _packers.renew()
        traceback.clear_frames(error.__traceback__)
        raise StorageError(
            "there is not enough memory to encode the message", path=None, session_id=session_id
        ) from error
    except Exception as error:  # whatever the methods of hostile classes raise
        path, reason = blamed(message, error, _packers.any_text.pack)
        raise MessageEncodingError(
            f"cannot store {path or 'the message'}: {reason}", path=path, session_id=session_id
        ) from error
    if len(data) > _KEPT_BYTES:
        _packers.renew()
    size = len(data)
    if size > max_bytes:
        del data  # whoever keeps the error keeps all that its frames know
        raise MessageTooLargeError(
            f"the message has {size} bytes encoded, more than max_message_bytes={max_bytes}",
            size=size,
            limit=max_bytes,
            session_id=session_id,
        )
    return data


def decode(data: bytes) -> dict[Any, Any]:
    """Decode what `encode` wrote into fresh objects.

    Raises:
        UndecodableError: for any other bytes.
    """
    try:
        try:
            message = _unpack(data)
        except _MarkedError:
            rebuilder = _Rebuilder()
            message = _unpack(data, ext_hook=rebuilder.extension, list_hook=rebuilder.array)
            rebuilder.check()
    except MemoryError:
        raise  # which says nothing of the bytes
    except Exception as error:  # whatever hostile bytes provoke
        raise UndecodableError(f"not an encoded message: {error!r}") from error
    if type(message) is not dict:
        raise UndecodableError(f"not an encoded message but a {type(message).__name__}")
    return message


def decode_all(datas: Sequence[bytes]) -> list[dict[Any, Any]]:
    """Decode many plain messages, several times as fast as one by one.

    Raises:
        UndecodableError: one of them is large, marked or corrupt; `decode` tells which.
    """
    longest = max(map(len, datas), default=0)
    if longest > _CHUNK_BYTES:
        raise UndecodableError("not a plain message")
    # Before msgpack 1.2.4 room is made for as many elements as a header pretends to head; each
    # takes a byte at least.
    unpacker = msgpack.Unpacker(
        max_buffer_size=_BUFFER_BYTES, max_array_len=longest, max_map_len=longest, **_OPTIONS
    )
    messages = []
    end = 0
    try:
        unpacker.feed(b"".join(datas))
        unpack, tell = unpacker.unpack, unpacker.tell
        for data in datas:
            message = unpack()
            end += len(data)
            if type(message) is not dict or tell() != end:
                raise UndecodableError("not a plain message")
            messages.append(message)
    except (UndecodableError, MemoryError):
        raise
    except Exception as error:  # whatever hostile bytes provoke
        raise UndecodableError(f"not plain messages: {error!r}") from error
    return messages


class _Packers(threading.local):
    """The packers of one event loop's thread: they keep a buffer, and one caller at a time."""

    utf8: msgpack.Packer
    any_text: msgpack.Packer
    """Slower: for cut model output."""

    def __getattr__(self, name: str) -> msgpack.Packer:
        # Made when it is wanted: there may be too little memory when another is given up.
        packer = _packer({"utf8": None, "any_text": "surrogatepass"}[name])
        setattr(self, name, packer)
        return packer

    def renew(self) -> None:
        """Give up the buffers, which never shrink: after something large."""
        self.__dict__.clear()


def _packer(unicode_errors: str | None) -> msgpack.Packer:
    return msgpack.Packer(default=special, strict_types=True, unicode_errors=unicode_errors)


def _nested(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = [value]
    return value


@cache
def _spare_depth() -> int:
    """How many levels more than MAX_DEPTH msgpack packs: that differs between its releases."""

    def fits(levels: int) -> bool:
        try:
            msgpack.packb(_nested([], levels + MAX_DEPTH - 1))
        except ValueError:
            return False
        return True

    return bisect_left(range(1 << 16), True, key=lambda levels: not fits(levels)) - 1


def _pack(message: dict[Any, Any]) -> bytes:
    packer = _packers.utf8
    try:
        data: bytes = packer.pack(message)
    except UnicodeEncodeError:
        packer = _packers.any_text
        data = packer.pack(message)
    if (
        len(data) > MAX_DEPTH
        and not SCALARS.issuperset(map(type, (*message, *message.values())))  # flat, as most
        and len(data.translate(None, _NO_HEADER)) > MAX_DEPTH
    ):
        # Maybe too deep: wrapped so far that only MAX_DEPTH levels are left, msgpack tells,
        # but some of its releases count what is innermost as a level too.
        try:
            packer.pack(_nested(message, _spare_depth()))
        except ValueError:
            if is_too_deep(message):
                raise
    return data


def _extension(code: int, data: bytes = b"") -> msgpack.ExtType:
    return msgpack.ExtType._make((code, data))


def special(value: Any) -> Any:
    """What msgpack cannot hold, as something that it can: the packer's `default`."""
    kind = type(value)
    if kind is tuple or kind is set or kind is frozenset:
        return [_extension(_SEQUENCES[kind]), *value]
    if kind is int:
        return _extension(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if isinstance(value, datetime):
        return _extension(_DATETIME, _time_text(value).encode())
    return _base(value)


def _base(value: Any) -> Any:
    """An instance of a subclass as its base type."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__int__(value)
        return number if -(2**63) <= number < 2**64 else special(number)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytes | bytearray):
        return bytes(memoryview(value))
    if isinstance(value, tuple | set | frozenset):
        kind = next(base for base in _SEQUENCES if isinstance(value, base))
        return [_extension(_SEQUENCES[kind]), *value]
    if isinstance(value, list):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__qualname__} is not a type that a message can hold")


class _Marker:
    __slots__ = ("build",)

    def __init__(self, build: Callable[[list[Any]], Any]) -> None:
        self.build = build


class _MarkedError(Exception):
    """The message holds a marked array: it has to be unpacked with a hook on every array."""


_MARKERS: Final = {_TUPLE: _Marker(tuple), _SET: _Marker(set), _FROZENSET: _Marker(frozenset)}


def _unpack(data: bytes, **hooks: Callable[..., Any]) -> Any:
    options = _OPTIONS | hooks
    if len(data) <= _CHUNK_BYTES:
        return msgpack.unpackb(data, **options)
    # In pieces, because a piece is parsed without letting any other thread run.
    unpacker = msgpack.Unpacker(max_buffer_size=len(data), **options)
    for start in range(0, len(data), _CHUNK_BYTES):
        unpacker.feed(data[start : start + _CHUNK_BYTES])
        try:
            message = unpacker.unpack()
        except msgpack.OutOfData:
            continue
        if unpacker.tell() != len(data):
            raise ValueError("extra bytes")
        return message
    raise ValueError("cut off")


def _leaf(code: int, data: bytes) -> Any:
    if code == _DATETIME:
        return _time(data.decode("ascii"))
    if code == _INTEGER:
        return int.from_bytes(data, "big", signed=True)
    if code in _MARKERS and not data:
        raise _MarkedError
    if code < 0:
        raise ValueError(f"unknown extension {code}")
    return msgpack.ExtType(code, data)


def _time_text(value: datetime) -> str:
    text = datetime.combine(value.date(), value.time()).isoformat()
    fold = "f" if value.fold else ""
    offset = value.utcoffset()
    # Apart from the rest: some releases of Python misread offsets below a second.
    return f"{text}{fold}" if offset is None else f"{text}{fold}@{offset // _MICROSECOND}"


def _time(text: str) -> datetime:
    local, aware, offset = text.partition("@")
    value = datetime.fromisoformat(local.removesuffix("f")).replace(fold=local.endswith("f"))
    if aware:
        return value.replace(tzinfo=timezone(int(offset) * _MICROSECOND))
    return value


class _Rebuilder:
    """Makes marked arrays what they were; a marker anywhere else is no message of ours."""

    def __init__(self) -> None:
        self._markers_left = 0

    def extension(self, code: int, data: bytes) -> Any:
        """Stand for a marker, or decode a leaf."""
        marker = None if data else _MARKERS.get(code)
        if marker is None:
            return _leaf(code, data)
        self._markers_left += 1
        return marker

    def array(self, items: list[Any]) -> Any:
        """Rebuild an array that begins with a marker."""
        if items and type(items[0]) is _Marker:
            self._markers_left -= 1
            return items[0].build(items[1:])
        return items

    def check(self) -> None:
        """Refuse markers that no array began with."""
        if self._markers_left:
            raise ValueError("a marker outside of an array")


_packers = _Packers()
_OPTIONS: Final[dict[str, Any]] = {
    "strict_map_key": False,
    "unicode_errors": "surrogatepass",
    "ext_hook": _leaf,
}
