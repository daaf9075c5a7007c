"""A damaged catalog: made anew or told as damaged, and no session is the worse for it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from sessionactor import SessionError, SessionRegistry
from sessionactor import _names as names
from torture.hostile import garbage
from torture.hostile.area import HELLO, Places, answer, broken

_PAGE_BYTES = 4096
_SESSIONS = 4


class Catalogs:
    """A directory whose catalog is damaged whenever nobody has it open."""

    def __init__(self, places: Places) -> None:
        self._directory = places.sessions
        self._path = places.sessions / names.CATALOG_FILE
        self._count = 0

    async def __aenter__(self) -> Self:
        async with SessionRegistry(self._directory, durability="normal") as registry:
            for number in range(_SESSIONS):
                session = await registry.start(f"s{number}", name=f"name {number}")
                await session.extend(
                    "one", [HELLO, {"content": "日本語 text " * 50, "n": number}] * 9
                )
                await session.save_metadata({"key": f"{number}"})
            await registry.sessions()
            await registry.search("quietly")
            self._live = {
                suffix: Path(f"{self._path}{suffix}").read_bytes()
                for suffix in ("", "-wal", "-shm")
            }
        self._whole = self._path.read_bytes()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    async def round(self, chance: Random) -> int:
        for suffix, data in self._damaged(chance).items():
            Path(f"{self._path}{suffix}").write_bytes(data)
        async with SessionRegistry(self._directory, durability="normal") as registry:
            for call in (
                registry.sessions(limit=3),
                registry.sessions(order="created", metadata={"key": "1"}, name="name*"),
                registry.search("quietly spoken", by="session"),
                registry.search("日本", order="rank", session_id="s1"),
                registry.running(),
                registry.children("s1/1"),
            ):
                await answer(call)
            session = registry.session(f"s{chance.randrange(_SESSIONS)}")
            if isinstance(await answer(session.append("one", HELLO)), SessionError):
                broken("a session takes no message because its catalog is damaged", self._path)
            self._count += 1
            await answer(registry.search("quietly", session_id=session.session_id))
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        if chance.random() < 0.2:
            await self._heals()
        return 1

    async def _heals(self) -> None:
        async with SessionRegistry(self._directory, durability="normal") as registry:
            listed = await registry.sessions()
            if {info.session_id for info in listed.sessions} != {
                f"s{number}" for number in range(_SESSIONS)
            }:
                broken("a catalog that was made anew has other sessions", listed)
            hits = await registry.search("quietly spoken", limit=10**6)
            if len(hits) != 9 * _SESSIONS + self._count:
                broken(f"it finds {len(hits)} messages", 9 * _SESSIONS + self._count)

    def _damaged(self, chance: Random) -> dict[str, bytes]:
        kind = chance.random()
        if kind < 0.6:
            return {"": garbage.pages(self._whole, _PAGE_BYTES, chance)}
        if kind < 0.7:
            data = chance.choice(
                [b"", b"text\n" * 99, b"SQLite format 3\0", chance.randbytes(9999)]
            )
            return {"": data}
        parts = dict(self._live)
        suffix = chance.choice(list(parts))
        parts[suffix] = garbage.pages(parts[suffix], _PAGE_BYTES, chance)
        return parts
