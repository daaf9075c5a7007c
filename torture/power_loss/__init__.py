"""Power loss: whatever was on its way to the disk is there, or not, or in part.

    recorder.c   is loaded into a process before its libc, and notes what that does to files
    recording    compiles it, runs a process with it, and reads the notes
    victim       that process: random calls, and marks that say what was asked and answered
    preparing    what it finds: nothing, a file of version 1, what a killed process left behind
    snapshot     what a session shows of itself
    disk         from the notes, what may be there if the power went at any moment
    verdict      from the marks, what a session may be then
    recovery     opens what is there with the library, reads it all, and goes on with it
    rounds       a victim after the other, and many losses of its power: `run`
    mutations    faults that this has to catch

A victim keeps at most three sessions: it creates, forks, renames, deletes, compacts and backs
them up, appends alone, in groups, in batches and with keys, truncates, removes and updates. Of
its trace 60 moments are chosen by chance, names and syncs and answers more often than others.
For each it is chosen what of the unsynced was kept: nothing, all, a part in order, any mixture of
sectors (512 bytes) or pages (4 KB) of several moments, sizes, unwritten parts full of rubbish;
new names, renamings and removals of a directory all, none, in order, or each by itself.

Assumed: what was synced is there (the disk honours flushes); syncing a file says nothing of its
name; a sector is written whole; a renaming, and cutting off a file, happen as a whole; a file's
name does not lead to what another file holds. Not assumed: any order of anything else.

Held: at `full` a session is in the state after its last answered call, or after one that was asked
for since; at `normal` in one of those since it was created, forked or renamed. Keys and ids go on
from there, the catalog lists and finds just what is there, and no file is left half-made. A
backup that was answered is whole.

Some victims begin with what a loss of power left of another one, so that the power goes again
while that is put right. Not held: sessions whose files other hands put there and never synced,
and files that are damaged after they were synced.
"""

from torture.campaign import Campaign
from torture.power_loss.mutations import MUTATIONS
from torture.power_loss.rounds import run

CAMPAIGN = Campaign(run, MUTATIONS)

__all__ = ["CAMPAIGN"]
