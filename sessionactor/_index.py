"""The session files of a directory, by the part of their names that is the id; no I/O."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

from sessionactor import _names as names
from sessionactor._inspecting import Checked
from sessionactor._opening import Identity

Noted: TypeAlias = dict[str, list[str | None]]
"""Id part -> all file names that it had, the present one last."""


class Index:
    """What a scan found, what happened since, and what is known of each file."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self._verified: set[str] = set()  # those that are sessions for certain
        self._identities: dict[str, Identity] = {}  # of those whose names were cut
        self._name_parts: Counter[str] = Counter()
        self._reserved: set[str] = set()  # names given to sessions that are not created yet
        self._noted: Noted | None = None

    def is_verified(self, entry: str) -> bool:
        """Whether it is a session for certain."""
        return entry in self._verified

    def unverified(self, entries: list[str]) -> list[str]:
        """Those of them at which nobody has looked yet."""
        return [entry for entry in entries if entry not in self._verified]

    def identity(self, entry: str) -> Identity:
        """The id and name of a session; of a name that was cut, only once it was looked at."""
        return self._identities.get(entry) or Identity(
            names.parse_id(entry), names.parse_name(entry)
        )

    def unused_name(self) -> str:
        """A generated name that no session has; nobody else is given it."""
        for name in names.new_names():
            if name not in self._reserved and not self._name_parts[name]:
                break
        self._reserved.add(name)
        return name

    def put(self, part: str, entry: str | None) -> None:
        """Take note of a session's file, or that it is gone."""
        removed = self.entries.pop(part, None)
        if self._noted is not None:
            self._noted.setdefault(part, [removed]).append(entry)
        if removed is not None:
            self._verified.discard(removed)
            self._identities.pop(removed, None)
            self._name_parts[names.name_part_of(removed)] -= 1
        if entry is not None:
            self.entries[part] = entry
            self._name_parts[names.name_part_of(entry)] += 1

    def drop(self, entry: str) -> None:
        """Take note that a file is gone, or foreign."""
        part = names.part_of(entry)
        if self.entries.get(part) == entry:  # and not another one by now
            self.put(part, None)

    def place(self, session_id: str, name: str, *, certain: bool = True) -> None:
        """Take note of a session that was created or renamed, perhaps if not `certain`."""
        entry = names.file_name(session_id, name)
        self.put(names.id_part(session_id), entry)
        self._reserved.discard(name)
        if names.is_cut(entry):
            self._identities[entry] = Identity(session_id, name)
        if certain:
            self._verified.add(entry)

    def looked_at(self, checked: Checked) -> None:
        """Take note of what the files said, and drop what is foreign."""
        self._verified.update(checked.sessions)
        self._identities.update(checked.identities)
        for entry in checked.gone:
            self.drop(entry)

    @contextlib.contextmanager
    def noting(self) -> Iterator[Noted]:
        """Note the changes that a scan may have missed."""
        self._noted = {}
        try:
            yield self._noted
        finally:
            self._noted = None

    def take(self, entries: dict[str, str], noted: Noted) -> None:
        """Take what a scan found, and what was noted meanwhile."""
        for part, (*gone, entry) in noted.items():
            if entries.get(part) in gone:  # or others gave it another name
                entries.pop(part, None)
            if entry is not None:
                entries[part] = entry
        self.entries = entries
        self._name_parts = Counter(map(names.name_part_of, entries.values()))
        present = set(entries.values())
        self._verified &= present
        self._identities = {
            entry: identity for entry, identity in self._identities.items() if entry in present
        }


__all__ = ["Index", "Noted"]
