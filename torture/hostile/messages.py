"""Messages as callers bring them: plain ones, evil ones, deep ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any, Final, NamedTuple

import msgpack

from torture.hostile import garbage


def plain(chance: Random, levels: int = 4) -> dict[Any, Any]:
    """A message that can be stored, and comes back as it is."""
    return {_key(chance): _plain(chance, levels) for _ in range(chance.randrange(5))}


def _key(chance: Random) -> Any:
    if chance.random() < 0.7:
        return garbage.text(chance, 2)
    return chance.choice([0, -1, 2**70, 1.5, None, True, b"\xff", (1, "a"), (), frozenset({1})])


def _plain(chance: Random, levels: int) -> Any:
    kind = chance.randrange(10 if levels else 5)
    if kind == 0:
        return garbage.text(chance)
    if kind < 4:
        return chance.choice(_SCALARS)
    if kind == 4:
        zone = chance.choice([None, UTC, timezone(timedelta(microseconds=chance.randrange(10**9)))])
        return datetime(chance.randint(1, 9999), 1, 1, fold=chance.randrange(2), tzinfo=zone)
    if kind < 7:
        return [_plain(chance, levels - 1) for _ in range(chance.randrange(4))]
    if kind == 7:
        return tuple(_plain(chance, levels - 1) for _ in range(chance.randrange(3)))
    if kind == 8:
        return chance.choice([set, frozenset])(chance.sample(range(-300, 300), chance.randrange(4)))
    return plain(chance, levels - 1)


_SCALARS: Final = (
    None, True, False, 0, -1, 2**63, 2**64, -(2**63) - 1, 1 << 5000, 0.0, -0.0, 1e300,
    float("inf"), float("nan"), b"", b"\0\xff", "x" * 70_000, msgpack.ExtType(5, b"five"),
    msgpack.Timestamp(1, 2),
)  # fmt: skip


class Dict(dict[Any, Any]):
    """A `dict` by name."""


class Evil(Exception):  # noqa: N818
    """What an evil method raises."""


def _raise(*_: object, **__: object) -> Any:
    raise Evil("as hostile input does")


class Liar(dict[Any, Any]):
    """Says that it is longer than it is."""

    def __len__(self) -> int:
        return 1000


class Changing(dict[Any, Any]):
    """Changes while it is looked at."""

    def items(self) -> Any:
        self[len(self)] = 0
        return super().items()


class Nothing(Mapping[Any, Any]):
    """A mapping that does not have what it says it has."""

    def __getitem__(self, key: Any) -> Any:
        raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        yield from ("role", "content")

    def __len__(self) -> int:
        return 2


class Pair(NamedTuple):
    """A tuple by name."""

    one: Any
    two: Any


_METHODS: Final = (
    "__iter__", "__len__", "__getitem__", "__contains__", "__repr__", "__str__", "__eq__",
    "items", "keys", "values", "get", "__bool__",
)  # fmt: skip


def _subclass(base: type, method: str) -> Any:
    made = type("Hostile", (base,), {method: _raise, "__hash__": base.__hash__})
    return made({"role": "user"} if base in (dict, Dict) else "ab" if base is str else [1, 2])


def _unhashable(chance: Random) -> Any:
    return type("Key", (str,), {chance.choice(["__repr__", "__str__", "isidentifier"]): _raise})(
        "key"
    )


def _pretending() -> Any:
    return type("Pretending", (), {"__class__": property(_raise)})()


def evil(chance: Random) -> Any:
    """What is no message, or only nearly one; what becomes of it is the library's to say."""
    bad = chance.choice(
        [
            object(), lambda: None, Decimal(1), 1j, ..., range(3), memoryview(b"abc"), Evil,
            Pair(1, object()), bytearray(b"x"), _pretending(), Nothing(), Liar(a=1),
            Changing(a=1), Changing(a=object()), iter([1]), {10**5000: object()}, {"a": 10**5000},
            _subclass(chance.choice([dict, list, str, Dict]), chance.choice(_METHODS)),
            {_unhashable(chance): object()}, {_pretending(): 1}, {object(): 1}, {(object(),): 1},
            datetime.max,
        ]
    )  # fmt: skip
    if chance.random() < 0.3:
        return bad
    message = plain(chance, 2)
    message["bad"] = nested(bad, chance.choice([0, 1, 5, 100]), chance)
    if chance.random() < 0.15:
        message["cycle"] = nested(message, chance.choice([0, 1, 3]), chance)
    return message


def nested(value: Any, levels: int, chance: Random) -> Any:
    """The value inside of so many containers."""
    for _ in range(levels):
        kind = chance.randrange(4)
        value = [value] if kind < 2 else {"a": value} if kind == 2 else (value,)
    return value


def deep(chance: Random) -> dict[str, Any]:
    """A message of about as many levels as there may be; what is innermost differs."""
    inner = chance.choice([[], {}, (), set(), [1], {"a": 1}, (1,), {1}, 1, "x", None, b"", 2**70])
    return {"a": nested(inner, chance.choice([250, 252, 253, 254, 255, 256, 300, 5000]), chance)}
