"""All files of a directory in turn, and what is wrong around the sessions among them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from sessionactor import _files as files
from sessionactor import _looking as looking
from sessionactor import _names as names
from sessionactor import _presence as presence
from sessionactor._errors import SessionNotFoundError, StorageError
from sessionactor._ownership import Onlooker
from sessionactor.checkup._content import Fault, faults
from sessionactor.checkup._finding import Finding, Problem


def check(
    directory: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None
) -> Iterator[Finding]:
    """Look at every file of a directory, and into every session; changes nothing.

    Sessions may be in use, here or in other processes. Blocks.

    Args:
        directory: Where the sessions are.
        progress: Is told `(done, of)`, in files, after each of them.

    Raises:
        OSError: the directory cannot be listed.
    """
    place = Path(os.path.abspath(directory))
    entries = sorted(os.listdir(place))
    yield from _drafts(place, entries)
    twins: defaultdict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if names.parse(entry) is not None:
            twins[names.part_of(entry)].append(entry)
    for done, entry in enumerate(entries, 1):
        if names.parse(entry) is None:
            yield from _side_file(place / entry)
        else:
            others = [twin for twin in twins[names.part_of(entry)] if twin != entry]
            yield from _session(place / entry, others)
        if progress is not None:
            progress(done, len(entries))


def session_id_of(entry: str) -> str | None:
    """The id of the session that a file's name is of; `None` where the name was cut."""
    parsed = names.parse(entry)
    return parsed.session_id if parsed else None


def is_orphan(path: Path) -> bool:
    """Whether it is a side file of a session's database that is not there."""
    base = _base(path)
    return (
        base is not None
        and names.parse(base.name) is not None
        and os.path.lexists(path)
        and not os.path.lexists(base)
    )


def _base(path: Path) -> Path | None:
    for suffix in names.SIDE_FILES:
        if path.name.endswith(suffix):
            return path.with_name(path.name.removesuffix(suffix))
    return None


def _drafts(place: Path, entries: list[str]) -> Iterator[Finding]:
    ownership = Onlooker(place)
    try:
        for entry in ownership.stale_drafts():
            detail = "its process died while it made a session, which never existed"
            yield Finding("draft", place / entry, None, detail, "remove it")
    finally:
        ownership.close()
    for entry in entries:
        if names.is_part_file(entry) and files.is_left_over(place / entry):
            detail = "its process died while it made a copy or an export, which is not there"
            yield Finding("draft", place / entry, None, detail, "remove it")


def _side_file(path: Path) -> Iterator[Finding]:
    base = _base(path)
    if base is None or not is_orphan(path):
        return
    session_id = session_id_of(base.name)
    remedy = None if session_id is None else "put it aside, so that no new session takes it over"
    yield Finding("log", path, session_id, f"it belongs to {base.name}, which is not there", remedy)


def _session(path: Path, twins: list[str]) -> Iterator[Finding]:
    session_id = session_id_of(path.name)
    is_sure = session_id is not None and not twins  # which file is meant by the session
    for problem, detail, remedy in _wrong(path, twins):
        yield Finding(problem, path, session_id, detail, remedy if is_sure else None)


def _wrong(path: Path, twins: list[str]) -> Iterator[Fault]:
    try:
        kind = presence.inspect(path)
        if kind is presence.Kind.FOREIGN:
            yield Fault("foreign", "it has the name of a session, and is none")
        elif kind is presence.Kind.NEWER:
            yield Fault("newer", "a newer version of sessionactor wrote it: upgrade to open it")
        elif kind is presence.Kind.SESSION:
            if twins:
                files_of_it = ", ".join(twins)
                yield Fault("duplicate", f"{files_of_it} is of the same session: move one away")
            yield from _inside(path)
    except OSError as error:
        yield Fault("unreadable", str(error))


def _inside(path: Path) -> list[Fault]:
    def see(uri: str) -> list[Fault]:
        connection = sqlite3.connect(
            uri, uri=True, timeout=files.BUSY_TIMEOUT_S, isolation_level=None
        )
        with contextlib.closing(connection):
            connection.execute("BEGIN")  # so that all is of one moment
            return list(faults(path.name, connection))

    if _is_left_without_index(path):
        detail = "its log has no index, so that it cannot be read beside others"
        return [Fault("unreadable", detail, "open it once")]
    try:
        return looking.look(path, names.parse_id(path.name), see)
    except SessionNotFoundError:
        return []  # renamed or deleted meanwhile
    except StorageError as error:
        cause = error.__cause__
        if isinstance(cause, sqlite3.Error):
            return [Fault(_problem(cause), f"SQLite says: {cause}")]
        if cause is not None and not isinstance(cause, OSError):
            return [Fault("damaged", f"what it holds makes no sense: {cause}")]
        return [Fault("unreadable", str(cause or error))]


def _is_left_without_index(path: Path) -> bool:
    """Whether a log is there that an owner would not leave so: it was copied or restored."""
    log, index = f"{path}{names.LOG_SUFFIX}", f"{path}{names.INDEX_SUFFIX}"
    try:
        return os.stat(log).st_size > 0 and not os.path.lexists(index) and os.path.lexists(log)
    except FileNotFoundError:
        return False


def _problem(error: sqlite3.Error) -> Problem:
    """Whether the file is to blame, or what stands in the way of reading it."""
    in_the_way = isinstance(error, sqlite3.OperationalError) and "no such" not in str(error)
    return "unreadable" if in_the_way else "damaged"


__all__ = ["check", "is_orphan", "session_id_of"]
