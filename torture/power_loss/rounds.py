"""The campaign: victims one after the other, and of each many losses of power."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import count, islice
from pathlib import Path
from typing import Final

from torture.campaign import Budget
from torture.power_loss.disk import Disk, Left, Loss, materialise
from torture.power_loss.mutations import life_of
from torture.power_loss.recording import compiled, parse, record
from torture.power_loss.recovery import Questions, recover
from torture.power_loss.verdict import History, history
from torture.report import Row

_LOSSES: Final = 60
"""Of each victim."""
_AT_ONCE: Final = 4
"""So many states are opened side by side: each waits most of the time, for its threads."""
_PATIENCE_S: Final = 60
_NONE: Final = Questions(False, False)
_QUESTIONS: Final = (Questions(True, True), _NONE, Questions(False, True))


def run(budget: Budget) -> list[Row]:
    """Let victims work, and open what losses of their power leave.

    A case is the number of a victim, or that and the number of a loss: `12` or `12.34`. No two
    victims are quite the same, so the log of one is kept if something is wrong with what it left.
    """
    rows = {
        "full": Row("power loss, `full`: what was answered is there, once, in order", "states"),
        "normal": Row("power loss, `normal`: a prefix of what happened, and goes on", "states"),
    }
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(
            prefix="power-loss-", dir=memory if memory.is_dir() else None
        ) as scratch,
        ThreadPoolExecutor(1, "victim") as recorder,
    ):
        library = compiled(Path(scratch))
        numbers = count() if budget.case is None else iter([int(budget.case.partition(".")[0])])
        rounds = (_Round(budget, number, Path(scratch) / str(number)) for number in numbers)
        ahead = recorder.submit(_recorded, next(rounds), library)
        while not budget.done(list(rows.values())):
            this = ahead.result()
            following = next(rounds, None)
            if following is not None:
                ahead = recorder.submit(_recorded, following, library)
            asyncio.run(this.run(rows))
            if following is None:
                break
    return list(rows.values())


def _recorded(one: _Round, library: Path) -> _Round:
    one.record(library)
    return one


class _Round:
    """A victim, and what losses of power left of its files."""

    def __init__(self, budget: Budget, number: int, directory: Path) -> None:
        self._budget = budget
        self._number = number
        self._directory = directory
        self._log = b""
        self._failure: str | None = None
        self._life = life_of(number, budget.mutation)
        self._seen: set[bytes] = set()
        name = f"power-loss-{budget.seed}-{number}.log"
        self._kept = Path(tempfile.gettempdir()) / name

    def record(self, library: Path) -> None:
        """Let the victim work."""
        if self._budget.case is not None and self._kept.exists():
            self._log = self._kept.read_bytes()
            return
        try:
            log = self._recorded(library)
            if self._life.second:
                first, chance = Disk(list(parse(log))), self._budget.random(self._number, "first")
                loss = next(islice(first.losses(chance), chance.randrange(_LOSSES), None))
                with tempfile.TemporaryDirectory(dir=self._directory.parent) as left:
                    materialise(first.after(loss), Path(left) / "root")
                    log = self._recorded(library, "--left", Path(left) / "root")
            self._log = log
        except RuntimeError as error:
            self._failure = str(error)

    def _recorded(self, library: Path, *more: object) -> bytes:
        root = self._directory / "root"
        root.mkdir(parents=True)
        command: list[object] = ["-m", "torture.power_loss.victim", root, self._directory / "marks"]
        command += [self._budget.seed, self._number, *more]
        if self._budget.mutation is not None:
            command += ["--mutation", self._budget.mutation]
        try:
            return record(library, root, self._directory, command)
        finally:
            shutil.rmtree(self._directory)

    async def run(self, rows: dict[str, Row]) -> None:
        """Have its power lost."""
        if self._failure is not None:
            rows["full"].fail(self._number, f"before any power was lost: {self._failure}")
            return
        disk = Disk(list(parse(self._log)))
        told = history(disk.notes)
        losses = self._losses(disk)
        self._directory.mkdir()

        async def open_some() -> None:
            for loss in losses:
                if self._budget.done(list(rows.values())):
                    return
                left = disk.after(loss)
                if not self._is_known(left, told, loss):
                    await self._open(left, told, loss, disk, rows[told.durability])

        await asyncio.gather(*[open_some() for _ in range(_AT_ONCE)])
        shutil.rmtree(self._directory)

    async def _open(self, left: Left, told: History, loss: Loss, disk: Disk, row: Row) -> None:
        row.cases += 1
        wrong = await self._wrong(left, told, loss)
        if wrong is not None:
            note = disk.notes[loss.at - 1]
            row.fail(f"{self._number}.{loss.number}", f"{wrong} [{loss}, {note.brief()}]")
            if self._budget.mutation is None:
                self._kept.write_bytes(self._log)

    def _losses(self, disk: Disk) -> Iterator[Loss]:
        chance = self._budget.random(self._number)
        losses = islice(disk.losses(chance, self._life.losses), _LOSSES)
        _, _, only = (self._budget.case or "").partition(".")
        return (loss for loss in losses if not only or loss.number == int(only))

    def _is_known(self, left: Left, told: History, loss: Loss) -> bool:
        """Whether that was opened already, with the same calls begun and answered."""
        digest = blake2b(repr(told.moment(loss.at)).encode())
        for path, content in left.items():
            digest.update(f"\0{path}\0".encode())
            digest.update(content if isinstance(content, bytes) else repr(content).encode())
        known = digest.digest() in self._seen
        self._seen.add(digest.digest())
        return known

    async def _wrong(self, left: Left, told: History, loss: Loss) -> str | None:
        """What is wrong with what was left."""
        place = self._directory / f"left-{loss.number}"
        materialise(left, place)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                turn = 0 if self._life.asks else loss.number % len(_QUESTIONS)
                questions = _QUESTIONS[turn]
                await recover(place, told, loss.at, questions if told.has_catalog else _NONE)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            shutil.rmtree(place)
        return None
