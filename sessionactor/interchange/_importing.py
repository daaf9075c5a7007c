"""Imports: of one file, or of all files of a directory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

from sessionactor._changes import StoredInfo
from sessionactor._errors import (
    InvalidValueError,
    RegistryClosedError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
)
from sessionactor._registry import SessionRegistry
from sessionactor._requests import ReadInfo, Write
from sessionactor.interchange._comparing import compare, same_heading
from sessionactor.interchange._content import DEFAULT_AGENT, Heading
from sessionactor.interchange._files import Worker, exports_in
from sessionactor.interchange._from_json import BadLineError
from sessionactor.interchange._members import Members
from sessionactor.interchange._parts import part_of, with_last
from sessionactor.interchange._reading import READERS, Batch, Pass, SourceFile
from sessionactor.interchange._reports import (
    Format,
    ImportedFile,
    ImportReport,
    OnProgress,
    Problem,
    Problems,
    Progress,
    Status,
)
from sessionactor.interchange._source import RewrittenError, Source, let_go


async def import_session(
    registry: SessionRegistry,
    path: str | os.PathLike[str],
    *,
    format: Format = "sessionactor",
    agent_id: str = DEFAULT_AGENT,
    skip_bad: bool = False,
    progress: OnProgress | None = None,
) -> ImportedFile:
    """Make a session of a file: all of it or, if the file is damaged, nothing.

    The whole file is checked before anything is stored. A session that is there already is
    never changed: the result tells whether it is the same one. Cancelled or killed in the
    middle, the session is `importing` and takes nothing else; a second import of the same file
    goes on where the first one stopped. Memory is bounded, however long the file.

    Args:
        registry: Where the session is to be.
        path: A regular file. Of the formats of others, its name tells the session's id.
        format: What the file holds.
        agent_id: Who said the messages of a format that knows no agents.
        skip_bad: Of a damaged file, import what is whole.
        progress: Is told how many bytes were read; all are read twice.

    Raises:
        OSError: the file cannot be read.
        SessionOwnedError: another process owns the session.
        StorageError: the disk failed.
    """
    how = _how(registry, format, agent_id, skip_bad, progress)
    async with Worker() as worker:
        return await _import(how, Path(path), worker, follow=True)


async def import_sessions(
    registry: SessionRegistry,
    directory: str | os.PathLike[str],
    *,
    format: Format = "sessionactor",
    agent_id: str = DEFAULT_AGENT,
    skip_bad: bool = False,
    progress: OnProgress | None = None,
) -> ImportReport:
    """Import all files `*.jsonl` of a directory, one after the other, by their names.

    Links are not followed. A file that cannot be imported is told of, and does not stop the
    others. Done again, it goes on where it stopped, and doubles nothing.

    Args:
        registry: Where the sessions are to be.
        directory: Where the files are.
        format: As for `import_session`.
        agent_id: As for `import_session`.
        skip_bad: As for `import_session`.
        progress: As for `import_session`, for each file.

    Raises:
        OSError: the directory cannot be read.
    """
    how = _how(registry, format, agent_id, skip_bad, progress)
    done: list[ImportedFile] = []
    async with Worker() as worker:
        for path in await worker.run(exports_in, Path(directory)):
            try:
                done.append(await _import(how, path, worker, follow=False))
            except RegistryClosedError:
                raise
            except (SessionError, OSError) as error:
                session_id = getattr(error, "session_id", None)
                problem = Problem(path, None, str(error))
                done.append(ImportedFile(path, session_id, "failed", 0, (problem,), 1))
    return ImportReport(tuple(done))


class _How(NamedTuple):
    """How files are to be imported."""

    registry: SessionRegistry
    format: Format
    agent_id: str
    skip_bad: bool
    progress: OnProgress | None

    def open(self, path: Path, *, follow: bool) -> SourceFile:
        """The file; blocks."""
        most = self.registry.max_message_bytes
        return SourceFile(path, self.format, self.agent_id, most, follow=follow)


def _how(
    registry: SessionRegistry,
    format: Format,
    agent_id: str,
    skip_bad: bool,
    progress: OnProgress | None,
) -> _How:
    if format not in READERS:
        raise InvalidValueError(f"format is one of {', '.join(READERS)}, not {format!r}")
    try:
        Members({"agent_id": agent_id}).text("agent_id")
    except BadLineError as error:
        raise InvalidValueError(str(error)) from error
    return _How(registry, format, agent_id, skip_bad, progress)


async def _import(how: _How, path: Path, worker: Worker, *, follow: bool) -> ImportedFile:
    file: SourceFile | None = None

    def open_file() -> SourceFile:
        nonlocal file
        file = how.open(path, follow=follow)
        return file

    def close_file() -> None:
        if file is not None:
            file.close()

    try:
        opened = await worker.run(open_file)
        return await _Import(how, opened, worker).run()
    finally:
        worker.post(close_file)


class _Import:
    """The import of one file."""

    def __init__(self, how: _How, file: SourceFile, worker: Worker) -> None:
        self._how = how
        self._registry = how.registry
        self._file = file
        self._worker = worker
        self._problems = Problems(file.path)
        self._messages = 0
        self._fingerprint = ""

    async def run(self) -> ImportedFile:
        checking = self._file.begin()
        async with aclosing(self._batches(checking, 0)) as batches:
            async for _ in batches:
                pass
        self._problems, self._messages = checking.problems, checking.messages
        self._fingerprint = checking.fingerprint()
        heading = checking.heading
        if heading is None or (self._problems.count and not self._how.skip_bad):
            return self._result(heading, "refused")
        was_running = self._registry.whereis(heading.session_id) is not None
        try:
            return await self._take_over(heading)
        finally:
            if not was_running:
                await let_go(self._registry, heading.session_id)

    @property
    def _what(self) -> str:
        """What is imported: an import that stopped is gone on with by the same only."""
        return f"{self._fingerprint} {self._how.format} {self._how.skip_bad} {self._how.agent_id}"

    def _result(self, heading: Heading | None, status: Status, *reasons: str) -> ImportedFile:
        for reason in reasons:
            self._problems.add(None, reason)
        if self._how.progress is not None:
            total = 2 * self._file.size
            self._how.progress(Progress(self._file.path, total, total))
        return ImportedFile(
            self._file.path,
            heading and heading.session_id,
            status,
            self._messages,
            tuple(self._problems.first),
            self._problems.count,
        )

    async def _take_over(self, heading: Heading) -> ImportedFile:
        """Store the file's session, unless there is one."""
        session_id = heading.session_id
        is_new = not self._is_known(session_id)
        try:
            await self._registry.start(session_id, name=heading.name)
        except SessionExistsError:  # under another name
            if not await self._registry.exists(session_id):
                raise
        info: StoredInfo = await self._registry.ask(session_id, ReadInfo())
        if info.state == "importing":
            if (info.turn_id or "").rpartition(":")[0] == self._what:
                return await self._store(heading, info.turn_id, is_new=False)
            return self._result(
                heading,
                "exists",
                f"session {session_id!r} is being imported from another file, or this one was"
                " changed meanwhile: delete the session to import it again",
            )
        is_empty = not (info.revision or info.high_water)
        if not (is_new and is_empty):
            difference = await self._difference(heading)
            if difference is None:
                return self._result(heading, "unchanged")
            if not is_empty or heading.name not in (None, info.name):
                return self._result(heading, "exists", difference)
        return await self._store(heading, None, is_new=is_new)

    def _is_known(self, session_id: str) -> bool:
        """Whether the registry knows of such a session; looking for it would take a scan."""
        try:
            self._registry.file_of(session_id)
        except SessionNotFoundError:
            return False
        return True

    async def _store(self, heading: Heading, mark: str | None, *, is_new: bool) -> ImportedFile:
        """Store the file's session, or the rest of it after a mark."""
        session_id = heading.session_id
        storing = self._file.begin(checked=not self._problems.count)
        async with aclosing(self._batches(storing, 1)) as batches:
            async for batch, is_last in with_last(batches):
                if is_last and storing.fingerprint() != self._fingerprint:
                    if is_new:
                        await self._registry.delete(session_id)
                    reason = "the file was changed while it was imported: import it again"
                    return self._result(heading, "failed", reason)
                final = heading.restored if is_last else None
                part = await self._worker.run(part_of, batch, self._what, mark, final)
                if part is not None:
                    await self._registry.ask(session_id, Write((part,)))
                    mark = part.mark
        return self._result(heading, "imported")

    async def _batches(self, reading: Pass, pass_number: int) -> AsyncGenerator[Batch, None]:
        """Parts of the file, the next one read while this one is dealt with."""
        following = self._following(reading)
        try:
            while (batch := await following) is not None:
                following = self._following(reading)
                yield batch
                if self._how.progress is not None:
                    done = pass_number * self._file.size + reading.bytes_read
                    self._how.progress(Progress(self._file.path, done, 2 * self._file.size))
        finally:
            following.cancel()
            self._worker.post(reading.close)

    def _following(self, reading: Pass) -> asyncio.Future[Batch | None]:
        following = asyncio.ensure_future(self._worker.run(reading.next))
        following.add_done_callback(lambda done: done.cancelled() or done.exception())
        return following

    async def _difference(self, heading: Heading) -> str | None:
        """How the session that is there differs from the file's; `None`: not at all."""
        session_id = heading.session_id
        try:
            source = await Source.open(self._registry, session_id)
            if not same_heading(source.heading, heading):
                here, there = source.heading.restored.revision, heading.restored.revision
                if here == there:
                    return f"session {session_id!r} exists and is another one"
                return f"session {session_id!r} exists: at revision {here}, in the file at {there}"
            reading = self._file.begin(checked=not self._problems.count)
            async with (
                aclosing(source.items()) as here_items,
                aclosing(self._batches(reading, 1)) as there_items,
            ):
                line = await compare(
                    here_items, there_items, self._worker, timeless=heading.timeless
                )
        except RewrittenError:
            return f"session {session_id!r} exists, and is being changed"
        if line is None:
            return None
        return f"session {session_id!r} exists, and differs from line {line} of the file on"


__all__ = ["import_session", "import_sessions"]
