"""Reading a file of any format, some lines at a time: damage is told of, the rest are items."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeAlias

from sessionactor._changes import WholeRow
from sessionactor.interchange._content import Heading, Item
from sessionactor.interchange._events import EventsReader
from sessionactor.interchange._files import open_regular
from sessionactor.interchange._foreign import Reading
from sessionactor.interchange._from_json import BadLineError
from sessionactor.interchange._lines import Lines, Seen, Unseen
from sessionactor.interchange._loop import LoopReader
from sessionactor.interchange._native import BadFileError, NativeReader
from sessionactor.interchange._reports import Format, Problems

BATCH_BYTES: Final = 1 << 20
"""Of a file, read at once."""
_MOST_LINES: Final = 1000
_LINE_BYTES_EACH: Final = 9
"""How many bytes of text a byte of an encoded message becomes at most."""
_LINE_BYTES_MORE: Final = 8 << 20
"""For the rest of a line: its key, its agent and so on."""


class Reader(Protocol):
    """Makes items of lines."""

    def take(self, number: int, text: str) -> Sequence[Item]:
        """The items of a line."""

    def finish(self) -> Heading | None:
        """The heading, once all lines were taken."""


NewReader: TypeAlias = Callable[[Problems, Reading, Seen], Reader]

READERS: Final[dict[Format, NewReader]] = {
    "sessionactor": lambda problems, reading, seen: NativeReader(
        problems, reading.max_message_bytes, seen
    ),
    "events": EventsReader,
    "loop": LoopReader,
}


class Batch(NamedTuple):
    """Some items, and the line of each."""

    items: list[Item]
    lines: list[int]


class SourceFile:
    """A file to be imported; all calls block, and belong to one thread."""

    def __init__(
        self, path: Path, format: Format, agent_id: str, max_message_bytes: int, *, follow: bool
    ) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be read.
        """
        self.path = path
        self._file = open_regular(path, follow=follow)
        status = os.fstat(self._file.fileno())
        self.size = status.st_size
        self._new_reader = READERS[format]
        self._reading = Reading(path.name, status.st_mtime_ns // 1000, agent_id, max_message_bytes)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def begin(self, *, checked: bool = False) -> Pass:
        """Read it from its beginning; `checked`: no key in it is there twice."""
        problems = Problems(self.path)
        most = self._reading.max_message_bytes
        lines = Lines(self._file, problems, most * _LINE_BYTES_EACH + _LINE_BYTES_MORE)
        seen = Unseen() if checked else Seen()
        return Pass(lines, problems, self._new_reader(problems, self._reading, seen), seen)


class Pass:
    """Reads a file once; what cannot be read becomes a problem."""

    heading: Heading | None = None
    """Once all was read; `None`: nothing can be made of the file."""

    def __init__(self, lines: Lines, problems: Problems, reader: Reader, seen: Seen) -> None:
        self.problems = problems
        self.messages = 0
        self._lines = lines
        self._reader = reader
        self._seen = seen
        self._batches = self._read()

    @property
    def bytes_read(self) -> int:
        """How far it is."""
        return self._lines.bytes_read

    def fingerprint(self) -> str:
        """Of what was read so far."""
        return self._lines.fingerprint()

    def next(self) -> Batch | None:
        """Some more of it; `None` at the end."""
        return next(self._batches, None)

    def close(self) -> None:
        """Read no more of it."""
        self._seen.close()

    def _read(self) -> Iterator[Batch]:
        batch, begun_at, since = Batch([], []), 0, 0
        for number, text, is_torn in self._lines:
            since += 1
            try:
                items = () if text is None else self._reader.take(number, text)
            except BadFileError as error:
                self.problems.add(number, str(error))
                return
            except BadLineError as error:
                self.problems.add(number, f"cut off: {error}" if is_torn else str(error))
                continue
            for item in items:
                batch.items.append(item)
                batch.lines.append(number)
                self.messages += isinstance(item, WholeRow)
            if self.bytes_read - begun_at >= BATCH_BYTES or since >= _MOST_LINES:
                yield batch
                batch, begun_at, since = Batch([], []), self.bytes_read, 0
        self.heading = self._reader.finish()
        yield batch


__all__ = ["Batch", "Pass", "SourceFile"]
