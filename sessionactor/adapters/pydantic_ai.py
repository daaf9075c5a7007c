"""Conversations of Pydantic AI, kept here.

    store = ActorConversationStore("sessions")
    conversation = await store.load("trip") or Conversation(conversation_id="trip")
    result = await agent.run(prompt, conversation=conversation)
    await store.save(result)

A conversation is the session of its id: an entry is a row, its id the row's key, the entry before
it the row's parent; the record is metadata, and its scope the room. A fork has the entries that it
shares in its own file, under their ids, so that neither conversation needs the other.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from typing import Final, NamedTuple
from urllib.parse import quote
from weakref import WeakKeyDictionary, WeakValueDictionary

from pydantic import TypeAdapter
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)

from sessionactor import Row, Session, SessionNotFoundError, SessionRegistry, StaleRevisionError
from sessionactor.adapters._holding import Held, Where
from sessionactor.adapters._pydantic_ai_entries import (
    PAGE,
    Stored,
    chain_in,
    entries,
    row_of,
    stored,
)

_CHANNEL: Final = "pydantic-ai"
_RECORD: Final = "pydantic-ai.record"
_UPDATED: Final = "pydantic-ai.updated"
_MAX_KNOWN: Final = 10_000
_MAX_CHARACTERS: Final = 200
_UNSAFE: Final = re.compile("[%\0\ud800-\udfff]")

_record: TypeAdapter[ConversationRecord] = TypeAdapter(ConversationRecord)
_Locks = WeakValueDictionary[str, asyncio.Lock]
_locks: WeakKeyDictionary[SessionRegistry, _Locks] = WeakKeyDictionary()


class _Known(NamedTuple):
    """What a session was when it was read or written last."""

    revision: str | None
    """The record's; `None` where there is none."""
    session_revision: int


class ActorConversationStore(Held, ConversationStore):
    """A conversation store on sessions of this package.

    A save is one commit: the record, and the entries that are new. Whether the stored revision is
    the expected one is decided inside it. Deleting a conversation removes its file, and all that
    was in it alone.

    Reading an entry by its id is quick where its conversation was read or saved by this store; else
    the conversations are looked through.
    """

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        self._known: dict[str, _Known] = {}
        self._homes: dict[str, str] = {}
        """Entry -> a session that has it, and all before it."""

    # what a store is made of

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """The record of a conversation, or `None` where there is none."""
        registry = await self._holding.registry()
        session_id = _session_id(conversation_id)
        if registry.whereis(session_id) is None and not await registry.metadata([session_id]):
            return None  # a miss would cost a scan of the directory
        record, _ = await self._read_state(registry.session(session_id))
        return record

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """The records, those of a scope if one is given, the newest first."""
        registry = await self._holding.registry()
        room_id = None if scope is None else _escaped(scope)
        found = await registry.metadata(channel_id=_CHANNEL, room_id=room_id)
        texts = [
            (metadata[_UPDATED] or "", session_id, text)
            for session_id, metadata in found.items()
            if (text := metadata.get(_RECORD)) is not None
        ]
        texts.sort(key=lambda one: one[0], reverse=True)
        records = []
        for number, (_, session_id, text) in enumerate(texts[:limit], 1):
            records.append(self._met(session_id, _record.validate_json(text)))
            if not number % PAGE:
                await asyncio.sleep(0)
        return records

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and entries, all or nothing; an entry that is there stays as it is.

        Raises:
            ConversationConflict: the stored revision is another one, or there is no such head.
        """
        registry = await self._holding.registry()
        session_id = _session_id(record.conversation_id)
        text = _record.dump_json(record).decode()
        updated = f"{record.updated_at.timestamp():020.6f}"
        rows = [stored(entry) for entry in new_entries]
        async with _lock(registry, session_id):
            if expected_revision is None:
                session, known = await self._beginning(registry, record.conversation_id)
            else:
                session = registry.session(session_id)
                known = self._known.get(session_id) or await self._look(session)
            rows = await self._complete(session, record, rows, is_new=known.session_revision == 0)
            while True:
                if known.revision != expected_revision:
                    if known == (known := await self._look(session)):
                        raise ConversationConflict(record.conversation_id)
                    continue
                try:
                    async with session.batch(expected_revision=known.session_revision) as batch:
                        for role, message, key, parent in rows:
                            batch.append(role, message, key=key, parent=parent)
                        batch.save_metadata({_RECORD: text, _UPDATED: updated})
                        room_id = None if record.scope is None else _escaped(record.scope)
                        batch.set_context(channel_id=_CHANNEL, room_id=room_id)
                    break
                except StaleRevisionError:  # it may have been renamed: what is the record now?
                    known = await self._look(session)
                except SessionNotFoundError:
                    raise ConversationConflict(record.conversation_id) from None
            self._remember(session_id, _Known(record.revision, known.session_revision + 1))
        self._met(session_id, record)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a conversation and its file; conversations that were forked from it keep theirs.

        Raises:
            ConversationConflict: no record of that revision is stored.
        """
        registry = await self._holding.registry()
        session_id = _session_id(conversation_id)
        session = registry.session(session_id)
        async with _lock(registry, session_id):
            while True:
                known = await self._look(session)
                if known.revision != expected_revision:
                    raise ConversationConflict(conversation_id)
                try:  # decided inside this commit; should we die then, it is deleted all the same
                    async with session.batch(expected_revision=known.session_revision) as batch:
                        batch.save_metadata({_RECORD: None})
                    break
                except StaleRevisionError:
                    continue
            self._known.pop(session_id, None)
            await registry.delete(session_id)

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """The entry of that id.

        Raises:
            KeyError: there is none.
        """
        registry = await self._holding.registry()
        async for session in self._candidates(registry, entry_id):
            row = await row_of(session, entry_id)
            if row is not None:
                (entry,) = await entries([row])
                return entry
        raise KeyError(entry_id)

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """The entries up to that one, in order, or the last ones of them.

        Raises:
            KeyError: there is no such entry.
        """
        if head_id is None or limit == 0:
            return []
        return await entries(await self._chain(head_id, limit))

    # what the record and the rows are

    async def _read_state(self, session: Session) -> tuple[ConversationRecord | None, _Known]:
        try:
            # Should somebody write in between, a write that expects this revision is refused.
            revision = await session.revision()
            text = (await session.get_metadata()).get(_RECORD)
        except SessionNotFoundError:
            return None, _Known(None, -1)
        record = None if text is None else _record.validate_json(text)
        known = _Known(None if record is None else record.revision, revision)
        self._remember(session.session_id, known)
        return (None if record is None else self._met(session.session_id, record)), known

    async def _look(self, session: Session) -> _Known:
        _, known = await self._read_state(session)
        return known

    async def _beginning(
        self, registry: SessionRegistry, conversation_id: str
    ) -> tuple[Session, _Known]:
        """A session for a new conversation: a new one, or what was left of one.

        Raises:
            ConversationConflict: there is one, or it is another kind of session.
        """
        session = await registry.start(_session_id(conversation_id))
        known = await self._look(session)
        if known.revision is None and known.session_revision > 0:
            if _RECORD not in await session.get_metadata():
                raise ConversationConflict(conversation_id)
            # Its deletion was decided, and its process died.
            await registry.delete(session.session_id)
            session = await registry.start(session.session_id)
            known = await self._look(session)
        if known.revision is not None:
            raise ConversationConflict(conversation_id)
        return session, known

    async def _complete(
        self, session: Session, record: ConversationRecord, rows: list[Stored], *, is_new: bool
    ) -> list[Stored]:
        """The rows that the session lacks: new ones, and those before them of another session.

        Raises:
            ConversationConflict: there are none such.
        """
        if not is_new and rows and await row_of(session, rows[0].key) is not None:
            rows = [row for row in rows if await row_of(session, row.key) is None]
        before = rows[0].parent if rows else record.head_id
        if record.head_id not in {None, before, *(row.key for row in rows)}:
            before = record.head_id
        if before is None or self._homes.get(before) == session.session_id:
            return rows
        if not is_new and await row_of(session, before) is not None:
            return rows
        if record.forked_from is not None:
            self._homes.setdefault(before, _session_id(record.forked_from))
        try:
            chain = await self._chain(before, None)
        except KeyError:
            raise ConversationConflict(record.conversation_id) from None
        shared = [Stored(row.agent_id, row.message, row.key or "", row.parent) for row in chain]
        if not is_new:
            shared = [row for row in shared if await row_of(session, row.key) is None]
        return shared + rows

    async def _chain(self, head_id: str, limit: int | None) -> list[Row]:
        """The rows of the entries up to that one, or the last ones of them."""
        registry = await self._holding.registry()
        async for session in self._candidates(registry, head_id):
            chain = await chain_in(session, head_id, limit)
            if chain is not None:
                self._homes[head_id] = session.session_id
                return chain
        raise KeyError(head_id)

    async def _candidates(self, registry: SessionRegistry, entry_id: str) -> AsyncIterator[Session]:
        """The sessions in which an entry may be, the likely one first."""
        home = self._homes.get(entry_id)
        if home is not None:
            yield registry.session(home)
        for session_id, metadata in (await registry.metadata(channel_id=_CHANNEL)).items():
            if metadata.get(_RECORD) is not None and session_id != home:
                yield registry.session(session_id)

    def _met(self, session_id: str, record: ConversationRecord) -> ConversationRecord:
        """Remember where a record's entries are."""
        if len(self._homes) > _MAX_KNOWN:
            self._homes.clear()
        if record.head_id is not None:
            self._homes[record.head_id] = session_id
        self._homes.update(dict.fromkeys(record.branches, session_id))
        return record

    def _remember(self, session_id: str, known: _Known) -> None:
        if len(self._known) > _MAX_KNOWN:
            self._known.clear()
        self._known[session_id] = known


def _lock(registry: SessionRegistry, session_id: str) -> asyncio.Lock:
    """Held while a conversation is created, saved or deleted, by any store on that registry."""
    locks = _locks.setdefault(registry, WeakValueDictionary())
    lock = locks.get(session_id)
    if lock is None:
        lock = locks[session_id] = asyncio.Lock()
    return lock


def _escaped(text: str) -> str:
    """A text as ids and context can hold it, one to one."""
    return _UNSAFE.sub(lambda found: quote(found[0], safe="", errors="surrogatepass"), text) or "%"


def _session_id(conversation_id: str) -> str:
    escaped = _escaped(conversation_id)
    if len(escaped) <= _MAX_CHARACTERS:
        return escaped
    mark = "~" + sha256(escaped.encode()).hexdigest()[:40]
    return escaped[: _MAX_CHARACTERS - len(mark)] + mark


__all__ = ["ActorConversationStore"]
