"""A store that fails, crashes or stalls at a named step, on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import anyio

from sessionactor._changes import StoredInfo
from sessionactor._deciding import Decision
from sessionactor._errors import SessionError, StorageError
from sessionactor._opening import Opening
from sessionactor._requests import Read, SetName, Write
from sessionactor._store import OpenStore, Store, open_store

Step: TypeAlias = Literal["open", "commit", "read", "rename", "close"]
"""What a store is asked to do."""
When: TypeAlias = Literal["before", "after"]
"""Before anything of a step is done, or after all of it is done but not told yet."""

_T = TypeVar("_T")


class Stall:
    """A step that waits until it is released: what `Faults.stall` returns."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        """Set as soon as a store has come to the step, and waits there."""
        self._released = asyncio.Event()

    def release(self) -> None:
        """Let the step go on; idempotent, also before it was reached."""
        self._released.set()

    async def hold(self) -> None:
        """Wait for the release: what the store does."""
        self.reached.set()
        await self._released.wait()


@dataclass
class _Fault:
    step: Step
    when: When
    session_id: str | None
    times: int | None
    error: BaseException | None
    crash: bool = False
    stall: Stall | None = None


class Faults:
    """A plan of what goes wrong, given to `faulty_store` and changed while it is in use.

    Faults of one step happen in the order in which they were planned, each as often as its
    `times` says (`None`: until `clear`). With `session_id` a fault happens to that session
    alone.

        faults = Faults()
        async with SessionRegistry(path, open_store=faulty_store(faults)) as registry:
            session = await registry.start("a")
            faults.fail("commit", OSError(errno.ENOSPC, "disk full"))
            with pytest.raises(StorageError):
                await session.append("agent", {"role": "user", "content": "hello"})
    """

    def __init__(self) -> None:
        self._planned: list[_Fault] = []

    def fail(
        self,
        step: Step,
        cause: Exception,
        *,
        when: When = "before",
        times: int | None = 1,
        session_id: str | None = None,
    ) -> None:
        """Fail as a store does whose disk fails: `StorageError` with its path and this cause.

        A cause that is an error of this package is raised as it is. Before a commit nothing
        is stored; after it all is, and only the answer is lost.
        """
        self._plan(_Fault(step, when, session_id, times, cause))

    def crash(
        self,
        step: Step,
        error: BaseException | None = None,
        *,
        when: When = "before",
        times: int | None = 1,
        session_id: str | None = None,
    ) -> None:
        """Raise what no store should: an unexpected error, by default a `RuntimeError`."""
        error = error or RuntimeError(f"planned crash at {step}")
        self._plan(_Fault(step, when, session_id, times, error, crash=True))

    def stall(self, step: Step, *, when: When = "before", session_id: str | None = None) -> Stall:
        """Make the step wait, once, until the returned `Stall` is released."""
        stall = Stall()
        self._plan(_Fault(step, when, session_id, 1, None, stall=stall))
        return stall

    def clear(self) -> None:
        """Let nothing go wrong any more. What stalls already still waits for its release."""
        self._planned.clear()

    def pending(self) -> int:
        """How many planned faults have not happened, or not as often as planned."""
        return len(self._planned)

    async def strike(self, step: Step, when: When, opening: Opening) -> None:
        """Let happen what is planned for this moment: what the store calls."""
        fault = self._take(step, when, opening.session_id)
        if fault is None:
            return
        if fault.stall is not None:
            await fault.stall.hold()
        elif fault.error is not None:
            if fault.crash or isinstance(fault.error, SessionError):
                raise fault.error
            raise StorageError(
                f"session {opening.session_id!r} in {opening.path or 'memory'}: {fault.error!r}",
                path=opening.path,
                session_id=opening.session_id,
            ) from fault.error

    def _plan(self, fault: _Fault) -> None:
        for what, value, known in (
            ("step", fault.step, get_args(Step)),
            ("when", fault.when, get_args(When)),
        ):
            if value not in known:
                raise ValueError(f"{what} is one of {', '.join(known)}, not {value!r}")
        self._planned.append(fault)

    def _take(self, step: Step, when: When, session_id: str) -> _Fault | None:
        for fault in self._planned:
            if (fault.step, fault.when) == (step, when) and fault.session_id in (None, session_id):
                if fault.times is not None:
                    fault.times -= 1
                    if not fault.times:
                        self._planned.remove(fault)
                return fault
        return None


class FaultyStore:
    """Passes everything on to another store, but for what its `Faults` have planned."""

    def __init__(self, store: Store, opening: Opening, faults: Faults) -> None:
        self._store = store
        self._opening = opening
        self._faults = faults

    async def commit(self, group: Sequence[Write]) -> Decision:
        """Commit a group, or store another name."""
        renames = any(type(one) is SetName for write in group for one in write.operations)
        step: Step = "rename" if renames else "commit"
        return await self._do(step, lambda: self._store.commit(group))

    async def read(self, request: Read, max_rows: int) -> Any:
        """Answer a read."""
        return await self._do("read", lambda: self._store.read(request, max_rows))

    def info(self) -> StoredInfo:
        """What the session is."""
        return self._store.info()

    async def close(self) -> None:
        """Close the other store, whatever is planned: a fault leaks no thread and no file."""
        try:
            await self._faults.strike("close", "before", self._opening)
        finally:
            with anyio.CancelScope(shield=True):
                await self._store.close()
        await self._faults.strike("close", "after", self._opening)

    async def _do(self, step: Step, call: Callable[[], Awaitable[_T]]) -> _T:
        await self._faults.strike(step, "before", self._opening)
        answer = await call()
        await self._faults.strike(step, "after", self._opening)
        return answer


def faulty_store(faults: Faults, open_store: OpenStore = open_store) -> OpenStore:
    """An `open_store` for `SessionRegistry` that does what `open_store` does, and these faults.

    The real code runs in between, on the real file: only what a disk or a driver would do
    wrong is made up.
    """

    async def open_faulty(opening: Opening) -> Store:
        await faults.strike("open", "before", opening)
        store = await open_store(opening)
        try:
            await faults.strike("open", "after", opening)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await store.close()
            raise
        return FaultyStore(store, opening, faults)

    return open_faulty


__all__ = ["Faults", "FaultyStore", "Stall", "Step", "When", "faulty_store"]
