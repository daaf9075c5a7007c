"""Those who call while something is wrong: whom it concerns, and everybody else."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from sessionactor import Session, SessionCrashedError, SessionError, StorageError
from torture.kills.story import Story, Told, message, state_of

BOUND_S: Final = 20.0
"""By when every call is answered: SQLite waits 5 seconds for a lock, and the machine is busy."""
_ATTEMPTS: Final = 3


@dataclass
class Seen:
    """What was seen in a case."""

    broken: dict[str, list[str]] = field(default_factory=dict)
    """Sentences, by what was promised: `concerned`, `others`."""
    errors: Counter[str] = field(default_factory=Counter)
    give_up: Callable[[], None] = lambda: None
    """Ends the case: something hangs."""
    slowest_s: dict[str, float] = field(default_factory=lambda: {"concerned": 0.0, "others": 0.0})

    def fail(self, about: str, sentence: str) -> None:
        """Note that a promise was broken."""
        self.broken.setdefault(about, []).append(sentence)

    async def asked(self, what: str, call: Awaitable[Any], *, about: str = "concerned") -> Any:
        """The answer to a call; where it is one of our errors, that. Nothing else may come.

        `about` others: nothing but an answer may come.
        """
        began = perf_counter()
        answer: Any
        try:
            async with asyncio.timeout(BOUND_S):
                answer = await call
        except SessionError as error:
            answer = error
            self.errors[type(error).__name__] += 1
            if isinstance(error, SessionCrashedError):
                self.fail(about, f"{what}: {error!r}")
            if type(error) is StorageError and _says_nothing(error):
                self.fail(about, f"{what}: {error!r} does not say of what, or why")
            if about == "others":
                self.fail(about, f"{what}: {error!r}")
        except TimeoutError as error:
            answer = error
            self.fail(about, f"{what}: no answer within {BOUND_S} s")
            self.give_up()
        except Exception as error:
            answer = error
            self.fail(about, f"{what}: {error!r}, which is none of our errors")
        took = perf_counter() - began
        self.slowest_s[about] = max(self.slowest_s[about], took)
        return answer


def _says_nothing(error: StorageError) -> bool:
    """Whether an error does not say why, nor of which file."""
    return error.__cause__ is None or (
        error.path is None and not isinstance(error.__cause__, MemoryError)
    )


class Concerned:
    """The only caller of a session that something is wrong with: goes on as far as it can."""

    def __init__(self, session: Session, seed: str, seen: Seen) -> None:
        self.session = session
        self.story = Story(seed)
        self.by_hand = False
        """Whether other hands change what is there."""
        self._seen = seen
        self._ahead: Story | None = None
        self._call: Told | None = None
        self._unsure = False

    async def step(self) -> bool:
        """Make the next call, or find out about the last one; whether that was answered."""
        if self._ahead is None or self._call is None:
            self._ahead = self.story.copy()
            self._call = self._ahead.next()
            self._unsure = False
        if self._unsure and not self._call.repeatable:
            found = await self.found()
            if found is None:
                return False
            if found not in (self.story.state, self._ahead.state):
                self._wrong(found)
            if found == self._ahead.state != self.story.state:
                self._done()
                return True
        name = f"call {self.story.told} of {self.session.session_id}"
        answer = await self._seen.asked(name, self._call.do(self.session))
        if isinstance(answer, Exception):
            self._unsure = True
            return False
        if answer != self._call.answer:
            self._seen.fail("concerned", f"{name}: {answer}, not {self._call.answer}")
        self._done()
        return True

    async def recover(self) -> None:
        """Go on as ever, as soon as nothing is wrong any more."""
        for _ in range(_ATTEMPTS):
            if await self.step():
                break
        for _ in range(2 * _ATTEMPTS):
            if not await self.step():
                self._seen.fail("concerned", "nothing is wrong any more, and it does not work")
                return
        await self.check()

    async def check(self) -> None:
        """Hold what is there against what was answered."""
        found = await self.found()
        if found is not None and found != self.story.state:
            self._wrong(found)

    async def found(self) -> Any:
        """What the session holds; `None` where it cannot be read now."""
        rows = await self._seen.asked("reading", self.session.messages())
        if isinstance(rows, Exception):
            return None
        times = [row.inserted_at for row in rows]
        if times != sorted(times) and not self.by_hand:
            self._seen.fail("concerned", f"the times of messages go backwards: {times}")
        metadata = await self._seen.asked("reading", self.session.get_metadata())
        return None if isinstance(metadata, Exception) else state_of(rows, metadata)

    def _done(self) -> None:
        self.story, self._ahead, self._call = self._ahead or self.story, None, None

    def _wrong(self, found: object) -> None:
        self._seen.fail(
            "concerned",
            f"{self.session.session_id} has {found} after call {self.story.told},"
            f" {'perhaps' if self._unsure else 'not'}: {self.story.state}",
        )
        self._done()


class Bystander:
    """A caller whose session has nothing wrong with it: every call is answered, and soon."""

    def __init__(self, session: Session, seen: Seen) -> None:
        self._session, self._seen = session, seen
        self._count = 0
        self._over = False

    async def run(self) -> None:
        """Call until the end."""
        while not self._over:
            await self.call()
            await asyncio.sleep(0)

    async def call(self) -> None:
        """Append, and sometimes read all."""
        n = self._count + 1
        what = f"a bystander in {self._session.session_id}"
        append = self._session.append("b", message(n), key=f"b{n}")
        if await self._seen.asked(what, append, about="others") == n:
            self._count = n
        if n % 50 == 0:
            await self.check()

    async def check(self) -> None:
        """All that was answered is there."""
        what = f"a bystander in {self._session.session_id}"
        rows = await self._seen.asked(what, self._session.messages(), about="others")
        if isinstance(rows, list) and [row.db_id for row in rows] != [*range(1, self._count + 1)]:
            self._seen.fail("others", f"{what} has {len(rows)} rows instead of {self._count}")

    def stop(self) -> None:
        """Call no more."""
        self._over = True
