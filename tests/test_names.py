from __future__ import annotations

import fnmatch
import os
import re
import unicodedata
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sessionactor import (
    AmbiguousNameError,
    InvalidNameError,
    SessionError,
    SessionExistsError,
    SessionFile,
    SessionNotFoundError,
    SessionRegistry,
)
from sessionactor._names import file_name, id_part, parse

SIDE_FILES = ("", "-wal", "-shm", "-journal")
MANGO_COMPOSED, MANGO_DECOMPOSED = "mangó", "mango\u0301"

REAL: list[str] = [
    "a1b2c3d4",
    "telegram_user123",
    "_",
    "__x__",
    "user/42@example.org",
    "!room:matrix.example.org",
    "@user:matrix.example.org",
    "first.last+tag@example.org",
    "https://example.org/a?b=c&d=%20#e",
    "with spaces ",
    " leading",
    "🥭",
    "👩\u200d💻 team 🇩🇪",
    "\u202eright to left\u202c",
    "\u200fשלום",
    "مرحبا",
    "日本語のセッション",
    "日" * 120,
    "x" * 200,
    "X" * 200,
    "_" * 200,
    "🥭" * 200,
    MANGO_COMPOSED,
    MANGO_DECOMPOSED,
    "Straße",
    "strasse",
    "STRASSE",
    "ﬁ",
    "fi",
    "Å",  # A with a ring
    "\u212b",  # the Angstrom sign, which normalises to it
    "ǅ",
    "İi̇ıI",
    "UPPER",
    "upper",
    "Upper",
    "CON",
    "nul",
    "com1.txt",
    "LPT9",
    ".hidden",
    ".",
    "..",
    "../escape",
    "/etc/passwd",
    "a/../../b",
    "back\\slash",
    "-rf",
    "~",
    "~root",
    "%",
    "%41",
    "%5f",
    "a%2fb",
    "*",
    "a*",
    "?",
    "[a]",
    "[!a]",
    "x.db",
    "x.db-wal",
    ".sessionactor.lock",
    "tab\tnewline\nreturn\rescape\x1b",
    "\x7f\x80\x85\u2028\ufeff\ufffe",
    "'quoted\" `$(x)`; | & < >",
    "\U0010ffff",
    "한국어",
    "हिन्दी",
    "ไทย",
]


def entries(directory: Path) -> list[str]:
    return sorted(entry for entry in os.listdir(directory) if entry.endswith(".db"))


@pytest.mark.parametrize(
    ("session_id", "name", "entry"),
    [
        ("a1b2c3d4", "crazy-mango", "a1b2c3d4_crazy-mango.db"),
        ("a1b2c3d4", "My Chat", "a1b2c3d4_My Chat.db"),
        ("a1b2c3d4", "snake_case_1", "a1b2c3d4_snake_case_1.db"),
        ("0-9", "_", "0-9__.db"),
        ("user.name@example.org", "n", "user.name@example.org_n.db"),
        ("日本", "会話", "日本_会話.db"),
        ("🥭", "🥭", "🥭_🥭.db"),
        ("日é本", "a/b", "日%c3%a9本_a%2fb.db"),
        ("a_b", "A_b", "a%5fb_A_b.db"),
        ("aBc", "aBc", "a%42c_aBc.db"),
        (".x", ".x", "%2ex_.x.db"),
    ],
)
async def test_what_has_to_be_escaped_is_and_nothing_else(
    tmp_path: Path, session_id: str, name: str, entry: str
) -> None:
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start(session_id, name=name)
        assert session.path == tmp_path / entry
        assert entries(tmp_path) == [entry]


async def test_ids_that_users_have_are_each_one_file_and_back(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        for number, session_id in enumerate(REAL):
            session = await registry.start(session_id, name="n")
            await session.append("a", {"number": number})
        assert len(entries(tmp_path)) == len(REAL)
    async with SessionRegistry(tmp_path) as registry:
        found = await registry.find("n")
        assert [file.session_id for file in found] == sorted(REAL)
        for number, session_id in enumerate(REAL):
            file = await registry.find_by_id(session_id)
            assert (file.session_id, file.name) == (session_id, "n")
            assert file.path is not None
            assert file.path.parent == tmp_path
            session = registry.session(session_id)
            (row,) = await session.messages()
            assert row.message == {"number": number}
            assert (session.session_id, session.name) == (session_id, "n")
            assert await registry.start(session_id) is session


async def test_names_that_users_have_are_each_one_file_and_back(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        for number, name in enumerate(REAL):
            session = await registry.start(f"s{number}", name=name)
            assert session.name == name
    async with SessionRegistry(tmp_path) as registry:
        for number, name in enumerate(REAL):
            file = await registry.find_by_name(name)
            assert (file.session_id, file.name) == (f"s{number}", name)
            assert await registry.find_by_id(f"s{number}") == file
            assert (await registry.start(f"s{number}", name=name)).name == name
        assert [file.name for file in await registry.find("*")] == sorted(REAL)
        assert len(entries(tmp_path)) == len(REAL)


@pytest.mark.parametrize("text", REAL, ids=ascii)
def test_no_file_name_is_longer_than_a_directory_holds(text: str) -> None:
    for entry in (file_name(text, text), file_name("a", text), file_name(text, "a")):
        assert all(len(os.fsencode(entry + suffix)) <= 255 for suffix in SIDE_FILES)
        assert os.path.basename(entry) == entry
        assert not entry.startswith(".")


def test_ids_stay_different_where_case_and_normalisation_are_blind() -> None:
    folded = {unicodedata.normalize("NFD", id_part(one)).casefold() for one in REAL}
    assert len(folded) == len(REAL)


async def test_composed_and_decomposed_are_different_ids(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        composed = await registry.start(MANGO_COMPOSED, name="n")
        assert not await registry.exists(MANGO_DECOMPOSED)
        decomposed = await registry.start(MANGO_DECOMPOSED, name="n")
        await composed.append("a", {"composed": True})
        await decomposed.append("a", {"composed": False})
        assert composed.path != decomposed.path
        assert [row.message for row in await composed.messages()] == [{"composed": True}]


async def test_user_1_named_n_is_not_user_named_1_n(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        first = await registry.start("user_1", name="n")
        second = await registry.start("user", name="1_n")
        await first.append("a", {"of": "user_1"})
        assert await second.messages() == []
        assert first.path != second.path
        assert (await registry.find_by_name("n")).session_id == "user_1"
        assert (await registry.find_by_name("1_n")).session_id == "user"
        assert await registry.delete("user")
        assert [row.message for row in await first.messages()] == [{"of": "user_1"}]


# by property

nasty = st.sampled_from(list("_%~*?[]!/\\.: aA-é\u0301ßſıKÅ\u212bﬁ日\U0001f96d\u200d\u202e\n\x7f0"))
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = (
    st.text(nasty, min_size=1, max_size=12)
    | st.text(characters, min_size=1, max_size=20)
    | st.text(nasty | characters, min_size=1, max_size=200)
    | st.sampled_from(REAL)
)


def blind(entry: str) -> str:
    """How a file system sees a name that is blind to case and normalisation."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", entry).casefold())


@given(texts, texts)
@settings(max_examples=500)
def test_every_file_name_parses_back_to_its_id_and_name(session_id: str, name: str) -> None:
    entry = file_name(session_id, name)
    parts = parse(entry)
    assert parts is not None
    assert parts.session_id in (session_id, None)
    assert parts.name in (name, None)
    assert parts.id_part == id_part(session_id)
    assert len(os.fsencode(entry + "-journal")) <= 255
    assert entry.endswith(".db")
    assert not entry.startswith(".")
    assert not set(entry) & set("/\\\0*?[]")
    assert entry.isascii() or unicodedata.normalize("NFC", entry) == entry
    assert unicodedata.normalize("NFD", entry) == entry
    if len(session_id) <= 10:
        assert parts.session_id == session_id
    if len(name) <= 10:
        assert parts.name == name


@given(texts, st.sampled_from([str.swapcase, str.casefold, str.upper, str.title]), st.data())
@settings(max_examples=300)
def test_ids_that_a_file_system_may_take_for_one_get_files_that_it_cannot(
    session_id: str, change: Callable[[str], str], data: st.DataObject
) -> None:
    form: Any = data.draw(st.sampled_from(["NFC", "NFD", "NFKC", None]))
    other = change(session_id)
    other = unicodedata.normalize(form, other) if form else other
    assume(other != session_id and 1 <= len(other) <= 200)
    assert blind(id_part(session_id)) != blind(id_part(other))


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=6, unique_by=lambda pair: pair[0]))
@settings(max_examples=40)
async def test_ids_and_names_find_their_files_after_reopening(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    directory = tmp_path_factory.mktemp("names")
    async with SessionRegistry(directory) as registry:
        files = [
            SessionFile((await registry.start(session_id, name=name)).path, session_id, name)
            for session_id, name in pairs
        ]
    async with SessionRegistry(directory) as registry:
        assert await registry.find("*") == sorted(
            files, key=lambda file: (file.name, file.session_id)
        )
        for file in files:
            assert await registry.find_by_id(file.session_id) == file
            assert registry.session(file.session_id).path == file.path
            alike = sorted(one.session_id for one in files if one.name == file.name)
            if len(alike) == 1:
                assert await registry.find_by_name(file.name) == file
            else:
                with pytest.raises(AmbiguousNameError) as caught:
                    await registry.find_by_name(file.name)
                assert sorted(caught.value.session_ids) == alike
            with pytest.raises(SessionExistsError):
                await registry.start(file.session_id, name="x" if file.name != "x" else "y")
        assert sorted(entries(directory)) == sorted(file.path.name for file in files if file.path)


# patterns


async def test_pattern_characters_in_ids_and_names_find_only_their_own(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        for text in ("ab", "a*", "a?", "[a]b", "a[!x]", "*", "?", "**"):
            await (await registry.start(text, name=text)).append("a", {"of": text})
        for text in ("a*", "a?", "[a]b", "a[!x]", "*", "?", "**"):
            assert (await registry.find_by_id(text)).session_id == text
            assert (await registry.find_by_name(text)).session_id == text
            (row,) = await registry.session(text).messages()
            assert row.message == {"of": text}
        for text in ("b*", "[ab]b", "a[!y]", "???"):
            assert not await registry.exists(text)
            with pytest.raises(SessionNotFoundError):
                await registry.find_by_id(text)
            with pytest.raises(SessionNotFoundError):
                await registry.find_by_name(text)
            assert not await registry.delete(text)
        assert len(await registry.find("*")) == 8


async def test_find_is_a_glob_on_names_sorted_by_name_then_id(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        for session_id, name in (
            ("3", "crazy-mango"),
            ("1", "crazy-mango"),
            ("2", "crazy-apple"),
            ("5", "Crazy-mango"),
            ("crazy-id", "calm-mango"),
        ):
            await registry.start(session_id, name=name)

        async def found(pattern: str) -> list[tuple[str, str]]:
            return [(file.session_id, file.name) for file in await registry.find(pattern)]

        assert await found("crazy-*") == [
            ("2", "crazy-apple"),
            ("1", "crazy-mango"),
            ("3", "crazy-mango"),
        ]
        assert await found("[cC]*-m?ngo") == [
            ("5", "Crazy-mango"),
            ("crazy-id", "calm-mango"),
            ("1", "crazy-mango"),
            ("3", "crazy-mango"),
        ]
        assert await found("crazy") == []
        assert await found("") == []
        assert await found("../*") == []
        assert len(await found("*")) == 5


async def found_by_prefixes(registry: SessionRegistry, long: str) -> dict[str, list[str]]:
    found = {}
    for prefix in ("user_1", "user_é", "user", "user*", "U", "", long, f"{long}.", "../"):
        files = await registry.find_by_prefix(prefix)
        found[prefix] = [file.session_id for file in files]
    return found


async def test_ids_are_found_by_their_beginning(place: Path | None) -> None:
    long = "user_" + "é" * 150 + "-long"
    async with SessionRegistry(place) as registry:
        for session_id, name in (
            *(("user_1", "b"), ("user_12", "a"), ("user*", "c"), ("User_1", "d"), ("x", "user_1")),
            (long, "e"),
        ):
            await registry.start(session_id, name=name)
        if place is not None:
            (place / "user%5f13_f.db").write_bytes(b"no session")
        found = await found_by_prefixes(registry, long)
    if place is not None:
        async with SessionRegistry(place) as again:  # which knows the files by their names only
            assert await found_by_prefixes(again, long) == found
    assert found["user_1"] == ["user_12", "user_1"]
    assert found["user_é"] == found[long] == [long]
    assert found["user"] == ["user_12", "user_1", "user*", long]
    assert found["user*"] == ["user*"]
    assert found["U"] == ["User_1"]
    assert len(found[""]) == 6
    assert found[f"{long}."] == found["../"] == []


patterns = st.text(st.sampled_from(list("ab*?[]!-^\\/._A")), max_size=6)


@given(
    st.lists(st.text(st.sampled_from(list("ab*?[]!-^\\/._A")), min_size=1, max_size=4), max_size=6),
    st.lists(patterns, min_size=1, max_size=10),
)
async def test_patterns_are_those_of_fnmatchcase(names: list[str], globs: list[str]) -> None:
    async with SessionRegistry(None) as registry:
        for number, name in enumerate(names):
            await registry.start(str(number), name=name)
        for pattern in globs:
            found = [(file.name, file.session_id) for file in await registry.find(pattern)]
            assert found == sorted(
                (name, str(number))
                for number, name in enumerate(names)
                if fnmatch.fnmatchcase(name, pattern)
            )


# refusals

CALLS: dict[str, Callable[[SessionRegistry, Any], Any]] = {
    "start": lambda registry, text: registry.start(text),
    "start with name": lambda registry, text: registry.start("ok", name=text),
    "session": lambda registry, text: registry.session(text),
    "whereis": lambda registry, text: registry.whereis(text),
    "stop": lambda registry, text: registry.stop(text),
    "delete": lambda registry, text: registry.delete(text),
    "exists": lambda registry, text: registry.exists(text),
    "find_by_id": lambda registry, text: registry.find_by_id(text),
    "find_by_name": lambda registry, text: registry.find_by_name(text),
}


@pytest.mark.parametrize(
    "text",
    ["", "\0", "a\0b", "\ud800", "ok\udfff", "x" * 201, "🥭" * 201, b"bytes", 5, 1.5, ["a"]],
    ids=ascii,
)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_what_cannot_be_an_id_or_name_is_refused_and_nothing_is_created(
    tmp_path: Path, call: Callable[[SessionRegistry, Any], Any], text: Any
) -> None:
    async with SessionRegistry(tmp_path) as registry:

        async def ask() -> None:
            answer = call(registry, text)
            if isinstance(answer, Awaitable):
                await answer

        with pytest.raises(InvalidNameError) as caught:
            await ask()
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, SessionError)
        assert entries(tmp_path) == []
        assert await registry.find("*") == []
        assert registry.statistics().active == 0


async def test_a_session_cannot_be_renamed_to_what_cannot_be_a_name(
    place: Path | None,
) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("a", name="n")
        for text in ("", "\0", "\udfff", "x" * 201, 5):
            with pytest.raises(InvalidNameError):
                await session.rename(text)  # type: ignore[arg-type]
        assert session.name == "n"


async def test_200_characters_are_not_too_many(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        session = await registry.start("🥭" * 200, name="名" * 200)
        await session.append("a", {})
        assert (session.session_id, session.name) == ("🥭" * 200, "名" * 200)


async def test_long_ids_that_differ_at_the_end_are_different(tmp_path: Path) -> None:
    async with SessionRegistry(tmp_path) as registry:
        for ending in "abc":
            session = await registry.start("日" * 199 + ending, name="月" * 199 + ending)
            await session.append("a", {"of": ending})
    async with SessionRegistry(tmp_path) as registry:
        for ending in "abc":
            (row,) = await registry.session("日" * 199 + ending).messages()
            assert row.message == {"of": ending}
            file = await registry.find_by_name("月" * 199 + ending)
            assert file.session_id == "日" * 199 + ending
        assert not await registry.exists("日" * 199 + "d")
        assert len(await registry.find("月*b")) == 1


async def test_the_true_id_and_name_in_the_file_decide_where_they_were_cut(
    tmp_path: Path,
) -> None:
    long_id, long_name = "ID/" * 60, "Name/" * 40
    async with SessionRegistry(tmp_path) as registry:
        await registry.start(long_id, name=long_name)
        await registry.start(long_id[:-1], name="short")
        await registry.start("short", name=long_name[:-1])
    async with SessionRegistry(tmp_path) as registry:
        found = [(file.session_id, file.name) for file in await registry.find("*")]
        assert found == [
            ("short", long_name[:-1]),
            (long_id, long_name),
            (long_id[:-1], "short"),
        ]
    async with SessionRegistry(tmp_path) as registry:
        session = registry.session(long_id)
        assert await session.messages() == []
        assert session.name == long_name


@pytest.mark.parametrize("touch", [True, False], ids=["used again", "left at once"])
async def test_a_name_that_was_cut_survives_renaming_and_a_restart(
    tmp_path: Path, touch: bool
) -> None:
    long_name = "Name/" * 40
    async with SessionRegistry(tmp_path) as registry:
        session = await registry.start("a", name="short")
        await session.append("a", {})
        await session.rename(long_name)
        assert session.name == long_name
        if touch:
            assert len(await session.messages()) == 1
    async with SessionRegistry(tmp_path) as registry:
        assert (await registry.find_by_id("a")).name == long_name
        assert (await registry.find_by_name(long_name)).session_id == "a"
        assert await registry.find("short") == []
        session = await registry.start("a", name=long_name)
        assert len(await session.messages()) == 1
        await session.rename("short")
    async with SessionRegistry(tmp_path) as registry:
        assert (await registry.find_by_name("short")).session_id == "a"


@pytest.mark.parametrize(
    "text", ["..", "../outside", "/outside", "a/../../outside", "..\\outside", "./x", "~/x"]
)
async def test_no_id_or_name_reaches_out_of_the_directory(tmp_path: Path, text: str) -> None:
    directory = tmp_path / "inside"
    async with SessionRegistry(directory) as registry:
        for session_id, name in ((text, "n"), ("s", text)):
            session = await registry.start(session_id, name=name)
            await session.append("a", {})
            assert session.path is not None
            assert session.path.parent == directory
        await registry.session("s").rename(text + "x")
        assert len(entries(directory)) == 2
        assert await registry.delete(text)
        assert await registry.delete("s")
        assert entries(directory) == []
    assert os.listdir(tmp_path) == ["inside"]


async def test_generated_ids_and_names_are_readable_and_not_in_use(place: Path | None) -> None:
    async with SessionRegistry(place) as registry:
        sessions = [await registry.start() for _ in range(100)]
        assert len({session.session_id for session in sessions}) == 100
        assert len({session.name for session in sessions}) == 100
        assert all(re.fullmatch("[a-z0-9]{8,}", session.session_id) for session in sessions)
        readable = [re.fullmatch("[a-z]+-[a-z]+", session.name) for session in sessions]
        assert len([name for name in readable if name]) > 90
