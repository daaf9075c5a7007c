"""Text that is safe on a terminal, whatever a message holds; and values as people read them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

_LINE_BREAKS: Final = "\n\t"
_DANGEROUS: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters, which begin escape sequences
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that turn the direction of text
    "\xad\u180e\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"  # unseen ones
    "\ud800-\udfff"  # lone surrogates, which no terminal can be sent
    "\U000e0000-\U000e0fff"  # tags, unseen as well
    "]"
)
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def clean(text: str, *, lines: bool = False) -> str:
    """Text with every character escaped that could command a terminal or deceive its reader.

    Args:
        text: Anything.
        lines: Whether line breaks and tabs are kept: the text of a message; not what
            stands in a line among other things.
    """
    if text.isascii() and text.isprintable():
        return text
    if lines:
        text = text.replace("\r\n", "\n")
        return _DANGEROUS.sub(lambda found: _escaped(found[0], _LINE_BREAKS), text)
    return _DANGEROUS.sub(lambda found: _escaped(found[0], ""), text)


def clipped(text: str, room: int) -> str:
    """At most `room` characters of a text; the last one tells that it was longer."""
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…"


def moment(at: datetime | None) -> str:
    """A time as clocks here show it."""
    return "" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(count: int) -> str:
    """Bytes, rounded."""
    amount = float(count)
    for unit in _UNITS:
        if amount < 1000 or unit == _UNITS[-1]:
            break
        amount /= 1000
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number and what it is of."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _escaped(char: str, kept: str) -> str:
    if char in kept:
        return char
    return char.encode("unicode_escape").decode("ascii")


__all__ = ["clean", "clipped", "counted", "moment", "size"]
