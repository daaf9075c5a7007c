"""Collecting operations for one atomic request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from sessionactor._arguments import Arguments
from sessionactor._requests import Operation


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
        self._counts: list[int | None] = []  # how many results an extend takes together

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
        self.results = [
            next(answers) if count is None else [next(answers) for _ in range(count)]
            for count in self._counts
        ]
        self._operations, self._counts = [], []

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
        self._counts.append(len(operations))

    def truncate_from(self, db_id: int) -> None:
        """As `Session.truncate_from`; its result is how many rows went."""
        self._add(self._arguments.truncate(db_id))

    def save_metadata(self, mapping: Mapping[str, object]) -> None:
        """As `Session.save_metadata`; its result is `None`."""
        self._add(self._arguments.metadata(mapping))

    def _add(self, operation: Operation) -> None:
        self._operations.append(operation)
        self._counts.append(None)


__all__ = ["Batch"]
