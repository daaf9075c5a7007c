"""The checker knows what can have been; an interleaving is the same each time."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from sessionactor import Appended, Row
from torture.concurrency.calls import (
    Append,
    Call,
    Delete,
    Done,
    Make,
    Read,
    Refused,
    Save,
    Start,
    Take,
    Truncate,
    Update,
    Write,
    from_json,
    to_json,
)
from torture.concurrency.interleaving import play
from torture.concurrency.judging import verdicts
from torture.concurrency.linearizability import Verdict
from torture.concurrency.loop import Loop, StuckError
from torture.concurrency.states import Stored
from torture.concurrency.subscribers import Follower

BEGIN = Done("s", Start("s"), 1, 2)


def put(text: str, began: int, ended: int, *answer: int, key: str | None = None) -> Done:
    """An append, and its answer; without one, it was lost."""
    return Done("s", Write((Append("a", text, key),)), began, ended, answer, bool(answer))


def saw(what: Any, began: int, ended: int, answer: Any) -> Done:
    return Done("s", Read(what), began, ended, answer)


def did(call: Call, began: int, ended: int, answer: Any = None) -> Done:
    return Done("s", call, began, ended, answer)


def verdict(*history: Done) -> Verdict:
    (found,) = verdicts([BEGIN, *history], ["s"])
    return found


def holds(*history: Done) -> bool:
    return verdict(*history).order is not None


def test_calls_at_once_may_have_happened_in_either_order() -> None:
    one, other = put("one", 3, 10, 2), put("other", 4, 9, 1)
    assert holds(one, other)
    assert not holds(put("one", 3, 4, 2), put("other", 5, 6, 1))


def test_a_read_sees_what_was_answered_before_it_was_asked() -> None:
    assert holds(put("one", 3, 4, 1), saw("revision", 5, 6, 1))
    assert not holds(put("one", 3, 4, 1), saw("revision", 5, 6, 0))
    assert holds(put("one", 3, 6, 1), saw("revision", 5, 7, 0))


def test_a_lost_call_happened_or_not_but_only_once_and_not_too_late() -> None:
    lost = put("one", 3, 6)
    assert holds(lost, saw("revision", 7, 8, 0))
    assert holds(lost, saw("revision", 7, 8, 1))
    assert not holds(lost, saw("revision", 7, 8, 2))
    assert not holds(lost, saw("revision", 7, 8, 0), saw("revision", 9, 10, 1))
    # A read that comes first in the search does not hide it.
    assert holds(lost, saw("metadata", 7, 8, ()), saw("revision", 9, 10, 1))


def test_a_key_counts_once_and_an_id_is_never_used_again() -> None:
    assert holds(put("x", 3, 4, 1, key="k"), put("x", 5, 6, 1, key="k"))
    assert not holds(put("x", 3, 4, 1, key="k"), put("x", 5, 6, 2, key="k"))
    cut = did(Write((Truncate(1),)), 5, 6, (1,))
    assert holds(put("x", 3, 4, 1), cut, put("y", 7, 8, 2))
    assert not holds(put("x", 3, 4, 1), cut, put("y", 7, 8, 1))


def test_a_refusal_tells_the_truth() -> None:
    late = Write((Append("a", "late"),), "call", expected_head=0)
    assert holds(put("x", 3, 4, 1), did(late, 5, 6, Refused("StaleHeadError", 1)))
    assert not holds(put("x", 3, 4, 1), did(late, 5, 6, Refused("StaleHeadError", 2)))
    assert not holds(put("x", 3, 4, 1), did(late, 5, 6, (2,)))


def test_a_start_that_changed_nothing_may_have_created() -> None:
    # Taken at once, before the deletion, it would leave nothing to append to.
    assert holds(did(Delete(), 3, 8, True), did(Start("s"), 4, 7), put("x", 9, 10, 1))


def test_a_fork_is_of_one_moment_and_made_at_another() -> None:
    history = [
        BEGIN,
        put("x", 3, 4, 1),
        did(Take(1), 5, 12),
        put("y", 6, 7, 2),
        Done("f", Read("revision"), 8, 9, Refused("SessionNotFoundError")),
        Done("f", Make(1, "f", None), 5, 12),
    ]
    row = Stored(1, "a", "x", False, None, None, 1)
    other = Stored(2, "a", "y", False, None, None, 2)
    for rows, right in [((row,), True), ((row, other), True), ((other,), False)]:
        seen = Done("f", Read("messages"), 13, 14, rows)
        (found,) = verdicts([*history, seen], ["s", "f"])
        assert (found.order is not None) is right


@pytest.mark.parametrize(
    ("told", "right"),
    [([1, 2], True), ([1], False), ([2], False), ([1, 2, 2], False), ([2, 1], False)],
)
def test_who_follows_is_told_everything_once_in_order(told: list[int], right: bool) -> None:
    history = [BEGIN, put("x", 3, 4, 1), put("y", 5, 6, 2)]
    follower = Follower("s", 0, 2, ending="closed", first_at=7)
    follower.events = [Appended(n, row(n, "?xy"[n])) for n in told]
    (found,) = verdicts(history, ["s"], [follower])
    assert (found.order is not None) is right


def row(n: int, text: str) -> Row:
    message = {"role": "user", "content": text}
    return Row(n, "a", message, None, False, None, None, None, None, n)  # type: ignore[arg-type]


def test_of_two_orders_that_end_alike_the_one_that_was_told_is_found() -> None:
    one, other = put("x", 3, 9, 1, key="k"), did(Write((Save((("m", "1"),)),)), 4, 10, (None,))
    gone = did(Write((Truncate(1),)), 11, 12, (1,))
    for first in (1, 2):
        follower = Follower("s", 0, 2, first_at=13)
        follower.events = [Appended(first, row(first, "x")._replace(db_id=1, key="k"))]
        (found,) = verdicts([BEGIN, one, other, gone], ["s"], [follower])
        assert found.order is not None


def test_what_is_asked_and_answered_goes_through_a_line() -> None:
    for value in (
        Write((Append("a", "x", "k"), Update(None, "y")), "batch", 3),
        Refused("StaleHeadError", 1),
        (("x", 1), None, ()),
    ):
        assert from_json(to_json(value)) == value
        assert type(from_json(to_json(value))) is type(value)


@pytest.mark.parametrize("case", range(5))
def test_an_interleaving_is_the_same_each_time(case: int) -> None:
    one, other = play(Random(case)), play(Random(case))
    assert one.history == other.history
    assert one.trace == other.trace
    assert not one.complaints


def test_who_waits_for_nothing_is_stuck_and_time_does_not_pass() -> None:
    async def wait(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return asyncio.get_running_loop().time()

    async def for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    loop = Loop(Random(1))  # type: ignore[abstract]
    assert loop.run(wait(1000)) == pytest.approx(1000, rel=1e-3)
    with pytest.raises(StuckError):
        loop.run(for_ever())
    loop.abandon()
    assert not asyncio.all_tasks(loop)
