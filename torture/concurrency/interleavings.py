"""Interleavings, one after the other."""

from __future__ import annotations

import gc
from collections import Counter
from itertools import count

from torture.campaign import Budget
from torture.concurrency.interleaving import Outcome, play
from torture.concurrency.judging import verdicts
from torture.report import Row


class Interleavings:
    """Interleavings, and what they came to so far."""

    def __init__(self) -> None:
        self._order = Row("calls of tasks happen one after the other", "interleavings")
        self._told = Row("who follows is told each change, once, in order", "subscriptions")
        self._ends = Row("each call is answered, and nothing is left over", "registries closed")
        self.rows = [self._order, self._told, self._ends]
        self._figures: Counter[str] = Counter()
        self._cases = map(str, count())

    def run(self, budget: Budget) -> None:
        """As many as there is time for; or the one that `--case` names."""
        gc.collect()
        gc.freeze()  # what is here already need not be looked through after each case
        try:
            for case in self._cases if budget.case is None else [budget.case]:
                outcome = play(budget.random("interleaving", case))
                self._judge(outcome, case)
                if budget.done(self.rows):
                    break
        finally:
            gc.unfreeze()

    def _judge(self, outcome: Outcome, case: str) -> None:
        figures = self._figures
        for verdict in verdicts(outcome.history, outcome.sessions, outcome.followers):
            if verdict.undecided:
                figures["undecided"] += 1
            elif verdict.order is None:
                about = self._told if verdict.why.startswith("a subscriber") else self._order
                about.fail(case, verdict.why)
        for complaint in outcome.complaints:
            self._ends.fail(case, complaint)
        self._order.cases += 1
        self._told.cases += len(outcome.followers)
        self._ends.cases += 1
        figures["calls"] += len(outcome.history)
        figures["cancelled"] += outcome.cancelled
        figures["passivations"] += outcome.passivations
        figures["steps"] += outcome.steps
        self._order.figures = {what: f"{number:,}" for what, number in figures.items()}
        self._told.figures["events"] = f"{self._events(outcome):,}"

    def _events(self, outcome: Outcome) -> int:
        before = int(self._told.figures.get("events", "0").replace(",", ""))
        return before + sum(len(follower.events) for follower in outcome.followers)
