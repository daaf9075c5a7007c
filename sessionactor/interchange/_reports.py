"""What exports and imports tell: plain, immutable values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

Format: TypeAlias = Literal["sessionactor", "events", "loop"]
"""`"sessionactor"`: lossless. `"events"`, `"loop"`: those of two other kinds of store."""

MOST_PROBLEMS: Final = 100
"""Problems of one file that are told one by one; of further ones the number is told."""


Status: TypeAlias = Literal["imported", "unchanged", "exists", "refused", "failed"]


class Problem(NamedTuple):
    """What is wrong with a file or a session."""

    path: Path
    line: int | None
    """From 1; `None`: it is not about a line."""
    reason: str

    def __str__(self) -> str:
        place = str(self.path) if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.reason}"


class Progress(NamedTuple):
    """How far the export or import of one file is."""

    path: Path
    done: int
    total: int
    """Of an export: messages. Of an import: bytes, all of them once to check, once to store."""


OnProgress: TypeAlias = Callable[[Progress], None]
"""Called in the event loop, a few times a second."""


@dataclass(frozen=True, slots=True)
class ExportedSession:
    """What became of one session's export."""

    session_id: str
    path: Path
    status: Literal["exported", "unchanged", "failed"]
    """`unchanged`: the file held the session as it is now, and was left alone. `failed`: there
    is no new file, and `problems` says why."""
    messages: int = 0
    lost: tuple[str, ...] = ()
    """What the session holds and the format does not."""
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What became of the export of several sessions."""

    sessions: tuple[ExportedSession, ...]

    @property
    def problems(self) -> Iterator[Problem]:
        """Everything that went wrong."""
        for session in self.sessions:
            yield from session.problems


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """What became of one file's import."""

    path: Path
    session_id: str | None
    """`None` where the file does not tell."""
    status: Status
    """`unchanged`: the session was there with the same content. `exists`: a session of that id
    is there and is another one, or has moved on; it was left alone. `refused`: the file is
    damaged; nothing of it was imported. `failed`: something else went wrong; a second import
    goes on where this one stopped."""
    messages: int = 0
    """How many the file holds that are whole."""
    problems: tuple[Problem, ...] = ()
    """The first hundred of them."""
    problem_count: int = 0


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of the import of several files."""

    files: tuple[ImportedFile, ...]

    @property
    def problems(self) -> Iterator[Problem]:
        """Everything that went wrong."""
        for file in self.files:
            yield from file.problems


class Problems:
    """Collects the problems of one file; of many it keeps the first ones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first: list[Problem] = []
        self.count = 0

    def add(self, line: int | None, reason: str) -> None:
        """Take note of a problem."""
        self.count += 1
        if len(self.first) < MOST_PROBLEMS:
            self.first.append(Problem(self.path, line, reason))


__all__ = [
    "ExportReport",
    "ExportedSession",
    "Format",
    "ImportReport",
    "ImportedFile",
    "OnProgress",
    "Problem",
    "Problems",
    "Progress",
    "Status",
]
