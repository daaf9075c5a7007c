"""Callers of an agent server, who work until they are told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any, Final, Literal

from sessionactor import (
    Session,
    SessionCrashedError,
    SessionExistsError,
    SessionNotFoundError,
    SessionRegistry,
    StorageError,
)
from sessionactor.testing import Faults

SESSIONS: Final = 200
_PLANTED: Final = "planted crash"
_CRASHING: Final[tuple[Literal["commit", "read", "close"], ...]] = ("commit", "read", "close")
_WORDS: Final = "tool answer plan user file error table query result index agent memory".split()
_SCENES: Final = {
    "append": 30,
    "extend": 8,
    "chapter": 14,
    "summarise": 4,
    "list": 2,
    "search": 2,
    "truncate": 3,
    "fork": 2,
    "replace": 4,
    "stop": 4,
    "crash": 2,
    "follow": 5,
    "give up": 4,
}


class Clock:
    """The time without that which the sampler took."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._stood = 0.0

    def __call__(self) -> float:
        return self._now() - self._stood

    @contextlib.contextmanager
    def standing(self) -> Any:
        """Let no time pass meanwhile."""
        before = self._now()
        try:
            yield
        finally:
            self._stood += self._now() - before


class Office:
    """What all agents share."""

    def __init__(self, registry: SessionRegistry, faults: Faults, clock: Clock) -> None:
        self.registry, self.faults, self.clock = registry, faults, clock
        self.live: list[str] = []
        self.appends_s: list[float] = []
        """How long appends took since they were last looked at."""
        self.calls: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self._followers: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Have the sessions that agents begin with."""
        for _ in range(SESSIONS):
            self.live.append((await self.registry.start()).session_id)

    async def work(self, chance: Random) -> None:
        """Be an agent: a few calls to a session, with pauses to think, then another session."""
        names, weights = list(_SCENES), list(_SCENES.values())
        for turn in itertools.count():
            if turn % 12 == 0:
                session = self._any(chance)
            (scene,) = chance.choices(names, weights)
            async with self._expecting(scene):
                try:
                    await self._play(scene, session, chance)
                except SessionNotFoundError:  # another agent deleted it
                    session = self._any(chance)
            await asyncio.sleep(chance.uniform(0.05, 0.45))

    async def write_much(self, session: Session, chance: Random) -> None:
        """Fill the log of a session, time after time."""
        while True:
            async with self._expecting("pour"):
                ids = await session.extend("bulk", [_message(chance, 4000) for _ in range(12)])
                if ids[-1] % 480 == 0:
                    await session.truncate_from(max(1, ids[-1] - 400))
            await asyncio.sleep(0.02)

    async def leave(self) -> None:
        """Wait until nobody follows any more."""
        for follower in self._followers:
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)

    def _any(self, chance: Random) -> Session:
        return self.registry.session(chance.choice(self.live))

    async def _play(  # noqa: C901  # a table of what agents do
        self, scene: str, session: Session, chance: Random
    ) -> None:
        match scene:
            case "append":
                began = self.clock()
                await session.append("agent", _message(chance, 600))
                self.appends_s.append(self.clock() - began)
            case "extend":
                await session.extend("agent", [_message(chance, 300) for _ in range(5)])
            case "chapter":
                await session.messages_from_latest_checkpoint()
            case "summarise":
                await session.append("agent", {"role": "summary", "content": "what was"})
            case "list":
                await self.registry.sessions(limit=20)
            case "search":
                await self.registry.search(chance.choice(_WORDS), limit=5)
            case "truncate":
                head = await session.head()
                if head is not None:
                    await session.truncate_from(max(1, head.db_id - 10), whole_turns=True)
            case "fork":
                self.live.append((await session.fork()).session_id)
                await self._retire(chance)
            case "replace":
                self.live.append((await self.registry.start()).session_id)
                await self._retire(chance)
            case "stop":
                await self.registry.stop(session.session_id)
            case "crash":
                await self._crash(session, chance)
            case "follow":
                follower = asyncio.create_task(self._follow(session, Random(chance.random())))
                self._followers.add(follower)
                follower.add_done_callback(self._followers.discard)
            case "give up":
                call = asyncio.create_task(session.append("agent", _message(chance, 200)))
                try:
                    await asyncio.sleep(chance.choice((0, 0.001, 0.005)))
                finally:  # the load may end just now
                    call.cancel()
                    await asyncio.gather(call, return_exceptions=True)
                if not call.cancelled():
                    call.result()

    async def _retire(self, chance: Random) -> None:
        """Delete one, so that there are as many as before."""
        if len(self.live) > SESSIONS:
            old = self.live.pop(chance.randrange(len(self.live)))
            await self.registry.delete(old)

    async def _crash(self, session: Session, chance: Random) -> None:
        self.faults.clear()  # those that met nobody
        step = chance.choice(_CRASHING)
        self.faults.crash(step, RuntimeError(_PLANTED), session_id=session.session_id)
        if step == "close":
            await self.registry.stop(session.session_id)
        elif step == "read":
            await session.messages(limit=1)
        else:
            await session.append("agent", _message(chance, 200))

    async def _follow(self, session: Session, chance: Random) -> None:
        async with self._expecting("follow"):
            since = chance.choice((None, 0))
            try:
                async with asyncio.timeout(chance.uniform(0.2, 2.0)):
                    if chance.random() < 0.5:
                        async with session.subscribe(since=since) as events:
                            async for _ in events:
                                pass
                    else:
                        async for _ in session.subscribe(since=since):
                            pass  # and it is forgotten
            except (TimeoutError, SessionNotFoundError):
                return

    @contextlib.asynccontextmanager
    async def _expecting(self, what: str) -> AsyncIterator[None]:
        """Count a call, and note errors that nobody planned."""
        self.calls[what] += 1
        try:
            yield
        except (SessionNotFoundError, SessionExistsError):
            pass  # deleted meanwhile; a name that another one just got
        except (SessionCrashedError, StorageError) as error:
            if _PLANTED not in str(error):
                self.unexpected.append(f"{what}: {error!r}")
        except Exception as error:
            self.unexpected.append(f"{what}: {error!r}")


def _message(chance: Random, size: int) -> dict[str, str]:
    words = " ".join(chance.choices(_WORDS, k=6))
    return {"role": "user", "content": words + "." * (size - len(words))}
