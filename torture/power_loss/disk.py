"""A disk that loses its power: from what a process did, what may be there afterwards.

A file's content and size are certain as of its last sync, a directory's names as of its own:
syncing a file says nothing of its name. Whatever came later is there or is not, in any mixture:

- each sector, or page, of a file as it was at any moment since its last sync, and its size as
  at any other: dropped, torn, and reordered writes;
- what a file was extended by and not written, as zeros or as anything that was on the disk;
- each new name, renaming or removal by itself (`any`), in the order in which they were made
  (`ordered`: what a journal of metadata keeps), or none, or all. A renaming is atomic.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Final, Literal, NamedTuple

from torture.power_loss.recording import Note

SECTOR: Final = 512
PAGE: Final = 4096

Names = Literal["none", "all", "ordered", "any"]
Contents = Literal["none", "all", "ordered", "pages", "sectors"]
Kind = tuple[Names, Contents]
"""What becomes of the names, and of the contents, that were not synced."""

KINDS: Final[Sequence[Kind]] = (
    ("none", "none"), ("all", "all"), ("all", "none"), ("none", "all"), ("ordered", "ordered"),
    ("any", "all"), ("any", "sectors"), ("ordered", "pages"), ("all", "sectors"), ("any", "none"),
    ("all", "ordered"),
)  # fmt: skip


class Loss(NamedTuple):
    """When the power went, and what became of what was not synced."""

    number: int
    at: int
    """After so many notes."""
    names: Names
    contents: Contents
    rubbish: bool
    """Whether unwritten parts of files hold what was on the disk before."""
    seed: str

    def __str__(self) -> str:
        rubbish = ", rubbish" if self.rubbish else ""
        return f"note {self.at}, names {self.names}, contents {self.contents}{rubbish}"


class Change(NamedTuple):
    """Of a file: what was written where, or (without data) to what size it was brought."""

    time: int
    at: int
    data: bytes | None


class Step(NamedTuple):
    """Of a directory: a name that something got, or lost."""

    time: int
    old: str | None
    new: str | None
    what: File | Directory


@dataclass(eq=False, slots=True)
class File:
    """All that happened to a file."""

    changes: list[Change] = field(default_factory=list)
    syncs: list[int] = field(default_factory=list)
    images: dict[int, bytes] = field(default_factory=dict)

    def image(self, count: int) -> bytes:
        """The content after so many changes."""
        if count not in self.images:
            begin = max((known for known in self.images if known < count), default=0)
            content = bytearray(self.images.get(begin, b""))
            for change in self.changes[begin:count]:
                _apply(content, change)
            self.images[count] = bytes(content)
        return self.images[count]

    def content(self, loss: Loss, since: int, chance: Random) -> bytes:
        """What is there after a loss of power."""
        certain = self._count(_last(self.syncs, loss.at, since))
        last = self._count(loss.at)
        if certain == last or loss.contents == "all":
            return self.image(last)
        if loss.contents == "none":
            return self.image(certain)
        if loss.contents == "ordered":
            return self.image(chance.randint(certain, last))
        unit = PAGE if loss.contents == "pages" else SECTOR
        return self._mixture(certain, last, unit, loss.rubbish, chance)

    def _count(self, time: int) -> int:
        return bisect_right(self.changes, time, key=lambda change: change.time)

    def _mixture(self, certain: int, last: int, unit: int, rubbish: bool, chance: Random) -> bytes:
        """Each unit as it was at a moment of its own.

        But a file that is cut off is that as a whole, or not at all: then nothing that was
        written afterwards is there.
        """
        changes = self.changes[certain:last]
        cuts = self._cuts(certain, last)
        changes = changes[: chance.choice([*cuts, len(changes)])]
        base = self.image(certain)
        now, sizes = bytearray(base), [len(base)]
        versions: dict[int, list[int]] = defaultdict(list)  # unit -> when it changed
        gone: set[int] = set()  # units that cannot be as before any of these changes
        for number, change in enumerate(changes):
            end = change.at + len(change.data) if change.data else max(len(now), change.at)
            places = range(change.at // unit, -(-end // unit))
            _apply(now, change)
            if number in cuts:
                sizes.clear()
                versions.update({place: [] for place in places})
                gone.update(places)
            for place in places:
                versions[place].append(number)
            sizes.append(len(now))
        kept = _kept(versions, gone, chance)
        result = bytearray(base).ljust(max(*sizes, len(base)), b"\0")
        if rubbish:
            result[len(base) :] = chance.randbytes(len(result) - len(base))
        now = bytearray(base)
        for number, change in enumerate(changes):
            _apply(now, change)
            for place in kept[number]:
                piece = now[place * unit : (place + 1) * unit]
                room = len(result[place * unit : (place + 1) * unit])
                result[place * unit : place * unit + room] = piece.ljust(room, b"\0")
        size = chance.choice([sizes[-1], sizes[-1], sizes[-1], sizes[0], chance.choice(sizes)])
        return bytes(result[:size])

    def _cuts(self, certain: int, last: int) -> list[int]:
        """Which of these changes cut something off."""
        size, cuts = len(self.image(certain)), []
        for number, (_, at, data) in enumerate(self.changes[certain:last]):
            if data is None and at < size:
                cuts.append(number)
            size = at if data is None else max(size, at + len(data))
        return cuts


def _kept(
    versions: Mapping[int, Sequence[int]], gone: set[int], chance: Random
) -> Mapping[int, list[int]]:
    """After which change each unit is as it was then; one that is not named is as before all."""
    share = chance.choice([0.05, 0.3, 0.6, 0.9, 0.98])
    kept: dict[int, list[int]] = defaultdict(list)
    for place, numbers in versions.items():
        if chance.random() < share:
            newest = chance.random() < 0.7
            kept[numbers[-1] if newest else chance.choice(numbers)].append(place)
        elif place in gone:
            kept[numbers[0]].append(place)
    return kept


@dataclass(eq=False, slots=True)
class Directory:
    """All that happened to the names of a directory."""

    steps: list[Step] = field(default_factory=list)
    syncs: list[int] = field(default_factory=list)

    def entries(self, loss: Loss, since: int, chance: Random) -> dict[str, File | Directory]:
        """What has a name in it after a loss of power."""
        certain = _last(self.syncs, loss.at, since)
        steps = [step for step in self.steps if step.time <= certain]
        steps += _some([s for s in self.steps if certain < s.time <= loss.at], loss.names, chance)
        found: dict[str, File | Directory] = {}
        for step in steps:
            if step.old is not None and found.get(step.old) is step.what:
                del found[step.old]
            if step.new is not None:
                found[step.new] = step.what
        return found


def _some(steps: list[Step], names: Names, chance: Random) -> Iterable[Step]:
    match names:
        case "none":
            return []
        case "all":
            return steps
        case "ordered":
            return steps[: chance.randint(0, len(steps))]
        case "any":
            return [step for step in steps if chance.random() < 0.5]


def _last(times: Sequence[int], before: int, since: int) -> int:
    """The last of them that is not after `before`, or `since`."""
    index = bisect_right(times, before)
    return max(times[index - 1], since) if index else since


def _apply(content: bytearray, change: Change) -> None:
    _, at, data = change
    if len(content) < at:
        content.extend(bytes(at - len(content)))
    if data is None:
        del content[at:]
    else:
        content[at : at + len(data)] = data


class Disk:
    """What a process did below a directory, which its first note tells, and from when on."""

    def __init__(self, notes: Sequence[Note]) -> None:
        self.notes = notes
        self.since = 0
        self._root = Directory()
        self._directories = {notes[0].path: self._root}
        self._live: dict[int, File | Directory] = {notes[0].inode: self._root}
        for time, note in enumerate(notes[1:], start=2):
            self._take(time, note)

    def _take(self, time: int, note: Note) -> None:
        what = self._live.get(note.inode)
        match note.what:
            case "w" if isinstance(what, File):
                what.changes.append(Change(time, note.at, note.data))
            case "t" if isinstance(what, File):
                what.changes.append(Change(time, note.at, None))
            case "s" if what is not None:
                what.syncs.append(time)
            case "m":
                if note.data == b"start":
                    self.since = time
            case _:
                self._take_name(time, note)

    def _take_name(self, time: int, note: Note) -> None:
        match note.what:
            case "c":
                self._name(time, note.path, note.inode, File())
            case "d":
                self._directories[note.path] = directory = Directory()
                self._name(time, note.path, note.inode, directory)
            case "l":
                self._step(time, None, note.new_path, self._named(note.path))
            case "r":
                self._step(time, note.path, note.new_path, self._named(note.path))
            case "u" | "x":
                self._step(time, note.path, None, self._named(note.path))
            case _:
                raise ValueError(f"of a file that nobody made: {note}")

    def _name(self, time: int, path: str, inode: int, what: File | Directory) -> None:
        self._live[inode] = what
        self._step(time, None, path, what)

    def _named(self, path: str) -> File | Directory:
        place, name = os.path.split(path)
        found = [s for s in self._directories[place].steps if name in (s.old, s.new)]
        assert found[-1].new == name, path
        return found[-1].what

    def _step(self, time: int, old: str | None, new: str | None, what: File | Directory) -> None:
        place = os.path.dirname(old or new or "")
        assert new is None or os.path.dirname(new) == place, "moved to another directory"
        old, new = (path and os.path.basename(path) for path in (old, new))
        self._directories[place].steps.append(Step(time, old, new, what))

    def losses(self, chance: Random, kinds: Sequence[Kind] = KINDS) -> Iterable[Loss]:
        """Losses of power after `since`, without end: at moments that matter more often."""
        times = list(range(self.since, len(self.notes) + 1))
        mixed, plain = self._mixable(times), [self._weight(time) for time in times]
        for number in count():
            names, contents = kinds[number % len(kinds)]
            (at,) = chance.choices(times, mixed if names in ("any", "ordered") else plain)
            yield Loss(number, at, names, contents, chance.random() < 0.3, f"{chance.random()}")

    def _weight(self, time: int) -> float:
        """Answers and syncs are what promises hang on."""
        before = self.notes[time - 1].what if time else "m"
        after = self.notes[time].what if time < len(self.notes) else "s"
        is_new = any(note.what == "c" for note in self.notes[max(time - 3, 0) : time])
        return 1 + 6 * (before == "m" or is_new) + 4 * (before in "lrusd") + 4 * (after == "s")

    def _mixable(self, times: Sequence[int]) -> list[float]:
        """There is something to mix where several names changed since they were synced."""
        waiting: dict[int, float] = defaultdict(float)
        for directory in self._directories.values():
            steps = {step.time for step in directory.steps}
            unsynced = 0
            for time in range(1, len(self.notes) + 1):
                unsynced = 0 if time in directory.syncs else unsynced + (time in steps)
                if time in steps and unsynced > 1:
                    waiting[time] += 10 * (unsynced - 1)
        return [0.1 * self._weight(time) + waiting[time] for time in times]

    def after(self, loss: Loss) -> Left:
        """What there is after a loss of power, by relative path."""
        found: dict[File, str] = {}
        left: Left = {}
        chance = Random(loss.seed)

        def collect(place: Directory, path: str) -> None:
            for name, what in place.entries(loss, self.since, chance).items():
                if isinstance(what, Directory):
                    left[path + name] = None
                    collect(what, f"{path}{name}/")
                elif what in found:
                    left[path + name] = found[what]
                else:
                    found[what] = path + name
                    left[path + name] = what.content(loss, self.since, chance)

        collect(self._root, "")
        return left


Left = dict[str, bytes | str | None]
"""By relative path: a file's content, the other name of a file, or `None`: a directory."""


def materialise(left: Left, root: Path) -> None:
    """Make files of what there is."""
    root.mkdir()
    for path, content in left.items():
        if content is None:
            (root / path).mkdir()
        elif isinstance(content, str):
            (root / path).hardlink_to(root / content)
        else:
            descriptor = os.open(root / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                os.write(descriptor, content)
            finally:
                os.close(descriptor)
