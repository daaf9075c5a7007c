"""The settings of a registry, checked."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Final

from sessionactor._errors import InvalidTypeError, InvalidValueError
from sessionactor._opening import Durability
from sessionactor._store import OpenStore
from sessionactor._text import TextOf

DEFAULT_IDLE_TIMEOUT_S: Final = 60.0
DEFAULT_MAILBOX_SIZE: Final = 1024
DEFAULT_MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
DEFAULT_SUBSCRIBER_BUFFER: Final = 10_000
_MOST_ACTIVE: Final = 512
_DESCRIPTORS_EACH: Final = 3  # the database, its log and the log's index


@dataclass(frozen=True)
class Settings:
    """What a registry was told; what each means is said there.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of its range.
    """

    durability: Durability
    max_active: int
    idle_timeout_s: float | None
    mailbox_size: int
    max_message_bytes: int
    subscriber_buffer: int
    open_store: OpenStore
    catalog: bool
    text_of: TextOf | None
    read_only: bool = False

    def __post_init__(self) -> None:
        if self.durability not in ("full", "normal"):
            raise InvalidValueError(f'durability is "full" or "normal", not {self.durability!r}')
        for what in ("max_active", "mailbox_size", "max_message_bytes", "subscriber_buffer"):
            value = getattr(self, what)
            if not isinstance(value, int) or isinstance(value, bool):
                raise InvalidTypeError(f"{what} is an int, not {type(value).__name__}")
            if value < 1:
                raise InvalidValueError(f"{what} is at least 1, not {value!r}")
        idle_s: object = self.idle_timeout_s
        if idle_s is not None and not isinstance(idle_s, int | float):
            raise InvalidTypeError(
                f"idle_timeout_s is a number or None, not {type(idle_s).__name__}"
            )
        if idle_s is not None and not idle_s > 0:
            raise InvalidValueError(f"idle_timeout_s is more than 0, not {idle_s!r}")
        for what in ("catalog", "read_only"):
            switch = getattr(self, what)
            if not isinstance(switch, bool):
                raise InvalidTypeError(f"{what} is a bool, not {type(switch).__name__}")
        if self.text_of is not None and not callable(self.text_of):
            raise InvalidTypeError(
                f"text_of is a function or None, not {type(self.text_of).__name__}"
            )


def affordable() -> int:
    """How many sessions may be open: half of the descriptors that the process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_ACTIVE
    return max(1, min(_MOST_ACTIVE, soft // 2 // _DESCRIPTORS_EACH))


__all__ = [
    "DEFAULT_IDLE_TIMEOUT_S",
    "DEFAULT_MAILBOX_SIZE",
    "DEFAULT_MAX_MESSAGE_BYTES",
    "DEFAULT_SUBSCRIBER_BUFFER",
    "Settings",
    "affordable",
]
