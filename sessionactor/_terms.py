"""How text is indexed, queried and shown: between people's words and FTS5's.

SQLite's tokenizer takes a run of Chinese, Japanese or Korean characters for one word, in
which it finds nothing. Here every such run is indexed as its overlapping pairs and its last
character, so that each part of two and more characters is a phrase of pairs, and a single
character the beginning of one.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple

MAX_TERMS: Final = 1000
"""Words and phrases of one query; FTS5 takes more, but at a cost that grows with their square."""
MAX_CHARACTERS: Final = 500
"""Of a word or phrase that count: what it costs grows with its words and with how often they are
there."""
SNIPPET_CHARACTERS: Final = 160

_BEFORE: Final = 50
"""Characters of a snippet before the match."""
_SNIPPET_TERMS: Final = 32
_FOLDED: Final = 4096
"""How many characters' plain forms are kept."""

SESSION_MARK: Final = "\ue000"
AGENT_MARK: Final = "\ue001"
"""Characters that no text has in the index: they head the words that filter by session, agent."""

_NOT_TEXT: Final = re.compile(f"[\0\ud800-\udfff{SESSION_MARK}{AGENT_MARK}]")
_NOT_STORED: Final = re.compile("[\0\ud800-\udfff]")
_CJK: Final = (
    "\u1100-\u11ff\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97c\uac00-\ud7fb\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_RUN: Final = re.compile(f"[{_CJK}]+")
_RUN_OR_REST: Final = re.compile(f"([{_CJK}]+)|[^{_CJK}]+")
_PIECE: Final = re.compile(f"[{_CJK}]+|[^\\W_{_CJK}]+")
# Half and full width, marks that belong to the letter before them, and parts of syllables:
# there is one spelling in the index.
_VARIANT: Final = re.compile("[\u1100-\u11ff\u3099\u309a\uf900-\ufaff\uff00-\uffef]")
# What was indexed has to be named again to be removed, whatever Python does it: this table
# never changes.
_UNICODE: Final = unicodedata.ucd_3_2_0
_WORD: Final = re.compile(r'"([^"]*)(?:"(\*)?)?|([^\s"]+)')


class Term(NamedTuple):
    """A word, or a phrase, that a hit contains."""

    text: str
    prefix: bool
    """Whether its last word is the beginning of one."""


def storable(text: str) -> str:
    """Text as SQLite holds it."""
    if text.isascii() and "\0" not in text:
        return text
    return _NOT_STORED.sub("\ufffd", text)


def index_text(text: str) -> str:
    """What FTS5 indexes of a text: a pure function, because removing has to repeat it."""
    if text.isascii():
        return text.replace("\0", " ") if "\0" in text else text
    text = _plain(text)
    return _RUN.sub(_pairs, text)


def fts_query(query: str) -> str | None:
    """A query for FTS5, which is never a syntax error; `None` where there is nothing to find.

    All words have to match, `"quoted words"` one after the other, and of `foo*` the
    beginning. Any other character only separates words. Of a word or phrase the first 500
    characters count, and of a query the first 1,000 words and phrases.
    """
    words = [_quoted(term) for term in terms(query)]
    return " ".join(words) or None


@lru_cache(maxsize=64)
def terms(query: str) -> tuple[Term, ...]:
    """The words and phrases of a query, each once, and none in which there is no word."""
    found: dict[Term, None] = {}
    for phrase, star, word in _WORD.findall(_plain(query)):
        text = phrase or word.rstrip("*")
        start = next((at for at, char in enumerate(text) if _is_of_a_word(char)), None)
        if start is not None:
            is_cut = len(text) > start + MAX_CHARACTERS
            text = text[start : start + MAX_CHARACTERS]
            found[Term(text, bool(star) or word.endswith("*") or is_cut)] = None
            if len(found) == MAX_TERMS:
                break
    return tuple(found)


def _is_of_a_word(char: str) -> bool:
    return unicodedata.category(char)[0] in "LN"


def snippet(text: str, query: str) -> str:
    """The text around the first match, on one line, with an ellipsis where it was cut."""
    pattern = _pattern(query)
    found = pattern.search(_folded(text)) if pattern else None
    at = found.start() if found else 0
    start = max(0, at - _BEFORE)
    if start:
        start = text.find(" ", start, at) + 1 or start
    shown = " ".join(text[start : start + SNIPPET_CHARACTERS].split())
    before = "…" if text[:start].strip() else ""
    after = "…" if text[start + SNIPPET_CHARACTERS :].strip() else ""
    return f"{before}{shown}{after}"


def _plain(text: str) -> str:
    text = _NOT_TEXT.sub(" ", text)
    return _UNICODE.normalize("NFKC", text) if _VARIANT.search(text) else text


def _pairs(run: re.Match[str]) -> str:
    chars = run[0]
    return f" {' '.join([chars[at : at + 2] for at in range(len(chars))])} "


def _quoted(term: Term) -> str:
    pieces = list(_RUN_OR_REST.finditer(term.text))
    while pieces and not _PIECE.search(pieces[-1][0]):
        pieces.pop()  # behind the last word nothing is left that could end a run
    prefix = term.prefix
    words = [_pairs(piece) if piece[1] else piece[0] for piece in pieces]
    last = pieces[-1][1] if pieces else None
    if last:  # the run may go on in the text that is looked for
        prefix = prefix or len(last) == 1
        words[-1] = " " + " ".join(last[at : at + 2] for at in range(max(1, len(last) - 1)))
    return f'"{"".join(words)}"{"*" if prefix else ""}'


@lru_cache(maxsize=64)
def _pattern(query: str) -> re.Pattern[str] | None:
    """What finds the first match of any term in folded text, about as FTS5 would."""
    alternatives = []
    for term in terms(query)[:_SNIPPET_TERMS]:
        pieces = _PIECE.findall(_folded(term.text))
        if pieces:
            begin = "" if _RUN.match(pieces[0]) else f"(?<![^\\W_{_CJK}])"
            whole = not term.prefix and not _RUN.match(pieces[-1])
            end = f"(?![^\\W_{_CJK}])" if whole else ""
            alternatives.append(begin + r"[\W_]*".join(map(re.escape, pieces)) + end)
    return re.compile("|".join(alternatives)) if alternatives else None


class _Folding(dict[int, int]):
    """Characters without case and accents, one for one, so that places stay what they are."""

    def __missing__(self, code: int) -> int:
        plain = code
        if code < 0x3000 or 0xFF00 <= code <= 0xFFEF:
            plain = ord(unicodedata.normalize("NFKD", chr(code))[0].lower()[0])
        if len(self) < _FOLDED:
            self[code] = plain
        return plain


_folding: Final = _Folding()


def _folded(text: str) -> str:
    return text.lower() if text.isascii() else text.translate(_folding)


__all__ = [
    "AGENT_MARK",
    "MAX_CHARACTERS",
    "MAX_TERMS",
    "SESSION_MARK",
    "Term",
    "fts_query",
    "index_text",
    "snippet",
    "storable",
    "terms",
]
