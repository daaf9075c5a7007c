"""Rounds, medians, targets and tables."""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import truediv
from statistics import median
from typing import TypeAlias

Measure: TypeAlias = Callable[[], Awaitable[float]]
"""Measures a candidate once, with files of its own, and gives one figure."""


@dataclass(frozen=True)
class Target:
    """What our figure has to be, divided by another candidate's of the same round."""

    of: str | Sequence[str]
    """The candidate; of several the best."""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bound(self) -> str:
        """As it stands in the table."""
        if self.at_least is not None:
            return f"≥ {self.at_least:.3g}"
        return f"≤ {self.at_most:.3g}"

    def reached(self, ratio: float) -> bool:
        """Whether a ratio is enough."""
        if self.at_least is not None:
            return ratio >= self.at_least
        return self.at_most is not None and ratio <= self.at_most


@dataclass
class Figures:
    """One candidate's figures, a round each, or why there are none."""

    values: list[float] = field(default_factory=list)
    failure: str | None = None

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    def __str__(self) -> str:
        if self.failure is not None:
            return self.failure
        low, high = min(self.values), max(self.values)
        return f"{_number(self.median)} ({_number(low)}–{_number(high)})"


@dataclass(frozen=True)
class Section:
    """A part of the results."""

    title: str
    text: str
    missed: Sequence[str] = ()
    """A sentence for each target that was not reached."""


async def compare(
    title: str,
    unit: str,
    measures: Mapping[str, Measure],
    *,
    rounds: int,
    ours: str,
    targets: Sequence[Target] = (),
    limit: float | None = None,
    note: str = "",
) -> Section:
    """Measure candidates in turn, round by round, and set them against each other.

    Each round begins with another candidate. One that raises is out, and the table says why.
    Units that end in `/s` are better when higher, all others when lower. `limit` is what our
    own figure may be at most, in any round.
    """
    figures = {name: Figures() for name in measures}
    names = list(measures)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            if figures[name].failure is None:
                await _measure(measures[name], figures[name])
                print(".", end="", file=sys.stderr, flush=True)
    print(f" {title}", file=sys.stderr)
    return _section(title, unit, figures, ours, targets, limit, note)


async def _measure(measure: Measure, figures: Figures) -> None:
    gc.collect()
    try:
        figures.values.append(await measure())
    except Exception as error:
        figures.failure = f"fails: {type(error).__name__}: {str(error).splitlines()[0]}"


def _section(
    title: str,
    unit: str,
    figures: Mapping[str, Figures],
    ours: str,
    targets: Sequence[Target],
    limit: float | None,
    note: str,
) -> Section:
    if figures[ours].failure is not None:
        return Section(title, f"{ours}: {figures[ours]}", (f"{title}: {figures[ours]}",))
    bounds = {_reference(target, unit, figures): target for target in targets}
    lines = [
        f"| | {unit}: median (lowest–highest) | ours ÷ this | to reach | |",
        "|---|---|---|---|---|",
    ]
    missed = []
    for name, theirs in figures.items():
        cells = [name, str(theirs), "", "", ""]
        if name == ours:
            cells[0] = f"**{name}**"
            if limit is not None:
                worst = max(theirs.values)
                cells[3:] = [f"never over {limit:g} {unit}", "yes" if worst <= limit else "**no**"]
                if worst > limit:
                    missed.append(f"{title}: up to {_number(worst)} {unit}, limit {limit:g}")
        elif theirs.failure is None:
            ratio = median(map(truediv, figures[ours].values, theirs.values))
            cells[2] = _number(ratio)
            if name in bounds:
                target = bounds[name]
                cells[3:] = [target.bound, "yes" if target.reached(ratio) else "**no**"]
                if not target.reached(ratio):
                    missed.append(f"{title}: {_number(ratio)} × {name}, to reach {target.bound}")
        lines.append(f"| {' | '.join(cells)} |")
    return Section(title, "\n".join([*([note, ""] if note else []), *lines]), missed)


def _reference(target: Target, unit: str, figures: Mapping[str, Figures]) -> str | None:
    names = [target.of] if isinstance(target.of, str) else target.of
    there = [name for name in names if name in figures and figures[name].failure is None]
    best = max if unit.endswith("/s") else min
    return best(there, key=lambda name: figures[name].median, default=None)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
