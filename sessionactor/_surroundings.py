"""What all the activations of a registry share."""

from __future__ import annotations

from dataclasses import dataclass, field

from sessionactor._capacity import Capacity
from sessionactor._catalog import Catalog, NoCatalog
from sessionactor._copies import Copies
from sessionactor._directory import Directory
from sessionactor._hub import Hub
from sessionactor._opening import Durability
from sessionactor._store import OpenStore


@dataclass
class Counters:
    """What a registry counts."""

    activations: int = 0
    passivations: int = 0
    requests: int = 0
    commits: int = 0
    crashes: int = 0


@dataclass
class Surroundings:
    """What all the activations of a registry share."""

    directory: Directory
    open_store: OpenStore
    durability: Durability
    capacity: Capacity
    copies: Copies
    hub: Hub
    catalog: Catalog | NoCatalog
    token: str
    """Says whose `running` is stored."""
    running: set[str] = field(default_factory=set)
    """Sessions that this registry runs: it stays their owner while they are passivated."""
    counters: Counters = field(default_factory=Counters)
