"""Plants one of the campaigns' faults in the library of this process."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torture.campaigns import CAMPAIGNS


def planted(name: str | None) -> AbstractContextManager[None]:
    """The library with the fault `campaign/name`, for as long as it is entered; `None`: as it is.

    Raises:
        KeyError: there is no such fault.
    """
    if name is None:
        return nullcontext()
    campaign, _, mutation = name.partition("/")
    return CAMPAIGNS[campaign].mutations[mutation]()
