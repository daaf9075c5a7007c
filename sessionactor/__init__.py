"""Where AI agents keep their conversations: one actor, one SQLite file, per session.

How a request travels, each layer importing only what stands above it:

    errors, times, records, events, changes, history,
    requests, words, names                                leaves
    nesting, codec, digest, schema, paging, rows, draft,
    operations, deciding, projection, text, terms,
    cursors, catalog_events, catalog_rows,
    catalog_words, catalog_schema                                     pure
    syncing, threads, presence, files, ownership, inserting, sql, loading,
    reading, dumping, newest, takeover, copying, opening, content,
    store, directory, scan, inspecting, index, disk, looking,
    read_only, settings, catalog_stage, catalog_docs,
    catalog_writing, catalog_sql, catalog_queries,
    catalog_file, feed, indexer, sources, catalog,
    read_only_catalog                                  what touches the disk
    mailbox, pace, hub                                 the queue in front, the log behind an actor
    actor, capacity, copies, commands, surroundings,
    activation                                         one session in use
    arguments, batch, subscription, handle, browsing,
    editing, turns, session                            the handle: it knows whom to ask
    supervisor, queries, finding, leafing, registry    where all of them meet
    interchange, checkup                               to text files and back; what is wrong

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
    NoCatalogError,
    ReadOnlyError,
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
    TargetExistsError,
    TurnClosedError,
    TurnOpenError,
)
from sessionactor._events import (
    Appended,
    Cleared,
    Deleted,
    Event,
    Lagged,
    MetadataChanged,
    Removed,
    Renamed,
    StateChanged,
    Truncated,
    Updated,
)
from sessionactor._records import (
    ChildRow,
    CleanupReport,
    CompactReport,
    Page,
    RegistryStatistics,
    Row,
    SearchHit,
    SessionFile,
    SessionInfo,
    SessionList,
)
from sessionactor._registry import SessionRegistry
from sessionactor._session import Session
from sessionactor._subscription import Subscription
from sessionactor._turns import Turn

__version__ = "0.1.0"

__all__ = [
    "AmbiguousNameError",
    "Appended",
    "Batch",
    "ChildRow",
    "CleanupReport",
    "Cleared",
    "CompactReport",
    "CorruptRowError",
    "Deleted",
    "Event",
    "IdempotencyError",
    "InvalidNameError",
    "InvalidTypeError",
    "InvalidValueError",
    "Lagged",
    "MessageEncodingError",
    "MessageTooLargeError",
    "MetadataChanged",
    "NoCatalogError",
    "Page",
    "ReadOnlyError",
    "RegistryClosedError",
    "RegistryStatistics",
    "Removed",
    "Renamed",
    "Row",
    "SchemaVersionError",
    "SearchHit",
    "Session",
    "SessionBusyError",
    "SessionCrashedError",
    "SessionError",
    "SessionExistsError",
    "SessionFile",
    "SessionInfo",
    "SessionList",
    "SessionNotFoundError",
    "SessionOwnedError",
    "SessionRegistry",
    "StaleHeadError",
    "StaleRevisionError",
    "StateChanged",
    "StorageError",
    "Subscription",
    "TargetExistsError",
    "Truncated",
    "Turn",
    "TurnClosedError",
    "TurnOpenError",
    "Updated",
    "__version__",
]
