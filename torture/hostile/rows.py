"""Garbage in the columns of rows: told row by row, and nothing else is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from random import Random
from types import TracebackType
from typing import Any, Final, Self

from sessionactor import CorruptRowError, Row, SessionError, SessionRegistry, checkup
from sessionactor._codec import UndecodableError, decode, encode
from torture.hostile import garbage
from torture.hostile.area import Bystander, Places, answer, broken
from torture.hostile.comparing import is_known, same

_ROWS: Final = 40
_WHOLE: Final = 5  # every so many rows one is left alone
_COLUMNS: Final = (
    "agent_id", "inserted_at", "checkpoint", "keep_from", "key", "parent", "turn", "revision",
    "updated_at",
)  # fmt: skip
_ODD: Final = (
    "", "text", b"\xff\xfe", b"", 2**63 - 1, -(2**63), 0, 1.5, 9e99, "\ud7ff", b"\0" * 50_000, -1,
)  # fmt: skip


def _message(db_id: int) -> dict[str, Any]:
    return {"role": "user", "content": f"row {db_id}", "data": b"\xff", "when": (db_id, None)}


class Rows:
    """A session whose file is changed by other hands while it is not in use."""

    def __init__(self, places: Places) -> None:
        self._directory = places.sessions
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        registry = SessionRegistry(self._directory, durability="normal")
        self._registry = await self._stack.enter_async_context(registry)
        self._bystander = await Bystander.start(registry)
        self._session = await registry.start("damaged")
        await self._session.extend("one", [_message(db_id) for db_id in range(1, _ROWS + 1)])
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def round(self, chance: Random) -> int:
        await self._registry.stop("damaged")
        given = {n: self._garbage(n, chance) for n in range(1, _ROWS + 1) if n % _WHOLE}
        column, value = chance.choice(_COLUMNS), chance.choice(_ODD)
        other = chance.choice(list(given))
        await asyncio.to_thread(self._spoil, given, other, column, value)
        read = await self._session.messages(on_corrupt="skip")
        good = {row.db_id: row for row in read}
        for db_id in range(1, _ROWS + 1):
            row = await answer(self._session.get(db_id))
            if db_id not in given:
                if not isinstance(row, Row) or not same(row.message, _message(db_id)):
                    broken(f"a whole row beside others came back as {row!r:.200}", db_id)
            elif isinstance(row, SessionError) != (db_id not in good):
                broken(f"read alone it is {row!r:.200}, with others {good.get(db_id)!r:.200}",
                       given[db_id])  # fmt: skip
            elif isinstance(row, SessionError):
                if not isinstance(row, CorruptRowError) or row.db_id != db_id:
                    broken(f"garbage came to {row!r:.200}", given[db_id])
                if db_id != other:
                    _expect_corrupt(given[db_id])
            elif not isinstance(row, Row) or not is_known(row.message):
                broken(f"garbage came to {row!r:.200}", given[db_id])
            elif row.db_id != other and not same(row.message, decode(given[db_id])):
                broken(f"garbage became another message: {row!r:.200}", given[db_id])
        await self._others(chance)
        await self._bystander.check()
        return len(given)

    async def _others(self, chance: Random) -> None:
        """What else reads a damaged session: a value, or an error of ours."""
        session = self._session
        match chance.randrange(8):
            case 0:
                await answer(session.messages())
            case 1:
                await answer(session.messages_from_latest_checkpoint(on_corrupt="skip"))
            case 2:
                await answer(self._registry.search("row"))
            case 3:
                await self._followed()
            case 4:
                fork = await answer(session.fork("copy"))
                if not isinstance(fork, SessionError):
                    await fork.messages(on_corrupt="skip")
                    await self._registry.delete("copy")
            case 5:
                await asyncio.to_thread(lambda: list(checkup.check(self._directory)))
            case 6:
                await answer(session.interrupted_turn())
            case 7:
                await answer(session.append("one", {}, key="again"))
                await answer(session.truncate_from(_ROWS + 1))

    async def _followed(self) -> None:
        async with asyncio.timeout(10), self._session.subscribe(since=0) as events:
            revision = await self._session.revision()
            for _ in range(2 * _ROWS):
                event = await answer(anext(events))
                if not isinstance(event, SessionError) and event.revision >= revision:
                    return

    def _garbage(self, db_id: int, chance: Random) -> Any:
        kind = chance.random()
        if kind < 0.05:
            return chance.choice(_ODD)
        if kind < 0.5:
            return garbage.packed(chance)
        whole = encode(_message(db_id), max_bytes=1000)
        return garbage.spoilt(whole, chance, garbage.packed(chance))

    def _spoil(self, given: dict[int, Any], other: int, column: str, value: Any) -> None:
        assert self._session.path is not None
        with closing(sqlite3.connect(self._session.path)) as connection, connection:
            connection.execute("DELETE FROM messages")
            connection.executemany(
                "INSERT INTO messages (id, agent_id, data, inserted_at, revision)"
                " VALUES (?, 'one', ?, 1, 1)",
                [(n, given.get(n, encode(_message(n), max_bytes=1000)))
                 for n in range(1, _ROWS + 1)],
            )  # fmt: skip
            connection.execute(f"UPDATE messages SET {column} = ? WHERE id = ?", (value, other))


def _expect_corrupt(given: Any) -> None:
    if isinstance(given, bytes):
        try:
            found = decode(given)
        except UndecodableError:
            return
        broken(f"{found!r:.200} was told as corrupt", given)
