from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import eventually

from sessionactor import (
    AmbiguousNameError,
    Session,
    SessionError,
    SessionExistsError,
    SessionFile,
    SessionNotFoundError,
    SessionRegistry,
)

HELLO = {"role": "user", "content": "hello"}


def entries(place: Path | None) -> list[str]:
    if place is None:
        return []
    return sorted(entry for entry in os.listdir(place) if not entry.startswith("."))


def say(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


async def contents(session: Session) -> list[Any]:
    return [row.message["content"] for row in await session.messages()]


# create


async def test_a_session_is_there_with_what_it_begins_with(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        async with registry.create("a1", name="n") as batch:
            batch.append("one", say("hello there"), key="k", parent="other/1")
            batch.save_metadata({"k": "v"})
            batch.set_agent_alias("alias")
            batch.set_context(room_id="r")
        assert batch.results == [1, None, None, None]
        session = registry.session("a1")
        assert (session.name, registry.whereis("a1")) == ("n", session)
        for looked_at in (1, 2):
            (info,) = (await registry.sessions(room_id="r", metadata={"k": "v"})).sessions
            assert (info.session_id, info.agent_alias, info.message_count) == ("a1", "alias", 1)
            assert info.created_at == info.last_activity
            assert [hit.session_id for hit in await registry.search("hello")] == ["a1"]
            assert [child.session_id for child in await registry.children("other/1")] == ["a1"]
            if looked_at == 1:
                await registry.rebuild_catalog()


async def test_a_session_is_created_once(place: Path | None) -> None:
    async def create(number: int) -> int:
        async with registry.create("a", name=f"n-{number}") as batch:
            batch.append("one", say(number))
        return number

    async with SessionRegistry(place) as registry:
        outcomes = await asyncio.gather(*map(create, range(5)), return_exceptions=True)
        (number,) = [outcome for outcome in outcomes if isinstance(outcome, int)]
        errors = [outcome for outcome in outcomes if isinstance(outcome, SessionExistsError)]
        assert len(errors) == 4
        assert f"n-{number}" in str(errors[0])
        assert (await registry.find_by_id("a")).name == f"n-{number}"
        assert await contents(registry.session("a")) == [number]
        await registry.stop("a")
        with pytest.raises(SessionExistsError):
            await create(9)
        assert await registry.delete("a")
        assert await create(7) == 7
        assert await contents(registry.session("a")) == [7]


async def test_a_block_that_raises_creates_nothing(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        with contextlib.suppress(ZeroDivisionError):
            async with registry.create("a") as batch:
                batch.append("one", HELLO)
                raise ZeroDivisionError
        assert not await registry.exists("a")
        assert entries(place) == []
        async with registry.create("a"):
            pass
        assert await contents(registry.session("a")) == []


async def test_what_a_session_begins_with_is_in_its_file_and_not_in_a_log(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        async with registry.create("a") as batch:
            batch.append("one", HELLO)
        path = registry.session("a").path
        uri = f"file:{path}?immutable=1"  # without its log: what a crash at once leaves at least
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            assert connection.execute("SELECT agent_id FROM messages").fetchall() == [("one",)]


# start


async def test_start_creates_a_session_and_starts_its_actor(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a1b2c3d4", name="crazy-mango")
        assert (session.session_id, session.name) == ("a1b2c3d4", "crazy-mango")
        assert session.path == (place and place / "a1b2c3d4_crazy-mango.db")
        assert registry.whereis("a1b2c3d4") is session
        assert await session.append("agent-1", HELLO) == 1


async def test_start_again_returns_the_same_running_session(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a", name="n")
        await session.append("one", HELLO)
        assert await registry.start("a") is session
        assert await registry.start("a", name="n") is session
        assert registry.session("a") is session
        assert registry.statistics().activations == 1
        assert len(await session.messages()) == 1


async def test_start_opens_what_an_earlier_registry_created(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await (await registry.start("a", name="n")).append("one", HELLO)
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a")
        assert session.name == "n"
        assert len(await session.messages()) == 1


async def test_a_handle_outlives_its_registrys_reopening(tmp_path: Path) -> None:
    registry = SessionRegistry(tmp_path)
    async with registry:
        session = await registry.start("a")
        await session.append("one", HELLO)
    async with registry:
        assert await session.append("one", HELLO) == 2


async def test_starting_under_another_name_names_both(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        await registry.start("a", name="first-name")
        for _ in range(2):
            with pytest.raises(SessionExistsError, match=r"first-name.*other-name") as caught:
                await registry.start("a", name="other-name")
            assert caught.value.session_id == "a"
            assert "'a'" in str(caught.value)
            assert registry.session("a").name == "first-name"
            await registry.stop("a")
        assert registry.whereis("a") is None
        assert [file.name for file in await registry.find("*")] == ["first-name"]


async def test_without_an_id_a_fresh_one_is_made(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        first, second = await registry.start(name="n"), await registry.start(name="n")
        assert first.session_id != second.session_id
        assert first.name == second.name == "n"
        assert len(first.session_id) >= 8


async def test_concurrent_starts_without_arguments_make_as_many_sessions(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        sessions = await asyncio.gather(*(registry.start() for _ in range(50)))
        assert len({session.session_id for session in sessions}) == 50
        assert len({session.name for session in sessions}) == 50
        assert len(await registry.find("*")) == 50


async def test_concurrent_starts_of_one_id_make_one_session(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        sessions = await asyncio.gather(*(registry.start("a") for _ in range(50)))
        assert len(set(sessions)) == 1
        assert registry.statistics().activations == 1
        assert len(await registry.find("*")) == 1


async def test_of_concurrent_starts_under_different_names_one_wins(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        answers = await asyncio.gather(
            *(registry.start("a", name=f"n{n}") for n in range(20)), return_exceptions=True
        )
        won = [answer for answer in answers if isinstance(answer, Session)]
        assert len(won) == 1
        assert sum(isinstance(answer, SessionExistsError) for answer in answers) == 19
        assert [file.name for file in await registry.find("*")] == [won[0].name]


async def test_generated_names_stay_unique_when_the_words_are_used_up(
    place: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionactor._names.ADJECTIVES", ["crazy"])
    monkeypatch.setattr("sessionactor._names.NOUNS", ["mango", "apple", "cherry", "plum"])
    async with SessionRegistry(place) as registry:
        names = [one.name for one in await asyncio.gather(*(registry.start() for _ in range(8)))]
        names += [(await registry.start()).name for _ in range(8)]
        assert len(set(names)) == 16
        assert all(name.startswith("crazy-") for name in names)


async def test_a_generated_name_is_not_that_of_a_session_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionactor._names.ADJECTIVES", ["crazy"])
    monkeypatch.setattr("sessionactor._names.NOUNS", ["mango"])
    async with SessionRegistry(tmp_path) as registry:
        assert (await registry.start("a")).name == "crazy-mango"
    async with SessionRegistry(tmp_path) as registry:
        assert (await registry.start("b")).name != "crazy-mango"
        await registry.delete("a")
        assert (await registry.start("c")).name == "crazy-mango"


# session, whereis, exists


async def test_session_is_a_handle_without_io_that_never_creates(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        before = entries(place)
        session = registry.session("nobody")
        assert session.session_id == "nobody"
        for call in EVERY_CALL.values():
            with pytest.raises(SessionNotFoundError) as caught:
                await call(session)
            assert isinstance(caught.value, LookupError)
            assert caught.value.session_id == "nobody"
        for ask in (lambda: session.name, lambda: session.path):
            with pytest.raises(SessionNotFoundError):
                ask()
        assert entries(place) == before
        assert not await registry.exists("nobody")
        assert registry.whereis("nobody") is None
        assert registry.statistics().active == 0


async def stream(session: Session) -> list[Any]:
    return [row async for row in session.stream()]


async def chapters(session: Session) -> list[Any]:
    return [page async for page in session.chapters()]


async def batch(session: Session) -> list[Any]:
    async with session.batch() as collected:
        collected.append("one", HELLO)
    return collected.results


EVERY_CALL: dict[str, Callable[[Session], Awaitable[Any]]] = {
    "append": lambda s: s.append("one", HELLO),
    "extend": lambda s: s.extend("one", [HELLO]),
    "batch": batch,
    "messages": lambda s: s.messages(),
    "stream": stream,
    "latest": lambda s: s.messages_from_latest_checkpoint(),
    "before": lambda s: s.messages_before_checkpoint(1),
    "chapters": chapters,
    "get": lambda s: s.get(1),
    "get by key": lambda s: s.get(key="k"),
    "truncate_from": lambda s: s.truncate_from(1),
    "save_metadata": lambda s: s.save_metadata({"n": 1}),
    "get_metadata": lambda s: s.get_metadata(),
    "revision": lambda s: s.revision(),
    "rename": lambda s: s.rename("other"),
}


@pytest.mark.parametrize("call", EVERY_CALL.values(), ids=EVERY_CALL)
async def test_the_first_call_of_a_handle_activates_its_session(
    place: Path | None, call: Callable[[Session], Awaitable[Any]]
) -> None:
    async with SessionRegistry(place) as registry:
        await (await registry.start("a", name="n")).append("one", HELLO)
        await registry.stop("a")
        activations = registry.statistics().activations
        await call(registry.session("a"))
        assert registry.statistics().activations == activations + 1


async def test_a_handle_made_before_its_session_works_once_there_is_one(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = registry.session("a")
        with pytest.raises(SessionNotFoundError):
            await session.append("one", HELLO)
        assert await registry.start("a") is session
        assert await session.append("one", HELLO) == 1


async def test_whereis_finds_running_sessions_only(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        assert registry.whereis("a") is session
        await registry.stop("a")
        assert registry.whereis("a") is None
        await session.messages()
        assert registry.whereis("a") is session
        await registry.delete("a")
        assert registry.whereis("a") is None
        assert registry.whereis("b") is None


async def test_exists_whether_running_or_not(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        assert not await registry.exists("a")
        await registry.start("a")
        assert await registry.exists("a")
        await registry.stop("a")
        assert await registry.exists("a")
        await registry.delete("a")
        assert not await registry.exists("a")


# stop


async def test_stop_closes_the_session_and_the_next_request_opens_it(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a", name="n")
        await session.append("one", HELLO)
        assert await registry.stop("a") is True
        assert registry.statistics().active == 0
        assert entries(place) == (["a_n.db"] if place else [])
        assert await registry.stop("a") is False
        assert await session.append("one", HELLO) == 2


async def test_stop_serves_what_was_asked_before(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        *ids, stopped = await asyncio.gather(
            *(session.append("one", say(n)) for n in range(100)), registry.stop("a")
        )
        assert ids == list(range(1, 101))
        assert stopped is True
        assert registry.whereis("a") is None
        assert await contents(session) == list(range(100))


async def test_requests_behind_a_stop_are_served_by_the_next_actor(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        first, stopped, second, again, third = await asyncio.gather(
            session.append("one", HELLO),
            registry.stop("a"),
            session.append("one", HELLO),
            registry.start("a"),
            session.append("one", HELLO),
        )
        assert (first, stopped, second, again, third) == (1, True, 2, session, 3)
        assert registry.statistics().activations == 2


async def test_stopping_what_does_not_exist_is_an_error(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        with pytest.raises(SessionNotFoundError):
            await registry.stop("nobody")
        await registry.start("a")
        await registry.delete("a")
        with pytest.raises(SessionNotFoundError):
            await registry.stop("a")


async def test_stopping_what_was_never_running_here_is_false(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await registry.start("a")
    async with SessionRegistry(tmp_path) as registry:
        assert await registry.stop("a") is False


async def test_concurrent_stops_close_once(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        answers = await asyncio.gather(*(registry.stop("a") for _ in range(10)))
        assert answers == [True] + [False] * 9
        assert await session.append("one", HELLO) == 1


# delete


async def test_delete_removes_the_session_for_good(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a", name="n")
        await session.append("one", HELLO)
        assert await registry.delete("a") is True
        assert entries(place) == []
        assert await registry.find("*") == []
        with pytest.raises(SessionNotFoundError):
            await session.messages()
        assert await registry.delete("a") is False


async def test_delete_of_a_stopped_session(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        await registry.start("a")
        await registry.stop("a")
        assert await registry.delete("a") is True
        assert entries(place) == []


async def test_a_session_created_again_begins_anew(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a", name="n")
        await session.append("one", HELLO)
        await session.save_metadata({"n": 1})
        await registry.delete("a")
        again = await registry.start("a", name="other")
        assert again.name == "other"
        assert await again.messages() == []
        assert await again.get_metadata() == {}
        assert await again.revision() == 0
        assert await again.append("one", HELLO) == 1


async def test_requests_made_before_a_delete_is_answered_are_served_or_find_nothing(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")
        answers = await asyncio.gather(
            *(session.append("one", say(n)) for n in range(5)),
            registry.delete("a"),
            *(session.append("one", say(n)) for n in range(5, 10)),
            session.messages(),
            return_exceptions=True,
        )
        assert answers[:6] == [1, 2, 3, 4, 5, True]
        assert all(isinstance(answer, SessionNotFoundError) for answer in answers[6:])


async def test_no_request_made_before_a_delete_is_answered_reaches_the_next_session_of_that_id(
    place: Path | None,
) -> None:
    async with SessionRegistry(place, mailbox_size=4) as registry:
        session = await registry.start("a")
        *answers, deleted, started = await asyncio.gather(
            *(session.append("one", say(n)) for n in range(30)),
            registry.delete("a"),
            registry.start("a", name="again"),
            return_exceptions=True,
        )
        late = await asyncio.gather(
            registry.delete("a"),
            registry.start("a", name="once more"),
            *(session.append("one", say(n)) for n in range(30)),
            return_exceptions=True,
        )
        assert deleted is True
        assert started is session
        assert all(isinstance(answer, int | SessionNotFoundError) for answer in answers)
        assert late[:2] == [True, session]
        assert all(isinstance(answer, SessionNotFoundError) for answer in late[2:])
        assert await session.messages() == []
        assert session.name == "once more"


async def test_writers_meet_a_delete_and_nothing_comes_back(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a")

        async def write() -> int:
            count = 0
            while True:
                try:
                    await session.append("one", HELLO)
                except SessionNotFoundError:
                    return count
                count += 1

        writers = [asyncio.create_task(write()) for _ in range(20)]
        await eventually(lambda: registry.statistics().requests >= 200)
        assert await registry.delete("a") is True
        assert sum(await asyncio.gather(*writers)) >= 180
        assert entries(place) == []
        assert await (await registry.start("a")).messages() == []


async def test_concurrent_deletes_delete_once(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        await registry.start("a")
        answers = await asyncio.gather(*(registry.delete("a") for _ in range(10)))
        assert sorted(answers) == [False] * 9 + [True]


async def test_delete_of_a_session_of_an_earlier_registry(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        await registry.start("a")
        await registry.start("b")
    async with SessionRegistry(tmp_path) as registry:
        assert await registry.delete("a") is True
        assert [file.session_id for file in await registry.find("*")] == ["b"]


async def test_what_happens_to_one_id_happens_in_one_order(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = registry.session("a")
        for round_ in range(10):
            answers = await asyncio.gather(
                registry.start("a", name="n"),
                session.append("one", HELLO),
                registry.stop("a"),
                session.rename("m"),
                session.append("one", HELLO),
                session.rename("o"),
                registry.start("a", name="o"),
                registry.delete("a"),
                session.append("one", HELLO),
                registry.start("a", name=f"n{round_}"),
                return_exceptions=True,
            )
            first, one, stopped, renamed, two, again, same, deleted, lost, new = answers
            assert (first, one, stopped, renamed) == (session, 1, True, None)
            assert (two, again, same, deleted, new) == (2, None, session, True, session)
            assert isinstance(lost, SessionNotFoundError)
            assert session.name == f"n{round_}"
            assert await session.messages() == []
            assert [file.name for file in await registry.find("*")] == [f"n{round_}"]
            assert await registry.delete("a")
        assert entries(place) == []


# find


async def test_find_by_id_and_by_name_say_where_a_session_is(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        await registry.start("a", name="n")
        file = await registry.find_by_id("a")
        assert file == SessionFile(place and place / "a_n.db", "a", "n")
        assert await registry.find_by_name("n") == file
        assert await registry.find("n") == [file]
        await registry.stop("a")
        assert await registry.find_by_id("a") == file
        assert registry.whereis("a") is None
        with pytest.raises(SessionNotFoundError) as caught:
            await registry.find_by_id("b")
        assert caught.value.session_id == "b"
        with pytest.raises(SessionNotFoundError, match="'m'"):
            await registry.find_by_name("m")


async def test_two_sessions_of_a_name_are_ambiguous(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        for session_id in "cab":
            await registry.start(session_id, name="n")
        with pytest.raises(AmbiguousNameError, match="a, b, c") as caught:
            await registry.find_by_name("n")
        assert sorted(caught.value.session_ids) == ["a", "b", "c"]
        assert isinstance(caught.value, LookupError)
        await registry.delete("a")
        await registry.delete("b")
        assert (await registry.find_by_name("n")).session_id == "c"


async def test_a_pattern_is_a_string(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        with pytest.raises(TypeError) as caught:
            await registry.find(None)  # type: ignore[arg-type]
        assert isinstance(caught.value, SessionError)


async def test_a_pattern_has_a_bound(place: Path | None) -> None:
    """Some of tens of thousands of characters take `fnmatch` seconds."""
    async with SessionRegistry(place) as registry:
        await registry.start("a", name="n")
        longest = "*" * 999 + "n"
        assert [file.name for file in await registry.find(longest)] == ["n"]
        assert [info.name for info in (await registry.sessions(name=longest)).sessions] == ["n"]
        for ask in (registry.find, lambda pattern: registry.sessions(name=pattern)):
            with pytest.raises(ValueError, match="1000 characters, not 1001") as caught:
                await ask(f"*{longest}")
            assert isinstance(caught.value, SessionError)


# rename


async def test_rename_moves_the_file_and_keeps_everything(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a", name="old")
        await session.append("one", HELLO, key="k")
        await session.save_metadata({"n": 1})
        await session.rename("new")
        assert session.name == "new"
        assert session.path == (place and place / "a_new.db")
        assert [file.name for file in await registry.find("*")] == ["new"]
        with pytest.raises(SessionNotFoundError):
            await registry.find_by_name("old")
        assert await session.append("one", HELLO, key="k") == 1
        assert await session.append("one", HELLO) == 2
        assert await session.get_metadata() == {"n": "1"}
        assert await registry.start("a", name="new") is session
        with pytest.raises(SessionExistsError):
            await registry.start("a", name="old")
        assert [entry for entry in entries(place) if entry.endswith(".db")] == (
            ["a_new.db"] if place else []
        )


async def test_rename_is_there_after_a_restart(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="old")
        await session.append("one", HELLO)
        await session.rename("new")
        await session.append("one", HELLO)
    async with SessionRegistry(tmp_path) as registry:
        assert (await registry.find_by_id("a")).name == "new"
        assert len(await registry.session("a").messages()) == 2
    assert entries(tmp_path) == ["a_new.db"]


async def test_rename_to_nothing_gives_a_generated_name(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a", name="old")
        await session.rename(None)
        assert session.name != "old"
        assert "-" in session.name
        assert (await registry.find_by_name(session.name)).session_id == "a"


async def test_rename_to_the_same_name_or_back_is_fine(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a", name="n")
        await session.append("one", HELLO)
        for name in ("n", "m", "n"):
            await session.rename(name)
            assert session.name == name
            assert len(await session.messages()) == 1


async def test_rename_in_the_midst_of_appends_loses_nothing(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a", name="n0")
        calls: list[Awaitable[Any]] = []
        for n in range(10):
            calls += [session.append("one", say(10 * n + m)) for m in range(10)]
            calls.append(session.rename(f"n{n + 1}"))
        await asyncio.gather(*calls)
        assert session.name == "n10"
        assert await contents(session) == list(range(100))


async def test_a_disk_too_full_to_tell_others_of_a_change_hinders_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with SessionRegistry(tmp_path) as registry, SessionRegistry(tmp_path) as other:
        monkeypatch.setattr("sessionactor._ownership.os.write", full)
        session = await registry.start("a", name="n")
        await registry.stop("a")
        assert (await other.find_by_id("a")).name == "n"
        await session.rename("m")
        assert (await other.find_by_id("a")).name == "m"
        assert await registry.delete("a")
        assert not await other.exists("a")
