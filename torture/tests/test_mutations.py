"""Every planted fault is caught: what a campaign does not see, it does not prove."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from torture.campaign import Budget
from torture.campaigns import CAMPAIGNS
from torture.concurrency.mutations import BETWEEN_PROCESSES
from torture.faults.kinds import KINDS
from torture.faults.mutations import AIMED as KINDS_AIMED
from torture.hostile.areas import AREAS
from torture.hostile.mutations import AIMED as AREAS_AIMED
from torture.kills.mutations import AIMED as POINTS_AIMED
from torture.kills.points import POINTS
from torture.mutations import planted
from torture.power_loss.mutations import AIMED as LIVES_AIMED

SECONDS = 60  # by when a fault has to be caught; a fast machine needs a few


@pytest.mark.parametrize(
    ("campaign", "mutation"),
    [(name, mutation) for name, each in CAMPAIGNS.items() for mutation in each.mutations],
)
def test_a_planted_fault_is_caught(campaign: str, mutation: str) -> None:
    name = f"{campaign}/{mutation}"
    budget = Budget(seed=1, seconds=SECONDS, mutation=name, until_failure=True)
    with planted(name):
        rows = CAMPAIGNS[campaign].run(budget)
    assert any(row.failures for row in rows), f"{name} went unseen: {rows}"


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_each_has_faults_to_catch(campaign: str) -> None:
    assert CAMPAIGNS[campaign].mutations


def test_faults_are_looked_for_where_there_is_something() -> None:
    aimed: dict[str, Iterable[str]] = {
        "power_loss": LIVES_AIMED,
        "kills": POINTS_AIMED,
        "faults": KINDS_AIMED,
        "hostile": AREAS_AIMED,
    }
    for campaign, at in aimed.items():
        assert set(at) <= set(CAMPAIGNS[campaign].mutations)
    assert {name.partition("/")[2] for name in BETWEEN_PROCESSES} <= set(
        CAMPAIGNS["concurrency"].mutations
    )
    assert {point for points in POINTS_AIMED.values() for point in points} <= set(POINTS)
    assert {kind for kinds in KINDS_AIMED.values() for kind in kinds} <= set(KINDS)
    assert set(AREAS_AIMED.values()) <= set(AREAS)
