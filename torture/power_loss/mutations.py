"""Faults that a loss of power has to bring to light: mostly something that is not synced."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from sessionactor import _catalog_file as catalog_file
from sessionactor import _disk as disk
from sessionactor import _files as files
from sessionactor import _loading as loading
from sessionactor import _opening as opening
from sessionactor import _schema as schema
from sessionactor import _sql as sql
from sessionactor._catalog import Catalog
from sessionactor._changes import InsertRows
from sessionactor._deciding import Decision, decide
from sessionactor._requests import Write
from sessionactor._store import SqliteStore
from sessionactor._syncing import sync_directory
from torture.campaign import Mutation
from torture.power_loss.preparing import LIVES, Life


def _replacing(target: object, name: str, fault: Callable[..., Any]) -> Mutation:
    """A fault that is another function; it is given the real one first."""
    real = getattr(target, name)

    @contextmanager
    def planted() -> Iterator[None]:
        with patch.object(target, name, lambda *given, **named: fault(real, *given, **named)):
            yield

    return planted


def _ignoring(*_: object) -> None:
    """What is left out."""


async def _not_waiting(*_: object) -> None:
    """What is not waited for."""


def _prepare_synced_rarely(real: Any, given: Any, connection: sqlite3.Connection) -> Any:
    loaded = real(given, connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    return loaded


def _write_unsynced(_: Any, image: bytes, draft: Path) -> None:
    draft.write_bytes(image)


def _seal_unsynced(_: Any, draft: Path) -> None:
    with open(draft, "r+b") as file:
        file.seek(schema.WAL_MARK_AT)
        file.write(schema.WAL_MARK)


_COMMIT_S: Final = 0.005
"""What a commit takes on a slow disk: whoever is answered before it is heard by then."""

_syncs = threading.local()
"""Whether this thread does what it should sync, and does not."""


def _without_directory_sync(name: str) -> Mutation:
    """A fault of that function: it does not sync the directory."""

    def without(real: Any, *given: Any) -> Any:
        _syncs.are_left_out = True
        try:
            return real(*given)
        finally:
            _syncs.are_left_out = False

    def sync(real: Any, path: Path) -> None:
        if not getattr(_syncs, "are_left_out", False):
            real(path)

    @contextmanager
    def planted() -> Iterator[None]:
        with _replacing(files, name, without)(), _replacing(files, "sync_directory", sync)():
            yield

    return planted


def _make_unsynced(_: Any, path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


def _create_visible(_: Any, path: Path, draft: Path, build: Callable[[Path], None]) -> None:
    if os.path.lexists(path):
        raise FileExistsError(path)
    files.remove_orphans(path)
    build(path)
    sync_directory(path.parent)


def _store_in_two(real: Any, decision: Decision, token: str, connection: sql.Connection) -> None:
    steps = decision.steps
    first = steps[0] if steps else None
    if type(first) is InsertRows and len(first.rows) > 1:
        real(decision._replace(steps=[InsertRows(first.rows[:1], [])]), token, connection)
        steps = [InsertRows(first.rows[1:], first.keys), *steps[1:]]
    real(decision._replace(steps=steps), token, connection)


async def _answer_before_commit(_: Any, store: SqliteStore, group: Sequence[Write]) -> Decision:
    """What was decided is told while it is still on its way to the disk."""
    loop, content = asyncio.get_running_loop(), store._content
    decided: asyncio.Future[Decision] = loop.create_future()

    def commit(connection: sqlite3.Connection) -> None:
        cursor = connection.cursor()
        state, now = content._state, content._clock()
        decision = decide(content._session_id, group, state, now, sql._Content(cursor))
        if decision.steps:
            cursor.execute("BEGIN IMMEDIATE")
            sql._apply(decision, content._token, cursor)
        loop.call_soon_threadsafe(decided.set_result, decision)
        time.sleep(_COMMIT_S)
        if decision.steps:
            cursor.execute("COMMIT")

    def over(committing: asyncio.Future[None]) -> None:
        failed = committing.exception()
        if failed is not None and not decided.done():
            decided.set_exception(failed)

    asyncio.ensure_future(store._call(commit)).add_done_callback(over)
    content.follow(await decided)
    return decided.result()


def _load_without_high_water(real: Any, connection: sqlite3.Connection) -> Any:
    info, state = real(connection)
    return loading.Loaded(info, state._replace(high_water=state.head))


def _catalog_synced_rarely(
    real: Any, catalog: Any, pragma: str, anew: bool, opened: Any
) -> sqlite3.Connection:
    connection: sqlite3.Connection = real(catalog, pragma.replace("FULL", "NORMAL"), anew, opened)
    return connection


MUTATIONS: Final[dict[str, Mutation]] = {
    "commits are not synced": _replacing(opening, "_prepare", _prepare_synced_rarely),
    "a new image is not synced": _replacing(files, "write", _write_unsynced),
    "a copy is not synced": _replacing(files, "seal", _seal_unsynced),
    "a creation is not synced": _without_directory_sync("create"),
    "a removal is not synced": _without_directory_sync("remove"),
    "a renaming is not synced": _without_directory_sync("move"),
    "a new directory is not synced": _replacing(disk, "make_directory", _make_unsynced),
    "a file is made in its place": _replacing(files, "create", _create_visible),
    "orphans may come back": _without_directory_sync("remove_orphans"),
    "logs are removed unread": _replacing(files, "_tidy", _ignoring),
    "creating does not wait for the catalog": _replacing(Catalog, "forgotten", _not_waiting),
    "answers come before the commit": _replacing(SqliteStore, "commit", _answer_before_commit),
    "a group is two transactions": _replacing(sql, "_store", _store_in_two),
    "the highest id is forgotten": _replacing(loading, "load", _load_without_high_water),
    "the catalog is synced rarely": _replacing(
        catalog_file.CatalogFile, "_connect", _catalog_synced_rarely
    ),
    "closing does not wait for the catalog": _replacing(Catalog, "taken", _not_waiting),
}

_FORGETFUL: Final = Life(
    "directory", often="stop", share=0.5, durability="full", losses=[("all", "ordered")], asks=True
)
AIMED: Final[dict[str, Life]] = {
    "commits are not synced": Life("directory", often="append", durability="full"),
    "a new directory is not synced": Life(""),
    "a file is made in its place": Life("directory", often="fork", share=0.5),
    "orphans may come back": Life("directory open orphans", ("create",), often="rename", share=0.5),
    "logs are removed unread": LIVES[2],
    "creating does not wait for the catalog": Life("directory", (), "delete_and_create", 0.5),
    "answers come before the commit": Life("directory", often="append", durability="full"),
    "the catalog is synced rarely": _FORGETFUL,
    "closing does not wait for the catalog": _FORGETFUL,
}
"""The life of a victim in which a fault shows soon; others show in most."""


def life_of(number: int, mutation: str | None) -> Life:
    """What kind of life a victim has: each in its turn, unless there is a fault to be seen."""
    aimed = AIMED.get((mutation or "").partition("/")[2])
    return aimed or LIVES[number % len(LIVES)]
