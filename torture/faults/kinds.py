"""What can be wrong with a disk, a system, files and a clock, for a while."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic
from typing import Final, Literal, TypeAlias

from sessionactor import Session, SessionError, SessionNotFoundError, SessionRegistry, StorageError
from torture.faults.callers import Concerned, Seen
from torture.faults.preload import Call, Control
from torture.kills.story import message

_NOTICED_S: Final = 5.0

Scope: TypeAlias = Literal["session", "catalog", "directory", "nobody"]
"""Whom it concerns: one session, no session, all that live in the directory, or nobody at all."""


@dataclass
class World:
    """Where a fault happens."""

    chance: Random
    control: Control
    registry: SessionRegistry
    concerned: Concerned
    place: Path
    seen: Seen
    small: bool
    """Whether the place is a file system of its own that can be filled."""

    @property
    def path(self) -> Path:
        """The file of the session that is concerned."""
        assert self.concerned.session.path is not None
        return self.concerned.session.path


Fault: TypeAlias = Callable[[World], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    family: str
    scope: Scope
    fault: Fault
    """Something is wrong while it is entered."""
    is_real: bool = False
    """Whether it wants a small disk."""
    by_hand: bool = False
    """Whether other hands change what was answered: then that is not asked for."""


@asynccontextmanager
async def calls(call: Call, error: int, part: str, world: World) -> AsyncIterator[None]:
    """Calls of the system fail, from one of the next ones on, once or until the end."""
    skip = world.chance.choice((0, 0, 0, 1, 2, 5, 10, 20))
    times = world.chance.choice((1, 1, 2, 5, -1, -1))
    world.control.fail(call, error, str(world.place) + part, skip=skip, times=times)
    try:
        yield
    finally:
        world.control.clear()


@asynccontextmanager
async def no_room(part: str, world: World) -> AsyncIterator[None]:
    """Files can grow by a little, and then no more: made up, by the preloaded library."""
    room = world.chance.choice((0, 100, 4096, 30_000, 100_000))
    world.control.fill(room, str(world.place) + part)
    try:
        yield
    finally:
        world.control.clear()


@asynccontextmanager
async def full_disk(world: World) -> AsyncIterator[None]:
    """A small file system is full but for a little."""
    if not world.small:
        async with no_room("", world):
            yield
        return
    filler = world.place.parent / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        size = os.fstat(file.fileno()).st_size
        file.truncate(max(0, size - world.chance.choice((0, 4096, 16_384, 65_536))))
    try:
        yield
    finally:
        os.unlink(filler)


@asynccontextmanager
async def moved_away(world: World) -> AsyncIterator[None]:
    """The session's file has another name for a while."""
    path, away = world.path, world.place.parent / "away"
    os.rename(path, away)
    try:
        yield
    finally:
        os.rename(away, path)


@asynccontextmanager
async def removed(world: World) -> AsyncIterator[None]:
    """Other hands remove a session's file, and put it back from a backup."""
    session, path = world.concerned.session, world.path
    backup = world.place.parent / "backup.db"
    await session.backup(backup)
    path.unlink()
    await _noticed(session, world)
    answer = await world.seen.asked("a call", session.append("h", {}))
    if not isinstance(answer, SessionNotFoundError):
        world.seen.fail("concerned", f"its file is gone: {answer!r}")
    try:
        yield
    finally:
        os.rename(backup, path)


@asynccontextmanager
async def replaced(how: str, world: World) -> AsyncIterator[None]:
    """Other hands put another file in the place of a session's, and later the old one back."""
    path = world.path
    await world.registry.stop(world.concerned.session.session_id)
    whole = path.read_bytes()
    session = world.concerned.session
    await world.seen.asked("a call", session.append("h", message(0)))
    _put(path, whole, how, world)
    answered = []
    try:
        yield
        if how in ("copy", "other"):
            await _noticed(session, world)
        for n in range(5):
            key = f"after {n}"
            if isinstance(await world.seen.asked(key, session.append("h", {}, key=key)), int):
                answered.append(key)
        if how in ("copy", "other"):
            await _there(answered, session, world)
    finally:
        await world.seen.asked("stopping", world.registry.stop(session.session_id))
        _remove(path)
        _write(path, whole)


def _put(path: Path, whole: bytes, how: str, world: World) -> None:
    if how == "other":
        other = world.place / "other_o.db"
        _write(path, other.read_bytes()[: other.stat().st_size])
    elif how == "copy":
        _write(path, whole)
    elif how == "rubbish":
        _write(path, b"This is not a database." * 1000)
    else:
        os.truncate(path, 0 if how == "empty" else len(whole) // 2)


async def _noticed(session: Session, world: World) -> None:
    """Whoever writes is told, soon, that the file is not there any more."""
    until = monotonic() + _NOTICED_S
    while not isinstance(await world.seen.asked("a call", session.append("h", {})), StorageError):
        if monotonic() > until:
            world.seen.fail("concerned", f"nobody noticed within {_NOTICED_S} s")
            return


async def _there(answered: list[str], session: Session, world: World) -> None:
    """What was answered after another file came is in that file."""
    await world.registry.stop(session.session_id)
    for key in answered:
        row = await world.seen.asked("looking", session.get(key=key))
        if row is None:
            world.seen.fail("concerned", f"{key} was answered, and is in no file that is there")


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name("by-hand")
    draft.write_bytes(data)
    os.replace(draft, path)


def _remove(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        if os.path.lexists(f"{path}{suffix}"):
            os.unlink(f"{path}{suffix}")


@asynccontextmanager
async def few_descriptors(world: World) -> AsyncIterator[None]:
    """The process may not open many more files, and many sessions are wanted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + world.chance.randrange(12), hard))
    refused = []
    try:
        for n in range(10):
            answer = await world.seen.asked("starting", world.registry.start(f"m{n}", name="m"))
            if isinstance(answer, StorageError):
                refused.append(f"m{n}")
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if not refused:
        world.seen.fail("concerned", "no session was refused for want of descriptors")
    for session_id in refused:
        started = await world.seen.asked("starting", world.registry.start(session_id, name="m"))
        if isinstance(started, Exception):
            world.seen.fail("concerned", f"there are descriptors again, and {started!r}")


@asynccontextmanager
async def little_memory(world: World) -> AsyncIterator[None]:
    """A message is larger than the memory that is left.

    No thread is begun meanwhile: one that has not even the memory to begin makes Python wait for
    it for ever.
    """
    huge = {"data": bytes(96 << 20)}
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    _, before = _memory()
    session = world.concerned.session
    try:
        for room in (world.chance.choice((200, 300)), world.chance.choice((32, 64, 96))):
            size, _ = _memory()  # as it is now: what others need, they have
            resource.setrlimit(resource.RLIMIT_AS, (size + (room << 20), hard))
            refused = await world.seen.asked("a huge message", session.append("h", huge))
            if not isinstance(refused, SessionError):
                world.seen.fail("concerned", f"a huge message was not refused: {refused!r}")
            await world.concerned.step()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    yield
    _, after = _memory()
    if after - before > len(huge["data"]) // 2:
        world.seen.fail("concerned", f"{after - before:,} bytes are in use after a huge message")


def _memory() -> tuple[int, int]:
    """Bytes of this process's address space, and in use of it."""
    with open("/proc/self/statm") as file:
        size, used = file.read().split()[:2]
    page = resource.getpagesize()
    return int(size) * page, int(used) * page


@asynccontextmanager
async def wrong_clock(seconds: int, world: World) -> AsyncIterator[None]:
    """The time of day jumps, and later back."""
    world.control.turn_clock(seconds)
    try:
        yield
    finally:
        world.control.clear()


_PARTS: Final[dict[Scope, str]] = {
    "session": "/v_",
    "catalog": "/.sessionactor.catalog",
    "directory": "",
}
_CALLS: Final[tuple[tuple[Call, str], ...]] = (
    ("read", "EIO"), ("write", "EIO"), ("write", "ENOSPC"), ("write", "EDQUOT"), ("sync", "EIO"),
    ("open", "EIO"), ("open", "EMFILE"), ("open to write", "EACCES"), ("open to write", "EROFS"),
    ("close", "EIO"), ("rename", "EIO"), ("link", "EIO"), ("unlink", "EIO"), ("truncate", "EIO"),
)  # fmt: skip

KINDS: Final[dict[str, Kind]] = {
    "a full disk": Kind("disk full", "directory", full_disk, is_real=True),
    "a file that is moved away": Kind("by hand", "session", moved_away),
    "a file that is removed": Kind("by hand", "session", removed, by_hand=True),
    "few descriptors": Kind("limits", "session", few_descriptors),
    "little memory": Kind("limits", "session", little_memory),
    "a clock a day slow": Kind("clock", "nobody", partial(wrong_clock, -86_400)),
    "a clock a day fast": Kind("clock", "nobody", partial(wrong_clock, 86_400)),
    **{
        f"no room in {scope}": Kind("disk full", scope, partial(no_room, part))
        for scope, part in _PARTS.items()
    },
    **{
        f"a file replaced by {how}": Kind(
            "by hand", "session", partial(replaced, how), by_hand=True
        )
        for how in ("copy", "other", "rubbish", "empty", "half")
    },
    **{
        f"{call} {name} in {scope}": Kind(
            "calls", scope, partial(calls, call, getattr(errno, name), part)
        )
        for call, name in _CALLS
        for scope, part in _PARTS.items()
    },
}
"""All of them, by name; what it is called is what a case is called."""
