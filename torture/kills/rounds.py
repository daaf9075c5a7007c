"""Cases: processes that work in one directory, what happens to them, and the verdict."""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Final, Literal

from sessionactor import SessionOwnedError, SessionRegistry
from sessionactor.interchange import export_session
from torture.campaign import Budget
from torture.kills.ledger import REFUSED, Ledger, TurnState
from torture.kills.mutations import AIMED
from torture.kills.points import POINTS, seen
from torture.kills.story import AGENT, IMPORTED, LOGGERS, message
from torture.kills.verdict import Verdict
from torture.nursery import Nursery, nursery
from torture.report import Row

_SLOTS: Final = ("0", "1")
_LIVES: Final = 6
"""Of each slot in one case."""
_BOUND_S: Final = 30.0
"""By when anything has to happen that is waited for: the machine may be busy."""
_STEP_S: Final = 1.0
"""By when a step is reached, or a victim killed anyway."""
_STRIDE: Final = 17
"""From one step to the next in the list of all."""
_EARLY: Final = 0.25
"""Of all are killed at a moment after they were born, not after they began to work."""
_AT_ONCE_S: Final = 2.0
_STEADY: Final = 8
"""So many things are said by one that goes on."""
_MAX_ACTIVE: Final = (4, 64)
"""So few that sessions go out of use all the time; so many that none ever does."""

How = Literal["moment", "step", "stop", "freeze", "term"]
"""What happens to a victim first: killed at a moment or a step, stopped at one, told to end."""


@dataclass
class Rows:
    """The rows of the table."""

    content: Row = field(
        default_factory=lambda: Row(
            "killed at any moment: what was answered is there, once, in order", "kills"
        )
    )
    files: Row = field(
        default_factory=lambda: Row(
            "no half-made file is ever visible, doctor names what is left", "directories"
        )
    )
    locks: Row = field(
        default_factory=lambda: Row("a dead owner's sessions are free at once", "successions")
    )
    stopped: Row = field(
        default_factory=lambda: Row(
            "a stopped owner keeps its sessions, others are told at once", "stops"
        )
    )
    leaving: Row = field(
        default_factory=lambda: Row("told to terminate: left in order, or killed at it", "signals")
    )
    turns: Row = field(
        default_factory=lambda: Row("a turn cut short is interrupted, never running", "turns")
    )
    reached: Counter[str] = field(default_factory=Counter)

    def all(self) -> list[Row]:
        self.content.figures["named steps reached"] = seen(self.reached)
        return [self.content, self.files, self.locks, self.stopped, self.leaving, self.turns]


@dataclass
class Life:
    """A victim that runs."""

    slot: str
    pid: int
    pipe: int
    how: How
    end: float
    """When it is killed, stopped or told to terminate, on the monotonic clock."""
    after: float
    """Seconds from its first call to that."""
    rest: float
    """Seconds from that to the next thing that happens to it."""
    unread: bytes = b""
    began: float = field(default_factory=monotonic)
    is_ending: bool = False
    begun: bool = False
    """Whether it has its sessions, and calls are made."""
    frozen: bool = False
    """Whether it stopped at its step."""


class Case:
    """One directory, worked in by several processes, each killed and followed by another one."""

    def __init__(self, budget: Budget, number: int, parent: Nursery, rows: Rows, home: Path):
        self._chance = budget.random("kills", number)
        self._seed = f"{budget.seed}:{number}:"
        self._number, self._parent, self._rows = number, parent, rows
        self._place, self._shelf = home / "sessions", home / "shelf"
        self._ledger = Ledger()
        self._lives: Counter[str] = Counter()
        self._points = AIMED.get((budget.mutation or "").partition("/")[2], POINTS)
        self._durability = self._chance.choice(("full", "normal"))
        self._selector = selectors.DefaultSelector()
        self._kills = 0
        self._frozen = False
        """Whether any process was stopped, perhaps while its indexer locked another's session."""

    def run(self) -> None:
        """Everything, and the verdict."""
        self._shelf.mkdir()
        asyncio.run(_exports(self._shelf))
        for slot in _SLOTS:
            self._begin(slot)
        while self._selector.get_map():
            self._turn()
        verdict = Verdict(self._place, self._shelf, self._seed, self._ledger)
        verdict.reach()
        rows = self._rows
        rows.content.cases += self._kills
        rows.files.cases += 1
        rows.reached.update(self._ledger.reached)
        rows.turns.cases += sum(state.interrupted for state in self._ledger.turns.values())
        about = {"content": rows.content, "locks": rows.locks, "turns": rows.turns}
        for what, broken in self._ledger.broken.items():
            _fail(about[what], self._number, broken)
        _fail(rows.content, self._number, verdict.content)
        _fail(rows.turns, self._number, verdict.turns)
        _fail(rows.files, self._number, verdict.files)

    def close(self) -> None:
        """Leave nobody behind."""
        for life in self._running():
            os.kill(life.pid, signal.SIGKILL)
            os.close(life.pipe)
            self._parent.wait(life.pid)
        self._selector.close()

    def _begin(self, slot: str) -> None:
        life = self._lives[slot]
        self._lives[slot] += 1
        chance = self._chance
        how: How = chance.choices(("moment", "step", "stop", "freeze", "term"), (4, 9, 1, 1, 1))[0]
        if life == 1:
            how = "term" if slot == _SLOTS[0] else chance.choice(("stop", "freeze"))
        number = signal.SIGSTOP if how == "freeze" else signal.SIGKILL
        point = [self._point(), chance.choice((1, 1, 1, 2, 3, 8)), number]
        next_ = {agent: self._ledger.next(f"log{slot}", agent) for agent in LOGGERS}
        next_[AGENT] = self._ledger.next(f"story{slot}", AGENT)
        job = {
            "place": str(self._place),
            "shelf": str(self._shelf),
            "seed": self._seed,
            "slot": slot,
            "life": life,
            "durability": self._durability,
            "max_active": _MAX_ACTIVE[how in ("stop", "freeze")],
            "point": point if how in ("step", "freeze") else None,
            "next": next_,
            "in_flight": self._ledger.in_flight(f"story{slot}", AGENT),
            "turns": asdict(self._ledger.turns.get(f"turns{slot}", TurnState())),
        }
        ours, theirs = os.pipe()
        pid = self._parent.spawn(job, theirs)
        os.close(theirs)
        os.set_blocking(ours, False)
        after, early = chance.uniform(0.01, 0.4), chance.random() < _EARLY
        if how == "step":
            after, early = _STEP_S, False
        end = monotonic() + (after if early else _BOUND_S)
        running = Life(slot, pid, ours, how, end, after, chance.uniform(0, 0.05))
        self._selector.register(ours, selectors.EVENT_READ, running)
        if life:
            self._rows.locks.cases += 1

    def _point(self) -> str:
        """The next step: each in its turn, over all cases."""
        count = self._number * len(_SLOTS) * _LIVES + self._lives.total()
        return self._points[count * _STRIDE % len(self._points)]

    def _turn(self) -> None:
        """Hear what is said until the next thing happens to a victim."""
        first = min(self._running(), key=lambda life: life.end)
        for key, _ in self._selector.select(max(0.0, first.end - monotonic())):
            if not self._hear(key.data):
                self._over(key.data)
                return
        for life in self._running():
            if life.frozen:
                self._stopped(life)
                life.end, life.is_ending = monotonic() + life.rest, True
                return
        if monotonic() >= first.end:
            self._strike(first)

    def _hear(self, life: Life) -> bool:
        """Take in what a victim said; whether it may say more."""
        try:
            said = os.read(life.pipe, 1 << 16)
        except BlockingIOError:
            return True
        *lines, life.unread = (life.unread + said).split(b"\n")
        for line in lines:
            self._ledger.hear(line.decode())
            if line.startswith(b'["reached"'):
                life.frozen = life.how == "freeze"
            elif not life.begun and not line.startswith(b'["broken"'):
                life.begun = True
                if not life.is_ending:
                    life.end = min(life.end, monotonic() + life.after)
        return bool(said)

    def _strike(self, life: Life) -> None:
        if life.how == "stop" and not life.is_ending:
            os.kill(life.pid, signal.SIGSTOP)
            self._stopped(life)
            life.end = monotonic() + life.rest
        elif life.how == "term" and not life.is_ending:
            os.kill(life.pid, signal.SIGTERM)
            self._rows.leaving.cases += 1
            # Every other one has all the time that it needs, and has to leave in order.
            life.end = monotonic() + (life.rest if self._lives[life.slot] % 2 else _BOUND_S)
        else:
            if life.how == "term" and not self._lives[life.slot] % 2:
                self._rows.leaving.fail(self._number, f"did not leave within {_BOUND_S} s")
                os.kill(life.pid, signal.SIGUSR1)  # it tells where it is
                sleep(0.5)
            os.kill(life.pid, signal.SIGKILL)
            life.end = monotonic() + _BOUND_S
        life.is_ending = True

    def _stopped(self, life: Life) -> None:
        """While an owner is stopped others are told so, and served; it goes on afterwards."""
        _wait_until_stopped(life.pid)
        if not life.begun:
            life.frozen = False
            os.kill(life.pid, signal.SIGCONT)
            return
        row, began = self._rows.stopped, monotonic()
        row.cases += 1
        self._frozen = True
        try:
            said = asyncio.run(_asked(self._place, f"log{life.slot}", life.pid))
            for other in self._running():
                if said is None and other is not life and not self._goes_on(other):
                    said = f"process {other.pid} did not go on while {life.pid} was stopped"
        finally:
            life.frozen = False
            os.kill(life.pid, signal.SIGCONT)
        if said is None and not self._goes_on(life):
            said = f"process {life.pid} was stopped, and did not go on when it could"
        for other in self._running():  # nobody listened to the others meanwhile
            other.end += monotonic() - began
        if said is not None:
            row.fail(self._number, f"{said}; at {self._ledger.reached[-1:]}")

    def _running(self) -> list[Life]:
        return [key.data for key in self._selector.get_map().values()]

    def _goes_on(self, life: Life) -> bool:
        """Whether a process says more, or ends, before too long."""
        heard, until = self._ledger.heard, monotonic() + _BOUND_S
        while self._ledger.heard < heard + _STEADY and not life.frozen:
            if monotonic() > until:
                os.kill(life.pid, signal.SIGUSR1)  # it tells where it is
                return False
            if select.select([life.pipe], [], [], 0.05)[0] and not self._hear(life):
                return True  # it is over, for another reason
        return True

    def _over(self, life: Life) -> None:
        self._selector.unregister(life.pipe)
        os.close(life.pipe)
        code = self._parent.wait(life.pid)
        killed = code == -signal.SIGKILL
        self._kills += killed
        refused = code == REFUSED and self._frozen
        ended = (0,) if life.begun else (0, -signal.SIGTERM)  # it has no handler yet
        if not (killed or refused or (life.how == "term" and code in ended)):
            self._rows.content.fail(self._number, f"a process ended by itself, with {code}")
        if self._lives[life.slot] < _LIVES and not self._ledger.broken:
            self._begin(life.slot)


def _fail(row: Row, number: int, sentences: list[str]) -> None:
    for sentence in sentences:
        row.fail(number, sentence)


def _wait_until_stopped(pid: int) -> None:
    """A signal is on its way for a moment: what is sent after it must not overtake it."""
    until = monotonic() + _BOUND_S
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TZX":
        if monotonic() > until:
            raise TimeoutError(f"process {pid} did not stop")
        sleep(0.001)


async def _exports(shelf: Path) -> None:
    """The file that each slot imports again and again."""
    async with SessionRegistry(None) as registry:
        for slot in _SLOTS:
            session = await registry.start(f"i{slot}")
            await session.extend("c", [message(n, 4000) for n in range(1, IMPORTED + 1)])
            await export_session(registry, session.session_id, shelf / f"i{slot}.jsonl")


async def _asked(place: Path, session_id: str, pid: int) -> str | None:
    """Ask for a session that a stopped process owns; what is wrong with the answer."""
    async with SessionRegistry(place, catalog=False) as registry:
        began = monotonic()
        try:
            await registry.start(session_id)
        except SessionOwnedError as error:
            took = monotonic() - began
            if error.pid != pid:
                return f"{session_id} is owned by {pid}, and {error.pid} is told"
            return f"told after {took:.1f} s" if took > _AT_ONCE_S else None
        if await registry.exists(session_id):
            return f"{session_id} was taken from its owner {pid}, which is stopped"
    return None


def run(budget: Budget) -> list[Row]:
    """Case after case."""
    rows = Rows()
    numbers = [int(budget.case)] if budget.case is not None else range(1 << 30)
    with nursery("torture.kills.victim", budget.arguments()) as parent:
        for number in numbers:
            home = Path(tempfile.mkdtemp(prefix="torture-kills-"))
            case = Case(budget, number, parent, rows, home)
            try:
                case.run()
            except (ConnectionError, EOFError):
                raise  # the nursery is dead
            except Exception:
                rows.content.fail(number, traceback.format_exc())
            finally:
                case.close()
                shutil.rmtree(home, ignore_errors=True)
            if budget.done(rows.all()):
                break
    return rows.all()
