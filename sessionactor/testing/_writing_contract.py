"""What every session does with writes."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from sessionactor._errors import (
    IdempotencyError,
    MessageEncodingError,
    SessionError,
    StaleHeadError,
    StaleRevisionError,
)
from sessionactor._session import Session
from sessionactor.testing._scenario import Scenarios, ids, in_session, raised, said, says


class WritingContract(Scenarios):
    """Ids, keys, conditions, batches, removals, metadata, callers at once."""

    @in_session
    async def test_ids_count_from_one_without_gaps(self, session: Session) -> None:
        assert await session.append("a", says("one")) == 1
        assert await session.extend("b", [says("two"), says("three")]) == [2, 3]
        assert await session.append("a", says("four")) == 4
        assert ids(await session.messages()) == [1, 2, 3, 4]

    @in_session
    async def test_an_empty_extend_stores_nothing(self, session: Session) -> None:
        assert await session.extend("a", []) == []
        assert await session.messages() == []
        assert await session.append("a", says("one")) == 1

    @in_session
    async def test_a_message_is_copied_at_the_call(self, session: Session) -> None:
        message: dict[str, Any] = says(["as it was"])
        pending = asyncio.ensure_future(session.append("a", message))
        await asyncio.sleep(0)  # the call runs for the first time here
        message["content"].append("changed")
        await pending
        assert said(await session.messages()) == [["as it was"]]

    @in_session
    async def test_a_message_that_cannot_be_stored_names_its_path(self, session: Session) -> None:
        error = await raised(session.append("a", says([0, {"image": object()}])))
        assert isinstance(error, MessageEncodingError)
        assert error.path == "content[1].image"
        assert await session.append("a", says("next")) == 1

    @in_session
    async def test_arguments_that_cannot_be_stored_are_refused(self, session: Session) -> None:
        for bad in ("nul\0", "cut \ud800"):
            assert isinstance(await raised(session.append(bad, says(1))), ValueError)
            assert isinstance(await raised(session.append("a", says(1), key=bad)), ValueError)
            assert isinstance(await raised(session.append("a", says(1), turn=bad)), ValueError)
            assert isinstance(await raised(session.save_metadata({"k": bad})), ValueError)
        not_text: Any = 7
        assert isinstance(await raised(session.append(not_text, says(1))), TypeError)
        not_a_message: Any = "hello"
        assert isinstance(await raised(session.append("a", not_a_message)), TypeError)
        assert await session.revision() == 0

    @in_session
    async def test_a_key_stores_once(self, session: Session) -> None:
        assert await session.append("a", says("hello"), key="k") == 1
        revision = await session.revision()
        assert await session.append("a", says("hello"), key="k") == 1
        assert await session.append("a", dict(reversed(says("hello").items())), key="k") == 1
        assert await session.revision() == revision
        assert said(await session.messages()) == ["hello"]

    @in_session
    async def test_a_key_of_another_message_is_refused(self, session: Session) -> None:
        await session.append("a", says("hello"), key="k")
        for agent_id, message in (("a", says("other")), ("b", says("hello"))):
            error = await raised(session.append(agent_id, message, key="k"))
            assert isinstance(error, IdempotencyError)
            assert (error.key, error.db_id, error.session_id) == ("k", 1, session.session_id)
        assert await session.append("a", says("next")) == 2

    @in_session
    async def test_a_key_outlives_its_row(self, session: Session) -> None:
        await session.append("a", says("hello"), key="k")
        assert await session.truncate_from(1) == 1
        assert await session.append("a", says("hello"), key="k") == 1
        assert await session.messages() == []
        assert await session.get(key="k") is None

    @in_session
    async def test_a_key_hit_comes_before_any_condition(self, session: Session) -> None:
        await session.append("a", says("hello"), key="k", expected_head=0)
        await session.append("a", says("more"))
        assert await session.append("a", says("hello"), key="k", expected_head=0) == 1

    @in_session
    async def test_extend_stores_only_what_its_keys_do_not_know(self, session: Session) -> None:
        await session.append("a", says("two"), key="2")
        messages = [says("one"), says("two"), says("three"), says("one")]
        keys = ["1", "2", None, "1"]
        assert await session.extend("a", messages, keys=keys) == [2, 1, 3, 2]
        assert said(await session.messages()) == ["two", "one", "three"]

    @in_session
    async def test_extend_is_all_or_none(self, session: Session) -> None:
        await session.append("a", says("two"), key="2")
        conflict = session.extend("a", [says("one"), says("other")], keys=["1", "2"])
        assert isinstance(await raised(conflict), IdempotencyError)
        unencodable = session.extend("a", [says("one"), says(object())])
        assert isinstance(await raised(unencodable), MessageEncodingError)
        assert said(await session.messages()) == ["two"]
        assert await session.get(key="1") is None
        assert await session.append("a", says("next")) == 2

    @in_session
    async def test_an_expected_head_that_moved_is_refused(self, session: Session) -> None:
        assert await session.append("a", says("one"), expected_head=0) == 1
        error = await raised(session.append("a", says("two"), expected_head=0))
        assert isinstance(error, StaleHeadError)
        assert (error.expected, error.actual, error.session_id) == (0, 1, session.session_id)
        assert await session.extend("a", [says("two")], expected_head=1) == [2]
        await session.truncate_from(2)
        assert await session.append("a", says("again"), expected_head=1) == 3

    @in_session
    async def test_of_two_who_expect_the_same_head_one_wins(self, session: Session) -> None:
        calls = [session.append("a", says(n), expected_head=0) for n in range(10)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers[0] == 1
        assert all(isinstance(answer, StaleHeadError) for answer in answers[1:])
        assert said(await session.messages()) == [0]

    @in_session
    async def test_a_refusal_takes_no_neighbour_with_it(self, session: Session) -> None:
        def call(n: int) -> Any:
            return session.append("a", says(n), expected_head=99 if n % 3 == 1 else None)

        answers = await asyncio.gather(*map(call, range(30)), return_exceptions=True)
        refused = [n for n, answer in enumerate(answers) if isinstance(answer, SessionError)]
        assert refused == [n for n in range(30) if n % 3 == 1]
        assert [answer for answer in answers if isinstance(answer, int)] == list(range(1, 21))
        assert said(await session.messages()) == [n for n in range(30) if n % 3 != 1]

    @in_session
    async def test_the_revision_counts_committed_mutations(self, session: Session) -> None:
        assert await session.revision() == 0
        await session.append("a", says("one"))
        await session.extend("a", [says("two"), says("three")])
        assert [row.revision for row in await session.messages()] == [1, 2, 2]
        await session.save_metadata({"k": "v"})
        await session.truncate_from(3)
        assert await session.revision() == 4
        await raised(session.append("a", says("late"), expected_head=99))
        assert await session.revision() == 4

    @in_session
    async def test_a_batch_is_one_mutation(self, session: Session) -> None:
        await session.append("a", says("one"))
        async with session.batch(expected_head=1, expected_revision=1) as batch:
            batch.truncate_from(1)
            batch.append("a", says("ONE"), key="k", turn="t", parent="p")
            batch.extend("b", [says("two"), says("three")], keys=["2", "3"])
            batch.save_metadata({"state": "edited"})
        assert batch.results == [1, 2, [3, 4], None]
        assert await session.revision() == 2
        assert said(await session.messages()) == ["ONE", "two", "three"]
        assert await session.get_metadata() == {"state": "edited"}

    @in_session
    async def test_a_refused_batch_leaves_no_trace(self, session: Session) -> None:
        await session.append("a", says("one"), key="1")

        async def batch(**expected: int) -> None:
            async with session.batch(**expected) as batch:
                batch.save_metadata({"k": "v"})
                batch.truncate_from(1)
                batch.append("a", says("two"))
                if not expected:
                    batch.append("a", says("other"), key="1")

        assert isinstance(await raised(batch(expected_head=7)), StaleHeadError)
        stale = await raised(batch(expected_revision=0))
        assert isinstance(stale, StaleRevisionError)
        assert (stale.expected, stale.actual) == (0, 1)
        assert isinstance(await raised(batch()), IdempotencyError)
        assert said(await session.messages()) == ["one"]
        assert await session.get_metadata() == {}
        assert await session.revision() == 1

    @in_session
    async def test_a_batch_whose_block_raises_is_not_sent(self, session: Session) -> None:
        async def leave() -> None:
            async with session.batch() as batch:
                batch.append("a", says("one"))
                raise LookupError("changed my mind")

        assert type(await raised(leave())) is LookupError
        assert await session.messages() == []

    @in_session
    async def test_truncating_removes_all_later_rows_and_no_id_returns(
        self, session: Session
    ) -> None:
        for n in range(1, 7):
            await session.append("ab"[n % 2], says(n))
        assert await session.truncate_from(4) == 3
        assert await session.truncate_from(4) == 0
        assert said(await session.messages()) == [1, 2, 3]
        assert await session.append("a", says("seven")) == 7
        assert await session.truncate_from(-5) == 4
        assert await session.messages() == []
        assert await session.append("a", says("eight"), expected_head=0) == 8

    @in_session
    async def test_metadata_merges_as_strings(self, session: Session) -> None:
        assert await session.get_metadata() == {}
        await session.save_metadata({"s": "text", "n": 1.5, "i": 7, "b": True, "none": None})
        await session.save_metadata({"s": "über", "b": False})
        assert await session.get_metadata() == {
            "s": "über", "n": "1.5", "i": "7", "b": "false", "none": None,
        }  # fmt: skip

    @in_session
    async def test_metadata_is_saved_all_or_none(self, session: Session) -> None:
        assert isinstance(await raised(session.save_metadata({"a": "1", "b": []})), TypeError)
        bad_key: Any = {"a": "1", 2: "2"}
        assert isinstance(await raised(session.save_metadata(bad_key)), TypeError)
        assert await session.get_metadata() == {}

    @in_session
    async def test_many_callers_keep_their_own_order(self, session: Session) -> None:
        async def caller(name: str) -> list[int]:
            mine = []
            for n in range(8):
                mine.append(await session.append(name, says(n)))
                seen = await session.messages(agent_id=name)
                assert ids(seen) == mine  # a read sees every write answered before it
            return mine

        given = await asyncio.gather(*(caller(f"agent-{n}") for n in range(12)))
        assert sorted(one for mine in given for one in mine) == list(range(1, 97))
        rows = await session.messages()
        assert ids(rows) == list(range(1, 97))
        assert all(a.inserted_at <= b.inserted_at for a, b in pairwise(rows))
        for n, mine in enumerate(given):
            assert [row.db_id for row in rows if row.agent_id == f"agent-{n}"] == mine

    @in_session
    async def test_requests_of_one_caller_are_served_in_order(self, session: Session) -> None:
        calls = [asyncio.ensure_future(session.append("a", says(n))) for n in range(20)]
        read = asyncio.ensure_future(session.messages())
        late = asyncio.ensure_future(session.append("a", says("late")))
        assert await asyncio.gather(*calls) == list(range(1, 21))
        assert said(await read) == list(range(20))
        assert await late == 21

    @in_session
    async def test_a_cancelled_append_can_be_repeated_by_its_key(self, session: Session) -> None:
        for turns in range(6):
            call = asyncio.ensure_future(session.append("a", says(turns), key=f"k{turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            db_id = await session.append("a", says(turns), key=f"k{turns}")
            assert db_id == turns + 1
        assert said(await session.messages()) == list(range(6))


__all__ = ["WritingContract"]
