"""All kinds of input, by name."""

from __future__ import annotations

from typing import Final

from torture.hostile.area import Kind
from torture.hostile.catalogs import Catalogs
from torture.hostile.codec import Codec
from torture.hostile.entries import Entries
from torture.hostile.files import Files
from torture.hostile.lines import Lines
from torture.hostile.naming import Naming
from torture.hostile.queries import Queries
from torture.hostile.rows import Rows
from torture.hostile.values import Values

AREAS: Final[dict[str, Kind]] = {
    "files": Kind(
        "a damaged file is an error to those who ask for it, and to nobody else",
        "damaged files",
        Files,
    ),
    "entries": Kind(
        "what is no session is not opened, and no link leads out", "odd entries", Entries
    ),
    "catalogs": Kind(
        "a damaged catalog loses no session, and heals when it is removed",
        "damaged catalogs",
        Catalogs,
    ),
    "lines": Kind("a damaged export is imported or refused", "files of lines", Lines),
    "rows": Kind(
        "a corrupt row is told as one, and all others are read",
        "rows of garbage",
        Rows,
    ),
    "values": Kind(
        "what a call is given is stored as it is, or refused",
        "calls",
        Values,
    ),
    "naming": Kind(
        "an id or a name has one file of its own, or is refused", "ids, names and patterns", Naming
    ),
    "queries": Kind(
        "a query finds its words, and no query or cursor is misread", "queries and cursors", Queries
    ),
    "codec": Kind(
        "bytes in a row are a message, or corrupt, never anything else", "byte strings", Codec
    ),
}
"""The slowest come first: what is late to begin has the rest of the time."""
