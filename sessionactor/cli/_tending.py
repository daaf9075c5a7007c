"""Commands that look after a directory: `compact`, `clean`, `doctor`."""

from __future__ import annotations

from sessionactor.cli._options import command
from sessionactor.cli._place import Place


@command("compact")
async def compact(place: Place) -> None:
    """To come."""


@command("clean")
async def clean_up(place: Place) -> None:
    """To come."""


@command("doctor")
async def doctor(place: Place) -> None:
    """To come."""
