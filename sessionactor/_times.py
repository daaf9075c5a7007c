"""Times as they are stored: integer microseconds since the epoch, UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> int:
    """This moment."""
    return time.time_ns() // 1000


def from_microseconds(value: int) -> datetime:
    """An aware datetime in UTC."""
    return datetime.fromtimestamp(value / 1e6, UTC)  # exact: a double holds 53 bits
