"""The tools of hostile input: what watches sees, and what compares tells apart."""

from __future__ import annotations

import math
import os
from pathlib import Path
from random import Random

import pytest

from torture.hostile import garbage
from torture.hostile.comparing import depth, same
from torture.hostile.watch import _database


def test_messages_are_compared_to_the_last_bit() -> None:
    assert same({"a": [math.nan, {1, 2}]}, {"a": [math.nan, {2, 1}]})
    for one, other in (
        ({"a": 0.0}, {"a": -0.0}),
        ({"a": 1}, {"a": True}),
        ({"a": [1]}, {"a": (1,)}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": {1}}, {"a": frozenset({1})}),
    ):
        assert not same(one, other)


def test_depth_counts_containers() -> None:
    assert depth(1) == 0
    assert depth({}) == 1
    assert depth({"a": [(), 1]}) == 3


def test_the_name_of_a_database_is_read_from_its_uri() -> None:
    assert os.fsdecode(_database("file:/a%20b/c%3f.db?mode=rw&immutable=1")) == "/a b/c?.db"
    assert _database(Path("/a/b")) == b"/a/b"


@pytest.mark.parametrize("make", [garbage.spoilt, garbage.lines])
def test_the_same_seed_makes_the_same_garbage(make: object) -> None:
    data = b'{"a": 1}\n' * 50
    made = [make(data, Random(7)) for _ in range(2)]  # type: ignore[operator]
    assert made[0] == made[1]
    assert any(make(data, Random(seed)) != data for seed in range(9))  # type: ignore[operator]


def test_pages_are_damaged_whatever_their_number() -> None:
    for seed in range(200):
        data = Random(seed).randbytes(Random(seed).choice([0, 10, 2048, 20480]))
        garbage.pages(data, 2048, Random(seed))


def test_sets_in_sets_are_the_same_whatever_their_order() -> None:
    def made(number: float) -> object:
        return {"a": frozenset({"a", frozenset({float("nan"), number})})}

    assert same(made(1), made(1))
    assert not same(made(1), made(2))
