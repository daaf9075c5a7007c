"""What every session does when rows are changed or removed, and with what is known of it."""

from __future__ import annotations

import asyncio
from typing import Any

from sessionactor._errors import (
    IdempotencyError,
    MessageEncodingError,
    MessageTooLargeError,
    TurnClosedError,
)
from sessionactor._session import Session
from sessionactor.testing._scenario import Scenarios, ids, in_session, raised, said, says


class EditingContract(Scenarios):
    """Updates, removals, the head, context, and batches of all of these."""

    @in_session
    async def test_an_update_replaces_the_message_and_nothing_else(self, session: Session) -> None:
        await session.append("a", says(1))
        await session.append(
            "b", says("sum", role="summary"), key="k", keep_from=1, parent="p", turn="t"
        )
        before = await session.get(2)
        assert before is not None
        assert before.updated_at is None
        assert await session.update(2, says("better")) is True
        after = await session.get(2)
        assert after is not None
        assert after.updated_at is not None
        assert after.updated_at >= after.inserted_at
        assert after.revision == await session.revision() == 3
        assert after == before._replace(
            message=says("better"), revision=3, updated_at=after.updated_at
        )
        assert after.checkpoint  # though it no longer says that it is a summary
        assert await session.messages(agent_id="b") == [after] == [await session.get(key="k")]

    @in_session
    async def test_what_is_not_there_is_not_updated(self, session: Session) -> None:
        assert await session.update(1, says("no")) is False
        assert await session.update_last(says("no")) is False
        await session.extend("a", [says(1), says(2)])
        await session.truncate_from(2)
        for db_id in (2, 3, 0, -1, 2**70, -(2**70)):
            assert await session.update(db_id, says("no")) is False
        assert await session.update_last(says("no"), agent_id="b") is False
        assert await session.revision() == 2
        assert said(await session.messages()) == [1]

    @in_session
    async def test_a_reply_grows_in_its_row(self, session: Session) -> None:
        await session.append("user", says("hello"))
        reply = await session.append("a", says(""))
        await session.append("b", says("in between"))
        for text in ("I", "I am", "I am well"):
            assert await session.update_last(says(text), agent_id="a") is True
            head = await session.head(agent_id="a")
            assert head is not None
            assert (head.db_id, head.message) == (reply, says(text))
        assert await session.update_last(says("the newest")) is True
        assert said(await session.messages()) == ["hello", "I am well", "the newest"]
        assert await session.revision() == 7

    @in_session
    async def test_an_update_that_cannot_be_stored_leaves_the_old_message(
        self, session: Session
    ) -> None:
        await session.append("a", says("old"))
        for update in (session.update(1, says(object())), session.update_last(says(object()))):
            assert isinstance(await raised(update), MessageEncodingError)
        assert isinstance(
            await raised(session.update(1, says("x" * 9 * 1024 * 1024))), MessageTooLargeError
        )
        not_an_id: Any = "1"
        assert isinstance(await raised(session.update(not_an_id, says(1))), TypeError)
        row = await session.get(1)
        assert row is not None
        assert (row.message, row.updated_at, row.revision) == (says("old"), None, 1)

    @in_session
    async def test_rows_are_removed_one_by_one(self, session: Session) -> None:
        await session.extend("a", [says(n) for n in range(1, 9)])
        assert await session.remove([2, 3, 7, 3, 99, 0, -5, 2**70]) == 3
        assert ids(await session.messages()) == [1, 4, 5, 6, 8]
        assert await session.remove([2, 3, 7]) == await session.remove([]) == 0
        assert await session.revision() == 2
        assert await session.remove(iter([8, 6])) == 2
        head = await session.head()
        assert head is not None
        assert head.db_id == 5
        assert await session.append("a", says("next"), expected_head=5) == 9
        for bad in ("12", 7, [None], {1: 2}):
            not_ids: Any = bad
            assert isinstance(await raised(session.remove(not_ids)), TypeError)

    @in_session
    async def test_the_newest_row_is_removed(self, session: Session) -> None:
        assert await session.remove_last() is False
        for agent_id in "abab":
            await session.append(agent_id, says(agent_id))
        assert await session.remove_last(agent_id="a") is True
        assert ids(await session.messages()) == [1, 2, 4]
        assert await session.remove_last() is True
        assert await session.remove_last(agent_id="c") is False
        assert await session.remove_last(agent_id="b") is True
        assert ids(await session.messages()) == [1]
        assert await session.remove_last() is True
        assert await session.remove_last() is False
        assert await session.append("a", says("next"), expected_head=0) == 5

    @in_session
    async def test_clearing_keeps_all_but_the_rows(self, session: Session) -> None:
        assert await session.clear() == 0
        await session.extend("a", [says(1), says(2), says(3)], keys=["1", None, None])
        await session.save_metadata({"k": "v"})
        await session.set_context(room_id="r")
        name = (await session.info()).name
        assert await session.clear() == 3
        assert await session.clear() == 0
        assert await session.messages() == []
        assert await session.head() is None
        info = await session.info()
        assert (info.name, info.room_id, info.message_count) == (name, "r", 0)
        assert (info.revision, await session.get_metadata()) == (4, {"k": "v"})
        assert await session.append("a", says(1), key="1") == 1
        assert await session.append("a", says(1)) == 4

    @in_session
    async def test_a_key_outlives_whatever_happens_to_its_row(self, session: Session) -> None:
        keys = ["updated", "removed", "truncated", "cleared"]
        await session.extend("a", [says(key) for key in keys], keys=keys)
        await session.update(1, says("other"))
        await session.remove([2])
        await session.truncate_from(3)
        await session.clear()
        assert await session.extend("a", [says(key) for key in keys], keys=keys) == [1, 2, 3, 4]
        assert await session.messages() == []
        error = await raised(session.append("a", says("other"), key="updated"))
        assert isinstance(error, IdempotencyError)

    @in_session
    async def test_the_head_is_the_newest_row(self, session: Session) -> None:
        assert await session.head() is None
        await session.append("a", says(1))
        await session.append("b", says(2))
        rows = await session.messages()
        assert await session.head() == await session.head(agent_id="b") == rows[1]
        assert await session.head(agent_id="a") == rows[0]
        assert await session.head(agent_id="c") is None

    @in_session
    async def test_a_session_tells_what_it_is(self, session: Session) -> None:
        before = await session.info()
        assert (before.session_id, before.name) == (session.session_id, session.name)
        assert (before.path, before.revision, before.message_count) == (session.path, 0, 0)
        assert (before.state, before.turn_id, before.turn_started_at) == ("idle", None, None)
        assert before.last_activity == before.created_at
        await session.extend("a", [says(n) for n in range(5)])
        head = await session.head()
        assert head is not None
        assert (await session.info()).last_activity == head.inserted_at
        await session.remove([2, 4])
        await session.update(3, says("three"))
        info = await session.info()
        updated = await session.get(3)
        assert updated is not None
        assert info.last_activity == updated.updated_at
        assert (info.message_count, info.revision, info.active) == (3, 3, True)
        assert (info.created_at, info.parent) == (before.created_at, None)

    @in_session
    async def test_context_is_additive(self, session: Session) -> None:
        async def context() -> tuple[str | None, ...]:
            info = await session.info()
            return (info.agent_alias, info.channel_id, info.room_id, info.sender_id)

        assert await context() == (None, None, None, None)
        await session.set_context(channel_id="c", room_id="r")
        await session.set_agent_alias("über")
        assert await context() == ("über", "c", "r", None)
        await session.set_context(sender_id="s", room_id="")
        assert await context() == ("über", "c", "", "s")
        await session.set_context(channel_id=None)
        await session.set_agent_alias(None)
        assert await context() == (None, None, "", "s")
        assert await session.revision() == 5
        await session.set_context()
        assert await session.revision() == 5
        for bad in ("nul\0", "cut \ud800"):
            assert isinstance(await raised(session.set_context(room_id=bad)), ValueError)
        number: Any = 7
        assert isinstance(await raised(session.set_agent_alias(number)), TypeError)

    @in_session
    async def test_a_batch_sees_what_it_did_so_far(self, session: Session) -> None:
        await session.extend("a", [says(1), says(2), says(3)])
        async with session.batch() as batch:
            batch.append("b", says(4))
            batch.update_last(says("four"))
            batch.update(2, says("two"))
            batch.remove([2, 4])
            batch.update(2, says("gone"))
            batch.update(4, says("gone"))
            batch.append("b", says(5))
            batch.remove_last(agent_id="a")
            batch.update_last(says("one"), agent_id="a")
            batch.set_context(room_id="r")
            batch.set_agent_alias("alias")
            batch.extend("c", [says(6), says(7)])
            batch.truncate_from(7)
            batch.remove([7])
            batch.remove_last(agent_id="nobody")
        assert batch.results == [
            4, True, True, 2, False, False, 5, True, True, None, None, [6, 7], 1, 0, False,
        ]  # fmt: skip
        rows = await session.messages()
        assert [(row.db_id, row.message["content"]) for row in rows] == [
            (1, "one"), (5, 5), (6, 6),
        ]  # fmt: skip
        assert {row.revision for row in rows} == {2}
        info = await session.info()
        assert (info.message_count, info.revision) == (3, 2)
        assert (info.room_id, info.agent_alias) == ("r", "alias")
        assert await session.append("a", says("next"), expected_head=6) == 8
        async with session.batch() as batch:
            batch.truncate_from(6)
            batch.extend("a", [says(9), says(10)])
            batch.remove([10])
            batch.update(8, says("gone"))
            batch.remove([5, 8, 10])
            batch.clear()
            batch.append("a", says(11))
            batch.clear()
            batch.clear()
            batch.update_last(says("nothing"))
            batch.remove_last()
        assert batch.results == [2, [9, 10], 1, False, 1, 2, 11, 1, 0, False, False]
        assert (await session.info()).message_count == 0

    @in_session
    async def test_a_batch_refused_at_its_end_leaves_no_trace(self, session: Session) -> None:
        async with session.turn("closed", agent_id="a") as closed:
            await closed.extend([says(1), says(2)])
        async with session.turn("open", agent_id="a") as turn:
            await turn.append(says(3))
            before = await session.info()

            async def change() -> None:
                async with session.batch() as batch:
                    batch.append("a", says("new"), key="new")
                    batch.update(3, says("three"))
                    batch.save_metadata({"k": "v"})
                    batch.set_context(room_id="r")
                    batch.set_state("running", "x")
                    batch.finish_turn("x")
                    batch.remove([1])
                    batch.truncate_from(3)
                    batch.append("a", says("late"), turn="closed")

            refusal, *answers = await asyncio.gather(
                change(),
                session.append("b", says("after")),
                session.remove([1]),
                session.update(3, says("III")),
                session.append("c", says("new"), key="new"),
                session.append("c", says("fine"), turn="x"),
                turn.append(says("goes on")),
                return_exceptions=True,
            )
            assert isinstance(refusal, TurnClosedError)
            assert answers == [4, 1, True, 5, 6, 7]
            rows = await session.messages()
            assert said(rows) == [2, "III", "after", "new", "fine", "goes on"]
            after = await session.info()
            assert (after.state, after.turn_id, after.room_id) == ("running", "open", None)
            assert (after.message_count, after.revision) == (6, before.revision + 6)
            assert await session.get_metadata() == {}
        assert (await session.info()).state == "idle"

    @in_session
    async def test_the_latest_chapter_follows_updates_and_removals(self, session: Session) -> None:
        async def chapter(agent_id: str | None = None) -> tuple[list[int], list[Any], int | None]:
            page = await session.messages_from_latest_checkpoint(agent_id=agent_id)
            assert page == await session.messages_from_latest_checkpoint(agent_id=agent_id)
            return ids(page.rows), said(page.rows), page.checkpoint_id

        await session.append("a", says("first"))
        await session.append("a", says("sum", role="summary"))
        await session.extend("b", [says(3), says(4)])
        await session.append("a", says(5))
        assert await chapter() == ([2, 3, 4, 5], ["sum", 3, 4, 5], 2)
        await session.update(2, says("summary"))
        await session.update(1, says("before"))
        await session.update_last(says("four"), agent_id="b")
        assert await chapter() == ([2, 3, 4, 5], ["summary", 3, "four", 5], 2)
        assert await chapter("a") == ([2, 5], ["summary", 5], 2)
        await session.remove([4])
        assert await chapter() == ([2, 3, 5], ["summary", 3, 5], 2)
        await session.update(5, says("x" * 300_000))
        assert (await chapter("a"))[0] == [2, 5]
        await session.remove([2])
        assert (await chapter())[::2] == ([1, 3, 5], None)
        assert await chapter("b") == ([3], [3], None)
        await session.clear()
        assert await chapter() == ([], [], None)


__all__ = ["EditingContract"]
