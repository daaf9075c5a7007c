"""Watches what this process does while it holds the library against input.

Files that it opens, makes, moves and removes are told by Python itself (`sys.addaudithook`);
what SQLite's own code writes shows in a canary: files beside the directory, to which links of
the directory lead.
"""

from __future__ import annotations

import os
import resource
import sys
import sysconfig
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from sessionactor._schema import as_wal, image
from torture.hostile.area import Places, broken

CPU_S: Final = 1.0
"""What a round may take of processors …"""
WALL_S: Final = 4.0
"""… and of time, on a machine that others use too."""
HANG_S: Final = 10.0
"""When a round is given up, and its process with it."""
MEMORY_BYTES: Final = 384 << 20
"""What the process may hold at most, Python and its libraries included."""
ADDRESS_BYTES: Final = 4 << 30
"""What it may ask the system for, so that a failing bound does not take the machine down."""

_PYTHON: Final = tuple(
    os.path.realpath(path) for path in {*sys.path, *sysconfig.get_paths().values()} if path
)
_SYSTEM: Final = ("/dev/null", "/dev/urandom", "/proc/", "/sys/", "/etc/", "/usr/share/zoneinfo")
_CHANGING: Final = {
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.link": (0, 1),
    "os.symlink": (1,),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.utime": (0,),
}
_NEVER: Final = (
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "pty.spawn",
    "pickle.find_class", "socket.connect", "ctypes.dlopen",
)  # fmt: skip


class Watch:
    """Knows what the process did that it should not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places = Places(root / "sessions", root / "sources", root / "canary")
        self.cpu_s = self.wall_s = 0.0
        """The most that a round took."""
        self._inside = os.path.realpath(root)
        self._canary = os.path.realpath(self.places.canary)
        self._seen: list[str] = []
        self._armed = False
        self._stored: object = None

    def begin(self) -> None:
        """Make the places, and watch from now on."""
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, resource.RLIM_INFINITY))
        for place in (self.places.sessions, self.places.sources, self.places.canary):
            place.mkdir(parents=True)
        os.chdir(self.places.sessions)  # what is relative to an open directory is shown without it
        (self.places.canary / "x_y.db").write_bytes(as_wal(image("x", "y", 0)))
        for name in ("text", "x_y.db-wal", ".sessionactor.catalog", ".sessionactor.lock"):
            (self.places.canary / name).write_text("keep out\n" * 100)
        self._stored = self._state()
        sys.addaudithook(self._hook)

    @contextmanager
    def round(self) -> Iterator[None]:
        """Surround a round.

        Raises:
            BrokenError: it took too much, or touched what is not its own.
        """
        self._seen.clear()
        began, cpu_began = time.monotonic(), time.process_time()
        self._armed = True
        try:
            yield
        finally:
            self._armed = False
        wall_s, cpu_s = time.monotonic() - began, time.process_time() - cpu_began
        self.wall_s, self.cpu_s = max(self.wall_s, wall_s), max(self.cpu_s, cpu_s)
        if self._seen:
            broken("something outside of the directory was touched", self._seen[0])
        if self._state() != self._stored:
            broken("a file beside the directory was changed", self._state())
        if cpu_s > CPU_S or wall_s > WALL_S:
            broken(f"a round took {cpu_s:.1f} s of processors in {wall_s:.1f} s", "its inputs")

    @staticmethod
    def memory() -> int:
        """Bytes that the process held at most."""
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def _state(self) -> object:
        found = []
        for path in sorted(self.places.canary.iterdir()):
            status = path.lstat()
            found.append((path.name, status.st_ino, status.st_mtime_ns, path.read_bytes()))
        return found

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        if event == "open":
            path, _, flags = arguments
            follow = not flags & (os.O_NOFOLLOW | os.O_EXCL)
            self._look(event, path, follow=follow, reads=not flags & os.O_ACCMODE)
        elif event == "sqlite3.connect":
            self._look(event, _database(arguments[0]))
        elif event in _CHANGING:
            for at in _CHANGING[event]:
                self._look(event, arguments[at], follow=False)
        elif event in _NEVER:
            self._seen.append(f"{event}{arguments!r:.200}")

    def _look(self, event: str, path: Any, *, follow: bool = True, reads: bool = False) -> None:
        if path is None or isinstance(path, int):
            return
        text = os.fsdecode(path)
        if "\0" in text or text == ":memory:":
            return
        above, name = os.path.split(os.path.abspath(text))
        real = os.path.realpath(text) if follow else os.path.join(os.path.realpath(above), name)
        inside = real == self._inside or real.startswith(self._inside + "/")
        if inside and not (real + "/").startswith(self._canary + "/"):
            return
        if reads and real.startswith((*_PYTHON, *_SYSTEM)):
            return
        where = _where()
        if where is not None:
            self._seen.append(f"{event} {real!r} {where}")


def _where() -> str | None:
    """Where in the library it was done; `None`: not there."""
    for frame in reversed(traceback.extract_stack()):
        if "/sessionactor/" in frame.filename:
            return f"in {os.path.basename(frame.filename)}:{frame.lineno}"
    return None


def _database(name: Any) -> Any:
    text = os.fsencode(name)
    if text.startswith(b"file:"):
        return unquote_to_bytes(text[5:].partition(b"?")[0])
    return text
