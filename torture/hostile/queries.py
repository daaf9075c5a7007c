"""Queries and cursors: words are words whatever stands between them, and a cursor is ours."""

from __future__ import annotations

import base64
from contextlib import AsyncExitStack
from random import Random
from types import TracebackType
from typing import Final, Self

from sessionactor import SearchHit, SessionError, SessionRegistry
from torture.hostile import garbage
from torture.hostile.area import Bystander, Places, answer, broken

_WORDS: Final = (
    "alpha", "beta", "gamma", "delta", "and", "or", "not", "near", "content", "session", "x1",
    "null",
)  # fmt: skip
_BETWEEN: Final = (
    " ", "  ", " AND ", " OR ", " NOT ", " NEAR ", "+", "-", " ^", ":", "(", ")", "){", "}", ",",
    "' ",
    " -- ", "; ", "\\", "/", "\0", "\n", "\t", "?", " NEAR(", " = ", "|", "&", "%", "$1", "@", "#",
)  # fmt: skip
_MESSAGES: Final = 120
_AT_ONCE: Final = 10


def _words_of(number: int) -> list[str]:
    return [word for at, word in enumerate(_WORDS) if number * 2654435761 >> at & 1]


class Queries:
    """A registry that is asked for words, and for what is none."""

    def __init__(self, places: Places) -> None:
        self._directory = places.sessions
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        registry = SessionRegistry(self._directory, durability="normal")
        self._registry = await self._stack.enter_async_context(registry)
        self._bystander = await Bystander.start(registry)
        session = await registry.start("asked")
        await session.extend(
            "one", [{"content": " ".join(_words_of(n)) or "-"} for n in range(1, _MESSAGES + 1)]
        )
        for number in range(5):
            await registry.start(f"more-{number}")
        self._cursors = [
            found.cursor
            for order in ("updated", "created")
            if (found := await registry.sessions(order=order, limit=2)).cursor
        ]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def round(self, chance: Random) -> int:
        for _ in range(_AT_ONCE):
            await self._words(chance)
            await self._anything(chance)
            await self._cursor(chance)
        await self._bystander.check()
        return 3 * _AT_ONCE

    async def _words(self, chance: Random) -> None:
        """Words, between which anything may stand that is no letter and no quote."""
        wanted = chance.sample(_WORDS[:4], chance.randint(1, 3))
        query, said = wanted[0], {wanted[0]}
        for word in wanted[1:]:
            between = chance.choice(_BETWEEN)
            query += f"{between} {word}" if between.strip("$1").isalnum() else between + word
            said |= {word, *"".join(c if c.isalnum() else " " for c in between).lower().split()}
        found = await answer(self._registry.search(query, session_id="asked", limit=1000))
        if isinstance(found, SessionError):
            broken(f"a query came to {found!r:.200}", query)
        expected = {n for n in range(1, _MESSAGES + 1) if said <= set(_words_of(n))}
        apart = all(word.isalnum() for word in query.split())
        hits = {hit.db_id for hit in found}
        # What no space parts is one phrase, and finds less.
        if hits - expected or (apart and hits != expected):
            broken(f"it found {sorted(hits)}, not {sorted(expected)}", query)

    async def _anything(self, chance: Random) -> None:
        query = garbage.text(chance, 8) if chance.random() < 0.9 else garbage.odd(chance)
        if isinstance(query, str) and chance.random() < 0.1:
            query *= chance.choice([10, 100, 1000])
        found = await answer(
            self._registry.search(
                query,
                limit=chance.choice([1, 20, 2**63, 2**80]),
                session_id=chance.choice([None, garbage.text(chance, 2)]),
                agent_id=chance.choice([None, "one", garbage.text(chance, 2)]),
                order=chance.choice(["newest", "rank"]),
                by=chance.choice(["message", "session"]),
            )
        )
        if not isinstance(found, SessionError):
            if not all(isinstance(hit, SearchHit) for hit in found):
                broken(f"it found {found!r:.200}", query)
        elif isinstance(query, str) and not any("\ud800" <= char <= "\udfff" for char in query):
            _may_refuse(found, query)

    async def _cursor(self, chance: Random) -> None:
        whole = chance.choice(self._cursors) or ""
        kind = chance.random()
        if kind < 0.4:
            cursor = garbage.spoilt(whole.encode(), chance).decode("latin-1")
        elif kind < 0.7:
            data = base64.urlsafe_b64decode(whole + "=" * (-len(whole) % 4))
            cursor = base64.urlsafe_b64encode(garbage.spoilt(data, chance)).decode()
        else:
            cursor = garbage.text(chance) if kind < 0.9 else garbage.odd(chance)
        listed = await answer(
            self._registry.sessions(
                cursor=cursor,
                order=chance.choice(["updated", "created"]),
                limit=chance.choice([1, 2, 50, 2**63 - 1, 2**63, 2**80]),
                name=chance.choice([None, garbage.text(chance, 2)]),
                metadata=chance.choice([None, {garbage.text(chance, 2): garbage.odd(chance, 0)}]),
            )
        )
        spoilt = isinstance(cursor, str) and cursor.rstrip("=") not in self._cursors
        if spoilt and not isinstance(listed, SessionError):
            broken(f"a cursor that nobody was given came to {listed!r:.200}", cursor)


def _may_refuse(error: SessionError, query: str) -> None:
    if "surrogate" not in str(error):
        broken(f"a query came to {error!r:.200}", query)
