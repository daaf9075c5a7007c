"""What every session does with reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from sessionactor._session import Session
from sessionactor.testing._scenario import Scenarios, ids, in_session, raised, said, says


class ReadingContract(Scenarios):
    """Rows as they were, filters, bounds, chapters."""

    @in_session
    async def test_a_row_holds_what_was_given(self, session: Session) -> None:
        before = datetime.now(UTC) - timedelta(seconds=1)
        await session.append("a", says("plain"))
        await session.append(
            "b", says("full"), key="k", checkpoint=True, keep_from=1, parent="x/1", turn="t"
        )
        plain, full = await session.messages()
        assert plain[:3] == (1, "a", says("plain"))
        assert plain[4:] == (False, None, None, None, None, 1, None)
        assert full[:3] == (2, "b", says("full"))
        assert full[4:] == (True, 1, "k", "x/1", "t", 2, None)
        assert plain.inserted_at.tzinfo is UTC
        assert before < plain.inserted_at <= full.inserted_at

    @in_session
    async def test_values_come_back_as_what_they_were(self, session: Session) -> None:
        message: dict[Any, Any] = {
            "naive": datetime(2024, 2, 29, 12, 30, 1, 999999),
            "aware": datetime(2024, 2, 29, 12, tzinfo=timezone(timedelta(hours=5.5))),
            "bytes": b"\x00\xff",
            "kinds": ((1, 2), [1, 2], {1, 2}, frozenset({1, 2}), {}, (), []),
            "numbers": [2**200, -(2**80), 2**63, -(2**63), 1.5, float("inf"), True, None],
            "text": "héllo \U0001f600 \u202e \0 \ud83d",
            7: "an int", None: "nothing", (1, "a"): "a tuple", b"b": "bytes", True: "a bool",
        }  # fmt: skip
        await session.append("a", message)
        (row,) = await session.messages()
        assert row.message == message
        assert row.message["naive"].tzinfo is None
        assert [type(kind) for kind in row.message["kinds"]] == [
            tuple, list, set, frozenset, dict, tuple, list,
        ]  # fmt: skip
        assert list(map(type, row.message)) == list(map(type, message))

    @in_session
    async def test_changing_what_a_read_returned_changes_nothing(self, session: Session) -> None:
        await session.append("a", says(["as it was"]))
        for _ in range(2):
            for row in (
                *await session.messages(),
                *(await session.messages_from_latest_checkpoint()).rows,
                *([await session.get(1)]),
            ):
                assert row is not None
                assert row.message == says(["as it was"])
                row.message["content"].append("changed")
                row.message["role"] = "changed"
        found = await session.get_metadata()
        found["k"] = "changed"
        assert await session.get_metadata() == {}

    @in_session
    async def test_messages_are_filtered_and_bounded(self, session: Session) -> None:
        for n in range(1, 11):
            await session.append("even" if n % 2 == 0 else "odd", says(n))

        async def read(**how: Any) -> list[int]:
            rows = await session.messages(**how)
            assert [row.db_id async for row in session.stream(**how)] == ids(rows)
            return ids(rows)

        assert await read() == list(range(1, 11))
        assert await read(agent_id="odd") == [1, 3, 5, 7, 9]
        assert await read(agent_id="nobody") == []
        assert await read(after=3, before=7) == [4, 5, 6]
        assert await read(after=7, before=3) == []
        assert await read(after=-1, before=99, limit=3) == [1, 2, 3]
        assert await read(limit=3, newest=True) == [8, 9, 10]
        assert await read(limit=2, newest=True, agent_id="odd", before=8) == [5, 7]
        assert await read(limit=2, agent_id="even", after=2) == [4, 6]
        assert await read(limit=0) == await read(limit=0, newest=True) == []
        assert await read(limit=99, newest=True) == list(range(1, 11))
        assert await read(newest=True) == list(range(1, 11))
        assert isinstance(await raised(session.messages(limit=-1)), ValueError)

    @in_session
    async def test_a_long_history_is_read_whole(self, session: Session) -> None:
        every = list(range(1, 5001))
        assert await session.extend("a", [says(n) for n in every]) == every
        assert said(await session.messages()) == every
        assert [row.db_id async for row in session.stream()] == every
        assert ids(await session.messages(limit=4000, newest=True)) == every[-4000:]
        assert ids(await session.messages(limit=4000, after=500)) == every[500:4500]
        assert ids((await session.messages_from_latest_checkpoint()).rows) == every

    @in_session
    async def test_a_row_is_found_by_id_or_key(self, session: Session) -> None:
        await session.append("a", says("one"))
        await session.append("a", says("two"), key="k")
        rows = await session.messages()
        assert [await session.get(1), await session.get(2)] == rows
        assert await session.get(key="k") == rows[1]
        assert await session.get(3) is await session.get(0) is await session.get(key="?") is None
        assert isinstance(await raised(session.get()), ValueError)
        assert isinstance(await raised(session.get(1, key="k")), ValueError)

    @in_session
    async def test_the_latest_chapter_grows_with_appends(self, session: Session) -> None:
        page = await session.messages_from_latest_checkpoint()
        assert page == ([], None)
        await session.append("a", says("one"))
        page = await session.messages_from_latest_checkpoint()
        assert (said(page.rows), page.checkpoint_id) == (["one"], None)
        await session.append("b", says("sum", role="summary"))
        await session.append("a", says("three"))
        page = await session.messages_from_latest_checkpoint()
        assert (said(page.rows), page.checkpoint_id) == (["sum", "three"], 2)
        await session.truncate_from(2)
        page = await session.messages_from_latest_checkpoint()
        assert (said(page.rows), page.checkpoint_id) == (["one"], None)

    @in_session
    async def test_chapters_lead_back_from_checkpoint_to_checkpoint(self, session: Session) -> None:
        await _converse(session, "uSuSu")
        page = await session.messages_from_latest_checkpoint()
        assert (ids(page.rows), page.checkpoint_id) == ([4, 5], 4)
        page = await session.messages_before_checkpoint(4)
        assert (ids(page.rows), page.checkpoint_id) == ([2, 3], 2)
        page = await session.messages_before_checkpoint(2)
        assert (ids(page.rows), page.checkpoint_id) == ([1], None)
        page = await session.messages_before_checkpoint(1)
        assert (ids(page.rows), page.checkpoint_id) == ([], None)
        pages = [ids(page.rows) async for page in session.chapters()]
        assert pages == [[4, 5], [2, 3], [1]]

    @in_session
    async def test_a_cursor_that_is_no_checkpoint_bounds_by_its_value(
        self, session: Session
    ) -> None:
        await _converse(session, "uSuSu")
        page = await session.messages_before_checkpoint(5)
        assert (ids(page.rows), page.checkpoint_id) == ([4], 4)
        page = await session.messages_before_checkpoint(99)
        assert (ids(page.rows), page.checkpoint_id) == ([4, 5], 4)
        page = await session.messages_before_checkpoint(3)
        assert (ids(page.rows), page.checkpoint_id) == ([2], 2)

    @in_session
    async def test_a_summary_keeps_what_it_does_not_cover(self, session: Session) -> None:
        await _converse(session, "uSuuu")
        await session.append("a", says("sum", role="summary"), keep_from=4)
        await session.append("a", says("next"))
        pages = [(ids(page.rows), page.checkpoint_id) async for page in session.chapters()]
        assert pages == [([6, 4, 5, 7], 6), ([2, 3], 2), ([1], None)]
        await session.append("a", says("all", role="summary"), keep_from=1)
        pages = [(ids(page.rows), page.checkpoint_id) async for page in session.chapters()]
        assert pages == [([8, 1, 2, 3, 4, 5, 6, 7], 8), ([], None)]

    @in_session
    async def test_keep_from_is_for_checkpoints_and_within_bounds(self, session: Session) -> None:
        await _converse(session, "uuu")
        for bad in (0, -1, 5):
            call = session.append("a", says("sum", role="summary"), keep_from=bad)
            assert isinstance(await raised(call), ValueError)
        assert isinstance(await raised(session.append("a", says("u"), keep_from=1)), ValueError)
        assert await session.append("a", says("sum"), checkpoint=True, keep_from=4) == 4
        page = await session.messages_from_latest_checkpoint()
        assert (ids(page.rows), page.checkpoint_id) == ([4], 4)

    @in_session
    async def test_a_summary_is_a_checkpoint_unless_told_otherwise(self, session: Session) -> None:
        await session.append("a", says("s", role="summary"))
        await session.append("a", says("s", role="summary"), checkpoint=False)
        await session.append("a", says("u"), checkpoint=True)
        await session.append("a", {"role": ["summary"]})
        assert [row.checkpoint for row in await session.messages()] == [True, False, True, False]

    @in_session
    async def test_an_agent_sees_its_own_chapters(self, session: Session) -> None:
        for agent_id, kind in zip("abababab", "uuSuuSuu", strict=True):
            await _converse(session, kind, agent_id)
        mine = [ids(page.rows) async for page in session.chapters(agent_id="a")]
        assert mine == [[3, 5, 7], [1]]
        theirs = [ids(page.rows) async for page in session.chapters(agent_id="b")]
        assert theirs == [[6, 8], [2, 4]]
        page = await session.messages_before_checkpoint(6, agent_id="a")
        assert (ids(page.rows), page.checkpoint_id) == ([3, 5], 3)
        assert [ids(p.rows) async for p in session.chapters(agent_id="c")] == [[]]


async def _converse(session: Session, kinds: str, agent_id: str = "a") -> None:
    for kind in kinds:
        await session.append(agent_id, says(kind, role="summary" if kind == "S" else "user"))


__all__ = ["ReadingContract"]
