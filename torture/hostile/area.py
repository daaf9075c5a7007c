"""What an area of the campaign is: a kind of input, and a library that gets it in rounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import TracebackType
from typing import NoReturn, Protocol, Self, TypeVar

from sessionactor import Session, SessionError, SessionRegistry

_T = TypeVar("_T")

HELLO = {"role": "user", "content": "nobody disturbs quietly spoken words"}
"""What a bystander says."""


class BrokenError(Exception):
    """A promise that did not hold, for an input that it names."""


def broken(what: str, given: object) -> NoReturn:
    """Say what did not hold, and for which input.

    Raises:
        BrokenError: always.
    """
    shown = repr(given)
    raise BrokenError(f"{what}, given {shown if len(shown) < 500 else shown[:500] + '…'}")


@dataclass(frozen=True, slots=True)
class Places:
    """Where an area may do what."""

    sessions: Path
    """The directory of the registry."""
    sources: Path
    """Where input files are put."""
    canary: Path
    """What nobody may touch, links to it notwithstanding."""


class Area(Protocol):
    """One kind of input. Entered, it has what it gives the input to."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def round(self, chance: Random) -> int:
        """Give it some inputs, and see what comes of them; how many there were.

        Raises:
            BrokenError: a promise did not hold.
        """


@dataclass(frozen=True, slots=True)
class Kind:
    """What an area holds the library against, and how it is made."""

    promise: str
    unit: str
    make: Callable[[Places], Area]


async def answer(call: Awaitable[_T]) -> _T | SessionError:
    """What a call returned, or the error of ours that it raised; others go on their way."""
    try:
        return await call
    except SessionError as error:
        return error


def said(call: Callable[[], _T]) -> _T | SessionError:
    """As `answer`, for what does not wait."""
    try:
        return call()
    except SessionError as error:
        return error


class Bystander:
    """A session of the same registry, which nobody disturbs."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._count = 0

    @classmethod
    async def start(cls, registry: SessionRegistry) -> Bystander:
        return cls(await registry.start("bystander", name="bystander"))

    async def check(self) -> None:
        """See that it goes on, and that nothing of it is missing.

        Raises:
            BrokenError: it was disturbed.
        """
        self._count += 1
        seen = await answer(self._session.append("one", HELLO))
        if seen != self._count:
            broken(f"the bystander's append {self._count} came to", seen)
        rows = await answer(self._session.messages(limit=1, newest=True))
        if isinstance(rows, SessionError) or [row.message for row in rows] != [HELLO]:
            broken("the bystander's newest row is another one", rows)

    async def check_all(self) -> None:
        """See that every row of it is there."""
        rows = await self._session.messages()
        if [row.db_id for row in rows] != list(range(1, self._count + 1)):
            broken(f"the bystander had {self._count} rows", len(rows))
