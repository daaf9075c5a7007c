"""What has to be done before the interpreter exits."""

from __future__ import annotations

import threading
from collections.abc import Callable


def before_threads_are_joined(call: Callable[[], None]) -> None:
    """Have something called at exit while threads still work.

    Frameworks' synchronous calls run in loops that nobody ever closes. The interpreter waits for
    the threads of open files before it calls what `atexit` knows, and that would be for ever;
    what executors end their threads with is called earlier.
    """
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(call)
