"""What a session's state is, and the steps in which it changes: plain values.

A *step* is the smallest thing that happens to a session. Deciding a group of writes gives
steps; applying them to a file, following them in a cache, telling subscribers and feeding the
catalog all take the same ones, and so does whoever catches up with what happened before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

from sessionactor._times import EARLIEST, LATEST

StoredRow: TypeAlias = tuple[
    int, str, bytes, int, int, int | None, str | None, str | None, str | None, int, int | None
]
"""`id, agent_id, data, inserted_at, checkpoint, keep_from, key, parent, turn, revision,
updated_at`: the columns of `messages`, in their order."""

Answer: TypeAlias = tuple[int | None, ...]
"""What each operation of a write came to: an id, a count, 1 or 0 for a bool, or `None`."""

StateName: TypeAlias = Literal["idle", "running", "error", "interrupted", "importing"]
ContextField: TypeAlias = Literal["agent_alias", "channel_id", "room_id", "sender_id"]


class Status(NamedTuple):
    """What the session's agents are at."""

    state: StateName
    turn_id: str | None
    turn_started_at: int | None
    """Microseconds since the epoch."""


IDLE = Status("idle", None, None)


class OpenTurn(NamedTuple):
    """A turn that was begun and has not ended."""

    turn_id: str
    agent_id: str
    opened_at: int
    interrupted: bool = False
    """Whether the registry that began it is gone."""


class State(NamedTuple):
    """What deciding needs to know of a session."""

    head: int
    """The newest row's id; 0 where there is no row."""
    high_water: int
    """The highest id ever used."""
    revision: int
    last_at: int
    """The time of the newest mutation, microseconds since the epoch; at first, of creation."""
    rewritten_at: int = 0
    """The revision of the newest removal or update of rows; 0 where there was none."""
    removed: int = 0
    """How many ids below the high-water mark have no row (any more)."""
    status: Status = IDLE
    turns: tuple[OpenTurn, ...] = ()
    """The open turns, in the order of their beginning."""

    @property
    def message_count(self) -> int:
        """How many rows there are: ids are given without gaps, so this cannot drift."""
        return self.high_water - self.removed


class StoredKey(NamedTuple):
    """The first use of an idempotency key."""

    key: str
    db_id: int
    digest: bytes


class InsertRows(NamedTuple):
    """Store these rows, and remember their keys."""

    rows: list[StoredRow]
    keys: list[StoredKey]


class UpdateRow(NamedTuple):
    """Store another message in a row; all of the row as it is then."""

    row: StoredRow

    @property
    def revision(self) -> int:
        """The revision of the update."""
        return self.row[9]


class RemoveRows(NamedTuple):
    """Remove the rows from `first_id` to `last_id` (`None`: all later ones), and log it.

    Without a last id, a first id of 0 clears the session.
    """

    first_id: int
    last_id: int | None
    revision: int


class MergeMetadata(NamedTuple):
    """Merge these pairs into the metadata."""

    items: tuple[tuple[str, str | None], ...]
    revision: int


class ChangeContext(NamedTuple):
    """Set these fields of the routing context."""

    items: tuple[tuple[ContextField, str | None], ...]
    revision: int


class ChangeName(NamedTuple):
    """Give the session another name."""

    name: str
    revision: int


class ChangeStatus(NamedTuple):
    """Set the state."""

    status: Status
    revision: int


class BeginTurn(NamedTuple):
    """Note an open turn."""

    turn: OpenTurn
    revision: int


class EndTurn(NamedTuple):
    """Close a turn for good: its id does not open again."""

    turn_id: str
    ended_at: int
    revision: int


class WholeRow(NamedTuple):
    """A row with all that is known of it."""

    row: StoredRow
    inserted_revision: int
    """The session's revision when it was inserted; of a row never updated, its own."""
    digest: bytes | None
    """Of its key's first use, where the row was updated since: else its message gives it."""
    origin: str | None = None
    """What another system knew of it that a row has no place for: JSON."""


class StoredTurn(NamedTuple):
    """A turn that was begun, or closed; times in microseconds."""

    turn_id: str
    agent_id: str
    opened_at: int
    closed_at: int | None


class StoredMetadata(NamedTuple):
    """A pair of the metadata."""

    key: str
    value: str | None
    revision: int


class Restored(NamedTuple):
    """What a session is besides its rows and its history."""

    high_water: int
    revision: int
    created_at: int
    last_at: int
    parent: str | None
    context: tuple[tuple[ContextField, str | None], ...]
    """All the fields."""
    status: Status
    name_revision: int
    context_revision: int
    state_revision: int


class RestoreHistory(NamedTuple):
    """Note turns, removals that took place before any row was restored, and origins of rows."""

    turns: tuple[StoredTurn, ...]
    removals: tuple[RemoveRows, ...]
    origins: tuple[tuple[int, str], ...]
    revision: int


class FinishRestoring(NamedTuple):
    """Be what the restored session was."""

    restored: Restored
    revision: int


Step: TypeAlias = (
    InsertRows
    | UpdateRow
    | RemoveRows
    | MergeMetadata
    | ChangeContext
    | ChangeName
    | ChangeStatus
    | BeginTurn
    | EndTurn
    | RestoreHistory
    | FinishRestoring
)


class StoredInfo(NamedTuple):
    """What is known of a session, as its file says it; times in microseconds."""

    session_id: str
    name: str
    created_at: int
    last_at: int
    message_count: int
    agent_alias: str | None
    channel_id: str | None
    room_id: str | None
    sender_id: str | None
    state: StateName
    turn_id: str | None
    turn_started_at: int | None
    token: str | None
    """Of the registry whose `running` it is: another one's is an interrupted one."""
    parent: str | None
    """Of a fork, the newest message that it took over: `"<session id>/<db_id>"`; 0 for none."""
    high_water: int
    revision: int

    def at(self, state: State, token: str | None) -> StoredInfo:
        """The same session in a state; `token` is of who would be running it."""
        name, turn_id, turn_started_at = state.status
        return StoredInfo(
            *self[:3],
            state.last_at,
            state.message_count,
            *self[5:9],
            name,
            turn_id,
            turn_started_at,
            token if name == "running" else None,
            self.parent,
            state.high_water,
            state.revision,
        )

    def after(self, steps: Iterable[Step]) -> StoredInfo:
        """The same session with the name, context and origin that it has after these steps."""
        info = self
        for step in steps:
            if type(step) is ChangeContext:
                info = info._replace(**dict(step.items))  # type: ignore[arg-type]
            elif type(step) is ChangeName:
                info = info._replace(name=step.name)
            elif type(step) is FinishRestoring:
                restored = step.restored
                info = info._replace(
                    created_at=restored.created_at,
                    parent=restored.parent,
                    **dict(restored.context),  # type: ignore[arg-type]
                )
        return info


_TEXT: Final = frozenset({str})
_NUMBER: Final = frozenset({int})
_NONE: Final = frozenset({type(None)})
_STATES: Final = frozenset(get_args(StateName))
_TYPES: Final = (
    *(_TEXT, _TEXT, _NUMBER, _NUMBER, _NUMBER, *[_TEXT | _NONE] * 4),
    *(_TEXT, _TEXT | _NONE, _NUMBER | _NONE, _TEXT | _NONE, _TEXT | _NONE, _NUMBER, _NUMBER),
)
"""Of the fields of `StoredInfo`."""


def are_sound(columns: Iterable[Collection[object]]) -> bool:
    """Whether these are what sessions can be: what a damaged file says may not.

    `columns`: of each field of `StoredInfo` its values, for one session or more.
    """
    infos: Any = StoredInfo._make(columns)
    if not all(map(_has_types, _TYPES, infos)):
        return False
    times = {*infos.created_at, *infos.last_at, *infos.turn_started_at} - {None}
    return min(times) >= EARLIEST and max(times) <= LATEST and _STATES.issuperset(infos.state)


def _has_types(types: frozenset[type], column: Iterable[object]) -> bool:
    return types.issuperset(map(type, column))


__all__ = [
    "IDLE",
    "Answer",
    "BeginTurn",
    "ChangeContext",
    "ChangeName",
    "ChangeStatus",
    "ContextField",
    "EndTurn",
    "FinishRestoring",
    "InsertRows",
    "MergeMetadata",
    "OpenTurn",
    "RemoveRows",
    "RestoreHistory",
    "Restored",
    "State",
    "StateName",
    "Status",
    "Step",
    "StoredInfo",
    "StoredKey",
    "StoredMetadata",
    "StoredRow",
    "StoredTurn",
    "UpdateRow",
    "WholeRow",
]
