"""Whether a history of calls, and what subscribers were told meanwhile, can have been."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from torture.concurrency.calls import Done, Make, Take
from torture.concurrency.linearizability import Moment, Verdict, linearize
from torture.concurrency.subscribers import Follower, disagreement, facts_told


def verdicts(
    history: Sequence[Done],
    sessions: Sequence[str],
    followers: Sequence[Follower] = (),
) -> Iterator[Verdict]:
    """A verdict for each session, or for several that forks tie together."""
    for group in _groups(history, sessions):
        calls = [done for done in history if done.session_id in group]
        mine = [follower for follower in followers if follower.session_id in group]
        told: defaultdict[tuple[object, ...], set[int]] = defaultdict(set)
        for fact, revision in facts_told(mine):
            told[fact].add(revision)

        def refuse(
            order: list[Moment],
            mine: Sequence[Follower] = mine,
            group: Sequence[str] = group,
        ) -> str:
            wrong = (
                disagreement(follower, group.index(follower.session_id), order) for follower in mine
            )
            return next(filter(None, wrong), "")

        yield linearize(calls, group, told=told, refuse=refuse)


def _groups(history: Sequence[Done], sessions: Sequence[str]) -> list[list[str]]:
    groups = {session_id: [session_id] for session_id in sessions}
    taken = {done.call.number: done.session_id for done in history if isinstance(done.call, Take)}
    for done in history:
        if isinstance(done.call, Make) and done.call.number in taken:
            one, other = groups[done.session_id], groups[taken[done.call.number]]
            if one is not other:
                one += other
                groups.update(dict.fromkeys(one, one))
    return list({id(group): group for group in groups.values()}.values())
