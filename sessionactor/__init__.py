"""Where AI agents keep their conversations: one actor, one SQLite file, per session.

How a request travels, each layer importing only what stands above it:

    errors, records, requests, words, names, times     leaves
    codec, digest, schema, paging, deciding, rows      pure
    files, ownership, sql, chapters, opening, store,
    directory, scan, disk                              what touches the disk
    mailbox                                            the queue in front of an actor
    actor, capacity, activation                        one session in use
    arguments, batch, session                          the handle: it knows whom to ask
    supervisor, registry                               where all of them meet

    Session -> registry.ask -> mailbox -> actor -> store -> <id>_<name>.db
"""

from sessionactor._batch import Batch
from sessionactor._errors import (
    AmbiguousNameError,
    CorruptRowError,
    IdempotencyError,
    InvalidNameError,
    InvalidTypeError,
    InvalidValueError,
    MessageEncodingError,
    MessageTooLargeError,
    RegistryClosedError,
    SchemaVersionError,
    SessionBusyError,
    SessionCrashedError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
    SessionOwnedError,
    StaleHeadError,
    StaleRevisionError,
    StorageError,
)
from sessionactor._records import Page, RegistryStatistics, Row, SessionFile
from sessionactor._registry import SessionRegistry
from sessionactor._session import Session

__version__ = "0.1.0"

__all__ = [
    "AmbiguousNameError",
    "Batch",
    "CorruptRowError",
    "IdempotencyError",
    "InvalidNameError",
    "InvalidTypeError",
    "InvalidValueError",
    "MessageEncodingError",
    "MessageTooLargeError",
    "Page",
    "RegistryClosedError",
    "RegistryStatistics",
    "Row",
    "SchemaVersionError",
    "Session",
    "SessionBusyError",
    "SessionCrashedError",
    "SessionError",
    "SessionExistsError",
    "SessionFile",
    "SessionNotFoundError",
    "SessionOwnedError",
    "SessionRegistry",
    "StaleHeadError",
    "StaleRevisionError",
    "StorageError",
    "__version__",
]
