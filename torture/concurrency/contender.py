"""One process of a contest: tasks that ask sessions which other processes want as well.

    python -m torture.concurrency DIRECTORY LOG --case p0 --number 3 --seed 1

It goes on until its input ends, or until it is killed. The log is a line for the beginning of
each call and one for its end, each written at once: what is in the file, the kernel has.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import time
from itertools import count
from random import Random
from typing import Any

from sessionactor import SessionBusyError, SessionOwnedError, SessionRegistry
from torture.campaign import Budget
from torture.concurrency.asking import ask
from torture.concurrency.calls import Call, Done, to_json
from torture.concurrency.drawing import Draw, Known

SESSIONS = ("x", "y")
TASKS = 3
WEIGHTS = {
    "append": 30,
    "extend": 6,
    "batch": 10,
    "update": 8,
    "remove": 14,
    "save": 8,
    "read": 22,
    "stop": 25,
    "start": 6,
    "rename": 3,
    "delete": 3,
}
_REST_S = 0.008
"""How long a task rests between calls, at most."""


class Log:
    """Where calls are written down."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._numbers = count()

    def began(self, session_id: str, call: Call) -> int:
        number = next(self._numbers)
        self._write("began", number, time.monotonic_ns(), session_id, call)
        return number

    def ended(self, number: int, how: str, answer: Any = None) -> None:
        """`answered`, `lost` (it may have happened), `not` (it did not) or `wrong`."""
        self._write(how, number, time.monotonic_ns(), answer)

    def _write(self, *parts: Any) -> None:
        os.write(self._file, f"{to_json(parts)}\n".encode())


class _Contender:
    def __init__(self, registry: SessionRegistry, log: Log, draw: Draw, random: Random) -> None:
        self._registry = registry
        self._log = log
        self._draw = draw
        self._random = random

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            session_id, call = self._draw.next()
            done = await self._call(session_id, call)
            if done is not None:
                self._draw.hear(done)
            if self._random.random() < 0.5:
                await asyncio.sleep(self._random.random() * _REST_S)

    async def _call(self, session_id: str, call: Call) -> Done | None:
        log = self._log
        number = log.began(session_id, call)
        limit_s = None if self._random.random() < 0.9 else self._random.random() ** 2 * 0.01
        try:
            async with asyncio.timeout(limit_s):
                answer = await ask(self._registry, session_id, call)
        except TimeoutError:
            log.ended(number, "lost")
            return Done(session_id, call, 0, 0, answered=False)
        except (SessionOwnedError, SessionBusyError):  # another's, or its catalog reads it
            log.ended(number, "not")
            await asyncio.sleep(self._random.random() * _REST_S)
            return None
        except Exception as error:
            log.ended(number, "wrong", repr(error))
            return None
        log.ended(number, "answered", answer)
        return Done(session_id, call, 0, 0, answer)


async def contend(directory: str, log: Log, random: Random, number: int) -> None:
    """Ask until the input ends."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), over.set)
    registry = SessionRegistry(
        directory,
        durability="normal",
        max_active=random.choice([1, 2]),
        idle_timeout_s=random.choice([0.01, 0.1, None]),
        mailbox_size=random.choice([1, 4, 64]),
        catalog=random.random() < 0.5,
    )
    known = {session_id: Known() for session_id in SESSIONS}
    async with registry, asyncio.TaskGroup() as group:
        for task in range(TASKS):
            draw = Draw(Random(random.random()), f"{number}{'abc'[task]}", SESSIONS, WEIGHTS, known)
            contender = _Contender(registry, log, draw, Random(random.random()))
            group.create_task(contender.run(over))
    log.ended(-1, "closed")


def main() -> None:
    from torture.mutations import planted  # which knows all campaigns, this one too

    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("log")
    parser.add_argument("--case", required=True)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--mutation")
    options = parser.parse_args()
    random = Budget(options.seed, 0).random("contender", options.case, options.number)
    # What it logs is of files that others move and remove; what matters comes as an answer.
    logging.getLogger("sessionactor").setLevel(logging.CRITICAL)
    with planted(options.mutation), contextlib.suppress(KeyboardInterrupt):
        asyncio.run(contend(options.directory, Log(options.log), random, options.number))
