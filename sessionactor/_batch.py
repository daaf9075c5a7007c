"""Collecting operations for one atomic request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from types import EllipsisType, TracebackType
from typing import Any, Literal, TypeAlias

from sessionactor._arguments import Arguments
from sessionactor._requests import Clear, Discard, End, Operation, RemoveLast

_Result: TypeAlias = Callable[[Iterator[int | None]], object]


def _bool(answers: Iterator[int | None]) -> bool:
    return bool(next(answers))


class Batch:
    """Operations that are collected without I/O and sent as one request."""

    def __init__(
        self,
        arguments: Arguments,
        commit: Callable[[tuple[Operation, ...]], Awaitable[tuple[int | None, ...]]],
    ) -> None:
        self.results: list[Any] = []
        """What each operation came to, in order, once the block has ended."""
        self._arguments = arguments
        self._commit = commit
        self._operations: list[Operation] = []
        self._results: list[_Result] = []  # what is made of the answers, for each call

    async def __aenter__(self) -> Batch:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is not None:
            return
        answers = iter(await self._commit(tuple(self._operations)))
        self.results = [result(answers) for result in self._results]
        self._operations, self._results = [], []

    def append(
        self,
        agent_id: str,
        message: Mapping[Any, Any],
        *,
        key: str | None = None,
        checkpoint: bool | None = None,
        keep_from: int | None = None,
        parent: str | int | None = None,
        turn: str | None = None,
    ) -> None:
        """As `Session.append`; its result is the `db_id`."""
        self._add(
            self._arguments.append(agent_id, message, key, checkpoint, keep_from, parent, turn)
        )

    def extend(
        self,
        agent_id: str,
        messages: Iterable[Mapping[Any, Any]],
        *,
        keys: Iterable[str | None] | None = None,
        parent: str | int | None = None,
        turn: str | None = None,
    ) -> None:
        """As `Session.extend`; its result is the list of ids."""
        operations = self._arguments.appends(agent_id, messages, keys, parent, turn)
        self._operations.extend(operations)
        self._results.append(lambda answers: [next(answers) for _ in operations])

    def update(self, db_id: int, message: Mapping[Any, Any]) -> None:
        """As `Session.update`; its result is whether there was such a row."""
        self._add(self._arguments.update(db_id, message), _bool)

    def update_last(self, message: Mapping[Any, Any], *, agent_id: str | None = None) -> None:
        """As `Session.update_last`; its result is whether there was a row."""
        self._add(self._arguments.update_last(message, agent_id), _bool)

    def truncate_from(self, db_id: int, *, whole_turns: bool = False) -> None:
        """As `Session.truncate_from`; its result is how many rows went."""
        self._add(self._arguments.truncate(db_id, whole_turns))

    def remove(self, db_ids: Iterable[int]) -> None:
        """As `Session.remove`; its result is how many rows went."""
        self._add(self._arguments.remove(db_ids))

    def remove_last(self, *, agent_id: str | None = None) -> None:
        """As `Session.remove_last`; its result is whether there was a row."""
        self._add(RemoveLast(self._arguments.optional_text("agent_id", agent_id)), _bool)

    def clear(self) -> None:
        """As `Session.clear`; its result is how many rows went."""
        self._add(Clear())

    def save_metadata(self, mapping: Mapping[str, object]) -> None:
        """As `Session.save_metadata`; its result is `None`."""
        self._add(self._arguments.metadata(mapping))

    def set_agent_alias(self, alias: str | None) -> None:
        """As `Session.set_agent_alias`; its result is `None`."""
        self._add(self._arguments.context({"agent_alias": alias}))

    def set_context(
        self,
        *,
        channel_id: str | EllipsisType | None = ...,
        room_id: str | EllipsisType | None = ...,
        sender_id: str | EllipsisType | None = ...,
    ) -> None:
        """As `Session.set_context`; its result is `None`."""
        self._add(
            self._arguments.context(
                {"channel_id": channel_id, "room_id": room_id, "sender_id": sender_id}
            )
        )

    def set_state(
        self, state: Literal["idle", "running", "error"], turn_id: str | None = None
    ) -> None:
        """As `Session.set_state`; its result is `None`."""
        self._add(self._arguments.state(state, turn_id))

    def discard_turn(self, turn_id: str) -> None:
        """As `Session.discard_turn`; its result is how many rows went."""
        self._add(Discard(self._arguments.text("turn_id", turn_id)))

    def finish_turn(self, turn_id: str) -> None:
        """As `Session.finish_turn`; its result is `None`."""
        self._add(End(self._arguments.text("turn_id", turn_id)))

    def _add(self, operation: Operation, result: _Result = next) -> None:
        self._operations.append(operation)
        self._results.append(result)


__all__ = ["Batch"]
