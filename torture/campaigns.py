"""All of them, in the order of the table."""

from __future__ import annotations

from torture.campaign import Campaign

CAMPAIGNS: dict[str, Campaign] = {}
