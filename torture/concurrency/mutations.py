"""Faults of the kind that this campaign is to catch, planted in the library of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from sessionactor import _requests as requests
from sessionactor._actor import Actor
from sessionactor._deciding import _Group
from sessionactor._draft import Draft
from sessionactor._editing import Editing
from sessionactor._hub import Entry
from sessionactor._mailbox import Envelope, Mailbox
from sessionactor._newest import _View
from sessionactor._ownership import Ownership
from sessionactor._subscription import Subscription
from torture.campaign import Mutation

_NOTHING_TOLD = (
    requests.SaveMetadata | requests.SetState | requests.Begin | requests.End | requests.SetContext
)


@contextmanager
def _patched(*patches: tuple[Any, str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for target, name, value in patches:
            stack.enter_context(patch.object(target, name, value))
        yield


def _fault(*patches: tuple[Any, str, Any]) -> Mutation:
    return lambda: _patched(*patches)


def _forgetful_key(self: Draft, key: str) -> Any:
    return self._keys.get(key)


def _keep_new_key(self: Draft, key: Any) -> None:
    if self._look_up.key(key.key) is None:
        _keep_key(self, key)


_keep_key = Draft.keep_key


async def _truncate_at_once(self: Any, db_id: int, *, whole_turns: bool = False) -> int:
    rows = await self.messages(after=db_id - 1)
    truncating = asyncio.ensure_future(_truncate_from(self, db_id, whole_turns=whole_turns))
    truncating.add_done_callback(lambda done: done.cancelled() or done.exception())
    return len(rows)


_truncate_from = Editing.truncate_from


async def _drop_with_the_cancelled(self: Any, group: list[Envelope]) -> None:
    if any(envelope.reply.cancelled() for envelope in group):
        for envelope in group.copy():
            operations = envelope.content.operations
            if all(isinstance(one, _NOTHING_TOLD) for one in operations):
                envelope.answer((None,) * len(operations))
                group.remove(envelope)
    if group:
        await _commit(self, group)


_commit = Actor._commit


def _reuse_ids(self: Draft, *args: Any) -> None:
    _removed(self, *args)
    self.high_water = self.head


_removed = Draft._removed


async def _skip_what_came_meanwhile(self: Any, since: int) -> None:
    await _catch_up(self, since)
    self._cursor.skip_all()


_catch_up = Subscription._catch_up


def _take_all(self: Any, entry: Entry) -> None:
    if entry.kind == "committed":
        self._changes, self._next = entry.changes, 0
        self._revision = max(entry.revision or 0, self._revision or 0)
    else:
        _take(self, entry)


_take = Subscription._take


def _pop_and_let_nobody_in(self: Mailbox) -> Envelope:
    return self._queue.popleft()


def _claim_what_others_own(self: Ownership, session_id: str) -> None:
    with patch("fcntl.lockf"):
        _claim(self, session_id)


_claim = Ownership.claim


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


MUTATIONS: dict[str, Mutation] = {
    "a-key-applies-twice": _fault(
        (Draft, "key", _forgetful_key), (Draft, "keep_key", _keep_new_key)
    ),
    "truncated-before-it-is-done": _fault((Editing, "truncate_from", _truncate_at_once)),
    "dropped-with-a-cancelled-neighbour": _fault((Actor, "_commit", _drop_with_the_cancelled)),
    "a-stale-chapter-after-an-update": _fault((_View, "update", _nothing)),
    "the-high-water-mark-forgotten": _fault((Draft, "_removed", _reuse_ids)),
    "an-expected-head-not-checked": _fault((_Group, "_check_expectations", _nothing)),
    "an-event-missed-at-the-seam": _fault((Subscription, "_catch_up", _skip_what_came_meanwhile)),
    "an-event-repeated-at-the-seam": _fault((Subscription, "_take", _take_all)),
    "a-lost-wake-up": _fault((Mailbox, "pop", _pop_and_let_nobody_in)),
    "two-owners": _fault((Ownership, "claim", _claim_what_others_own)),
}

BETWEEN_PROCESSES: Final = {"concurrency/two-owners"}
"""Faults that show only in contests."""
