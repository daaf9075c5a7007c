"""What the command line shows of messages: as text that is safe, and as JSON."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionactor import Row, StateChanged, Truncated
from sessionactor.cli import _json as cli_json
from sessionactor.cli._messages import SHOWN_CHARACTERS, body, header, role_of, text
from sessionactor.cli._text import clean, counted, size

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
JOINERS = {"\u200c", "\u200d"}  # of emoji, and of Persian and Indic scripts


def row(message: dict[Any, Any], **fields: Any) -> Row:
    values = {"checkpoint": False, "keep_from": None, "key": None, "parent": None, "turn": None}
    return Row(7, "agent-1", message, NOW, **{**values, **fields}, revision=9)


@pytest.mark.parametrize(
    ("message", "role"),
    [
        ({"role": "user", "content": {"role": "model"}}, "user"),
        ({"type": "human", "data": {"content": "hi"}}, "human"),
        ({"type": "", "message": {"role": "assistant"}}, "assistant"),
        ({"author": "helper", "content": {"role": "model", "parts": [{"text": "hi"}]}}, "model"),
        ({"content": [{"type": "text"}]}, ""),
    ],
)
def test_who_says_it(message: dict[str, Any], role: str) -> None:
    assert role_of(message) == role


# text


def is_harmless(char: str) -> bool:
    """Whether a terminal shows it, and neither obeys it nor hides other text by it."""
    if unicodedata.bidirectional(char) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI"}:
        return False
    return unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"}


@given(st.text(st.characters()))
def test_no_text_commands_the_terminal(text: str) -> None:
    assert all(map(is_harmless, clean(text)))
    assert all(is_harmless(char) or char in "\n\t" for char in clean(text, lines=True))


def test_every_character_that_is_neither_shown_nor_joins_others_is_escaped() -> None:
    every = "".join(map(chr, range(0x110000)))
    left = clean(every)
    assert all(map(is_harmless, left))
    assert {"\u200e", "\u200f", "\u061c", "\u200b", "\u2060", "\ufeff", "\xad"}.isdisjoint(left)
    assert set(left) > JOINERS
    assert "\U000e0041" not in left


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb", r"a\rb"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\ud800", r"\ud800"),
        ("日本語 👩‍💻 עברית [red]", "日本語 👩‍💻 עברית [red]"),
    ],
)
def test_what_is_escaped_can_be_recognised(given: str, shown: str) -> None:
    assert clean(given) == shown


def test_lines_stay_in_messages_and_nowhere_else() -> None:
    assert clean("a\r\nb\tc", lines=True) == "a\nb\tc"
    assert clean("a\nb\tc") == r"a\nb\tc"


def test_numbers_are_readable() -> None:
    assert [size(n) for n in (0, 999, 1000, 1_500_000)] == ["0 B", "999 B", "1.0 kB", "1.5 MB"]
    assert [counted(n, "session") for n in (0, 1, 1000)] == [
        "0 sessions",
        "1 session",
        "1,000 sessions",
    ]


# messages


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ({"role": "user", "content": "hi"}, "hi"),
        ({"role": "user", "content": ["one", {"type": "text", "text": "two"}]}, "one\ntwo"),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"a":1}'}}],
            },
            '→ f({"a":1})',
        ),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "tool_use", "name": "f", "input": {"a": 1}},
                ],
            },
            'hm\n→ f({"a": 1})',
        ),
        (
            {"role": "user", "content": [{"type": "tool_result", "content": [{"text": "42"}]}]},
            "← 42",
        ),
        ({"role": "model", "parts": [{"text": "x"}, {"functionCall": {"name": "f"}}]}, "x\n→ f()"),
        ({"type": "human", "data": {"content": "hi"}}, "hi"),
        ({"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}, "hm"),
        ({"type": "custom_tool_call", "name": "f", "input": "1 + 1"}, "→ f(1 + 1)"),
        (
            {"type": "shell_call", "action": {"commands": ["ls"]}},
            '→ shell_call({"commands": ["ls"]})',
        ),
        ({"type": "custom_tool_call_output", "output": [{"type": "text", "text": "2"}]}, "← 2"),
        ({"type": "summary", "summary": "so far", "leafUuid": "1"}, "so far"),
        ({"type": "user", "uuid": "1", "message": {"role": "user", "content": "hi"}}, "hi"),
        ({"kind": "odd", "data": {"n": 1}}, '{"kind": "odd", "data": {"n": 1}}'),
        ({"content": {"a": 1}}, '{"a": 1}'),
        ({1: b"x"}, '{"1": {"$bytes": "eA=="}}'),
        ({"note": "step 1, loop", "data": b"x"}, "step 1, loop"),
        ({"note": "an aside", "content": "hi"}, "hi"),
        ({}, "{}"),
    ],
)
def test_messages_are_shown_in_the_shapes_that_people_store(
    message: dict[Any, Any], shown: str
) -> None:
    assert text(message) == shown


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["content", "text", "role", "type", "tool_calls", "function", "parts"])
        | st.text(max_size=3)
        | st.integers(),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["role", "content", "data", "tool_calls"]), VALUES))
def test_any_message_can_be_shown(message: dict[str, Any]) -> None:
    assert all(is_harmless(char) or char in "\n\t" for char in body(row(message)).plain)
    assert header(row(message)).plain.startswith("7")
    json.loads(cli_json.encoded(row(message)))


def test_a_deep_message_can_be_shown() -> None:
    message: dict[str, Any] = {"content": "end"}
    for _ in range(127):  # two levels each; a message may have 256
        message = {"content": [message]}
    assert "end" in body(row(message)).plain
    assert "end" in cli_json.encoded(row(message))


def test_a_huge_message_is_cut_unless_all_of_it_is_asked_for() -> None:
    huge = row({"content": "x" * (SHOWN_CHARACTERS + 1000)})
    assert body(huge).plain == "x" * SHOWN_CHARACTERS + "…\n[1,000 characters more: --full]"
    assert body(huge, whole=True).plain == "x" * (SHOWN_CHARACTERS + 1000)


def test_the_line_above_a_message_tells_what_it_belongs_to() -> None:
    fields = {"turn": "t\x1b1", "parent": "other/5", "checkpoint": True, "keep_from": 3}
    said = header(row({"role": "summary"}, updated_at=NOW, **fields)).plain
    for part in ("7", "summary", "agent-1", r"turn t\x1b1", "parent other/5", "older than 3"):
        assert part in said
    assert "updated" in said
    assert role_of({"type": "human", "data": {}}) == "human"
    assert role_of({"message": {"role": "x"}}) == "x"
    assert role_of({"role": 7}) == ""


def test_roles_have_colours() -> None:
    styles = {role: body(row({"role": role, "content": "x"})).style for role in ("user", "tool")}
    assert styles == {"user": "green", "tool": "yellow"}


# JSON


def test_what_json_cannot_hold_is_rendered() -> None:
    message = {
        "bytes": b"\x00\xff",
        "set": {3, 1, 2},
        "tuple": (1, (2,)),
        "nan": float("nan"),
        "inf": [float("inf"), float("-inf")],
        "big": 2**80,
        "huge": 1 << 20_000,
        "at": NOW,
        "lone": "\ud800\x1b\x7f",
        1: 2,
        (1, 2): None,
        None: True,
    }
    line = cli_json.encoded(row(message))
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert found["message"] == {
        "bytes": {"$bytes": "AP8="},
        "set": [1, 2, 3],
        "tuple": [1, [2]],
        "nan": "NaN",
        "inf": ["Infinity", "-Infinity"],
        "big": 2**80,
        "huge": {"$int": hex(1 << 20_000)},
        "at": "2026-11-20T12:30:00+00:00",
        "lone": "\ud800\x1b\x7f",
        "1": 2,
        "[1, 2]": None,
        "null": True,
    }
    assert found["inserted_at"] == "2026-11-20T12:30:00+00:00"
    assert found["db_id"] == 7


def test_events_have_their_kind() -> None:
    assert cli_json.event(Truncated(4, 3)) == {"event": "truncated", "revision": 4, "from_db_id": 3}
    changed = cli_json.event(StateChanged(5, "running", "t", NOW))
    assert changed["event"] == "state_changed"
    assert changed["turn_started_at"] == NOW.isoformat()
