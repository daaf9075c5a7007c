"""Telling which entries of a directory are sessions, by a look at their files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from sessionactor import _names as names
from sessionactor import _presence as presence
from sessionactor._errors import StorageError
from sessionactor._opening import Identity

logger = logging.getLogger("sessionactor")


class Checked(NamedTuple):
    """What looking at the files of some entries told."""

    sessions: list[str]
    newer: list[str]
    gone: list[str]
    identities: dict[str, Identity]


def look_at(
    directory: Path, entries: Iterable[str], read_identity: Callable[[Path], Identity]
) -> Checked:
    """Look at the files of entries; blocks. Where a name was cut, what the file says decides."""
    checked = Checked([], [], [], {})
    for entry in entries:
        path = directory / entry
        kind = presence.inspect(path)
        if kind is presence.Kind.SESSION:
            if names.is_cut(entry):
                try:
                    checked.identities[entry] = read_identity(path)
                except StorageError as error:
                    logger.warning("left out: %s", error)
                    continue
            checked.sessions.append(entry)
        elif kind is presence.Kind.NEWER:
            checked.newer.append(entry)
        else:
            checked.gone.append(entry)
    return checked


__all__ = ["Checked", "look_at"]
