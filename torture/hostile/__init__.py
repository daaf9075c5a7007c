"""Hostile input: nothing that comes in from outside reaches, stalls or kills anything else.

    area               an area of input; a bystander that must not be disturbed
    codec, rows        bytes where a message should be; garbage in the columns of rows
    messages, values   messages and all other arguments of calls
    naming, queries    ids, names and patterns; queries and cursors
    lines              files of exports, of all three formats
    files, catalogs    database files, their logs and indices; the catalog's
    entries            a directory of links, pipes, sockets and names that nearly match
    garbage, comparing makes such input; tells whether a message came back as it was
    watch, child       what a process did that it should not; one that is watched
    areas, running     all of them; processes that hold the library against them, two at a time
    mutations          faults to be caught

How. Each area has a registry in a process of its own, is given input in rounds, a few to fifty
inputs each, and sees that every call returns what it promises or raises an error of this package,
and that a bystander in the same registry goes on. A round over one second of processor time, or
four of time, is a failure; one over ten is ended with its stack; so is a process that dies, or
that comes to hold more than 384 MiB. Python tells of every file that the library opens, makes or
removes (`sys.addaudithook`); what SQLite itself writes shows in a canary, files beside the
directory to which links of the directory lead. A case is `area:round`.

Assumed. Callers' own classes may raise anything, and return anything, but return. Nobody changes
the directory between a look at an entry and its use: links put there in that moment are followed.

Not promised. A message takes memory as it is written out, up to 70 times its encoded size where it
is nothing but empty containers; one that holds a list 2^30 times over takes as much. Keys that
are integers chosen to collide in Python's hashes make maps slow. Flipped bits that leave a page and
a message well-formed are not noticed: there are no check sums. A file that somebody made with
triggers or views of his own runs them.
"""

from __future__ import annotations

from torture.campaign import Campaign
from torture.hostile.mutations import MUTATIONS
from torture.hostile.running import run

CAMPAIGN = Campaign(run, MUTATIONS)
