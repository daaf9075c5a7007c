"""Exports: of one session to a file, of many to a directory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

from sessionactor import _names as names
from sessionactor._changes import WholeRow
from sessionactor._codec import UndecodableError
from sessionactor._errors import (
    InvalidValueError,
    RegistryClosedError,
    SessionError,
)
from sessionactor._records import Row
from sessionactor._registry import SessionRegistry
from sessionactor._requests import ReadRow
from sessionactor.interchange._content import Item
from sessionactor.interchange._events import EventsWriter, record_id_of
from sessionactor.interchange._files import (
    NewDirectory,
    NewFile,
    Worker,
    begins_with,
    make_directory,
)
from sessionactor.interchange._from_json import BadLineError
from sessionactor.interchange._loop import LoopWriter
from sessionactor.interchange._reports import (
    ExportedSession,
    ExportReport,
    Format,
    OnProgress,
    Problem,
    Problems,
    Progress,
)
from sessionactor.interchange._source import RewrittenError, Source, let_go
from sessionactor.interchange._writing import END, NativeWriter, Writer, heading_line

PATIENCE: Final = 3
"""How often a session is read again because rows were changed meanwhile."""
_KNOWN_PARENTS: Final = 4096
_DB_ID: Final = re.compile("[1-9][0-9]{0,17}")


_WRITERS: Final[dict[Format, type[NativeWriter] | type[EventsWriter] | type[LoopWriter]]] = {
    "sessionactor": NativeWriter,
    "events": EventsWriter,
    "loop": LoopWriter,
}


async def export_session(
    registry: SessionRegistry,
    session_id: str,
    path: str | os.PathLike[str],
    *,
    format: Format = "sessionactor",
    progress: OnProgress | None = None,
) -> ExportedSession:
    """Write a session, as it is at one moment, to a file; it may go on working meanwhile.

    The file appears when it is whole, in the place of an older one. Cancelled, there is no new
    file. A file that holds the session as it is now is left as it is. Memory is bounded,
    however long the history.

    Args:
        registry: Where the session is.
        session_id: Which one.
        path: The file; or a directory, where it gets its usual name, `<id>.jsonl`.
        format: `"sessionactor"` loses nothing; of the others the result tells what they lose.
        progress: Is told how many messages were written.

    Raises:
        SessionNotFoundError: there is no such session.
        SessionBusyError: it is being imported.
        OSError: the file cannot be written.
    """
    writer = _writer(format)
    target = Path(path)
    async with Worker() as worker:
        if await worker.run(target.is_dir):
            target /= names.export_name(session_id, plain=format != "sessionactor")
        return await _Export(registry, session_id, target, writer, worker, progress).run()


async def export_sessions(
    registry: SessionRegistry,
    directory: str | os.PathLike[str],
    *,
    pattern: str = "*",
    format: Format = "sessionactor",
    progress: OnProgress | None = None,
) -> ExportReport:
    """Write sessions to a directory, each to a file `<id>.jsonl`, one after the other.

    Done again, it writes what has changed since. A session that cannot be exported is told of,
    and does not stop the others. Cancelled, the files written so far are there.

    Args:
        registry: Where the sessions are.
        directory: Made if it does not exist.
        pattern: A glob on their names.
        format: As for `export_session`.
        progress: As for `export_session`, for each file.

    Raises:
        OSError: the directory cannot be made.
    """
    writer = _writer(format)
    directory = Path(directory)
    done: list[ExportedSession] = []
    ids = sorted(file.session_id for file in await registry.find(pattern))
    async with Worker() as worker:
        await worker.run(make_directory, directory)
        for session_id, name in _file_names(ids, plain=format != "sessionactor"):
            path = directory / name
            try:
                export = _Export(registry, session_id, path, writer, worker, progress)
                done.append(await export.run())
            except RegistryClosedError:
                raise
            except (SessionError, OSError) as error:
                problem = Problem(path, None, str(error))
                done.append(ExportedSession(session_id, path, "failed", problems=(problem,)))
    return ExportReport(tuple(done))


def _file_names(session_ids: Sequence[str], *, plain: bool) -> Iterator[tuple[str, str]]:
    """A file name for each id, all different even where upper and lower case are the same."""
    escaped = {names.export_name(session_id) for session_id in session_ids}
    taken = escaped.copy()
    for session_id in session_ids:
        name = names.export_name(session_id, plain=plain)
        if name not in escaped and name.casefold() in taken:
            name = names.export_name(session_id)
        taken.add(name.casefold())
        yield session_id, name


def _writer(format: Format) -> type[NativeWriter] | type[EventsWriter] | type[LoopWriter]:
    if format not in _WRITERS:
        raise InvalidValueError(f"format is one of {', '.join(_WRITERS)}, not {format!r}")
    return _WRITERS[format]


class _Export:
    """The export of one session."""

    def __init__(
        self,
        registry: SessionRegistry,
        session_id: str,
        path: Path,
        writer: type[NativeWriter] | type[EventsWriter] | type[LoopWriter],
        worker: Worker,
        progress: OnProgress | None,
    ) -> None:
        self._registry = registry
        self._session_id = session_id
        self._path = path
        self._new_writer = writer
        self._worker = worker
        self._progress = progress
        self._problems = Problems(path)
        self._messages = 0
        self._records: dict[str, str] = {}

    async def run(self) -> ExportedSession:
        was_running = self._registry.whereis(self._session_id) is not None
        try:
            return await self._run()
        finally:
            if not was_running:
                await let_go(self._registry, self._session_id)

    async def _run(self) -> ExportedSession:
        source = await Source.open(self._registry, self._session_id)
        beginning = heading_line(source.heading)
        is_native = self._new_writer is NativeWriter
        if is_native and await self._worker.run(begins_with, self._path, beginning, END):
            count = source.heading.message_count
            return ExportedSession(self._session_id, self._path, "unchanged", count)
        file = NewFile(self._path)
        try:
            await self._worker.run(file.open)
            writer = await self._write(source, file)
            await self._worker.run(file.commit)
        finally:
            self._worker.post(file.close)
        return ExportedSession(
            self._session_id,
            self._path,
            "exported",
            self._messages,
            tuple(writer.losses.told()),
            tuple(self._problems.first),
        )

    async def _write(self, source: Source, file: NewFile) -> Writer:
        """Write the session as it is at one moment."""
        for _ in range(PATIENCE):
            try:
                return await self._try(source, file)
            except RewrittenError:
                source = await Source.open(self._registry, self._session_id)
        # It is changed all the time: a copy is not.
        place = await self._worker.run(NewDirectory, self._path.parent)
        try:
            session = self._registry.session(self._session_id)
            await session.backup(place.path / names.file_name(session.session_id, session.name))
            async with SessionRegistry(place.path, read_only=True, catalog=False) as copies:
                return await self._try(await Source.open(copies, self._session_id), file)
        finally:
            self._worker.post(place.remove)

    async def _try(self, source: Source, file: NewFile) -> Writer:
        writer = self._new_writer(source.heading)
        self._problems = Problems(self._path)
        self._messages = 0
        await self._worker.run(file.rewind)
        await self._worker.run(file.write, writer.begin())
        async with aclosing(source.items()) as parts:
            async for items in parts:
                parent_ids = await self._parent_ids(items)
                await self._worker.run(self._put, items, parent_ids, writer, file)
                self._report(source.heading.message_count)
        await self._worker.run(file.write, writer.end())
        return writer

    def _put(
        self, items: Sequence[Item], parent_ids: Mapping[str, str], writer: Writer, file: NewFile
    ) -> None:
        for item in items:
            db_id = item.row[0] if isinstance(item, WholeRow) else None
            try:
                if isinstance(item, WholeRow) and type(item.row[1]) is not str:
                    raise UndecodableError("its text is not UTF-8")
                file.write(writer.line(item, parent_ids))
            except (UndecodableError, BadLineError) as error:
                self._problems.add(None, f"message {db_id} is damaged, and left out: {error}")
            else:
                self._messages += db_id is not None

    def _report(self, total: int) -> None:
        if self._progress is not None:
            self._progress(Progress(self._path, self._messages, total))

    async def _parent_ids(self, items: Sequence[Item]) -> Mapping[str, str]:
        """The record ids of parents in this session, by the references of their children."""
        if self._new_writer is not EventsWriter:
            return {}
        prefix = f"{self._session_id}/"
        found: dict[str, str] = {}
        for item in items:
            if not isinstance(item, WholeRow):
                continue
            parent = item.row[7]
            if parent is not None and parent not in found and parent.startswith(prefix):
                db_id = parent.removeprefix(prefix)
                if _DB_ID.fullmatch(db_id) and (record_id := await self._record_id(int(db_id))):
                    found[parent] = record_id
        return found

    async def _record_id(self, db_id: int) -> str | None:
        reference = f"{self._session_id}/{db_id}"
        if reference not in self._records:
            try:
                row: Row | None = await self._registry.ask(self._session_id, ReadRow(db_id))
            except SessionError:
                row = None
            if row is None:
                return None
            while len(self._records) >= _KNOWN_PARENTS:
                del self._records[next(iter(self._records))]
            self._records[reference] = record_id_of(self._session_id, db_id, row.key)
        return self._records[reference]


__all__ = ["export_session", "export_sessions"]
