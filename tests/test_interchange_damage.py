"""Files that are damaged in every way: told of by line, nothing imported, or the rest of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionactor import SessionRegistry
from sessionactor._times import EARLIEST, LATEST
from sessionactor.interchange import (
    Format,
    ImportedFile,
    export_session,
    import_session,
    import_sessions,
)
from sessionactor.testing import memory_registry

FORMATS: list[Format] = ["sessionactor", "events", "loop"]
ROWS = 6


async def whole_file(place: Path, format: Format) -> bytes:
    """A file of six messages."""
    async with memory_registry() as registry:
        session = await registry.start("s", name="n")
        await session.save_metadata(
            {"agent_loop_version": "1", "created_at_ms": str(1_700_000_000_000)}
        )
        for n in range(1, ROWS + 1):
            await session.append("agent", {"role": "user", "n": n, "text": "äö"}, key=f"k{n}")
        await export_session(registry, "s", place / "s.jsonl", format=format)
    return (place / "s.jsonl").read_bytes()


def line_of(data: bytes, n: int) -> int:
    """The number of the line of the message `n`, from 1."""
    return next(i for i, line in enumerate(data.split(b"\n"), 1) if b'"n":%d' % n in line)


def replaced(data: bytes, number: int, line: bytes) -> bytes:
    lines = data.split(b"\n")
    lines[number - 1] = line
    return b"\n".join(lines)


async def both_ways(
    place: Path, format: Format, data: bytes, **limits: int
) -> tuple[ImportedFile, ImportedFile, list[int]]:
    """Importing it as it is, then what is whole of it; the messages that came of that."""
    (place / "s.jsonl").write_bytes(data)
    async with memory_registry(**limits) as registry:
        strict = await import_session(registry, place / "s.jsonl", format=format)
        if strict.status == "refused":
            assert await registry.find("*") == []
            assert strict.problem_count >= len(strict.problems) > 0
            assert all(problem.path == place / "s.jsonl" for problem in strict.problems)
        lax = await import_session(registry, place / "s.jsonl", format=format, skip_bad=True)
        if lax.status in ("refused", "exists"):
            return strict, lax, []
        again = await import_session(registry, place / "s.jsonl", format=format, skip_bad=True)
        assert again.status == "unchanged"
        rows = await registry.session("s").messages()
        return strict, lax, [row.message.get("n") for row in rows]


DAMAGES: dict[str, tuple[Callable[[bytes, int], bytes], str]] = {
    "a bad line": (lambda data, at: replaced(data, at, b'{"role": user}'), "not JSON"),
    "a blank line": (lambda data, at: replaced(data, at, b""), "blank"),
    "a line of blanks": (lambda data, at: replaced(data, at, b" \t "), "blank"),
    "not UTF-8": (lambda data, at: data.replace(b"\xc3\xa4", b"\xff", 3), "not UTF-8"),
    "NUL": (lambda data, at: replaced(data, at, b"\0\0\0"), "not JSON"),
    "a number too large": (
        lambda data, at: replaced(data, at, b'{"n": 1e999}'),
        "beyond what a double holds",
    ),
    "too many digits": (lambda data, at: replaced(data, at, b"1" * 5000), "digits"),
    "not a number": (lambda data, at: replaced(data, at, b'{"n": NaN}'), "NaN"),
    "a member twice": (lambda data, at: replaced(data, at, b'{"n": 1, "n": 2}'), "twice"),
    "deeply nested": (lambda data, at: replaced(data, at, b"[" * 2_000_000), "nests deeper"),
    "deep and closed": (
        lambda data, at: replaced(data, at, b'{"n":%s1%s}' % (b"[" * 900, b"]" * 900)),
        "",
    ),
    "a list": (lambda data, at: replaced(data, at, b"[1]"), "object"),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_line_is_told_of(tmp_path: Path, format: Format, damage: str) -> None:
    data = await whole_file(tmp_path, format)
    change, reason = DAMAGES[damage]
    number = line_of(data, 3)
    strict, lax, left = await both_ways(tmp_path, format, change(data, number))
    assert strict.status == "refused"
    lines = [problem.line for problem in strict.problems]
    assert number in lines
    assert any(reason in problem.reason for problem in strict.problems if problem.line == number)
    assert lax.status == "imported"
    assert lax.problem_count == strict.problem_count
    if damage == "not UTF-8":
        assert left == [4, 5, 6]
    else:
        assert left == [1, 2, 4, 5, 6]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("cut", [1, 10, 20])
async def test_a_torn_last_line_is_told_of(tmp_path: Path, format: Format, cut: int) -> None:
    data = await whole_file(tmp_path, format)
    data = data.removesuffix(b'{"type":"end"}\n')[:-cut]
    strict, lax, left = await both_ways(tmp_path, format, data)
    last = data.count(b"\n") + 1
    if cut == 1 and format != "sessionactor":  # a line that does not end, but is whole
        assert (strict.status, strict.problems) == ("imported", ())
        assert lax.status == "exists" or left == [1, 2, 3, 4, 5, 6]
        return
    assert strict.status == "refused"
    if cut == 1:
        assert [problem.line for problem in strict.problems] == [None]
    else:
        assert strict.problems[0].line == last
        assert strict.problems[0].reason.startswith("cut off: ")
    assert lax.status == "imported"
    assert left == [1, 2, 3, 4, 5, 6][: 6 if cut == 1 else 5]


@pytest.mark.parametrize("format", FORMATS)
async def test_a_byte_order_mark_and_crlf_are_told_of(tmp_path: Path, format: Format) -> None:
    data = await whole_file(tmp_path, format)
    for changed, line in (
        (b"\xef\xbb\xbf" + data, 1),
        (data.replace(b"\n", b"\r\n"), 1),
        (replaced(data, 4, data.split(b"\n")[3] + b"\r"), 4),
    ):
        strict, lax, left = await both_ways(tmp_path, format, changed)
        assert (strict.status, [problem.line for problem in strict.problems]) == ("refused", [line])
        assert (lax.status, left) == ("imported", [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n\n",
        b"\xef\xbb\xbf",
        b"{",
        b"\0" * 4096,
        b"SQLite format 3\0",
        b"\xff\xfe{\0",
    ],
)
async def test_a_file_with_nothing_in_it_makes_no_session(
    tmp_path: Path, format: Format, data: bytes
) -> None:
    strict, lax, _ = await both_ways(tmp_path, format, data)
    assert strict.status == lax.status == "refused"


@pytest.mark.parametrize("format", FORMATS)
async def test_a_very_long_line_is_not_read(tmp_path: Path, format: Format) -> None:
    data = await whole_file(tmp_path, format)
    number = line_of(data, 3)
    long = b'{"n":3,"text":"%s"}' % (b"x" * 20_000_000)
    data = replaced(data, number, long)
    strict, lax, left = await both_ways(tmp_path, format, data, max_message_bytes=1 << 20)
    assert (strict.status, strict.problems[0].line) == ("refused", number)
    assert f"a line of {len(long) + 1} bytes" in strict.problems[0].reason
    assert (lax.status, left) == ("imported", [1, 2, 4, 5, 6])


@pytest.mark.parametrize("format", FORMATS)
async def test_a_message_beyond_the_registrys_limit_is_told_of(
    tmp_path: Path, format: Format
) -> None:
    async with memory_registry() as registry:
        session = await registry.start("s", name="n")
        await session.append("agent", {"role": "user", "n": 1})
        await session.append("agent", {"role": "user", "n": 2, "text": "x" * 2000})
        await export_session(registry, "s", tmp_path / "s.jsonl", format=format)
    async with memory_registry(max_message_bytes=1000) as registry:
        result = await import_session(registry, tmp_path / "s.jsonl", format=format)
        assert result.status == "refused"
        assert "max_message_bytes=1000" in result.problems[0].reason


@pytest.mark.parametrize("format", FORMATS)
async def test_of_many_problems_the_first_are_told_and_all_are_counted(
    tmp_path: Path, format: Format
) -> None:
    data = await whole_file(tmp_path, format)
    strict, lax, left = await both_ways(tmp_path, format, data + b"junk\n" * 5000)
    assert (strict.status, len(strict.problems)) == ("refused", 100)
    assert strict.problem_count >= 5000
    assert (lax.status, left) == ("imported", [1, 2, 3, 4, 5, 6])


@given(st.data(), st.sampled_from(FORMATS))
@settings(max_examples=150)
async def test_no_damage_does_more_than_be_told_of(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, format: Format
) -> None:
    place = tmp_path_factory.mktemp("damaged")
    whole = await whole_file(place, format)
    start = data.draw(st.integers(0, 2000)) % (len(whole) + 1)  # which differs from time to time
    stop = min(len(whole), start + data.draw(st.integers(0, 200)))
    junk = data.draw(st.binary(max_size=20) | st.sampled_from([b"\n", b"}\n{", b'"', b"\\", b"0"]))
    strict, lax, left = await both_ways(place, format, whole[:start] + junk + whole[stop:])
    assert strict.status in ("imported", "refused")
    assert lax.status in ("imported", "refused", "unchanged", "exists")
    assert len(left) <= ROWS + 2


# the lossless format


def native(*changes: tuple[str, str]) -> Callable[[str], str]:
    def change(text: str) -> str:
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new, 1)
        return text

    return change


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (native(('"version":1', '"version":2')), 1, "upgrade"),
        (native(('"version":1', '"version":0')), 1, "'version'"),
        (native(('"type":"session"', '"type":"message"')), 1, "does not begin with a session"),
        (native(('"session_id":"s"', '"session_id":""')), 1, "1 to 200"),
        (native(('"name":"n"', '"name":"\\u0000"')), 1, "NUL"),
        (native(('"state":"idle"', '"state":"running"')), 1, "state 'running'"),
        (native(('"revision":7', '"revision":-1')), 1, "'revision'"),
        (
            native(('"message_count":6', '"message_count":7')),
            1,
            "'message_count' is 7, the messages are 6",
        ),
        (native(('"context":{}', '"context":{"room":"r"}')), 1, "unknown 'room'"),
        (native(('{"type":"metadata"', '{"type":"note"')), 2, "no type 'note'"),
        (native(('"key":"created_at_ms"', '"key":"agent_loop_version"')), 3, "after"),
        (native(('"id":2', '"id":1')), 5, "id 1 after 1"),
        (native(('"id":6', '"id":7')), 9, "not between 1 and 6"),
        (native(('"id":2', '"id":2.0')), 5, "not an integer"),
        (native(('"id":2', '"id":true')), 5, "not an integer"),
        (native(('"key":"k3"', '"key":"k2"')), 6, "used before, in line 5"),
        (native(('"agent_id":"agent"', '"agent_id":"a\\ud800"')), 4, "surrogate"),
        (native(('"message":{', '"massage":{')), 4, "no 'data'"),
        (native(('"message":{"role"', '"message":{"$text":')), 4, "not JSON"),
        (native(('"text":"äö"', '"text":{"$what":1}')), 4, "tag $what"),
        (native(('"text":"äö"', '"text":{"$bytes":"?"}')), 4, "no $bytes"),
        (native(('"text":"äö"', '"text":{"$int":"x"}')), 4, "no $int"),
        (native(('"text":"äö"', '"text":{"$set":[1,1]}')), 4, "twice"),
        (native(('"text":"äö"', '"text":{"$set":[[]]}')), 4, "no $set"),
        (native(('"text":"äö"', '"text":{"$map":[[1]]}')), 4, "no $map"),
        (native(('"text":"äö"', '"text":{"$datetime":"2024-02-30T00:00:00"}')), 4, "no $datetime"),
        (native(('"text":"äö"', '"text":{"$float":"1.5"}')), 4, "no $float"),
        (native(('"text":"äö"', '"text":{"$ext":[-1,""]}')), 4, "no $ext"),
        (native(('"text":"äö"', '"text":{"$text":"\\\\u0041"}')), 4, "$text"),
        (native(('"revision":2', '"revision":8')), 4, "not between 0 and 7"),
        (
            native(('"inserted_at":"20', '"inserted_at":"21')),
            4,
            "after the session's last activity",
        ),
        (
            native(
                ('"n":2,"text":"äö"},"inserted_at":"20', '"n":2,"text":"äö"},"inserted_at":"19')
            ),
            5,
            "before that of the message",
        ),
        (native(('"created_at":"20', '"created_at":"21')), 1, "before 'created_at'"),
        (
            native(('"revision":3', '"revision":2'), ('"revision":2,"k', '"revision":3,"k')),
            5,
            "below",
        ),
        (native(('"key":"k1"', '"key":"k1","more":1')), 4, "unknown 'more'"),
        (native(('"key":"k1"', '"key":"k1","updated_at":"2024-01-01T00:00:00Z"')), 4, "no 'ins"),
        (native(('{"type":"end"}\n', "")), None, "cut off"),
        (native(('{"type":"end"}\n', '{"type":"end"}\n{"type":"end"}\n')), 11, "after a end"),
        (native(("\n{", '\n{"type":"message"}\n{')), 2, "no 'id'"),
    ],
)
async def test_a_bad_line_of_the_lossless_format_is_told_of(
    tmp_path: Path, change: Callable[[str], str], line: int | None, reason: str
) -> None:
    data = (await whole_file(tmp_path, "sessionactor")).decode()
    strict, _, _ = await both_ways(tmp_path, "sessionactor", change(data).encode())
    assert strict.status == "refused"
    found = [(problem.line, problem.reason) for problem in strict.problems]
    assert any(number == line and reason in text for number, text in found), found


async def test_a_file_of_another_format_is_refused_at_its_first_line(tmp_path: Path) -> None:
    for one in FORMATS:
        data = await whole_file(tmp_path, one)
        for other in FORMATS:
            if other not in (one, "loop"):
                strict, lax, _ = await both_ways(tmp_path, other, data)
                assert strict.status == lax.status == "refused"
                assert strict.problems[0].line == 1


async def test_what_else_a_member_may_hold(tmp_path: Path) -> None:
    """Files that were written by hand: other spaces, escapes, offsets, ends of lines."""
    lines = (await whole_file(tmp_path, "sessionactor")).decode().splitlines()
    loose = [json.dumps(json.loads(line), indent=None, ensure_ascii=True) for line in lines]
    text = "\n".join(loose).replace('Z"', '+00:00"', 1)
    strict, lax, left = await both_ways(tmp_path, "sessionactor", text.encode())
    assert (strict.status, lax.status, left) == ("imported", "unchanged", [1, 2, 3, 4, 5, 6])


async def test_a_directory_of_good_and_bad_files(tmp_path: Path) -> None:
    data = await whole_file(tmp_path, "loop")
    (tmp_path / "s.jsonl").unlink()
    files: dict[str, bytes] = {
        "bad.jsonl": b"{\n",
        "empty.jsonl": b"",
        "good.jsonl": data.replace(b'"session_id":"s"', b'"session_id":"good"'),
        "wrong.jsonl": data,
        "\udcff.jsonl": b'{"n":1}\n',
        "x" * 240 + ".jsonl": b'{"n":1}\n',
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    async with SessionRegistry(tmp_path / "sessions") as registry:
        report = await import_sessions(registry, tmp_path, format="loop")
        assert {os.fsdecode(file.path.name): file.status for file in report.files} == {
            name: "imported" if name == "good.jsonl" else "refused" for name in files
        }
        assert [file.session_id for file in await registry.find("*")] == ["good"]
        assert {problem.path for problem in report.problems} == {
            tmp_path / name for name in files if name != "good.jsonl"
        }


async def test_a_file_that_is_changed_while_it_is_imported_makes_no_session(
    tmp_path: Path,
) -> None:
    file = tmp_path / "s.jsonl"
    file.write_bytes(b'{"text":"%s","n":1}\n' % (b"x" * 100) * 20_000)

    def change(state: Any) -> None:
        if state.done > state.total / 2:
            with open(file, "r+b") as opened:
                opened.seek(-3, os.SEEK_END)
                opened.write(b"2")

    async with memory_registry() as registry:
        result = await import_session(registry, file, format="loop", progress=change)
        assert result.status == "failed"
        assert "changed" in result.problems[0].reason
        assert await registry.find("*") == []
        assert (await import_session(registry, file, format="loop")).status == "imported"


@pytest.mark.parametrize("member", ["created_at", "last_activity", "turn_started_at"])
@pytest.mark.parametrize("beyond", [EARLIEST - 1, -(2**62), LATEST + 1, 2**62])
async def test_a_session_has_times_of_the_years_1_to_9999(
    tmp_path: Path, member: str, beyond: int
) -> None:
    first, *rest = (await whole_file(tmp_path, "sessionactor")).splitlines(keepends=True)
    header = {**json.loads(first), member: beyond}
    data = json.dumps(header).encode() + b"\n" + b"".join(rest)
    strict, lax, _ = await both_ways(tmp_path, "sessionactor", data)
    assert (strict.status, lax.status) == ("refused", "refused")
    assert (strict.problems[0].line, strict.problems[0].reason) == (
        1,
        f"{member!r} is beyond the years 1 to 9999",
    )
