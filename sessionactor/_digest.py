"""Telling whether two messages are the same, whatever the order in their maps and sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgpack

from sessionactor._codec import decode, special


def digest(agent_id: str, data: bytes) -> bytes:
    """A digest of an agent and its message in which the order of maps and sets does not count.

    Raises:
        UndecodableError: `data` is not an encoded message.
    """
    # A packer keeps a buffer, which is dearer to make than what it packs here.
    pack = msgpack.Packer(default=special, strict_types=True).pack
    return hashlib.blake2b(
        agent_id.encode() + b"\0" + _canonical(decode(data), pack), digest_size=16
    ).digest()


def _canonical(value: Any, pack: Callable[[Any], bytes]) -> bytes:
    kind = type(value)
    if kind is str:
        return b"str:%b" % value.encode("utf-8", "surrogatepass")
    if kind is dict:
        parts = []
        for key, item in value.items():
            name = _canonical(key, pack)
            parts.append(b"%d:%b%b" % (len(name), name, _canonical(item, pack)))
        parts.sort()
    elif kind is list or kind is tuple:
        parts = [_canonical(item, pack) for item in value]
    elif kind is set or kind is frozenset:
        parts = sorted([_canonical(item, pack) for item in value])
    else:
        return pack(value)
    # A hash for each container keeps the cost linear in the size, however deep.
    hashed = hashlib.blake2b(kind.__name__.encode(), digest_size=16)
    for part in parts:
        hashed.update(b"%d:%b" % (len(part), part))
    return hashed.digest()
