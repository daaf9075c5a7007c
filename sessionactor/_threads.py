"""Having a pool's threads do what blocks."""

from __future__ import annotations

import errno
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Generic, TypeVar

_T = TypeVar("_T")


def submit(executor: Executor, function: Callable[..., _T], *args: object) -> Future[_T]:
    """Have a function called in a thread; cancelled before that, it is not called.

    Raises:
        OSError: no thread can be started; the function is not called, now or later.
    """
    work = _Work(partial(function, *args))
    try:
        executor.submit(work)
    except RuntimeError as error:
        # It waits for a thread all the same, unless it is taken back before one comes.
        if work.future.cancel():
            raise OSError(errno.EAGAIN, str(error)) from error
    return work.future


class _Work(Generic[_T]):
    def __init__(self, function: Callable[[], _T]) -> None:
        self.future: Future[_T] = Future()
        self._function = function

    def __call__(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self._function()
        except BaseException as error:
            self.future.set_exception(error)
            del self  # which the error would keep, and that the error
        else:
            self.future.set_result(result)


__all__ = ["submit"]
