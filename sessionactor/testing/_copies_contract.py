"""What every session does when it is forked, backed up and compacted."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sessionactor._errors import SessionExistsError, TargetExistsError
from sessionactor._session import Session
from sessionactor.testing._scenario import Scenarios, ids, in_session, raised, said, says


class CopiesContract(Scenarios):
    """Forks, backups, compaction."""

    @in_session
    async def test_a_fork_has_the_history_before_a_row(self, session: Session) -> None:
        for n in range(1, 6):
            await session.append("a", says(n), key=f"k{n}")
        await session.save_metadata({"k": "v"})
        await session.set_context(room_id="r")
        rows, revision = await session.messages(), await session.revision()
        fork = await session.fork(name="fork", before=4)
        assert fork.name == "fork"
        assert await fork.messages() == rows[:3]
        assert await fork.get_metadata() == {"k": "v"}
        info = await fork.info()
        assert (info.room_id, info.state, info.message_count) == ("r", "idle", 3)
        assert info.parent == f"{session.session_id}/3"
        assert await fork.append("a", says(3), key="k3") == 3
        assert await fork.append("a", says("instead"), key="k4") == 4
        assert await session.messages() == rows
        assert await session.revision() == revision

    @in_session
    async def test_a_fork_without_a_bound_is_whole(self, session: Session) -> None:
        await session.extend("a", [says(n) for n in range(5)])
        await session.truncate_from(5)
        fork = await session.fork()
        assert ids(await fork.messages()) == [1, 2, 3, 4]
        assert await fork.append("a", says("next")) == 6

    @in_session
    async def test_a_fork_cuts_no_turn_unless_it_is_told_to(self, session: Session) -> None:
        await session.append("a", says("before"))
        async with session.turn("t", agent_id="a") as turn:
            await turn.append(says("one"))
            await turn.append(says("two"))
        assert said(await (await session.fork(before=3)).messages()) == ["before", "one"]
        whole = await session.fork(before=3, whole_turns=True)
        assert said(await whole.messages()) == ["before"]

    @in_session
    async def test_a_fork_into_an_id_that_exists_is_refused(self, session: Session) -> None:
        await session.append("a", says(1))
        error = await raised(session.fork(session.session_id))
        assert isinstance(error, SessionExistsError)
        assert said(await session.messages()) == [1]

    @in_session
    async def test_a_backup_overwrites_nothing(self, session: Session) -> None:
        await session.append("a", says(1))
        with tempfile.TemporaryDirectory() as place:
            target = Path(place) / "copy.db"
            await session.backup(target)
            assert target.read_bytes().startswith(b"SQLite format 3\0")
            assert isinstance(await raised(session.backup(target)), TargetExistsError)

    @in_session
    async def test_compacting_changes_nothing(self, session: Session) -> None:
        await session.extend("a", [says("x" * 1000)] * 200, keys=map(str, range(200)))
        await session.truncate_from(3)
        before = await session.info(), await session.messages()
        report = await session.compact()
        assert report.size_after < report.size_before
        assert (await session.info(), await session.messages()) == before
        assert await session.append("a", says("x" * 1000), key="150") == 151
        assert await session.append("a", says("next")) == 201


__all__ = ["CopiesContract"]
