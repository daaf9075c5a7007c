"""Times as text, RFC 3339, and as stored: microseconds since the epoch."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1)
_MICROSECOND: Final = timedelta(microseconds=1)
_RFC_3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


def text_of(microseconds: int) -> str | None:
    """The time in UTC, to the microsecond; `None` beyond the years 1 to 9999."""
    try:
        moment = _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return None
    return moment.isoformat(timespec="microseconds") + "Z"


def short_text_of(microseconds: int) -> str | None:
    """The time in UTC with 0, 3 or 6 digits of a second, as many as it needs."""
    text = text_of(microseconds)
    if text is None or not text.endswith("000Z"):
        return text
    return f"{text[:-8]}Z" if text.endswith(".000000Z") else f"{text[:-4]}Z"


def nanoseconds_of(text: str) -> int | None:
    """Nanoseconds since the epoch of a time with any offset; `None`: it is no such time."""
    found = _RFC_3339.fullmatch(text)
    if found is None:
        return None
    date, minutes, second, fraction, sign, hours_off, minutes_off = found.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{minutes}:{min(int(second), 59):02}")
        if int(second) == 60:  # a leap second: the first moment after it
            moment += timedelta(seconds=1)
        elif int(second) > 60:
            return None
        if sign:
            if int(hours_off) > 23 or int(minutes_off) > 59:
                return None
            off = timedelta(hours=int(hours_off), minutes=int(minutes_off))
            moment -= off if sign == "+" else -off
    except (ValueError, OverflowError):
        return None
    nanoseconds = int((fraction or "0")[:9].ljust(9, "0"))
    return (moment - _EPOCH) // _MICROSECOND * 1000 + nanoseconds


__all__ = ["nanoseconds_of", "short_text_of", "text_of"]
