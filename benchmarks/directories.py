"""Directories full of sessions, made in seconds."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from time import time_ns

from benchmarks.candidates import AGENT
from benchmarks.workloads import Message, data_directory
from sessionactor import SessionRegistry
from sessionactor._names import file_name
from sessionactor._schema import as_wal

_APART_US = 1_000_000
"""Between the creations of two sessions, or the messages of one."""
_AT_ONCE = 100
"""Sessions whose messages alternate."""


def session_id(number: int) -> str:
    """The id of a session that `fill` made."""
    return f"session-{number:06}"


async def fill(directory: Path, sessions: int, messages: Sequence[Message]) -> None:
    """Make sessions to be listed, with the same messages, but ids, names and times of their own.

    A registry makes the first one. The others are copies of its file whose id, name and times
    are changed in memory before they are written: opened one by one, a hundred thousand would
    take minutes. They were created a second apart, in the order of their numbers, and last
    changed in another order.
    """
    with data_directory() as workshop:
        async with SessionRegistry(workshop, durability="normal", catalog=False) as registry:
            session = await registry.start("original", name="original")
            if messages:
                await session.extend(AGENT, messages)
            path = session.path
        assert path is not None
        image = path.read_bytes()
    began = time_ns() // 1000 - 2 * sessions * _APART_US
    changes = random.Random(sessions).sample(range(sessions), sessions)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.deserialize(_as_rollback(image))
        for number, change in enumerate(changes):
            created = began + number * _APART_US
            changed = began + (sessions + change) * _APART_US
            name = f"name-{number:06}"
            connection.execute(
                "UPDATE session SET session_id = ?, name = ?, created_at = ?, last_at = ?",
                (session_id(number), name, created, changed),
            )
            connection.execute("UPDATE messages SET inserted_at = ?", (changed,))
            file = directory / file_name(session_id(number), name)
            file.write_bytes(as_wal(connection.serialize()))


async def fill_with_text(directory: Path, messages: Iterable[Message], each: int) -> None:
    """Make sessions of so many messages each, a hundred of them at the same time.

    A registry makes them one after another, which is fast; then their times are changed, so
    that the messages of a hundred sessions alternate, as those of a server do.
    """
    paths: list[Path] = []
    async with SessionRegistry(directory, durability="normal", catalog=False) as registry:
        rest = iter(messages)
        while part := [*islice(rest, each)]:
            session = await registry.start(session_id(len(paths)))
            await session.extend(AGENT, part)
            assert session.path is not None
            paths.append(session.path)
            await registry.stop(session.session_id)
    apart_us = each * _APART_US // _AT_ONCE
    began = time_ns() // 1000 - (len(paths) + _AT_ONCE) * apart_us
    for number, path in enumerate(paths):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN")
            at = f"{began + number * apart_us} + {_APART_US} * "
            # No clock is so regular that all sessions share their microseconds.
            connection.execute(
                f"UPDATE messages SET inserted_at = {at} id + abs(random()) % {_APART_US}"
            )
            connection.execute(f"UPDATE session SET created_at = {at} 0, last_at = {at} high_water")
            connection.execute("COMMIT")


def _as_rollback(image: bytes) -> bytes:
    """The same database in the journal mode that memory needs; see `as_wal`."""
    return b"".join((image[:18], b"\x01\x01", image[20:]))
