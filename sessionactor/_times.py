"""Times as they are stored: integer microseconds since the epoch, UTC."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

LATEST: Final = 253_402_300_799_999_999
"""The last microsecond that a datetime can tell."""
EARLIEST: Final = -62_135_596_800_000_000
"""The first one."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT: Final = (1 << 33) * 1_000_000
"""Until here, in the year 2242, doubles of seconds are less than a microsecond apart."""


def now() -> int:
    """This moment."""
    return time.time_ns() // 1000


def from_microseconds(value: int) -> datetime:
    """An aware datetime in UTC."""
    if -_EXACT <= value <= _EXACT:
        return datetime.fromtimestamp(value / 1e6, UTC)  # half the time of what is below
    return _EPOCH + timedelta(microseconds=value)


def each_from_microseconds(values: Iterable[int]) -> dict[int, datetime]:
    """The datetimes of several times: rows committed together share one."""
    return {value: from_microseconds(value) for value in set(values)}
