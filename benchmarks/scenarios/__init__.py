"""What is measured. Every figure comes from files of its own, filled before the clock starts.

appending     messages stored: one caller, many, many sessions
reading       the end and the whole of a history, chapters, beside writers
lifetimes     sessions passivated; a hundred thousand of them
listing       a page of sessions
searching     search, and the making of its index
cataloguing   appends beside the catalog; the catalog after a kill
subscribing   appends beside subscribers
copying       forks, backups, compacting
exchanging    JSON Lines out and in
adapting      the frameworks' own interfaces, on sessions and on their own stores
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from benchmarks.harness import Section
from benchmarks.scenarios.adapting import adapters
from benchmarks.scenarios.appending import appends_1, appends_100, latency, many_sessions
from benchmarks.scenarios.cataloguing import catalog, catching_up
from benchmarks.scenarios.copying import copying
from benchmarks.scenarios.exchanging import exchanging
from benchmarks.scenarios.lifetimes import many_files, passivated
from benchmarks.scenarios.listing import listing
from benchmarks.scenarios.reading import beside_a_reader, chapters, reads
from benchmarks.scenarios.searching import rebuilding, searching
from benchmarks.scenarios.subscribing import subscribers
from benchmarks.settings import Settings

SCENARIOS: dict[str, Callable[[Settings], Awaitable[list[Section]]]] = {
    scenario.__name__.replace("_", "-"): scenario
    for scenario in (
        appends_100,
        appends_1,
        latency,
        many_sessions,
        chapters,
        reads,
        beside_a_reader,
        passivated,
        many_files,
        listing,
        searching,
        rebuilding,
        catalog,
        catching_up,
        subscribers,
        copying,
        exchanging,
        adapters,
    )
}
"""By the names that `--only` takes."""
