"""Who may hold an open file: at most `max_active` at once, the least recently used give way."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Protocol


class Tenant(Protocol):
    """One who holds, or wants, a place."""

    used_at_s: float

    def give_way(self) -> None:
        """End after the current group, and release the place."""


class Capacity:
    """Places, given in the order of asking."""

    def __init__(self, places: int, loop: asyncio.AbstractEventLoop) -> None:
        self.places = places
        self._free = places
        self._loop = loop
        self._tenants: OrderedDict[Tenant, None] = OrderedDict()  # least recently used first
        self._leaving: set[Tenant] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._wanted = 0  # those in the queue that were not cancelled

    @property
    def used(self) -> int:
        """How many places are taken now."""
        return self.places - self._free

    async def acquire(self, tenant: Tenant) -> None:
        """Wait for a place; cancelled, none is taken."""
        if self._free and not self._wanted:
            self._free -= 1
        else:
            place = self._loop.create_future()
            self._waiting.append(place)
            self._wanted += 1
            self._make_room()
            try:
                await place
            except asyncio.CancelledError:
                if place.cancelled():
                    self._wanted -= 1
                else:
                    self._pass_on()
                raise
        tenant.used_at_s = self._loop.time()
        self._tenants[tenant] = None
        self._make_room()

    def release(self, tenant: Tenant) -> None:
        """Give a place back; idempotent."""
        if tenant in self._tenants or tenant in self._leaving:
            self._tenants.pop(tenant, None)
            self._leaving.discard(tenant)
            self._pass_on()

    def touch(self, tenant: Tenant) -> None:
        """Mark as used now."""
        tenant.used_at_s = self._loop.time()
        if tenant in self._tenants:
            self._tenants.move_to_end(tenant)

    def evict_idle(self, idle_s: float) -> float:
        """Make those give way who were idle that long; seconds until the next may be."""
        while self._tenants:
            tenant = next(iter(self._tenants))
            left_s = tenant.used_at_s + idle_s - self._loop.time()
            if left_s > 0:
                return left_s
            self._evict(tenant)
        return idle_s

    def _make_room(self) -> None:
        while self._tenants and len(self._leaving) < self._wanted:
            self._evict(next(iter(self._tenants)))

    def _evict(self, tenant: Tenant) -> None:
        del self._tenants[tenant]
        self._leaving.add(tenant)
        tenant.give_way()

    def _pass_on(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                self._wanted -= 1
                place.set_result(None)
                return
        self._free += 1
