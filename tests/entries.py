"""What a directory of sessions holds."""

from __future__ import annotations

import os
from pathlib import Path


def entries(directory: Path) -> list[str]:
    """What is in a directory of sessions besides the lock file and the catalog."""
    return sorted(name for name in os.listdir(directory) if not name.startswith(".sessionactor."))
