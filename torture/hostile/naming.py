"""Ids, names, patterns and prefixes: one file each, inside of the directory, or a refusal."""

from __future__ import annotations

import fnmatch
import os
import unicodedata
from contextlib import AsyncExitStack
from random import Random
from types import TracebackType
from typing import Any, Final, Self

from sessionactor import InvalidNameError, SessionError, SessionExistsError, SessionRegistry
from sessionactor import _names as names
from torture.hostile import garbage
from torture.hostile.area import Bystander, Places, answer, broken

_PURE: Final = 60
_STARTED: Final = 3
_PATTERNS: Final = 4
_KEPT: Final = ("plain", "with space", "UPPER", "ümlaut", "[brackets]", "star*", "a" * 200, "日本")


class Naming:
    """A registry whose sessions are called anything."""

    def __init__(self, places: Places) -> None:
        self._directory = places.sessions
        self._stack = AsyncExitStack()
        self._ids: dict[str, str] = {}
        """By what a forgetful file system would make of its file name."""

    async def __aenter__(self) -> Self:
        registry = SessionRegistry(self._directory, durability="normal")
        self._registry = await self._stack.enter_async_context(registry)
        self._bystander = await Bystander.start(registry)
        for number, name in enumerate(_KEPT):
            await registry.start(f"kept-{number}", name=name)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def round(self, chance: Random) -> int:
        for _ in range(_PURE):
            self._pure(garbage.text(chance, 4), garbage.text(chance, 4))
            names.parse(garbage.text(chance, 4) + chance.choice(["", ".db", "_x.db"]))
        for _ in range(_STARTED):
            await self._start(_text(chance), _text(chance))
        for _ in range(_PATTERNS):
            await self._find(_text(chance), chance)
        await self._bystander.check()
        return _PURE * 3 + _STARTED * 2 + _PATTERNS

    def _pure(self, session_id: str, name: str) -> None:
        if not (_can_be(session_id) and _can_be(name)):
            for text in (session_id, name):
                try:
                    names.check(text, "name")
                except InvalidNameError:
                    continue
                if not _can_be(text):
                    broken("what cannot be a name was taken for one", text)
            return
        entry = names.file_name(session_id, name)
        if "/" in entry or entry.startswith(".") or len(os.fsencode(entry + "-journal")) > 255:
            broken(f"its file would be {entry!r}", (session_id, name))
        parsed = names.parse(entry)
        if parsed is None:
            broken(f"{entry!r} is no name of a session's file", (session_id, name))
        elif not (parsed.session_id in (None, session_id) and parsed.name in (None, name)):
            broken(f"its file, {entry!r}, says that it is of {parsed}", (session_id, name))
        part = names.id_part(session_id)
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", part).casefold())
        if self._ids.setdefault(folded, session_id) != session_id:
            broken(f"{self._ids[folded]!r} has the same file, {part!r}", session_id)

    async def _start(self, session_id: Any, name: Any) -> None:
        before = set(os.listdir(self._directory))
        started = await answer(self._registry.start(session_id, name=name))
        may_be = all(text is None or _can_be(text) for text in (session_id, name))
        if isinstance(started, SessionError):
            if may_be and not isinstance(started, SessionExistsError):
                broken(f"it was refused: {started!r:.200}", (session_id, name))
            if set(os.listdir(self._directory)) != before:
                broken("it was refused, and left a file", (session_id, name))
            await answer(self._registry.find_by_name(name))
            return
        session_id, path = started.session_id, started.path
        made = [entry for entry in set(os.listdir(self._directory)) - before if "-" not in entry]
        if not may_be or path is None or path.parent != self._directory or not path.is_file():
            broken(f"it got the file {path}", (session_id, name))
        elif any(entry not in (path.name, *_side(path.name)) for entry in made):
            broken(f"beside {path.name!r} there are {made!r}", (session_id, name))
        found = await self._registry.find_by_id(session_id)
        if (found.session_id, found.name) != (session_id, started.name):
            broken(f"found was {found!r}", (session_id, name))
        prefixed = await self._registry.find_by_prefix(session_id)
        if found not in prefixed or not all(
            other.session_id.startswith(session_id) for other in prefixed
        ):
            broken(f"found were {prefixed!r}", (session_id, name))
        await self._registry.stop(session_id)
        if await started.append("one", {}) != 1 or not await self._registry.delete(session_id):
            broken("it does not take a message, or is not to be deleted", (session_id, name))
        if set(os.listdir(self._directory)) - before:
            broken("deleting left a file", (session_id, name))

    async def _find(self, pattern: Any, chance: Random) -> None:
        if isinstance(pattern, str) and chance.random() < 0.2:
            pattern *= chance.choice([5, 50, 500])
        found = await answer(self._registry.find(pattern))
        if isinstance(found, SessionError):
            if isinstance(pattern, str) and len(pattern) <= 1000:
                broken(f"a pattern was refused: {found!r}", pattern)
            return
        matching = {name for name in (*_KEPT, "bystander") if fnmatch.fnmatchcase(name, pattern)}
        if {file.name for file in found} != matching:
            broken(f"found was {found!r:.200}, not {matching!r}", pattern)
        listed = await answer(self._registry.sessions(name=pattern))
        if isinstance(listed, SessionError):
            if _can_be(pattern):
                broken(f"a listing by a pattern was refused: {listed!r}", pattern)
        elif {info.name for info in listed.sessions} != matching:
            broken(f"listed was {listed!r:.200}, not {matching!r}", pattern)


def _text(chance: Random) -> Any:
    kind = chance.random()
    if kind < 0.05:
        return garbage.odd(chance)
    if kind < 0.1:
        return "*a" * chance.choice([3, 30, 90]) + chance.choice("b*?")
    if kind < 0.2:
        return "".join(chance.choice("*?[]!-^a/\\{}.") for _ in range(chance.randrange(40)))
    return garbage.text(chance, 5)


def _can_be(text: Any) -> bool:
    if not isinstance(text, str) or "\0" in text:
        return False
    return 1 <= len(text) <= 200 and not any("\ud800" <= char <= "\udfff" for char in text)


def _side(entry: str) -> list[str]:
    return [entry + suffix for suffix in names.SIDE_FILES]
