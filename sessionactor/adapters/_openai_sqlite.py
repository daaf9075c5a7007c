"""The files of OpenAI Agents' own SQLite sessions, taken over."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TextIO

from sessionactor.adapters._holding import Holding, Where
from sessionactor.interchange import import_session

_LONE: Final = re.compile("[\ud800-\udfff]")
_TO_ESCAPE: Final = re.compile("[\\\\\ud800-\udfff]")
_MAIN: Final = "main"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ImportedSession(NamedTuple):
    """What became of one session of the file."""

    session_id: str
    status: Literal["imported", "unchanged", "exists", "refused", "failed"]
    """`unchanged`: it was here with the same items. `exists`: a session of that id is here and
    is another one, or has moved on; it was left alone. `failed`: import once more."""
    items: int
    skipped: int
    """Rows that hold no item: the framework passes over them as well."""
    problem: str | None = None


class _Stored(NamedTuple):
    """A session of the file, or a branch of one."""

    session_id: str
    branch: str | None = None
    """`None`: the file knows no branches."""

    @property
    def new_id(self) -> str:
        is_main = self.branch in (None, _MAIN)
        return self.session_id if is_main else f"{self.session_id}@{self.branch}"


class _Read(NamedTuple):
    items: int
    skipped: int


async def import_sqlite(
    path: str | os.PathLike[str],
    where: Where,
    *,
    session_ids: Iterable[str] | None = None,
    agent_id: str = "agent",
    sessions_table: str = "agent_sessions",
    messages_table: str = "agent_messages",
) -> list[ImportedSession]:
    """Take over the sessions of a file of `SQLiteSession` or one of its kin.

    The file is only read, in one transaction. Each session keeps its id, which is its name as
    well, its items, and their times. It is there whole or not at all; a session that is here
    already is never changed. Done again, it goes on where it stopped.

    Of `AdvancedSQLiteSession` each branch but `main` becomes a session `<id>@<branch>`.

    Args:
        path: The file.
        where: An open registry, or the directory of one.
        session_ids: Only these; `None`: all.
        agent_id: Who the items are stored as being of.
        sessions_table: As it was given to `SQLiteSession`.
        messages_table: As it was given to `SQLiteSession`.

    Raises:
        OSError: the file cannot be read.
        sqlite3.Error: it is not such a file.
    """
    os.stat(path)
    holding = Holding(where)
    loop = asyncio.get_running_loop()
    source = _Source(Path(path), agent_id, sessions_table, messages_table)
    done: list[ImportedSession] = []
    with (
        ThreadPoolExecutor(1, "sessionactor-import") as worker,
        tempfile.TemporaryDirectory() as at,
    ):
        part = Path(at, "session.jsonl")
        try:
            registry = await holding.registry()
            await loop.run_in_executor(worker, source.open)
            wanted = None if session_ids is None else set(session_ids)
            for stored in await loop.run_in_executor(worker, source.sessions):
                if wanted is not None and stored.session_id not in wanted:
                    continue
                read = await loop.run_in_executor(worker, source.write, stored, part)
                result = await import_session(registry, part)
                problem = str(result.problems[0].reason) if result.problems else None
                done.append(ImportedSession(stored.new_id, result.status, *read, problem))
        finally:
            await loop.run_in_executor(worker, source.close)
            await holding.aclose()
    return done


class _Source:
    """The file; all of its calls are made in one thread."""

    def __init__(self, path: Path, agent_id: str, sessions: str, messages: str) -> None:
        self._path = path
        self._agent_id = agent_id
        self._sessions = _quoted(sessions)
        self._messages = _quoted(messages)
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        self._connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        self._connection.execute("BEGIN")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def sessions(self) -> list[_Stored]:
        rows = self._rows(f"SELECT session_id FROM {self._sessions} ORDER BY created_at, rowid")
        ids = [row[0] for row in rows]
        if not any(self._rows("SELECT 1 FROM sqlite_master WHERE name = 'message_structure'")):
            return [_Stored(session_id) for session_id in ids]
        branches = list(self._rows("SELECT DISTINCT session_id, branch_id FROM message_structure"))
        found = [_Stored(session_id, _MAIN) for session_id in ids]
        return found + [_Stored(*row) for row in sorted(branches) if row[1] != _MAIN]

    def write(self, stored: _Stored, path: Path) -> _Read:
        """Write the session down in the lossless format of `sessionactor.interchange`."""
        found = self._rows(
            f"SELECT created_at, updated_at FROM {self._sessions} WHERE session_id = ?",
            stored.session_id,
        )
        created, updated = next(found, (None, None))
        begun = _time(created)
        items: list[tuple[dict[str, Any], datetime]] = []
        skipped = 0
        last = begun
        for data, inserted in self._items(stored):
            item = _item(data)
            if item is None:
                skipped += 1
                continue
            last = max(last, _time(inserted))
            items.append((item, last))
        with closing(path.open("w", encoding="utf-8")) as file:
            _put(file, _heading(stored.new_id, len(items), begun, max(last, _time(updated))))
            for number, (item, time) in enumerate(items, 1):
                _put(file, self._message(number, item, time))
            _put(file, {"type": "end"})
        return _Read(len(items), skipped)

    def _message(self, number: int, item: dict[str, Any], time: datetime) -> dict[str, Any]:
        line = {
            "type": "message",
            "id": number,
            "agent_id": self._agent_id,
            "message": _tagged(item),
            "inserted_at": _text(time),
            "revision": number,
        }
        if item.get("type") == "compaction" or item.get("role") == "summary":
            line["checkpoint"] = True
        return line

    def _items(self, stored: _Stored) -> Iterator[tuple[Any, ...]]:
        what = f"SELECT m.message_data, m.created_at FROM {self._messages} AS m"
        if stored.branch is None:
            return self._rows(f"{what} WHERE m.session_id = ? ORDER BY m.id", stored.session_id)
        return self._rows(
            f"{what} JOIN message_structure AS s ON m.id = s.message_id"
            " WHERE m.session_id = ? AND s.branch_id = ? ORDER BY s.sequence_number",
            stored.session_id,
            stored.branch,
        )

    def _rows(self, sql: str, *arguments: str) -> Iterator[tuple[Any, ...]]:
        assert self._connection is not None
        return self._connection.execute(sql, arguments)


def _heading(session_id: str, count: int, begun: datetime, last: datetime) -> dict[str, Any]:
    return {
        "type": "session",
        "version": 1,
        "session_id": session_id,
        "name": session_id,
        "message_count": count,
        "created_at": _text(begun),
        "last_activity": _text(last),
        "revision": count,
        "high_water": count,
        "name_revision": 0,
        "context_revision": 0,
        "state_revision": 0,
        "context": {},
        "state": "idle",
    }


def _item(data: Any) -> dict[str, Any] | None:
    try:
        item = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        return None
    return item if isinstance(item, dict) else None


def _tagged(value: Any) -> Any:
    """A value of JSON as the lossless format has it."""
    match value:
        case dict():
            looks_like_a_tag = len(value) == 1 and next(iter(value)).startswith("$")
            if looks_like_a_tag or any(map(_LONE.search, value)):
                return {"$map": [[_tagged(key), _tagged(item)] for key, item in value.items()]}
            return {key: _tagged(item) for key, item in value.items()}
        case list():
            return [_tagged(item) for item in value]
        case str() if _LONE.search(value):
            return {"$text": _TO_ESCAPE.sub(_escape, value)}
        case bool():
            return value
        case int() if not -(2**63) <= value < 2**64:
            return {"$int": hex(value)}
        case float() if not math.isfinite(value):
            return {"$float": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}
    return value


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    return "\\\\" if char == "\\" else f"\\u{ord(char):04x}"


def _put(file: TextIO, line: dict[str, Any]) -> None:
    file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def _time(text: Any) -> datetime:
    """What SQLite's `CURRENT_TIMESTAMP` wrote: UTC."""
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return _EPOCH
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


__all__ = ["ImportedSession", "import_sqlite"]
