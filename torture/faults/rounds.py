"""Cases in turn, a kind of fault each, and the rows of the table."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

from torture.campaign import Budget
from torture.faults.kinds import KINDS, Kind
from torture.faults.mutations import AIMED
from torture.faults.preload import prepare, small_disk
from torture.nursery import Nursery, nursery
from torture.report import Row

_DISK_BYTES: Final = 1 << 20
_BOUND_S: Final = 120.0
"""By when a case is over: it makes some fifty calls, each of which has a bound."""

_PROMISES: Final = {
    "disk full": "disk full: a clear error, nothing answered lost, works when there is room",
    "calls": "calls of the system fail: a clear error, nothing answered lost, works again",
    "by hand": "files moved, replaced, cut short by other hands: a clear error, works again",
    "limits": "no descriptors or memory left: a clear error, works again",
    "clock": "the clock jumps a day: nobody notices",
}


@dataclass
class Rows:
    """The rows of the table."""

    families: dict[str, Row] = field(
        default_factory=lambda: {name: Row(text, "faults") for name, text in _PROMISES.items()}
    )
    others: Row = field(
        default_factory=lambda: Row("all others are served meanwhile, without an error", "faults")
    )
    errors: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in _PROMISES}
    )
    slowest_s: Counter[str] = field(default_factory=Counter)
    """By whom: of those concerned by a family, and of others."""
    real: int = 0

    def all(self) -> list[Row]:
        for name, row in self.families.items():
            if self.errors[name]:
                row.figures["errors"] = f"{self.errors[name].total():,}"
            row.figures["slowest answer"] = f"{self.slowest_s[name]:.1f} s"
        self.families["disk full"].figures["on a real file system"] = str(self.real)
        self.others.figures["slowest answer"] = f"{self.slowest_s['others']:.2f} s"
        return [*self.families.values(), self.others]

    def take(self, case: str, kind: Kind, seen: dict[str, Any], *, small: bool) -> None:
        """Take in what was seen in a case."""
        row = self.families[kind.family]
        row.cases += 1
        self.real += small
        self.others.cases += 1
        for sentence in seen["broken"].get("concerned", ()):
            row.fail(case, sentence)
        for sentence in seen["broken"].get("others", ()):
            self.others.fail(case, sentence)
        self.errors[kind.family].update(seen["errors"])
        for about, took in seen["slowest_s"].items():
            who = kind.family if about == "concerned" else about
            self.slowest_s[who] = max(self.slowest_s[who], took)


def run(budget: Budget) -> list[Row]:
    """Case after case, every kind in its turn."""
    rows = Rows()
    names = _in_order(budget)
    numbers = [int(budget.case)] if budget.case is not None else range(1 << 30)
    home = Path(tempfile.mkdtemp(prefix="torture-faults-"))
    try:
        with nursery("torture.faults.scene", budget.arguments(), prepare(home)) as parent:
            for number in numbers:
                _case(budget, number, names[number % len(names)], parent, rows, home)
                if budget.done(rows.all()):
                    break
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return rows.all()


def _in_order(budget: Budget) -> list[str]:
    """All kinds: first those of which there is one each, then calls that fail.

    Where a fault is planted, those that it is to be seen by.
    """
    aimed = AIMED.get((budget.mutation or "").partition("/")[2])
    if aimed is not None:
        return list(aimed)
    names = list(KINDS)
    budget.random("faults", "order").shuffle(names)
    return sorted(names, key=lambda name: KINDS[name].family == "calls")


def _case(budget: Budget, number: int, name: str, parent: Nursery, rows: Rows, home: Path) -> None:
    kind = KINDS[name]
    place = home / str(number)
    place.mkdir()
    with ExitStack() as stack:
        small = stack.enter_context(small_disk(place, _DISK_BYTES)) if kind.is_real else None
        job = {
            "kind": name,
            "seed": budget.seed,
            "number": number,
            "home": str(place),
            "place": str((small or place) / "sessions"),
            "small": small is not None,
        }
        seen = _played(parent, job)
        for broken in seen["broken"].values():
            broken[:] = [f"{name}: {sentence}" for sentence in broken]
        rows.take(str(number), kind, seen, small=small is not None)
    shutil.rmtree(place, ignore_errors=True)


def _played(parent: Nursery, job: dict[str, Any]) -> dict[str, Any]:
    """What a process saw, which is killed when it does not end."""
    ours, theirs = os.pipe()
    pid = parent.spawn(job, theirs)
    os.close(theirs)
    said, until = b"", monotonic() + _BOUND_S
    broken = None
    while True:
        if not select.select([ours], [], [], max(0.0, until - monotonic()))[0]:
            broken = f"it hangs for {_BOUND_S} s"
            os.kill(pid, signal.SIGUSR1)  # it tells where
            sleep(1)
            os.kill(pid, signal.SIGKILL)
            break
        part = os.read(ours, 1 << 16)
        if not part:
            break
        said += part
    os.close(ours)
    code = parent.wait(pid)
    if not said:
        sentence = broken or f"the process ended with {code}"
        return {"broken": {"concerned": [sentence]}, "errors": {}, "slowest_s": {}}
    seen: dict[str, Any] = json.loads(said)
    return seen
