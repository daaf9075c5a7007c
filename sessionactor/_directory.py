"""Where the sessions of a registry live: what the registry needs of it, and memory.

`_disk` is the directory of files.
"""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterator
from typing import Protocol

from sessionactor import _names as names
from sessionactor._opening import Durability, Opening
from sessionactor._records import SessionFile


class Followed(Protocol):
    """Those who follow sessions."""

    def followed(self) -> list[str]:
        """The sessions that somebody follows."""

    def missed(self, session_id: str) -> None:
        """Tell that something may have happened to a session."""

    def deleted(self, session_id: str) -> None:
        """Tell that a session is gone."""


class Directory(Protocol):
    """What the registry needs of the place where its sessions live."""

    in_memory: bool
    """Whether sessions have no files."""
    read_only: bool
    """Whether others own the sessions, and may change them at any time."""

    async def open(self) -> None:
        """Get ready."""

    async def aclose(self) -> None:
        """Let go of everything."""

    def claim(self, session_id: str) -> None:
        """Own a session.

        Raises:
            SessionOwnedError: another process or registry owns it.
        """

    def release(self, session_id: str) -> None:
        """Give a session up."""

    def holder(self, part: str) -> int | None:
        """The process that owns the session of an id part; in any thread."""

    def known(self, session_id: str) -> SessionFile | None:
        """The session's file as far as the index knows; no I/O."""

    async def find(
        self, session_id: str, *, creating: bool = False, look: bool = True
    ) -> SessionFile | None:
        """The session's file, looked for again where the index has none.

        `creating`: an index that is not quite fresh will do. `look`: be certain that it is a
        session.
        """

    async def glob(self, pattern: str) -> list[SessionFile]:
        """All sessions whose names match, sorted by name, then id."""

    async def starting(self, prefix: str) -> list[SessionFile]:
        """All sessions whose ids begin so, sorted by name, then id."""

    async def named(self, name: str) -> list[SessionFile]:
        """All sessions of that name, sorted by id."""

    def opening(self, file: SessionFile, durability: Durability, *, create: bool) -> Opening:
        """How a store is to be opened for a session."""

    def plan(self, session_id: str, name: str) -> SessionFile:
        """The file that a new session gets."""

    def unused_name(self) -> str:
        """A generated name that no session has."""

    def creating(self, file: SessionFile) -> contextlib.AbstractContextManager[None]:
        """Surround what creates a session, and take it into the index."""

    def vanished(self, file: SessionFile) -> None:
        """Take a file that is not there any more out of the index."""

    async def remove(self, session_id: str) -> bool:
        """Remove a closed session; whether there was one."""

    async def rename(self, session_id: str, name: str) -> None:
        """Give a closed session another name."""

    async def watch(self, followed: Followed) -> None:
        """Tell what others do to sessions: where this owns none, until it is cancelled."""


class MemoryDirectory:
    """Sessions without files: what a store closes with is kept, as bytes, until deleted."""

    in_memory = True
    read_only = False

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._images: dict[str, bytes] = {}
        self._reserved: set[str] = set()

    async def open(self) -> None:
        return None

    async def aclose(self) -> None:
        self._names.clear()
        self._images.clear()

    def claim(self, session_id: str) -> None:
        return None

    def release(self, session_id: str) -> None:
        return None

    def holder(self, part: str) -> int | None:
        return None

    def known(self, session_id: str) -> SessionFile | None:
        name = self._names.get(session_id)
        return None if name is None else SessionFile(None, session_id, name)

    async def find(
        self, session_id: str, *, creating: bool = False, look: bool = True
    ) -> SessionFile | None:
        return self.known(session_id)

    async def glob(self, pattern: str) -> list[SessionFile]:
        return matching(self._all(), pattern)

    async def starting(self, prefix: str) -> list[SessionFile]:
        return [file for file in matching(self._all(), "*") if file.session_id.startswith(prefix)]

    async def named(self, name: str) -> list[SessionFile]:
        return [file for file in matching(self._all(), "*") if file.name == name]

    def opening(self, file: SessionFile, durability: Durability, *, create: bool) -> Opening:
        session_id, name = file.session_id, file.name

        def keep(image: bytes) -> None:
            self._images[session_id] = image

        image = self._images.get(session_id)
        return Opening(session_id, name, None, create, durability, image, keep)

    def plan(self, session_id: str, name: str) -> SessionFile:
        return SessionFile(None, session_id, name)

    def unused_name(self) -> str:
        taken = set(self._names.values()) | self._reserved
        name = next(name for name in names.new_names() if name not in taken)
        self._reserved.add(name)
        return name

    @contextlib.contextmanager
    def creating(self, file: SessionFile) -> Iterator[None]:
        yield
        self._reserved.discard(file.name)
        self._names[file.session_id] = file.name

    def vanished(self, file: SessionFile) -> None:
        self._names.pop(file.session_id, None)

    async def remove(self, session_id: str) -> bool:
        self._images.pop(session_id, None)
        return self._names.pop(session_id, None) is not None

    async def rename(self, session_id: str, name: str) -> None:
        self._names[session_id] = name

    async def watch(self, followed: Followed) -> None:
        return None

    def _all(self) -> list[SessionFile]:
        return [SessionFile(None, session_id, name) for session_id, name in self._names.items()]


def matching(files: list[SessionFile], pattern: str) -> list[SessionFile]:
    """Those whose name matches a glob, sorted by name, then id."""
    return sorted(
        (file for file in files if fnmatch.fnmatchcase(file.name, pattern)),
        key=lambda file: (file.name, file.session_id),
    )
