"""Commands that take sessions elsewhere and back: `export`, `import`, `backup`."""

from __future__ import annotations

from sessionactor.cli._options import command
from sessionactor.cli._place import Place


@command("export")
async def export(place: Place) -> None:
    """To come."""


@command("import")
async def import_(place: Place) -> None:
    """To come."""


@command("backup")
async def backup(place: Place) -> None:
    """To come."""
