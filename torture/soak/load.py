"""The process under load: a line of JSON for each sample, and one at the end."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import sys
import tempfile
import traceback
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

from sessionactor import SessionRegistry
from sessionactor.testing import Faults, faulty_store
from torture.mutations import planted
from torture.soak import gauges
from torture.soak.agents import Clock, Office

PLACES: Final = 8
_AGENTS: Final = 40
_IDLE_S: Final = 0.5
_EVERY_S: Final = 0.1
_COUNTED_EVERY: Final = 5
_TICK_S: Final = 0.001
_CLOSING_S: Final = 8.0
_SETTLING_S: Final = 3.0


class Load:
    """A server, its callers, and who looks at them."""

    def __init__(self, directory: Path, seed: int, seconds: float) -> None:
        self._directory, self._seed, self._seconds = directory, seed, seconds
        self._clock = Clock(monotonic)
        self._late_us: list[int] = []

    async def run(self) -> None:
        """All of it."""
        before = gauges.left()
        faults = Faults()
        registry = SessionRegistry(
            self._directory,
            max_active=PLACES,
            idle_timeout_s=_IDLE_S,
            subscriber_buffer=64,
            open_store=faulty_store(faults),
        )
        office = Office(registry, faults, self._clock)
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: office.unexpected.append(str(context))
        )
        sys.unraisablehook = lambda one: office.unexpected.append(repr(one.exc_value))
        # With a place for each, so that no session goes out of use and takes its log along.
        steady = SessionRegistry(self._directory, idle_timeout_s=None, catalog=False)
        await registry.open()
        await steady.open()
        await office.open()
        chance, other, *chances = [Random(f"{self._seed}:{n}") for n in range(2 + _AGENTS)]
        callers = [
            *map(asyncio.create_task, map(office.work, chances)),
            asyncio.create_task(office.write_much(await registry.start(), chance)),
            asyncio.create_task(office.write_much(await steady.start(), other)),
            asyncio.create_task(self._tick()),
        ]
        await self._sample(office)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        await office.leave()
        statistics = registry.statistics()
        closed = await self._close(registry, steady)
        del callers, registry, steady
        _say(
            {
                "before": before,
                "after": await self._settled(before),
                "closed": closed,
                "left files": gauges.side_files(self._directory),
                "unexpected": office.unexpected,
                "calls": office.calls.total(),
                "passivations": statistics.passivations,
                "crashes": statistics.crashes,
            }
        )
        if not closed:
            os._exit(0)  # nothing would let the event loop end

    async def _sample(self, office: Office) -> None:
        began, n = monotonic(), 0
        while monotonic() < began + self._seconds:
            await asyncio.sleep(_EVERY_S)
            with self._clock.standing():
                seen: dict[str, Any] = {"at": monotonic() - began, **gauges.read(self._directory)}
                if n % _COUNTED_EVERY == 0:
                    seen["objects"] = gauges.objects()
                seen["appends"] = office.appends_s
                seen["late"] = self._late_us
                office.appends_s, self._late_us = [], []
                _say(seen)
            n += 1

    async def _tick(self) -> None:
        while True:
            began = self._clock()
            await asyncio.sleep(_TICK_S)
            self._late_us.append(max(0, round((self._clock() - began - _TICK_S) * 1e6)))

    async def _close(self, *registries: SessionRegistry) -> bool:
        closing = [asyncio.create_task(registry.aclose()) for registry in registries]
        # They do not let themselves be cut short.
        done, hanging = await asyncio.wait(closing, timeout=_CLOSING_S)
        for closed in done:
            closed.result()
        return not hanging

    async def _settled(self, before: dict[str, int]) -> dict[str, int]:
        """What is left, as soon as that is no more than before; threads end by themselves."""
        until = monotonic() + _SETTLING_S
        while True:
            gc.collect()
            after = gauges.left()
            if monotonic() > until or all(after[what] <= before[what] for what in before):
                return after
            await asyncio.sleep(0.05)


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--mutation")
    options = parser.parse_args()
    logging.getLogger("sessionactor").setLevel(logging.CRITICAL + 1)  # crashes are planned
    try:
        with (
            planted(options.mutation),
            tempfile.TemporaryDirectory(prefix="torture-soak-") as directory,
        ):
            asyncio.run(Load(Path(directory), options.seed, options.seconds).run())
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    sys.stdout.flush()
    os._exit(0)  # threads that were left would be waited for


if __name__ == "__main__":
    main()
