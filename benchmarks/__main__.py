"""Measure, print tables, and write them to `results.md`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import sqlite3
import sys
import traceback
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.harness import Section
from benchmarks.lineup import warm_up
from benchmarks.peers import PEERS
from benchmarks.scenarios import SCENARIOS
from benchmarks.settings import QUICK, Settings
from benchmarks.workloads import data_directory
from sessionactor import __version__

RESULTS = Path(__file__).with_name("results.md")

INTRODUCTION = """\
# Results of `make bench`

Every table is one run: the candidates take turns, round by round, and each round begins with
another one. A figure is the median of {rounds} rounds, the lowest and the highest beside it. "Ours
÷ this" is the median of the rounds' own ratios, for what else the machine does falls on neighbours
alike: above 1 we are faster where it is a rate, and slower where it is a time. All write at
`synchronous=FULL` to files of their own, unless a title says otherwise. All run in one process,
whose imported modules are frozen (`gc.freeze`). Trust the ratios, not the absolutes.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="see that it runs; figures say nothing"
    )
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="may be repeated")
    parser.add_argument("--rounds", type=int, help="for each median")
    parser.add_argument(
        "--output", type=Path, help=f"default: {RESULTS.name} here, when everything is measured"
    )
    options = parser.parse_args()
    settings = QUICK if options.quick else Settings()
    if options.rounds is not None:
        settings = replace(settings, rounds=max(1, options.rounds))
    output = options.output
    if output is None and not options.quick and options.only is None:
        output = RESULTS
    report = asyncio.run(_run(settings, options.only or list(SCENARIOS)))
    if output is not None:
        output.write_text(report, encoding="utf-8")


async def _run(settings: Settings, names: Sequence[str]) -> str:
    parts: list[str] = []
    load = os.getloadavg()[0]

    def tell(part: str) -> None:
        print(part, flush=True)
        parts.append(part)

    tell(INTRODUCTION.format(rounds=settings.rounds))
    tell(_machine(load))
    await warm_up()
    gc.freeze()  # what is imported by now does not weigh on anyone's garbage collections
    sections: list[Section] = []
    for name in names:
        start = perf_counter()
        try:
            measured = await SCENARIOS[name](settings)
        except Exception as error:  # the other scenarios can still be measured
            traceback.print_exc()
            measured = [Section(name, f"Fails: {error!r}", (f"{name}: fails: {error!r}",))]
        for section in measured:
            tell(f"## {section.title}\n\n{section.text}\n")
        sections += measured
        print(f"{name}: {perf_counter() - start:.0f} s", file=sys.stderr)
    missed = [sentence for section in sections for sentence in section.missed]
    tell("## Targets missed\n\n" + "\n".join(f"- {line}" for line in missed or ["none"]) + "\n")
    return "\n".join(parts)


def _machine(load: float) -> str:
    """What was measured, and on what."""
    with data_directory() as directory:
        with closing(sqlite3.connect(directory / "default.db")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            (level,) = connection.execute("PRAGMA synchronous").fetchone()
        sync_ms = _sync_ms(directory)
    versions = {"sessionactor": __version__}
    versions |= {name: version(name) for name in ("aiosqlite", "anyio", "msgpack")}
    versions |= {peer.distribution: found for peer in PEERS if (found := peer.version())}
    absent = sorted({peer.distribution for peer in PEERS} - set(versions))
    lines = [
        f"- Python {platform.python_version()}, SQLite {sqlite3.sqlite_version},"
        f" {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs,"
        f" load {load:.1f} before; a write and fsync of 4 KB takes {sync_ms:.2g} ms (median)",
        f"- {', '.join(f'{name} {number}' for name, number in versions.items())}",
        "- peers leave `synchronous` alone, which in WAL mode is FULL here"
        if level == 2
        else f"- **peers leave `synchronous` alone, which here is {level}, not 2 (FULL)**",
    ]
    if absent:
        lines.append(f"- **not installed, so not measured: {', '.join(absent)}**")
    return "\n".join(lines) + "\n"


def _sync_ms(directory: Path) -> float:
    taken = []
    descriptor = os.open(directory / "probe", os.O_WRONLY | os.O_CREAT)
    try:
        for _ in range(50):
            start = perf_counter()
            os.write(descriptor, bytes(4096))
            os.fsync(descriptor)
            taken.append(perf_counter() - start)
    finally:
        os.close(descriptor)
    return median(taken) * 1000


if __name__ == "__main__":
    main()
