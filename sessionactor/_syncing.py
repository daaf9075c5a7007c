"""Having the names of files and directories survive a power loss. It blocks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, if it is not there, so that it survives a power loss.

    Raises:
        OSError: something else is there, or it cannot be made.
    """
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    with contextlib.suppress(PermissionError):  # it may be that it can be changed, but not read
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make creations, renamings and removals in a directory survive a power loss."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
