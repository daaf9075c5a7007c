"""Contests, one after the other."""

from __future__ import annotations

from itertools import count

from torture.campaign import Budget
from torture.concurrency.contender import SESSIONS
from torture.concurrency.contest import Result, contest
from torture.concurrency.judging import verdicts
from torture.report import Row


class Contests:
    """Contests, and what they came to so far."""

    def __init__(self) -> None:
        self._row = Row("so do those of processes, some of them killed", "calls")
        self.rows = [self._row]
        self._cases = (f"p{number}" for number in count())
        self._total = Result()

    def run(self, budget: Budget) -> None:
        """One more; or the one that `--case` names, with another course than before."""
        case = next(self._cases) if budget.case is None else budget.case
        result = contest(budget, case)
        for verdict in verdicts(result.history, SESSIONS):
            if verdict.order is None:
                self._row.fail(case, verdict.why)
        for complaint in result.complaints:
            self._row.fail(case, complaint)
        total = self._total
        self._row.cases += len(result.history)
        total.kills += result.kills
        total.owned += result.owned
        total.lost += result.lost
        self._row.figures = {
            "kills": f"{total.kills:,}",
            "not answered": f"{total.lost:,}",
            "refused for another owner": f"{total.owned:,}",
        }
