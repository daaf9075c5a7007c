"""The part of a registry that finds sessions: by id, by name, and through the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

from sessionactor import _names as names
from sessionactor._catalog_queries import Listing, Search
from sessionactor._changes import StateName
from sessionactor._commands import Expire
from sessionactor._cursors import Order
from sessionactor._errors import (
    AmbiguousNameError,
    InvalidTypeError,
    SchemaVersionError,
    SessionNotFoundError,
    SessionOwnedError,
    not_found,
)
from sessionactor._indexer import Progress
from sessionactor._queries import check_age, check_glob, check_listing, check_search, check_text
from sessionactor._records import (
    ChildRow,
    CleanupReport,
    SearchHit,
    SessionFile,
    SessionInfo,
    SessionList,
)
from sessionactor._rows import decoded
from sessionactor._supervisor import Supervisor
from sessionactor._times import now

_PAGE: Final = 500


class Finding:
    """Finds sessions and messages of all of them. Base of `SessionRegistry`.

    What needs the catalog raises `NoCatalogError` where the registry was told to have none, and
    `StorageError` where the catalog can be neither read nor made anew. It sees all that was
    answered before the call.
    """

    async def exists(self, session_id: str) -> bool:
        """Whether there is such a session."""
        supervisor = self._usable()
        try:
            return await supervisor.find(names.check(session_id, "id")) is not None
        except SchemaVersionError:
            return True

    async def find_by_id(self, session_id: str) -> SessionFile:
        """Where a session is.

        Raises:
            SessionNotFoundError: there is none of that id.
        """
        file = await self._usable().find(names.check(session_id, "id"))
        if file is None:
            raise not_found(session_id)
        return file

    async def find_by_name(self, name: str) -> SessionFile:
        """The session of that name.

        Raises:
            SessionNotFoundError: there is none.
            AmbiguousNameError: there are several; it lists their ids.
        """
        found = await self._usable().directory.named(names.check(name, "name"))
        if not found:
            raise SessionNotFoundError(f"no session has the name {name!r}")
        if len(found) > 1:
            ids = tuple(file.session_id for file in found)
            raise AmbiguousNameError(
                f"{len(ids)} sessions have the name {name!r}: {', '.join(ids)}; use an id",
                session_ids=ids,
            )
        return found[0]

    async def find_by_prefix(self, prefix: str) -> list[SessionFile]:
        """All sessions whose ids begin so, sorted by name, then id: for ids that are shortened."""
        if not isinstance(prefix, str):
            raise InvalidTypeError(f"a prefix is a str, not {type(prefix).__name__}")
        return await self._usable().directory.starting(prefix)

    async def find(self, pattern: str) -> list[SessionFile]:
        """All sessions whose names match a glob such as `"crazy-*"`, sorted by name, then id.

        The pattern is that of `fnmatch.fnmatchcase`, of 1,000 characters at most.

        Raises:
            InvalidTypeError: the pattern is no `str`.
            InvalidValueError: it is too long.
        """
        return await self._usable().directory.glob(check_glob(pattern))

    async def sessions(
        self,
        *,
        name: str | None = None,
        state: StateName | None = None,
        agent_alias: str | None = None,
        channel_id: str | None = None,
        room_id: str | None = None,
        sender_id: str | None = None,
        metadata: Mapping[str, object] | None = None,
        active: bool | None = None,
        updated_after: datetime | None = None,
        updated_before: datetime | None = None,
        order: Order = "updated",
        limit: int = 50,
        cursor: str | None = None,
    ) -> SessionList:
        """A page of the sessions that pass all filters, and the cursor of the next page.

        It costs what the page costs, however many sessions there are.

        Args:
            name: A glob such as `"crazy-*"`, as for `find`.
            state: Only sessions in this state.
            agent_alias: Only sessions with this one …
            channel_id: … or with this field …
            room_id: … of the context …
            sender_id: … and so on.
            metadata: Only sessions that have all of these pairs.
            active: Only sessions whose actor runs here now, or, `False`, the others.
            updated_after: Only sessions that changed after this (aware) time …
            updated_before: … or before it.
            order: `"updated"`: what changed last comes first; a session that changes during
                the walk comes once more at its end. `"created"`: the oldest first, and each
                exactly once.
            limit: At most so many.
            cursor: The one that the page before came with; the filters should be the same.

        Raises:
            ValueError: a cursor of another order, or none at all; a limit below 1; a state
                that there is not; a time without a zone.
        """
        supervisor = self._usable()
        asked = check_listing(
            Listing(
                order, limit, cursor, name, state, agent_alias, channel_id, room_id, sender_id,
                active=active,
            ),
            metadata,
            updated_after,
            updated_before,
        )  # fmt: skip
        if active is not None:
            asked = asked._replace(active_ids=supervisor.running_ids())
        return SessionList(*await supervisor.ask_catalog(supervisor.catalog.sessions(asked)))

    async def metadata(
        self,
        session_ids: Iterable[str] | None = None,
        *,
        agent_alias: str | None = None,
        channel_id: str | None = None,
        room_id: str | None = None,
        sender_id: str | None = None,
    ) -> dict[str, dict[str, str | None]]:
        """The metadata of all these sessions, or of all that pass the filters, in one look.

        By session id. Sessions that there are not are left out.

        Raises:
            InvalidNameError: one of them can be no id.
        """
        supervisor = self._usable()
        if session_ids is not None:
            session_ids = [names.check(session_id, "id") for session_id in session_ids]
        asked = check_listing(
            Listing(
                agent_alias=agent_alias,
                channel_id=channel_id,
                room_id=room_id,
                sender_id=sender_id,
            ),
            None,
            None,
            None,
        )
        return await supervisor.ask_catalog(supervisor.catalog.metadata(session_ids, asked))

    async def search(
        self,
        query: str,
        *,
        limit: int = 20,
        session_id: str | None = None,
        agent_id: str | None = None,
        order: Literal["newest", "rank"] = "newest",
        by: Literal["message", "session"] = "message",
    ) -> list[SearchHit]:
        """The messages in whose text all words of a query are.

        Args:
            query: Words; `"quoted phrases"`; `foo*` for words that begin so. Any other
                character is text, so that no query is an error. In Chinese, Japanese and
                Korean any two or more characters in a row are found.
            limit: At most so many.
            session_id: Only in this session.
            agent_id: Only what this agent said.
            order: `"newest"` first, or by relevance (`"rank"`, bm25).
            by: `"session"`: of each session only the first hit in that order.
        """
        supervisor = self._usable()
        asked = check_search(Search(query, limit, session_id, agent_id, order, by))
        return await supervisor.ask_catalog(supervisor.catalog.search(asked))

    async def running(self) -> list[SessionInfo]:
        """The sessions in state `running`, here or in another process, the oldest turn first."""
        supervisor = self._usable()
        return await supervisor.ask_catalog(supervisor.catalog.running())

    async def stuck(self, older_than: timedelta) -> list[SessionInfo]:
        """Those that have been running for longer than that, the oldest turn first."""
        before = now() - check_age(older_than)
        return [
            info
            for info in await self.running()
            if info.turn_started_at is not None and info.turn_started_at.timestamp() * 1e6 < before
        ]

    async def children(self, parent: str) -> list[ChildRow]:
        """All rows of all sessions whose `parent` is that, in the order of their times.

        Raises:
            CorruptRowError: one of them cannot be decoded.
        """
        supervisor = self._usable()
        found = await supervisor.ask_catalog(
            supervisor.catalog.children(check_text("parent", parent))
        )
        wanted: dict[str, list[int]] = {}
        for child in found:
            wanted.setdefault(child.session_id, []).append(child.db_id)
        rows = {
            (session_id, row.db_id): row
            for session_id, db_ids in wanted.items()
            for row in decoded(await supervisor.rows(session_id, db_ids), "raise", session_id)
        }
        return [
            ChildRow(session_id, name, rows[session_id, db_id])
            for session_id, name, db_id in found
            if (session_id, db_id) in rows  # and was not removed meanwhile
        ]

    async def cleanup(self, older_than: timedelta, *, dry_run: bool = False) -> CleanupReport:
        """Delete the sessions to which nothing happened for that long.

        Never one that is running or in use, here or in another process: age and state are
        looked at again once the session is ours. An error on one stops none of the others.

        Args:
            older_than: Since their last activity.
            dry_run: Only tell which.

        Raises:
            ReadOnlyError: the registry is read-only, and this is no dry run.
        """
        if not dry_run:
            self._check_writable()
        before = now() - check_age(older_than)
        deleted: list[str] = []
        failed: dict[str, Exception] = {}
        for session_id in await self._unused(before):
            if dry_run:
                deleted.append(session_id)
                continue
            try:
                if await self._usable().command(session_id, Expire(before)):
                    deleted.append(session_id)
            except SessionOwnedError:
                continue  # in use by now
            except Exception as error:
                self._usable()  # a registry that closes ends it
                failed[session_id] = error
        return CleanupReport(tuple(deleted), failed)

    async def rebuild_catalog(self, progress: Progress | None = None) -> None:
        """Make the catalog anew from the sessions' files, and wait for it.

        It is never necessary: what is missing or damaged is made anew by itself.

        Args:
            progress: Called with how many sessions have been read, of how many.

        Raises:
            ReadOnlyError: the registry is read-only.
        """
        self._check_writable()
        supervisor = self._usable()
        await supervisor.ask_catalog(supervisor.catalog.rebuild(progress))

    async def flush(self, session_id: str) -> None:
        """Have a session's newest state in the catalog: what `Session.flush` calls."""
        supervisor = self._usable()
        await supervisor.ask_catalog(supervisor.catalog.flush(session_id))

    async def _unused(self, before: int) -> list[str]:
        """The ids of sessions that may be deleted because of their age, the oldest last."""
        supervisor = self._usable()
        found: list[str] = []
        cursor: str | None = None
        while True:
            asked = Listing(limit=_PAGE, cursor=cursor, updated_before=before + 1)
            infos, cursor = await supervisor.ask_catalog(supervisor.catalog.sessions(asked))
            found += [
                info.session_id
                for info in infos
                if info.state != "running" and not supervisor.in_use(info.session_id)
            ]
            if cursor is None:
                return list(dict.fromkeys(found))

    def _usable(self) -> Supervisor:
        raise NotImplementedError

    def _check_writable(self, session_id: str | None = None) -> None:
        raise NotImplementedError


__all__ = ["Finding"]
