"""What a message may be made of, and whether two are the same to the last bit."""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Any, Final

import msgpack

_KNOWN: Final = (
    type(None), bool, int, float, str, bytes, datetime, msgpack.ExtType, msgpack.Timestamp
)  # fmt: skip


def is_known(value: Any) -> bool:
    """Whether it is made of nothing but what a message may hold."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if type(one) is dict:
            waiting += one.keys()
            waiting += one.values()
        elif type(one) in (list, tuple, set, frozenset):
            waiting += one
        elif type(one) not in _KNOWN:
            return False
    return True


def same(one: Any, other: Any) -> bool:
    """Whether two messages are equal: types too, and whatever is no number is equal to itself."""
    waiting = [(one, other)]
    while waiting:
        left, right = waiting.pop()
        kind = type(left)
        if kind is not type(right):
            return False
        if kind not in (list, tuple, dict):
            if not _same_leaf(left, right):
                return False
        elif len(left) != len(right):
            return False
        elif kind is dict:
            waiting += zip(left.keys(), right.keys(), strict=True)
            waiting += zip(left.values(), right.values(), strict=True)
        else:
            waiting += zip(left, right, strict=True)
    return True


def _same_leaf(one: Any, other: Any) -> bool:
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, set | frozenset):
        return _shown(one) == _shown(other)
    return bool(one == other)


def _shown(value: Any) -> str:
    """Its `repr`, but for the order of sets: what is no number is elsewhere in each."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}{sorted(map(_shown, value))}"
    if isinstance(value, tuple):
        return f"tuple{[_shown(item) for item in value]}"
    return repr(value)


def depth(value: Any) -> int:
    """How many containers nest in a value of plain ones."""
    deepest, waiting = 0, [(value, 0)]
    while waiting:
        one, above = waiting.pop()
        if isinstance(one, dict):
            waiting += [(item, above + 1) for pair in one.items() for item in pair]
        elif isinstance(one, list | tuple | set | frozenset):
            waiting += [(item, above + 1) for item in one]
        else:
            continue
        deepest = max(deepest, above + 1)
    return deepest
