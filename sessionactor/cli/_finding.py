"""Which session is meant: by its id, by its name, by the beginning of an id, or by a glob."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sessionactor import (
    AmbiguousNameError,
    InvalidNameError,
    SessionFile,
    SessionNotFoundError,
    SessionRegistry,
)
from sessionactor.cli._exits import FailedError

_LISTED: Final = 10
_WILD: Final = frozenset("*?[")


async def one(registry: SessionRegistry, text: str) -> SessionFile:
    """The one session that is meant.

    Raises:
        FailedError: there is none, or several.
    """
    found = await _meant(registry, text)
    if not found:
        raise FailedError(f"no session is called {text!r}, by its id or name", session=text)
    if len(found) > 1:
        raise FailedError(
            f"{text!r} means {len(found)} sessions, and one is wanted:{_listed(found)}",
            session=text,
            session_ids=[file.session_id for file in found],
        )
    return found[0]


async def several(
    registry: SessionRegistry, texts: Iterable[str], *, everything: bool = False
) -> list[SessionFile]:
    """All sessions that are meant, each once; a glob means all that it matches.

    Raises:
        FailedError: something means no session; or several, and is no glob.
    """
    if everything:
        return await registry.find("*")
    files: dict[str, SessionFile] = {}
    for text in texts:
        found = [await one(registry, text)] if not _is_glob(text) else await _meant(registry, text)
        if not found:
            raise FailedError(f"no session matches {text!r}, by its id or name", session=text)
        files.update((file.session_id, file) for file in found)
    return list(files.values())


async def _meant(registry: SessionRegistry, text: str) -> Sequence[SessionFile]:
    try:
        return [await registry.find_by_id(text)]
    except (SessionNotFoundError, InvalidNameError):
        pass
    try:
        return [await registry.find_by_name(text)]
    except AmbiguousNameError as error:
        return [await registry.find_by_id(session_id) for session_id in error.session_ids]
    except (SessionNotFoundError, InvalidNameError):
        pass
    named = await registry.find(text) if _is_glob(text) else []
    return named or (await registry.find_by_prefix(text) if text else [])


def _is_glob(text: str) -> bool:
    return not _WILD.isdisjoint(text)


def _listed(files: Sequence[SessionFile]) -> str:
    lines = [f"\n  {file.session_id}  {file.name}" for file in files[:_LISTED]]
    if len(files) > _LISTED:
        lines.append(f"\n  and {len(files) - _LISTED} more")
    return "".join(lines)


__all__ = ["one", "several"]
