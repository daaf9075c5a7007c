"""The part of a session's handle that reads its history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, cast

from sessionactor._handle import Handle
from sessionactor._records import ChildRow, Page, Row
from sessionactor._requests import OnCorrupt, ReadChapter, ReadRows, Slice

_PATIENCE: Final = 3
"""How often a long read begins again because rows were rewritten, before it takes one turn."""


class Browsing(Handle):
    """Rows, one or many, and chapters."""

    __slots__ = ()

    async def get(self, db_id: int | None = None, *, key: str | None = None) -> Row | None:
        """One row, by its id or by its idempotency key.

        Raises:
            CorruptRowError: it cannot be decoded.
            ValueError: neither is given, or both.
        """
        request = self._arguments.row(db_id, key)
        return cast("Row | None", await self._ask(request))

    async def head(
        self, *, agent_id: str | None = None, on_corrupt: OnCorrupt = "raise"
    ) -> Row | None:
        """The newest row, of that agent if given; `None` where there is none.

        Raises:
            CorruptRowError: it cannot be decoded.
        """
        rows = await self.messages(agent_id=agent_id, limit=1, newest=True, on_corrupt=on_corrupt)
        return rows[0] if rows else None

    async def children(self, db_id: int) -> list[ChildRow]:
        """All rows of all sessions whose `parent` is that row, in the order of their times.

        Raises:
            CorruptRowError: one of them cannot be decoded.
            NoCatalogError: the registry was told to have no catalog.
        """
        number = self._arguments.db_id("db_id", db_id)
        return await self._asked.children(f"{self._session_id}/{number}")

    async def messages(
        self,
        *,
        agent_id: str | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest: bool = False,
        whole_turns: bool = False,
        on_corrupt: OnCorrupt = "raise",
    ) -> list[Row]:
        """Rows in insertion order, as they were at one moment.

        Args:
            agent_id: Only this agent's.
            after: Only rows with a greater `db_id`.
            before: Only rows with a smaller `db_id`.
            limit: At most so many: the first ones …
            newest: … or, with `newest`, the last ones, still in insertion order.
            whole_turns: With `newest`: as many whole turns as fit into `limit`, but at least
                the newest one, even if it is longer. A row without a turn stands for itself.
            on_corrupt: `"skip"` passes over rows that cannot be decoded.

        Raises:
            CorruptRowError: a row cannot be decoded, and is not to be passed over.
            ValueError: `whole_turns` without `newest` and `limit`, or a negative limit.
        """
        request = self._arguments.rows(
            agent_id, after, before, limit, newest, on_corrupt, whole_turns=whole_turns
        )
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
                    break  # rows were rewritten in between: these slices were never together
                first.rows.extend(part.rows)
            else:
                return first
        return cast(Slice, await self._ask(request._replace(whole=True)))


__all__ = ["Browsing"]
