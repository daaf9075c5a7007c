"""What is indexed of a document, and its number: pure functions.

A document's number is its message's time with ten bits more, or the next free one: FTS5 then
yields the newest hits first without sorting, in whatever order messages were indexed.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final

from sessionactor._terms import AGENT_MARK, SESSION_MARK, index_text

_DENSE: Final = 1 << 62


def words(session: int, agent_id: str, text: str) -> str:
    """All words that FTS5 indexes of a document: a pure function, for removing repeats it."""
    return f"{index_text(text)} {session_word(session)} {agent_word(agent_id)}"


def session_word(session: int) -> str:
    """The word that all documents of a session have."""
    return f"{SESSION_MARK}{session}"


@lru_cache(maxsize=1024)
def agent_word(agent_id: str) -> str:
    """The word that all documents of an agent have, and hardly any others."""
    return AGENT_MARK + blake2b(agent_id.encode(), digest_size=6).hexdigest()


def number_of(at: int, session: int) -> int:
    """Where a time stands among the numbers, which rise with it.

    Each microsecond has a thousand of them, from the year 2112 on one; sessions begin with
    different ones, so that they seldom want the same.
    """
    if at <= 0:
        return 0
    number = at << 10
    return number | session & 1023 if number < _DENSE else _DENSE + at


__all__ = ["agent_word", "number_of", "session_word", "words"]
