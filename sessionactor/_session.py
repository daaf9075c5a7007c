"""The handle on one session: it makes requests of calls and rows of answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, cast

from sessionactor._arguments import Arguments
from sessionactor._batch import Batch
from sessionactor._records import Page, Row, SessionFile
from sessionactor._requests import (
    OnCorrupt,
    Operation,
    ReadChapter,
    ReadMetadata,
    ReadRevision,
    ReadRows,
    Slice,
    Write,
)

_PATIENCE: Final = 3
"""How often a long read begins again because rows were removed, before it takes one turn."""


class Asked(Protocol):
    """Something that can be asked, here or on another machine."""

    async def ask(self, session_id: str, request: object) -> Any:
        """Carry a request to the session and its answer back."""

    async def rename(self, session_id: str, name: str | None) -> None:
        """Give a session another name."""

    def file_of(self, session_id: str) -> SessionFile:
        """Where the session lives; no I/O."""


class Session:
    """A handle on one session: cheap, holding no file, valid across passivation.

    Every awaited call is one request. Those of one caller are served in order, and a read
    sees every write answered before it was asked. What a write returned for is stored, to
    the level of the registry's `durability`.

    Cancelling a call does not stop a request that was accepted: it is carried out whole,
    and only its answer is lost. Repeating it with the same `key` is safe. A call that waits
    because the mailbox is full is not accepted yet.

    Any call raises `SessionNotFoundError`, `SessionOwnedError`, `StorageError`,
    `SchemaVersionError`, `SessionCrashedError` or `RegistryClosedError` where that applies.
    """

    __slots__ = ("__weakref__", "_arguments", "_asked", "_session_id")

    def __init__(self, asked: Asked, session_id: str, max_message_bytes: int) -> None:
        self._asked = asked
        self._session_id = session_id
        self._arguments = Arguments(session_id, max_message_bytes)

    def __repr__(self) -> str:
        return f"<Session {self._session_id!r}>"

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._session_id

    @property
    def name(self) -> str:
        """The session's name now, as the registry knows it; no I/O.

        Raises:
            SessionNotFoundError: the registry knows no such session.
        """
        return self._asked.file_of(self._session_id).name

    @property
    def path(self) -> Path | None:
        """The session's file now; `None` in memory. No I/O.

        Raises:
            SessionNotFoundError: the registry knows no such session.
        """
        return self._asked.file_of(self._session_id).path

    async def append(
        self,
        agent_id: str,
        message: Mapping[Any, Any],
        *,
        key: str | None = None,
        checkpoint: bool | None = None,
        keep_from: int | None = None,
        parent: str | int | None = None,
        turn: str | None = None,
        expected_head: int | None = None,
    ) -> int:
        """Store one message and return its `db_id`: from 1 up, without gaps, never used again.

        The message is encoded before anything is awaited, so that later changes to it
        change nothing. With `role == "summary"` it is a checkpoint, unless `checkpoint`
        says otherwise.

        Args:
            agent_id: Who says it.
            message: Any mapping that msgpack can hold, and datetimes, sets, tuples, any int.
            key: Makes the call idempotent for the life of the session: the same key
                returns the first `db_id` and stores nothing, whatever happened to that row.
            checkpoint: Whether the message summarises what came before it.
            keep_from: On a checkpoint: the summary covers only what is older than this row.
            parent: The message that caused it: `"<session id>/<db_id>"`, a `db_id` of this
                session, or any reference of another system.
            turn: The turn that it belongs to.
            expected_head: Store only if this is the newest `db_id` (0: the session is empty).

        Raises:
            MessageEncodingError: something in the message cannot be stored.
            MessageTooLargeError: encoded it exceeds `max_message_bytes`.
            IdempotencyError: the key was used with another agent or message.
            StaleHeadError: another row is the newest.
            ValueError: `keep_from` without a checkpoint, or not in 1 to the new id.
        """
        operation = self._arguments.append(
            agent_id, message, key, checkpoint, keep_from, parent, turn
        )
        if expected_head is not None:
            expected_head = self._arguments.db_id("expected_head", expected_head)
        (db_id,) = await self._asked.ask(self._session_id, Write((operation,), expected_head))
        return cast(int, db_id)

    async def extend(
        self,
        agent_id: str,
        messages: Iterable[Mapping[Any, Any]],
        *,
        keys: Iterable[str | None] | None = None,
        parent: str | int | None = None,
        turn: str | None = None,
        expected_head: int | None = None,
    ) -> list[int]:
        """Store messages, all or none, and return their ids.

        Args:
            agent_id: Who says them.
            messages: As for `append`.
            keys: One for each message, `None` for no key. Known ones give their old ids,
                the rest is stored.
            parent: As for `append`, for all of them.
            turn: As for `append`, for all of them.
            expected_head: As for `append`.

        Raises:
            MessageEncodingError: something in a message cannot be stored.
            MessageTooLargeError: a message encoded exceeds `max_message_bytes`.
            IdempotencyError: a key was used with another agent or message.
            StaleHeadError: another row is the newest.
        """
        operations = self._arguments.appends(agent_id, messages, keys, parent, turn)
        return [cast(int, db_id) for db_id in await self._write(operations, expected_head)]

    def batch(
        self, expected_head: int | None = None, expected_revision: int | None = None
    ) -> Batch:
        """Collect operations in `async with`; at its end they are one request, all or none.

        Nothing is sent when the block raises. `batch.results` has an entry for each
        operation then: what its own call would have returned. A batch whose appends all
        have keys that were used before was carried out before, and does nothing again.

        Args:
            expected_head: As for `append`.
            expected_revision: Only if the session is at this revision.

        Raises:
            StaleHeadError: another row is the newest.
            StaleRevisionError: the session is at another revision.
        """

        async def commit(operations: tuple[Operation, ...]) -> tuple[int | None, ...]:
            return await self._write(operations, expected_head, expected_revision)

        return Batch(self._arguments, commit)

    async def truncate_from(self, db_id: int) -> int:
        """Remove that row and all later ones, of all agents; how many there were.

        Metadata and keys stay, and no id is ever used again.
        """
        (count,) = await self._write((self._arguments.truncate(db_id),))
        return cast(int, count)

    async def save_metadata(self, mapping: Mapping[str, object]) -> None:
        """Merge pairs into the metadata, all or none.

        Values are `str` or `None`; numbers become strings, bools `"true"` and `"false"`.

        Raises:
            TypeError: a key or value of another type.
        """
        await self._write((self._arguments.metadata(mapping),))

    async def get_metadata(self) -> dict[str, str | None]:
        """All metadata."""
        return cast("dict[str, str | None]", await self._ask(ReadMetadata()))

    async def revision(self) -> int:
        """The session's revision: one up with every committed mutation."""
        return cast(int, await self._ask(ReadRevision()))

    async def get(self, db_id: int | None = None, *, key: str | None = None) -> Row | None:
        """One row, by its id or by its idempotency key.

        Raises:
            CorruptRowError: it cannot be decoded.
            ValueError: neither is given, or both.
        """
        request = self._arguments.row(db_id, key)
        return cast("Row | None", await self._ask(request))

    async def messages(
        self,
        *,
        agent_id: str | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest: bool = False,
        on_corrupt: OnCorrupt = "raise",
    ) -> list[Row]:
        """Rows in insertion order, as they were at one moment.

        Args:
            agent_id: Only this agent's.
            after: Only rows with a greater `db_id`.
            before: Only rows with a smaller `db_id`.
            limit: At most so many: the first ones …
            newest: … or, with `newest`, the last ones, still in insertion order.
            on_corrupt: `"skip"` passes over rows that cannot be decoded.

        Raises:
            CorruptRowError: a row cannot be decoded, and is not to be passed over.
        """
        request = self._arguments.rows(agent_id, after, before, limit, newest, on_corrupt)
        return (await self._read(request)).rows

    async def stream(
        self,
        *,
        agent_id: str | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest: bool = False,
        on_corrupt: OnCorrupt = "raise",
    ) -> AsyncIterator[Row]:
        """The rows of `messages`, a slice at a time, for histories too long for a list.

        Other requests are served in between. Rows added after the first slice are not
        part of it; rows removed before their slice was read do not come.
        """
        rest: ReadRows | None = self._arguments.rows(
            agent_id, after, before, limit, newest, on_corrupt
        )
        while rest is not None:
            part: Slice = await self._ask(rest)
            for row in part.rows:
                yield row
            rest = part.rest

    async def messages_from_latest_checkpoint(
        self, *, agent_id: str | None = None, on_corrupt: OnCorrupt = "raise"
    ) -> Page:
        """The latest chapter: the newest checkpoint, then all rows that it does not cover.

        Without a checkpoint all rows, and `None` as the cursor. Given `agent_id`, only that
        agent's rows and checkpoints are in view.

        Raises:
            CorruptRowError: a row cannot be decoded, and is not to be passed over.
        """
        return await self._chapter(self._arguments.chapter(None, agent_id, on_corrupt))

    async def messages_before_checkpoint(
        self, checkpoint_id: int, *, agent_id: str | None = None, on_corrupt: OnCorrupt = "raise"
    ) -> Page:
        """The chapter before a cursor, as a page's `checkpoint_id` gave it.

        A cursor that is no checkpoint in view bounds by its own value. Where the page's
        `checkpoint_id` is `None`, nothing is earlier.

        Raises:
            CorruptRowError: a row cannot be decoded, and is not to be passed over.
        """
        cursor = self._arguments.cursor(checkpoint_id)
        request = self._arguments.chapter(cursor, agent_id, on_corrupt)
        return await self._chapter(request)

    async def chapters(
        self, *, agent_id: str | None = None, on_corrupt: OnCorrupt = "raise"
    ) -> AsyncIterator[Page]:
        """All chapters, newest first. In an unchanged session they are all rows, each once."""
        page = await self.messages_from_latest_checkpoint(agent_id=agent_id, on_corrupt=on_corrupt)
        yield page
        while page.checkpoint_id is not None:
            page = await self.messages_before_checkpoint(
                page.checkpoint_id, agent_id=agent_id, on_corrupt=on_corrupt
            )
            yield page

    async def rename(self, name: str | None) -> None:
        """Give the session another name, which moves its file; `None`: a generated one.

        Raises:
            SessionBusyError: another process reads the file; nothing changed.
            SessionExistsError: something else has that file name; nothing changed.
            InvalidNameError: that cannot be a name.
        """
        await self._asked.rename(self._session_id, name)

    async def _chapter(self, request: ReadChapter) -> Page:
        part = await self._read(request)
        return Page(part.rows, part.checkpoint_id)

    async def _read(self, request: ReadRows | ReadChapter) -> Slice:
        """All slices of a read, as of one moment."""
        for _ in range(_PATIENCE):
            first: Slice = await self._ask(request)
            part = first
            while part.rest is not None:
                part = await self._ask(part.rest)
                if part.rewritten_at != first.rewritten_at:
                    break  # rows were removed in between: these slices were never together
                first.rows.extend(part.rows)
            else:
                return first
        return cast(Slice, await self._ask(request._replace(whole=True)))

    async def _write(
        self,
        operations: tuple[Operation, ...],
        expected_head: int | None = None,
        expected_revision: int | None = None,
    ) -> tuple[int | None, ...]:
        check = self._arguments.db_id
        request = Write(
            operations,
            check("expected_head", expected_head),
            check("expected_revision", expected_revision),
        )
        return cast("tuple[int | None, ...]", await self._ask(request))

    async def _ask(self, request: object) -> Any:
        return await self._asked.ask(self._session_id, request)


__all__ = ["Asked", "Session"]
