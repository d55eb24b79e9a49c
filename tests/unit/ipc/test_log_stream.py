"""A stream on a full disk never fails; it reports later how much was lost."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from garrison.ipc.system import log_stream
from garrison.ipc.system.log_stream import LossyStream

ROOT = Path(__file__).parents[3]
Write = Callable[[bytes], int]


class Disk:
    """A disk with room for a number of bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, number: int = errno.ENOSPC):
        self.taken, self.room, self.number, self.writes = b"", room, number, 0
        monkeypatch.setattr(os, "write", self._write)

    def _write(self, _: int, data: bytes) -> int:
        self.writes += 1
        count = min(len(data), self.room)
        if not count:
            raise OSError(self.number, os.strerror(self.number))
        self.room -= count
        self.taken += bytes(data[:count])
        return count


def lost(count: int) -> bytes:
    """Return the line that reports the loss."""
    return f"garrison: {count} bytes of this log were lost here: No space left on device\n".encode()


def test_what_was_lost_is_told_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that was cut is ended first; the count is of all that was lost in between."""
    disk = Disk(monkeypatch, 9)
    out = LossyStream(1, "<stdout>")

    for line in (b"whole\n", b"cut short\n", b"none of it\n"):
        assert out.write(line) == len(line)
    disk.room = 10_000
    out.write(b"after\n")
    out.write(b"again\n")

    assert disk.taken == b"whole\ncut\n" + lost(7 + 11) + b"after\nagain\n"


def test_a_disk_with_room_for_the_word_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each loss is reported."""
    disk = Disk(monkeypatch, 0)
    out = LossyStream(1, "<stdout>")
    out.write(b"1234\n")
    disk.room = len(lost(5))
    out.write(b"123456\n")
    disk.room = 10_000
    out.write(b"after\n")

    assert disk.taken == lost(5) + lost(7) + b"after\n"


def test_a_word_that_does_not_fit_is_said_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was lost is forgotten."""
    disk = Disk(monkeypatch, 0)
    out = LossyStream(1, "<stdout>")
    out.write(b"1234\n")
    disk.room = 5
    out.write(b"1\n")
    disk.room = 10_000
    out.write(b"after\n")

    assert disk.taken == b"garri\n" + lost(7) + b"after\n"


def test_a_full_disk_is_asked_once_for_each_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never waited for."""
    disk = Disk(monkeypatch, 0)
    out = LossyStream(1, "<stdout>")
    for _ in range(100):
        out.write(b"x" * 1000)
    assert disk.writes == 100


def test_another_error_is_the_printers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed stream, and a pipe without a reader, raise as usual."""
    Disk(monkeypatch, 0, errno.EPIPE)
    with pytest.raises(BrokenPipeError):
        LossyStream(1, "<stdout>").write(b"x")


def test_nothing_but_a_full_disk_is_passed_over(tmp_path: Path) -> None:
    """A log that cannot be created for another reason is an error."""
    with pytest.raises(NotADirectoryError):
        log_stream.log_or_nothing("/dev/null/a.log")
    descriptor, problem = log_stream.log_or_nothing(str(tmp_path / "a.log"))
    os.close(descriptor)
    assert problem == ""
    assert (tmp_path / "a.log").stat().st_mode & 0o777 == 0o600


PROGRAM = """
import logging, os, sys
from garrison.ipc.system import log_stream
from garrison.workers.process import redaction
early = sys.stdout
for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(line_buffering=True, errors="backslashreplace")
full = os.open("/dev/full", os.O_WRONLY)
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(full, 1); os.dup2(full, 2)
log_stream.install(log_stream.standard())
if len(sys.argv) > 2:
    redaction.install({"KEY": sys.argv[2]})
logging.basicConfig(stream=sys.stderr)
for number in range(1000):
    print("lost", number)
    print("x" * 10_000, file=early)
    logging.warning("lost")
    sys.stdout.buffer.write(b"lost\\n")
    sys.stdout.flush()
os.dup2(file, 1); os.dup2(file, 2)
print("kept", *sys.argv[2:])
logging.warning("logged")
"""


@pytest.mark.parametrize("secret", [[], ["cAnary-7f3a9"]])
@pytest.mark.parametrize("env", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_no_print_raises(tmp_path: Path, env: dict[str, str], secret: list[str]) -> None:
    """Nor does logging complain, and nothing is kept in memory to be written later."""
    path = os.pathsep.join([str(ROOT / ".src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path / "log"), *secret],
        env={**os.environ, "PYTHONPATH": path, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    log = (tmp_path / "log").read_text().splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert len(log) == 4
    assert log[0].startswith("garrison: 100")
    assert log[1] == ("kept [KEY]" if secret else "kept")
    assert log[2].startswith("garrison: ")
    assert log[3] == "WARNING:root:logged"


def stream(path: Path, descriptor: int) -> LossyStream:
    """Return a stream to a file, on a descriptor of its own, that follows its path."""
    opened = log_stream.open_log(str(path))
    os.dup2(opened, descriptor)
    os.close(opened)
    made = LossyStream(descriptor, "<test>")
    made.follow(str(path))
    return made


@pytest.fixture
def descriptor() -> Iterator[int]:
    """Return a descriptor of the test's own."""
    made = os.open(os.devnull, os.O_WRONLY)
    yield made
    os.close(made)


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced"])
def test_a_file_that_others_removed_or_renamed(tmp_path: Path, descriptor: int, how: str) -> None:
    """What is written from the next check on is in the file at the path, and so is what children
    write, which have the same descriptor."""
    path, old = tmp_path / "bot.log", tmp_path / "bot.log.old"
    out = stream(path, descriptor)
    out.write(b"one\n")
    assert not out.follow()
    if how == "removed":
        path.unlink()
    else:
        path.rename(old)
    if how == "replaced":
        path.touch()
    assert out.follow()
    out.write(b"two\n")
    os.write(descriptor, b"three\n")
    assert path.read_bytes() == b"two\nthree\n"
    assert not out.follow()


def test_a_write_checks_by_itself(
    tmp_path: Path, descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop may be blocked."""
    monkeypatch.setattr(log_stream, "FOLLOW_S", 0.0)
    path = tmp_path / "bot.log"
    out = stream(path, descriptor)
    path.unlink()
    out.write(b"one\n")
    assert path.read_bytes() == b"one\n"


def test_what_cannot_be_opened_anew_stays(tmp_path: Path, descriptor: int) -> None:
    """The former file is better than none; and a descriptor that the program has redirected itself
    is left to it."""
    folder = tmp_path / "logs"
    folder.mkdir()
    out = stream(folder / "bot.log", descriptor)
    folder.rename(tmp_path / "moved")
    assert not out.follow()
    out.write(b"one\n")
    assert (tmp_path / "moved" / "bot.log").read_bytes() == b"one\n"
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    os.dup2(other, descriptor)
    os.close(other)
    folder.mkdir()
    assert not out.follow()
