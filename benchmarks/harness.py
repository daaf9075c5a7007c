"""Rounds, medians, targets and tables."""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Check:
    """What the median of any row has to be at most: by itself, or divided by another row's."""

    figure: str
    """The row."""
    at_most: float
    of: str | None = None
    """The other row; `None`: by itself."""

    def outcome(self, unit: str, figures: Mapping[str, Figures]) -> tuple[bool, str]:
        """Whether it is so, and a sentence of it."""
        failed = [
            f"{name}: {figures[name]}"
            for name in (self.figure, self.of)
            if name is not None and figures[name].failure is not None
        ]
        if failed:
            return False, "; ".join(failed)
        ours = figures[self.figure]
        if self.of is None:
            value, what = ours.median, unit
        else:
            value, what = ours.over(figures[self.of]), f"× {self.of}"
        return value <= self.at_most, (
            f"{self.figure}: {_number(value)} {what}, to reach ≤ {_number(self.at_most)}"
        )


@dataclass
class Figures:
    """One candidate's figures, a round each, or why there are none."""

    values: list[float] = field(default_factory=list)
    failure: str | None = None

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    def over(self, other: Figures) -> float:
        """The median of what each round's figure is, divided by another's of that round."""
        return median(a / b for a, b in zip(self.values, other.values, strict=False))

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
    checks: Sequence[Check] = (),
    variants: Sequence[str] = (),
    note: str = "",
) -> Section:
    """Measure candidates in turn, round by round, and set them against each other.

    Each round begins with another candidate. One that raises is out, and the table says why.
    Units that end in `/s` are better when higher, all others when lower. `limit` is what our
    own figure may be at most, in any round; `checks` are about medians, of any row; `variants`
    are rows of ours too, of which the table tells what they are beside the targets.
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
    return _section(title, unit, figures, ours, targets, limit, checks, variants, note)


async def _measure(measure: Measure, figures: Figures) -> None:
    gc.collect()
    try:
        figures.values.append(await measure())
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        figures.failure = f"fails: {type(error).__name__}: {first}"


def _section(
    title: str,
    unit: str,
    figures: Mapping[str, Figures],
    ours: str,
    targets: Sequence[Target],
    limit: float | None,
    checks: Sequence[Check],
    variants: Sequence[str],
    note: str,
) -> Section:
    if figures[ours].failure is not None:
        return Section(title, f"{ours}: {figures[ours]}", (f"{title}: {figures[ours]}",))
    bounds = {_reference(target, unit, figures): target for target in targets}
    lines = [
        f"| | {unit}: median (lowest–highest) | ours ÷ this | to reach | |",
        "|---|---|---|---|---|",
    ]
    missed = [] if None not in bounds else [f"nothing to compare with of {bounds[None].of}"]
    for name, theirs in figures.items():
        cells = [name, str(theirs), "", "", ""]
        if name == ours:
            cells[0] = f"**{name}**"
            worst = max(theirs.values)
            if limit is not None:
                cells[3:] = [f"never over {limit:g} {unit}", _verdict(worst <= limit)]
            if limit is not None and worst > limit:
                missed.append(f"up to {_number(worst)} {unit}, limit {limit:g}")
        elif theirs.failure is None:
            ratio = figures[ours].over(theirs)
            cells[2] = _number(ratio)
            if name in bounds:
                target = bounds[name]
                cells[3:] = [target.bound, _verdict(target.reached(ratio))]
                if not target.reached(ratio):
                    missed.append(f"{_number(ratio)} × {name}, to reach {target.bound}")
        lines.append(f"| {' | '.join(cells)} |")
    outcomes = [check.outcome(unit, figures) for check in checks]
    lines += ["", *(f"- {said}: {_verdict(reached)}" for reached, said in outcomes)]
    missed += [said for reached, said in outcomes if not reached]
    lines += _of_variants(variants, bounds, figures)
    text = "\n".join([*([note, ""] if note else []), *lines]).rstrip()
    return Section(title, text, [f"{title}: {sentence}" for sentence in missed])


def _of_variants(
    variants: Sequence[str], bounds: Mapping[str | None, Target], figures: Mapping[str, Figures]
) -> list[str]:
    """What would be said of the targets if a variant were ours."""
    lines = []
    for variant in variants:
        for name, target in bounds.items():
            if name is not None and figures[variant].failure is None:
                ratio = figures[variant].over(figures[name])
                said = f"{variant}: {_number(ratio)} × {name}, to reach {target.bound}"
                lines.append(f"- {said}: {_verdict(target.reached(ratio))}")
    return lines


def _verdict(reached: bool) -> str:
    return "yes" if reached else "**no**"


def _reference(target: Target, unit: str, figures: Mapping[str, Figures]) -> str | None:
    names = [target.of] if isinstance(target.of, str) else target.of
    there = [name for name in names if name in figures and figures[name].failure is None]
    best = max if unit.endswith("/s") else min
    return best(there, key=lambda name: figures[name].median, default=None)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
