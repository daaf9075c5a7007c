"""What happened to a session after a revision: as it is read from its file."""

from __future__ import annotations

from typing import NamedTuple

from sessionactor._changes import InsertRows, RemoveRows, Step, StoredInfo, StoredRow, UpdateRow


class Changes(NamedTuple):
    """What happened to a session after a revision, up to another one."""

    inserted: list[StoredRow]
    """Rows that were added, in order. One that was changed again later comes as it is now; one
    that is gone does not come."""
    inserted_at: list[int]
    """Their revisions."""
    others: list[tuple[int, Step]]
    """All other steps, each with its revision, in order. Turns are left out: the rows and the
    state tell of them."""
    upto: int
    more: bool
    """Whether more happened after `upto`."""
    info: StoredInfo
    """As it is now."""

    @property
    def updated(self) -> list[StoredRow]:
        """Rows that got another message, as they are now."""
        return [step.row for _, step in self.others if type(step) is UpdateRow]

    def in_order(self) -> list[tuple[int, Step]]:
        """All steps with their revisions, each row by itself.

        Removals stand before insertions of the same revision: a row that is still there was not
        among those removed.
        """
        insertions = (
            (revision, InsertRows([row], []))
            for revision, row in zip(self.inserted_at, self.inserted, strict=True)
        )
        removals, others = self._parted()
        return sorted([*removals, *insertions, *others], key=lambda step: step[0])

    def at_once(self) -> list[Step]:
        """What it comes to: first all removals, for the same reason, and all rows as one step."""
        removals, others = self._parted()
        insertion = [InsertRows(self.inserted, [])] if self.inserted else []
        return [*(step for _, step in removals), *insertion, *(step for _, step in others)]

    def _parted(self) -> tuple[list[tuple[int, Step]], list[tuple[int, Step]]]:
        """The removals, and what is left."""
        removals = [step for step in self.others if type(step[1]) is RemoveRows]
        return removals, [step for step in self.others if type(step[1]) is not RemoveRows]


__all__ = ["Changes"]
