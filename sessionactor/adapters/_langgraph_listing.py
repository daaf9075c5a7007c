"""All threads of LangGraph in a directory, and the latest chapter of each."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Final

from sessionactor import Page, SessionInfo, SessionNotFoundError, SessionRegistry
from sessionactor.adapters._langgraph_threads import is_cut, session_id_of, threads_of

_AT_ONCE: Final = 256
"""Threads that are looked for together."""


async def all_threads(registry: SessionRegistry) -> AsyncIterator[str]:
    """The ids of all threads of a directory, the one that changed last first."""
    async for infos in _sessions(registry, _AT_ONCE):
        for info in infos:
            yield await _thread_id_of(registry, info.session_id)


async def latest_of_all(
    registry: SessionRegistry, limit: int | None
) -> AsyncIterator[tuple[str, Page]]:
    """The same, and the latest chapter of each; `limit`: so many threads are enough, perhaps."""
    latest = threads_of(registry).latest
    at_once = _AT_ONCE if limit is None else max(1, min(limit, _AT_ONCE))
    async for infos in _sessions(registry, at_once):
        pages = {info.session_id: latest.get(info) for info in infos}
        wanted = [session_id for session_id, page in pages.items() if page is None]
        read = await registry.latest_chapters(wanted) if wanted else {}
        for info in infos:
            if info.session_id in read:
                latest.put(info, read[info.session_id])
        pages |= read
        for session_id, page in pages.items():
            if page is not None:  # or it was removed meanwhile
                yield await _thread_id_of(registry, session_id), page


async def _sessions(registry: SessionRegistry, at_once: int) -> AsyncIterator[list[SessionInfo]]:
    seen: set[str] = set()
    cursor = None
    while True:
        found, cursor = await registry.sessions(
            metadata={"framework": "langgraph"}, limit=at_once, cursor=cursor
        )
        infos = {info.session_id: info for info in found if info.session_id not in seen}
        yield list(infos.values())
        seen.update(infos)
        if cursor is None:
            return


async def _thread_id_of(registry: SessionRegistry, session_id: str) -> str:
    if is_cut(session_id):
        try:
            mark = (await registry.session(session_id).get_metadata()).get("thread_id")
        except SessionNotFoundError:
            return session_id  # removed meanwhile
        if mark is not None and session_id_of(thread_id := json.loads(mark)) == session_id:
            return str(thread_id)
    return session_id
