"""Rotation keeps logs small; a reader misses no line and gets none twice."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from garrison.ipc.log_files import LogReader, last_lines, rotated_path
from garrison.supervisor.logs import rotation
from garrison.supervisor.logs.rotation import Rotation

MOST, FILES = 64 * 1024, 4


class Log:
    """A log that a service writes, with its rotation and a reader."""

    def __init__(self, folder: Path, collapses: bool) -> None:
        self.path = folder / "bot.log"
        self.rotation = Rotation(folder, MOST, FILES)
        self.rotation._collapses = None if collapses else False
        self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.tail = LogReader(folder, lambda _: True)
        self.written = 0
        self.lines: list[str] = []

    def write(self, lines: int) -> None:
        """Write numbered lines."""
        for _ in range(lines):
            os.write(self.file, f"line {self.written} {'.' * 70}\n".encode())
            self.written += 1

    def rotate(self) -> None:
        """Rotate what is due, as if time had passed."""
        for log in self.rotation._logs.values():
            log.moved_at = log.retry_at = log.reported_at = float("-inf")
        self.rotation.check()

    def follow(self) -> None:
        """Read until there is no more."""
        empty = 0
        while empty < 10:
            lines = [line for _, line in self.tail.read()]
            empty = 0 if lines else empty + 1
            self.lines += lines

    @property
    def files(self) -> list[Path]:
        """Return all its files, the oldest first."""
        older = [rotated_path(self.path, number) for number in range(20, -1, -1)]
        return [*(path for path in older if path.exists()), self.path]

    @property
    def kept(self) -> list[int]:
        """Return the numbers of all lines in its files."""
        return numbers(b"".join(path.read_bytes() for path in self.files).decode().splitlines())


def numbers(lines: list[str]) -> list[int]:
    """Return the numbers of lines; the first may have lost its beginning."""
    return [int(line.split()[1]) for line in lines if line.startswith("line ")]


@pytest.fixture(params=[True, False], ids=["collapse", "truncate"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    """Yield a log on a file system that can cut files at their beginning, and one on any other."""
    log = Log(tmp_path, request.param)
    yield log
    os.close(log.file)
    os.close(log.rotation.wake)


@pytest.mark.parametrize("seed", range(5))
def test_no_line_is_lost_in_any_order(log: Log, seed: int) -> None:
    """Writing, rotating and reading in any order: each line is read once, in order. No file is too
    large, and together they have the last lines without a gap."""
    chance = random.Random(seed)
    for _ in range(120):
        log.write(chance.randrange(150))
        if chance.random() < 0.6:
            log.follow()
        log.rotate()
        assert all(path.stat().st_size <= MOST for path in log.files)
        assert len(log.files) <= FILES
    log.follow()
    assert numbers(log.lines) == list(range(log.written))
    assert len(log.lines) == log.written
    kept = log.kept
    assert kept == list(range(kept[0], log.written))
    assert rotated_path(log.path, FILES - 1).exists()
    assert not log.rotation._pending


def test_the_last_lines_span_rotated_files(log: Log) -> None:
    """The live file may be short or empty, just after it was cut."""
    for _ in range(8):
        log.write(310)
        log.rotate()
    wanted = [f"line {number} {'.' * 70}" for number in range(log.written - 1000, log.written)]
    assert last_lines(log.path, 1000) == wanted
    assert last_lines(log.path, 1) == wanted[-1:]
    assert len(last_lines(log.path, 10**6)) >= 1800


def test_a_flood_is_cut_down_to_its_end(log: Log) -> None:
    """Lines that come too fast are dropped from the middle, and reported; the last line is kept."""
    log.write(100)
    os.write(log.file, b"x" * 40 * MOST + b"\nlast words\n")
    log.rotate()
    assert all(path.stat().st_size <= MOST for path in log.files)
    assert last_lines(log.path, 1) == ["last words"]
    [(event, name, data)] = log.rotation.events()
    assert (event, name) == ("log.dropped", "bot")
    assert data["bytes"] > 38 * MOST


def test_a_flood_during_a_copy_stays_within_the_bound(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that writes as fast as its file is copied does not get a larger file beside it."""
    copy = os.sendfile

    def sendfile(to: int, source: int, offset: int, count: int) -> int:
        log.write(200)
        return copy(to, source, offset, count)

    monkeypatch.setattr(os, "sendfile", sendfile)
    for _ in range(FILES):
        log.write(2 * MOST // 80)
        log.rotate()
    assert [path.name for path in log.files if path.stat().st_size > MOST] == []


def test_a_flood_between_two_moves_is_dropped(log: Log) -> None:
    """Copying has a limit, but the file is cut."""
    log.write(700)
    log.rotate()
    os.write(log.file, b"x" * 10 * MOST + b"\nlast words\n")
    log.rotation.check()
    assert log.path.stat().st_size < MOST
    assert rotated_path(log.path, 1).exists()
    assert not rotated_path(log.path, 2).exists()


def test_a_reader_continues_after_a_flood(log: Log) -> None:
    """It marks the gap, and reads the lines after it."""
    log.write(10)
    log.follow()
    os.write(log.file, b"x" * 3 * MOST + b"\n")
    log.rotate()
    log.follow()
    log.write(5)
    log.follow()
    assert numbers(log.lines) == list(range(15))
    assert any("rotated away" in line for line in log.lines)


def test_an_emptied_file_is_read_from_its_beginning(log: Log) -> None:
    """`truncate -s 0` empties a file, or another program's rotation."""
    log.write(10)
    log.follow()
    os.truncate(log.path, 0)
    log.write(3)
    log.follow()
    assert numbers(log.lines) == list(range(13))


def test_a_failed_rotation_is_reported_once(log: Log, tmp_path: Path) -> None:
    """Without room or permission, the service continues and the file stays bounded."""
    blocker = rotated_path(log.path, 0)
    blocker.mkdir()
    for _ in range(20):
        log.write(200)
        log.rotate()
    assert log.path.stat().st_size < 2.5 * MOST
    events = list(log.rotation.events())
    assert [(name, data) for event, name, data in events if event == "log.not_rotated"] == [
        ("bot", {"problem": "Is a directory"})
    ]
    blocker.rmdir()
    log.write(700)
    log.rotate()
    assert rotated_path(log.path, 1).exists()


@pytest.mark.parametrize("cut", [True, False])
def test_a_killed_supervisors_copy_is_put_in_its_place(log: Log, cut: bool) -> None:
    """If the live file was cut, the copy is kept; else it is removed."""
    log.write(500)
    content = log.path.read_bytes()
    rotated_path(log.path, 0).write_bytes(content[:8192])
    if cut:
        log.path.write_bytes(content[8192:])
    log.rotation._recover("bot.log")
    assert log.kept == list(range(500))
    assert not rotated_path(log.path, 0).exists()


def test_a_file_that_stays_missing_is_reported_once(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer may have no right to open it anew; one that did so is no news but that."""
    log.rotate()
    log.path.rename(log.path.with_name("moved"))
    log.rotate()
    assert list(log.rotation.events()) == []
    monkeypatch.setattr(rotation, "MISSING_S", -1.0)
    log.rotate()
    log.rotate()
    assert list(log.rotation.events()) == [
        ("log.missing", "bot", {"remedy": "if it runs: garrison restart bot"})
    ]
    log.path.touch()
    log.rotate()
    assert [event for event, *_ in log.rotation.events()] == ["log.reopened"]


def test_links_and_other_files_are_not_touched(tmp_path: Path) -> None:
    """Only regular `.log` files of the folder itself are rotated."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"x" * 10 * MOST)
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "link.log").symlink_to(outside)
    (folder / "events.jsonl").write_bytes(b"x" * 10 * MOST)
    (folder / "old.log.1").write_bytes(b"x" * 10 * MOST)
    rotation = Rotation(folder, MOST, FILES)
    rotation.check()
    sizes = {path.stat().st_size for path in folder.iterdir()}
    assert sizes == {10 * MOST}
    os.close(rotation.wake)
