"""That the disk which loses its power does what disks do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from torture.power_loss.disk import Contents, Disk, Loss, Names, materialise
from torture.power_loss.recording import Note, compiled, parse, record

ROOT = Note("d", 1, 0, "/root", "", b"")
A, B = bytes(512), b"b" * 512


def note(what: str, inode: int = 0, at: int = 0, path: str = "", new: str = "") -> Note:
    place = "/root/" if path else ""
    return Note(what, inode, at, place + path, "/root/" + new if new else "", b"")


def wrote(inode: int, at: int, data: bytes) -> Note:
    return Note("w", inode, at, "", "", data)


def left(
    disk: Disk, names: Names, contents: Contents, *, at: int | None = None
) -> Iterator[dict[str, bytes | str | None]]:
    """What losses of power at one moment leave."""
    for number in range(200):
        moment = len(disk.notes) if at is None else at
        yield disk.after(Loss(number, moment, names, contents, False, str(number)))


def test_what_was_synced_is_there_and_what_was_not_may_be() -> None:
    disk = Disk([ROOT, note("c", 2, path="f"), wrote(2, 0, A), note("s", 2), wrote(2, 512, B)])
    assert next(left(disk, "none", "all")) == {}  # its name was not synced
    assert next(left(disk, "all", "none")) == {"f": A}
    assert next(left(disk, "all", "all")) == {"f": A + B}
    found = {content for one in left(disk, "all", "sectors") for content in one.values()}
    assert found == {A, A + A, A + B}


def test_writes_may_be_reordered_and_torn_in_sectors() -> None:
    disk = Disk(
        [ROOT, note("c", 2, path="f"), wrote(2, 0, A * 2), note("s", 2), wrote(2, 0, B + B)]
    )
    found = {content for one in left(disk, "all", "sectors") for content in one.values()}
    assert found == {A + A, A + B, B + A, B + B}
    assert {*next(left(disk, "all", "pages")).values()} <= {A + A, B + B}


def test_a_file_is_cut_off_as_a_whole() -> None:
    changes = [wrote(2, 0, B * 3), note("s", 2), note("t", 2, at=0), wrote(2, 0, A)]
    disk = Disk([ROOT, note("c", 2, path="f"), *changes])
    found = {content for one in left(disk, "all", "sectors") for content in one.values()}
    assert found == {B * 3, b"", A}


def test_names_come_in_order_or_each_by_itself() -> None:
    names = [note("c", 2, path="draft"), note("l", path="draft", new="f"), note("u", path="draft")]
    disk = Disk([ROOT, *names])
    found = {frozenset(one) for one in left(disk, "ordered", "all")}
    assert found == {*map(frozenset, ([], ["draft"], ["draft", "f"], ["f"]))}
    assert {frozenset(one) for one in left(disk, "any", "all")} == found
    both = next(one for one in left(disk, "any", "all") if len(one) == 2)
    assert sorted(map(str, both.values())) == ["b''", "draft"]  # two names of one file


def test_a_renaming_is_there_or_not() -> None:
    steps = [note("c", 2, path="old"), note("s", 1), note("r", path="old", new="new")]
    disk = Disk([ROOT, *steps])
    assert {tuple(one) for one in left(disk, "any", "all")} == {("old",), ("new",)}
    assert next(left(disk, "none", "all")) == {"old": b""}


def test_what_was_there_before_the_start_is_certain() -> None:
    start = Note("m", 0, 0, "", "", b"start")
    disk = Disk([ROOT, note("c", 2, path="f"), wrote(2, 0, A), start, wrote(2, 0, B)])
    assert next(left(disk, "none", "none")) == {"f": A}
    assert all(loss.at >= disk.since for loss in islice(disk.losses(Random(1)), 200))


SCRIPT = """
import os, sqlite3, sys
root = sys.argv[1]
marks = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
os.mkdir(f"{root}/d")
with open(f"{root}/d/a", "wb") as file:
    file.write(b"one")
    file.flush()
    os.fsync(file.fileno())
os.link(f"{root}/d/a", f"{root}/d/b")
os.write(marks, b"linked")
os.rename(f"{root}/d/b", f"{root}/d/c")
os.unlink(f"{root}/d/a")
connection = sqlite3.connect(f"{root}/s.db", isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE t(x)")
connection.execute("INSERT INTO t VALUES (randomblob(9000))")
connection.close()
"""


def test_what_a_process_did_gives_the_files_that_it_left(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    command = ["-c", SCRIPT, root, tmp_path / "marks"]
    disk = Disk(list(parse(record(compiled(tmp_path), root, tmp_path, command))))
    whats = "".join(note.what for note in disk.notes)
    assert whats.startswith("ddcwslmru")
    materialise(next(left(disk, "all", "all")), tmp_path / "left")
    for place, _, entries in os.walk(root):
        for entry in entries:
            path = Path(place) / entry
            assert (tmp_path / "left" / path.relative_to(root)).read_bytes() == path.read_bytes()
    assert sorted(next(left(disk, "all", "all"))) == ["d", "d/c", "s.db"]


def test_without_a_compiler_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="gcc"):
        compiled(tmp_path)


def test_a_victim_that_fails_is_told_from_one_that_does_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(RuntimeError, match="broken"):
        record(compiled(tmp_path), root, tmp_path, ["-c", "raise SystemExit('broken')"])


def test_what_is_not_recorded_ends_the_process(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    script = "import os, sys; os.mkdir('new', dir_fd=os.open(sys.argv[1], os.O_RDONLY))"
    with pytest.raises(RuntimeError, match="mkdirat is not recorded"):
        record(compiled(tmp_path), root, tmp_path, ["-c", script, root / "d"])
