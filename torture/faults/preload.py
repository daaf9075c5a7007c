"""Calls of the system that fail on demand: a small library, compiled when it is needed."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

from torture.campaign import environment

SOURCE: Final = Path(__file__).with_name("preload.c")
_CONTROL: Final = struct.Struct("=6i2q232s")
_HITS: Final = struct.Struct("=i")
_HITS_AT: Final = 16
_VARIABLE: Final = "TORTURE_CONTROL"

Call: TypeAlias = Literal[
    "read", "write", "sync", "open", "open to write", "close", "rename", "link", "unlink",
    "truncate",
]  # fmt: skip

_BITS: Final[dict[Call, int]] = {
    "read": 1, "write": 2, "sync": 4, "open": 8, "open to write": 16,
    "close": 32, "rename": 64, "link": 128, "unlink": 256, "truncate": 512,
}  # fmt: skip


def prepare(home: Path) -> dict[str, str]:
    """Compile the library; the environment of a process that it is to be in.

    Raises:
        RuntimeError: there is no C compiler: without one this cannot be tested.
    """
    library, control = home / "preload.so", home / "control"
    control.write_bytes(bytes(_CONTROL.size))
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RuntimeError("no C compiler, `cc`: install one to test faults") from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{SOURCE.name} does not compile:\n{error.stderr}") from error
    return {**environment(), "LD_PRELOAD": str(library), _VARIABLE: str(control)}


class Control:
    """What fails in this process, and in those that it was forked from."""

    def __init__(self) -> None:
        with open(os.environ[_VARIABLE], "r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _CONTROL.size)

    def fail(self, call: Call, error: int, part: str, *, skip: int = 0, times: int = -1) -> None:
        """Let calls on paths that contain `part` fail with an `errno`, after `skip` of them.

        `times`: how often; -1: until `clear`.
        """
        self._set(_BITS[call], error, skip, times, part=part)

    def fill(self, room: int, part: str) -> None:
        """Let files there grow by no more than so many bytes, all together."""
        self._set(0, errno.ENOSPC, 0, 0, full=1, room=room, part=part)

    def turn_clock(self, seconds: int) -> None:
        """Let the time of day be so much later than it is."""
        self._set(0, 0, 0, 0, clock_s=seconds)

    def clear(self) -> None:
        """Let nothing fail."""
        self._set(0, 0, 0, 0)

    @property
    def hits(self) -> int:
        """How many calls failed since the last change."""
        (hits,) = _HITS.unpack_from(self._shared, _HITS_AT)
        return int(hits)

    def _set(
        self,
        calls: int,
        error: int,
        skip: int,
        times: int,
        *,
        full: int = 0,
        room: int = 0,
        clock_s: int = 0,
        part: str = "",
    ) -> None:
        # Nothing matches while it is changed.
        struct.pack_into("=i", self._shared, 0, 0)
        values = (0, error, skip, times, 0, full, room, clock_s, part.encode())
        _CONTROL.pack_into(self._shared, 0, *values)
        struct.pack_into("=i", self._shared, 0, calls)


@contextlib.contextmanager
def small_disk(home: Path, size: int) -> Iterator[Path | None]:
    """A real file system of so many bytes; `None` where nothing may be mounted."""
    place = home / "small"
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
