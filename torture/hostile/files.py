"""Damaged database files and logs: they work, or are told as damaged, and harm no one else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final, Self

from sessionactor import Row, Session, SessionError, SessionRegistry, checkup
from sessionactor import _names as names
from sessionactor import _schema as schema
from torture.hostile import garbage
from torture.hostile.area import Bystander, Places, answer, broken
from torture.hostile.comparing import is_known

_AT_ONCE: Final = 3
_DOINGS: Final = 5

Parts = dict[str, bytes]
"""A database and what is beside it, by suffix."""


async def make_whole(place: Path) -> tuple[Parts, Parts]:
    """A session's files when it is closed, and while it is in use."""
    async with SessionRegistry(place, durability="normal") as registry:
        session = await registry.start("in", name="put")
        async with session.turn("t1", agent_id="one") as turn:
            for number in range(12):
                await turn.append(
                    {"role": "user", "content": f"hello {number} " * 40}, key=f"{number}"
                )
        await session.append("two", {"role": "summary", "content": "all"}, keep_from=3)
        await session.extend("two", [{"n": n, "data": b"x" * 5000} for n in range(8)])
        await session.update(2, {"role": "user", "content": "hello again"})
        await session.remove([4, 5])
        await session.save_metadata({f"key {n}": "v" * 100 for n in range(40)})
        assert session.path is not None
        live = {suffix: Path(f"{session.path}{suffix}").read_bytes() for suffix in _SUFFIXES}
        await registry.stop("in")
        return {"": session.path.read_bytes()}, live


_SUFFIXES: Final = ("", "-wal", "-shm")


def damaged(closed: Parts, live: Parts, chance: Random) -> Parts:
    """The files of a session, one or more of them not as they should be."""
    kind = chance.random()
    if kind < 0.25:
        return {"": _changed(closed[""], chance)}
    if kind < 0.5:
        return {"": garbage.pages(closed[""], schema.PAGE_BYTES, chance)}
    if kind < 0.6:  # a log that is not of this file
        log = chance.choice([live["-wal"], chance.randbytes(5000), b"", b"\x37\x7f\x06\x82" * 99])
        return {**closed, "-wal": log, **({"-shm": live["-shm"]} if chance.random() < 0.5 else {})}
    if kind < 0.65:
        return {**closed, "-journal": chance.choice([chance.randbytes(5000), closed[""], b""])}
    parts = dict(live)
    suffix = chance.choice(_SUFFIXES)
    if chance.random() < 0.2:
        del parts[chance.choice(("-wal", "-shm"))]
    if suffix in parts:
        page = schema.PAGE_BYTES if suffix == "" else schema.PAGE_BYTES + 24
        parts[suffix] = garbage.pages(parts[suffix], page, chance)
    return parts


def _changed(database: bytes, chance: Random) -> bytes:
    """The same, but for some values of one column, which no session has."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with contextlib.closing(connection):
        connection.deserialize(schema.for_memory(database))
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ((table,),) = [chance.choice(sorted(tables))]
        columns = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
        ((column,),) = [chance.choice(sorted(columns))]
        with contextlib.suppress(sqlite3.Error):  # there is a condition on it
            connection.execute(
                f"UPDATE {table} SET {column} = ? WHERE random() % ? = 0",
                (chance.choice(_VALUES), chance.choice([1, 2, 5])),
            )
        return schema.as_wal(connection.serialize())


_VALUES: Final = ("", "text", b"", b"\xff\xfe", -1, 0, 2**63 - 1, -(2**63), 1.5, 9e99, None, "\x01")


class Files:
    """A registry in whose directory damaged sessions turn up."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._directory = places.sessions
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._closed, self._live = await make_whole(self._places.sources / "whole")
        registry = SessionRegistry(self._directory, durability="normal")
        self._registry = await self._stack.enter_async_context(registry)
        self._bystander = await Bystander.start(registry)
        await self._bystander.check()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def round(self, chance: Random) -> int:
        ids = [f"in-{chance.randrange(10**9)}" for _ in range(_AT_ONCE)]
        for session_id in ids:
            for suffix, data in damaged(self._closed, self._live, chance).items():
                path = self._directory / f"{names.file_name(session_id, 'put')}{suffix}"
                path.write_bytes(data)
        for session_id in ids:
            session = self._registry.session(session_id)
            doings = [chance.choice(_ALL) for _ in range(_DOINGS)]
            for do in (_read, *doings, _stopped):
                await do(self._registry, session)
        if chance.random() < 0.1:
            await asyncio.to_thread(lambda: list(checkup.check(self._directory)))
        listed = await self._registry.sessions()
        if "bystander" not in [info.session_id for info in listed.sessions]:
            broken("the listing lost the bystander", listed)
        if not await self._registry.search("quietly spoken", session_id="bystander"):
            broken("search lost the bystander", listed)
        await self._bystander.check()
        for session_id in ids:
            await answer(self._registry.delete(session_id))
            with contextlib.suppress(FileNotFoundError):
                for suffix in ("", *names.SIDE_FILES):
                    os.unlink(self._directory / f"{names.file_name(session_id, 'put')}{suffix}")
        return len(ids)


async def _read(_: SessionRegistry, session: Session) -> None:
    rows = await answer(session.messages(on_corrupt="skip"))
    if isinstance(rows, list):
        for row in rows:
            if (
                not isinstance(row, Row)
                or type(row.message) is not dict
                or not is_known(row.message)
            ):
                broken("a damaged file had a row that none is", row)


async def _stopped(registry: SessionRegistry, session: Session) -> None:
    await answer(registry.stop(session.session_id))
    await answer(session.messages_from_latest_checkpoint())


async def _forked(registry: SessionRegistry, session: Session) -> None:
    fork = await answer(session.fork("fork"))
    if not isinstance(fork, SessionError):
        await answer(fork.messages(on_corrupt="skip"))
    await registry.delete("fork")


async def _followed(_registry: SessionRegistry, session: Session) -> None:
    with contextlib.suppress(SessionError, TimeoutError, StopAsyncIteration):
        async with session.subscribe(since=0) as events, asyncio.timeout(0.05):
            for _ in range(40):
                await anext(events)


_Doing = Callable[[SessionRegistry, Session], Awaitable[Any]]
_ALL: Final[tuple[_Doing, ...]] = (
    _read, _stopped, _forked, _followed,
    lambda _r, s: answer(s.append("one", {"role": "user"}, key="k")),
    lambda _r, s: answer(s.extend("one", [{"role": "summary"}] * 3)),
    lambda _r, s: answer(s.append("one", {"x": "y" * 9000}, turn="t1")),
    lambda _r, s: answer(s.messages(agent_id="one", newest=True, limit=3)),
    lambda _r, s: answer(s.messages_before_checkpoint(12)),
    lambda _r, s: answer(s.get(key="3")),
    lambda _r, s: answer(s.info()),
    lambda _r, s: answer(s.get_metadata()),
    lambda _r, s: answer(s.save_metadata({"key 1": "w", "new": "v"})),
    lambda _r, s: answer(s.truncate_from(9)),
    lambda _r, s: answer(s.remove([1, 3])),
    lambda _r, s: answer(s.update(6, {"role": "user"})),
    lambda _r, s: answer(s.clear()),
    lambda _r, s: answer(s.compact()),
    lambda _r, s: answer(s.interrupted_turn()),
    lambda _r, s: answer(s.finish_turn("t1")),
    lambda _r, s: answer(s.rename("other")),
    lambda _r, s: answer(s.rename("put")),
    lambda r, s: answer(r.search("hello", session_id=s.session_id)),
    lambda r, _s: answer(r.sessions(metadata={"key 1": "v"})),
    lambda r, s: answer(r.start(s.session_id)),
    lambda r, s: answer(r.exists(s.session_id)),
    lambda r, _s: answer(r.find("put")),
)  # fmt: skip
