"""The part of a log that belongs to one worker, also if the log is rotated meanwhile."""

from pathlib import Path

import pytest

from garrison.supervisor.processes.post_mortem import (
    TAIL_BYTES,
    LogSection,
    inode_and_size,
    split_stacks,
)


def test_stacks_are_separated_from_the_log() -> None:
    """By the words that faulthandler begins with."""
    fatal = (
        "Fatal Python error: Segmentation fault\n\nCurrent thread 0x7f (most recent call first):\n"
    )
    assert split_stacks(f"one\n{fatal}  File x\n") == ("one\n", f"{fatal}  File x\n")
    no_stacks = "Fatal Python error: a bot wrote this\n"
    assert split_stacks(no_stacks) == (no_stacks, "")


# --- a log that is rotated meanwhile ------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log with what a former incarnation wrote."""
    path = tmp_path / "chat.log"
    path.write_text("former\n")
    return path


def append(path: Path, text: str) -> None:
    """Write to a log as a worker does."""
    with path.open("a") as file:
        file.write(text)


def test_a_log_is_of_one_incarnation(log: Path) -> None:
    """Neither what the former wrote, nor what the next one writes."""
    part = LogSection(log, inode_and_size(log))
    append(log, "mine\n")
    part.end()
    append(log, "next\n")
    assert part.read() == ("mine\n", "")


def test_stacks_begin_where_they_were_ordered(log: Path) -> None:
    """The lines before them are the log."""
    part = LogSection(log, inode_and_size(log))
    append(log, "mine\n")
    part.mark_dump()
    append(log, "Thread 0x1\n")
    part.mark_dump()
    append(log, "Thread 0x2\n")
    part.end()
    assert part.read() == ("mine\n", "Thread 0x1\nThread 0x2\n")


@pytest.mark.parametrize("way", ["renamed", "copied and cut"])
@pytest.mark.parametrize("when", ["in its life", "after its end"])
def test_a_rotated_log_is_followed(log: Path, way: str, when: str) -> None:
    """Its last lines are found, in the new file and in the old."""

    def rotate() -> None:
        old = log.with_name("chat.log.1")
        if way == "renamed":
            log.rename(old)
        else:
            old.write_bytes(log.read_bytes())
            log.write_text("")

    part = LogSection(log, inode_and_size(log))
    append(log, "first\n")
    if when == "in its life":
        rotate()
        append(log, "last\n")
        part.end()
    else:
        append(log, "last\n")
        part.end()
        rotate()
        append(log, "next\n")
    assert part.read()[0].endswith("first\nlast\n")
    assert "next" not in part.read()[0]


def test_a_log_that_is_gone_is_no_error(log: Path) -> None:
    """Somebody removed it, or it is not ours to read."""
    part = LogSection(log, inode_and_size(log))
    part.end()
    log.unlink()
    part.mark_dump()
    assert part.read() == ("", "")


def test_a_large_log_is_read_from_its_end(log: Path) -> None:
    """So much and no more, from the beginning of a line."""
    part = LogSection(log, inode_and_size(log))
    append(log, "".join(f"line {n:06}\n" for n in range(100_000)))
    part.end()
    text, _ = part.read()
    assert text.startswith("line ")
    assert text.endswith("line 099999\n")
    assert len(text) <= TAIL_BYTES
