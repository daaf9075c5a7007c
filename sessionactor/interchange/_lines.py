"""The lines of a file that may be damaged in any way, one at a time."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from sessionactor.interchange._reports import Problems

_BOM: Final = b"\xef\xbb\xbf"
_PIECE_BYTES: Final = 1 << 20


class Line(NamedTuple):
    """A line of text."""

    number: int
    """From 1."""
    text: str | None
    """`None`: it is none, and was told of."""
    is_torn: bool
    """Whether it does not end: the file was perhaps cut off in it."""


class Lines:
    """Reads a file from its beginning, and tells what is no line of text."""

    def __init__(self, file: BinaryIO, problems: Problems, max_line_bytes: int) -> None:
        self._file = file
        self._problems = problems
        self._max_line_bytes = max_line_bytes
        self._hash = hashlib.blake2b(digest_size=16)
        self._told_of_crlf = False
        self.bytes_read = 0

    def fingerprint(self) -> str:
        """Of all the bytes read so far."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[Line]:
        self._file.seek(0)
        number = 0
        while raw := self._read(self._max_line_bytes + 1):
            number += 1
            yield Line(number, self._text(number, raw), is_torn=not raw.endswith(b"\n"))
        if number == 0:
            self._problems.add(None, "the file is empty")

    def _read(self, limit: int) -> bytes:
        raw = self._file.readline(limit)
        self.bytes_read += len(raw)
        self._hash.update(raw)
        return raw

    def _text(self, number: int, raw: bytes) -> str | None:
        if len(raw) > self._max_line_bytes:
            size = self._skip_rest(raw)
            self._problems.add(
                number, f"a line of {size} bytes; at most {self._max_line_bytes} are read"
            )
            return None
        if number == 1 and raw.startswith(_BOM):
            self._problems.add(number, "the file begins with a byte order mark")
            raw = raw[len(_BOM) :]
        if raw.endswith(b"\r\n") and not self._told_of_crlf:
            self._told_of_crlf = True
            self._problems.add(number, "the line ends with CRLF; others may as well")
        is_whole = raw.endswith(b"\n")
        raw = raw.strip(b"\r\n\t ")
        if not raw:
            self._problems.add(number, "the line is blank")
            return None
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            torn = "" if is_whole else "cut off: "
            self._problems.add(number, f"{torn}not UTF-8: {error.reason} at byte {error.start + 1}")
            return None

    def _skip_rest(self, raw: bytes) -> int:
        size = len(raw)
        while not raw.endswith(b"\n") and (raw := self._read(_PIECE_BYTES)):
            size += len(raw)
        return size


class Seen:
    """Which texts came before, and in which line; many of them go to a temporary file."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None

    def first_line(self, text: str, line: int) -> int | None:
        """The line in which the text came before; `None`: it comes for the first time."""
        if self._connection is None:
            self._connection = sqlite3.connect("", isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = OFF")
            self._connection.execute(
                "CREATE TABLE seen (text TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID"
            )
            self._connection.execute("BEGIN")
        execute = self._connection.execute
        if execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (text, line)).rowcount:
            return None
        (first,) = execute("SELECT line FROM seen WHERE text = ?", (text,)).fetchone()
        return int(first)

    def close(self) -> None:
        """Forget all of it."""
        if self._connection is not None:
            self._connection.close()


class Unseen(Seen):
    """Nothing comes twice: that was checked before."""

    def first_line(self, text: str, line: int) -> int | None:
        """Nowhere."""
        return None


__all__ = ["Line", "Lines", "Seen", "Unseen"]
