"""The benchmarks run: what they measure is not looked at, only that they measure it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.harness import Check, Measure, Target, compare

ROOT = Path(__file__).parent.parent


def report_of(place: Path, *arguments: str) -> str:
    """What a quick run writes."""
    output = place / "results.md"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--output", output, *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return output.read_text()


def test_every_scenario_measures_us(tmp_path: Path) -> None:
    report = report_of(tmp_path)
    assert "fails:" not in report.lower()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "results.md"]


FIGURES = {"ours": [1.0, 2.0, 9.0], "slow": [10.0, 20.0, 30.0], "fast": [1.0, 1.0, 1.0]}


def figure(values: Sequence[float]) -> Measure:
    """A measure whose figures are known."""
    rounds = iter(values)

    async def measure() -> float:
        return next(rounds)

    return measure


async def missed(
    unit: str = "ms",
    targets: Sequence[Target] = (),
    limit: float | None = None,
    checks: Sequence[Check] = (),
) -> Sequence[str]:
    """What `compare` says was not reached by `FIGURES`."""
    section = await compare(
        "title",
        unit,
        {name: figure(values) for name, values in FIGURES.items()},
        rounds=3,
        ours="ours",
        targets=targets,
        limit=limit,
        checks=checks,
    )
    return section.missed


@pytest.mark.parametrize(
    ("target", "sentences"),
    [
        (Target("slow", at_most=0.1), []),
        (Target("slow", at_most=0.09), ["title: 0.1 × slow, to reach ≤ 0.09"]),
        (Target("fast", at_least=2), []),
        (Target(["fast", "slow"], at_least=2.1), ["title: 2 × fast, to reach ≥ 2.1"]),
        (Target("absent", at_least=1), ["title: nothing to compare with of absent"]),
    ],
)
async def test_a_target_is_about_the_median_of_the_ratios(
    target: Target, sentences: list[str]
) -> None:
    assert await missed(targets=[target]) == sentences


@pytest.mark.parametrize(
    ("check", "sentences"),
    [
        (Check("fast", 1), []),
        (Check("slow", 19), ["title: slow: 20 ms, to reach ≤ 19"]),
        (Check("slow", 10, of="ours"), []),
        (Check("slow", 9, of="ours"), ["title: slow: 10 × ours, to reach ≤ 9"]),
    ],
)
async def test_a_check_is_about_the_median_of_any_row(check: Check, sentences: list[str]) -> None:
    assert await missed(checks=[check]) == sentences


async def test_a_limit_is_about_every_round() -> None:
    assert await missed(limit=9) == []
    assert await missed(limit=8) == ["title: up to 9 ms, limit 8"]


async def test_of_rates_the_best_is_the_highest() -> None:
    best = Target(["fast", "slow"], at_least=1)
    assert await missed("messages/s", [best]) == ["title: 0.1 × slow, to reach ≥ 1"]


async def test_of_another_row_of_ours_it_is_told_what_it_would_reach() -> None:
    section = await compare(
        "title",
        "ms",
        {name: figure(values) for name, values in FIGURES.items()},
        rounds=3,
        ours="ours",
        targets=[Target("slow", at_most=0.05)],
        variants=["fast"],
    )
    assert section.missed == ["title: 0.1 × slow, to reach ≤ 0.05"]  # of ours alone
    assert section.text.endswith("- fast: 0.05 × slow, to reach ≤ 0.05: yes")
