"""For the tests of those who use sessionactor, or who bring another store or transport.

    memory_registry                   sessions without files and threads, for quick tests
    MemoryVault                       the same as a store: `open_store=vault.open_store`
    Faults, faulty_store              a store that fails, crashes or stalls when it is told to
    SessionContract, StoreContract    tests that every transport, every store has to pass

Nothing here needs more than the package itself. The contract suites run under pytest,
with or without any of its plugins.
"""

import sys

if "pytest" in sys.modules:  # a failed assertion of the suites then says what differed
    for _part in ("writing", "editing", "turns", "reading", "copies", "store"):
        sys.modules["pytest"].register_assert_rewrite(f"sessionactor.testing._{_part}_contract")

from sessionactor.testing._faults import Faults, FaultyStore, Stall, Step, When, faulty_store
from sessionactor.testing._memory import MemoryStore, MemoryVault, memory_registry
from sessionactor.testing._store_contract import SessionContract, StoreContract

__all__ = [
    "Faults",
    "FaultyStore",
    "MemoryStore",
    "MemoryVault",
    "SessionContract",
    "Stall",
    "Step",
    "StoreContract",
    "When",
    "faulty_store",
    "memory_registry",
]
