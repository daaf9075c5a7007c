from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionactor import Page, Session, SessionRegistry

USER = {"role": "user"}
SUMMARY = {"role": "summary"}


def shape(page: Page) -> tuple[list[int], int | None]:
    return [row.db_id for row in page.rows], page.checkpoint_id


async def latest(session: Session, agent_id: str | None = None) -> tuple[list[int], int | None]:
    return shape(await session.messages_from_latest_checkpoint(agent_id=agent_id))


async def before(
    session: Session, cursor: int, agent_id: str | None = None
) -> tuple[list[int], int | None]:
    return shape(await session.messages_before_checkpoint(cursor, agent_id=agent_id))


async def chapters(
    session: Session, agent_id: str | None = None
) -> list[tuple[list[int], int | None]]:
    return [shape(page) async for page in session.chapters(agent_id=agent_id)]


async def tell(session: Session, story: str) -> None:
    """Append `"1u 2S"`, a message each; `4S3` is a summary that keeps from 3 on."""
    for word in story.split():
        number = word.rstrip("0123456789")
        keep_from = word[len(number) :]
        db_id = await session.append(
            "b" if number[-1] in "vT" else "a",
            SUMMARY if number[-1] in "ST" else USER,
            keep_from=int(keep_from) if keep_from else None,
        )
        assert str(db_id) == number[:-1]


# by example


async def test_the_example_of_the_design(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await tell(session, "1u 2S 3u 4S 5u")
        assert await latest(session) == ([4, 5], 4)
        assert await before(session, 4) == ([2, 3], 2)
        assert await before(session, 2) == ([1], None)
        assert await chapters(session) == [([4, 5], 4), ([2, 3], 2), ([1], None)]


async def test_without_a_checkpoint_the_latest_chapter_is_everything(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        assert await latest(session) == ([], None)
        assert await chapters(session) == [([], None)]
        await tell(session, "1u 2u 3u")
        assert await latest(session) == ([1, 2, 3], None)
        assert await chapters(session) == [([1, 2, 3], None)]


async def test_a_checkpoint_that_is_the_first_row_has_an_empty_chapter_before_it(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await tell(session, "1S 2u")
        assert await chapters(session) == [([1, 2], 1), ([], None)]


async def test_checkpoints_in_a_row_are_chapters_of_one_row(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await tell(session, "1u 2S 3S 4S")
        assert await chapters(session) == [([4], 4), ([3], 3), ([2], 2), ([1], None)]


async def test_a_page_is_a_named_tuple_of_rows_and_cursor(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await tell(session, "1u 2S")
        page = await session.messages_from_latest_checkpoint()
        rows, checkpoint_id = page
        assert isinstance(page, Page)
        assert rows == await session.messages(after=1)
        assert checkpoint_id == 2


async def test_given_an_agent_only_its_rows_and_checkpoints_are_in_view(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await tell(session, "1u 2v 3S 4v 5T 6u 7v")  # u and S are a's, v and T are b's
        assert await latest(session) == ([5, 6, 7], 5)
        assert await latest(session, "a") == ([3, 6], 3)
        assert await before(session, 3, "a") == ([1], None)
        assert await latest(session, "b") == ([5, 7], 5)
        assert await before(session, 5, "b") == ([2, 4], None)
        assert await before(session, 5, "a") == ([3], 3)  # b's checkpoint is no checkpoint here
        assert await latest(session, "nobody") == ([], None)
        assert await before(session, 5, "nobody") == ([], None)


async def test_keep_from_brings_the_kept_rows_into_the_latest_chapter(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await tell(session, "1u 2u 3u 4u 5S3 6u")
        assert await latest(session) == ([5, 3, 4, 6], 5)
        assert await before(session, 5) == ([1, 2], None)


async def test_checkpoints_inside_a_kept_range_are_ordinary_rows(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await tell(session, "1u 2S 3u 4S 5u 6S3 7u")
        assert await latest(session) == ([6, 3, 4, 5, 7], 6)
        assert await before(session, 6) == ([2], 2)
        assert await before(session, 2) == ([1], None)
        assert await before(session, 4) == ([2, 3], 2)


async def test_a_kept_range_may_reach_into_the_range_of_an_earlier_checkpoint(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await tell(session, "1u 2u 3u 4S2 5u 6S3 7u")
        # 4 lies in what 6 keeps, and no checkpoint is older than 3.
        assert await chapters(session) == [([6, 3, 4, 5, 7], 6), ([1, 2], None)]
        await tell(session, "8u 9S8 10S10")
        assert await chapters(session) == [
            ([10], 10),
            ([9, 8], 9),
            ([6, 3, 4, 5, 7], 6),
            ([1, 2], None),
        ]


@pytest.mark.parametrize(
    ("keep_from", "rows", "earlier"),
    [(1, [4, 1, 2, 3, 5], []), (3, [4, 3, 5], [1, 2]), (4, [4, 5], [1, 2, 3])],
)
async def test_keep_from_may_be_anything_from_1_to_the_new_id(
    place: Path | None, keep_from: int, rows: list[int], earlier: list[int]
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await tell(session, f"1u 2u 3u 4S{keep_from} 5u")
        assert await chapters(session) == [(rows, 4), (earlier, None)]
        row = await session.get(4)
        assert row is not None
        assert row.keep_from == keep_from


async def test_the_row_of_a_keep_from_need_not_exist(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await tell(session, "1u 2u 3u 4u")
        await session.truncate_from(2)
        await tell(session, "5u 6S3 7u")
        assert await chapters(session) == [([6, 5, 7], 6), ([1], None)]


@pytest.mark.parametrize("keep_from", [0, -1, 4, 2**80])
async def test_keep_from_out_of_range_is_refused(place: Path | None, keep_from: int) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await tell(session, "1u 2u")
        with pytest.raises(ValueError, match="keep_from") as caught:
            await session.append("a", SUMMARY, keep_from=keep_from)
        assert getattr(caught.value, "session_id", None) == "s"
        assert await session.append("a", SUMMARY, keep_from=3) == 3


async def test_keep_from_in_a_batch_is_bounded_by_the_id_that_the_row_gets(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        async with session.batch() as batch:
            batch.extend("a", [USER, USER])
            batch.append("a", SUMMARY, keep_from=3)
            batch.append("a", SUMMARY, keep_from=2)
        assert await latest(session) == ([4, 2, 3], 4)
        with pytest.raises(ValueError, match="keep_from"):
            async with session.batch() as batch:
                batch.append("a", SUMMARY, keep_from=6)
        assert await session.append("a", USER) == 5


async def test_a_cursor_that_is_no_checkpoint_bounds_by_its_own_value(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await tell(session, "1u 2S 3u 4S 5u")
        assert await before(session, 5) == ([4], 4)
        assert await before(session, 3) == ([2], 2)
        assert await before(session, 99) == ([4, 5], 4)
        assert await before(session, 2**80) == ([4, 5], 4)
        for cursor in (1, 0, -3, -(2**80)):
            assert await before(session, cursor) == ([], None)


async def test_a_checkpoint_by_flag_pages_like_one_by_role(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await session.append("a", USER)
        await session.append("a", USER, checkpoint=True)
        await session.append("a", SUMMARY, checkpoint=False)
        assert await chapters(session) == [([2, 3], 2), ([1], None)]


async def test_the_latest_chapter_follows_every_change(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        assert await latest(session) == ([], None)
        await tell(session, "1u 2v")
        assert await latest(session) == ([1, 2], None)
        assert await latest(session, "a") == ([1], None)
        await tell(session, "3T 4u")
        assert await latest(session) == ([3, 4], 3)
        assert await latest(session, "a") == ([1, 4], None)
        assert await latest(session, "b") == ([3], 3)
        await session.truncate_from(3)
        assert await latest(session) == ([1, 2], None)
        assert await latest(session, "b") == ([2], None)
        await tell(session, "5S2 6v")
        assert await latest(session) == ([5, 2, 6], 5)
        assert await latest(session, "a") == ([5], 5)
        await registry.stop("s")
        assert await latest(session) == ([5, 2, 6], 5)


async def test_long_chapters_are_read_whole(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await session.extend("a", [USER] * 5000)
        assert await latest(session) == (list(range(1, 5001)), None)
        await session.append("a", SUMMARY, keep_from=100)
        await session.extend("b", [USER] * 3000)
        whole = [5001, *range(100, 5001), *range(5002, 8002)]
        assert await latest(session) == (whole, 5001)
        assert await latest(session, "a") == ([5001, *range(100, 5001)], 5001)
        assert await latest(session, "b") == (list(range(5002, 8002)), None)
        assert await before(session, 5001) == (list(range(1, 100)), None)
        await session.append("a", SUMMARY)
        assert await before(session, 8002) == (whole, 5001)


async def test_chapters_of_large_messages_are_read_whole(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        for n in range(30):
            await session.append("a", {"role": "user", "content": "x" * 40_000, "n": n})
            page = await session.messages_from_latest_checkpoint()
            assert [row.message["n"] for row in page.rows] == list(range(n + 1))


# by property


@dataclass
class Told:
    """A row as a reference implementation needs it."""

    db_id: int
    agent_id: str
    checkpoint: bool
    keep_from: int | None

    @property
    def start(self) -> int:
        return self.db_id if self.keep_from is None else self.keep_from


def in_view(rows: list[Told], agent_id: str | None) -> list[Told]:
    return [row for row in rows if agent_id is None or row.agent_id == agent_id]


def headed(head: Told, rows: list[Told]) -> tuple[list[int], int | None]:
    return [head.db_id, *(row.db_id for row in rows if row is not head)], head.db_id


def latest_by_design(rows: list[Told]) -> tuple[list[int], int | None]:
    checkpoints = [row for row in rows if row.checkpoint]
    if not checkpoints:
        return [row.db_id for row in rows], None
    newest = checkpoints[-1]
    return headed(newest, [row for row in rows if row.db_id >= newest.start])


def before_by_design(rows: list[Told], cursor: int) -> tuple[list[int], int | None]:
    named = [row for row in rows if row.checkpoint and row.db_id == cursor]
    bound = named[0].start if named else cursor
    older = [row for row in rows if row.checkpoint and row.db_id < bound]
    if not older:
        return [row.db_id for row in rows if row.db_id < bound], None
    head = older[-1]
    return headed(head, [row for row in rows if head.start <= row.db_id < bound])


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, str, int]]:
    """What happens: an append, a checkpoint that keeps so many rows, or a truncation."""
    kinds = st.sampled_from(["append", "append", "append", "checkpoint", "keep", "keep", "cut"])
    return draw(
        st.lists(st.tuples(kinds, st.sampled_from(["a", "b"]), st.integers(0, 12)), max_size=30)
    )


@given(history=histories(), reopen_after=st.integers(0, 30))
@settings(max_examples=80)
async def test_pages_are_those_of_the_design_and_together_all_rows(
    history: list[tuple[str, str, int]], reopen_after: int
) -> None:
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        rows: list[Told] = []
        used = 0
        for step, (kind, agent_id, amount) in enumerate(history):
            if kind == "cut":
                first = max(1, used + 1 - amount)
                await session.truncate_from(first)
                rows = [row for row in rows if row.db_id < first]
            else:
                used += 1
                keep_from = max(1, used - amount) if kind == "keep" else None
                checkpoint = kind != "append"
                db_id = await session.append(
                    agent_id, USER, checkpoint=checkpoint, keep_from=keep_from
                )
                assert db_id == used
                rows.append(Told(used, agent_id, checkpoint, keep_from))
            if step == reopen_after:
                await registry.stop("s")
            for view in (None, "a", "b"):  # from the second time on these are hot
                assert await latest(session, view) == latest_by_design(in_view(rows, view))
        hot = {view: await latest(session, view) for view in (None, "a", "b", "c")}
        await registry.stop("s")
        for view in (None, "a", "b", "c"):
            seen = in_view(rows, view)
            assert await latest(session, view) == hot[view] == latest_by_design(seen)
            for cursor in range(-1, used + 3):
                assert await before(session, cursor, view) == before_by_design(seen, cursor)
            pages = await chapters(session, view)
            together = [db_id for page, _ in pages for db_id in page]
            assert sorted(together) == [row.db_id for row in seen]
            assert all(cursor is not None for _, cursor in pages[:-1])
            assert pages[-1][1] is None


async def test_what_is_hot_is_what_another_registry_reads(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("s")
        await tell(session, "1u 2S 3u 4v 5S4 6u 7v")
        for view in (None, "a", "b"):
            await latest(session, view)
        await session.append("a", {"deep": [{"n": {1, 2}}]}, key="k", turn="t", parent="p")
        views = (None, "a", "b")
        hot = [await session.messages_from_latest_checkpoint(agent_id=view) for view in views]
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session("s")
        cold = [await session.messages_from_latest_checkpoint(agent_id=view) for view in views]
    assert hot == cold


async def test_a_chapter_is_of_one_moment_while_others_write(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("s")
        await session.extend("a", [USER] * 500)
        rows = [Told(n, "a", False, None) for n in range(1, 501)]
        moments = [latest_by_design(rows)]

        async def write() -> None:
            for round_ in range(15):
                keep_from = 10 * round_ + 1
                db_id = await session.append("a", SUMMARY, keep_from=keep_from)
                rows.append(Told(db_id, "a", True, keep_from))
                moments.append(latest_by_design(rows))
                first = 480 - 10 * round_
                await session.truncate_from(first)
                rows[:] = [row for row in rows if row.db_id < first]
                moments.append(latest_by_design(rows))

        async def read() -> list[tuple[list[int], int | None]]:
            return [await latest(session) for _ in range(15)]

        _, *reads = await asyncio.gather(write(), *(read() for _ in range(4)))
        assert all(page in moments for pages in reads for page in pages)
