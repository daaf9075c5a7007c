"""Telling whether two messages are the same, whatever the order in their maps and sets."""

from __future__ import annotations

import hashlib
from typing import Any

import msgpack

from sessionactor._codec import decode, special


def digest(agent_id: str, data: bytes) -> bytes:
    """A digest of an agent and its message in which the order of maps and sets does not count.

    Raises:
        UndecodableError: `data` is not an encoded message.
    """
    return hashlib.blake2b(
        agent_id.encode() + b"\0" + _canonical(decode(data)), digest_size=16
    ).digest()


def _canonical(value: Any) -> bytes:
    kind = type(value)
    if kind is str:
        return b"str:%b" % value.encode("utf-8", "surrogatepass")
    if kind is dict:
        parts = sorted(_counted(_canonical(key)) + _canonical(item) for key, item in value.items())
    elif kind is set or kind is frozenset:
        parts = sorted(map(_canonical, value))
    elif kind is list or kind is tuple:
        parts = list(map(_canonical, value))
    else:
        scalar: bytes = msgpack.packb(value, default=special, strict_types=True)
        return scalar
    # A hash for each container keeps the cost linear in the size, however deep.
    hashed = hashlib.blake2b(kind.__name__.encode(), digest_size=16)
    for part in parts:
        hashed.update(_counted(part))
    return hashed.digest()


def _counted(part: bytes) -> bytes:
    return b"%d:%b" % (len(part), part)
