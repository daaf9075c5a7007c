"""A directory full of what is no session: none of it is opened, and nothing leads out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Final, Self

from sessionactor import SessionError, SessionRegistry, checkup
from sessionactor import _names as names
from sessionactor._schema import as_wal, image
from torture.hostile import garbage
from torture.hostile.area import HELLO, Bystander, Places, answer, broken

_ENTRIES: Final = 12
_NAMES: Final[tuple[bytes, ...]] = (
    b"x_y.db", b"x_z.db", b"x_y.db-wal", b"x_y.db-shm", b"x_y.db-journal", b"x_", b"_y.db", b"x.db",
    b"X_y.db", b".x_y.db", b"x%5f_y.db", b"x%_y.db", b"x_y.DB", b"x_y.db.db", b"x_\xff\xfe.db",
    b"x_e\xcc\x81.db", b"\xff_y.db", b"x" * 126 + b"_" + b"y" * 120 + b".db", b"x" * 255,
    b"x_" + b"y" * 250 + b".db", b"x~" + b"0" * 32 + b"_y.db", b"x_y~" + b"f" * 32 + b".db",
    b"x_\n.db", b"bystander_other.db", b"new_new.db-wal", b"new_new.db",
    b"new_new.db-shm", b"new_named.db", b"new_named.db-wal", b".part", b"x.jsonl",
    names.CATALOG_FILE.encode(), f"{names.CATALOG_FILE}-wal".encode(), names.CATALOG_DRAFT.encode(),
    names.LOCK_FILE.encode(), *(names.draft_name(part).encode() for part in ("x", "new", "other")),
)  # fmt: skip

_Make = Callable[[bytes, Places], None]


def _session(path: bytes, _: Places) -> None:
    _write(path, as_wal(image("x", "y", 0)))


def _write(path: bytes, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def _directories(path: bytes, _: Places) -> None:
    os.mkdir(path)  # not through a link to the canary
    os.mkdir(path + b"/inside")


def _socket(path: bytes, _: Places) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path)


def _unreadable(path: bytes, _: Places) -> None:
    _write(path, b"secret")
    os.chmod(path, 0)


_KINDS: Final[tuple[_Make, ...]] = (
    _session, _session, _socket,
    lambda path, _: _write(path, b""),
    lambda path, _: _write(path, b"text\n" * 99),
    lambda path, _: _write(path, b"SQLite format 3\0" + bytes(84)),
    lambda path, _: os.mkfifo(path),
    lambda path, _: os.mkdir(path),
    _directories,
    lambda path, _: os.symlink(path, path),
    lambda path, _: os.symlink(b"nowhere", path),
    lambda path, _: os.symlink(b"/dev/zero", path),
    lambda path, places: os.symlink(places.canary, path),
    lambda path, places: os.symlink(places.canary / "x_y.db", path),
    lambda path, places: os.symlink(places.canary / "x_y.db", path),
    lambda path, places: os.symlink(places.canary / "text", path),
    lambda path, places: os.symlink(places.canary / "not there yet", path),
    lambda path, places: os.symlink(places.canary / names.CATALOG_FILE, path),
    _unreadable,
)  # fmt: skip


class Entries:
    """Registries in directories in which there is anything."""

    def __init__(self, places: Places) -> None:
        self._places = places

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    async def round(self, chance: Random) -> int:
        directory = self._places.sessions / f"{chance.randrange(10**6)}"
        directory.mkdir()
        first = chance.randrange(_ENTRIES)
        self._fill(directory, first, chance)
        try:
            async with SessionRegistry(directory, durability="normal") as registry:
                bystander = await _bystander(registry, directory)
                self._fill(directory, _ENTRIES - first, chance)
                await self._use(registry, directory)
                if bystander is not None:
                    await registry.stop("bystander")
                    await bystander.check()
                    await bystander.check_all()
        except SessionError:
            _excused(directory, names.LOCK_FILE)
        await asyncio.to_thread(_checked, directory)
        shutil.rmtree(directory, ignore_errors=True)
        return _ENTRIES

    def _fill(self, directory: Path, count: int, chance: Random) -> None:
        for _ in range(count):
            name = chance.choice(_NAMES)
            if chance.random() < 0.1:
                text = garbage.text(chance, 2).replace("/", "")
                name = text.encode("utf-8", "ignore")[:200] + b"_y.db"
            with contextlib.suppress(OSError, ValueError):  # there is something of that name
                chance.choice(_KINDS)(os.fsencode(directory) + b"/" + name, self._places)

    async def _use(self, registry: SessionRegistry, directory: Path) -> None:
        for pattern in ("*", "y*"):
            await answer(registry.find(pattern))
        await answer(registry.find_by_name("y"))
        await answer(registry.find_by_prefix("x"))
        await answer(registry.sessions())
        await answer(registry.search("quietly"))
        for session_id in ("x", "new", "other"):
            session = await answer(registry.start(session_id))
            if isinstance(session, SessionError):
                continue
            await answer(session.append("one", HELLO))
            await answer(session.rename("named"))
            await answer(registry.stop(session_id))
            await answer(session.messages())
            await answer(session.backup(directory / "x.jsonl"))
        for session_id in ("x", "new"):
            await answer(registry.delete(session_id))
        await answer(registry.sessions())


async def _bystander(registry: SessionRegistry, directory: Path) -> Bystander | None:
    """A session that goes on, unless what is of its own name stands in its way."""
    try:
        bystander = await Bystander.start(registry)
    except SessionError:
        for suffix in ("", *names.SIDE_FILES):
            if os.path.lexists(directory / f"bystander_bystander.db{suffix}"):
                return None
        if os.path.lexists(directory / "bystander_other.db"):
            return None
        raise
    await bystander.check()
    return bystander


def _excused(directory: Path, entry: str) -> None:
    """See that a directory was refused for a reason that it has."""
    mode = os.lstat(directory / entry).st_mode
    if stat.S_ISREG(mode) and mode & 0o600 == 0o600:
        broken("a directory was refused", sorted(os.listdir(os.fsencode(directory))))


def _checked(directory: Path) -> None:
    with contextlib.suppress(OSError):
        list(checkup.check(directory))
