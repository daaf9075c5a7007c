from __future__ import annotations

import asyncio
import dataclasses
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from sessionactor import (
    RegistryStatistics,
    SessionError,
    SessionRegistry,
    StorageError,
)

HELLO = {"role": "user", "content": "hello"}


def entries(place: Path) -> list[str]:
    return sorted(entry for entry in os.listdir(place) if not entry.startswith("."))


async def test_open_and_aclose_are_idempotent(place: Path | None) -> None:
    registry = SessionRegistry(place)
    await registry.aclose()
    await registry.open()
    await registry.open()
    session = await registry.start("a")
    await registry.open()
    assert await session.append("one", HELLO) == 1
    await registry.aclose()
    await registry.aclose()
    async with registry:
        await registry.open()
    await registry.aclose()


async def test_concurrent_opens_and_closes_are_one(place: Path | None) -> None:
    registry = SessionRegistry(place)
    await asyncio.gather(*(registry.open() for _ in range(5)))
    await registry.start("a")
    await asyncio.gather(*(registry.aclose() for _ in range(5)))
    with pytest.raises(RuntimeError):
        await registry.exists("a")


async def test_the_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    async with SessionRegistry(str(tmp_path / "x" / "y")) as registry:
        session = await registry.start("a", name="n")
        assert session.path == tmp_path / "x" / "y" / "a_n.db"


async def test_a_relative_directory_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with SessionRegistry("here") as registry:
        await registry.start("a", name="n")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        await registry.start("b", name="n")
        await registry.stop("a")
        assert await registry.session("a").append("one", HELLO) == 1
    assert entries(tmp_path / "here") == ["a_n.db", "b_n.db"]


async def test_in_memory_nothing_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with SessionRegistry(None) as registry:
        session = await registry.start("a")
        assert session.path is None
        assert (await registry.find_by_id("a")).path is None
        await session.append("one", HELLO)
        await registry.stop("a")
        await session.rename("n")
    assert os.listdir(tmp_path) == []


async def test_in_memory_sessions_end_with_the_registry() -> None:
    registry = SessionRegistry(None)
    async with registry:
        await registry.start("a")
    async with registry:
        assert await registry.find("*") == []
        assert not await registry.exists("a")


async def test_in_memory_registries_share_nothing() -> None:
    async with SessionRegistry(None) as first, SessionRegistry(None) as second:
        await (await first.start("a")).append("one", HELLO)
        assert not await second.exists("a")
        assert await (await second.start("a")).messages() == []


async def test_a_file_in_place_of_the_directory_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        registry = SessionRegistry(directory)
        with pytest.raises(StorageError) as caught:
            await registry.open()
        assert isinstance(caught.value, OSError)
        assert str(tmp_path / "file") in str(caught.value)
        await registry.aclose()
    assert (tmp_path / "file").read_text() == "not a directory"


async def test_a_registry_that_could_not_be_opened_can_be_later(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("in the way")
    registry = SessionRegistry(tmp_path / "d")
    with pytest.raises(StorageError):
        await registry.open()
    (tmp_path / "d").unlink()
    async with registry:
        assert await (await registry.start("a")).append("one", HELLO) == 1


async def test_a_directory_path_too_long_for_sqlite_is_refused_by_name(tmp_path: Path) -> None:
    directory = tmp_path
    while len(os.fsencode(directory)) < 600:
        directory = directory / ("d" * 100)
    registry = SessionRegistry(directory)
    with pytest.raises(StorageError, match=r"dddd.* \d+ bytes"):
        await registry.open()
    assert os.listdir(tmp_path) == []


async def test_an_id_that_makes_the_path_too_long_is_refused_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    room = 420 - len(os.fsencode(tmp_path))
    directory = tmp_path / "/".join(["d" * 40] * (room // 41))
    async with SessionRegistry(directory) as registry:
        await registry.start("short", name="n")
        with pytest.raises(StorageError) as caught:
            await registry.start("x" * 120, name="n" * 120)
        assert caught.value.session_id == "x" * 120
        assert not await registry.exists("x" * 120)
        session = registry.session("short")
        with pytest.raises(StorageError):
            await session.rename("n" * 200)
        assert session.name == "n"
        assert await session.append("one", HELLO) == 1
    assert entries(directory) == ["short_n.db"]


@pytest.mark.parametrize(
    "settings",
    [
        {"durability": "fast"},
        {"durability": None},
        {"max_active": 0},
        {"max_active": -1},
        {"idle_timeout_s": 0},
        {"idle_timeout_s": -1.0},
        {"idle_timeout_s": float("nan")},
        {"mailbox_size": 0},
        {"max_message_bytes": 0},
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_a_ValueError_that_names_it(  # noqa: N802
    settings: dict[str, Any],
) -> None:
    (what,) = settings
    with pytest.raises(ValueError, match=what) as caught:
        SessionRegistry(None, **settings)
    assert isinstance(caught.value, SessionError)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_active": "3"},
        {"max_active": 1.5},
        {"mailbox_size": 2.5},
        {"mailbox_size": None},
        {"max_message_bytes": "1"},
        {"idle_timeout_s": "60"},
    ],
    ids=str,
)
def test_a_setting_of_a_wrong_type_is_a_TypeError_that_names_it(  # noqa: N802
    settings: dict[str, Any],
) -> None:
    (what,) = settings
    with pytest.raises(TypeError, match=what) as caught:
        SessionRegistry(None, **settings)
    assert isinstance(caught.value, SessionError)


async def test_settings_that_set_no_bound_work(place: Path | None) -> None:
    for idle_timeout_s in (None, float("inf"), 1e9):
        async with SessionRegistry(place, idle_timeout_s=idle_timeout_s) as registry:
            await (await registry.start("a")).append("one", HELLO)


async def test_max_active_comes_from_the_descriptor_limit(
    place: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for soft in (100, 1000):
        monkeypatch.setattr(resource, "getrlimit", lambda what, soft=soft: (soft, soft))
        async with SessionRegistry(place) as registry:
            max_active = registry.statistics().max_active
            assert 1 <= max_active <= soft // 3
    monkeypatch.setattr(resource, "getrlimit", lambda what: (resource.RLIM_INFINITY,) * 2)
    async with SessionRegistry(place) as registry:
        assert 1 <= registry.statistics().max_active <= 10_000


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
async def test_the_durability_is_applied_to_every_connection(
    tmp_path: Path, durability: Any, level: int
) -> None:
    from sessionactor._store import open_store

    levels = []

    async def spying(opening: Any) -> Any:
        store: Any = await open_store(opening)
        rows = await store._database.execute_fetchall("PRAGMA synchronous")
        levels.extend(rows)
        return store

    async with SessionRegistry(tmp_path, durability=durability, open_store=spying) as registry:
        session = await registry.start("a")
        await registry.stop("a")
        await session.append("one", HELLO)
        await registry.stop("a")
        await registry.start("a")
    assert levels == [(level,)] * 3


async def test_full_is_the_default_durability(tmp_path: Path) -> None:
    from sessionactor._store import open_store

    openings = []

    async def spying(opening: Any) -> Any:
        openings.append(opening.durability)
        return await open_store(opening)

    async with SessionRegistry(tmp_path, open_store=spying) as registry:
        await registry.start("a")
    assert openings == ["full"]


# statistics


async def test_statistics_are_a_frozen_value_that_counts(place: Path | None) -> None:
    async with SessionRegistry(place, max_active=7) as registry:
        fresh = registry.statistics()
        assert isinstance(fresh, RegistryStatistics)
        assert (fresh.active, fresh.max_active, fresh.queued, fresh.requests) == (0, 7, 0, 0)
        with pytest.raises(dataclasses.FrozenInstanceError):
            fresh.active = 5  # type: ignore[misc]
        session = await registry.start("a")
        await registry.start("b")
        await session.append("one", HELLO)
        await session.messages()
        seen = registry.statistics()
        assert (seen.active, seen.activations, seen.passivations) == (2, 2, 0)
        assert (seen.requests, seen.commits, seen.queued, seen.crashes) == (2, 1, 0, 0)
        calls = [asyncio.ensure_future(session.append("one", HELLO)) for _ in range(100)]
        await asyncio.sleep(0)  # let them ask
        assert registry.statistics().queued == 100
        await asyncio.gather(*calls)
        seen = registry.statistics()
        assert seen.requests == 102
        assert 2 <= seen.commits <= 10  # those that wait together are committed together
        await registry.stop("a")
        seen = registry.statistics()
        assert (seen.active, seen.passivations, seen.queued) == (1, 1, 0)
        assert fresh.requests == 0


async def test_the_writes_that_wait_are_committed_together(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        await asyncio.gather(*(session.append("one", HELLO) for _ in range(200)))
        assert registry.statistics().commits < 10
