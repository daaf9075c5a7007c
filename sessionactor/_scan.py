"""Listing a directory of sessions, and telling whether it may have changed since."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from sessionactor import _files as files
from sessionactor import _names as names
from sessionactor import _presence as presence

logger = logging.getLogger("sessionactor")

_LOOKING_SHARE: Final = 10
"""Scans for sessions that were asked for take at most one part in this many of the time."""
_CREATING_SHARE: Final = 25
"""Scans before a session is created, at most so: every creation moves the time stamp."""


class Scan(NamedTuple):
    """What a directory held, and when."""

    entries: dict[str, str]
    """Id part -> file name."""
    began_s: float
    took_s: float
    foreign_changes: int
    quiet_at_ns: int | None
    """The directory's time stamp, if its next change cannot have the same."""
    logs: frozenset[str] = frozenset()
    """The file names beside which there is a log: somebody has them open, or had and died."""

    def is_outdated(self, path: Path, foreign_changes: int, *, creating: bool) -> bool:
        """Whether the directory may hold what this does not.

        Other registries tell of their changes; other hands move the time stamp, but so do
        changes of one's own, so that creating looks again only now and then.
        """
        if foreign_changes != self.foreign_changes:
            return True
        try:
            if os.stat(path).st_mtime_ns == self.quiet_at_ns:
                return False
        except OSError:
            return True
        return not creating or self.pause_s(_CREATING_SHARE) <= 0

    def pause_s(self, share: int = _LOOKING_SHARE) -> float:
        """How long to wait before the next scan."""
        return self.began_s + self.took_s * share - time.monotonic()


def scan(path: Path, known: Mapping[str, str], foreign_changes: int) -> Scan:
    """List a directory; blocks. Of two files of one id, the `known` one or a whole one counts."""
    began_s, began_ns = time.monotonic(), time.time_ns()
    stamp = os.stat(path).st_mtime_ns
    entries: dict[str, str] = {}
    logs = set()
    with os.scandir(path) as listing:
        for item in listing:
            if item.name.endswith(names.LOG_SUFFIX):
                logs.add(item.name.removesuffix(names.LOG_SUFFIX))
                continue
            parts = names.parse(item.name)
            if parts is None or not item.is_file(follow_symlinks=False):
                continue
            other = entries.get(parts.id_part)
            if other is None or _is_better(path, item.name, other, known.get(parts.id_part)):
                entries[parts.id_part] = item.name
    quiet = stamp + files.CLOCK_GRAIN_NS < began_ns
    took_s = time.monotonic() - began_s
    quiet_at_ns = stamp if quiet else None
    return Scan(entries, began_s, took_s, foreign_changes, quiet_at_ns, frozenset(logs))


def _is_better(path: Path, entry: str, other: str, known: str | None) -> bool:
    if known in (entry, other):
        return entry == known
    logger.warning("two files of one session in %s: %s and %s", path, entry, other)
    return presence.inspect(path / other) is not presence.Kind.SESSION
