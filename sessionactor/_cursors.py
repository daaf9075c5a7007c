"""Where a walk over all sessions goes on: what callers keep between two pages.

A walk by activity has two parts. First come the sessions that have not changed since it
began, the newest first. Whatever changed meanwhile left its place in that order; those come
then, each once, in the order of their numbers in the catalog.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Final, Literal, NamedTuple, NoReturn, TypeAlias

from sessionactor._errors import InvalidValueError

Order: TypeAlias = Literal["updated", "created"]

_LARGEST: Final = 2**63 - 1


class Created(NamedTuple):
    """The last one that came, of a walk by creation."""

    created_at: int
    session_id: str


class Updated(NamedTuple):
    """The last one that came, of a walk by activity."""

    generation: str
    """Of the catalog: in another one `seq` and `number` mean nothing."""
    seq: int
    """Sessions with a greater one have changed since the walk began."""
    last_at: int | None
    """`None` in the second part."""
    number: int


Cursor: TypeAlias = Created | Updated


def encode(cursor: Cursor) -> str:
    """A cursor as callers get it."""
    data = json.dumps(cursor, separators=(",", ":")).encode()
    packed = zlib.crc32(data).to_bytes(4, "big") + data
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode(text: str, order: Order) -> Cursor:
    """A cursor as a caller gives it back.

    Raises:
        InvalidValueError: it is none, or one of another order.
    """
    try:
        padding = b"=" * (-len(text) % 4)
        packed = base64.b64decode(text.encode("ascii") + padding, b"-_", validate=True)
        values = json.loads(packed[4:])
    except (ValueError, binascii.Error, RecursionError):
        _refuse(text)
    if zlib.crc32(packed[4:]) != int.from_bytes(packed[:4], "big") or type(values) is not list:
        _refuse(text)
    match values:
        case [int(created_at), str(session_id)] if _fits(created_at):
            cursor: Cursor = Created(created_at, session_id)
        case [str(generation), int(seq), int() | None as last_at, int(number)] if _fits(
            seq, last_at or 0, number
        ):
            cursor = Updated(generation, seq, last_at, number)
        case _:
            _refuse(text)
    if isinstance(cursor, Created) != (order == "created"):
        raise InvalidValueError(f'the cursor {text!r} is of another order than "{order}"')
    return cursor


def _fits(*values: int) -> bool:
    return all(-_LARGEST <= value <= _LARGEST for value in values)


def _refuse(text: str) -> NoReturn:
    raise InvalidValueError(f"{text!r} is not a cursor that a listing returned") from None


__all__ = ["Created", "Cursor", "Order", "Updated", "decode", "encode"]
