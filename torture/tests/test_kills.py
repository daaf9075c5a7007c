"""The tools of the kills: stories tell the truth, and a verdict sees what is missing."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from sessionactor import SessionRegistry
from torture.kills.ledger import Ledger
from torture.kills.story import AGENT, Log, Story, state_of
from torture.kills.verdict import Verdict
from torture.nursery import nursery


async def test_a_story_tells_what_a_session_answers_and_holds() -> None:
    story = Story("seed")
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        for _ in range(200):
            call = story.next()
            assert await call.do(session) == call.answer
            found = state_of(await session.messages(), await session.get_metadata())
            assert found == story.state
    assert Story("seed").upto(200).state == story.state
    assert story.state.rows


def test_a_process_begins_at_once_and_dies_of_what_it_is_said_to(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    job = {"place": str(tmp_path), "shelf": str(tmp_path), "seed": "", "slot": "0", "life": 0}
    job |= {"durability": "full", "max_active": 9, "in_flight": False, "point": None}
    job |= {"next": {"a": 0, "b": 0, AGENT: 0}, "turns": {"n": -1, "phase": "done", "ids": []}}
    with nursery("torture.kills.victim", ["--seed", "1"]) as parent:
        pid = parent.spawn(job, theirs)
        os.close(theirs)
        ledger = Ledger()
        with open(ours) as said:
            ledger.hear(said.readline())
            os.kill(pid, signal.SIGKILL)
            for line in said:
                ledger.hear(line)
        assert parent.wait(pid) == -signal.SIGKILL
    assert ledger.asked
    assert not ledger.broken


def _verdict(place: Path, ledger: Ledger) -> Verdict:
    (place / "shelf").mkdir(exist_ok=True)
    verdict = Verdict(place / "sessions", place / "shelf", "seed", ledger)
    verdict.reach()
    return verdict


async def _written(place: Path) -> list[int]:
    async with SessionRegistry(place / "sessions") as registry:
        return await Log("a", 0).do(await registry.start("log0"))


def test_a_verdict_sees_what_was_answered_and_is_not_there(tmp_path: Path) -> None:
    ids = asyncio.run(_written(tmp_path))
    ledger = Ledger({("log0", "a"): 0}, {("log0", "a", 0): ids})
    assert _verdict(tmp_path, ledger).content == []
    ledger.got["log0", "a", 1] = [2, 3]
    (sentence,) = _verdict(tmp_path, ledger).content
    assert "call 1" in sentence


def test_a_verdict_sees_files_that_nobody_can_name(tmp_path: Path) -> None:
    asyncio.run(_written(tmp_path))
    ledger = Ledger({("log0", "a"): 0})
    (tmp_path / "sessions" / ".half").write_bytes(b"")
    assert "nobody can name .half" in _verdict(tmp_path, ledger).files
