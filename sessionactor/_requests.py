"""What travels through a mailbox and back: one immutable, plain value per operation.

A `Write` is the only mutation: operations that happen all or not at all. It holds
nothing but ints, strings and bytes, so it can be sent, logged and replayed.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from sessionactor._changes import (
    ContextField,
    RemoveRows,
    Restored,
    StoredKey,
    StoredMetadata,
    StoredTurn,
    WholeRow,
)
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


class Update(NamedTuple):
    """Store another message in a row; without an id in the newest one, of that agent if given."""

    db_id: int | None
    data: bytes
    agent_id: str | None = None


class Truncate(NamedTuple):
    """Remove the row `from_id` and all later ones; from further down, to cut no turn."""

    from_id: int
    whole_turns: bool = False


class Remove(NamedTuple):
    """Remove these rows."""

    db_ids: tuple[int, ...]


class RemoveLast(NamedTuple):
    """Remove the newest row, of that agent if given."""

    agent_id: str | None = None


class Clear(NamedTuple):
    """Remove all rows."""


class SaveMetadata(NamedTuple):
    """Merge these pairs into the metadata."""

    items: tuple[tuple[str, str | None], ...]


class SetContext(NamedTuple):
    """Set these fields of the routing context."""

    items: tuple[tuple[ContextField, str | None], ...]


class SetName(NamedTuple):
    """Give the session another name."""

    name: str


class SetState(NamedTuple):
    """Set the state; any but `running` ends all open turns."""

    state: Literal["idle", "running", "error"]
    turn_id: str | None = None


class Begin(NamedTuple):
    """Open a turn of an agent, and be `running`."""

    turn_id: str
    agent_id: str


class End(NamedTuple):
    """Close a turn: `idle` then, or `error`, unless another turn is open."""

    turn_id: str
    failed: bool = False
    only_open: bool = False
    """Do nothing if it is not open: whoever closed it said what the state is to be."""


class Discard(NamedTuple):
    """Close a turn and remove its rows."""

    turn_id: str


class Restore(NamedTuple):
    """Take over a part of another session as it was: into an empty one, or after other parts.

    Until the final part the session is `importing`, with the newest part's mark as its
    `turn_id`, and takes nothing else. Whoever stopped in between goes on from there.
    """

    after: str | None
    """The mark of the part before; `None`: this is the first one."""
    mark: str
    rows: tuple[WholeRow, ...] = ()
    """In their order, and after those of the parts before."""
    keys: tuple[StoredKey, ...] = ()
    """Of these rows, and of others."""
    metadata: tuple[StoredMetadata, ...] = ()
    turns: tuple[StoredTurn, ...] = ()
    removals: tuple[RemoveRows, ...] = ()
    final: Restored | None = None
    """In the last part: what the session is besides all this."""


Operation: TypeAlias = (
    Append
    | Update
    | Truncate
    | Remove
    | RemoveLast
    | Clear
    | SaveMetadata
    | SetContext
    | SetName
    | SetState
    | Begin
    | End
    | Discard
    | Restore
)


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
    whole_turns: bool = False
    """With `newest`: as many whole turns as fit, and at least the newest one."""


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


class ReadInfo(NamedTuple):
    """What is known of the session."""


class ReadInterrupted(NamedTuple):
    """The rows of interrupted turns."""


class ReadOutline(NamedTuple):
    """All that a session holds but its rows and keys."""


class ReadLostKeys(NamedTuple):
    """Idempotency keys whose rows are gone, from some key on, of a bounded number of keys."""

    start: str = ""


class ReadWholeRows(NamedTuple):
    """Rows with all that is known of them, messages encoded, between two exclusive bounds.

    A bounded number at a time, and of bytes.
    """

    after: int
    before: int
    whole: bool = False
    """Not in slices: while it is read nothing else is served."""
    goes_on: bool = False
    """Whether this is the rest of a read."""


class ReadImage(NamedTuple):
    """The whole database, of a session in memory."""


class Compact(NamedTuple):
    """Give freed space back; answered with the sizes in bytes before and after."""


class ReadChanges(NamedTuple):
    """What happened after a revision, about so many rows at a time at most."""

    since: int
    max_rows: int = MAX_ID


class ReadStored(NamedTuple):
    """Rows by their ids, as they are stored, of those that are there."""

    db_ids: tuple[int, ...]


class Slice(NamedTuple):
    """Rows of a read, and how to go on where there are more."""

    rows: list[Row]
    checkpoint_id: int | None
    rest: ReadRows | None
    rewritten_at: int
    """The revision of the newest removal or update: where it differs, slices do not belong
    together."""


class Outline(NamedTuple):
    """All that a session holds but its rows and keys, at one moment."""

    session_id: str
    name: str
    message_count: int
    restored: Restored
    metadata: tuple[StoredMetadata, ...]
    turns: tuple[StoredTurn, ...]
    removals: tuple[RemoveRows, ...]
    rewritten_at: int
    """The revision of the newest removal or update."""


class LostKeys(NamedTuple):
    """Keys, and the one from which to go on; `None`: these are all."""

    keys: list[StoredKey]
    rest: str | None
    rewritten_at: int


class WholeSlice(NamedTuple):
    """Rows, and how to go on where there are more."""

    rows: list[WholeRow]
    rest: ReadWholeRows | None
    rewritten_at: int


Read: TypeAlias = (
    ReadRows
    | ReadChapter
    | ReadRow
    | ReadMetadata
    | ReadRevision
    | ReadInfo
    | ReadInterrupted
    | ReadOutline
    | ReadLostKeys
    | ReadWholeRows
    | ReadImage
    | ReadChanges
    | ReadStored
    | Compact
)
Request: TypeAlias = Write | Read

__all__ = [
    "MAX_ID",
    "Append",
    "Begin",
    "Clear",
    "Compact",
    "Discard",
    "End",
    "LostKeys",
    "OnCorrupt",
    "Operation",
    "Outline",
    "Read",
    "ReadChanges",
    "ReadChapter",
    "ReadImage",
    "ReadInfo",
    "ReadInterrupted",
    "ReadLostKeys",
    "ReadMetadata",
    "ReadOutline",
    "ReadRevision",
    "ReadRow",
    "ReadRows",
    "ReadStored",
    "ReadWholeRows",
    "Remove",
    "RemoveLast",
    "Request",
    "Restore",
    "SaveMetadata",
    "SetContext",
    "SetName",
    "SetState",
    "Slice",
    "Truncate",
    "Update",
    "WholeSlice",
    "Write",
]
