"""A load, listened to from outside, and the rows of the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Final

from torture.campaign import Budget, environment
from torture.report import Row
from torture.soak import judging
from torture.soak.judging import Sample

_LEAST_S: Final = 5.0
_CATCHING_S: Final = 30.0
"""By when a fault is to be seen: as soon as it is, the load is over."""
_ENDING_S: Final = 8.0
"""Of the budget, for opening, closing and looking what is left."""
_BOUND_S: Final = 60.0
"""By when a load is over after its time."""

_PROMISES: Final = {
    "level": "threads, descriptors, locks, tasks and side files stay level under load",
    "objects": "what was let go of is forgotten: objects of each type stay level",
    "memory": "memory stays level",
    "logs": "logs of sessions in use are emptied",
    "latencies": "appends take no longer at the end",
    "calls": "every call is answered, or fails as planned",
    "left": "a closed registry leaves nothing behind",
}
_SEEN_UNDER_LOAD: Final = ("level", "objects", "memory", "logs")


def run(budget: Budget) -> list[Row]:
    """One load for the whole time; a case is what was looked at, and replays all of it."""
    seconds = max(_LEAST_S, budget.left - _ENDING_S)
    if budget.until_failure:
        seconds = min(seconds, _CATCHING_S)
    samples, end, said = _loaded(budget, seconds)
    rows = judged(samples, end, said)
    if budget.until_failure and _is_caught(samples):
        rows = {case: rows[case] for case in _SEEN_UNDER_LOAD}
    return [row for case, row in rows.items() if budget.case in (None, case)]


def _is_caught(samples: list[Sample]) -> bool:
    """Whether samples show already that something is wrong."""
    if not samples or samples[-1]["at"] < _LEAST_S:
        return False
    rows = judged(samples, None)
    return any(rows[case].failures for case in _SEEN_UNDER_LOAD)


def judged(samples: list[Sample], end: dict[str, Any] | None, said: str = "") -> dict[str, Row]:
    """The rows, by their cases; what the process said in other ways counts as wrong."""
    counted = [one for one in samples if "objects" in one]
    calls = end["calls"] if end else 0
    rows = {
        case: Row(_PROMISES[case], unit, number)
        for case, unit, number in (
            ("level", "samples", len(samples)),
            ("objects", "counts", len(counted)),
            ("memory", "samples", len(samples)),
            ("logs", "samples", len(samples)),
            ("latencies", "appends", len(judging.pooled(samples, "appends"))),
            ("calls", "calls", calls),
            ("left", "closings", 1),
        )
    }
    wrong = {
        "level": [line for what in judging.LEVEL for line in judging.levels(samples, what)],
        "objects": judging.objects(samples),
        "memory": judging.memory(samples),
        "logs": judging.logs(samples),
        "latencies": judging.latencies(samples),
        "calls": [*(end["unexpected"] if end else []), *([said] if said else [])],
        "left": _left(end),
    }
    for case, sentences in wrong.items():
        for sentence in sentences:
            rows[case].fail(case, sentence)
    _tell(rows, samples, end)
    return rows


def _left(end: dict[str, Any] | None) -> list[str]:
    if end is None:
        return ["the process did not come to its end"]
    wrong = [
        f"{what}: {end['before'][what]} before, {end['after'][what]} after"
        for what in end["before"]
        if end["after"][what] > end["before"][what]
    ]
    if end["left files"]:
        wrong.append(f"{end['left files']} are left")
    if not end["closed"]:
        wrong.append("the registry does not close")
    return wrong


def _tell(rows: dict[str, Row], samples: list[Sample], end: dict[str, Any] | None) -> None:
    if not samples:
        return

    def peak(what: str) -> int:
        return max(int(one[what]) for one in samples)

    rows["level"].figures |= {f"peak {what}": f"{peak(what):,}" for what in judging.LEVEL}
    grown, took_s = judging.growth(samples)
    rows["memory"].figures["more"] = f"{grown / (1 << 20):.1f} MiB after {took_s:.0f} s"
    rows["memory"].figures["peak"] = f"{peak('rss') / (1 << 20):.0f} MiB"
    rows["logs"].figures |= {
        what: f"{peak(what) / (1 << 20):.1f} MiB" for what in judging.LOG_BYTES
    }
    appends = judging.pooled(samples, "appends")
    late = judging.pooled(samples, "late")
    for percent in (50, 99):
        took = judging.percentile(appends, percent)
        rows["latencies"].figures[f"p{percent} of an append"] = f"{took * 1e3:.1f} ms"
    for what, percent in (("p50", 50), ("p99", 99), ("most", 100)):
        late_ms = judging.percentile(late, percent) / 1e3
        rows["latencies"].figures[f"event loop late by {what}"] = f"{late_ms:.1f} ms"
    if end is not None:
        rows["calls"].figures |= {
            "passivations": f"{end['passivations']:,}",
            "crashes": f"{end['crashes']:,}",
        }


def _loaded(budget: Budget, seconds: float) -> tuple[list[Sample], dict[str, Any] | None, str]:
    """Samples, what came at the end if it did, and what was said beside that."""
    command = [sys.executable, "-W", "error", "-m", "torture.soak.load", *budget.arguments()]
    command += ["--seconds", str(seconds)]
    with (
        tempfile.TemporaryDirectory(prefix="torture-soak-") as home,
        Path(home, "said").open("w+") as said,
        subprocess.Popen(
            command,
            env={**environment(), "TMPDIR": home},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            cwd=os.getcwd(),
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        bound = threading.Timer(seconds + _BOUND_S, process.kill)
        bound.start()
        lines: list[Any] = []
        try:
            for line in process.stdout:
                if not line.endswith("\n"):
                    break  # it was killed
                lines.append(json.loads(line))
                if budget.until_failure and "at" in lines[-1] and _is_caught(lines):
                    break
        finally:
            bound.cancel()
            process.kill()
        said.seek(0)
        end = lines.pop() if lines and "after" in lines[-1] else None
        return lines, end, said.read()[-2000:]
