"""Whether there is an order in which calls could have happened one after the other.

A history is linearizable if every call can be given one moment between its beginning and its
end, such that the calls, done one after the other at these moments to the model, come to the
answers that were given (Herlihy and Wing, "Linearizability: a correctness condition for
concurrent objects", 1990). The search is that of Wing and Gong ("Testing and verifying
concurrent objects", 1993), which takes each call in turn that may be next and goes back where
that leads nowhere, with Lowe's memory of what was tried ("Testing for linearizability", 2017):
the same calls done and the same state of the model need not be tried twice.

Two things make it quick. A read or a refusal that is right changes nothing, and may be taken at
once. And sessions share nothing, so that each history is one of a session, unless forks
tie several together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from torture.concurrency.calls import Done, Read, Refused, Stop
from torture.concurrency.model import World, step, unanswered
from torture.concurrency.states import State

MOST_NODES = 50_000
"""After so many steps of a search there is no verdict."""


class Moment(NamedTuple):
    """A call in the order that was found, and what it left."""

    done: Done
    world: World


class Verdict(NamedTuple):
    """What a search came to."""

    order: list[Moment] | None
    """`None`: there is none, or none was found in time."""
    why: str = ""
    undecided: bool = False
    nodes: int = 0


class _Place(NamedTuple):
    """Where a search stands."""

    taken: int
    """A bit for each call, from `first` on."""
    first: int
    """The first call that was not taken."""
    floor: int
    """The latest beginning of a call that was taken: what ended before is too late."""
    world: World


Told = Mapping[tuple[object, ...], set[int]]
"""At which revisions something became so, as far as somebody was told."""


def linearize(
    history: Sequence[Done],
    sessions: Sequence[str],
    *,
    told: Told | None = None,
    refuse: Callable[[list[Moment]], str] = lambda order: "",
) -> Verdict:
    """Find an order of the calls to some sessions, which do not exist at first.

    Args:
        history: Calls with answers, and those without that may have happened.
        sessions: Their ids.
        told: What is known of the moments at which something changed.
        refuse: Says of an order why it cannot be the one, or nothing.
    """
    search = _Search(history, sessions, told or {}, refuse)
    verdict = search.run(remember=True)
    if verdict.order is None and search.refused:
        # Of two orders that end alike only the first was looked at, and it may be the other.
        return search.run(remember=False)
    return verdict


class _Search:
    def __init__(
        self,
        history: Sequence[Done],
        sessions: Sequence[str],
        told: Told,
        refuse: Callable[[list[Moment]], str],
    ) -> None:
        calls = [done for done in history if done.answered or not _changes_nothing(done)]
        self._calls = sorted(calls, key=lambda done: done.began)
        self._at = {session_id: at for at, session_id in enumerate(sessions)}
        self._told = told
        self._refuse = refuse
        self._nodes = 0
        self._last = max((n for n, done in enumerate(self._calls) if done.answered), default=-1)
        self._deepest: tuple[int, _Place] | None = None
        self.refused = ""

    def run(self, *, remember: bool) -> Verdict:
        self._nodes = 0
        begun = _Place(0, 0, 0, World(tuple(State() for _ in self._at)))
        order: list[Moment] = []
        if self._is_complete(begun) and not self._refuse(order):
            return Verdict(order)
        seen = {begun}
        trail = [(0, self._following(begun, 0))]
        while trail:
            depth, following = trail[-1]
            self._nodes += 1
            if self._nodes > MOST_NODES:
                return Verdict(None, f"no verdict: {self._told_so_far()}", True, self._nodes)
            found = next(following, None)
            if found is None:
                trail.pop()
                continue
            taken, place = found
            if remember:
                if place in seen:
                    continue
                seen.add(place)
            del order[depth:]
            order.append(Moment(self._calls[taken], place.world))
            if self._is_complete(place):
                refused = self._refuse(order)
                if not refused:
                    return Verdict(order, nodes=self._nodes)
                self.refused = refused
            trail.append((len(order), self._following(place, len(order))))
        return Verdict(None, self.refused or self._told_so_far(), False, self._nodes)

    def _is_complete(self, place: _Place) -> bool:
        return all(
            place.taken >> n - place.first & 1
            for n in range(place.first, self._last + 1)
            if self._calls[n].answered
        )

    def _following(self, place: _Place, depth: int) -> Iterator[tuple[int, _Place]]:
        """Each call that may be next, and where that leads."""
        if self._deepest is None or depth >= self._deepest[0]:
            self._deepest = depth, place
        candidates = self._candidates(place)
        reachable = []
        for n in candidates:
            done = self._calls[n]
            for world in self._outcomes(done, place.world):
                if _changes_nothing(done) and not self._waits(candidates, done):
                    yield n, self._after(place, n, world)  # there is no better moment for it
                    return
                reachable.append((n, world))
        for n, world in reachable:
            yield n, self._after(place, n, world)

    def _candidates(self, place: _Place) -> list[int]:
        """Calls that began before any of the others ended, and are not too late."""
        found, bound = [], None
        for n in range(place.first, len(self._calls)):
            done = self._calls[n]
            if bound is not None and done.began > bound:
                break
            if place.taken >> n - place.first & 1:
                continue
            if done.answered:
                bound = done.ended if bound is None else min(bound, done.ended)
            if done.ended >= place.floor:
                found.append(n)
        return [n for n in found if bound is None or self._calls[n].began <= bound]

    def _waits(self, candidates: Sequence[int], done: Done) -> bool:
        """Whether a call without an answer would be too late after this one."""
        return any(
            not other.answered and other.ended < done.began
            for other in (self._calls[n] for n in candidates)
        )

    def _outcomes(self, done: Done, world: World) -> list[World]:
        at = self._at[done.session_id]
        if not done.answered:
            changed = unanswered(world, at, done.call)
        else:
            after, answer = step(world, at, done.call)
            changed = [after] if answer == done.answer else []
        return [one for one in changed if self._was_told(world, one, at)]

    def _was_told(self, before: World, after: World, at: int) -> bool:
        """Whether what changed did so at revisions that nobody was told otherwise of."""
        if not self._told or before.sessions[at] is after.sessions[at]:
            return True
        return all(
            revision in self._told.get(fact, (revision,))
            for fact, revision in facts(before.sessions[at], after.sessions[at])
        )

    def _after(self, place: _Place, n: int, world: World) -> _Place:
        taken, first = place.taken | 1 << n - place.first, place.first
        while taken & 1:
            taken >>= 1
            first += 1
        return _Place(taken, first, max(place.floor, self._calls[n].began), world)

    def _told_so_far(self) -> str:
        """How far it went, and what did not fit."""
        assert self._deepest is not None
        depth, place = self._deepest
        lines = [f"after {depth} of {len(self._calls)} calls nothing fits:"]
        for n in self._candidates(place):
            done = self._calls[n]
            at = self._at[done.session_id]
            _, answer = step(place.world, at, done.call)
            got = done.answer if done.answered else "no answer"
            lines.append(
                f"  {done.session_id} [{done.began}, {done.ended}] {done.call} -> {got},"
                f" where the model says {answer}"
            )
        lines += [f"  {state}" for state in place.world.sessions]
        return "\n".join(lines)


def _changes_nothing(done: Done) -> bool:
    """Whether a call changes nothing wherever its answer is the right one."""
    return isinstance(done.call, Read | Stop) or isinstance(done.answer, Refused)


def facts(before: State, after: State) -> Iterator[tuple[tuple[object, ...], int]]:
    """What became so by a change, of what happens only once, and at which revision."""
    known = set(before.rows)
    for row in after.rows:
        if row not in known and row.key is None:
            yield ("row", row.db_id, row.text), row.revision
    if not before.exists:
        return  # a fork has its metadata since the revisions of its origin
    if after.name != before.name:
        yield ("name", after.name), after.revision
    for pair in after.metadata:
        if pair not in before.metadata:
            yield ("pair", *pair), after.revision
