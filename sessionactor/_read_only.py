"""Sessions of a directory for reading only, beside whoever owns them, or nobody.

Nothing is kept of a session between two requests: its owner may change, rename or delete it.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from sessionactor import _loading as loading
from sessionactor import _looking as looking
from sessionactor import _names as names
from sessionactor._changes import ChangeName, ChangeStatus, State, Step, StoredInfo
from sessionactor._content import Content
from sessionactor._deciding import Decision
from sessionactor._directory import Followed
from sessionactor._disk import DiskDirectory
from sessionactor._errors import ReadOnlyError, SessionError, SessionNotFoundError
from sessionactor._history import Changes
from sessionactor._loading import Loaded
from sessionactor._looking import Stamps
from sessionactor._opening import Identity, Opening
from sessionactor._ownership import Onlooker, Ownership
from sessionactor._records import SessionFile
from sessionactor._requests import Read, ReadChanges, ReadInfo, Write

logger = logging.getLogger("sessionactor")

_T = TypeVar("_T")

_LOOKS: Final = 4
_PAUSE_S: Final = 0.02
"""How often, and how long apart, it is looked for a file that its owner may be moving."""
READING_THREADS: Final = 4
"""In which sessions are read at once."""
TAIL_INTERVAL_S: Final = 0.1
"""How often it is looked whether a session that somebody follows has changed."""


class ReadOnlyDirectory(DiskDirectory):
    """A directory of session files in which nothing is owned and nothing changed."""

    read_only = True

    def _get_ready(self) -> Ownership:
        if not self._path.is_dir():
            raise NotADirectoryError(f"{self._path} is no directory")
        return Onlooker(self._path)

    async def find(
        self, session_id: str, *, creating: bool = False, look: bool = True
    ) -> SessionFile | None:
        """A session's file. Listing a directory may miss one that is moved meanwhile."""
        looks = 1 if self.known(session_id) is None else _LOOKS
        for left in reversed(range(looks)):
            file = await super().find(session_id, creating=creating, look=look)
            if file is not None:
                return file
            if left:
                await asyncio.sleep(_PAUSE_S)
        return None

    def plan(self, session_id: str, name: str) -> NoReturn:
        """Refuse to create a session, or to rename one."""
        raise refusal(self._path, session_id)

    async def remove(self, session_id: str) -> NoReturn:
        """Refuse to remove a session."""
        raise refusal(self._path, session_id)

    async def look(
        self, session_id: str, procedure: Callable[[SessionFile, sqlite3.Connection], _T]
    ) -> _T:
        """Run a procedure on a session's file, wherever that is now.

        Raises:
            SessionNotFoundError: there is none.
            SchemaVersionError: another version of this package wrote it.
            StorageError: it cannot be read.
        """
        missing = SessionNotFoundError(
            f"session {session_id!r} does not exist", session_id=session_id
        )
        for _ in range(_LOOKS):
            file = await self.find(session_id, look=False)
            if file is None or file.path is None:
                break
            try:
                return await self.run(looking.read, file.path, session_id, partial(procedure, file))
            except SessionNotFoundError as error:
                missing = error  # unless it was just moved
        raise missing

    def is_owned(self, session_id: str) -> bool:
        """Whether somebody owns a session now, as far as can be told. Blocks."""
        try:
            return self._ownership.holder(names.id_part(session_id)) is not None
        except OSError:
            return True

    async def watch(self, followed: Followed) -> NoReturn:
        """Tell followers when their sessions may have changed."""
        seen: dict[str, _Seen | None] = {}
        while True:
            await asyncio.sleep(TAIL_INTERVAL_S)
            session_ids = followed.followed()
            seen = {each: seen[each] for each in session_ids if each in seen}
            try:
                await self._watch(session_ids, seen, followed)
            except SessionError:
                logger.warning("cannot see what changes in %s", self._path, exc_info=True)

    async def _watch(
        self, session_ids: list[str], seen: dict[str, _Seen | None], followed: Followed
    ) -> None:
        paths: dict[str, Path] = {}
        for session_id in session_ids:
            file = await self.find(session_id, look=False)
            if file is not None and file.path is not None:
                paths[session_id] = file.path
        stamps = await self.run(_stamps, paths) if paths else {}
        for session_id in session_ids:
            if session_id in paths and session_id not in stamps:
                continue  # just moved, or removed: the next look will tell
            is_new = session_id not in seen
            before, now = seen.pop(session_id, None), stamps.get(session_id)
            if before is not None and (now is None or before.is_another(now)):
                followed.deleted(session_id)
                continue
            if is_new or before != now or (before is not None and not before.is_settled):
                followed.missed(session_id)
            seen[session_id] = now

    def _read_identity(self, path: Path) -> Identity:
        return Identity(*looking.read(path, path.name, loading.read_identity))


class _Seen(NamedTuple):
    """A session's file as it was seen."""

    path: Path
    stamps: Stamps
    is_settled: bool

    def is_another(self, now: _Seen) -> bool:
        """Whether another file has taken its place."""
        then, found = self.stamps.database, now.stamps.database
        return then is not None and found is not None and then.inode != found.inode


def _stamps(paths: dict[str, Path]) -> dict[str, _Seen]:
    seen = {}
    for session_id, path in paths.items():
        stamps = looking.stamps(path)
        if stamps.database is not None:
            seen[session_id] = _Seen(path, stamps, stamps.are_settled)
    return seen


class ReadOnlyStore:
    """A session that others may change: each request looks into its file anew."""

    def __init__(self, directory: ReadOnlyDirectory, session_id: str) -> None:
        self._directory = directory
        self._session_id = session_id
        self._info: StoredInfo | None = None

    async def commit(self, group: Sequence[Write]) -> Decision:
        """Refuse."""
        raise refusal(None, self._session_id)

    async def read(self, request: Read, max_rows: int) -> Any:
        """Answer a read, as of one moment."""
        answer, self._info = await self._directory.look(
            self._session_id, partial(self._answer, request, max_rows)
        )
        return answer

    def info(self) -> StoredInfo:
        """What the session was when it was last read."""
        assert self._info is not None
        return self._info

    async def close(self) -> None:
        """Nothing is open."""

    def _answer(
        self, request: Read, max_rows: int, file: SessionFile, connection: sqlite3.Connection
    ) -> tuple[Any, StoredInfo]:
        loaded = self._load(file, connection)
        content = Content(self._session_id, loaded, loaded.info.token or "")
        answer = content.known(request)
        if answer is None:
            answer = content.read(request, max_rows, connection)
        if isinstance(request, ReadChanges):
            answer = _as_seen(answer, file.name, loaded.state)
        return answer, content.info

    def _load(self, file: SessionFile, connection: sqlite3.Connection) -> Loaded:
        loaded = loading.load(connection)
        if loaded.info.state == "running" and not self._directory.is_owned(self._session_id):
            # Unless it just ended: its owner stores that before it gives the session up.
            connection.execute("ROLLBACK")
            connection.execute("BEGIN")
            before, loaded = loaded, loading.load(connection)
            if loaded.state.revision == before.state.revision:
                loaded = loading.interrupted(loaded)
        info = loaded.info._replace(session_id=file.session_id, name=file.name)
        return loaded._replace(info=info)


def _as_seen(changes: Changes, name: str, state: State) -> Changes:
    """Changes with the state as it is shown, and the name that the file has."""
    steps: list[tuple[int, Step]] = []
    for revision, step in changes.others:
        if isinstance(step, ChangeStatus):
            steps.append((revision, ChangeStatus(state.status, revision)))
        elif isinstance(step, ChangeName) and step.name != name:
            if revision == state.revision:  # its file has not moved yet
                return changes._replace(others=steps, upto=revision - 1)
            steps.append((revision, ChangeName(name, revision)))
        else:
            steps.append((revision, step))
    return changes._replace(others=steps)


async def open_read_only(directory: ReadOnlyDirectory, opening: Opening) -> ReadOnlyStore:
    """Look whether a session can be read, and be its store."""
    store = ReadOnlyStore(directory, opening.session_id)
    await store.read(ReadInfo(), 0)
    return store


def refusal(path: Path | None, session_id: str | None = None) -> ReadOnlyError:
    """The error for what would change something."""
    of = "" if session_id is None else f"session {session_id!r} is not changed: "
    return ReadOnlyError(
        f"{of}the registry of {path} is read-only; open one without read_only=True",
        session_id=session_id,
    )


__all__ = [
    "READING_THREADS",
    "TAIL_INTERVAL_S",
    "ReadOnlyDirectory",
    "ReadOnlyStore",
    "open_read_only",
    "refusal",
]
