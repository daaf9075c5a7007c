"""What is wrong in a directory of sessions, and repairing what is safe: a layer of its own.

It looks at files, not at a registry's index, and so sees what registries pass over; it works
beside processes that have sessions open. `check` and `repair` block.

    finding           what is wrong with a file
    content           what is wrong inside of one
    listing           what is wrong around them, and all files in turn
    repairing         what is safe to do about it
    agreement         whether the catalog says what the files say
"""

from sessionactor.checkup._agreement import check_catalog, has_catalog
from sessionactor.checkup._finding import Finding, Problem
from sessionactor.checkup._listing import check
from sessionactor.checkup._repairing import repair

__all__ = ["Finding", "Problem", "check", "check_catalog", "has_catalog", "repair"]
