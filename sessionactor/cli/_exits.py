"""Exit codes, and errors as messages: a user's mistake is never a traceback."""

from __future__ import annotations

import enum
from typing import Any

from sessionactor import (
    AmbiguousNameError,
    InvalidNameError,
    InvalidTypeError,
    InvalidValueError,
    SessionBusyError,
    SessionError,
    SessionOwnedError,
)


class Exit(enum.IntEnum):
    """What a command ends with."""

    DONE = 0
    FAILED = 1
    """No such session, several where one is meant, or something could not be done."""
    USAGE = 2
    """The command was not understood: an option, an argument, a cursor, a directory."""
    IN_USE = 3
    """Another process owns or reads the session; the message has its pid where it is known."""
    UNSOUND = 4
    """`doctor` found something that is still wrong."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE_CLOSED = 141
    """Whoever read the output went away."""


class FailedError(Exception):
    """A command cannot be carried out; its message is for the user."""

    def __init__(self, message: str, code: Exit = Exit.FAILED, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


def code_of(error: BaseException) -> Exit:
    """The exit code for an error."""
    if isinstance(error, FailedError):
        return error.code
    if isinstance(error, SessionOwnedError | SessionBusyError):
        return Exit.IN_USE
    if isinstance(error, InvalidNameError | InvalidTypeError | InvalidValueError):
        return Exit.USAGE
    return Exit.FAILED


def details_of(error: BaseException) -> dict[str, Any]:
    """An error's kind and fields, for programs."""
    if isinstance(error, FailedError):
        return {"error": "FailedError", "message": str(error), **error.details}
    details: dict[str, Any] = {"error": type(error).__name__, "message": message_of(error)}
    if isinstance(error, SessionError):
        details["session_id"] = error.session_id
    if isinstance(error, SessionOwnedError):
        details["pid"] = error.pid
    if isinstance(error, AmbiguousNameError):
        details["session_ids"] = list(error.session_ids)
    return details


def message_of(error: BaseException) -> str:
    """An error in a sentence."""
    if isinstance(error, OSError) and not isinstance(error, SessionError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


__all__ = ["Exit", "FailedError", "code_of", "details_of", "message_of"]
