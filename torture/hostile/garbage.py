"""Makes input that nobody should send, by chance: bytes, text, and what is valid, spoilt."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import msgpack

_HEADERS: Final = bytes([*range(0x80, 0xA0), *range(0xC0, 0xE0)])
_WIDE: Final = (b"\xdc", b"\xdd", b"\xde", b"\xdf", b"\xc4", b"\xc5", b"\xc6", b"\xd9", b"\xdb")
_LENGTHS: Final = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\x01\0\0", b"\xff")
_ODD_TEXT: Final = (
    "", "\0", "\ud800", "\udfff\ud800", "\ufeff", "\u202e", "\u200d", "é", "e\u0301", "İ", "ß", "ﬁ",
    "Ⅻ", "한", "日本語", "\U0001f600", "\U000e0001", "\uffff", "\ue000", "\ue001", "A" * 300,
    "..", ".", "/", "\\", "../../canary/x", "/etc/passwd", "~", "~" + "0" * 32, "%", "%2f", "%00",
    "CON", "a\nb", "\r", "\t", "\x7f", "*", "?", "[", "[!a]", "[]", "[z-a]", "_", "__", ".db",
    "-wal", "'", '"', "';--", "x' OR 1=1", "NEAR(", "AND", "OR", "NOT", "^", ":", "{}", "a:b", "*a",
    "NULL", "None", "nan", "1e999", "-0", "0x10", "$bytes", "$set", "$map", "$int", "🇩🇪", "\u0345",
)  # fmt: skip
_WORDS: Final = "alpha beta gamma delta"


def text(chance: Random, most: int = 6) -> str:
    """Text in which anything may stand."""
    return "".join(_piece(chance) for _ in range(chance.randint(0, most)))


def _piece(chance: Random) -> str:
    kind = chance.random()
    if kind < 0.5:
        return chance.choice(_ODD_TEXT)
    if kind < 0.7:
        return chance.choice(_WORDS.split()) + chance.choice("  _-*\"'")
    if kind < 0.9:
        return chr(chance.randrange(0x110000))
    return chance.choice("ab/%_.~") * chance.choice([1, 3, 70, 200])


def spoilt(data: bytes, chance: Random, other: bytes = b"") -> bytes:
    """Bytes that are not quite what they were."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4, 16])):
        at = chance.randrange(len(changed) + 1)
        kind = chance.randrange(7)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at : at + 1] = bytes([chance.choice(_HEADERS)])
        elif kind == 2:
            changed[at : at + chance.choice([1, 2, 8])] = b""
        elif kind == 3:
            changed[at:at] = chance.randbytes(chance.choice([1, 2, 4]))
        elif kind == 4:
            changed[at : at + 5] = chance.choice(_WIDE) + chance.choice(_LENGTHS)
        elif kind == 5 and other:
            start = chance.randrange(len(other))
            changed[at:] = other[start:]
        elif kind == 6:
            del changed[at:]
    return bytes(changed)


def packed(chance: Random) -> bytes:
    """What looks like an encoded message and may be none."""
    kind = chance.random()
    if kind < 0.1:
        return chance.randbytes(chance.randrange(40))
    if kind < 0.2:  # deep, or pretending to be
        return (
            b"\x81\xa1a"
            + chance.choice([b"\x91", b"\x81\x01", b"\x92\xc7\0\xef"])
            * (chance.choice([3, 250, 254, 255, 256, 257, 511, 1100]))
            + chance.choice([b"", b"\xc0", b"\x90", b"\x80"])
        )
    if kind < 0.25:  # many
        count = chance.choice([10, 100, 1000, 1000, 1000, 30_000])
        claimed = chance.choice([count, count, count, 1 << 31, (1 << 32) - 1])
        return (
            b"\x81\xa1a"
            + chance.choice([b"\xdd", b"\xdd", b"\xdf"])
            + struct.pack(">I", claimed)
            + chance.choice([b"\xc0", b"\x90"]) * (count - chance.choice([0, 0, 1]))
        )
    return b"\x81\xa1a" + _value(chance, 6)


def _value(chance: Random, levels: int) -> bytes:
    kind = chance.random()
    if levels and kind < 0.3:
        count = chance.randrange(4)
        return bytes([0x90 + count]) + b"".join(_value(chance, levels - 1) for _ in range(count))
    if levels and kind < 0.45:
        count = chance.randrange(3)
        return bytes([0x80 + count]) + b"".join(
            _value(chance, levels - 1) for _ in range(2 * count)
        )
    if levels and kind < 0.6:  # a marked array, of a kind that there is or not
        count = chance.randrange(4)
        mark = b"\xc7" + bytes(
            [chance.choice([0, 0, 0, 1]), chance.choice([0xEF, 0xEE, 0xED, 0x7F])]
        )
        items = b"".join(_value(chance, levels - 1) for _ in range(count))
        return bytes([0x91 + count]) + mark + items
    if kind < 0.7:  # an extension
        body = chance.choice(
            [
                b"",
                b"2024-01-01T00:00:00",
                b"9999-12-31T23:59:59f@1",
                b"\xff" * 40,
                b"2024-01-01T00:00:00@99999999999999",
                chance.randbytes(12),
            ]
        )
        code = chance.choice([0xEC, 0xEB, 0xFF, 5, chance.randrange(256)])
        return b"\xc7" + bytes([len(body), code]) + body
    if kind < 0.8:
        return chance.randbytes(chance.randrange(4))
    return bytes(msgpack.packb(chance.choice(
        [None, True, 0, -1, 2**63, -(2**63), 1.5, float("nan"), "a", "é" * 40, b"\xff",
         "x" * 70_000]
    )))  # fmt: skip


def pages(data: bytes, page: int, chance: Random) -> bytes:
    """A file of pages, of which some are not what they were."""
    changed = bytearray(data)
    count = max(1, len(changed) // page)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at, other = chance.randrange(count) * page, chance.randrange(count) * page
        chance.choice(_TO_PAGES)(changed, at, other, page, chance)
    return bytes(changed)


def _swap(data: bytearray, at: int, other: int, page: int, _: Random) -> None:
    one, two = data[at : at + page], data[other : other + page]
    data[at : at + page], data[other : other + page] = two, one


def _copy(data: bytearray, at: int, other: int, page: int, _: Random) -> None:
    data[at : at + page] = data[other : other + page]


def _zero(data: bytearray, at: int, _other: int, page: int, _: Random) -> None:
    data[at : at + page] = bytes(page)


def _fill(data: bytearray, at: int, _other: int, page: int, chance: Random) -> None:
    data[at : at + page] = chance.randbytes(page)


def _cut(data: bytearray, at: int, _other: int, _page: int, chance: Random) -> None:
    del data[chance.choice([at, chance.randrange(len(data) + 1)]) :]


def _extend(data: bytearray, _at: int, _other: int, page: int, chance: Random) -> None:
    data += chance.randbytes(chance.choice([1, page, 3 * page]))


def _flip_anywhere(data: bytearray, _at: int, _other: int, _page: int, chance: Random) -> None:
    _flip(data, chance, chance.choice([1, 4, 64]), 0, len(data))


def _flip_header(data: bytearray, _at: int, _other: int, _page: int, chance: Random) -> None:
    _flip(data, chance, 1, 0, 100)


def _flip_page_header(data: bytearray, at: int, _other: int, _page: int, chance: Random) -> None:
    _flip(data, chance, 2, at, at + 16)


def _number(data: bytearray, at: int, _other: int, page: int, chance: Random) -> None:
    """Another page number, or size, or offset."""
    count = len(data) // page
    at += chance.randrange(0, page - 4, 2)
    data[at : at + 4] = struct.pack(
        ">I", chance.choice([0, 1, 2, count, count + 1, 2**31, 2**32 - 1])
    )


_TO_PAGES: Final = (
    *(_flip_anywhere, _flip_anywhere, _flip_anywhere, _flip_header, _flip_page_header),
    *(_swap, _copy, _zero, _fill, _cut, _extend, _number),
)


def _flip(data: bytearray, chance: Random, bits: int, start: int, stop: int) -> None:
    stop = min(stop, len(data))
    for _ in range(bits if stop > start else 0):
        data[chance.randrange(start, stop)] ^= 1 << chance.randrange(8)


def lines(data: bytes, chance: Random) -> bytes:
    """A file of lines, some of which are not what they were, or not where they were."""
    if chance.random() < 0.3:
        return spoilt(data, chance, data)
    found = data.splitlines(keepends=True)
    for _ in range(chance.choice([1, 1, 2, 5])):
        if not found:
            break
        at, other = chance.randrange(len(found)), chance.randrange(len(found))
        kind = chance.randrange(6)
        if kind == 0:
            del found[at]
        elif kind == 1:
            found[at:at] = [found[other]]
        elif kind == 2:
            found[at], found[other] = found[other], found[at]
        elif kind == 3:
            found[at] = spoilt(found[at], chance)
        elif kind == 4:
            found[at] = _value_replaced(found[at], chance)
        else:
            found[at:at] = [chance.choice(_ODD_LINES)]
    return b"".join(found)


_ODD_LINES: Final = (
    b"\n", b"{}\n", b"[]\n", b"null\n", b'{"a":1,"a":2}\n', b"\xef\xbb\xbf{}\n", b'{"a":NaN}\n',
    b'{"type":"end"}\n', b'{"type":"message"}\n', b"[" * 5000 + b"\n", b'{"a":' * 3000 + b"\n",
    b'{"a":1e999999}\n', b'{"a":' + b"9" * 6000 + b"}\n", b'{"role":"x"}\r\n', b'"\\ud800"\n', b"{",
    b'{"type":"message","id":1,"message":{"$map":[[{"$map":[]},1]]}}\n',
)  # fmt: skip
_ODD_VALUES: Final[Sequence[bytes]] = (
    b"null", b"true", b"-1", b"0", b"1e400", b"-0.0", b"9223372036854775808", b'""', b'"\\u0000"',
    b'"\\ud800"', b"[]", b"{}", b'{"$bytes":"="}', b'{"$set":[[],{}]}', b'{"$int":"0xzz"}',
    b'{"$datetime":"2024-13-01"}', b'{"$timestamp":[1,-1]}', b'{"$ext":[300,"AA=="]}', b"[" * 600,
    b'{"$float":"nan:ffffffffffffffff"}', b'{"$map":[[{"$set":[]},1]]}', b'{"$text":"\\\\ud8"}',
    b"[" * 300 + b"]" * 300, b'"9999-12-31T23:59:59.999999Z"', b'"0001-01-01T00:00:00Z"',
    b"1" * 5000,
    b'{"$datetime":"0001-01-01T00:00:00+23:59"}', b'{"$int":"0x' + b"f" * 9000 + b'"}',
)  # fmt: skip


def _value_replaced(line: bytes, chance: Random) -> bytes:
    """A line of JSON, with something else behind one of its colons."""
    colons = [at for at, byte in enumerate(line) if byte == ord(":")]
    if not colons:
        return line
    at = chance.choice(colons) + 1
    end = min((found for stop in b",}\n" if (found := line.find(stop, at)) > 0), default=len(line))
    return line[:at] + chance.choice(_ODD_VALUES) + line[end:]


def odd(chance: Random, levels: int = 3) -> Any:
    """A value that is plain, if not of any type that was asked for."""
    kind = chance.randrange(8 if levels else 5)
    if kind == 0:
        return text(chance)
    if kind < 4:
        return chance.choice(
            [None, True, False, 0, -1, 1, 2**63, -(2**80), 10**5000, 1.5, float("nan"),
             float("-inf"), b"\xff", "", "a", ..., object, complex(1)]
        )  # fmt: skip
    if kind == 4:
        return bytearray(chance.randbytes(4))
    if kind == 5:
        return [odd(chance, levels - 1) for _ in range(chance.randrange(4))]
    if kind == 6:
        return tuple(odd(chance, levels - 1) for _ in range(chance.randrange(3)))
    return {text(chance, 2): odd(chance, levels - 1) for _ in range(chance.randrange(4))}
