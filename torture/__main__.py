"""Run campaigns, print the table, and write it to `docs/reliability.md`."""

from __future__ import annotations

import argparse
import random
import sys
from time import monotonic

from torture import document
from torture.campaign import Budget
from torture.campaigns import CAMPAIGNS
from torture.mutations import planted
from torture.report import Row, failures, table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("--only", choices=CAMPAIGNS, action="append", help="may be repeated")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--seconds", type=float, default=1200, help="shared by the campaigns")
    parser.add_argument("--case", help="only this one, of one campaign, with its seed")
    parser.add_argument("--mutation", help="campaign/name: a fault to plant, which has to be seen")
    parser.add_argument("--no-write", action="store_true", help="leave docs/reliability.md alone")
    options = parser.parse_args()
    names = options.only or list(CAMPAIGNS)
    if options.case is not None and len(names) != 1:
        parser.error("--case needs the campaign that it is of: --only NAME")
    print(f"seed {options.seed}", flush=True)
    rows: list[Row] = []
    for name in names:
        began = monotonic()
        budget = Budget(
            seed=options.seed,
            seconds=options.seconds / len(names),
            case=options.case,
            mutation=options.mutation,
            until_failure=options.mutation is not None,
        )
        with planted(options.mutation):
            seen = CAMPAIGNS[name].run(budget)
        rows += seen
        print(f"\n## {name}\n\n{table(seen)}\n", flush=True)
        print(f"{name}: {monotonic() - began:.0f} s", file=sys.stderr)
    whole = not (options.only or options.case or options.mutation)
    if whole and not options.no_write:
        document.rewrite(f"Seed {options.seed}.\n\n{table(rows)}")
    empty = [f"{row.promise}: not one case" for row in rows if not row.cases]
    wrong = failures(rows) + ([] if options.mutation or options.case else empty)
    if wrong:
        print("\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
