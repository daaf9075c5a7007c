"""The part of a registry that reads a little of many sessions."""

from __future__ import annotations

from collections.abc import Iterable

from sessionactor import _names as names
from sessionactor._errors import SessionNotFoundError
from sessionactor._finding import Finding
from sessionactor._records import Page
from sessionactor._requests import OnCorrupt
from sessionactor._session import Session


class Leafing(Finding):
    """Reads many sessions at once. Base of `SessionRegistry`."""

    async def latest_chapters(
        self, session_ids: Iterable[str], *, on_corrupt: OnCorrupt = "raise"
    ) -> dict[str, Page]:
        """The latest chapters of many sessions, each as `messages_from_latest_checkpoint` has it.

        By session id, in the order asked for; sessions that there are not are left out. Those
        that nobody uses here are read where they are, hundreds in the time that it takes to
        bring a few into use, and stay as they are; another process may own them.

        Raises:
            CorruptRowError: a row cannot be decoded, and is not to be passed over.
            InvalidNameError: one of them can be no id.
        """
        supervisor = self._usable()
        wanted = list(dict.fromkeys(names.check(session_id, "id") for session_id in session_ids))
        idle = [session_id for session_id in wanted if not supervisor.is_active(session_id)]
        found = await supervisor.latest(idle, on_corrupt)
        pages: dict[str, Page] = {}
        for session_id in wanted:
            page = found.get(session_id)
            if page is None:
                session = self.session(session_id)
                try:
                    page = await session.messages_from_latest_checkpoint(on_corrupt=on_corrupt)
                except SessionNotFoundError:
                    continue
            pages[session_id] = page
        return pages

    def session(self, session_id: str) -> Session:
        """A handle."""
        raise NotImplementedError


__all__ = ["Leafing"]
