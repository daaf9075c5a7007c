"""Checking what callers ask the catalog for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, get_args

from sessionactor._catalog_queries import Listing, Search
from sessionactor._changes import StateName
from sessionactor._errors import InvalidTypeError, InvalidValueError, shown

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MOST: Final = 1 << 32
"""More than there are of anything: a limit that is no limit."""
_LONGEST_GLOB: Final = 1000
"""Names have 200 characters, and what a pattern costs grows with the square of its length."""


def check_listing(
    asked: Listing,
    metadata: Mapping[str, object] | None,
    updated_after: datetime | None,
    updated_before: datetime | None,
) -> Listing:
    """A page that is asked for, with the rest of its filters.

    Raises:
        InvalidValueError: a value is out of its range.
        InvalidTypeError: one is of another type.
    """
    if asked.order not in ("updated", "created"):
        raise InvalidValueError(f'order is "updated" or "created", not {shown(asked.order)}')
    _check_limit(asked.limit)
    if asked.state is not None and asked.state not in get_args(StateName):
        known = ", ".join(get_args(StateName))
        raise InvalidValueError(f"state is one of {known}, not {shown(asked.state)}")
    for what in ("cursor", "name", "agent_alias", "channel_id", "room_id", "sender_id"):
        check_optional_text(what, getattr(asked, what))
    if asked.name is not None:
        check_glob(asked.name)
    if asked.active is not None and not isinstance(asked.active, bool):
        raise _wrong_type("active", "a bool or None", asked.active)
    if metadata is not None and not isinstance(metadata, Mapping):
        raise _wrong_type("metadata", "a mapping", metadata)
    return asked._replace(
        limit=min(asked.limit, _MOST),
        metadata=tuple(
            (check_text("a metadata key", key), _metadata_value(key, value))
            for key, value in (metadata or {}).items()
        ),
        updated_after=_microseconds("updated_after", updated_after),
        updated_before=_microseconds("updated_before", updated_before),
    )


def check_glob(pattern: object) -> str:
    """A pattern for names; raises as `check_listing`."""
    if not isinstance(pattern, str):
        raise _wrong_type("a pattern", "a str", pattern)
    if len(pattern) > _LONGEST_GLOB:
        raise InvalidValueError(
            f"a pattern has at most {_LONGEST_GLOB} characters, not {len(pattern)}"
        )
    return pattern


def check_search(asked: Search) -> Search:
    """A search that is asked for; raises as `check_listing`."""
    if not isinstance(asked.query, str):
        raise _wrong_type("query", "a str", asked.query)
    _check_limit(asked.limit)
    check_optional_text("session_id", asked.session_id)
    check_optional_text("agent_id", asked.agent_id)
    if asked.order not in ("newest", "rank"):
        raise InvalidValueError(f'order is "newest" or "rank", not {shown(asked.order)}')
    if asked.by not in ("message", "session"):
        raise InvalidValueError(f'by is "message" or "session", not {shown(asked.by)}')
    return asked


def check_age(older_than: object) -> int:
    """An age in microseconds; raises as `check_listing`."""
    if not isinstance(older_than, timedelta):
        raise _wrong_type("older_than", "a timedelta", older_than)
    if older_than < timedelta(0):
        raise InvalidValueError(f"older_than is not negative, as {older_than!r} is")
    return older_than // _MICROSECOND


def check_optional_text(what: str, value: object) -> str | None:
    """Text that the catalog may hold, or nothing; raises as `check_listing`."""
    return None if value is None else check_text(what, value)


def check_text(what: str, value: object) -> str:
    """Text; what the catalog cannot hold is found nowhere. Raises as `check_listing`."""
    if not isinstance(value, str):
        raise _wrong_type(what, "a str", value)
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValueError(f"{what} {text!r} contains a lone surrogate") from None
    return text


def _check_limit(limit: object) -> None:
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise _wrong_type("limit", "an int", limit)
    if limit < 1:
        raise InvalidValueError(f"limit is at least 1, not {shown(limit)}")


def _metadata_value(key: str, value: object) -> str | None:
    """A value as `save_metadata` would store it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        try:
            return str(value)
        except ValueError as error:  # an int of thousands of digits
            raise InvalidValueError(f"metadata {key!r}: {error}") from error
    return check_optional_text(f"metadata {key!r}", value)


def _microseconds(what: str, value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise _wrong_type(what, "a datetime or None", value)
    if value.utcoffset() is None:
        raise InvalidValueError(f"{what} needs a time zone: {value!r} has none")
    return (value - _EPOCH) // _MICROSECOND


def _wrong_type(what: str, wanted: str, value: Any) -> InvalidTypeError:
    return InvalidTypeError(f"{what} is {wanted}, not {type(value).__name__}")


__all__ = [
    "check_age",
    "check_glob",
    "check_listing",
    "check_optional_text",
    "check_search",
    "check_text",
]
