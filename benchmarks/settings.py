"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass

CALLERS = 100
CHAPTER = 100


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    rounds: int = 5
    seconds: float = 1.0
    """Of appending, for each figure."""
    sessions: int = 1_000
    history: int = 10_000
    """Rows of a session that is read."""
    long_history: int = 100_000
    """Rows of a session that is read while others write to it."""
    longest_history: int = 1_000_000
    """Rows of a session whose latest chapter is read."""
    repetitions: int = 50
    """Of a read, for each figure."""
    many_files: int = 100_000


QUICK = Settings(
    rounds=1,
    seconds=0.05,
    sessions=20,
    history=200,
    long_history=1_000,
    longest_history=2_000,
    repetitions=3,
    many_files=200,
)
"""Enough to see that everything runs, and nothing else."""
