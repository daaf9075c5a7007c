"""What a process has at a moment."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_SESSION: Final = ".db"
_LOG: Final = "-wal"
_SIDE: Final = (_LOG, "-shm", "-journal", ".draft", ".part")
_COUNTED: Final = (asyncio.Task, threading.Thread, sqlite3.Connection)


def read(directory: Path) -> dict[str, Any]:
    """All that is quick to look at."""
    logs, catalog, sides, sessions = [0], 0, 0, 0
    for entry in os.scandir(directory):
        sides += entry.name.endswith(_SIDE)
        sessions += entry.name.endswith(_SESSION)
        if entry.name.endswith(_LOG):
            try:
                size = entry.stat().st_size
            except FileNotFoundError:
                continue  # its session was just closed
            if entry.name.startswith("."):
                catalog = size
            else:
                logs.append(size)
    return {
        **left(),
        "rss": _rss(),
        "largest log": max(logs),
        "catalog's log": catalog,
        "side files": sides,
        "sessions": sessions,
    }


def left() -> dict[str, int]:
    """What has to be as it was when all is over."""
    return {
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "locks": _locks(),
        "tasks": len(asyncio.all_tasks()),
    }


def side_files(directory: Path) -> list[str]:
    """What stands beside sessions only while somebody uses them."""
    return sorted(name for name in os.listdir(directory) if name.endswith(_SIDE))


def objects() -> Counter[str]:
    """Living objects of the library, tasks, threads and connections, by type. Collects first."""
    gc.collect()
    counted: Counter[str] = Counter()
    for one in gc.get_objects():
        kind = type(one)
        if str(kind.__module__).startswith("sessionactor.") or issubclass(kind, _COUNTED):
            counted[kind.__qualname__] += 1
    return counted


def _rss() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * _PAGE_BYTES


def _locks() -> int:
    """On bytes of files, as the system knows of them."""
    count = 0
    for descriptor in os.listdir("/proc/self/fdinfo"):
        try:
            count += Path("/proc/self/fdinfo", descriptor).read_text().count("POSIX")
        except OSError:
            continue  # it was just closed
    return count
