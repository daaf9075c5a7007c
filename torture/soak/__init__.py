"""The load of an agent server for a stated time: nothing grows, nothing slows down.

    gauges         what a process has: threads, descriptors, locks, tasks, objects, memory, logs
    agents         what the callers do
    load           the process under load, which says a sample after the other
    judging        samples held against each other and against bounds
    rounds         the load started and listened to, rows of the table
    mutations      faults that have to be seen

How it is done: a process of its own has one registry with eight places and short patience for
idle sessions. Forty agents work on some two hundred sessions: they append, extend, read the
latest chapter, write summaries, list, search, truncate, fork, delete, create, follow, leave, stop
sessions, give up calls, and let actors crash; two more write much and hardly pause, so that logs
get full, one of them to a session of another registry, which never goes out of use. The number of
sessions stays level. Ten times a second it is looked what the process has, twice a second after a
collection what objects of this package, tasks, threads and connections live; the clock that
latencies are taken by stands still meanwhile. The second fifth of the time is held against the
last one: medians may differ by the load's own swing, latencies by a factor of three. At the end,
with the registries closed, there is nothing more than before they were opened.

Assumed: Linux; a machine whose speed does not change threefold meanwhile. Not promised: how much
memory there is, only that it does not grow by more than a stated amount a second; a bound on the
log of a session that somebody reads without an end. How late the event loop is, is told and not
judged: the machine may be shared.
"""

from torture.campaign import Campaign
from torture.soak.mutations import MUTATIONS
from torture.soak.rounds import run

CAMPAIGN = Campaign(run, MUTATIONS)

__all__ = ["CAMPAIGN"]
