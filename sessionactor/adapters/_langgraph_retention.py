"""Which rows of a thread stay when checkpoints are removed: pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sessionactor import Row
from sessionactor.adapters import _langgraph_messages as chains
from sessionactor.adapters import _langgraph_rows as rows

Content: TypeAlias = Mapping[str, Any]


@dataclass(slots=True)
class Remains:
    """What becomes of a thread's rows."""

    removed: list[int] = field(default_factory=list)
    changed: dict[int, dict[str, Any]] = field(default_factory=dict)


class Stored:
    """All rows of a thread, and its checkpoints in the order of their rows."""

    def __init__(self, all_rows: Iterable[Row]) -> None:
        self.rows = {row.db_id: row for row in all_rows if rows.kind_of(row.message)}
        self.checkpoints = [
            row for row in self.rows.values() if rows.kind_of(row.message) == rows.CHECKPOINT
        ]

    def content(self, checkpoint: Row) -> Row:
        """The row that has what a checkpoint is now."""
        return self.rows[checkpoint.message.get("revised", checkpoint.db_id)]

    def latest(self, metadata_of: Callable[[Content], Mapping[str, Any]]) -> list[Row]:
        """The newest checkpoint of each namespace, and those that its delta channels begin in."""
        by_place = {place(row): row for row in self.checkpoints}
        newest = {row.message["namespace"]: row for row in self.checkpoints}
        kept: dict[int, Row] = {}
        for namespace, head in newest.items():
            content = self.content(head).message
            wanted = set(metadata_of(content).get("counters_since_delta_snapshot") or ())
            at: Row | None = head
            while at is not None and at.db_id not in kept:
                kept[at.db_id] = at
                content = self.content(at).message
                wanted -= rows.channels_of(content)
                parent = content["parent"] if wanted else None
                at = None if parent is None else by_place.get((namespace, parent))
        return list(kept.values())

    def remains(self, kept: Iterable[Row]) -> Remains:
        """What stays, so that these checkpoints are what they were."""
        needed: set[int] = set()
        values: dict[int, set[str]] = {}
        places = set()
        for checkpoint in kept:
            content = self.content(checkpoint)
            needed |= {checkpoint.db_id, content.db_id}
            places.add(place(checkpoint))
            for channel, holder in content.message.get("named", {}).items():
                values.setdefault(holder, set()).add(channel)
            for runs in content.message.get("lists", {}).values():
                for run in chains.settled_runs(content.db_id, runs):
                    needed.update(self._chain(run))
        remains = Remains()
        for db_id, row in self.rows.items():
            kind = rows.kind_of(row.message)
            if db_id in needed or kind == rows.NAMESPACE:
                continue
            if kind == rows.WRITES and place(row) in places:
                continue
            if db_id not in values:
                remains.removed.append(db_id)
                continue
            held = {name: row.message["values"][name] for name in sorted(values[db_id])}
            remains.changed[db_id] = {
                "langgraph": rows.VALUES,
                "role": "values",
                "note": ", ".join(held),
                "values": held,
            }
        return remains

    def _chain(self, run: chains.Run) -> Iterable[int]:
        _, db_id, count = run
        for _ in range(count):
            yield db_id
            row = self.rows.get(db_id)
            if row is None:
                return
            db_id = chains.element(db_id, row.message).previous


def place(row: Row) -> tuple[str, str]:
    """The namespace and id of a checkpoint, or of the one that writes belong to."""
    return row.message["namespace"], row.message["id"]
