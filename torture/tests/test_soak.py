"""The judging of the soak: what grows is seen, what swings is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torture.soak.rounds import judged

END: dict[str, Any] = {
    "before": {"threads": 1},
    "after": {"threads": 1},
    "closed": True,
    "left files": [],
    "unexpected": [],
    "calls": 10,
    "passivations": 3,
    "crashes": 1,
}


def sample(n: int, **other: Any) -> dict[str, Any]:
    swinging = dict.fromkeys(("threads", "descriptors", "locks", "tasks"), 40 + n % 7)
    return {
        "at": n / 10,
        **swinging,
        "side files": 18 - n % 5,
        "rss": 60 << 20,
        "largest log": 1 << 20,
        "catalog's log": 4 << 20,
        "objects": {"Cursor": 9 + n % 4},
        "appends": [0.01, 0.02],
        "late": [100],
        **other,
    }


def broken(samples: list[dict[str, Any]], end: dict[str, Any] | None) -> set[str]:
    return {case for case, row in judged([*samples], end).items() if row.failures}


def test_what_swings_is_level() -> None:
    assert broken([sample(n) for n in range(1, 101)], END) == set()


def test_what_grows_or_gets_slower_is_seen() -> None:
    growing: dict[str, Callable[[int], dict[str, Any]]] = {
        "level": lambda n: {"threads": 40 + n},
        "objects": lambda n: {"objects": {"Cursor": 9, "Task": n}},
        "memory": lambda n: {"rss": n << 20},
        "logs": lambda n: {"largest log": n << 20},
        "latencies": lambda n: {"appends": [n / 100]},
    }
    for case, grown in growing.items():
        assert broken([sample(n, **grown(n)) for n in range(1, 101)], END) == {case}


def test_what_is_left_at_the_end_is_seen() -> None:
    samples = [sample(n) for n in range(1, 101)]
    for end in (
        None,
        {**END, "after": {"threads": 2}},
        {**END, "left files": ["a_b.db-wal"]},
        {**END, "closed": False},
    ):
        assert broken(samples, end) == {"left"}
    assert broken(samples, {**END, "unexpected": ["append: OSError()"]}) == {"calls"}
