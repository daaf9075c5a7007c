"""What a victim finds: nothing, files of the first version, what another victim left behind."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sessionactor import Session, SessionRegistry
from sessionactor._codec import encode
from sessionactor._digest import digest
from sessionactor._schema import APPLICATION_ID, MIGRATIONS, migrate
from torture.power_loss.disk import KINDS, Kind
from torture.power_loss.snapshot import State, keyed, shown

_AT: Final = 1_700_000_000_000_000


@dataclass
class Known:
    """What the victim knows of a session of its own."""

    high: int = 0
    keys: dict[str, int] = field(default_factory=dict)


Prepared = tuple[Known, State]
"""Of a session; nobody opened it where it is now."""


class Life(NamedTuple):
    """What kind of life a victim has: where it begins, and with what."""

    finds: str
    """A directory, unless it is empty: perhaps with a file of version `1`, a session that was
    left behind `open`, logs without a session (`orphans`)."""
    first: tuple[str, ...] = ()
    """What it does first: `delete`s the session left behind, or `create`s one."""
    often: str | None = None
    """A step that it does more often …"""
    share: float = 0.2
    """… so often, beside its turn."""
    durability: Literal["full", "normal"] | None = None
    """`None`: as chance says."""
    losses: Sequence[Kind] = KINDS
    """The kinds of losses that it ends by."""
    asks: bool = False
    """Whether the catalog is asked after each of them, first and last, and not in its turn."""
    has_catalog: bool = True
    second: bool = False
    """Whether it begins with what a loss of power left of another life."""


LIVES: Final = (
    Life("directory"),
    Life("directory 1 open", often="fork"),
    Life("directory open orphans", ("delete", "create"), has_catalog=False),
    Life(""),
    Life("directory orphans", ("create", "delete_and_create"), often="delete_and_create"),
    Life("directory open orphans", ("create",), often="rename"),
    Life("directory 1 open orphans", second=True),
)


async def prepare(directory: Path, elsewhere: Path, life: Life) -> dict[str, Prepared]:
    """Make a directory of sessions, if it is to be found; what is to be found in it."""
    if not life.finds:
        return {}  # the registry makes it
    directory.mkdir()
    found: dict[str, Prepared] = {}
    if "1" in life.finds:
        found["s0"] = await _first_version(elsewhere / "first", directory)
    if "open" in life.finds:
        found["s1"] = await _left_behind(elsewhere, directory, "s1")
    if "orphans" in life.finds:
        # Of a session that was removed by other hands.
        await _left_behind(elsewhere, directory, "s2")
        for name in ("one", "two", "three", "fork"):
            _put(elsewhere / "s2_one.db-wal", directory / f"s2_{name}.db-wal")
        (directory / "s2_one.db").unlink()
    return found


async def take_over(left: Path, directory: Path, elsewhere: Path) -> dict[str, Prepared]:
    """Begin with what a loss of power left of a directory; what is to be found in it."""
    elsewhere.mkdir()
    if not left.is_dir():
        return {}
    directory.mkdir()
    for path in left.iterdir():
        _put(path, directory / path.name)
        _put(path, elsewhere / path.name)
    found: dict[str, Prepared] = {}
    async with SessionRegistry(elsewhere, catalog=False) as registry:
        for file in await registry.find("*"):
            session = registry.session(file.session_id)
            seen = await shown(session)
            known = Known(await session.append("a", {}) - 1)
            found[file.session_id] = known, State(seen, known.high, ())
    return found


async def _prepared(session: Session, known: Known) -> Prepared:
    return known, State(await shown(session), known.high, tuple(known.keys.items()))


def _put(source: Path, target: Path) -> None:
    with open(target, "wb") as file:
        file.write(source.read_bytes())


async def _left_behind(elsewhere: Path, directory: Path, session_id: str) -> Prepared:
    """A session with a log: whoever had it open was killed."""
    known = Known()
    async with SessionRegistry(elsewhere, catalog=False) as registry:
        session = await registry.start(session_id, name="one")
        for key in ("k1", "k2", "k3"):
            known.high = known.keys[key] = await session.append("k", keyed(key), key=key)
        path = elsewhere / f"{session_id}_one.db"
        log = path.with_name(f"{path.name}-wal")
        for part in (path, log):
            _put(part, directory / part.name)
        content = log.read_bytes()
        prepared = await _prepared(session, known)
    log.write_bytes(content)
    return prepared


async def _first_version(elsewhere: Path, directory: Path) -> Prepared:
    """A session as version 1 left it."""
    elsewhere.mkdir(parents=True)
    path = elsewhere / "s0_one.db"
    keys = {f"k{db_id}": db_id for db_id in range(1, 6)}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 2048")
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection, 0, MIGRATIONS[:1])
        connection.execute("INSERT INTO session VALUES (1, 's0', 'one', ?, 0, 0, ?)", (_AT, _AT))
        for key, db_id in keys.items():
            data = encode(keyed(key), max_bytes=1000, session_id="s0")
            connection.execute(
                "INSERT INTO messages VALUES (?, 'k', ?, ?, 0, NULL, ?, NULL, NULL, ?)",
                (db_id, data, _AT + db_id, key, db_id),
            )
            connection.execute("INSERT INTO keys VALUES (?, ?, ?)", (key, db_id, digest("k", data)))
    _put(path, directory / path.name)
    async with SessionRegistry(elsewhere, catalog=False) as registry:
        return await _prepared(registry.session("s0"), Known(len(keys), keys))
