"""Processes killed while they import or export, and files larger than the memory they may take."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from processes import output_of, process
from tables import tables

from sessionactor import SessionRegistry
from sessionactor.interchange import Format, export_session, export_sessions, import_session

IMPORTING = """
from sessionactor.interchange import *

async def main(directory, file, format, durability):
    async with SessionRegistry(directory, durability=durability) as registry:
        def tell(progress):
            if progress.done > progress.total / 2:
                say(progress.done / progress.total)
                wait()
        say((await import_session(registry, file, format=format, progress=tell)).status)

asyncio.run(main(*sys.argv[1:]))
"""
"""Imports a file, and stops after each part that it stored until it is told to go on."""


_written: dict[Format, Path] = {}


@pytest.fixture
async def file(format: Format, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a session that takes many parts, written once for each format."""
    if format not in _written:
        _written[format] = await written(tmp_path_factory.mktemp("written") / "s.jsonl", format)
    return _written[format]


async def written(file: Path, format: Format) -> Path:
    if format == "loop":
        lines = [json.dumps({"role": "user", "n": n, "text": "x" * 500}) for n in range(8000)]
        file.write_text("\n".join(lines) + "\n")
        return file
    async with SessionRegistry(None) as registry:
        session = await registry.start("s", name="n")
        for start in range(0, 6000, 1000):
            messages = [
                {"n": n, "text": "x" * 500, "b": {1, n}} for n in range(start, start + 1000)
            ]
            await session.extend("a", messages, keys=[f"k{n}" for n in range(start, start + 1000)])
        await session.update(3000, {"n": "edited"})
        await session.remove([*range(100, 3000, 7)])
        await session.truncate_from(5990)
        async with session.turn("t", agent_id="a") as turn:
            await turn.append({"n": "turn"})
        await session.save_metadata({f"m{n}": None for n in range(100)})
        await export_session(registry, "s", file, format=format)
    return file


@pytest.mark.parametrize("format", ["sessionactor", "events", "loop"])
@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_an_import_goes_on_where_a_kill_stopped_it(
    tmp_path: Path, file: Path, format: Format, durability: Any
) -> None:
    place = tmp_path / "sessions"
    chance = random.Random(f"{format} {durability}")
    stored = []
    for done in (0.55, 0.65, 0.75, 0.85):
        with process(IMPORTING, place, file, format, durability) as running:
            while float(running.hear()) < done:
                running.tell()
            for _ in range(chance.randrange(2)):  # or it is killed while it stores a part
                running.tell()
        async with SessionRegistry(place) as registry:
            info = await registry.session("s").info()
            assert info.state == "importing" or info.revision == 0  # nothing is stored yet
            rows = await registry.session("s").messages()
            assert len(rows) == info.message_count
            stored.append(len(rows))
    assert stored == sorted(stored)
    assert stored[-1] > stored[0]
    async with SessionRegistry(place) as registry, SessionRegistry(tmp_path / "once") as other:
        assert (await import_session(registry, file, format=format)).status == "imported"
        assert (await import_session(other, file, format=format)).status == "imported"
        assert (await import_session(registry, file, format=format)).status == "unchanged"
    (path,), (once,) = place.glob("s_*.db"), (tmp_path / "once").glob("s_*.db")
    there, expected = tables(path), tables(once)
    if format != "sessionactor":  # its name was made up
        for each in (there, expected):
            del each["session"][0]["name"]
    assert there == expected


EXPORTING = """
from sessionactor.interchange import *

async def main(directory, out):
    async with SessionRegistry(directory) as registry:
        say("ready")
        while True:
            await export_sessions(registry, out, progress=lambda _: say("some"))
            for session_id in "ab":
                await registry.session(session_id).append("a", {"more": True})
            say("all")

asyncio.run(main(*sys.argv[1:]))
"""
"""Exports sessions that change, again and again, over its own files."""


async def test_no_kill_leaves_half_a_file(tmp_path: Path) -> None:
    place, out = tmp_path / "sessions", tmp_path / "out"
    async with SessionRegistry(place) as registry:
        for session_id in "ab":
            session = await registry.start(session_id, name="n")
            await session.extend("a", [{"text": "x" * 1000}] * 2000)
        await export_sessions(registry, out)
    chance = random.Random(7)
    left_over = 0
    for _ in range(12):
        with process(EXPORTING, place, out) as running:
            for _ in range(chance.randrange(1, 25)):
                running.hear()
        names = sorted(path.name for path in out.iterdir())
        left_over += names != ["a.jsonl", "b.jsonl"]
        assert set(names) <= {"a.jsonl", "b.jsonl", ".a.jsonl.part", ".b.jsonl.part"}
        async with SessionRegistry(None) as registry:
            for session_id in "ab":
                result = await import_session(registry, out / f"{session_id}.jsonl")
                assert (result.status, result.problems) == ("imported", ())
    assert left_over > 1
    async with SessionRegistry(place) as registry:
        await export_sessions(registry, out)
        for session_id in "ab":
            assert (await import_session(registry, out / f"{session_id}.jsonl")).status == (
                "unchanged"
            )
    assert len(list(out.glob(".*"))) <= 2  # the next export of that session overwrites them


MEMORY = """
import resource
from sessionactor.interchange import *

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

async def main(place, rows):
    rows = int(rows)
    options = {"durability": "normal", "catalog": False}
    async with SessionRegistry(place + "/a", **options) as registry, SessionRegistry(
        place + "/b", **options
    ) as other:
        session = await registry.start("s", name="n")
        for start in range(0, rows, 500):
            numbers = range(start, start + 500)
            await session.extend(
                "a", [{"n": n, "text": "x" * 900} for n in numbers], keys=[f"k{n}" for n in numbers]
            )
        await session.truncate_from(rows - rows // 10 + 1)
        before = peak_mb()
        await export_session(registry, "s", place + "/s.jsonl")
        await import_session(other, place + "/s.jsonl")
        result = await import_session(other, place + "/s.jsonl")
        await export_session(registry, "s", place + "/e", format="events")
        say([result.status, result.messages, peak_mb() - before])

asyncio.run(main(*sys.argv[1:]))
"""


def test_memory_does_not_grow_with_the_history(tmp_path: Path) -> None:
    growth = {}
    for rows in (5000, 25_000):
        place = tmp_path / str(rows)
        place.mkdir()
        status, messages, growth[rows] = json.loads(output_of(MEMORY, place, rows))
        assert (status, messages) == ("unchanged", rows - rows // 10)
    assert (tmp_path / "25000" / "s.jsonl").stat().st_size > 20_000_000
    assert growth[25_000] < growth[5000] + 6  # 300 bytes a row would be more
