"""Disks, files, limits and clocks that go wrong for a while.

    preload        calls of the system that fail on demand; a small disk
    kinds          what can be wrong
    callers        whom it concerns, and everybody else
    scene          a case: a fault comes and goes, and what is left
    rounds         cases in turn, rows of the table
    mutations      faults that have to be seen

How it is done: each case is a process of its own. One caller does all that can be done to a
session (see `kills.story`), two others append to a session beside it and to one in another
directory. Then something goes wrong, for the session, for the catalog or for the whole directory:
calls of the system fail, from one of the next ones on, once or until the end, by a library that is
preloaded and steered through shared memory; there is no room, made up by the same library, and on
a real file system of a megabyte where one may be mounted; files are moved, removed, replaced or
cut short; descriptors or memory run out; the clock jumps. Every call is answered within 20
seconds, by an answer or an error of ours that says of what and why; the others get answers only.
When it is over the first calls work again, all that was answered is there, what was not is there
whole or not at all, no descriptor and no thread is left, doctor and SQLite find the files sound,
and the catalog says what they say.

Assumed: Linux, a C compiler. Not promised: that what failed was not stored, which only a key makes
safe to repeat; that what other hands cut short, overwrote in place or removed while it was in use
is not lost; that a process survives when other hands cut a `-shm` file short; that a process out
of memory altogether serves anybody.
"""

from torture.campaign import Campaign
from torture.faults.mutations import MUTATIONS
from torture.faults.rounds import run

CAMPAIGN = Campaign(run, MUTATIONS)

__all__ = ["CAMPAIGN"]
