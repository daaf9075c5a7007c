"""Processes that are killed, stopped and told to end while they work in one directory.

    points         the named steps at which one dies
    story          what callers do, so that others know what has to be there
    ledger         what victims said: what they asked, what they were answered
    victim         what a process does until it is killed
    verdict        what is there, held against what was answered
    rounds         cases, what happens to processes in them, rows of the table
    mutations      faults that have to be seen

How it is done: two processes at a time work in one directory, each with sessions of its own:
two callers who share a session, one who does all that can be done to a session, one who begins
and ends turns, one who makes, renames, forks, compacts, backs up, exports, imports and deletes
sessions. Each says every call before it makes it and every answer as soon as it has it, into a
pipe. It is killed at a moment or at a named step (before and after what an actor asks of its
store, calls of the system that make, move and remove files, statements of SQL of sessions, copies
and the catalog), and the next one takes its sessions at once and repeats by its key what was not
answered. When all are dead, what is there is held against what was heard.

Assumed: Linux, a local file system; the machine itself goes on (see `power_loss` for that).
Not promised: that what was not answered did not happen; that a killed process leaves no file
behind (a draft, a `.part` file, a log: doctor knows them, and drafts and logs go by themselves);
that a session is its owner's while it is out of use.
"""

from torture.campaign import Campaign
from torture.kills.mutations import MUTATIONS
from torture.kills.rounds import run

CAMPAIGN = Campaign(run, MUTATIONS)

__all__ = ["CAMPAIGN"]
