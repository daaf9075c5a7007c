"""What an activation is told to do with its session, in the order of its mailbox."""

from __future__ import annotations

from dataclasses import dataclass

from sessionactor._deciding import Decision
from sessionactor._mailbox import Command
from sessionactor._takeover import Origin


@dataclass(frozen=True, slots=True)
class Start(Command):
    """Open the session or create it; answered when its actor runs."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Stop(Command):
    """Close the session; answered with whether its actor was running."""


@dataclass(frozen=True, slots=True)
class Delete(Command):
    """Remove the session; answered with whether it was there."""


@dataclass(frozen=True, slots=True)
class Expire(Command):
    """Remove the session if nothing happened to it for long; answered with whether it was."""

    before: int
    """Microseconds since the epoch: its last activity has to be no later."""


@dataclass(frozen=True, slots=True)
class Rename(Command):
    """Give the session another name."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Create(Command):
    """Create the session, which must not exist; answered when its actor runs."""

    name: str | None
    beginning: Origin | Decision
    """Another session, whose history it begins with, or what was decided that it begins with."""


__all__ = ["Create", "Delete", "Expire", "Rename", "Start", "Stop"]
