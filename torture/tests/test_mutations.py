"""Every planted fault is caught: what a campaign does not see, it does not prove."""

from __future__ import annotations

import pytest

from torture.campaign import Budget
from torture.campaigns import CAMPAIGNS
from torture.mutations import planted

SECONDS = 60  # by when a fault has to be caught; most are within a few


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
