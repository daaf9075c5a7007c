"""All of them, in the order of the table."""

from __future__ import annotations

from torture.campaign import Campaign
from torture.concurrency import CAMPAIGN as CONCURRENCY
from torture.kills import CAMPAIGN as KILLS

CAMPAIGNS: dict[str, Campaign] = {
    "kills": KILLS,
    "concurrency": CONCURRENCY,
}
