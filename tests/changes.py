"""A copy of a session that follows what happens to it, as a subscriber or a catalog does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model import Put, Snapshot, Status, Stored

from sessionactor import Row, SessionRegistry
from sessionactor import _rows as rows
from sessionactor._changes import (
    ChangeContext,
    ChangeName,
    ChangeStatus,
    InsertRows,
    MergeMetadata,
    RemoveRows,
    Step,
    UpdateRow,
)
from sessionactor._history import Changes
from sessionactor._requests import ReadChanges


class Copy:
    """What a session was at a revision, brought up to date by what happened since."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot._replace(
            rows=dict(snapshot.rows),
            metadata=dict(snapshot.metadata),
            context=dict(snapshot.context),
        )

    async def follow(self, registry: SessionRegistry, session_id: str, since: int) -> int:
        """Ask for what happened after a revision until there is no more; in how many parts."""
        parts, more = 0, True
        other = Copy(self.snapshot)
        while more:
            changes: Changes = await registry.ask(session_id, ReadChanges(since))
            steps = changes.in_order()
            revisions = [revision for revision, _ in steps]
            assert revisions == sorted(revisions)
            assert all(since < revision <= changes.upto for revision in revisions)
            for _, step in steps:
                self.apply(step)
            for step in changes.at_once():
                other.apply(step)
            assert other.snapshot == self.snapshot
            assert changes.upto > since or not changes.more
            since, more, parts = changes.upto, changes.more, parts + 1
        assert since == changes.info.revision
        return parts

    def apply(self, step: Step) -> None:
        match step:
            case MergeMetadata(items):
                self.snapshot.metadata.update(items)
            case ChangeContext(fields):
                self.snapshot.context.update(fields)
            case ChangeName(name):
                self.snapshot = self.snapshot._replace(name=name)
            case ChangeStatus((state, turn_id, at)):
                status = Status(state, turn_id, at is not None)
                self.snapshot = self.snapshot._replace(status=status)
            case _:
                self._apply_to_rows(step, self.snapshot.rows)

    def _apply_to_rows(self, step: Step, kept: dict[int, Stored]) -> None:
        match step:
            case InsertRows(inserted):
                for row in seen(rows.decoded(inserted, "raise", "s")):
                    assert row.db_id not in kept
                    kept[row.db_id] = row
            case UpdateRow(updated):
                (row,) = seen(rows.decoded([updated], "raise", "s"))
                assert row.db_id in kept
                kept[row.db_id] = row
            case RemoveRows(first_id, last_id):
                for db_id in [*kept]:
                    if first_id <= db_id and (last_id is None or db_id <= last_id):
                        del kept[db_id]
            case _:
                raise AssertionError(step)


def seen(found: Sequence[Row]) -> list[Stored]:
    """Rows in the model's terms."""
    return [
        Stored(
            row.db_id,
            Put(row.agent_id, row.message, row.key, row.checkpoint, row.keep_from, row.parent,
                row.turn),
            row.revision,
            row.updated_at is not None,
        )
        for row in found
    ]  # fmt: skip


def snapshot_of(found: Sequence[Row], metadata: dict[str, str | None], info: Any) -> Snapshot:
    """What reading the whole of a session tells."""
    return Snapshot(
        {row.db_id: row for row in seen(found)},
        metadata,
        {
            name: getattr(info, name)
            for name in ("agent_alias", "channel_id", "room_id", "sender_id")
        },
        info.name,
        Status(info.state, info.turn_id, info.turn_started_at is not None),
    )
