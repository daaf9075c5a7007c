"""The framework's own tests of checkpoint savers, as published: every one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.conformance import capabilities, initializer, report, validate
from langgraph.checkpoint.conformance.spec import (
    test_copy_thread,
    test_delete_for_runs,
    test_delete_thread,
    test_get_tuple,
    test_list,
    test_prune,
    test_put,
    test_put_writes,
)

from sessionactor.adapters.langgraph import ActorSaver

Test = Callable[[Any], Awaitable[None]]
TESTS: list[Test] = [
    *test_put.ALL_PUT_TESTS,
    *test_put_writes.ALL_PUT_WRITES_TESTS,
    *test_get_tuple.ALL_GET_TUPLE_TESTS,
    *test_list.ALL_LIST_TESTS,
    *test_delete_thread.ALL_DELETE_THREAD_TESTS,
    *test_delete_for_runs.ALL_DELETE_FOR_RUNS_TESTS,
    *test_copy_thread.ALL_COPY_THREAD_TESTS,
    *test_prune.ALL_PRUNE_TESTS,
]


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.__name__.removeprefix("test_"))
async def test_conformance(test: Test, tmp_path: Path) -> None:
    async with ActorSaver(tmp_path) as saver:
        await test(saver)


async def test_their_runner_detects_all_capabilities_and_passes_every_test(tmp_path: Path) -> None:
    directories = iter(range(100))

    @initializer.checkpointer_test(name="ActorSaver")
    async def saver() -> Any:
        async with ActorSaver(tmp_path / str(next(directories))) as one:
            yield one

    found: report.CapabilityReport = await validate(saver)
    assert set(found.results) == {one.value for one in capabilities.Capability}
    assert [one.failures for one in found.results.values()] == [[]] * 8
    assert all(one.detected and one.passed for one in found.results.values())
    assert sum(one.tests_passed for one in found.results.values()) == len(TESTS) == 81
