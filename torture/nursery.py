"""Processes that begin within milliseconds: children of one that has the package imported.

The parent has no threads and no event loop, so that forking it is safe. It reaps what dies, and
until then nobody else can get that process id.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from torture.campaign import environment

_REQUEST_BYTES: Final = 1 << 20
_PATIENCE_S: Final = 60


class Nursery:
    """Has processes forked, and waits for their ends."""

    def __init__(self, module: str, arguments: list[str], env: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_PATIENCE_S)
        for kind in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, kind, 2 * _REQUEST_BYTES)
        command = [sys.executable, "-W", "error", "-m", module]
        command += ["--socket", str(theirs.fileno()), *arguments]
        with theirs:
            self._parent = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=env, stdin=subprocess.DEVNULL
            )

    def spawn(self, job: object, out: int) -> int:
        """A process that does a job and writes to a pipe; its id."""
        socket.send_fds(self._socket, [json.dumps(["spawn", job]).encode()], [out])
        return int(self._answer())

    def wait(self, pid: int) -> int:
        """Wait until a process is dead, its files closed and its locks gone; its exit code.

        Negative: the signal that killed it.
        """
        self._socket.send(json.dumps(["wait", pid]).encode())
        return int(self._answer())

    def close(self) -> None:
        """End the parent; whoever still lives is not waited for."""
        self._socket.close()
        self._parent.wait(_PATIENCE_S)

    def _answer(self) -> Any:
        answer = self._socket.recv(_REQUEST_BYTES)
        if not answer:
            raise EOFError(f"the nursery ended with {self._parent.wait(_PATIENCE_S)}")
        return json.loads(answer)


@contextlib.contextmanager
def nursery(
    module: str, arguments: list[str], env: Mapping[str, str] | None = None
) -> Iterator[Nursery]:
    """A nursery that does not outlive the block."""
    running = Nursery(module, arguments, env or environment())
    try:
        yield running
    finally:
        running.close()


def serve(descriptor: int, work: Callable[[Any, int], None]) -> None:
    """Be the parent: fork a child that calls `work` for each job, until nobody asks any more."""
    with socket.socket(fileno=descriptor) as asked:
        while _serve(asked, work):
            pass


def _serve(asked: socket.socket, work: Callable[[Any, int], None]) -> bool:
    request, descriptors, _, _ = socket.recv_fds(asked, _REQUEST_BYTES, 1)
    if not request:
        return False
    kind, what = json.loads(request)
    if kind == "spawn":
        (out,) = descriptors
        pid = os.fork()
        if not pid:
            asked.close()
            _be_child(what, out, work)
        os.close(out)
        asked.send(json.dumps(pid).encode())
    else:
        _, status = os.waitpid(what, 0)
        asked.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())
    return True


def _be_child(job: Any, out: int, work: Callable[[Any, int], None]) -> None:
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        work(job, out)
        code = 0
    finally:
        os._exit(code)
