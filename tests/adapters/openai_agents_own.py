"""Fetches OpenAI Agents' source distribution and runs its own tests with `ActorSession`.

`python openai_agents_own.py <directory for the sources>`: of the version that is installed. What
is run, and with what, is in `openai_agents_plugin.py`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

NAME = "openai-agents"
HERE = Path(__file__).parent
USES = re.compile(r"(?<!\w)SQLiteSession\b")
OF_OTHERS = {"test_async_sqlite_session.py", "test_advanced_sqlite_session.py"}


def sources(directory: Path) -> Path:
    """The unpacked source distribution, downloaded if it is not there."""
    found = directory / f"openai_agents-{version(NAME)}"
    if not found.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        what = ["--no-binary", NAME, "--dest", str(directory), f"{NAME}=={version(NAME)}"]
        subprocess.run([*pip, *what], check=True)
        with tarfile.open(f"{found}.tar.gz") as archive:
            archive.extractall(directory, filter="data")
    return found


def files(tree: Path) -> list[str]:
    """The files with tests that use `SQLiteSession`, but for those of its subclasses."""
    return sorted(
        str(path.relative_to(tree))
        for path in (tree / "tests").rglob("test_*.py")
        if path.name not in OF_OTHERS and USES.search(path.read_text())
    )


def main() -> int:
    tree = sources(Path(sys.argv[1]).absolute())
    path = [str(HERE.parent.parent), str(HERE), str(tree)]
    pytest = [sys.executable, "-m", "pytest", "-p", "openai_agents_plugin", "--whole", "--quiet"]
    loops = ["-o", "asyncio_default_fixture_loop_scope=function", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*pytest, *loops, *sys.argv[2:], *files(tree)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
