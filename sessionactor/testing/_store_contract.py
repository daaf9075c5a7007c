"""The contract suites: what every transport, and what every store, has to pass."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sessionactor._batch import Batch
from sessionactor._errors import (
    AmbiguousNameError,
    RegistryClosedError,
    SessionExistsError,
    SessionNotFoundError,
    TurnClosedError,
    TurnOpenError,
)
from sessionactor._records import Row, SessionInfo
from sessionactor._registry import SessionRegistry
from sessionactor._session import Session
from sessionactor.interchange import export_session, import_session
from sessionactor.testing._copies_contract import CopiesContract
from sessionactor.testing._editing_contract import EditingContract
from sessionactor.testing._reading_contract import ReadingContract
from sessionactor.testing._scenario import ids, in_loop, raised, said, says
from sessionactor.testing._turns_contract import TurnsContract
from sessionactor.testing._writing_contract import WritingContract


class SessionContract(
    WritingContract, EditingContract, TurnsContract, ReadingContract, CopiesContract
):
    """What everything that answers as a `Session` does: subclass it for a transport.

    Name the subclass `Test…`, and give `open_session`: each test enters it for one new and
    empty session, in an event loop of its own.

        class TestMyTransport(SessionContract):
            @asynccontextmanager
            async def open_session(self):
                async with memory_registry() as registry, my_server(registry) as address:
                    async with connect(address) as client:
                        yield await client.start()
    """


class StoreContract(SessionContract):
    """What every store does in a registry: subclass it for an `open_store` of your own.

    Name the subclass `Test…`, and give `open_registry`. Each test opens one or more
    registries; those of one test, one after the other, need not find each other's sessions.

        class TestMyStore(StoreContract):
            def open_registry(self, **settings):
                return SessionRegistry(None, open_store=open_my_store, **settings)
    """

    def open_registry(self, **settings: Any) -> AbstractAsyncContextManager[SessionRegistry]:
        """A registry with no sessions that uses the store, and these settings."""
        raise NotImplementedError

    @asynccontextmanager
    async def open_session(self) -> AsyncIterator[Session]:
        async with self.open_registry() as registry:
            yield await registry.start()

    @in_loop
    async def test_stopping_keeps_everything(self) -> None:
        async with self.open_registry() as registry:
            session = await registry.start("s", name="n")
            await session.extend("a", [says(1), says(2)], keys=["1", "2"])
            await session.append("b", says("sum", role="summary"), keep_from=2, turn="t")
            await session.append("a", says(4), key="4", parent="p")
            await session.truncate_from(4)
            await session.save_metadata({"k": "v"})
            await session.set_context(room_id="r")
            await session.set_agent_alias("alias")
            await session.update(2, says("two"))
            await session.set_state("error", "t")
            before = await _everything(session)
            assert await registry.stop("s") is True
            assert registry.whereis("s") is None
            assert await _everything(session) == before
            assert registry.whereis("s") is session
            await registry.stop("s")
            assert await session.append("a", says(4), key="4", parent="p") == 4
            assert await session.append("a", says(5), expected_head=3) == 5
            assert await session.revision() == before[0] + 1

    @in_loop
    async def test_stopping_keeps_an_open_turn(self) -> None:
        async with self.open_registry() as registry:
            session = await registry.start("s")
            async with session.turn("closed", agent_id="a") as closed:
                await closed.append(says("before"))
            async with session.turn("t", agent_id="a") as turn:
                await turn.append(says(1))
                running = await session.info()
                await registry.stop("s")
                assert await session.info() == running
                assert running.state == "running"
                assert await session.interrupted_turn() == []
                error = await raised(session.turn("u", agent_id="a").__aenter__())
                assert isinstance(error, TurnOpenError)
                await registry.stop("s")
                assert await turn.append(says(2)) == 3
                await registry.stop("s")
            await registry.stop("s")
            assert (await session.info()).state == "idle"
            assert isinstance(await raised(turn.append(says("late"))), TurnClosedError)
            assert isinstance(await raised(closed.append(says("late"))), TurnClosedError)
            rows = await session.messages()
            assert [(row.message["content"], row.turn) for row in rows] == [
                ("before", "closed"), (1, "t"), (2, "t"),
            ]  # fmt: skip

    @in_loop
    async def test_stop_tells_what_was_there(self) -> None:
        async with self.open_registry() as registry:
            await registry.start("s")
            assert [await registry.stop("s"), await registry.stop("s")] == [True, False]
            assert isinstance(await raised(registry.stop("other")), SessionNotFoundError)

    @in_loop
    async def test_what_waits_at_stop_is_served(self) -> None:
        async with self.open_registry() as registry:
            session = await registry.start("s")
            calls = [asyncio.ensure_future(session.append("a", says(n))) for n in range(10)]
            await asyncio.sleep(0)
            stopped = registry.stop("s")
            answers = await asyncio.gather(stopped, *calls)
            assert answers == [True, *range(1, 11)]

    @in_loop
    async def test_sessions_do_not_see_each_other(self) -> None:
        async with self.open_registry() as registry:
            one, other = await registry.start("one"), await registry.start("other")
            await one.append("a", says(1), key="k")
            await one.save_metadata({"k": "v"})
            assert await other.append("a", says(2), key="k") == 1
            assert said(await one.messages()) == [1]
            assert said(await other.messages()) == [2]
            assert await other.get_metadata() == {}

    @in_loop
    async def test_more_sessions_than_may_be_open_all_get_on(self) -> None:
        async with self.open_registry(max_active=2) as registry:
            sessions = [await registry.start(f"s{n}") for n in range(5)]

            async def caller(session: Session, agent_id: str) -> None:
                for n in range(6):
                    await session.append(agent_id, says(n), key=f"{agent_id}-{n}")
                    assert said(await session.messages(agent_id=agent_id))[-1] == n

            await asyncio.gather(*(caller(s, a) for s in sessions for a in ("x", "y")))
            assert registry.statistics().active <= 2
            for session in sessions:
                assert ids(await session.messages()) == list(range(1, 13))
                assert said(await session.messages(agent_id="x")) == list(range(6))

    @in_loop
    async def test_a_full_mailbox_makes_callers_wait(self) -> None:
        async with self.open_registry(mailbox_size=1) as registry:
            session = await registry.start("s")
            calls = [session.append("a", says(n)) for n in range(50)]
            assert await asyncio.gather(*calls) == list(range(1, 51))
            assert said(await session.messages()) == list(range(50))

    @in_loop
    async def test_starting_again_returns_the_running_session(self) -> None:
        async with self.open_registry() as registry:
            session = await registry.start("s", name="n")
            assert await registry.start("s") is await registry.start("s", name="n") is session
            error = await raised(registry.start("s", name="other"))
            assert isinstance(error, SessionExistsError)
            assert "'n'" in str(error)
            assert "'other'" in str(error)

    @in_loop
    async def test_a_session_is_created_with_what_it_begins_with(self) -> None:
        def begin(batch: Batch) -> None:
            batch.extend("a", [says(1), says(2)], keys=["1", None], turn="t")
            batch.append("b", says("sum", role="summary"), keep_from=2)
            batch.remove([1])
            batch.save_metadata({"k": "v"})
            batch.set_context(room_id="r")
            batch.set_state("running", "t")

        async with self.open_registry() as registry:
            async with registry.create("created", name="n") as batch:
                begin(batch)
            created, started = registry.session("created"), await registry.start("started")
            async with started.batch() as other:
                begin(other)
            assert batch.results == other.results == [[1, 2], 3, 1, None, None, None]
            whole = await _everything(created)
            for _ in range(2):
                *_, info = there = await _everything(created)
                assert _timeless(there) == _timeless(await _everything(started))
                assert (info.name, info.revision, info.message_count) == ("n", 1, 2)
                assert await created.append("a", says(1), key="1", turn="t") == 1
                assert isinstance(await raised(_created(registry, "created")), SessionExistsError)
                assert await _everything(created) == whole
                await registry.stop("created")
                await registry.stop("started")
            assert await created.append("a", says(4), turn="t") == 4

    @in_loop
    async def test_a_beginning_that_is_refused_creates_nothing(self) -> None:
        async with self.open_registry() as registry:
            assert isinstance(await raised(_created(registry, "s", keep_from=3)), ValueError)
            assert await registry.exists("s") is False
            await _created(registry, "s", keep_from=2)
            assert said(await registry.session("s").messages()) == [1, "sum"]

    @in_loop
    async def test_a_handle_never_creates_a_session(self) -> None:
        async with self.open_registry() as registry:
            session = registry.session("s")
            assert isinstance(await raised(session.append("a", says(1))), SessionNotFoundError)
            assert isinstance(await raised(session.messages()), SessionNotFoundError)
            assert await registry.exists("s") is False
            await registry.start("s")
            assert await session.append("a", says(1)) == 1

    @in_loop
    async def test_deleting_is_final(self) -> None:
        async with self.open_registry() as registry:
            session = await registry.start("s")
            await session.append("a", says("secret"), key="k")
            await session.save_metadata({"k": "v"})
            assert await registry.delete("s") is True
            assert await registry.delete("s") is await registry.exists("s") is False
            assert isinstance(await raised(session.messages()), SessionNotFoundError)
            await registry.start("s")
            assert (await _everything(session))[:4] == (0, [], {}, [[]])
            assert await session.append("a", says("other"), key="k") == 1

    @in_loop
    async def test_sessions_are_found_by_name(self) -> None:
        async with self.open_registry() as registry:
            for session_id, name in (("1", "crazy-mango"), ("2", "crazy-kiwi"), ("3", "calm-kiwi")):
                await registry.start(session_id, name=name)
            found = await registry.find("crazy-*")
            assert [(file.session_id, file.name) for file in found] == [
                ("2", "crazy-kiwi"), ("1", "crazy-mango"),
            ]  # fmt: skip
            assert (await registry.find_by_name("calm-kiwi")).session_id == "3"
            await registry.start("4", name="calm-kiwi")
            assert isinstance(await raised(registry.find_by_name("calm-kiwi")), AmbiguousNameError)

    @in_loop
    async def test_renaming_keeps_everything(self) -> None:
        async with self.open_registry() as registry:
            session = await registry.start("s", name="old")
            await session.append("a", says(1), key="k")
            revision, *everything, _ = await _everything(session)
            await session.rename("new")
            assert session.name == "new"
            after = await _everything(session)
            assert after[:4] == (revision + 1, *everything)
            assert after[4].name == "new"
            await session.rename("new")  # as it is
            assert await session.revision() == revision + 1
            assert await registry.find("old") == []
            assert (await registry.find_by_name("new")).session_id == "s"

    @in_loop
    async def test_a_session_is_exported_and_imported_whole(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            file = Path(place, "s.jsonl")
            async with self.open_registry() as registry:
                session = await registry.start("s", name="n")
                for n in range(1, 7):
                    await session.append("a", says(n), key=f"k{n}")
                await session.update(2, says("edited"))
                await session.remove([3])
                await session.truncate_from(6)
                async with session.turn("t", agent_id="b") as turn:
                    await turn.append(says(b"\0"), parent=1)
                await session.save_metadata({"k": "v"})
                before = await _everything(session)
                assert (await export_session(registry, "s", file)).status == "exported"
                assert await registry.delete("s") is True
            async with self.open_registry() as registry:
                assert (await import_session(registry, file)).status == "imported"
                session = registry.session("s")
                assert await session.append("a", says(3), key="k3") == 3
                after = await _everything(session)
                assert after[:-1] == before[:-1]
                assert after[-1]._replace(path=None) == before[-1]._replace(path=None)
                assert (await export_session(registry, "s", file)).status == "unchanged"
                assert (await import_session(registry, file)).status == "unchanged"

    @in_loop
    async def test_leaving_serves_what_was_accepted(self) -> None:
        async with self.open_registry() as registry:
            session = await registry.start("s")
            calls = [asyncio.ensure_future(session.append("a", says(n))) for n in range(10)]
            await asyncio.sleep(0)
        assert await asyncio.gather(*calls) == list(range(1, 11))
        assert isinstance(await raised(session.messages()), RegistryClosedError)
        assert isinstance(await raised(registry.start("s")), RegistryClosedError)


_Everything = tuple[int, list[Row], dict[str, str | None], list[list[int]], SessionInfo]


async def _everything(session: Session) -> _Everything:
    return (
        await session.revision(),
        await session.messages(),
        await session.get_metadata(),
        [ids(page.rows) async for page in session.chapters()],
        await session.info(),
    )


def _timeless(everything: _Everything) -> tuple[object, ...]:
    revision, rows, metadata, chapters, info = everything
    untimed = [row._replace(inserted_at=datetime.min) for row in rows]
    return revision, untimed, metadata, chapters, info.room_id, info.state, info.turn_id


async def _created(registry: SessionRegistry, session_id: str, keep_from: int = 1) -> None:
    async with registry.create(session_id) as batch:
        batch.append("a", says(1))
        batch.append("a", says("sum"), checkpoint=True, keep_from=keep_from)


__all__ = ["SessionContract", "StoreContract"]
