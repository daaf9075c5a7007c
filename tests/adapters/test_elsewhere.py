from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path

import pytest

from sessionactor import RegistryClosedError, SessionRegistry, StorageError
from sessionactor.adapters._elsewhere import Elsewhere, join, leave

MESSAGE = {"role": "user", "content": "hello"}


class Holder:
    """Whoever holds a registry."""


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("sessionactor ")]


async def use(path: Path, times: int = 1) -> None:
    for _ in range(times):
        holder = Holder()
        found = await join(str(path), holder)
        session = await found.start("a")
        await session.append("agent", MESSAGE)
        await leave(found, holder)


async def count(path: Path) -> int:
    async with SessionRegistry(path) as registry:
        return len(await registry.session("a").messages())


async def test_holders_share_one_thread_and_the_last_ends_it(tmp_path: Path) -> None:
    holders = [Holder() for _ in range(20)]
    found = await asyncio.gather(*(join(str(tmp_path), each) for each in holders))
    assert len({id(each) for each in found}) == 1
    assert len(threads()) == 1
    for each in holders:
        assert await found[0].exists("a") is False
        await leave(found[0], each)
        await leave(found[0], each)
    assert threads() == []
    with pytest.raises(RegistryClosedError):
        await found[0].exists("a")


def test_it_serves_many_threads_that_come_and_go(tmp_path: Path) -> None:
    callers = [threading.Thread(target=lambda: asyncio.run(use(tmp_path, 5))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert asyncio.run(count(tmp_path)) == 40
    assert threads() == []


@pytest.mark.parametrize("turns", range(5))
def test_a_loop_that_ends_while_it_opens_does_no_harm(tmp_path: Path, turns: int) -> None:
    async def forgetful() -> None:
        asyncio.ensure_future(join(str(tmp_path), Holder()))  # noqa: RUF006
        for _ in range(turns):
            await asyncio.sleep(0)

    asyncio.run(forgetful())  # cancels everything
    assert threads() == []
    asyncio.run(use(tmp_path))
    assert threads() == []


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_while_it_opens_nothing_stays_open(tmp_path: Path, turns: int) -> None:
    joining = asyncio.ensure_future(join(str(tmp_path), holder := Holder()))
    for _ in range(turns):
        await asyncio.sleep(0)
    was_done = joining.done()
    joining.cancel()
    await asyncio.wait([joining])
    if was_done:
        await leave(joining.result(), holder)
    assert threads() == []
    await use(tmp_path)


async def test_cancelled_while_it_closes_it_is_closed_all_the_same(tmp_path: Path) -> None:
    found = await join(str(tmp_path), holder := Holder())
    await (await found.start("a")).append("agent", MESSAGE)
    leaving = asyncio.ensure_future(leave(found, holder))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert threads() == []
    assert await count(tmp_path) == 1


async def test_whoever_comes_while_it_closes_opens_another(tmp_path: Path) -> None:
    found = await join(str(tmp_path), holder := Holder())
    leaving = asyncio.ensure_future(leave(found, holder))
    await asyncio.sleep(0)
    other = await join(str(tmp_path), second := Holder())
    assert other is not found
    await leaving
    assert await other.exists("a") is False
    await leave(other, second)
    assert threads() == []


async def test_holders_that_are_gone_do_not_end_it(tmp_path: Path) -> None:
    found = await join(str(tmp_path), Holder())
    gc.collect()
    again = await join(str(tmp_path), holder := Holder())
    assert again is found
    await leave(again, holder)
    assert threads() == []


async def test_a_directory_that_cannot_be_used_is_told_of_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        with pytest.raises(StorageError):
            await join(str(tmp_path / "file"), Holder())
    assert threads() == []
    (tmp_path / "file").unlink()
    await use(tmp_path / "file")


async def test_what_is_still_asked_when_it_closes_is_refused_and_not_waited_for_ever(
    tmp_path: Path,
) -> None:
    found = await join(str(tmp_path), holder := Holder())
    begun = threading.Event()

    async def endless(registry: SessionRegistry) -> None:
        begun.set()
        await asyncio.Event().wait()

    asking = asyncio.ensure_future(found.do(endless))
    await asyncio.to_thread(begun.wait)
    await leave(found, holder)
    with pytest.raises(RegistryClosedError):
        await asking


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancelled_call_was_not_begun_or_is_carried_out(tmp_path: Path, turns: int) -> None:
    found = await join(str(tmp_path), holder := Holder())
    session = await found.start("a")
    for number in range(30):
        head = await session.head()
        before = 0 if head is None else head.db_id
        asking = asyncio.ensure_future(session.append("agent", {"n": number}))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        await session.append("agent", {"then": number})
        rows = await session.messages(after=before)
        assert [*rows[-1].message] == ["then"]
        assert [row.message for row in rows[:-1]] in ([], [{"n": number}])
    await leave(found, holder)


async def test_any_call_of_the_registry_can_be_made(tmp_path: Path) -> None:
    found = await join(str(tmp_path), holder := Holder())
    await (await found.start("a", name="mango")).append("agent", MESSAGE)
    listed = await found.do(lambda registry: registry.sessions(limit=5))
    assert [info.name for info in listed.sessions] == ["mango"]
    assert await found.do(lambda registry: registry.delete("a"))
    await leave(found, holder)


def test_what_is_asked_after_the_end_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    async def ended() -> Elsewhere:
        found = await join(str(tmp_path), holder := Holder())
        await leave(found, holder)
        return found

    found = asyncio.run(ended())
    with pytest.raises(RegistryClosedError):
        asyncio.run(found.session("a").messages())
