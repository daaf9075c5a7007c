from __future__ import annotations

import asyncio
import errno
import threading

import pytest

from sessionactor import SessionCrashedError, SessionNotFoundError, SessionRegistry, StorageError
from sessionactor._requests import Update
from sessionactor.testing import (
    Faults,
    MemoryVault,
    SessionContract,
    StoreContract,
    faulty_store,
    memory_registry,
)


class OnDisk(StoreContract):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path):
        self.directory = tmp_path

    def open_registry(self, **settings):
        return SessionRegistry(self.directory, **settings)


class TestSqliteOnDisk(OnDisk):
    pass


class TestSqliteAtNormalDurability(OnDisk):
    def open_registry(self, **settings):
        return super().open_registry(durability="normal", **settings)


class TestSqliteInMemory(StoreContract):
    def open_registry(self, **settings):
        return SessionRegistry(None, **settings)


class TestMemoryStore(StoreContract):
    def open_registry(self, **settings):
        return memory_registry(**settings)


class TestFaultyStoreWithoutFaults(OnDisk):
    def open_registry(self, **settings):
        return super().open_registry(open_store=faulty_store(Faults()), **settings)


class TestFaultyMemoryStore(StoreContract):
    def open_registry(self, **settings):
        store = faulty_store(Faults(), MemoryVault().open_store)
        return memory_registry(open_store=store, **settings)


class Broken:
    """A store that does one thing wrong, around one of memory."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)


class ForgetsWhenClosed(Broken):
    forgets = ()

    async def close(self):
        for what in self.forgets:
            self._store._connection.execute(what)
        await self._store.close()


class ForgetsKeysWhenClosed(ForgetsWhenClosed):
    forgets = ("DELETE FROM keys",)


class ForgetsIdsWhenClosed(ForgetsWhenClosed):
    forgets = ("UPDATE session SET high_water = 0, removed = 0",)


class ForgetsStatesWhenClosed(ForgetsWhenClosed):
    forgets = ("UPDATE session SET state = 'idle'",)


class ForgetsTurnsWhenClosed(ForgetsWhenClosed):
    forgets = ("DELETE FROM turns",)


class ForgetsContextWhenClosed(ForgetsWhenClosed):
    forgets = ("UPDATE session SET agent_alias = NULL, room_id = NULL",)


class DropsTheEndOfLargeGroups(Broken):
    async def commit(self, group):
        decision = await self._store.commit(group)
        if len(group) > 5:
            newest = "DELETE FROM messages WHERE id = (SELECT max(id) FROM messages)"
            self._store._connection.execute(newest)
        return decision


class KeepsTheOldMessage(Broken):
    async def commit(self, group):
        kept = [
            write._replace(
                operations=tuple(one for one in write.operations if not isinstance(one, Update))
            )
            for write in group
        ]
        decision = await self._store.commit(kept)
        answers = [
            answer if len(write.operations) == len(less.operations) else (1,) * 20
            for write, less, answer in zip(group, kept, decision.answers, strict=True)
        ]
        return decision._replace(answers=answers)


class ReadsBackwards(Broken):
    async def read(self, request, max_rows):
        answer = await self._store.read(request, max_rows)
        if hasattr(answer, "rows"):
            answer.rows.reverse()
        return answer


class SharesItsMessages(Broken):
    def __init__(self, store):
        super().__init__(store)
        self._seen = {}

    async def read(self, request, max_rows):
        answer = await self._store.read(request, max_rows)
        if hasattr(answer, "rows"):
            shared = [self._seen.setdefault(row.db_id, row) for row in answer.rows]
            answer = answer._replace(rows=shared)
        return answer


class RefusesTheWholeGroup(Broken):
    async def commit(self, group):
        decision = await self._store.commit(group)
        refusals = [answer for answer in decision.answers if isinstance(answer, Exception)]
        if not refusals:
            return decision
        return decision._replace(answers=[refusals[0]] * len(group))


@pytest.mark.parametrize(
    ("broken", "noticed_by"),
    [
        (ForgetsKeysWhenClosed, "test_stopping_keeps_everything"),
        (ForgetsIdsWhenClosed, "test_stopping_keeps_everything"),
        (ForgetsStatesWhenClosed, "test_stopping_keeps_an_open_turn"),
        (ForgetsTurnsWhenClosed, "test_stopping_keeps_an_open_turn"),
        (ForgetsContextWhenClosed, "test_stopping_keeps_everything"),
        (DropsTheEndOfLargeGroups, "test_many_callers_keep_their_own_order"),
        (KeepsTheOldMessage, "test_an_update_replaces_the_message_and_nothing_else"),
        (ReadsBackwards, "test_ids_count_from_one_without_gaps"),
        (SharesItsMessages, "test_changing_what_a_read_returned_changes_nothing"),
        (RefusesTheWholeGroup, "test_a_refusal_takes_no_neighbour_with_it"),
    ],
)
def test_the_contract_fails_a_store_that(broken, noticed_by):
    class Suite(StoreContract):
        def open_registry(self, **settings):
            vault = MemoryVault()

            async def open_broken(opening):
                return broken(await vault.open_store(opening))

            return memory_registry(open_store=open_broken, **settings)

    failed = failures(Suite())
    assert noticed_by in failed
    assert len(failed) < 60  # the rest of what it does is right


def test_the_contract_of_a_session_needs_nothing_but_sessions():
    class Suite(SessionContract):
        def open_session(self):
            return StoreContract.open_session(self)

        def open_registry(self):
            return memory_registry()

    assert failures(Suite()) == []


def failures(suite):
    failed = []
    for name in sorted(name for name in dir(suite) if name.startswith("test_")):
        try:
            getattr(suite, name)()
        except Exception:
            failed.append(name)
    return failed


async def test_a_memory_registry_starts_no_thread_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = threading.enumerate()
    async with memory_registry(max_active=1) as registry:
        for n in range(3):
            session = await registry.start(f"s{n}")
            await session.append("a", {"n": n})
            assert threading.enumerate() == threads
    assert list(tmp_path.iterdir()) == []


async def test_a_vault_tells_the_time_and_waits_as_it_is_told():
    waits, now = [], 1_000_000

    async def hop():
        waits.append(None)
        await asyncio.sleep(0)

    vault = MemoryVault(hop=hop, clock=lambda: now)
    async with memory_registry(open_store=vault.open_store) as registry:
        session = await registry.start("s")
        waits.clear()
        await session.append("a", {"n": 1})
        assert len(waits) == 2
        now = 500_000
        await session.append("a", {"n": 2})
        rows = await session.messages()
    assert [row.inserted_at.timestamp() for row in rows] == [1.0, 1.0]


async def test_a_vault_has_only_sessions_that_were_created_in_it():
    vault, other = MemoryVault(), MemoryVault()

    async def open_somewhere(opening):
        return await (vault if opening.create else other).open_store(opening)

    async with memory_registry(open_store=open_somewhere) as registry:
        session = await registry.start("s")
        await registry.stop("s")
        with pytest.raises(SessionNotFoundError):
            await session.messages()


async def test_a_fault_happens_as_often_as_planned_and_in_the_order_planned():
    faults = Faults()
    async with faulty_memory(faults) as registry:
        session = await registry.start("s")
        faults.fail("commit", OSError(errno.ENOSPC, "disk full"), times=2)
        faults.fail("commit", StorageError("the second fault", session_id="s"))
        assert faults.pending() == 2
        for expected in ("disk full", "disk full", "the second fault"):
            with pytest.raises(StorageError, match=expected):
                await session.append("a", {"n": 1})
        assert faults.pending() == 0
        assert await session.append("a", {"n": 1}) == 1


async def test_a_fault_without_end_ends_when_it_is_cleared():
    faults = Faults()
    async with faulty_memory(faults) as registry:
        session = await registry.start("s")
        faults.crash("read", times=None)
        for _ in range(3):
            with pytest.raises(SessionCrashedError, match="planned crash at read"):
                await session.messages()
        faults.clear()
        assert await session.messages() == []


async def test_a_fault_of_one_session_happens_to_no_other():
    faults = Faults()
    async with faulty_memory(faults) as registry:
        one, other = await registry.start("one"), await registry.start("other")
        faults.fail("commit", OSError("for one"), session_id="one")
        assert await other.append("a", {"n": 1}) == 1
        with pytest.raises(StorageError, match="for one"):
            await one.append("a", {"n": 1})


async def test_a_fault_after_a_commit_loses_only_the_answer():
    faults = Faults()
    async with faulty_memory(faults) as registry:
        session = await registry.start("s")
        faults.fail("commit", OSError("answer lost"), when="after")
        with pytest.raises(StorageError):
            await session.append("a", {"n": 1}, key="k")
        assert [row.db_id for row in await session.messages()] == [1]
        assert await session.append("a", {"n": 1}, key="k") == 1


async def test_a_stall_tells_that_it_is_reached_and_waits_for_its_release():
    faults = Faults()
    async with faulty_memory(faults) as registry:
        session = await registry.start("s")
        stall = faults.stall("commit")
        append = asyncio.ensure_future(session.append("a", {"n": 1}))
        await stall.reached.wait()
        assert not append.done()
        stall.release()
        assert await append == 1


@pytest.mark.parametrize("wrong", [("comit", "before"), ("commit", "during")])
def test_a_fault_that_could_never_happen_is_refused(wrong):
    step, when = wrong
    with pytest.raises(ValueError, match="is one of"):
        Faults().fail(step, OSError(), when=when)


def faulty_memory(faults):
    return memory_registry(open_store=faulty_store(faults, MemoryVault().open_store))
