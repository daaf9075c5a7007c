"""Checkpoints of all threads, as an inbox asks for them again and again."""

from __future__ import annotations

from pathlib import Path

import pytest
from langgraph_threads import grow, id_of, ids, listed, put, said, thread

from sessionactor import SessionRegistry
from sessionactor.adapters.langgraph import ActorSaver


async def all_of(saver: ActorSaver) -> list[str]:
    return ids([one async for one in saver.alist(None)])


async def test_listing_brings_no_thread_into_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither those with one chapter, nor those whose values lie in several rows of it."""
    large = {"document": "x" * 1000}
    async with ActorSaver(tmp_path) as saver:
        for number in range(20):
            config = thread(f"t{number}")
            for step in range(number % 3 + 1):
                values = {"messages": [said(one) for one in range(step + 1)], **large}
                config = await put(saver, config, values, {"messages": str(step), "document": "1"})
        each = [await listed(saver, thread(f"t{number}")) for number in range(20)]
        expected = [one for found in reversed(each) for one in found]
    async with SessionRegistry(tmp_path) as registry:
        saver = ActorSaver(registry)
        assert [one async for one in saver.alist(None, limit=5)] == expected[:5]
        assert [one async for one in saver.alist(None)] == expected
        monkeypatch.setattr(registry, "latest_chapters", None)  # what did not change is known
        assert [one async for one in saver.alist(None, limit=5)] == expected[:5]
        assert [one async for one in saver.alist(None, limit=0)] == []
        assert [one async for one in saver.alist(None)] == expected
        assert registry.statistics().activations == 0


async def test_a_listing_sees_what_happened_since_the_one_before(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        saver = ActorSaver(registry)
        configs = {name: await put(saver, thread(name), {"messages": [said(0)]}) for name in "abc"}
        first = await all_of(saver)
        assert first == [id_of(configs[name]) for name in "cba"]
        for name in "abc":
            await registry.stop(name)
            assert await all_of(saver) == first
        newer = await put(saver, configs["a"], {"messages": [said(0), said(1)]})
        assert await all_of(saver) == [id_of(newer), id_of(configs["a"]), *first[:2]]
        await saver.aput_writes(configs["c"], [("channel", 1)], "task")
        (written,) = [one async for one in saver.alist(None) if one.pending_writes]
        assert id_of(written.config) == id_of(configs["c"])
        await saver.adelete_thread("b")
        again = await put(saver, thread("b"), {"messages": [said(7)]})
        assert (await all_of(saver))[0] == id_of(again)
        await saver.adelete_thread("b")
        assert id_of(again) not in await all_of(saver)


async def test_a_listing_goes_back_to_the_first_chapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionactor.adapters._langgraph_bases.MAX_LISTED_BYTES", 50_000)
    async with ActorSaver(tmp_path) as saver:
        for name in "abcd":
            await grow(saver, name, 40, "word " * 20)
    async with ActorSaver(tmp_path) as saver:
        expected = [one for name in "dcba" for one in await listed(saver, thread(name))]
        for _ in range(2):
            assert [one async for one in saver.alist(None)] == expected
        assert len(expected) == 160
