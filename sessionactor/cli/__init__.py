"""The command line `sessionactor`: sessions of a directory, looked at and looked after.

It stands on the public API alone, and needs the extra `cli` (click and rich).

    text, exits                      safe text; exit codes, and errors as messages
    json, messages                   records and rows as JSON, and as lines for people
    output                           a terminal, a pipe or a pager; progress bars
    place, options                   the directory; what all commands have in common
    finding, following               which session is meant; what happens to it
    listing, reading, changing,
    moving, tending                  the commands, a module for each group of them
    app                              all of them together
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

MISSING = (
    "the command line of sessionactor needs its extra, which is not installed ({missing} is"
    " missing): pip install 'sessionactor[cli]'\n"
)


def main() -> None:
    """Run the command line: the entry point."""
    try:
        from sessionactor.cli._app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("click", "rich"):
            raise
        sys.stderr.write(MISSING.format(missing=error.name))
        sys.exit(1)
    try:
        app(prog_name="sessionactor")
    except KeyboardInterrupt:  # pressed again, while what is open was being closed
        _leave()
    finally:
        signal.signal(signal.SIGINT, _leave)


def _leave(*_: object) -> NoReturn:
    """End at once: whatever is open survives that."""
    os._exit(130)


__all__ = ["main"]
