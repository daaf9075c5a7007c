"""Every error the package raises: one base, each also the builtin a caller would catch.

Each error names the session it concerns (`.session_id`, `None` where none does) and
carries what a handler needs as fields.
"""

from __future__ import annotations

import reprlib
from pathlib import Path


def shown(value: object) -> str:
    """A value as a message shows it: in short, whatever its class makes of that."""
    try:
        return reprlib.repr(value)
    except Exception:  # an int of thousands of digits, too
        return f"<{type(value).__name__}>"


class SessionError(Exception):
    """Base of every error of this package."""

    def __init__(self, message: str, *, session_id: str | None = None) -> None:
        super().__init__(message)
        self.session_id = session_id


class SessionNotFoundError(SessionError, LookupError):
    """No session has that id or name; `start` would create it."""


class SessionExistsError(SessionError):
    """The id or file is already taken by a session of another name."""


class AmbiguousNameError(SessionError, LookupError):
    """Several sessions have that name; `.session_ids` lists them."""

    def __init__(self, message: str, *, session_ids: tuple[str, ...]) -> None:
        super().__init__(message)
        self.session_ids = session_ids


class InvalidNameError(SessionError, ValueError):
    """A session id or name that cannot be one."""


class InvalidValueError(SessionError, ValueError):
    """An argument whose value is out of its range."""


class InvalidTypeError(SessionError, TypeError):
    """An argument of the wrong type."""


class SessionOwnedError(SessionError):
    """Another process or registry owns the session; `.pid` is its process."""

    def __init__(self, message: str, *, session_id: str, pid: int) -> None:
        super().__init__(message, session_id=session_id)
        self.pid = pid


class SessionBusyError(SessionError):
    """Not now: a foreign reader holds the session's files open, or it is being imported."""


class SessionCrashedError(SessionError):
    """The actor crashed while it served this request; the next request starts a new one."""


class RegistryClosedError(SessionError, RuntimeError):
    """The registry is not open, or belongs to another event loop or process."""


class MessageEncodingError(SessionError, TypeError):
    """Something in the message cannot be stored; `.path` says where, as `content[2].image`."""

    def __init__(self, message: str, *, path: str, session_id: str | None = None) -> None:
        super().__init__(message, session_id=session_id)
        self.path = path


class MessageTooLargeError(SessionError, ValueError):
    """The encoded message exceeds `max_message_bytes`; `.size` and `.limit` are bytes."""

    def __init__(
        self, message: str, *, size: int, limit: int, session_id: str | None = None
    ) -> None:
        super().__init__(message, session_id=session_id)
        self.size = size
        self.limit = limit


class CorruptRowError(SessionError, ValueError):
    """A stored row cannot be decoded; `.db_id` names it, `on_corrupt="skip"` passes over it."""

    def __init__(self, message: str, *, db_id: int, session_id: str | None = None) -> None:
        super().__init__(message, session_id=session_id)
        self.db_id = db_id


class IdempotencyError(SessionError, ValueError):
    """The key was used before with another agent or message; `.key`, and `.db_id` of that use."""

    def __init__(self, message: str, *, key: str, db_id: int, session_id: str) -> None:
        super().__init__(message, session_id=session_id)
        self.key = key
        self.db_id = db_id


class StaleHeadError(SessionError):
    """`expected_head` is not the newest `db_id`; `.actual` is (0: the session is empty)."""

    def __init__(self, message: str, *, expected: int, actual: int, session_id: str) -> None:
        super().__init__(message, session_id=session_id)
        self.expected = expected
        self.actual = actual


class StaleRevisionError(SessionError):
    """`expected_revision` is not the session's revision; `.actual` is."""

    def __init__(self, message: str, *, expected: int, actual: int, session_id: str) -> None:
        super().__init__(message, session_id=session_id)
        self.expected = expected
        self.actual = actual


class TurnClosedError(SessionError):
    """The turn ended, or a row of it was removed: nothing is appended to it any more."""

    def __init__(self, message: str, *, turn_id: str, session_id: str) -> None:
        super().__init__(message, session_id=session_id)
        self.turn_id = turn_id


class TurnOpenError(SessionError):
    """An open turn is in the way, `.turn_id`: of that agent, or of that id."""

    def __init__(self, message: str, *, turn_id: str, session_id: str) -> None:
        super().__init__(message, session_id=session_id)
        self.turn_id = turn_id


class ReadOnlyError(SessionError, PermissionError):
    """The registry was opened for reading only."""

    def __init__(self, message: str, *, session_id: str | None = None) -> None:
        SessionError.__init__(self, message, session_id=session_id)


class NoCatalogError(SessionError, RuntimeError):
    """The registry was opened with `catalog=False`, and this needs the catalog."""


class StorageError(SessionError, OSError):
    """The disk or SQLite failed; `.path` is the file, `__cause__` what failed."""

    def __init__(
        self, message: str, *, path: Path | None = None, session_id: str | None = None
    ) -> None:
        super().__init__(message, session_id=session_id)
        self.path = path


class TargetExistsError(SessionError, FileExistsError):
    """What was to be written to is there already, and is left as it is; `.path` says where."""

    def __init__(self, message: str, *, path: Path, session_id: str | None = None) -> None:
        super().__init__(message, session_id=session_id)
        self.path = path


class SchemaVersionError(StorageError):
    """The file was written by a newer version of this package, and is left untouched."""


def not_found(session_id: str) -> SessionNotFoundError:
    """The error for a session that does not exist."""
    return SessionNotFoundError(
        f"session {session_id!r} does not exist; start() creates it", session_id=session_id
    )


__all__ = [
    "AmbiguousNameError",
    "CorruptRowError",
    "IdempotencyError",
    "InvalidNameError",
    "InvalidTypeError",
    "InvalidValueError",
    "MessageEncodingError",
    "MessageTooLargeError",
    "NoCatalogError",
    "ReadOnlyError",
    "RegistryClosedError",
    "SchemaVersionError",
    "SessionBusyError",
    "SessionCrashedError",
    "SessionError",
    "SessionExistsError",
    "SessionNotFoundError",
    "SessionOwnedError",
    "StaleHeadError",
    "StaleRevisionError",
    "StorageError",
    "TargetExistsError",
    "TurnClosedError",
    "TurnOpenError",
]
