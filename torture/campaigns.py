"""All of them, in the order of the table."""

from __future__ import annotations

from torture.campaign import Campaign
from torture.concurrency import CAMPAIGN as CONCURRENCY
from torture.faults import CAMPAIGN as FAULTS
from torture.hostile import CAMPAIGN as HOSTILE
from torture.kills import CAMPAIGN as KILLS
from torture.power_loss import CAMPAIGN as POWER_LOSS
from torture.soak import CAMPAIGN as SOAK

CAMPAIGNS: dict[str, Campaign] = {
    "power_loss": POWER_LOSS,
    "kills": KILLS,
    "faults": FAULTS,
    "concurrency": CONCURRENCY,
    "hostile": HOSTILE,
    "soak": SOAK,
}
