"""The parts in which a file's session is stored: each one write, with a mark of where it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sessionactor._changes import (
    RemoveRows,
    Restored,
    StoredKey,
    StoredMetadata,
    StoredTurn,
    WholeRow,
)
from sessionactor._requests import Restore
from sessionactor.interchange._content import key_of
from sessionactor.interchange._reading import Batch


def part_of(batch: Batch, what: str, mark: str | None, final: Restored | None) -> Restore | None:
    """What of a batch comes after a mark, as a part of a session; `None`: nothing."""
    after = 0 if mark is None else int(mark.rpartition(":")[2])
    items = [item for item, line in zip(batch.items, batch.lines, strict=True) if line > after]
    if not items and final is None:
        return None
    rows = tuple(item for item in items if isinstance(item, WholeRow))
    keys = [item for item in items if isinstance(item, StoredKey)]
    keys += [key for row in rows if (key := key_of(row)) is not None]
    return Restore(
        mark,
        f"{what}:{max([after, *batch.lines])}",
        rows,
        tuple(keys),
        tuple(item for item in items if isinstance(item, StoredMetadata)),
        tuple(item for item in items if isinstance(item, StoredTurn)),
        tuple(item for item in items if isinstance(item, RemoveRows)),
        final,
    )


async def with_last(batches: AsyncIterator[Batch]) -> AsyncIterator[tuple[Batch, bool]]:
    """Batches, and which of them is the last one."""
    held: Batch | None = None
    async for batch in batches:
        if held is not None:
            yield held, False
        held = batch
    if held is not None:
        yield held, True


__all__ = ["part_of", "with_last"]
