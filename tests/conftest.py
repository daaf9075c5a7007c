from __future__ import annotations

import gc
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A shell that runs tests in the background lets them ignore Ctrl-C, and all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "sessionactor",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("sessionactor")


def pytest_collection_finish() -> None:
    """What is imported and collected lives to the end: no garbage collection looks at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where a registry keeps its sessions: what holds on disk holds in memory."""
    return tmp_path / "sessions" if request.param == "disk" else None
