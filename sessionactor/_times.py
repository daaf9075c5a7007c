"""Times as they are stored: integer microseconds since the epoch, UTC."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

LATEST: Final = 253_402_300_799_000_000
"""The last second that a datetime can tell."""
EARLIEST: Final = -62_135_596_800_000_000
"""The first one."""


def now() -> int:
    """This moment."""
    return time.time_ns() // 1000


def from_microseconds(value: int) -> datetime:
    """An aware datetime in UTC."""
    return datetime.fromtimestamp(value / 1e6, UTC)  # exact: a double holds 53 bits


def each_from_microseconds(values: Iterable[int]) -> dict[int, datetime]:
    """The datetimes of several times: rows committed together share one."""
    fromtimestamp = datetime.fromtimestamp
    return {value: fromtimestamp(value / 1e6, UTC) for value in set(values)}
