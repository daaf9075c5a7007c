"""The part of a session's handle that changes it: each call one atomic request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import EllipsisType
from typing import Any, cast

from sessionactor._batch import Batch
from sessionactor._handle import Handle
from sessionactor._requests import Clear, Operation, ReadMetadata, RemoveLast, Write


class Editing(Handle):
    """Messages, metadata and routing context."""

    __slots__ = ()

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

    async def update(self, db_id: int, message: Mapping[Any, Any]) -> bool:
        """Store another message in a row; whether there is such a row.

        Its id, time, key, parent, turn and checkpoint stay; `updated_at` and the row's
        revision change. A failed update leaves the old message.

        Raises:
            MessageEncodingError: something in the message cannot be stored.
            MessageTooLargeError: encoded it exceeds `max_message_bytes`.
        """
        return bool(await self._do(self._arguments.update(db_id, message)))

    async def update_last(self, message: Mapping[Any, Any], *, agent_id: str | None = None) -> bool:
        """As `update`, of the newest row, of that agent if given; whether there is one.

        For streamed replies: append a placeholder, and update it as text arrives.
        """
        return bool(await self._do(self._arguments.update_last(message, agent_id)))

    async def truncate_from(self, db_id: int, *, whole_turns: bool = False) -> int:
        """Remove that row and all later ones, of all agents; how many there were.

        Metadata and keys stay, and no id is ever used again. An open turn that loses a row is
        closed.

        Args:
            db_id: The first to go.
            whole_turns: Begin further down, so far that no turn lies on both sides.
        """
        return cast(int, await self._do(self._arguments.truncate(db_id, whole_turns)))

    async def remove(self, db_ids: Iterable[int]) -> int:
        """Remove these rows; how many of them there were.

        Metadata and keys stay, and no id is ever used again. An open turn that loses a row is
        closed.
        """
        return cast(int, await self._do(self._arguments.remove(db_ids)))

    async def remove_last(self, *, agent_id: str | None = None) -> bool:
        """Remove the newest row, of that agent if given; whether there was one."""
        agent_id = self._arguments.optional_text("agent_id", agent_id)
        return bool(await self._do(RemoveLast(agent_id)))

    async def clear(self) -> int:
        """Remove all rows; how many there were. Name, metadata, context and keys stay."""
        return cast(int, await self._do(Clear()))

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

    async def set_agent_alias(self, alias: str | None) -> None:
        """Say which agent the session is of, as `info` and listings tell it; `None` clears it."""
        await self._do(self._arguments.context({"agent_alias": alias}))

    async def set_context(
        self,
        *,
        channel_id: str | EllipsisType | None = ...,
        room_id: str | EllipsisType | None = ...,
        sender_id: str | EllipsisType | None = ...,
    ) -> None:
        """Say where the conversation takes place; what is not given stays, `None` clears."""
        await self._do(
            self._arguments.context(
                {"channel_id": channel_id, "room_id": room_id, "sender_id": sender_id}
            )
        )


__all__ = ["Editing"]
