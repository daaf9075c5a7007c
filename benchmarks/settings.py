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
    listed: int = 5_000
    """Sessions of the stores that list all of them at once."""
    searched: int = 1_000_000
    """Messages."""
    indexed: int = 200_000
    """Messages of a catalog that is built again and again."""
    paced: float = 3_000
    """Appends a second."""
    closed: tuple[int, int] = (1_000, 10_000)
    """Sessions of a directory that is opened after a kill …"""
    killed: tuple[int, int] = (10, 100)
    """… of which so many were open."""
    subscribers: int = 1_000


QUICK = Settings(
    rounds=1,
    seconds=0.05,
    sessions=20,
    history=200,
    long_history=1_000,
    longest_history=2_000,
    repetitions=3,
    many_files=200,
    listed=100,
    searched=3_000,
    indexed=2_000,
    closed=(20, 40),
    killed=(2, 4),
    subscribers=10,
)
"""Enough to see that everything runs, and nothing else."""
