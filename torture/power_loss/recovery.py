"""Opens what a loss of power left, as whoever comes next, and holds it against what may be."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from sessionactor import SessionRegistry
from sessionactor import _names as names
from torture.power_loss.snapshot import BACKUPS, SESSIONS, WORD, State, keyed, showing
from torture.power_loss.verdict import History, matching, wrong

_MANY: Final = 1000


class Wrong(Exception):  # noqa: N818 - it is what the library did
    """A promise is broken."""


class Questions(NamedTuple):
    """When the catalog is asked what there is."""

    first: bool
    """Before any session was opened."""
    last: bool
    """After all got more messages."""


async def recover(root: Path, history: History, at: int, questions: Questions) -> None:
    """Open all there is, read it, and go on with it.

    Raises:
        Wrong: something is not as promised.
        Exception: of the library, which should have raised none.
    """
    for place in (SESSIONS, BACKUPS):
        directory = root / place
        async with SessionRegistry(
            directory, durability=history.durability, catalog=any(questions)
        ) as registry:
            await _Place(registry, history, place, at).check(questions)
            left = [path.name for path in directory.iterdir() if names.parse_draft(path.name)]
            if left:
                raise Wrong(f"half-made files stay: {left}")


class _Place:
    """A directory of sessions after the loss."""

    def __init__(self, registry: SessionRegistry, history: History, place: str, at: int) -> None:
        self._registry = registry
        self._history = history
        self._place = place
        self._at = at
        self._more = 1 + at % 3  # messages: as many as were lost, perhaps
        self._sessions: dict[str, tuple[str, int]] = {}
        """By id: the name, and how many rows there are."""
        self._texts: dict[tuple[str, int], str] = {}

    async def check(self, questions: Questions) -> None:
        """Hold all that is there against what may be.

        Raises:
            Wrong: it is otherwise.
        """
        catalog = await self._catalog() if questions.first else None
        found = {file.session_id for file in await self._registry.find("*")}
        strangers = found - {*self._history.ids(self._place)}
        if strangers:
            raise Wrong(f"sessions {strangers} are there, which nobody created")
        states = {}
        for session_id in self._history.ids(self._place):
            allowed = self._history.allowed(self._place, session_id, self._at)
            if session_id in found:
                states[session_id] = await self._look(session_id, allowed)
            elif None not in allowed:
                raise Wrong(wrong(session_id, allowed, None))
        if catalog is not None:
            self._compare("at first", *catalog)
        for session_id, may_be in states.items():
            await self._go_on(session_id, may_be)
        if questions.last:
            self._compare("after new messages", *await self._catalog())

    async def _look(self, session_id: str, allowed: list[State | None]) -> list[State]:
        """The states that a session may be in."""
        session = self._registry.session(session_id)
        rows = await session.messages()
        seen = showing(session.name, rows, await session.get_metadata())
        self._sessions[session_id] = (seen.name, len(rows))
        self._texts.update({(session_id, row.db_id): row.message["content"] for row in rows})
        states = [state for state in matching(allowed, seen) if state is not None]
        if not states:
            raise Wrong(wrong(session_id, allowed, seen))
        return states

    async def _go_on(self, session_id: str, states: list[State]) -> None:
        """The same keys give the same ids, and new ids were never given before."""
        session = self._registry.session(session_id)
        certain = set.intersection(*[set(state.keys) for state in states])
        for key, db_id in sorted(certain):
            again = await session.append("k", keyed(key), key=key)
            if again != db_id:
                raise Wrong(f"session {session_id}: key {key} gave {again}, before it {db_id}")
        may_be = {state.high + 1 for state in states}
        for number in range(self._more):
            text = f"{WORD} later {number}"
            db_id = await session.append("later", {"role": "user", "content": text})
            if db_id not in may_be:
                raise Wrong(f"session {session_id}: the next id is {db_id}; it may be {may_be}")
            may_be = {db_id + 1}
            self._texts[session_id, db_id] = text
        name, count = self._sessions[session_id]
        self._sessions[session_id] = (name, count + self._more)

    async def _catalog(self) -> tuple[dict[str, tuple[str, int]], dict[tuple[str, int], str]]:
        """What the catalog says there is."""
        listed = (await self._registry.sessions(limit=_MANY)).sessions
        hits = await self._registry.search(WORD, limit=_MANY)
        return (
            {info.session_id: (info.name, info.message_count) for info in listed},
            {(hit.session_id, hit.db_id): hit.snippet for hit in hits},
        )

    def _compare(
        self,
        when: str,
        listed: dict[str, tuple[str, int]],
        texts: dict[tuple[str, int], str],
    ) -> None:
        if listed != self._sessions:
            raise Wrong(f"{when} the catalog lists {listed}, and there is {self._sessions}")
        if texts != self._texts:
            lost, ghosts = self._texts.items() - texts.items(), texts.items() - self._texts.items()
            raise Wrong(f"{when} searching finds {ghosts}, which is not there, and not {lost}")
