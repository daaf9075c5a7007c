"""A process that holds the library against one area's input, and tells what it saw.

It may die of what it is given, or be ended: the number of the round that it was at stands in a
file then.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import itertools
import json
import logging
import os
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

from torture.campaign import Budget
from torture.hostile.area import Area, BrokenError
from torture.hostile.areas import AREAS
from torture.hostile.watch import HANG_S, MEMORY_BYTES, Watch
from torture.mutations import planted

_ROUNDS = 300  # before an area begins anew, so that nothing grows without end
_FAILURES = 5  # of one process: more of them say nothing more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--mutation")
    parser.add_argument("--area", choices=AREAS, required=True)
    parser.add_argument("--first", type=int, default=0, help="the round to begin with")
    parser.add_argument("--case", type=int, help="only this round")
    parser.add_argument("--until-failure", action="store_true")
    parser.add_argument("--place", type=Path, required=True, help="an empty directory")
    options = parser.parse_args()
    logging.getLogger("sessionactor").setLevel(logging.CRITICAL + 1)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore", UnicodeWarning)
    faulthandler.enable()
    budget = Budget(
        options.seed,
        options.seconds,
        mutation=options.mutation,
        until_failure=options.until_failure,
    )
    rounds = itertools.count(options.first) if options.case is None else iter([options.case])
    with planted(options.mutation):
        child = _Child(budget, options.area, options.place)
        try:
            asyncio.run(child.run(rounds))
        finally:
            child.tell()


class _Child:
    def __init__(self, budget: Budget, name: str, place: Path) -> None:
        self._budget = budget
        self._name = name
        self._at = os.open(place / "round", os.O_WRONLY | os.O_CREAT)
        self._watch = Watch(place / "root")
        self._inputs = self._failures = 0
        self._over = False

    async def run(self, rounds: Iterator[int]) -> None:
        self._watch.begin()
        while not self._over and self._budget.left > 0:
            if not await self._some(itertools.islice(rounds, _ROUNDS)):
                return

    async def _some(self, rounds: Iterator[int]) -> bool:
        """Hold some rounds against an area that begins anew; whether there were any."""
        number = None
        _clear(self._watch.places.sessions)
        _clear(self._watch.places.sources)
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        area: Area = AREAS[self._name].make(self._watch.places)
        try:
            async with area:
                for number in rounds:
                    await self._one(area, number)
                    if self._budget.left <= 0:
                        break
        except Exception as error:
            self._fail(number, error)
        faulthandler.cancel_dump_traceback_later()
        return number is not None

    async def _one(self, area: Area, number: int) -> None:
        os.pwrite(self._at, b"%20d" % number, 0)
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        with self._watch.round():
            self._inputs += await area.round(self._budget.random("hostile", self._name, number))
        if self._watch.memory() > MEMORY_BYTES:
            self._over = True  # it never shrinks: another process goes on
            raise BrokenError(f"the process came to hold {self._watch.memory() >> 20} MiB")

    def _fail(self, number: int | None, error: Exception) -> None:
        if isinstance(error, BrokenError):
            sentence = str(error)
        else:
            sentence = f"an error that is none of ours: {error!r:.500}"
            traceback.print_exception(error, limit=-12)
        print(json.dumps({"round": number, "sentence": sentence}), flush=True)
        self._failures += 1
        self._over |= self._budget.until_failure or self._failures >= _FAILURES

    def tell(self) -> None:
        """Say how it was."""
        figures = {
            "inputs": self._inputs,
            "cpu_s": self._watch.cpu_s,
            "wall_s": self._watch.wall_s,
            "memory": self._watch.memory(),
        }
        print(json.dumps(figures), flush=True)


def _clear(place: Path) -> None:
    for entry in os.scandir(os.fsencode(place)):
        if entry.is_dir(follow_symlinks=False):
            _clear(Path(os.fsdecode(entry.path)))
            os.rmdir(entry.path)
        else:
            os.unlink(entry.path)


if __name__ == "__main__":
    main()
