"""What is promised of ADK's sessions beyond what ADK's own services do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import pickle
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from google.adk.cli import service_registry
from google.adk.errors import InvocationNotFoundError, StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions import BaseSessionService, DatabaseSessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from sessionactor import (
    IdempotencyError,
    RegistryClosedError,
    SessionNotFoundError,
    SessionOwnedError,
    SessionRegistry,
)
from sessionactor.adapters._google_adk_scopes import Scopes
from sessionactor.adapters.google_adk import ActorSessionService
from sessionactor.cli._messages import role_of, text

ADA: dict[str, Any] = {"app_name": "app", "user_id": "ada"}


def says(words: str, author: str = "user", **delta: Any) -> Event:
    return Event(
        author=author,
        invocation_id="i1",
        content=types.Content(role="user", parts=[types.Part(text=words)]),
        actions=EventActions(state_delta={key.replace("__", ":"): delta[key] for key in delta}),
    )


def words(session: Session | None) -> list[str | None]:
    assert session is not None
    return [event.content.parts[0].text for event in session.events]  # type: ignore[union-attr, index]


async def got(service: BaseSessionService, session: Session, **config: Any) -> Session:
    found = await service.get_session(
        app_name=session.app_name,
        user_id=session.user_id,
        session_id=session.id,
        config=GetSessionConfig(**config),
    )
    assert found is not None
    return found


Make = Callable[[Path], BaseSessionService]


@asynccontextmanager
async def opened(make: Make, path: Path) -> AsyncIterator[BaseSessionService]:
    service = make(path)
    try:
        yield service
    finally:
        await service.close()  # type: ignore[attr-defined]


def ours(path: Path) -> BaseSessionService:
    return ActorSessionService(path)


def on_sqlite(path: Path) -> BaseSessionService:
    return SqliteSessionService(str(path / "adk.db"))


def on_database(path: Path) -> BaseSessionService:
    return DatabaseSessionService(f"sqlite+aiosqlite:///{path}/adk.db")


def theirs(make: Make, reason: str) -> Any:
    return pytest.param(make, marks=pytest.mark.xfail(strict=False, reason=reason))


# ordinary sessions


async def test_a_conversation_is_an_ordinary_session(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry, ActorSessionService(registry) as service:
        session = await service.create_session(**ADA, session_id="trip", state={"lang": "en"})
        await service.append_event(session, says("Where is my parcel?"))
        call = types.Part.from_function_call(name="look_up", args={"parcel": 7})
        picture = types.Part.from_bytes(data=b"\0\xff", mime_type="image/png")
        reply = says("I look.", "helper", lang="de")
        assert reply.content is not None
        reply.content.role = "model"
        reply.content.parts = [types.Part(text="I look."), call, picture]
        await service.append_event(session, reply)

        stored = await service.conversation(**ADA, session_id="trip")
        assert stored.session_id == "app/ada/trip"
        rows = await stored.messages()
        assert [(row.agent_id, row.key) for row in rows] == [
            ("user", session.events[0].id),
            ("helper", session.events[1].id),
        ]
        assert [role_of(row.message) for row in rows] == ["user", "model"]
        assert text(rows[1].message).splitlines()[:2] == ["I look.", '→ look_up({"parcel": 7})']
        assert [hit.session_id for hit in await registry.search("parcel 7")] == ["app/ada/trip"]
        info = await stored.info()
        assert (info.agent_alias, info.channel_id) == ("app", "google-adk")
        assert (info.sender_id, info.room_id) == ("ada", "trip")
        assert (await got(service, session)).events == session.events


async def test_events_come_back_as_they_were_and_what_all_have_is_not_stored(
    tmp_path: Path,
) -> None:
    odd = says("odd", a=1, temp__b=2)
    odd.id = "50% / \0ü"
    odd.actions.agent_state, odd.actions.artifact_delta = {}, {"file": 0}
    odd.node_info.path, odd.custom_metadata = "a/b", {"actions": {}}
    escalating, nameless = says("up"), says("", "")
    escalating.actions.escalate = False
    nameless.node_info.output_for = []
    async with opened(ours, tmp_path) as service:
        session = await service.create_session(**ADA, session_id="s")
        for event in (says("plain"), odd, escalating, nameless):
            await service.append_event(session, event)
        found = await got(service, session)
        assert found.events == session.events
        assert [event.id for event in found.events] == [event.id for event in session.events]
        fork = await service.fork_session(**ADA, session_id="s")  # type: ignore[attr-defined]
        assert fork.events == session.events
    async with SessionRegistry(tmp_path) as registry:
        messages = [row.message for row in await registry.session("app/ada/s").messages()]
        assert messages[0].keys() == {"author", "content", "invocation_id", "timestamp"}
        assert [message.get("actions") for message in messages] == [
            None,
            {"agent_state": {}, "artifact_delta": {"file": 0}, "state_delta": {"a": 1}},
            {"escalate": False},
            None,
        ]
        await registry.session("app/ada/s").append("by hand", {"author": "hand"})
    async with opened(ours, tmp_path) as service:
        assert (await got(service, session)).events[-1].author == "hand"


async def test_a_service_is_chosen_by_a_uri_in_services_yaml(tmp_path: Path) -> None:
    (tmp_path / "services.yaml").write_text(
        "services:\n  - scheme: sessionactor\n    type: session\n"
        "    class: sessionactor.adapters.google_adk.ActorSessionService\n"
    )
    service_registry.load_services_module(str(tmp_path))
    chosen = service_registry.get_service_registry().create_session_service(
        f"sessionactor:///{tmp_path}/my%20sessions", agents_dir=str(tmp_path)
    )
    assert isinstance(chosen, ActorSessionService)
    async with chosen as service:
        await service.create_session(**ADA, session_id="s")
    assert [path.name[:12] for path in (tmp_path / "my sessions").glob("*.db")] == ["app%2fada%2f"]


@pytest.mark.parametrize("uri", ["sessionactor://host/x", "sessionactor://", "sessionactor:///"])
def test_a_uri_that_names_no_directory_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="names no directory"):
        ActorSessionService(uri=uri)
    with pytest.raises(ValueError, match="give one"):
        ActorSessionService("here", uri="sessionactor:///there")
    with pytest.raises(ValueError, match="Give a directory"):
        ActorSessionService()


@pytest.mark.parametrize(
    "names",
    [
        ("a/b", "c", "d"),
        ("a", "b/c", "d"),
        ("a%2Fb", "c", "d"),
        ("", "", "x"),
        ("a" * 150, "ü" * 100, "z" * 90),
        ("a" * 150, "ü" * 100, "z" * 91),
        ("\ud800", "a\0b", "%"),
    ],
)
async def test_any_names_are_told_apart(names: tuple[str, str, str], tmp_path: Path) -> None:
    app, user, session_id = names
    async with ActorSessionService(tmp_path) as service:
        others = [
            ("a", "b", "c/d"),
            ("a/b/c", "d", ""),
            ("%", "%", "x"),
            ("a" * 150, "ü" * 99, "z"),
        ]
        for other in [*others, names]:
            await service.create_session(
                app_name=other[0],
                user_id=other[1],
                session_id=other[2],
                state={"user:of": other[2]},
            )
        (found,) = (await service.list_sessions(app_name=app, user_id=user)).sessions
        assert (found.app_name, found.user_id, found.id) == names
        assert (await got(service, found)).state == {"user:of": session_id}
        with pytest.raises(AlreadyExistsError):
            await service.create_session(app_name=app, user_id=user, session_id=session_id)


async def test_an_event_that_is_given_again_is_stored_once(tmp_path: Path) -> None:
    async with ActorSessionService(tmp_path) as service:
        session = await service.create_session(**ADA)
        copy = await got(service, session)
        event = says("once", app__n=1)
        again = event.model_copy(deep=True)
        await service.append_event(session, event)
        await service.append_event(session, event)
        assert len(session.events) == 1
        # One whose answer was lost: the object does not know of it yet.
        await service.append_event(copy, again)
        assert words(copy) == words(session) == words(await got(service, session)) == ["once"]
        await service.append_event(copy, says("more"))
        with pytest.raises(IdempotencyError):
            await service.append_event(copy, event.model_copy(update={"author": "other"}))


async def test_a_session_object_keeps_what_it_knows_when_copied(tmp_path: Path) -> None:
    async with ActorSessionService(tmp_path) as service:
        session = await service.create_session(**ADA)
        await service.append_event(session, says("one"))
        copy = session.model_copy(deep=True)
        made = Session.model_validate(session.model_dump())
        await service.append_event(session, says("two"))
        for known in (copy, made):
            with pytest.raises(StaleSessionError):
                await service.append_event(known, says("too late"))
        (listed,) = (await service.list_sessions(**ADA)).sessions
        await service.append_event(Session.model_validate(session.model_dump()), says("three"))
        with pytest.raises(StaleSessionError):
            await service.append_event(listed, says("too late"))
        assert words(await got(service, session)) == ["one", "two", "three"]


async def test_an_object_that_is_shared_by_branches_takes_their_events_in_turn(
    tmp_path: Path,
) -> None:
    async with ActorSessionService(tmp_path) as service:
        session = await service.create_session(**ADA)
        await asyncio.gather(
            *(service.append_event(session, says(str(n), app__n=n, n=n)) for n in range(20))
        )
        found = await got(service, session)
        assert words(found) == words(session) == [str(n) for n in range(20)]
        assert found.state == {"n": 19, "app:n": 19}


async def test_an_update_of_rows_by_hand_does_not_keep_it_from_being_read(tmp_path: Path) -> None:
    async with ActorSessionService(tmp_path) as service:
        session = await service.create_session(**ADA, session_id="s")
        for n in range(4):
            await service.append_event(session, says(str(n)))
        stored = await service.conversation(**ADA, session_id="s")
        await stored.truncate_from(3)
        with pytest.raises(StaleSessionError):
            await service.append_event(session, says("stale"))
        session = await got(service, session)
        await service.append_event(session, says("new"))
        assert words(await got(service, session)) == ["0", "1", "new"]


@pytest.mark.parametrize("config", [{"num_recent_events": 3}, {"after_timestamp": 1497.0}])
async def test_the_newest_of_many(tmp_path: Path, config: dict[str, Any]) -> None:
    async with ActorSessionService(tmp_path) as service:
        session = await service.create_session(**ADA)
        for n in range(1500):
            event = says(str(n))
            event.timestamp = float(n)
            await service.append_event(session, event)
        assert words(await got(service, session, **config)) == ["1497", "1498", "1499"]
        assert len((await got(service, session, after_timestamp=400.0)).events) == 1100
        assert len((await got(service, session)).events) == 1500


# state that is shared


async def test_state_of_app_and_user_is_changed_although_the_process_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> None:
        raise RuntimeError("killed")

    async with ActorSessionService(tmp_path) as service:
        session = await service.create_session(**ADA, state={"app:n": 0})
        with monkeypatch.context() as patched:
            patched.setattr(Scopes, "_take", dies)
            with pytest.raises(RuntimeError, match="killed"):
                await service.append_event(session, says("one", app__n=1, user__n=1))
        assert session.events == []
    async with ActorSessionService(tmp_path) as service:
        other = await service.create_session(**ADA)
        assert other.state == {"app:n": 1, "user:n": 1}
        session = await got(service, session)
        assert (words(session), session.state) == (["one"], {"app:n": 1, "user:n": 1})
        await service.append_event(other, says("x", app__n=2))
    async with SessionRegistry(tmp_path) as registry, ActorSessionService(registry) as service:
        assert (await got(service, session)).state == {"app:n": 2, "user:n": 1}
        log = [row.message["state_delta"] for row in await registry.session("app").messages()]
        assert log == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_what_failed_is_done_before_the_next_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Scopes._take
    fails = iter([True])

    async def failing(self: Scopes, *arguments: Any) -> None:
        if next(fails, False):
            raise OSError("disk full")
        await take(self, *arguments)

    monkeypatch.setattr(Scopes, "_take", failing)
    async with SessionRegistry(tmp_path) as registry, ActorSessionService(registry) as service:
        session = await service.create_session(**ADA)
        with pytest.raises(OSError, match="disk full"):
            await service.append_event(session, says("one", app__n=1))
        session = await got(service, session)
        assert session.state == {"app:n": 1}
        await service.append_event(session, says("two", app__n=2))
        assert (await got(service, session)).state == {"app:n": 2}
        assert [row.db_id for row in await registry.session("app").messages()] == [1, 2]


async def test_a_session_that_was_deleted_takes_nothing_and_is_created_again(
    tmp_path: Path,
) -> None:
    async with ActorSessionService(tmp_path) as service:
        session = await service.create_session(**ADA, session_id="s")
        await service.delete_session(**ADA, session_id="s")
        with pytest.raises(ValueError, match="not found"):
            await service.append_event(session, says("one", app__n=1))
        assert (await service.create_session(**ADA, session_id="s")).state == {}


async def test_cancelled_callers_leave_whole_events(tmp_path: Path) -> None:
    async with ActorSessionService(tmp_path) as service:
        session = await service.create_session(**ADA)
        for n in range(30):
            session = await got(service, session)
            task = asyncio.create_task(service.append_event(session, says(str(n), app__n=n, n=n)))
            for _ in range(n):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            while True:  # what was accepted is carried out, and may be under way
                session = await got(service, session)
                try:
                    await service.append_event(session, says("next"))
                    break
                except StaleSessionError:
                    continue
            session = await got(service, session)
            assert session.state.get("n") == session.state.get("app:n")
            assert (str(n) in words(session)) == (session.state.get("n") == n)


async def test_another_process_owns_the_state_of_an_app(tmp_path: Path) -> None:
    async with (
        SessionRegistry(tmp_path) as there,
        SessionRegistry(tmp_path) as here,
        ActorSessionService(there) as other,
        ActorSessionService(here) as mine,
    ):
        await other.create_session(**ADA, state={"app:n": 1})
        await there.session("app").flush()
        session = await mine.create_session(app_name="app", user_id="bob")
        assert session.state == {"app:n": 1}  # reading goes on
        await mine.append_event(session, says("one", user__n=1))
        with pytest.raises(SessionOwnedError):
            await mine.append_event(session, says("two", app__n=2))
        assert words(await got(mine, session)) == ["one"]
        assert (await got(mine, session)).state == {"app:n": 1, "user:n": 1}


# forks


async def test_a_fork_goes_its_own_way(tmp_path: Path) -> None:
    async with ActorSessionService(tmp_path) as service:
        session = await service.create_session(**ADA, session_id="s", state={"a": 1, "b": 1})
        for n in range(3):
            event = says(str(n), a=n + 2, user__n=n)
            event.invocation_id = f"i{n}"
            await service.append_event(session, event)
        whole = await service.fork_session(**ADA, session_id="s", new_session_id="whole")
        assert (words(whole), whole.state["a"]) == (["0", "1", "2"], 4)
        part = await service.fork_session(**ADA, session_id="s", before_invocation_id="i1")
        assert words(part) == ["0"]
        assert part.state == {"a": 2, "b": 1, "user:n": 2}
        empty = await service.fork_session(**ADA, session_id="s", before_invocation_id="i0")
        assert (words(empty), empty.state) == ([], {"a": 1, "b": 1, "user:n": 2})
        for fork in (whole, part, empty):
            await service.append_event(fork, says("other"))
        assert words(await got(service, session)) == ["0", "1", "2"]
        listed = (await service.list_sessions(**ADA)).sessions
        assert {one.id for one in listed} == {"s", "whole", part.id, empty.id}
        with pytest.raises(AlreadyExistsError):
            await service.fork_session(**ADA, session_id="s", new_session_id="whole")
        with pytest.raises(InvocationNotFoundError):
            await service.fork_session(**ADA, session_id="s", before_invocation_id="none")
        with pytest.raises(ValueError, match="not found"):
            await service.fork_session(**ADA, session_id="none")


async def test_a_fork_that_was_not_finished_is_none(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry, ActorSessionService(registry) as service:
        session = await service.create_session(**ADA, session_id="s")
        await service.append_event(session, says("one"))
        await registry.session("app/ada/s").fork("app/ada/half")  # and killed here
        assert await service.get_session(**ADA, session_id="half") is None
        assert [one.id for one in (await service.list_sessions(**ADA)).sessions] == ["s"]
        fork = await service.fork_session(**ADA, session_id="s", new_session_id="half")
        assert words(fork) == ["one"]


async def test_a_session_is_created_whole_or_not_at_all(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry, ActorSessionService(registry) as service:
        created, there = {"n": 1}, []
        for turns in range(30):
            session_id = f"s{turns}"
            creating = asyncio.create_task(
                service.create_session(**ADA, session_id=session_id, state=created)
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            creating.cancel()
            await asyncio.wait([creating])
            stored = await service.conversation(**ADA, session_id=session_id)
            with contextlib.suppress(SessionNotFoundError):
                await stored.revision()  # behind what was begun
                found = await service.get_session(**ADA, session_id=session_id)
                assert found is not None
                assert found.state == created
                with pytest.raises(AlreadyExistsError):
                    await service.create_session(**ADA, session_id=session_id)
                there.append(turns)
        assert 0 not in there
        assert 29 in there


async def test_a_listed_session_is_as_any_other(tmp_path: Path) -> None:
    async with opened(ours, tmp_path) as service:
        await service.create_session(**ADA, session_id="s", state={"a": [1], "user:b": 2})
        (one,) = (await service.list_sessions(**ADA)).sessions
        other = Session.model_validate(one.model_dump())
        assert one.model_dump() == other.model_dump()
        assert one.model_fields_set == other.model_fields_set
        assert pickle.loads(pickle.dumps(one)) == one.model_copy(deep=True) == one
        one.events.append(says("x"))
        one.state["c"] = 1
        (again,) = (await service.list_sessions(**ADA)).sessions
        assert (again.events, again.state) == ([], {"a": [1], "user:b": 2})


# files of ADK's own services


@pytest.mark.parametrize("make", [on_sqlite, on_database])
async def test_a_file_of_their_own_is_taken_over(make: Make, tmp_path: Path) -> None:
    expected = []
    async with opened(make, tmp_path) as service:
        for n in range(5):
            session = await service.create_session(
                app_name="app", user_id=f"u{n % 2}", state={"app:a": n, "user:b": n, "c": n, "d": n}
            )
            for turn in range(3):
                await service.append_event(session, says(f"{n} {turn}", c=turn, user__e=turn))
            expected.append(session)
        expected = [await got(service, session) for session in expected]
    async with ActorSessionService(tmp_path / "ours") as service:
        assert await service.import_sqlite(tmp_path / "adk.db") == 5
        for session in expected:
            found = await got(service, session)
            assert found.model_dump() == session.model_dump()
        await service.append_event(found, says("more", app__a="kept"))
        assert await service.import_sqlite(tmp_path / "adk.db") == 0
        assert words(await got(service, found))[-1] == "more"
        assert (await got(service, found)).state["app:a"] == "kept"
        fork = await service.fork_session(
            app_name="app", user_id=found.user_id, session_id=found.id, before_invocation_id="i1"
        )
        assert fork.state["d"] == 4
        assert "c" not in fork.state


async def test_a_file_that_is_not_theirs_is_refused(tmp_path: Path) -> None:
    async with ActorSessionService(tmp_path / "ours") as service:
        with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
            connection.execute("CREATE TABLE events (id, actions)")
        with pytest.raises(ValueError, match="no events as ADK stores them now"):
            await service.import_sqlite(tmp_path / "old.db")
        (tmp_path / "text").write_text("no database " * 100)
        for name in ("text", "none"):
            with pytest.raises(sqlite3.Error):
                await service.import_sqlite(tmp_path / name)
        assert not (tmp_path / "none").exists()


# registries


async def test_a_registry_that_was_given_stays_open(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path, catalog=False) as registry:
        async with ActorSessionService(registry) as service:
            session = await service.create_session(**ADA, state={"app:n": 1})
            assert (await got(service, session)).state == {"app:n": 1}
            assert await service.get_session(**ADA, session_id="none") is None
        assert await registry.exists(f"app/ada/{session.id}")
        with pytest.raises(SessionNotFoundError):
            await registry.session("none").info()
    with pytest.raises(RegistryClosedError):
        await service.get_user_state(app_name="app", user_id="ada")


def test_a_service_goes_from_loop_to_loop(tmp_path: Path) -> None:
    service = ActorSessionService(tmp_path)
    session = asyncio.run(service.create_session(**ADA, state={"user:n": 1}))
    asyncio.run(service.append_event(session, says("one")))
    assert words(asyncio.run(got(service, session))) == ["one"]


# races


RACE = "it checks in one transaction and writes in another"


@pytest.mark.parametrize("make", [ours, theirs(on_sqlite, RACE), theirs(on_database, RACE)])
async def test_of_two_stale_writers_one_is_refused(make: Make, tmp_path: Path) -> None:
    """Two processes, as far as the services can tell, or two objects on one registry."""
    async with opened(make, tmp_path) as one, opened(make, tmp_path) as other:
        for _ in range(20):
            session = await one.create_session(**ADA)
            await one.append_event(session, says("first"))
            objects = [await got(one, session), await got(other, session)]
            results = await asyncio.gather(
                *(
                    service.append_event(known, says("second", n=1))
                    for service, known in zip((one, other), objects, strict=True)
                ),
                return_exceptions=True,
            )
            refused = [result for result in results if isinstance(result, StaleSessionError)]
            assert len(refused) == 1, results
            assert words(await got(one, session)) == ["first", "second"]


@pytest.mark.parametrize("make", [ours, on_sqlite, on_database])
async def test_a_listing_while_writers_write(make: Make, tmp_path: Path) -> None:
    async with opened(make, tmp_path) as service:
        sessions = [await service.create_session(**ADA, session_id=str(n)) for n in range(8)]
        done = asyncio.Event()

        async def write(session: Session) -> None:
            for n in itertools.count():
                if done.is_set():
                    return
                await service.append_event(session, says(str(n), n=n))

        async def read() -> None:
            seen: dict[str, int] = {}
            for _ in range(15):
                found = (await service.list_sessions(**ADA)).sessions
                assert len(found) == len(sessions)
                for one in found:
                    n = one.state.get("n", -1)
                    assert n >= seen.get(one.id, -1)
                    seen[one.id] = n
            done.set()

        await asyncio.gather(read(), *map(write, sessions))


@pytest.mark.parametrize(
    "make", [ours, theirs(on_sqlite, "database is locked"), theirs(on_database, "locked")]
)
async def test_160_start_ups_at_once(make: Make, tmp_path: Path) -> None:
    async def start(number: int) -> None:
        async with opened(make, tmp_path) as service:
            session = await service.create_session(
                app_name="app", user_id=f"u{number % 7}", state={"user:last": number}
            )
            await service.append_event(session, says("one", n=number))

    outcomes = await asyncio.gather(*map(start, range(160)), return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome is not None] == []
    async with opened(make, tmp_path) as service:
        found = (await service.list_sessions(app_name="app")).sessions
        assert sorted(one.state["n"] for one in found) == list(range(160))
