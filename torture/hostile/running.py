"""The campaign: a process for each area, two at a time, and what became of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any, Final

from torture.campaign import Budget, environment
from torture.hostile.areas import AREAS
from torture.hostile.mutations import AIMED
from torture.hostile.watch import HANG_S
from torture.report import Row

_LANES: Final = 2
_TAIL: Final = 1500
_LOOK_S: Final = 0.2


def run(budget: Budget) -> list[Row]:
    """Hold every area for its share of the time, or the round of `--case area:number`."""
    rows = {name: Row(area.promise, area.unit) for name, area in AREAS.items()}
    if budget.case is not None:
        name, _, number = budget.case.partition(":")
        _Process(
            budget, name, rows[name], budget.seconds, ["--case", number], threading.Event()
        ).run()
        return [rows[name]]
    aimed = AIMED.get((budget.mutation or "").partition("/")[2])
    names = list(AREAS) if aimed is None else [aimed]
    to_come = len(names)
    stopped = threading.Event()

    def hold(name: str) -> None:
        nonlocal to_come
        share = min(_LANES / to_come, 1)
        first, end = 0, budget.left * (1 - share)  # what is left then
        to_come -= 1
        while not stopped.is_set() and (left_s := budget.left - max(end, 0)) > 0:
            process = _Process(budget, name, rows[name], left_s, ["--first", str(first)], stopped)
            first = process.run() + 1
            if rows[name].failures and (budget.until_failure or len(rows[name].failures) > 20):
                if budget.until_failure:
                    stopped.set()
                return

    with ThreadPoolExecutor(_LANES) as lanes:
        for done in [lanes.submit(hold, name) for name in names]:
            done.result()
    return list(rows.values())


class _Process:
    """One child, and its part of a row."""

    def __init__(
        self,
        budget: Budget,
        area: str,
        row: Row,
        seconds: float,
        arguments: list[str],
        stopped: threading.Event,
    ) -> None:
        self._stopped = stopped
        self._budget = budget
        self._area = area
        self._row = row
        self._seconds = seconds
        self._arguments = arguments

    def run(self) -> int:
        """Let it run to its end; the round that it was at last."""
        place = Path(tempfile.mkdtemp(prefix="torture-"))
        try:
            until = ["--until-failure"] if self._budget.until_failure else []
            told, complaints, code = self._wait_for(
                [
                    *(sys.executable, "-m", "torture.hostile.child", *self._budget.arguments()),
                    *("--area", self._area, "--seconds", str(self._seconds)),
                    *("--place", str(place), *self._arguments, *until),
                ]
            )
            at = _round(place / "round")
        finally:
            shutil.rmtree(place, ignore_errors=True)
        for line in _lines(told):
            self._take(line)
        if code and not self._stopped.is_set():
            why = f"the process ended with {code} in a round"
            self._row.fail(f"{self._area}:{at}", f"{why}: {complaints[-_TAIL:]}")
        elif self._budget.case is not None:
            print(told, complaints, sep="\n")
        return at

    def _wait_for(self, command: list[str]) -> tuple[str, str, int]:
        """What it said, what it complained of, and how it ended."""
        until = monotonic() + self._seconds + 3 * HANG_S
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**environment(), "PYTHONDONTWRITEBYTECODE": "1"},
        ) as child:
            while True:
                try:
                    return (*child.communicate(timeout=_LOOK_S), child.returncode)
                except subprocess.TimeoutExpired:
                    if self._stopped.is_set() or monotonic() > until:
                        child.kill()

    def _take(self, told: dict[str, Any]) -> None:
        if "sentence" in told:
            self._row.fail(f"{self._area}:{told['round']}", told["sentence"])
            return
        self._row.cases += told["inputs"]
        figures = self._row.figures
        for name, value in (
            ("most processor time of a round", f"{told['cpu_s']:.2f} s"),
            ("longest round", f"{told['wall_s']:.2f} s"),
            ("most memory", f"{told['memory'] >> 20} MiB"),
        ):
            figures[name] = max(figures.get(name, value), value, key=_number)


def _number(figure: str) -> float:
    return float(figure.split()[0])


def _lines(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def _round(path: Path) -> int:
    return int(path.read_text() or 0) if path.exists() else 0
