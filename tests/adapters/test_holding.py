from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from sessionactor import RegistryClosedError, SessionRegistry, StorageError
from sessionactor.adapters._holding import Held, Holding

MESSAGE = {"role": "user", "content": "hello"}


async def test_a_registry_that_was_given_stays_open() -> None:
    async with SessionRegistry(None) as registry:
        async with Held(registry) as held:
            assert await held._holding.registry() is registry
        assert registry.statistics().active == 0


async def test_those_on_one_directory_share_a_registry_until_the_last_is_closed(
    tmp_path: Path,
) -> None:
    first, second = Holding(tmp_path), Holding(str(tmp_path / "." / ""))
    registry = await first.registry()
    assert await second.registry() is registry

    await first.aclose()
    await first.aclose()
    assert registry.statistics().active == 0
    await second.aclose()
    with pytest.raises(RegistryClosedError):
        registry.statistics()


async def test_after_closing_it_can_be_opened_again(tmp_path: Path) -> None:
    holding = Holding(tmp_path)
    for _ in range(3):
        session = await (await holding.registry()).start("a")
        await session.append("agent", MESSAGE)
        await holding.aclose()
    assert len(await (await (await holding.registry()).start("a")).messages()) == 3
    await holding.aclose()


async def test_many_first_uses_at_once_open_one_registry(tmp_path: Path) -> None:
    holdings = [Holding(tmp_path) for _ in range(50)]
    registries = await asyncio.gather(*(each.registry() for each in holdings))
    assert len({id(each) for each in registries}) == 1
    await asyncio.gather(*(each.aclose() for each in holdings))
    with pytest.raises(RegistryClosedError):
        registries[0].statistics()


async def test_uses_and_closings_at_once_leave_nobody_with_a_closed_registry(
    tmp_path: Path,
) -> None:
    async def use(number: int) -> None:
        for _ in range(10):
            async with Held(tmp_path) as held:
                session = await (await held._holding.registry()).start(f"s{number}")
                await session.append("agent", MESSAGE)

    await asyncio.gather(*(use(number) for number in range(8)))
    async with SessionRegistry(tmp_path) as registry:
        for number in range(8):
            assert len(await registry.session(f"s{number}").messages()) == 10


@pytest.mark.parametrize("turns", range(12))
async def test_cancelling_the_first_use_leaves_nothing_open(tmp_path: Path, turns: int) -> None:
    holding = Holding(tmp_path)
    opening = asyncio.ensure_future(holding.registry())
    for _ in range(turns):
        await asyncio.sleep(0)
    is_open = opening.done()
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled() is not is_open

    registry = await holding.registry()
    await holding.aclose()
    with pytest.raises(RegistryClosedError):
        registry.statistics()


async def test_a_cancelled_first_use_does_not_disturb_others(tmp_path: Path) -> None:
    holdings = [Holding(tmp_path) for _ in range(10)]
    opening = [asyncio.ensure_future(each.registry()) for each in holdings]
    await asyncio.sleep(0)
    for one in opening[::2]:
        one.cancel()
    await asyncio.wait(opening)
    registries = {id(one.result()) for one in opening[1::2]}
    assert len(registries) == 1
    for each in holdings[1::2]:
        await each.aclose()
    with pytest.raises(RegistryClosedError):
        opening[1].result().statistics()


async def test_cancelling_the_last_closing_does_not_cut_it_short(tmp_path: Path) -> None:
    holding = Holding(tmp_path)
    registry = await holding.registry()
    await registry.start("a")
    closing = asyncio.ensure_future(holding.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    with pytest.raises(RegistryClosedError):
        registry.statistics()


async def test_one_that_is_gone_holds_nothing_and_lets_nobody_down(tmp_path: Path) -> None:
    lasting = Holding(tmp_path)
    registry = await lasting.registry()
    for _ in range(20):  # whoever comes next may well get the same `id()`
        await Holding(tmp_path).registry()
        gc.collect()
        await Holding(tmp_path).aclose()  # never used: it has nothing to close
        assert registry.statistics().active == 0
    await lasting.aclose()
    with pytest.raises(RegistryClosedError):
        registry.statistics()


async def test_a_directory_that_cannot_be_used_is_told_of_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    holding = Holding(tmp_path / "file")
    for _ in range(2):
        with pytest.raises(StorageError):
            await holding.registry()
    (tmp_path / "file").unlink()
    await holding.registry()
    await holding.aclose()


def test_each_event_loop_has_its_own_and_a_closed_loop_is_forgotten(tmp_path: Path) -> None:
    holding = Holding(tmp_path)
    before = threading.active_count()

    async def use() -> int:
        session = await (await holding.registry()).start("a")
        return await session.append("agent", MESSAGE)

    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def noted() -> int:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        return await use()

    assert [asyncio.run(noted()) for _ in range(3)] == [1, 2, 3]
    gc.collect()
    assert [loop() for loop in loops[:2]] == [None, None]
    assert threading.active_count() == before


FORGETFUL = """
import asyncio, sys
from sessionactor.adapters._holding import Holding

async def use():
    session = await (await Holding(sys.argv[1]).registry()).start("a")
    await session.append("agent", {"role": "user", "content": "hello"})

if sys.argv[2] == "run":
    asyncio.run(use())
else:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
"""


@pytest.mark.parametrize("how", ["run", "a loop that is never closed"])
async def test_a_program_that_closes_nothing_exits_and_loses_nothing(
    tmp_path: Path, how: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORGETFUL, str(tmp_path), how],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.glob("*-wal"))
    async with SessionRegistry(tmp_path) as registry:
        assert len(await registry.session("a").messages()) == 1
