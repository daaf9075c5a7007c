"""Transcripts of the Claude Agent SDK, kept here: `ActorSessionStore`.

A conversation is one session, its subagents included: an entry is a message, as it is; who says
it is `main`, or `main/<subpath>` of a subagent. Where a conversation was compacted is a
checkpoint, so that chapters end there.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, cast

from claude_agent_sdk import (
    SessionKey,
    SessionListSubkeysKey,
    SessionStoreEntry,
    SessionStoreListEntry,
    SessionSummaryEntry,
    fold_session_summary,
)

from sessionactor import (
    Batch,
    IdempotencyError,
    Session,
    SessionNotFoundError,
    SessionRegistry,
    StaleRevisionError,
)
from sessionactor.adapters._holding import Held
from sessionactor.adapters._settling import settled

MAIN: Final = "main"

_PROJECT: Final = "claude.project"
_SESSION: Final = "claude.session"
_SUMMARY: Final = "claude.summary"
_MTIME: Final = "claude.mtime"
_SUBKEY: Final = "claude.subkey."
_ID_CHARACTERS: Final = 200
_PAGE: Final = 500


class ActorSessionStore(Held):
    """A `SessionStore`: `ClaudeAgentOptions(session_store=ActorSessionStore("sessions"))`.

    What `append` returned for is on disk, all of a batch or nothing; cancelled, it is carried out
    whole. An entry whose `uuid` is there already is passed over, so that a batch can be repeated.

    It needs no closing: `asyncio.run` closes what is left open.

    Args:
        where: An open registry, or the directory of one.
    """

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Store entries, all in one commit, but for those whose `uuid` is there already."""
        if entries:
            await settled(self._append(key, list(entries)))

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """All entries of a transcript, in order; `None` where there are none."""
        session = await self.session(key)
        try:
            rows = await session.messages(agent_id=agent_of(key))
        except SessionNotFoundError:
            return None
        return [cast(SessionStoreEntry, row.message) for row in rows] or None

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """The sessions of a project, and when their main transcripts were last appended to."""
        return [
            {"session_id": session_id, "mtime": mtime}
            async for session_id, mtime, _ in self._listed(project_key)
        ]

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """The sessions of a project and their summaries; no transcript is read."""
        return [
            {"session_id": session_id, "mtime": mtime, "data": json.loads(summary)}
            async for session_id, mtime, summary in self._listed(project_key)
        ]

    async def delete(self, key: SessionKey) -> None:
        """Remove a conversation with its subagents, or, with a `subpath`, that transcript only."""
        if _subpath(key) is None:
            registry = await self.registry()
            await registry.delete(session_id_of(key))
        else:
            await settled(self._delete_transcript(key))

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """The subpaths of a session that have entries."""
        session = await self.session(cast(SessionKey, key))
        try:
            metadata = await session.get_metadata()
        except SessionNotFoundError:
            return []
        return [
            name.removeprefix(_SUBKEY)
            for name, generation in metadata.items()
            if name.startswith(_SUBKEY) and not _is_deleted(generation)
        ]

    async def registry(self) -> SessionRegistry:
        """The registry, open: listing, searching, cleaning up."""
        return await self._holding.registry()

    async def session(self, key: SessionKey) -> Session:
        """The session that a conversation is here: rows, chapters, forks, events. No I/O."""
        return (await self.registry()).session(session_id_of(key))

    async def _append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        session = await self.session(key)
        entries = list(_first_of_each(entries))
        while entries:
            try:
                revision = await session.revision()
                metadata = await session.get_metadata()
                async with session.batch(expected_revision=revision) as batch:
                    _collect(batch, key, entries, metadata)
            except SessionNotFoundError:
                await (await self.registry()).start(session_id_of(key))
            except StaleRevisionError:
                continue  # the summary is folded anew
            except IdempotencyError as error:  # there, though not the same: what was first stays
                prefix = _prefix(key, metadata)
                entries = [one for one in entries if _key_of(one, prefix) != error.key]
            else:
                return

    async def _delete_transcript(self, key: SessionKey) -> None:
        session = await self.session(key)
        while True:
            try:
                revision = await session.revision()
                generation = (await session.get_metadata()).get(_SUBKEY + key["subpath"])
                rows = await session.messages(agent_id=agent_of(key))
                if generation is None or _is_deleted(generation):
                    return
                async with session.batch(expected_revision=revision) as batch:
                    batch.remove([row.db_id for row in rows])
                    batch.save_metadata({_SUBKEY + key["subpath"]: f"-{generation}"})
            except SessionNotFoundError:
                return
            except StaleRevisionError:
                continue
            return

    async def _listed(self, project_key: str) -> AsyncIterator[tuple[str, int, str]]:
        """Ids, times in milliseconds and summaries of a project's main transcripts."""
        registry = await self.registry()
        cursor = None
        while True:
            page = await registry.sessions(
                metadata={_PROJECT: project_key}, order="created", limit=_PAGE, cursor=cursor
            )
            ids = [info.session_id for info in page.sessions]
            for metadata in (await registry.metadata(ids)).values():
                session_id, mtime = metadata.get(_SESSION), metadata.get(_MTIME)
                summary = metadata.get(_SUMMARY)
                if session_id is not None and mtime is not None and summary is not None:
                    yield session_id, int(mtime), summary
            cursor = page.cursor
            if cursor is None:
                return


def session_id_of(key: SessionKey) -> str:
    """The id of the session that a conversation is: `<project_key>/<session_id>`."""
    project = key["project_key"].replace("%", "%25").replace("/", "%2F")
    whole = f"{project}/{key['session_id']}"
    if len(whole) <= _ID_CHARACTERS:
        return whole
    digest = blake2b(whole.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"{whole[: _ID_CHARACTERS - len(digest) - 1]}~{digest}"


def agent_of(key: SessionKey) -> str:
    """Who says what is in a transcript: `main`, or `main/<subpath>`."""
    subpath = _subpath(key)
    return MAIN if subpath is None else f"{MAIN}/{subpath}"


def _collect(
    batch: Batch,
    key: SessionKey,
    entries: Sequence[SessionStoreEntry],
    metadata: Mapping[str, str | None],
) -> None:
    prefix = _prefix(key, metadata)
    for entry in entries:
        message = cast("Mapping[str, Any]", entry)
        parent = message.get("parentUuid")
        batch.append(
            agent_of(key),
            message,
            key=_key_of(entry, prefix),
            checkpoint=message.get("isCompactSummary") is True,
            parent=parent if isinstance(parent, str) and parent else None,
        )
    changes = {_PROJECT: key["project_key"], _SESSION: key["session_id"]}
    subpath = _subpath(key)
    if subpath is None:
        changes |= _folded(key, list(entries), metadata)
    else:
        changes[_SUBKEY + subpath] = _generation(metadata.get(_SUBKEY + subpath))
    batch.save_metadata(changes)


def _folded(
    key: SessionKey, entries: list[SessionStoreEntry], metadata: Mapping[str, str | None]
) -> dict[str, str]:
    """The summary with these entries, and its time: later than any before it."""
    mtime = int(metadata.get(_MTIME) or 0)
    summary = metadata.get(_SUMMARY)
    before: SessionSummaryEntry | None = None
    if summary is not None:
        before = {"session_id": key["session_id"], "mtime": mtime, "data": json.loads(summary)}
    folded = fold_session_summary(before, key, entries)
    now = max(time.time_ns() // 1_000_000, mtime + 1)
    return {_SUMMARY: json.dumps(folded["data"]), _MTIME: str(now)}


def _first_of_each(entries: Sequence[SessionStoreEntry]) -> Iterator[SessionStoreEntry]:
    """The entries, those of one `uuid` once."""
    seen = set()
    for entry in entries:
        uuid = _key_of(entry, "")
        if uuid is None or uuid not in seen:
            seen.add(uuid)
            yield entry


def _key_of(entry: SessionStoreEntry, prefix: str) -> str | None:
    uuid = entry.get("uuid")
    return prefix + uuid if isinstance(uuid, str) and uuid else None


def _prefix(key: SessionKey, metadata: Mapping[str, str | None]) -> str:
    """What is put before a `uuid`: a key is for the life of a session, and of one transcript."""
    subpath = _subpath(key)
    if subpath is None:
        return ""
    return f"{subpath}/{_generation(metadata.get(_SUBKEY + subpath))}/"


def _generation(value: str | None) -> str:
    """How many transcripts of that subpath were deleted; a `-` says that the last one was."""
    if value is None:
        return "0"
    return str(1 - int(value)) if _is_deleted(value) else value


def _is_deleted(generation: str | None) -> bool:
    return generation is None or generation.startswith("-")


def _subpath(key: SessionKey) -> str | None:
    return key.get("subpath") or None


__all__ = ["MAIN", "ActorSessionStore", "agent_of", "session_id_of"]
