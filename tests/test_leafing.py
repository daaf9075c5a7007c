from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sessionactor import CorruptRowError, InvalidNameError, SessionOwnedError, SessionRegistry

LONG = 3_000
"""Rows of a chapter that is not read at one stroke."""


async def fill(registry: SessionRegistry) -> list[str]:
    """Sessions of all kinds, in no order."""
    for number, session_id in enumerate(("plain", "empty", "with a summary", "LONG", "x" * 200)):
        session = await registry.start(session_id)
        for text in range(number if session_id != "empty" else 0):
            await session.append("agent", {"role": "user", "content": f"{session_id} {text}"})
    await session.extend("agent", [{"role": "user", "content": n} for n in range(3)])
    chaptered = registry.session("with a summary")
    await chaptered.append("agent", {"role": "summary", "content": "so far"})
    await chaptered.append("other", {"role": "user", "content": "after it"})
    await registry.session("LONG").extend("a", [{"content": number} for number in range(LONG)])
    return ["LONG", "with a summary", "empty", "plain", "x" * 200]


async def check(registry: SessionRegistry, session_ids: list[str]) -> None:
    """That they are what the sessions themselves say, in the order that was asked for."""
    found = await registry.latest_chapters([*session_ids, "nobody", session_ids[0]])
    assert list(found) == session_ids
    for session_id, page in found.items():
        assert page == await registry.session(session_id).messages_from_latest_checkpoint()


@pytest.mark.parametrize("directory", ["sessions", None])
async def test_the_latest_chapters_of_many_sessions(directory: str | None, tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path / directory if directory else None) as registry:
        session_ids = await fill(registry)
        await check(registry, session_ids)  # in use
        for session_id in session_ids[1:]:
            await registry.stop(session_id)
        await check(registry, session_ids)  # some of them
        with pytest.raises(InvalidNameError):
            await registry.latest_chapters(["plain", ""])


async def test_they_are_read_without_bringing_sessions_into_use(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session_ids = await fill(registry)
    short = session_ids[1:4]
    async with SessionRegistry(tmp_path) as registry:
        before = sorted(tmp_path.glob("[!.]*"))
        assert list(await registry.latest_chapters(short)) == short
        assert registry.statistics().activations == 0
        assert sorted(tmp_path.glob("[!.]*")) == before
    async with SessionRegistry(tmp_path, read_only=True) as registry:
        await check(registry, session_ids)


async def test_another_owner_does_not_matter_and_what_it_stored_is_seen(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as owner, SessionRegistry(tmp_path) as registry:
        session = await owner.start("theirs")
        for number in range(3):
            await session.append("agent", {"content": number})
            (page,) = (await registry.latest_chapters(["theirs"])).values()
            assert [row.message["content"] for row in page.rows] == list(range(number + 1))
        with pytest.raises(SessionOwnedError):
            await registry.session("theirs").messages()


async def test_a_corrupt_row_is_told_of_or_passed_over(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("s")
        await session.extend("agent", [{"content": number} for number in range(3)])
        path = session.path
    assert path is not None
    connection = sqlite3.connect(path)
    connection.execute("UPDATE messages SET data = x'c1' WHERE id = 2")
    connection.commit()
    connection.close()
    async with SessionRegistry(tmp_path) as registry:
        with pytest.raises(CorruptRowError, match="row 2"):
            await registry.latest_chapters(["s"])
        (page,) = (await registry.latest_chapters(["s"], on_corrupt="skip")).values()
        assert [row.db_id for row in page.rows] == [1, 3]
