"""Where no thread can be started any more."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest
from waiting import PATIENCE_S

from sessionactor import SessionRegistry, StorageError
from sessionactor._threads import submit
from sessionactor.interchange import export_session, import_session


@contextlib.contextmanager
def no_more_threads() -> Iterator[None]:
    """As where the system's limit is reached."""

    def refuse(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


async def test_a_registry_that_gets_no_thread_says_so(tmp_path: Path) -> None:
    with no_more_threads(), pytest.raises(StorageError, match="start new thread"):
        await SessionRegistry(tmp_path).open()
    async with SessionRegistry(tmp_path) as registry:
        assert await registry.find("*") == []


def test_what_gets_no_thread_is_not_done_later_either() -> None:
    """What a pool was given stays in its queue, for the next thread that has time."""
    free, called = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as pool:
        submit(pool, free.wait, PATIENCE_S)
        with no_more_threads(), pytest.raises(OSError, match="start new thread"):
            submit(pool, called.set)
        free.set()
    assert not called.is_set()


def test_what_got_no_thread_of_its_own_may_find_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is there may have taken it before it was known that no other one comes."""
    free, taken = threading.Event(), threading.Event()

    def refuse_when_taken(_: threading.Thread) -> NoReturn:
        free.set()
        assert taken.wait(PATIENCE_S)
        raise RuntimeError("can't start new thread")

    with ThreadPoolExecutor(2) as pool:
        submit(pool, free.wait, PATIENCE_S)
        monkeypatch.setattr(threading.Thread, "start", refuse_when_taken)
        assert submit(pool, lambda: (taken.set(), "done")).result(PATIENCE_S) == (None, "done")


async def test_who_imports_or_exports_and_gets_no_thread_is_told_so(tmp_path: Path) -> None:
    async with SessionRegistry(None) as registry:
        session = await registry.start("s")
        await session.append("a", {"role": "user", "content": "x"})
        with no_more_threads():
            with pytest.raises(OSError, match="start new thread"):
                await export_session(registry, "s", tmp_path / "s.jsonl")
            with pytest.raises(OSError, match="start new thread"):
                await import_session(registry, tmp_path / "s.jsonl")
        assert list(tmp_path.iterdir()) == []
        await export_session(registry, "s", tmp_path / "s.jsonl")
        assert (tmp_path / "s.jsonl").is_file()
