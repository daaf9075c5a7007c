"""When subscribers go on: after those who make requests.

A thousand who all want the event loop because of one append go on a few in each iteration of
it. While requests are made they get a small part of the time, so that they slow nobody down;
when none is made, all that there is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Final, TypeAlias

AT_ONCE: Final = 8
"""Who go on in one iteration of the event loop, at most …"""
AT_ONCE_S: Final = 100e-6
"""… fewer if they took longer than this, one after the other …"""
AT_ONCE_BYTES: Final = 256 * 1024
"""… and fewer where they have large messages to decode."""
REST: Final = 14
"""While requests are made, the others have the event loop so much longer …"""
MAX_REST_S: Final = 0.05
"""… but not longer than this in one go."""
TRAFFIC_S: Final = 0.002
"""So long after a request they count as being made."""


Waiting: TypeAlias = dict["asyncio.Future[None]", None]


class Pace:
    """Lets those who wait go on, in the order in which it is told of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.asked = False
        """Set when a request is made."""
        self._asked_at_s = -TRAFFIC_S
        self._due: deque[tuple[Waiting, int]] = deque()
        self._planned: asyncio.Handle | None = None
        self._room = AT_ONCE
        self._began_s = 0.0
        self._rests_until_s = 0.0

    async def turn(self, weight: int) -> None:
        """Wait until others went on, and then for one's turn to decode so many bytes."""
        turn = self.loop.create_future()
        waiting: Waiting = {turn: None}
        self.let_go_on(waiting, weight)
        try:
            await turn
        finally:
            waiting.clear()

    def let_go_on(self, waiting: Waiting, weight: int) -> None:
        """Let all of these go on, in turn, each of whom has so many bytes to decode."""
        self._due.append((waiting, weight))
        if self._planned is None:
            self._plan()

    def _plan(self) -> None:
        if self.loop.time() >= self._rests_until_s:
            self._planned = self.loop.call_soon(self._go)
        else:
            self._planned = self.loop.call_at(self._rests_until_s, self._go)

    def _go(self) -> None:
        # In the next iteration: this, those who go on, and that.
        self.loop.call_soon(self._begin)
        count = 0
        for waiter in self._next():
            if not waiter.done():
                waiter.set_result(None)
                count += 1
        self._planned = self.loop.call_soon(self._end, count)

    def _next(self) -> Iterator[asyncio.Future[None]]:
        room, room_bytes = self._room, AT_ONCE_BYTES
        while self._due:
            waiting, weight = self._due[0]
            while waiting:
                if room <= 0 or room_bytes <= 0:
                    return
                room -= 1
                room_bytes -= weight
                yield waiting.popitem()[0]
            self._due.popleft()

    def _begin(self) -> None:
        self._began_s = self.loop.time()

    def _end(self, count: int) -> None:
        now_s = self.loop.time()
        took_s = now_s - self._began_s
        self._room = max(1, min(AT_ONCE, int(AT_ONCE_S * count / took_s))) if took_s else AT_ONCE
        if self.asked:
            self.asked = False
            self._asked_at_s = now_s
        if now_s - self._asked_at_s < TRAFFIC_S:
            self._rests_until_s = now_s + min(MAX_REST_S, took_s * REST)
        self._planned = None
        if self._due:
            self._plan()


__all__ = ["Pace", "Waiting"]
