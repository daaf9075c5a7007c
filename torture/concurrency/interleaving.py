"""One interleaving: tasks on a registry in memory, in a loop that chance steps through."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import Any

from sessionactor import (
    RegistryClosedError,
    SessionCrashedError,
    SessionError,
    SessionRegistry,
    StorageError,
)
from sessionactor.testing import Faults, MemoryVault, Step, When, faulty_store
from torture.concurrency.asking import UnsaidError, ask
from torture.concurrency.calls import (
    COMMANDS,
    FOREVER,
    Begin,
    Call,
    Done,
    End,
    Fork,
    Make,
    Refused,
    Start,
    Take,
)
from torture.concurrency.drawing import COMMON, WEIGHTS, Draw, Known
from torture.concurrency.loop import Loop, StuckError
from torture.concurrency.subscribers import Follower

_MOST_S = 0.003
"""How long somebody sleeps, or a call may take before it is cancelled, at most."""


@dataclass
class Outcome:
    """What was seen of an interleaving."""

    history: list[Done] = field(default_factory=list)
    followers: list[Follower] = field(default_factory=list)
    sessions: tuple[str, ...] = ()
    complaints: list[str] = field(default_factory=list)
    """What should never be, whatever the order of calls."""
    faulty: bool = False
    cancelled: int = 0
    passivations: int = 0
    steps: int = 0
    trace: int = 0


def play(random: Random) -> Outcome:
    """Run one interleaving to its end."""
    loop = Loop(random)  # type: ignore[abstract]  # all that is asked of it is there
    outcome = Outcome()
    complaints = outcome.complaints
    logging.getLogger("sessionactor").disabled = True  # planned crashes are logged
    gc.disable()
    try:
        loop.run(_Play(random, loop, outcome).run())
        if left := [_where(task) for task in asyncio.all_tasks(loop)]:
            complaints.append(f"tasks are left: {left}")
    except StuckError as stuck:
        waiting = "".join(f"\n  {_where(task)}" for task in asyncio.all_tasks(loop))
        complaints.append(f"{stuck}, and these wait:{waiting}")
    except Exception as error:
        complaints.append(f"a task that asks fails: {error!r}")
    finally:
        outcome.complaints = complaints.copy()  # what comes from now on is no surprise
        if asyncio.all_tasks(loop):
            loop.abandon()
        gc.collect()  # tells of errors that nobody asked for
        gc.enable()
        logging.getLogger("sessionactor").disabled = False
    outcome.complaints += loop.complaints
    outcome.steps, outcome.trace = loop.steps, loop.trace
    loop.close()
    return outcome


def _where(task: asyncio.Task[Any]) -> str:
    frames = task.get_stack(limit=1)
    place = f"{frames[0].f_code.co_qualname}:{frames[0].f_lineno}" if frames else "?"
    return f"{task.get_name()} in {place}"


class _Play:
    def __init__(self, random: Random, loop: Loop, outcome: Outcome) -> None:
        self._random = random
        self._loop = loop
        self._outcome = outcome
        self._clock = count(1)
        self._forks = count(1)
        self._faults = Faults()
        self._closing = False
        sessions = tuple("xyz"[: random.choice([1, 1, 2, 2, 3])])
        self._sessions = outcome.sessions = sessions
        # Some do without some kinds of calls: others come closer together then.
        weights = {kind: weight for kind, weight in WEIGHTS.items() if random.random() < 0.7}
        if len(sessions) == 1:
            weights.pop("fork", None)
        self._weights = weights if weights.keys() & COMMON.keys() else COMMON
        outcome.faulty = random.random() < 0.35
        self._cancels = random.choice([0, 0.1, 0.4])
        buffer = random.choice([2, 8, 1000, 1000])
        self._lags = buffer < 1000
        self._has_catalog = random.random() < 0.3
        self._registry = SessionRegistry(
            None,
            max_active=random.choice([1, 2, 4, 4]),
            idle_timeout_s=random.choice([None, None, 0.0001, 0.001]),
            mailbox_size=random.choice([1, 2, 3, 64]),
            subscriber_buffer=buffer,
            open_store=faulty_store(self._faults, MemoryVault(clock=self._now_us).open_store),
            catalog=self._has_catalog,
        )

    def _now_us(self) -> int:
        return 1_700_000_000_000_000 + int(self._loop.time() * 1e6)

    async def run(self) -> None:
        random = self._random
        known = {session_id: Known() for session_id in self._sessions}
        await self._registry.open()
        for session_id in self._sessions:
            if random.random() < 0.8:
                await self._call(session_id, Start(session_id))
        workers = [
            asyncio.create_task(
                self._work(
                    Draw(Random(random.random()), name, self._sessions, self._weights, known)
                ),
                name=f"worker {name}",
            )
            for name in "ABCD"[: random.randint(2, 4)]
        ]
        others = [self._follow(known) for _ in range(random.choice([0, 1, 2, 3]))]
        if self._outcome.faulty:
            others.append(self._sabotage())
        if self._has_catalog:
            others.append(self._list())
        tasks = workers + [asyncio.create_task(other) for other in others]
        if random.random() < 0.3:
            await self._pause(5 * _MOST_S)
        else:
            await asyncio.wait(workers)
            self._faults.clear()
            reader = Draw(Random(random.random()), "R", self._sessions, {"read": 1}, known)
            for _ in range(4):
                await self._call(*reader.next())
        self._closing = True
        self._outcome.passivations = self._registry.statistics().passivations
        await self._registry.aclose()
        for task in tasks:
            await task

    async def _pause(self, most_s: float = _MOST_S) -> None:
        await asyncio.sleep(self._random.random() * most_s)

    async def _work(self, draw: Draw) -> None:
        for _ in range(self._random.randint(3, 9)):
            if self._closing and self._random.random() < 0.5:
                return
            session_id, call = draw.next()
            for done in await self._call(session_id, call):
                draw.hear(done)
            if self._random.random() < 0.2:
                await self._pause()

    async def _call(self, session_id: str, call: Call) -> list[Done]:
        """Make a call, cancel it perhaps, and write down what it came to."""
        began = next(self._clock)
        answer, answered, cancelled = None, True, False
        asked: Awaitable[Any] = ask(self._registry, session_id, call)
        try:
            if self._random.random() < self._cancels:
                answer = await self._cancelling(asked)
            else:
                answer = await asked
        except asyncio.CancelledError:
            self._outcome.cancelled += 1
            answered, cancelled = False, True
        except UnsaidError:
            answered = False
        except (StorageError, SessionCrashedError) as error:
            answered = False
            if not self._outcome.faulty:
                self._outcome.complaints.append(f"{call}: {error!r}, and nothing was at fault")
        except RegistryClosedError as error:
            answered = False
            if not self._closing:
                self._outcome.complaints.append(f"{call}: {error!r}, and nobody closes it")
        except Exception as error:
            answered = False
            self._outcome.complaints.append(f"{call}: {error!r}")
        done = Done(session_id, call, began, next(self._clock), answer, answered)
        written = [
            replace(half, ended=FOREVER) if cancelled and isinstance(half.call, COMMANDS) else half
            for half in self._halves(done)
        ]
        self._outcome.history += written
        return written

    async def _cancelling(self, asked: Any) -> Any:
        task = asyncio.create_task(asked, name="to be cancelled")
        self._loop.call_later(self._random.random() ** 3 * _MOST_S, task.cancel)
        await asyncio.wait([task])
        return task.result()

    def _halves(self, done: Done) -> list[Done]:
        """A call that happens at two moments is two."""
        session_id, call, began, ended = done.session_id, done.call, done.began, done.ended
        match call:
            case Begin(turn_id) if not done.answered:
                # Whoever is cancelled while a turn begins closes it again.
                closed = Done(session_id, End(turn_id, True), began, ended, answered=False)
                return [done, closed]
            case Fork(into, name, before):
                number = next(self._forks)
                take: Call = Take(number)
                make: Call = Make(number, name, before)
                if not isinstance(done.answer, Refused):
                    return [
                        Done(session_id, take, began, ended, answered=done.answered),
                        Done(into, make, began, ended, answered=done.answered),
                    ]
                if done.answer.kind == "SessionExistsError":
                    return [Done(into, make, began, ended, done.answer)]
                return [Done(session_id, take, began, ended, done.answer)]
        return [done]

    async def _follow(self, known: dict[str, Known]) -> None:
        random = self._random
        session_id = random.choice(self._sessions)
        if random.random() < 0.5:
            await self._pause()
        since = random.choice([None, None, 0, 0, known[session_id].revision])
        if self._closing:
            return
        rereads = self._outcome.faulty or (since is not None and self._lags)
        follower = Follower(session_id, since, next(self._clock), rereads)
        self._outcome.followers.append(follower)
        slow = random.random() < 0.2
        most = random.choice([4, 1000, 1000, 1000])
        subscription = self._registry.session(session_id).subscribe(since=since)
        try:
            async for event in subscription:
                follower.first_at = follower.first_at or next(self._clock)
                follower.events.append(event)
                if len(follower.events) == most:
                    return
                if slow:
                    await self._pause()
            follower.ending = "closed"
        except SessionError:
            follower.ending = "failed"  # there is none, or another one than it was
        finally:
            await subscription.aclose()

    async def _list(self) -> None:
        """Have the catalog ask all sessions what they are, again and again."""
        for _ in range(self._random.randint(1, 3)):
            await self._pause()
            try:
                names = [info.name for info in (await self._registry.sessions()).sessions]
                assert len(names) <= len(self._sessions), names
            except RegistryClosedError:
                return
            except (StorageError, SessionCrashedError):
                if not self._outcome.faulty:
                    raise

    async def _sabotage(self) -> None:
        random = self._random
        for _ in range(random.randint(1, 4)):
            await self._pause()
            steps: list[Step] = ["open", "commit", "commit", "read", "rename", "close"]
            step, when = random.choice(steps), random.choice(_WHEN)
            session_id = random.choice([None, *self._sessions])
            match random.choice(["fail", "crash", "stall"]):
                case "fail":
                    error = OSError(errno.EIO, "planned")
                    self._faults.fail(step, error, when=when, session_id=session_id)
                case "crash":
                    self._faults.crash(step, when=when, session_id=session_id)
                case _:
                    stall = self._faults.stall(step, when=when, session_id=session_id)
                    self._loop.call_later(random.random() * _MOST_S, stall.release)


_WHEN: list[When] = ["before", "after"]
