"""What a campaign saw: rows of the table, and what it takes to see a failure again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

_SHOWN = 10  # failures of one row that are printed: they rarely differ


@dataclass(frozen=True, slots=True)
class Failure:
    """One case that broke a promise."""

    case: str
    """What to give to `--case`, with the same seed, to see it again."""

    sentence: str
    """What was promised, and what was there instead."""


@dataclass(slots=True)
class Row:
    """One promise, and how many cases it was held against."""

    promise: str
    unit: str
    """What a case is, in the plural: `states of a disk`, `kills`."""

    cases: int = 0
    failures: list[Failure] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    """What else was measured, with its unit: `p99 of an append` to `3.1 ms`."""

    def fail(self, case: object, sentence: str) -> None:
        """Note a case that broke the promise."""
        self.failures.append(Failure(str(case), sentence))


def table(rows: Iterable[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| promise | cases | broken | |", "|---|---|---|---|"]
    for row in rows:
        figures = ", ".join(f"{what} {value}" for what, value in row.figures.items())
        lines.append(
            f"| {row.promise} | {row.cases:,} {row.unit} | {len(row.failures):,} | {figures} |"
        )
    return "\n".join(lines)


def failures(rows: Iterable[Row]) -> list[str]:
    """The first failures of each row, a sentence each."""
    return [
        f"{row.promise}: {failure.sentence} (--case {failure.case})"
        for row in rows
        for failure in row.failures[:_SHOWN]
    ]
