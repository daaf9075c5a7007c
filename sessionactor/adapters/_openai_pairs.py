"""Which items of OpenAI Agents belong together: calls of tools and their outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

_Pair: TypeAlias = tuple[str, object]
"""What a call and its output have in common: the kind of tool, and the id of the call."""

_ALONE: Final = frozenset({"", "message"})
"""The kinds of most items, which belong to no others."""


def beginning_of_whole(items: Sequence[Any], at: int, *, is_all: bool) -> int | None:
    """From where on items are whole: at `at` or after it; if nothing is, before it.

    No output comes without its call, and no call without those of the same response. An output
    whose call is nowhere stands for itself.

    Args:
        items: The newest items of a history.
        at: Where the window would begin.
        is_all: Whether nothing comes before them; otherwise `None` says that more has to be
            known.
    """
    kinds = [_kind(item) for item in items]
    if _ALONE.issuperset(kinds) and (at or is_all):
        return at
    calls, outputs = list(map(_call, kinds, items)), list(map(_output, kinds, items))
    called = {call for call in calls if call is not None}
    torn: set[_Pair] = set()
    whole: int | None = None
    for index in range(len(items) - 1, -1, -1):
        output, call = outputs[index], calls[index]
        if output is not None and (output in called or not is_all):
            torn.add(output)
        elif call is not None:
            torn.discard(call)
        if torn or (index == 0 and not is_all):
            continue
        if index and call is not None and calls[index - 1] is not None:
            continue  # of one response: what answers them may come in any order
        if index <= at:
            return index if whole is None or index == at else whole
        whole = index
    return (0 if whole is None else whole) if is_all else None


def _output(kind: str, item: Any) -> _Pair | None:
    if kind == "mcp_approval_response":
        return "mcp_approval", item.get("approval_request_id")
    if not kind.endswith("_output"):
        return None
    tool = kind.removesuffix("_output").removesuffix("_call")
    return tool, item.get("call_id", item.get("id"))


def _call(kind: str, item: Any) -> _Pair | None:
    if kind == "mcp_approval_request":
        return "mcp_approval", item.get("id")
    if kind == "program" or kind.endswith("_call"):
        return kind.removesuffix("_call"), item.get("call_id", item.get("id"))
    return None


def _kind(item: Any) -> str:
    kind = item.get("type") if isinstance(item, dict | Mapping) else None
    return kind if isinstance(kind, str) else ""
