"""Runs a process with the recorder before its libc, and reads what that noted."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from torture.campaign import environment

SOURCE: Final = Path(__file__).with_name("recorder.c")
_HEAD: Final = struct.Struct("=c3xIIIQq")
_PATIENCE_S: Final = 60


class Note(NamedTuple):
    """What happened; which of the fields mean something depends on it."""

    what: str
    """`c`reated, `w`rote, resized `t`o, `s`ynced, `l`inked, `r`enamed, `u`nlinked; made a
    `d`irectory, removed one (`x`); said something: a `m`ark."""
    inode: int
    at: int
    """Where it wrote, or the size that it gave a file."""
    path: str
    new_path: str
    data: bytes

    def brief(self) -> str:
        """For who looks for what went wrong."""
        names = [os.path.basename(path) for path in (self.path, self.new_path) if path]
        return " ".join([f"after {self.what}", *names, f"at {self.at}" if self.at else ""]).strip()


def compiled(into: Path) -> Path:
    """The recorder, ready to be loaded.

    Raises:
        RuntimeError: this is no Linux, or there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        raise RuntimeError("recording a process takes Linux and a C compiler: apt-get install gcc")
    library = into / "recorder.so"
    flags = ["-O1", "-Wall", "-U_FORTIFY_SOURCE", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", library, SOURCE, "-ldl"], check=True)
    return library


def record(library: Path, root: Path, scratch: Path, command: Sequence[object]) -> bytes:
    """The log of what a Python process does below `root`; its marks go to `scratch / "marks"`.

    Raises:
        RuntimeError: it failed.
    """
    log = scratch / "log"
    variables = {
        **environment(),
        "LD_PRELOAD": str(library),
        "RECORDER_ROOT": os.path.realpath(root),
        "RECORDER_LOG": str(log),
        "RECORDER_MARKS": str(scratch / "marks"),
    }
    arguments = [sys.executable, "-W", "error", *map(str, command)]
    ended = subprocess.run(
        arguments, env=variables, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {ended.returncode}:\n{ended.stderr}")
    return log.read_bytes()


def parse(log: bytes) -> Iterator[Note]:
    """The notes of a log: the first one names the directory itself."""
    at = 0
    while at < len(log):
        what, first, second, _, inode, place = _HEAD.unpack_from(log, at)
        at += _HEAD.size
        data, new_path = log[at : at + first], log[at + first : at + first + second]
        at += first + second
        is_data = what in b"wm"
        yield Note(
            what.decode(),
            inode,
            place,
            "" if is_data else os.fsdecode(data),
            os.fsdecode(new_path),
            data if is_data else b"",
        )
