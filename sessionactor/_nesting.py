"""What nests in a message: how deep that may be, and the way to what cannot be stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final

import msgpack

from sessionactor._errors import shown

MAX_DEPTH: Final = 256
"""How deep containers may nest inside a message."""

SCALARS: Final = frozenset({str, int, float, bool, type(None), bytes})
_STEPS: Final = 100_000
"""Values that are looked at for the one to blame: more would hold the event loop up."""


def is_too_deep(message: dict[Any, Any]) -> bool:
    """Whether more than `MAX_DEPTH` containers nest in it."""
    level: list[Any] = [message]
    for _ in range(MAX_DEPTH):
        level = [value for one in level for value in _inner(one) or ()]
        level = [value for value in level if type(value) not in SCALARS]
        if not level:
            return False
    return any(_inner(value) is not None for value in level)


def blamed(message: object, error: Exception, pack: Callable[[Any], object]) -> tuple[str, str]:
    """The path of the first value that `pack` refuses, and why; `""` if it is not soon found."""
    path = ""
    stack = [_children("", message)] if type(message) is dict else []
    try:
        for _ in range(_STEPS):
            children = stack[-1] if stack else None
            if children is None:
                break
            step = next(children, None)
            if step is None:
                stack.pop()
                continue
            path, value = step
            if type(value) in SCALARS and type(value) is not str:
                continue
            inner = _children(path, value)
            if inner is None:
                pack(value)
            elif len(stack) < MAX_DEPTH:
                stack.append(inner)
            else:
                return path, f"it nests deeper than {MAX_DEPTH} levels"
    except Exception as reason:
        return path, str(reason) or type(reason).__name__
    return "", str(error) or type(error).__name__


def _inner(value: Any) -> Iterable[Any] | None:
    """What a container holds, `None` for anything else."""
    if isinstance(value, Mapping):
        return chain(value.keys(), value.values())
    if isinstance(value, list | tuple | set | frozenset) and not isinstance(value, msgpack.ExtType):
        return value
    return None


def _children(path: str, value: Any) -> Iterator[tuple[str, Any]] | None:
    if isinstance(value, Mapping):
        return _map_children(path, value)
    if isinstance(value, list | tuple | set | frozenset):
        return ((f"{path}[{index}]", item) for index, item in enumerate(value))
    return None


def _map_children(path: str, value: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        step = key if isinstance(key, str) and key.isidentifier() else f"[{shown(key)}]"
        here = f"{path}.{step}" if path and not step.startswith("[") else f"{path}{step}"
        if type(key) is not str:
            yield f"{here} (the key)", key
        yield here, item


__all__ = ["MAX_DEPTH", "SCALARS", "blamed", "is_too_deep"]
