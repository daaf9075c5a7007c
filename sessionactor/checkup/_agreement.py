"""Whether the catalog says what the files say."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, NamedTuple

from sessionactor import _names as names
from sessionactor._errors import SessionError, SessionNotFoundError
from sessionactor._records import SessionInfo
from sessionactor._registry import SessionRegistry
from sessionactor.checkup._finding import Finding

_PAGE: Final = 100_000
_LOOKS: Final = 3
_SETTLING_S: Final = 0.5
"""Between two looks: the catalog follows what is committed, a moment later."""
_ELSEWHERE: Final = frozenset({"path", "active"})
"""Fields that are not the catalog's."""
_REMEDY: Final = "build the catalog anew"


class _Difference(NamedTuple):
    path: Path | None
    revision: int | None
    """Of the session as its file says; where that moves on, the catalog is just behind."""
    detail: str


def has_catalog(directory: str | os.PathLike[str]) -> bool:
    """Whether a catalog is kept there; otherwise who only reads looks at every file."""
    return os.path.lexists(os.path.join(directory, names.CATALOG_FILE))


async def check_catalog(
    registry: SessionRegistry, progress: Callable[[int, int], None] | None = None
) -> list[Finding]:
    """Compare what the catalog says of each session with what the session itself says.

    What is in use changes meanwhile: only what stays different counts. `repair` does nothing
    about these findings, `SessionRegistry.rebuild_catalog` does.

    Args:
        registry: Of the directory; one that reads only will do. Sessions that another process
            owns are left out unless it reads only.
        progress: Is told `(done, of)`, in sessions.

    Raises:
        NoCatalogError: it was told to have none.
        StorageError: the catalog can be neither read nor made anew.
    """
    found = await _compare(registry, None, progress)
    for _ in range(_LOOKS - 1):
        if not found:
            break
        await asyncio.sleep(_SETTLING_S)
        before, found = found, await _compare(registry, found, None)
        for session_id in [*found]:
            if found[session_id].revision != before[session_id].revision:
                del found[session_id]  # somebody is at work on it
    return [
        Finding("catalog", path or Path(), session_id, detail, _REMEDY)
        for session_id, (path, _, detail) in sorted(found.items())
    ]


async def _compare(
    registry: SessionRegistry,
    among: Collection[str] | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, _Difference]:
    files = {file.session_id: file for file in await registry.find("*")}
    listed = await _listed(registry)
    found: dict[str, _Difference] = {}
    chosen = files.keys() | listed.keys() if among is None else among
    for done, session_id in enumerate(chosen, 1):
        difference = await _difference(registry, session_id, listed.get(session_id))
        if difference is not None:
            found[session_id] = difference
        if progress is not None:
            progress(done, len(chosen))
    return found


async def _difference(
    registry: SessionRegistry, session_id: str, listed: SessionInfo | None
) -> _Difference | None:
    try:
        info = await registry.session(session_id).info()
    except SessionNotFoundError:
        if listed is None:
            return None
        return _Difference(listed.path, None, "the catalog has it, and there is no such session")
    except SessionError:
        return None  # a check of the files says why
    if listed is None:
        return _Difference(info.path, info.revision, "the catalog does not have it")
    different = [
        name
        for name in SessionInfo._fields
        if name not in _ELSEWHERE and getattr(info, name) != getattr(listed, name)
    ]
    if not different:
        return None
    said = ", ".join(
        f"{name} {getattr(listed, name)!s} instead of {getattr(info, name)!s}" for name in different
    )
    return _Difference(info.path, info.revision, f"the catalog says: {said}")


async def _listed(registry: SessionRegistry) -> dict[str, SessionInfo]:
    found: dict[str, SessionInfo] = {}
    cursor = None
    while True:
        page = await registry.sessions(order="created", limit=_PAGE, cursor=cursor)
        found.update((info.session_id, info) for info in page.sessions)
        cursor = page.cursor
        if cursor is None:
            return found


__all__ = ["check_catalog", "has_catalog"]
