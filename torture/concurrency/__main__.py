"""A process of a contest."""

from __future__ import annotations

from torture.concurrency.contender import main

if __name__ == "__main__":
    main()
