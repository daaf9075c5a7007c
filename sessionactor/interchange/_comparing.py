"""Whether a session is the one of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

from sessionactor._changes import WholeRow
from sessionactor._codec import UndecodableError
from sessionactor._digest import digest
from sessionactor.interchange._content import Heading, Item
from sessionactor.interchange._files import Worker
from sessionactor.interchange._reading import Batch


def same_heading(here: Heading, there: Heading) -> bool:
    """Whether a session is the one of a file, as far as the file tells."""
    if there.name is None:
        here = here._replace(name=None)  # it was made up
    if there.timeless:
        kept, other = here.restored, there.restored
        kept = kept._replace(created_at=other.created_at, last_at=other.last_at)
        here = here._replace(restored=kept, timeless=True)
    return here == there


async def compare(
    here: AsyncIterator[Sequence[Item]],
    there: AsyncIterator[Batch],
    worker: Worker,
    *,
    timeless: bool,
) -> int | None:
    """The line of a file from which on it differs from a session; `None`: it does not."""
    mine: list[Item] = []
    its: list[Item] = []
    lines: list[int] = []
    line = 0
    while True:
        while not mine and (more := await anext(here, None)) is not None:
            mine += more
        while not its and (batch := await anext(there, None)) is not None:
            its, lines = list(batch.items), list(batch.lines)
        count = min(len(mine), len(its))
        if not count:
            return line + 1 if mine or its else None
        look = partial(_first_difference, mine[:count], its[:count], timeless=timeless)
        index = await worker.run(look)
        if index is not None:
            return lines[index]
        line = lines[count - 1]
        del mine[:count], its[:count], lines[:count]


def _first_difference(here: Sequence[Item], there: Sequence[Item], *, timeless: bool) -> int | None:
    """The index of the first item of a session that is not the file's."""
    for index, (mine, its) in enumerate(zip(here, there, strict=True)):
        if mine != its and not (
            isinstance(mine, WholeRow)
            and isinstance(its, WholeRow)
            and _same_row(mine, its, timeless=timeless)
        ):
            return index
    return None


def _same_row(mine: WholeRow, its: WholeRow, *, timeless: bool) -> bool:
    row, other = mine.row, its.row
    if timeless:
        row = (*row[:3], other[3], *row[4:])
    if (row[:2], row[3:], mine[1:]) != (other[:2], other[3:], its[1:]):
        return False
    if row[2] == other[2]:
        return True
    try:  # sets are encoded in an order of chance
        return digest(row[1], row[2]) == digest(row[1], other[2])
    except UndecodableError:
        return False


__all__ = ["compare", "same_heading"]
