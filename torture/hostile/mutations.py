"""Faults of a library that trusts what it is given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

from sessionactor import (
    _codec,
    _directory,
    _disk,
    _files,
    _names,
    _nesting,
    _rows,
    _sources,
    _terms,
)
from torture.campaign import Mutation


@contextmanager
def _replaced(*places: tuple[Any, str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for module, name, value in places:
            stack.enter_context(patch.object(module, name, value))
        yield


@contextmanager
def damaged_rows_are_empty() -> Iterator[None]:
    """Whatever cannot be decoded is a message without content."""
    real = _codec.decode

    def decode(data: bytes) -> dict[Any, Any]:
        try:
            return real(data)
        except _codec.UndecodableError:
            return {}

    with _replaced((_codec, "decode", decode), (_rows, "decode", decode)):
        yield


@contextmanager
def damaged_rows_crash_the_actor() -> Iterator[None]:
    """What the codec raises goes on its way."""
    with _replaced((_rows, "_CORRUPT", ())):
        yield


@contextmanager
def evil_methods_are_trusted() -> Iterator[None]:
    """What to blame is looked for without care, as it may raise too."""

    def blamed(message: object, error: Exception, pack: object) -> tuple[str, str]:
        return str(next(iter(message.items()))[0]), repr(error)  # type: ignore[attr-defined]

    with _replaced((_codec, "blamed", blamed), (_nesting, "blamed", blamed)):
        yield


@contextmanager
def names_hold_separators() -> Iterator[None]:
    """A slash in a name is not escaped."""
    real = _names._must_escape

    def must_escape(char: str) -> bool:
        return char != "/" and real(char)

    with _replaced((_names, "_must_escape", must_escape)):
        yield


@contextmanager
def queries_reach_fts5() -> Iterator[None]:
    """The words of a query are not quoted."""

    def as_it_is(term: _terms.Term) -> str:
        return term.text + "*" * term.prefix

    with _replaced((_terms, "_quoted", as_it_is)):
        yield


@contextmanager
def patterns_backtrack() -> Iterator[None]:
    """A glob is a regular expression that a hostile one keeps busy for ages."""

    def fnmatchcase(name: str, pattern: str) -> bool:
        parts = [".*" if char == "*" else re.escape(char) for char in pattern]
        return re.fullmatch("".join(parts), name, re.DOTALL) is not None

    slow = SimpleNamespace(fnmatchcase=fnmatchcase)
    with _replaced((_disk, "fnmatch", slow), (_directory, "fnmatch", slow)):
        yield


@contextmanager
def links_are_followed() -> Iterator[None]:
    """What stands beside a database is taken for a file."""
    with _replaced((_files, "is_file_or_missing", lambda path: True)):
        yield


@contextmanager
def damage_reaches_the_catalog() -> Iterator[None]:
    """Of a session's file only what the system says is expected to fail."""
    with _replaced((_sources, "DAMAGE", (OSError,))):
        yield


MUTATIONS: Final[Mapping[str, Mutation]] = {
    "damaged-rows-are-empty": damaged_rows_are_empty,
    "damaged-rows-crash-the-actor": damaged_rows_crash_the_actor,
    "evil-methods-are-trusted": evil_methods_are_trusted,
    "names-hold-separators": names_hold_separators,
    "queries-reach-fts5": queries_reach_fts5,
    "patterns-backtrack": patterns_backtrack,
    "links-are-followed": links_are_followed,
    "damage-reaches-the-catalog": damage_reaches_the_catalog,
}

AIMED: Final[Mapping[str, str]] = {
    "damaged-rows-are-empty": "rows",
    "damaged-rows-crash-the-actor": "rows",
    "evil-methods-are-trusted": "values",
    "names-hold-separators": "naming",
    "queries-reach-fts5": "queries",
    "patterns-backtrack": "naming",
    "links-are-followed": "entries",
    "damage-reaches-the-catalog": "files",
}
"""The area that each is to be seen by: the only one then, so that it is seen soon."""
