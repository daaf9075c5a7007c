"""Where the sessions are, and how a command gets at them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sessionactor import SessionRegistry
from sessionactor.cli._output import Output


@dataclass(frozen=True, slots=True)
class Place:
    """The directory of a command, and where its output goes."""

    directory: Path
    output: Output

    def reading(self) -> SessionRegistry:
        """A registry that looks only: it works beside a server that has the sessions open."""
        return SessionRegistry(self.directory, read_only=True)

    def writing(self) -> SessionRegistry:
        """A registry that owns what it changes: sessions that others own are refused."""
        return SessionRegistry(self.directory)


__all__ = ["Place"]
