"""Samples of a load, held against each other and against bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final

Sample = Mapping[str, Any]

LEVEL: Final = {"threads": 4, "descriptors": 12, "locks": 6, "tasks": 10, "side files": 8}
"""What has to stay level, and the least swing that is granted to each."""
OBJECTS: Final = 12
"""By so many the fewest objects of a type at the end may be more than the most before."""
LOG_BYTES: Final = {"largest log": 4 << 20, "catalog's log": 32 << 20}
"""Of a session, which SQLite begins anew at 1 MiB as soon as nobody reads it, and the catalog."""
RSS_BYTES: Final = 24 << 20
"""So much more memory may be in use: caches fill and allocators keep what they were given …"""
RSS_BYTES_A_SECOND: Final = 64 << 10
"""… and so much more for every second in between."""
SLOWER: Final = 3.0
"""By so much may an append take longer at the end."""
_NO_LESS_S: Final = {50: 0.010, 99: 0.100}
"""Percentiles below this are taken as this: others use the machine as well."""


def fifth(samples: Sequence[Sample], number: int) -> list[Sample]:
    """Those of one of five equal times, counted from 0."""
    part = samples[-1]["at"] / 5 if samples else 0.0
    return [one for one in samples if number * part <= one["at"] <= (number + 1) * part]


def levels(samples: Sequence[Sample], what: str) -> list[str]:
    """What is wrong with a number that should stay level."""
    second, last = ([one[what] for one in fifth(samples, n)] for n in (1, 4))
    return _grown(what, second, last, LEVEL[what])


def objects(samples: Sequence[Sample]) -> list[str]:
    """Types of which there are ever more objects."""
    second, last = (
        [one["objects"] for one in fifth(samples, n) if "objects" in one] for n in (1, 4)
    )
    wrong: list[str] = []
    for kind in sorted({kind for counted in last for kind in counted}):
        before, after = ([counted.get(kind, 0) for counted in part] for part in (second, last))
        if before and min(after) - max(before) > OBJECTS:  # what is just passing by comes in heaps
            wrong.append(f"{kind}: at most {max(before):,} became at least {min(after):,}")
    return wrong


def logs(samples: Sequence[Sample]) -> list[str]:
    """Whether a log became too large."""
    largest = {what: max((one[what] for one in samples), default=0) for what in LOG_BYTES}
    return [f"{what}: {size:,} bytes" for what, size in largest.items() if size > LOG_BYTES[what]]


def memory(samples: Sequence[Sample]) -> list[str]:
    """Whether the memory in use grows too much."""
    grown, took_s = growth(samples)
    if grown <= RSS_BYTES + RSS_BYTES_A_SECOND * took_s:
        return []
    return [f"{grown:,.0f} bytes more after {took_s:.0f} s"]


def growth(samples: Sequence[Sample]) -> tuple[float, float]:
    """How much more memory is in use in the last fifth than in the second, seconds later."""
    second, last = fifth(samples, 1), fifth(samples, 4)
    if not (second and last):
        return 0.0, 0.0
    return _between(second, last, "rss"), _between(second, last, "at")


def latencies(samples: Sequence[Sample]) -> list[str]:
    """Whether appends take longer at the end."""
    wrong = []
    second, last = (pooled(fifth(samples, n), "appends") for n in (1, 4))
    for percent, no_less_s in _NO_LESS_S.items():
        before, after = percentile(second, percent), percentile(last, percent)
        if after > SLOWER * max(before, no_less_s):
            wrong.append(f"p{percent} was {before * 1e3:.1f} ms and became {after * 1e3:.1f} ms")
    return wrong


def pooled(samples: Iterable[Sample], what: str) -> list[float]:
    """All numbers that samples have of something."""
    return [number for one in samples for number in one[what]]


def percentile(numbers: Sequence[float], percent: float) -> float:
    """The number that so many per cent are not above; 0 of none."""
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def _grown(what: str, second: list[int], last: list[int], swing: int) -> list[str]:
    if not (second and last):
        return ["too few samples"]
    swing = max(swing, max(second) - min(second))
    before, after = median(second), median(last)
    if after - before <= swing:
        return []
    return [f"{what}: {before:,.0f} became {after:,.0f}, with a swing of {swing:,}"]


def _between(second: Sequence[Sample], last: Sequence[Sample], what: str) -> float:
    return float(median(one[what] for one in last) - median(one[what] for one in second))
