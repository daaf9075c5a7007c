"""What a check finds: plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Problem: TypeAlias = Literal[
    "draft", "log", "foreign", "newer", "duplicate", "unreadable", "damaged", "index",
    "identity", "count", "older", "undecodable", "catalog",
]  # fmt: skip
"""
| problem | what it means |
|---|---|
| `draft` | a session, copy or export that was being made when its process died |
| `log` | SQLite's side file without its database |
| `foreign` | a file with the name of a session that is none |
| `newer` | a newer version of this package wrote it |
| `duplicate` | there is another file of that session |
| `unreadable` | the file cannot be read |
| `damaged` | SQLite finds the database damaged |
| `index` | only indices of it are damaged |
| `identity` | the id or name inside is not that of the file |
| `count` | the number of messages is not that of the rows |
| `older` | an older version of this package wrote it, and nobody has opened it since |
| `undecodable` | rows that cannot be decoded |
| `catalog` | the catalog does not say of a session what its file says |
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong in a directory."""

    problem: Problem
    path: Path
    session_id: str | None
    """The session's, where the name of the file tells it."""
    detail: str
    """What is wrong, in a sentence."""
    remedy: str | None
    """What can safely be done about it; `None`: nothing."""


__all__ = ["Finding", "Problem"]
