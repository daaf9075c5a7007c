"""The named steps at which a process can be made to die, or to be stopped."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any, Final

from sessionactor._opening import Opening
from sessionactor.testing import Faults, Step, When

_CALLS: Final = ("link", "unlink", "rename", "replace", "fsync", "pwrite")
_STATEMENTS: Final = (
    "BEGIN", "COMMIT", "VACUUM", "ATTACH", "PRAGMA synchronous", "PRAGMA wal_checkpoint",
    "INSERT INTO messages", "INSERT INTO keys", "INSERT INTO metadata", "INSERT INTO turns",
    "INSERT INTO removals", "UPDATE messages", "DELETE FROM messages", "UPDATE session SET",
    "INSERT INTO main.", "REPLACE INTO main.", "UPDATE main.",
    "INSERT INTO words", "INSERT INTO docs", "UPDATE sessions", "UPDATE catalog",
)  # fmt: skip

STORE: Final = tuple(
    f"store {step} {when}"
    for step, when in product(("open", "commit", "read", "rename", "close"), ("before", "after"))
)
"""Before and after what an actor asks of its store."""
SYSTEM: Final = tuple(f"{call} {when}" for call, when in product(_CALLS, ("before", "after")))
"""Before and after calls of the system with which files are made, moved and removed."""
SQL: Final = tuple(f"sql {statement}" for statement in _STATEMENTS)
"""As SQLite begins with a statement, of a session, a copy or the catalog."""

POINTS: Final = (*STORE, *SYSTEM, *SQL)


class Fate:
    """What happens to this process when it comes to a step for the n-th time."""

    def __init__(self, point: str, nth: int, number: signal.Signals, tell: Callable[[], None]):
        self._point, self._left, self._signal, self._tell = point, nth, number, tell
        self._guard = threading.Lock()

    def reach(self, point: str) -> None:
        """Be at a step; this may not return."""
        if point != self._point:
            return
        with self._guard:
            self._left -= 1
            if self._left:
                return
        self._tell()
        os.kill(os.getpid(), self._signal)


class FatefulFaults(Faults):
    """Faults of a store that are the end of its process."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self._fate = fate

    async def strike(self, step: Step, when: When, opening: Opening) -> None:
        self._fate.reach(f"store {step} {when}")


def install(fate: Fate, point: str) -> None:
    """Let this process come to its fate, for good."""
    if point in SYSTEM:
        call, _ = point.split()
        setattr(os, call, _around(getattr(os, call), call, fate))
    elif point in SQL:
        _install_trace(fate, point.removeprefix("sql "))


def _around(function: Callable[..., Any], name: str, fate: Fate) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        fate.reach(f"{name} before")
        answer = function(*args, **kwargs)
        fate.reach(f"{name} after")
        return answer

    return called


def _install_trace(fate: Fate, beginning: str) -> None:
    connect = sqlite3.connect

    def connected(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)
        connection.set_trace_callback(
            lambda sql: fate.reach(f"sql {beginning}") if sql.startswith(beginning) else None
        )
        return connection

    sqlite3.connect = connected  # type: ignore[assignment]


def seen(points: Iterable[str]) -> str:
    """How many of all named steps were reached."""
    return f"{len(set(points) & set(POINTS))} of {len(POINTS)}"
