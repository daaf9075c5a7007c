from __future__ import annotations

import sqlite3
import string
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessionactor._terms import (
    AGENT_MARK,
    SESSION_MARK,
    SNIPPET_CHARACTERS,
    fts_query,
    index_text,
    snippet,
    storable,
    terms,
)
from sessionactor._text import MAX_CHARACTERS, text_of

# what text a message has


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "user", "content": "hello"}, "hello"),
        ({"role": "user", "name": "bob", "id": "m1", "content": "hello"}, "hello"),
        ({"role": "user", "content": None}, ""),
        ({}, ""),
        # OpenAI
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
                    {"type": "input_audio", "input_audio": {"data": "UklGR", "format": "wav"}},
                ],
            },
            "look",
        ),
        (
            {
                "role": "assistant",
                "content": "well",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "M\\u00fcnchen"}'},
                    }
                ],
            },
            "well\nweather\ncity:\nMünchen",
        ),
        ({"role": "assistant", "function_call": {"name": "now", "arguments": ""}}, "now"),
        ({"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "sun"}, "sun"),
        ({"role": "assistant", "refusal": "no", "content": None}, "no"),
        ({"type": "function_call", "name": "f", "arguments": "{cut", "call_id": "c"}, "f\n{cut"),
        ({"type": "function_call_output", "call_id": "c", "output": "done"}, "done"),
        (
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "so"}]},
            "so",
        ),
        (
            {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls", "-l"]}},
            "commands:\nls\n-l",
        ),
        (
            {"type": "apply_patch_call", "operation": {"path": "a.py", "diff": "+x"}},
            "path:\na.py\ndiff:\n+x",
        ),
        ({"type": "file_search_call", "id": "f", "queries": ["late parcels"]}, "late parcels"),
        # Anthropic
        ({"type": "custom-title", "customTitle": "parcels", "sessionId": "s"}, "parcels"),
        (
            {"type": "user", "uuid": "u", "message": {"role": "user", "content": "hi"}},
            "hi",
        ),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "let me see", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "ZW5j"},
                    {"type": "text", "text": "I look"},
                    {"type": "tool_use", "id": "t1", "name": "grep", "input": {"for": "x", "n": 3}},
                ],
            },
            "let me see\nI look\ngrep\nfor:\nx\nn:\n3",
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "one"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "t2",
                        "content": [
                            {"type": "text", "text": "two"},
                            {"type": "image", "source": {"type": "base64", "data": "iVBO"}},
                        ],
                    },
                    {"type": "document", "source": {"type": "text", "data": "three"}},
                ],
            },
            "one\ntwo\nthree",
        ),
        # LangChain
        ({"type": "human", "data": {"content": "hello", "id": "run-1"}}, "hello"),
        (
            {
                "type": "ai",
                "content": [{"type": "text", "text": "a"}, "b"],
                "tool_calls": [{"name": "f", "args": {"q": "c"}, "id": "i", "type": "tool_call"}],
            },
            "a\nb\nf\nq:\nc",
        ),
        (
            {
                "lc": 1,
                "type": "constructor",
                "id": ["x", "HumanMessage"],
                "kwargs": {"content": "k"},
            },
            "k",
        ),
        # Gemini
        (
            {
                "role": "model",
                "parts": [
                    {"text": "one"},
                    {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
                    {"functionCall": {"name": "now"}},
                    {"functionCall": {"name": "f", "args": {"a": [True, 2.5, "two"]}}},
                    {"functionResponse": {"name": "f", "response": {"id": "i", "ok": ["three"]}}},
                ],
            },
            "one\nnow\nf\na:\n2.5\ntwo\nthree",
        ),
        ({"content": {"role": "user", "parts": [{"text": "adk"}]}, "author": "me"}, "adk"),
        # Bedrock
        (
            {
                "role": "user",
                "content": [
                    {"text": "one"},
                    {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": "b"}}},
                    {"toolResult": {"toolUseId": "t", "content": [{"json": {"k": "two"}}]}},
                    {"reasoningContent": {"reasoningText": {"text": "why", "signature": "s"}}},
                    {"image": {"format": "png", "source": {"bytes": b"png"}}},
                ],
            },
            "one\nf\na:\nb\ntwo\nwhy",
        ),
        # a tool's answer without any shape
        ({"role": "tool", "content": {"temperature": 21, "sky": "clear"}}, "21\nclear"),
    ],
)
def test_the_text_of_the_shapes_that_people_use(message: dict[str, Any], text: str) -> None:
    assert text_of(message) == text


@pytest.mark.parametrize(
    "encoded", ["data:image/png;base64,iVBORw0KGgo=", "iVBORw0KGgo" * 100, "deadbeef" * 32]
)
def test_encoded_files_are_not_text(encoded: str) -> None:
    assert text_of({"content": f"before ({encoded}) after"}) == "before ( ) after"
    call = {"function": {"name": "save", "arguments": {"file": encoded}}}
    assert text_of({"tool_calls": [call]}) == "save\nfile:"


def test_a_text_is_bounded() -> None:
    assert len(text_of({"content": "word " * MAX_CHARACTERS})) == MAX_CHARACTERS
    assert len(text_of({"content": ["word"] * MAX_CHARACTERS})) <= MAX_CHARACTERS
    nested: Any = "deep"
    for _ in range(100_000):
        nested = [nested]
    assert text_of({"content": nested}) == ""
    assert text_of({"content": list(range(1_000_000))}) == ""
    assert text_of({"content": "x", "input": "[" * 100_000}).endswith("[")


def test_a_message_that_contains_itself_has_a_text() -> None:
    message: dict[str, Any] = {"text": "round"}
    message["content"] = [message, message]
    assert set(text_of(message).split()) == {"round"}


class Hostile(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no")

    def __len__(self) -> int:
        raise RuntimeError("no")


def test_a_mapping_that_raises_has_no_text() -> None:
    assert text_of(Hostile()) == ""
    assert text_of({"text": "kept", "content": [Hostile()]}) == "kept"


KEYS = st.sampled_from(
    [
        *("content", "text", "parts", "tool_calls", "function", "arguments", "args", "input"),
        *("name", "data", "kwargs", "source", "type", "output", "response", "json", "thinking"),
    ]
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from(["text", "[[", '{"a": "b"}', "\ud800", "\0", "NaN"]),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS | st.text() | st.integers(), inner)
    ),
    max_leaves=20,
)


@given(st.dictionaries(KEYS | st.text(), ANYTHING))
def test_no_message_is_without_a_text_that_can_be_indexed(message: dict[Any, Any]) -> None:
    text = text_of(message)
    assert len(text) <= MAX_CHARACTERS
    index_text(text).encode()
    storable(text).encode()
    assert "\0" not in storable(text)


# what is found


class Index:
    """A real FTS5 table."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:")
        self._connection.execute(
            "CREATE VIRTUAL TABLE words USING fts5(text, content='',"
            " tokenize='unicode61 remove_diacritics 2')"
        )

    def put(self, text: str) -> None:
        self._connection.execute(
            "INSERT INTO words (words) VALUES ('delete-all')",
        )
        self._connection.execute(
            "INSERT INTO words (rowid, text) VALUES (1, ?)", (index_text(text),)
        )

    def finds(self, query: str) -> bool:
        expression = fts_query(query)
        if expression is None:
            return False
        found = self._connection.execute(
            "SELECT rowid FROM words WHERE words MATCH ?", (expression,)
        ).fetchall()
        return bool(found)


INDEX = Index()
CJK = st.sampled_from("你好世界我們한국어あいうカタ々〇ー")
LATIN = st.text(string.ascii_letters, min_size=1, max_size=8)
WORDS = st.lists(LATIN | st.text(CJK, min_size=1), min_size=1, max_size=8)
QUERIES = (
    st.text(
        st.sampled_from(list(" \"*:^()-+{}.,'\\%_~&|!\0\ud800\ue000") + list("abAN你好ＡéǅORDT"))
    )
    | st.text()
)


@pytest.mark.parametrize(
    ("text", "query", "found"),
    [
        ("The quick brown fox", "quick", True),
        ("The quick brown fox", "QUICK fox", True),
        ("The quick brown fox", "quick cat", False),
        ("The quick brown fox", "qui", False),
        ("The quick brown fox", "qui*", True),
        ("The quick brown fox", '"quick brown"', True),
        ("The quick brown fox", '"brown quick"', False),
        ("The quick brown fox", '"quick bro"', False),
        ("The quick brown fox", '"quick bro"*', True),
        ("The quick brown fox", '"quick brown', True),
        ("The quick brown fox", 'the"quick brown"fox', True),
        ("The quick brown fox", "", False),
        ("The quick brown fox", ' "" * - " ', False),
        ("NEAR the AND gate", "near AND the", True),
        ("NEAR the gate", "the AND gate", False),
        ("a re-run of it", "re-run", True),
        ("a run, re: it", "re-run", False),
        ("foo.bar(baz)", "foo.bar", True),
        ("foo_bar", "bar", True),
        ("column text: x", "text:x", True),
        ("München", "munchen", True),
        ("Mu\u0308nchen", "MÜNCHEN", True),
        ("ＡＢＣ", "abc", True),
        ("hello 🎉", "hello 🎉", True),
        ("hello\0world", "world", True),
        ("cut \ud83d off", "cut off", True),
        ("cut \ud83d off", "cut\ud83d", True),
        ("我们今天去北京大学", "北京", True),
        ("我们今天去北京大学", "北京大学", True),
        ("我们今天去北京大学", "京北", False),
        ("我们今天去北京大学", "我们 大学", True),
        ("我们今天去北京大学", "我们大学", False),
        ("我们今天去北京大学", "学", True),
        ("我们今天去北京大学", "天", True),
        ("用Python写的代码", "Python写", True),
        ("用Python写的代码", "python", True),
        ("用Python写的代码", "用Pyth*", True),
        ("用Python写的代码", "用Java", False),
        ("대한민국 만세", "한민", True),
        ("대한민국 만세", '"민국 만"', True),
        ("대한민국 만세", '"한민 만"', False),
        ("カタカナとひらがな", "タカナ", True),
        ("ｶﾀｶﾅ", "カタカナ", True),
        ("か\u3099く", "がく", True),
        ("\u1112\u1161\u11ab국", "한국", True),
    ],
)
def test_what_is_found(text: str, query: str, found: bool) -> None:
    INDEX.put(text)
    assert INDEX.finds(query) is found


@given(QUERIES, QUERIES)
@example('"', "x")
@example('a"*"b', "x")
@example(" ".join(f"w{number}" for number in range(5000)), "x")
def test_no_query_is_a_syntax_error(query: str, text: str) -> None:
    INDEX.put(text)
    INDEX.finds(query)
    snippet(text, query)


@given(WORDS, st.data())
def test_words_and_parts_of_runs_are_found(words: list[str], data: st.DataObject) -> None:
    INDEX.put(" ".join(words))
    word = data.draw(st.sampled_from(words))
    if word.isascii():
        assert INDEX.finds(word)
        assert INDEX.finds(word[: data.draw(st.integers(1, len(word)))] + "*")
    else:
        start = data.draw(st.integers(0, len(word) - 1))
        assert INDEX.finds(word[start : data.draw(st.integers(start + 1, len(word)))])
    assert INDEX.finds(" ".join(data.draw(st.permutations(words))))


@given(st.lists(st.text(CJK, min_size=1) | LATIN, min_size=1, max_size=4), st.data())
def test_parts_of_mixed_text_are_found(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    INDEX.put(text)
    start = data.draw(st.integers(0, len(pieces) - 1))
    part = "".join(pieces[start : data.draw(st.integers(start + 1, len(pieces)))])
    # Where it begins or ends inside of a Latin word it is the beginning of one at best.
    if start and pieces[start - 1].isascii() and pieces[start].isascii():
        return
    assert INDEX.finds(part + "*")
    assert INDEX.finds(f'"{part}"*')


@given(st.text(CJK, min_size=2, max_size=6), st.text(CJK, min_size=2, max_size=4))
def test_runs_find_exactly_what_they_contain(text: str, part: str) -> None:
    INDEX.put(text)
    assert INDEX.finds(part) == (part in text)


@given(st.text())
def test_no_text_has_the_marks_that_filter(text: str) -> None:
    for mark in (SESSION_MARK, AGENT_MARK):
        marked = index_text(f"{text}{mark}1")
        assert mark not in marked
        assert mark not in (fts_query(f"{text}{mark}1") or "")


def test_terms_come_once() -> None:
    assert [term.text for term in terms('b a b "b" c* c')] == ["b", "a", "c", "c"]


@pytest.mark.parametrize("text", ["wide " * 200, "x" * 1000, "…" * 600 + "x" * 600, "北京" * 500])
def test_of_a_long_phrase_counts_what_it_begins_with(text: str) -> None:
    """What a phrase costs grows with its words: half a minute for a few ten thousand."""
    INDEX.put(f"before {text} after")
    assert INDEX.finds(text)
    for phrase in (text, f"{text} other", f"before {text}"):
        assert max(len(term.text) for term in terms(f'"{phrase}"')) == 500
        assert INDEX.finds(f'"{phrase}"')
    assert not INDEX.finds(f'"other {text}"')


# what is shown


@pytest.mark.parametrize(
    ("text", "query", "shown"),
    [
        ("short", "short", "short"),
        ("two\n lines", "two", "two lines"),
        ("no match", "x", "no match"),
        ("", "x", ""),
    ],
)
def test_a_snippet(text: str, query: str, shown: str) -> None:
    assert snippet(text, query) == shown


@pytest.mark.parametrize(
    ("word", "query"),
    [
        ("needle", "needle"),
        ("Nädel", "nadel"),
        ("needle", '"needle hay"'),
        ("needles", "need*"),
        ("找到了吗", "到了"),
        ("ﬁne", "ﬁne"),
    ],
)
def test_a_snippet_shows_the_first_match(word: str, query: str) -> None:
    text = f"{'hay ' * 1000}{word} {'hay ' * 1000}{word}"
    shown = snippet(text, query)
    assert word in shown
    assert shown.startswith("…hay")
    assert shown.endswith("…")


def test_a_snippet_is_not_of_a_part_of_a_word() -> None:
    assert "the art" in snippet(f"a start {'x ' * 200} the art of it", "art")


@given(st.text(), st.text())
def test_a_snippet_is_bounded(text: str, query: str) -> None:
    shown = snippet(text * 50, query)
    assert len(shown) <= SNIPPET_CHARACTERS + 2
    assert "\n" not in shown
