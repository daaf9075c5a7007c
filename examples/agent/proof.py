"""The proof that nothing answered was lost or doubled: a journal, and the files themselves.

The server writes a line for every append that was answered, after it was. The files are read
with `sqlite3` alone, so that nothing of `sessionactor` has to be believed here.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote


class Answered(NamedTuple):
    """An append that the store answered."""

    session_id: str
    key: str
    db_id: int
    size: int
    digest: str
    seconds: float


class Journal:
    """One line for each answered append, in the kernel's hands before anything else happens."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def close(self) -> None:
        """Close the file; nothing waits to be written."""
        os.close(self._descriptor)

    def write(self, session_id: str, key: str, db_id: int, content: str, seconds: float) -> None:
        """Note that this append was answered."""
        data = content.encode()
        line = Answered(session_id, key, db_id, len(data), _digest(data), seconds)
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")


def answered(journals: Sequence[Path]) -> Iterator[Answered]:
    """Every line of the journals; one that a kill cut short says nothing."""
    for journal in journals:
        for line in journal.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield Answered(*json.loads(line))


@dataclass
class Proof:
    """What the files hold, beside what was answered."""

    stored: int = 0
    answered: int = 0
    summaries: int = 0
    content_bytes: int = 0
    problems: list[str] = field(default_factory=list)


def prove(
    directory: Path, journals: Sequence[Path], session_ids: Sequence[str], count: int | None
) -> Proof:
    """Compare the files with the journals; `count`: the messages of each session, once all are."""
    expected: dict[str, dict[str, Answered]] = {session_id: {} for session_id in session_ids}
    proof = Proof()
    for line in answered(journals):
        proof.answered += 1
        known = expected.setdefault(line.session_id, {})
        if line.key in known:
            # It was stored a second time, so what was answered first had been lost.
            proof.problems.append(f"{line.session_id}: {line.key} was answered twice")
        known[line.key] = line
    for path in sorted(directory.glob("*.db")):
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as file:
            (session_id,) = file.execute("SELECT session_id FROM session").fetchone()
            wanted = expected.pop(session_id, {})
            wrong = list(_compare(file, wanted, count, proof))
        proof.problems += [f"{path.name}: {problem}" for problem in wrong]
    proof.problems += [f"{session_id}: has no file" for session_id in expected]
    return proof


def _compare(
    file: sqlite3.Connection, wanted: dict[str, Answered], count: int | None, proof: Proof
) -> Iterator[str]:
    ((health,),) = file.execute("PRAGMA integrity_check(1)").fetchall()
    if health != "ok":
        yield health
    rows = file.execute("SELECT id, key, data, checkpoint FROM messages ORDER BY id").fetchall()
    if [db_id for db_id, *_ in rows] != list(range(1, len(rows) + 1)):
        yield "its ids are not 1, 2, 3 …"
    keys = [key for _, key, *_ in rows]
    if keys != [step_key(number) for number in range(1, len(rows) + 1)]:
        yield "its steps are not each there once, in order"
    if count is not None and len(rows) != count:
        yield f"it has {len(rows)} messages, not {count}"
    for db_id, key, data, checkpoint in rows:
        proof.stored += 1
        proof.summaries += checkpoint
        line = wanted.pop(key, None)
        if line is None:
            continue  # stored, and the answer died with the process
        # msgpack holds a text as its own bytes, and the content stands last in a message.
        content = data[len(data) - line.size :]
        proof.content_bytes += line.size
        if db_id != line.db_id:
            yield f"{key} is row {db_id}, and was answered as row {line.db_id}"
        if _digest(content) != line.digest:
            yield f"{key} has another content than what was answered"
    for key in wanted:
        yield f"{key} was answered and is not there"


def step_key(number: int) -> str:
    """The idempotency key of a conversation's n-th message."""
    return f"step-{number}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
