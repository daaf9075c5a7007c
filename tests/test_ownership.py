from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from entries import entries
from gate import Gate
from processes import PATIENCE_S, Process, output_of, owner, process
from waiting import eventually

from sessionactor import (
    Session,
    SessionError,
    SessionExistsError,
    SessionOwnedError,
    SessionRegistry,
    StorageError,
)

HELLO = {"role": "user", "content": "hello"}

TRY = """
async def main(directory, *session_ids):
    async with SessionRegistry(directory) as registry:
        answers = []
        for session_id in session_ids:
            try:
                await registry.session(session_id).append("other", {})
                answers.append("free")
            except SessionError as error:
                answers.append([type(error).__name__, getattr(error, "pid", None)])
        say(answers)

asyncio.run(main(*sys.argv[1:]))
"""
"""Tries to append to sessions; says `free`, or the error's name and pid, for each."""


async def tried(directory: Path, *session_ids: str) -> list[Any]:
    """What happens to another process that wants these sessions."""
    said: list[Any] = json.loads(await asyncio.to_thread(output_of, TRY, directory, *session_ids))
    return said


def owned(pid: int) -> list[Any]:
    return ["SessionOwnedError", pid]


async def stream(session: Session) -> list[Any]:
    return [row async for row in session.stream()]


async def batch(session: Session) -> None:
    async with session.batch() as collected:
        collected.append("one", HELLO)


CALLS: dict[str, Callable[[SessionRegistry], Awaitable[Any]]] = {
    "start": lambda registry: registry.start("a"),
    "start with its name": lambda registry: registry.start("a", name="owned"),
    "start with another name": lambda registry: registry.start("a", name="other"),
    "delete": lambda registry: registry.delete("a"),
    "append": lambda registry: registry.session("a").append("one", HELLO),
    "extend": lambda registry: registry.session("a").extend("one", [HELLO]),
    "batch": lambda registry: batch(registry.session("a")),
    "truncate_from": lambda registry: registry.session("a").truncate_from(1),
    "save_metadata": lambda registry: registry.session("a").save_metadata({"n": 1}),
    "rename": lambda registry: registry.session("a").rename("other"),
    "messages": lambda registry: registry.session("a").messages(),
    "stream": lambda registry: stream(registry.session("a")),
    "latest": lambda registry: registry.session("a").messages_from_latest_checkpoint(),
    "get": lambda registry: registry.session("a").get(1),
    "get_metadata": lambda registry: registry.session("a").get_metadata(),
    "revision": lambda registry: registry.session("a").revision(),
}


async def test_a_session_of_another_process_is_refused_at_once_with_its_pid(
    tmp_path: Path,
) -> None:
    with owner(tmp_path, "a") as other:
        before = entries(tmp_path)
        async with SessionRegistry(tmp_path) as registry:
            for name, call in CALLS.items():
                began_s = time.monotonic()
                with pytest.raises(SessionOwnedError, match=str(other.pid)) as caught:
                    await call(registry)
                assert time.monotonic() - began_s < 1, name
                assert caught.value.pid == other.pid
                assert caught.value.session_id == "a"
            assert registry.statistics().active == 0
            assert registry.whereis("a") is None
        assert entries(tmp_path) == before
        other.tell()
        assert other.end() == 0


async def test_what_another_process_owns_can_be_found(tmp_path: Path) -> None:
    with owner(tmp_path, "a"):
        async with SessionRegistry(tmp_path) as registry:
            assert await registry.exists("a")
            assert (await registry.find_by_id("a")).path == tmp_path / "a_owned.db"
            assert (await registry.find_by_name("owned")).session_id == "a"
            assert len(await registry.find("*")) == 1
            assert registry.session("a").name == "owned"
            assert await registry.stop("a") is False


async def test_other_sessions_of_the_directory_stay_free(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        for session_id in "bcd":
            await (await registry.start(session_id)).append("one", HELLO)
    with owner(tmp_path, "a", "e") as other:
        async with SessionRegistry(tmp_path) as registry:
            for session_id in "bcd":
                assert await registry.session(session_id).append("one", HELLO) == 2
            assert await (await registry.start("new")).append("one", HELLO) == 1
            assert await registry.delete("d") is True
            with pytest.raises(SessionOwnedError):
                await registry.session("e").messages()
        other.tell()
        assert other.end() == 0
    assert await tried(tmp_path, "a", "b", "new", "d") == [
        "free",
        "free",
        "free",
        ["SessionNotFoundError", None],
    ]


async def test_the_lock_goes_when_its_owner_is_killed(tmp_path: Path) -> None:
    with owner(tmp_path, "a") as other:
        async with SessionRegistry(tmp_path) as registry:
            session = registry.session("a")
            with pytest.raises(SessionOwnedError):
                await session.messages()
            other.kill()
            assert [row.message for row in await session.messages()] == [
                {"role": "user", "content": "a"}
            ]
            assert await session.append("one", HELLO) == 2
            assert await registry.start("a") is session


async def test_the_lock_goes_when_its_owner_stops_the_session_or_leaves(tmp_path: Path) -> None:
    script = """
        async def main():
            async with SessionRegistry(sys.argv[1]) as registry:
                await registry.start("a", name="n")
                await registry.start("b", name="n")
                say("ready")
                await asyncio.to_thread(wait)
                await registry.stop("a")
                say("stopped")
                await asyncio.to_thread(wait)
            say("left")
            wait()

        asyncio.run(main())
    """
    with process(script, tmp_path) as other:
        other.hear()
        async with SessionRegistry(tmp_path) as registry:
            for session_id in "ab":
                with pytest.raises(SessionOwnedError):
                    await registry.session(session_id).messages()
            other.tell()
            other.hear()
            assert await registry.session("a").append("one", HELLO) == 1
            with pytest.raises(SessionOwnedError):
                await registry.session("b").messages()
            other.tell()
            other.hear()
            assert await registry.session("b").append("one", HELLO) == 1


async def test_what_this_process_owns_is_refused_to_another(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await registry.start("a")
        await registry.start("b")
        pid = os.getpid()
        assert await tried(tmp_path, "a", "b") == [owned(pid), owned(pid)]
        await registry.stop("b")
        assert await tried(tmp_path, "a", "b") == [owned(pid), "free"]
    assert await tried(tmp_path, "a") == ["free"]


async def test_a_deleted_session_is_not_owned_any_more(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await registry.start("a")
        await registry.delete("a")
        assert await tried(tmp_path, "a") == [["SessionNotFoundError", None]]
        async with SessionRegistry(tmp_path) as other:
            await other.start("a")
            with pytest.raises(SessionOwnedError):
                await registry.start("a")


async def test_a_refused_start_leaves_no_lock_behind(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await registry.start("a", name="n")
        await registry.stop("a")
        with pytest.raises(SessionExistsError):
            await registry.start("a", name="other")
        assert not await registry.delete("nobody")
        async with SessionRegistry(tmp_path) as other:
            assert await other.session("a").append("one", HELLO) == 1
            await other.start("nobody")


async def test_passivation_releases_a_session_to_others(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path, max_active=1) as registry:
        await registry.start("a")
        await registry.start("b")
        assert await tried(tmp_path, "a", "b") == ["free", owned(os.getpid())]
    async with SessionRegistry(tmp_path, idle_timeout_s=0.02) as registry:
        await registry.start("a")
        await eventually(lambda: registry.statistics().active == 0)
        assert await tried(tmp_path, "a") == ["free"]


async def test_the_refusal_does_not_wait_for_a_place_nor_cost_one(tmp_path: Path) -> None:
    gate = Gate()
    async with (
        SessionRegistry(tmp_path) as other,
        SessionRegistry(tmp_path, max_active=1, open_store=gate.open_store) as registry,
    ):
        await other.start("a")
        busy = await registry.start("busy")
        with gate.shut():
            call = asyncio.create_task(busy.append("one", HELLO))
            await gate.reached.wait()
            async with asyncio.timeout(5):
                with pytest.raises(SessionOwnedError):
                    await registry.session("a").messages()
                with pytest.raises(SessionOwnedError):
                    await registry.start("a")
        assert await call == 1
        assert registry.whereis("busy") is busy
        assert registry.statistics().passivations == 0


# two registries of one process


async def test_two_registries_of_one_process_are_told_apart(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as first, SessionRegistry(tmp_path) as second:
        session = await first.start("a", name="n")
        for call in CALLS.values():
            with pytest.raises(SessionOwnedError) as caught:
                await call(second)
            assert caught.value.pid == os.getpid()
        assert await (await second.start("b")).append("one", HELLO) == 1
        with pytest.raises(SessionOwnedError):
            await first.session("b").messages()
        assert await session.append("one", HELLO) == 1
        await first.stop("a")
        assert await second.session("a").append("one", HELLO) == 2
        with pytest.raises(SessionOwnedError):
            await session.append("one", HELLO)
        await second.stop("a")
        assert await session.append("one", HELLO) == 3


async def test_closing_one_registry_does_not_drop_the_locks_of_another(tmp_path: Path) -> None:
    pid = os.getpid()
    async with SessionRegistry(tmp_path) as first:
        await first.start("a")
        async with SessionRegistry(tmp_path) as second:
            await second.start("b")
            async with SessionRegistry(tmp_path):
                pass
            assert await tried(tmp_path, "a", "b") == [owned(pid), owned(pid)]
        assert await tried(tmp_path, "a", "b") == [owned(pid), "free"]
    second = SessionRegistry(tmp_path)
    async with SessionRegistry(tmp_path) as first:
        await first.start("a")
        await second.open()
        await second.start("b")
    assert await tried(tmp_path, "a", "b") == ["free", owned(pid)]
    await second.aclose()
    assert await tried(tmp_path, "b") == ["free"]


async def test_looking_at_the_directory_drops_no_lock(tmp_path: Path) -> None:
    pid = os.getpid()
    async with SessionRegistry(tmp_path) as first, SessionRegistry(tmp_path) as second:
        session = await first.start("a", name="n")
        await session.append("one", HELLO)
        assert len(await second.find("*")) == 1
        assert await second.exists("a")
        await second.find_by_name("n")
        assert await second.stop("a") is False
        assert await tried(tmp_path, "a") == [owned(pid)]
        # Nor the locks of SQLite: another program cannot take its log away.
        holder = process(
            """
            connection = sqlite3.connect(sys.argv[1], timeout=0)
            connection.execute("SELECT count(*) FROM messages").fetchone()
            connection.close()
            say("closed")
            """,
            tmp_path / "a_n.db",
        )
        with holder as other:
            other.hear()
        assert "a_n.db-wal" in os.listdir(tmp_path)
        assert await session.append("one", HELLO) == 2
    async with SessionRegistry(tmp_path) as registry:
        assert len(await registry.session("a").messages()) == 2


async def test_a_directory_by_another_path_is_the_same_directory(tmp_path: Path) -> None:
    directory, link = tmp_path / "d", tmp_path / "link"
    directory.mkdir()
    link.symlink_to(directory)
    async with SessionRegistry(directory) as first, SessionRegistry(link) as second:
        await first.start("a")
        with pytest.raises(SessionOwnedError):
            await second.session("a").messages()
        assert await tried(link, "a") == [owned(os.getpid())]


async def test_the_same_id_in_two_directories_is_two_sessions(tmp_path: Path) -> None:
    async with (
        SessionRegistry(tmp_path / "1") as first,
        SessionRegistry(tmp_path / "2") as second,
    ):
        await (await first.start("a")).append("one", HELLO)
        assert await (await second.start("a")).messages() == []


async def test_registries_of_one_directory_see_each_others_sessions(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as first, SessionRegistry(tmp_path) as second:
        assert await second.find("*") == []
        session = await first.start("a", name="n")
        assert await second.exists("a")
        assert (await second.find_by_name("n")).session_id == "a"
        await session.rename("m")
        assert [file.name for file in await second.find("*")] == ["m"]
        await first.stop("a")
        assert (await second.start("a")).name == "m"
        await second.delete("a")
        assert await first.find("*") == []
        with pytest.raises(SessionError, match="does not exist"):
            await session.messages()
        await second.start("a", name="again")
        await second.stop("a")
        with pytest.raises(SessionExistsError):
            await first.start("a", name="other")
        assert (await first.start("a")).name == "again"


async def test_two_registries_that_take_turns_lose_nothing(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as first, SessionRegistry(tmp_path) as second:

        async def take_turns(registry: SessionRegistry, agent_id: str) -> None:
            for n in range(25):
                while True:
                    try:
                        session = await registry.start("a")
                        await session.append(agent_id, {"n": n}, key=f"{agent_id}-{n}")
                        await registry.stop("a")
                    except SessionOwnedError:
                        await asyncio.sleep(0)  # let the other have its turn
                    else:
                        break

        await asyncio.gather(
            *(take_turns(registry, name) for registry, name in ((first, "1"), (second, "2")))
        )
        rows = await first.session("a").messages()
        assert [row.db_id for row in rows] == list(range(1, 51))
        for agent_id in ("1", "2"):
            told = [row.message["n"] for row in rows if row.agent_id == agent_id]
            assert told == list(range(25))
    assert len(list(tmp_path.glob("*.db"))) == 1


# forked children


async def test_a_forked_child_owns_nothing_and_takes_nothing_away(tmp_path: Path) -> None:
    script = """
        import warnings

        async def attempt(call):
            try:
                return repr(await call())
            except SessionError as error:
                return [type(error).__name__, getattr(error, "pid", None), str(error)]

        async def in_child(registry, session):
            answers = [
                await attempt(lambda: session.append("child", {})),
                await attempt(session.messages),
                await attempt(lambda: registry.start("b")),
                await attempt(registry.aclose),
            ]
            async with SessionRegistry(sys.argv[1]) as own:
                answers.append(await attempt(lambda: own.session("a").messages()))
                answers.append(await attempt(lambda: own.start("child", name="n")))
            return answers

        async def main():
            async with SessionRegistry(sys.argv[1]) as registry:
                session = await registry.start("a", name="n")
                await session.append("parent", {})
                await session.flush()  # no thread is at work: SQLite's own locks are at rest
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
                    child = os.fork()
                if child == 0:
                    try:
                        say([os.getppid(), asyncio.run(in_child(registry, session))])
                    finally:
                        os._exit(0)
                await asyncio.to_thread(os.waitpid, child, 0)
                say(await session.append("parent", {}))
                wait()

        asyncio.run(main())
    """
    with process(script, tmp_path) as parent:
        pid, answers = json.loads(await asyncio.to_thread(parent.hear))
        assert pid == parent.pid
        for name, _, text in answers[:3]:
            assert name == "RegistryClosedError"
            assert "fork" in text
        assert answers[3] == "None" or answers[3][0] == "RegistryClosedError"
        assert answers[4][:2] == ["SessionOwnedError", parent.pid]
        assert answers[5].startswith("<Session")
        assert parent.hear() == "2"
        assert await tried(tmp_path, "a", "child") == [owned(parent.pid), "free"]


async def test_a_forked_child_does_not_wait_for_what_its_parents_threads_held(
    tmp_path: Path,
) -> None:
    script = """
        import threading
        import warnings

        from sessionactor import _presence as presence

        async def in_child():
            async with SessionRegistry(sys.argv[1]) as registry:
                session = await registry.start("child")
                return await session.append("child", {})

        held, done = threading.Event(), threading.Event()

        def hold():
            with presence.settling(), presence._guard:
                held.set()
                done.wait()

        threading.Thread(target=hold).start()
        held.wait()
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child = os.fork()
        if child == 0:
            try:
                say(asyncio.run(in_child()))
            finally:
                os._exit(0)
        wait()
        done.set()
    """
    with process(script, tmp_path) as parent:
        async with asyncio.timeout(60):
            assert await asyncio.to_thread(parent.hear) == "1"


# races

RACE = """
async def main(directory, mode, number):
    async with SessionRegistry(directory) as registry:
        say("ready")
        wait()
        try:
            session = await registry.start("contested", name=f"name-{number}")
            await session.append(number, {})
            say("won")
            if mode == "release":
                await registry.stop("contested")
        except (SessionOwnedError, SessionExistsError) as error:
            say(type(error).__name__)
        wait()

asyncio.run(main(*sys.argv[1:]))
"""


def race(stack: ExitStack, directory: Path, mode: str, count: int) -> list[tuple[Process, str]]:
    racers = [stack.enter_context(process(RACE, directory, mode, n)) for n in range(count)]
    for racer in racers:
        racer.hear()
    for racer in racers:
        racer.tell()
    return [(racer, json.loads(racer.hear())) for racer in racers]


@pytest.mark.parametrize("round_", range(2))
def test_of_many_processes_that_start_one_id_exactly_one_wins(tmp_path: Path, round_: int) -> None:
    with ExitStack() as stack:
        ended = race(stack, tmp_path, "keep", 6)
        won = [racer for racer, said in ended if said == "won"]
        assert len(won) == 1
        assert {said for _, said in ended} <= {"won", "SessionOwnedError"}
        assert len(list(tmp_path.glob("*.db"))) == 1


@pytest.mark.parametrize("round_", range(2))
def test_processes_that_start_one_id_one_after_another_never_make_two_files(
    tmp_path: Path, round_: int
) -> None:
    with ExitStack() as stack:
        ended = race(stack, tmp_path, "release", 6)
        won = [racer for racer, said in ended if said == "won"]
        assert len(won) == 1  # the others came too late, or under another name
        assert len(list(tmp_path.glob("*.db"))) == 1


def test_processes_that_share_a_directory_each_with_their_own_sessions_lose_nothing(
    tmp_path: Path,
) -> None:
    script = """
        async def main(directory, number):
            async with SessionRegistry(directory, max_active=2) as registry:
                for n in range(6):
                    session = await registry.start(f"{number}-{n}", name="n")
                    await asyncio.gather(*(session.append(number, {"n": m}) for m in range(10)))
                for n in range(6):
                    rows = await registry.session(f"{number}-{n}").messages()
                    assert [row.message["n"] for row in rows] == list(range(10))
                say("done")

        asyncio.run(main(*sys.argv[1:]))
    """
    with ExitStack() as stack:
        running = [stack.enter_context(process(script, tmp_path, n)) for n in range(4)]
        for one in running:
            assert json.loads(one.hear()) == "done"
        for one in running:
            assert one.end() == 0
    assert len(list(tmp_path.glob("*.db"))) == 24
    assert not list(tmp_path.glob("*-wal"))


async def test_processes_that_take_turns_with_one_session_lose_nothing(tmp_path: Path) -> None:
    script = """
        async def main(directory, number):
            async with SessionRegistry(directory) as registry:
                for n in range(15):
                    while True:
                        try:
                            session = await registry.start("shared")
                            await session.append(number, {"n": n}, key=f"{number}-{n}")
                            await registry.stop("shared")
                        except SessionOwnedError:
                            await asyncio.sleep(0)
                        else:
                            break
            say("done")

        asyncio.run(main(*sys.argv[1:]))
    """
    with ExitStack() as stack:
        running = [stack.enter_context(process(script, tmp_path, n)) for n in range(3)]
        for one in running:
            assert json.loads(one.hear()) == "done"
    assert len(list(tmp_path.glob("*.db"))) == 1
    async with SessionRegistry(tmp_path) as registry:
        rows = await registry.session("shared").messages()
        assert [row.db_id for row in rows] == list(range(1, 46))
        for agent_id in "012":
            told = [row.message["n"] for row in rows if row.agent_id == agent_id]
            assert told == list(range(15))


MAKING = """
import signal
from sessionactor import _files as files

create = files.create

def frozen(path, draft, build):
    if path.name.endswith("catalog"):
        say("making")
        os.kill(os.getpid(), signal.SIGSTOP)
    create(path, draft, build)

async def main(directory):
    async with SessionRegistry(directory) as registry:
        say(len((await registry.sessions()).sessions))

files.create = frozen
asyncio.run(main(sys.argv[1]))
"""


async def test_a_process_stopped_as_it_makes_the_catalog_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionactor._ownership.BUSY_TIMEOUT_S", 0.05)
    with process(MAKING, tmp_path) as maker:
        maker.hear()
        async with asyncio.timeout(PATIENCE_S), SessionRegistry(tmp_path) as registry:
            session = await registry.start("a")
            assert await session.append("one", HELLO) == 1
            with pytest.raises(StorageError, match=f"process {maker.pid}"):
                await registry.sessions()
            assert await registry.stop("a")
            os.kill(maker.pid, signal.SIGCONT)
            assert [one.session_id for one in (await registry.sessions()).sessions] == ["a"]
        assert maker.end() == 0
