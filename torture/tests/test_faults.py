"""The tools of the faults: what is to fail fails, where it is to, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from torture.campaign import Budget
from torture.faults.kinds import KINDS
from torture.faults.preload import prepare
from torture.faults.rounds import run

SCRIPT = """
import errno, os, sqlite3, sys, time
from torture.faults.preload import Control

here, there = sys.argv[1:]
control = Control()

def written(path, data=b"x"):
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        return os.write(descriptor, data)
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.close(descriptor)

control.fail("write", errno.EIO, here, skip=1, times=2)
assert [written(here) for _ in range(5)] == [1, "EIO", "EIO", 1, 1]
assert control.hits == 2
control.fail("write", errno.EIO, here)
assert [written(here), written(there), written(here)] == ["EIO", 1, "EIO"]
control.fill(10, here)
assert [written(here, b"x" * 8) for _ in range(3)] == [8, 2, "ENOSPC"]
before = time.time()
control.turn_clock(-86_400)
assert before - time.time() > 86_000
control.clear()
assert abs(time.time() - before) < 60
connection = sqlite3.connect(here + ".db")
control.fail("sync", errno.EIO, here)
try:
    connection.execute("CREATE TABLE t (x)")
except sqlite3.OperationalError:
    pass
else:
    raise AssertionError("SQLite did not notice")
connection.close()
"""


def test_calls_fail_on_demand_on_some_paths(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    environment = prepare(tmp_path)
    command = [sys.executable, "-c", SCRIPT, str(here), str(there)]
    subprocess.run(command, check=True, env=environment)


def test_a_case_can_be_seen_again_alone() -> None:
    first = run(Budget(seed=5, seconds=0, case="3"))
    again = run(Budget(seed=5, seconds=0, case="3"))
    assert [row.cases for row in first] == [row.cases for row in again]
    assert sum(row.cases for row in first) == 2  # of its family, and of everybody else
    assert not any(row.failures for row in first)


def test_every_kind_is_of_a_family_that_is_told_of() -> None:
    assert {kind.family for kind in KINDS.values()} == {
        "disk full", "calls", "by hand", "limits", "clock",
    }  # fmt: skip
