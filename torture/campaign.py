"""What a campaign gets: a seed, an end, and perhaps a fault to plant."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from random import Random
from time import monotonic

from torture.report import Row

Mutation = Callable[[], AbstractContextManager[None]]
"""Plants a fault in the library of this process, for as long as it is entered."""

Run = Callable[["Budget"], list[Row]]


@dataclass(frozen=True, slots=True)
class Campaign:
    """A way to break promises."""

    run: Run
    mutations: Mapping[str, Mutation]
    """Faults that it has to catch, by name: what the library would do wrong."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a campaign goes on, and where its cases come from.

    The same seed gives the same cases in the same order; how far one gets depends on the time.
    """

    seed: int
    seconds: float
    case: str | None = None
    """Only this one, with all that is known of it printed."""

    mutation: str | None = None
    """The fault that is planted: in this process by who calls, in others by those themselves."""

    until_failure: bool = False
    """Whether the first failure ends the campaign: it has caught what it was to catch."""

    started: float = field(default_factory=monotonic)

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.started + self.seconds - monotonic()

    def random(self, *of: object) -> Random:
        """Chance for one purpose, independent of what other purposes took of theirs."""
        return Random(f"{self.seed}:{':'.join(map(str, of))}")

    def done(self, rows: list[Row]) -> bool:
        """Whether to stop: the time is over, or what was to be caught is caught."""
        return self.left <= 0 or (self.until_failure and any(row.failures for row in rows))

    def arguments(self) -> list[str]:
        """For another process of this campaign: what makes its cases the same."""
        mutation = [] if self.mutation is None else ["--mutation", self.mutation]
        return ["--seed", str(self.seed), *mutation]


def environment() -> dict[str, str]:
    """For other processes: sets encode in another order in each, unless told otherwise."""
    return {**os.environ, "PYTHONHASHSEED": "0"}
