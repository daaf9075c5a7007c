"""Any bytes where an encoded message should be: decoded, or refused by one error."""

from __future__ import annotations

from random import Random
from types import TracebackType
from typing import Any, Final, Self

import msgpack

from sessionactor import _codec as codec
from sessionactor._errors import MessageEncodingError
from torture.hostile import garbage
from torture.hostile.area import Places, broken
from torture.hostile.comparing import is_known, same
from torture.hostile.messages import plain

_AT_ONCE: Final = 50
_MOST_BYTES: Final = 8 << 20


class Codec:
    """The codec alone, without a file."""

    def __init__(self, places: Places) -> None:
        """It needs no place."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    async def round(self, chance: Random) -> int:
        for _ in range(_AT_ONCE):
            message = plain(chance)
            data = codec.encode(message, max_bytes=_MOST_BYTES)
            if not same(codec.decode(data), message):
                broken("a message came back as another one", message)
            _hold(garbage.packed(chance))
            _hold(garbage.spoilt(data, chance, garbage.packed(chance)))
        return 3 * _AT_ONCE


def _hold(data: bytes) -> None:
    try:
        found = codec.decode(data)
    except codec.UndecodableError:
        return
    if type(found) is not dict or not is_known(found):
        broken("bytes became what no message is", data)
    try:
        expected, marked = _as_msgpack(data)
    except Exception as error:
        broken(f"bytes that are no msgpack ({error!r}) became {found!r:.100}", data)
    if not marked and not same(found, expected):
        broken(f"bytes became {found!r:.100}, not {expected!r:.100}", data)
    try:
        again = codec.decode(codec.encode(found, max_bytes=_MOST_BYTES))
    except MessageEncodingError:
        return  # deeper than what is encoded
    if not same(again, found):
        broken(f"what was decoded, {found!r:.100}, is another message when it is stored", data)


def _as_msgpack(data: bytes) -> tuple[Any, bool]:
    """What msgpack itself makes of it, and whether extensions of ours are in it."""
    marked = False

    def extension(code: int, body: bytes) -> Any:
        nonlocal marked
        marked |= code < 0
        return () if code < 0 else msgpack.ExtType(code, body)

    options: dict[str, Any] = {"strict_map_key": False, "unicode_errors": "surrogatepass"}
    try:
        return msgpack.unpackb(data, ext_hook=extension, **options), marked
    except TypeError:  # what cannot be hashed is a key, unless it is a tuple in truth
        if not marked:
            raise
    return None, True
