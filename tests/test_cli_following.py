"""What `tail` prints where the past meets the present."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessionactor import CorruptRowError, Deleted, Event, Lagged, Session, Updated
from sessionactor.cli._following import follow
from sessionactor.cli._output import Output
from sessionactor.testing import memory_registry


class Meanwhile:
    """A session to which something happens between two looks at it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.since: list[int | None] = []

    async def revision(self) -> int:
        revision = await self.session.revision()
        await self.session.append("a", {"content": "meanwhile"})
        await self.session.update(1, {"content": "changed"})
        return revision

    async def messages(self, **options: Any) -> Any:
        return await self.session.messages(**options)

    def subscribe(self, *, since: int | None, agent_id: str | None) -> AsyncIterator[Event]:
        self.since.append(since)
        return self.events(since)

    async def events(self, since: int | None) -> AsyncIterator[Event]:
        async for event in self.session.subscribe(since=since):
            yield event
            if event.revision == await self.session.revision():
                break
        yield Deleted(99)


async def told(session: Any, capsys: pytest.CaptureFixture[str], **options: Any) -> list[Any]:
    values = {"count": 10, "agent_id": None, "live": True, "full": False, "on_corrupt": "raise"}
    await follow(session, Output(as_json=True), **{**values, **options})
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def test_what_happens_while_it_begins_is_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with memory_registry() as registry:
        session = await registry.start()
        await session.append("a", {"content": "first"})
        events = await told(Meanwhile(session), capsys)
    said = [(event["event"], event.get("row", {}).get("message")) for event in events]
    assert said == [
        ("appended", {"content": "changed"}),
        ("appended", {"content": "meanwhile"}),
        ("deleted", None),
    ]


async def test_one_that_is_too_slow_goes_on_where_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Slow(Meanwhile):
        async def events(self, since: int | None) -> AsyncIterator[Event]:
            yield Lagged(7) if since != 7 else Deleted(8)

    async with memory_registry() as registry:
        session = await registry.start()
        await session.append("a", {"content": "first"})
        slow = Slow(session)
        events = await told(slow, capsys, count=0)
    assert slow.since == [1, 7]
    assert [event["event"] for event in events] == ["deleted"]


async def test_an_undecodable_row_ends_it_unless_it_is_to_be_passed_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Corrupt(Meanwhile):
        def subscribe(self, *, since: int | None, agent_id: str | None) -> AsyncIterator[Event]:
            return Once()

    class Once(AsyncIterator[Event]):
        calls = 0

        async def __anext__(self) -> Event:
            self.calls += 1
            if self.calls == 1:
                raise CorruptRowError("row 3", db_id=3)
            if self.calls == 2:
                return Deleted(4)
            raise StopAsyncIteration

    async with memory_registry() as registry:
        session = await registry.start()
        await session.append("a", {"content": "first"})
        with pytest.raises(CorruptRowError):
            await told(Corrupt(session), capsys, count=0)
        events = await told(Corrupt(session), capsys, count=0, on_corrupt="skip")
    assert [event["event"] for event in events] == ["deleted"]


async def test_a_reply_that_grows_is_printed_as_it_grows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Growing(Meanwhile):
        async def revision(self) -> int:
            return await self.session.revision()

        async def events(self, since: int | None) -> AsyncIterator[Event]:
            row = await self.session.head()
            assert row is not None
            for text in ("One two", "One two", "One two three", "Other"):
                yield Updated(2, row._replace(message={"content": text}, revision=2))

    async with memory_registry() as registry:
        session = await registry.start()
        await session.append("a", {"content": "One"})
        await follow(
            Growing(session),  # type: ignore[arg-type]
            Output(as_json=False),
            count=1,
            agent_id=None,
            live=True,
            full=False,
            on_corrupt="raise",
        )
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == ["One", " two", " three"]
    assert "new text" in lines[4]
    assert lines[5] == "Other"
