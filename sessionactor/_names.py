"""The one place that builds and parses file names, and that makes up ids and names.

A session's file is `<id>_<name>.db`. Both parts are percent-escaped (RFC 3986 style,
lower-case hex of UTF-8) where a file system could not hold a character, would fold it,
or where the part would become ambiguous; the first `_` ends the id. A part that grows
too long is cut and ends in `~` and a hash of the whole: the true id and name are stored
in the file.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

from sessionactor._errors import InvalidNameError
from sessionactor._words import ADJECTIVES, NOUNS

SUFFIX = ".db"
LOG_SUFFIX = "-wal"
INDEX_SUFFIX = "-shm"
SIDE_FILES = (LOG_SUFFIX, INDEX_SUFFIX, "-journal")
LOCK_FILE = ".sessionactor.lock"
DRAFT_SUFFIX = ".draft"
CATALOG_FILE = ".sessionactor.catalog"
CATALOG_DRAFT = CATALOG_FILE + DRAFT_SUFFIX
PART_SUFFIX = ".part"
EXPORT_SUFFIX = ".jsonl"
MAX_CHARACTERS = 200

# A directory entry holds 255 bytes: two parts, "_", ".db" and the longest side suffix.
_PART_BYTES = (255 - len("_" + SUFFIX + max(SIDE_FILES, key=len))) // 2
_HASH_HEX = 32
_SHORT_NAMES = 20
_RESERVED = frozenset("%~/\\*?[]")
_PLAIN_ID = re.compile(rf"[a-z0-9-]{{1,{_PART_BYTES}}}")
_PLAIN_NAME = re.compile(rf"[a-z0-9_-]{{1,{_PART_BYTES}}}")
_PLAIN_EXPORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9@+=,._-]*")
# A file must not change its name with the interpreter: the one table that never grows.
_UNICODE = unicodedata.ucd_3_2_0
_Rule: TypeAlias = Callable[[str], bool]
_Part: TypeAlias = Callable[[str], str]
_DRAFT = re.compile(rf"\.([0-9a-f]{{{_HASH_HEX}}})\.draft")
_CUT = re.compile(rf"~[0-9a-f]{{{_HASH_HEX}}}\Z")


class Parts(NamedTuple):
    """A parsed file name; an id or name that was cut is `None`."""

    id_part: str
    name_part: str
    session_id: str | None
    name: str | None


def check(value: object, what: str) -> str:
    """Return `value` if it can be a session id or name.

    Raises:
        InvalidNameError: not a string of 1 to 200 characters without NUL and surrogates.
    """
    if not isinstance(value, str):
        raise InvalidNameError(f"a session {what} is a str, not {type(value).__name__}")
    text = value if type(value) is str else str.__str__(value)
    if not 1 <= len(text) <= MAX_CHARACTERS:
        raise InvalidNameError(
            f"a session {what} has 1 to {MAX_CHARACTERS} characters, not {len(text)}"
        )
    if "\0" in text:
        raise InvalidNameError(f"the session {what} {text!r} contains NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidNameError(f"the session {what} {text!r} contains a lone surrogate") from None
    return text


@lru_cache(maxsize=1024)
def id_part(session_id: str) -> str:
    """The file-name part of a session id: one to one."""
    if _PLAIN_ID.fullmatch(session_id):
        return session_id
    return _escape(session_id, _must_escape_in_id, leading_dot=True)


def name_part(name: str) -> str:
    """The file-name part of a session name: one to one."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    return _escape(name, _must_escape, leading_dot=False)


def file_name(session_id: str, name: str) -> str:
    """The name of the file of a session."""
    return f"{id_part(session_id)}_{name_part(name)}{SUFFIX}"


def draft_name(part: str) -> str:
    """The name under which the file of an id part is prepared, invisible as a session."""
    return f".{part_hash(part):0{_HASH_HEX}x}{DRAFT_SUFFIX}"


def export_name(session_id: str, *, plain: bool = False) -> str:
    """The name of the file that a session is exported to, one to one.

    `plain`: the id as it is, where every file system takes it; two such names may differ in
    nothing but upper and lower case.
    """
    if plain and _PLAIN_EXPORT.fullmatch(session_id):
        return session_id + EXPORT_SUFFIX
    return id_part(session_id) + EXPORT_SUFFIX


def exported_id(entry: str) -> str | None:
    """The id of the session that a file of that name is an export of, if the name can tell."""
    stem = entry.removesuffix(EXPORT_SUFFIX)
    ids = (_unescape(stem, id_part), stem)
    return next((text for text in ids if text is not None and _can_be_id(text)), None)


def is_export_of(session_id: str, entry: str) -> bool:
    """Whether a file of that name can be an export of that session, of this package or not."""
    return entry in (session_id + EXPORT_SUFFIX, export_name(session_id)) and _can_be_id(session_id)


def part_file_name(entry: str) -> str:
    """The hidden name under which a file is made that is to have the name `entry`."""
    return f".{entry}{PART_SUFFIX}"


def is_part_file(entry: str) -> bool:
    """Whether that is the hidden name of a session's copy or export that is being made."""
    if not (entry.startswith(".") and entry.endswith(PART_SUFFIX)):
        return False
    name = entry[1 : -len(PART_SUFFIX)]
    return name.endswith(EXPORT_SUFFIX) or parse(name) is not None


def parse_draft(entry: str) -> int | None:
    """The hash of the id part of a draft, `None` for any other entry."""
    found = _DRAFT.fullmatch(entry)
    return int(found[1], 16) if found else None


def part_hash(part: str) -> int:
    """A number of 56 bits that stands for an id part, and so for an id."""
    return int.from_bytes(hashlib.blake2b(part.encode(), digest_size=7).digest(), "big")


def parse(entry: str) -> Parts | None:
    """Parse the name of a directory entry; `None` where no session has such a file."""
    if not entry.endswith(SUFFIX) or entry.startswith("."):
        return None
    part, separator, rest = entry[: -len(SUFFIX)].partition("_")
    if not separator or not part or not rest:
        return None
    session_id = part if _PLAIN_ID.fullmatch(part) else _unescape(part, id_part)
    name = rest if _PLAIN_NAME.fullmatch(rest) else _unescape(rest, name_part)
    if (session_id is None and not _CUT.search(part)) or (name is None and not _CUT.search(rest)):
        return None
    return Parts(part, rest, session_id, name)


def part_of(entry: str) -> str:
    """The id part of a session's file name."""
    return entry.partition("_")[0]


def name_part_of(entry: str) -> str:
    """The name part of a session's file name."""
    return entry.partition("_")[2][: -len(SUFFIX)]


def parse_id(entry: str) -> str:
    """The id in a session's file name; where it was cut, its part."""
    parts = parse(entry)
    return entry if parts is None else parts.session_id or parts.id_part


def parse_name(entry: str) -> str:
    """The name in a session's file name; where it was cut, its part."""
    parts = parse(entry)
    return entry if parts is None else parts.name or parts.name_part


def is_cut(entry: str) -> bool:
    """Whether a session's file name holds only the beginning of its id or name."""
    return "~" in entry


def new_session_id() -> str:
    """A fresh random id of 64 bits."""
    return secrets.token_hex(8)


def new_names() -> Iterator[str]:
    """Readable names such as `crazy-mango`, at random; longer ones once those seem used up."""
    for attempt in itertools.count():
        name = f"{secrets.choice(ADJECTIVES)}-{secrets.choice(NOUNS)}"
        yield name if attempt < _SHORT_NAMES else f"{name}-{secrets.token_hex(4)}"


def _escape(text: str, must_escape: _Rule, *, leading_dot: bool) -> str:
    pieces = [_percent(char) if must_escape(char) else char for char in text]
    if leading_dot and pieces[:1] == ["."]:
        pieces[0] = _percent(".")
    part = "".join(pieces)
    if not _is_stable(part):
        # Characters that are stable alone but compose with their neighbours.
        pieces = [piece if piece.isascii() else _percent(piece) for piece in pieces]
        part = "".join(pieces)
    if len(part.encode()) <= _PART_BYTES:
        return part
    kept, room = [], _PART_BYTES - 1 - _HASH_HEX
    for piece in pieces:
        room -= len(piece.encode())
        if room < 0:
            break
        kept.append(piece)
    return f"{''.join(kept)}~{hashlib.sha256(text.encode()).hexdigest()[:_HASH_HEX]}"


def _unescape(part: str, escape: _Part) -> str | None:
    # Only the one spelling that `escape` would choose is ours; any other file is foreign.
    try:
        text = check(unquote_to_bytes(part).decode(), "id or name")
    except (UnicodeError, InvalidNameError):
        return None
    return text if escape(text) == part else None


def _can_be_id(text: str) -> bool:
    try:
        return check(text, "id") == text
    except InvalidNameError:
        return False


def _percent(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


@lru_cache(1024)
def _must_escape(char: str) -> bool:
    if char.isascii():
        return char in _RESERVED or not char.isprintable()
    if "\U0001f300" <= char <= "\U0001faff":  # pictographs, which nothing normalises
        return False
    # Control, format, private and unassigned characters, separators.
    return _UNICODE.category(char)[0] in "CZ" or not _is_stable(char)


@lru_cache(1024)  # a listing of thousands asks for every character of every id
def _must_escape_in_id(char: str) -> bool:
    return char == "_" or char.casefold() != char or _must_escape(char)


def _is_stable(text: str) -> bool:
    return text.isascii() or _UNICODE.normalize("NFC", text) == text == _UNICODE.normalize(
        "NFD", text
    )
