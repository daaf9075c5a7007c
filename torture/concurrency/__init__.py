"""Calls at once: each happens at one moment between its beginning and its end.

    interleavings        tasks on a registry in memory, stepped through by chance
    contests             processes with tasks on one directory, some of them killed

    calls                what is asked, and what came of it
    drawing, asking      draws a call by chance; makes it, and puts its answer plainly
    model, writing       a session by the book, as an immutable value
    linearizability      finds the order in which the calls of a history happened
    subscribers          whether what a subscriber was told is what happened, in that order
    judging              the two together
    loop                 an event loop in which chance says who goes on; no time passes in it
    interleaving         one case of the first kind
    contest, contender   one case of the second kind, and a process of it
    mutations            faults that have to be seen

The first kind has no threads and no disk: its store is `sessionactor.testing.MemoryVault`, its
catalog is in memory, and everything is stepped through in an order that the seed gives, so that
a case is seen again exactly. The second kind has all of that, and so is another history each
time: a failure comes with what of its history does not fit.

Assumed: a call that was cancelled and accepted is carried out in the order of its mailbox; a
killed process does nothing once it is reaped; the processes of a machine share a clock. Where
calls have no answer there may be very many orders: a search that gives up counts as undecided.

Not looked at: subscriptions to sessions that move from process to process, turns in them (a new
owner says `interrupted` by itself), what the catalog says while others change it, and orders
among several sessions, which nobody promises.
"""

from __future__ import annotations

from dataclasses import replace
from time import monotonic

from torture.campaign import Budget, Campaign
from torture.concurrency.contests import Contests
from torture.concurrency.interleavings import Interleavings
from torture.concurrency.mutations import BETWEEN_PROCESSES, MUTATIONS
from torture.report import Row

_SLICE_S = 6.0
"""For interleavings, before the next contest."""


def run(budget: Budget) -> list[Row]:
    """Both kinds in turn; `--case p0` is a contest, `--case 0` an interleaving."""
    interleavings, contests = Interleavings(), Contests()
    rows = [*interleavings.rows, *contests.rows]
    only_contests = budget.mutation in BETWEEN_PROCESSES
    while True:
        if not only_contests and (budget.case is None or not budget.case.startswith("p")):
            slice_s = min(_SLICE_S, max(budget.left, 0.0))
            interleavings.run(replace(budget, seconds=slice_s, started=monotonic()))
        if (budget.case is None or budget.case.startswith("p")) and not budget.done(rows):
            contests.run(budget)
        if budget.case is not None or budget.done(rows):
            return rows


CAMPAIGN: Campaign = Campaign(run, MUTATIONS)

__all__ = ["CAMPAIGN", "run"]
