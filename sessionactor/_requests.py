"""What travels through a mailbox and back: one immutable, plain value per operation.

A `Write` is the only mutation: operations that happen all or not at all. It holds
nothing but ints, strings and bytes, so it can be sent, logged and replayed.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from sessionactor._records import Row

MAX_ID: Final = 2**63 - 1
"""The largest integer that SQLite holds."""

OnCorrupt: TypeAlias = Literal["raise", "skip"]


class Append(NamedTuple):
    """Store one encoded message."""

    agent_id: str
    data: bytes
    checkpoint: bool = False
    keep_from: int | None = None
    key: str | None = None
    parent: str | None = None
    turn: str | None = None


class Truncate(NamedTuple):
    """Remove the row `from_id` and all later ones."""

    from_id: int


class SaveMetadata(NamedTuple):
    """Merge these pairs into the metadata."""

    items: tuple[tuple[str, str | None], ...]


Operation: TypeAlias = Append | Truncate | SaveMetadata


class Write(NamedTuple):
    """Operations of one request: one transaction, all or none, one revision."""

    operations: tuple[Operation, ...]
    expected_head: int | None = None
    expected_revision: int | None = None


class ReadRows(NamedTuple):
    """Rows between two exclusive bounds, from the low end or, `newest`, from the high end."""

    agent_id: str | None = None
    after: int | None = None
    before: int | None = None
    limit: int | None = None
    newest: bool = False
    on_corrupt: OnCorrupt = "raise"
    without: int | None = None
    """A row to leave out: the checkpoint that heads a chapter."""
    whole: bool = False
    """Not in slices: while it is read nothing else is served."""
    goes_on: bool = False
    """Whether this is the rest of a read."""


class ReadChapter(NamedTuple):
    """The chapter before a cursor, or the latest one (`before` is `None`)."""

    before: int | None = None
    agent_id: str | None = None
    on_corrupt: OnCorrupt = "raise"
    whole: bool = False


class ReadRow(NamedTuple):
    """One row by id or by idempotency key."""

    db_id: int | None = None
    key: str | None = None


class ReadMetadata(NamedTuple):
    """All metadata."""


class ReadRevision(NamedTuple):
    """The session's revision."""


class Slice(NamedTuple):
    """Rows of a read, and how to go on where there are more."""

    rows: list[Row]
    checkpoint_id: int | None
    rest: ReadRows | None
    removed_at: int
    """The revision of the newest removal: where it differs, slices do not belong together."""


Read: TypeAlias = ReadRows | ReadChapter | ReadRow | ReadMetadata | ReadRevision
Request: TypeAlias = Write | Read

__all__ = [
    "MAX_ID",
    "Append",
    "OnCorrupt",
    "Operation",
    "Read",
    "ReadChapter",
    "ReadMetadata",
    "ReadRevision",
    "ReadRow",
    "ReadRows",
    "Request",
    "SaveMetadata",
    "Slice",
    "Truncate",
    "Write",
]
