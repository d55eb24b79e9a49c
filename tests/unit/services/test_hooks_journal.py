"""Reading the host's events from a saved position: across rotation, restarts and lost files."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.waiting import until

from garrison.supervisor.logs.events import EventLog
from garrison.workers.services.hooks.journal import Event, FirstPosition, Journal, Position

SMALL = 2000  # bytes of a file, about 20 events


def all_of(journal: Journal) -> list[tuple[Event, Position]]:
    """Return everything up to now."""
    found: list[tuple[Event, Position]] = []
    while more := journal.read():
        found += more
    return found


def numbers(found: list[tuple[Event, Position]]) -> list[int]:
    """Return the numbers of events."""
    return [event.n for event, _ in found]


@settings(deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=12))
def test_each_event_is_read_once_whatever_is_rotated_when(
    steps: list[tuple[int, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also by the next process, from the last position of the one before."""
    path = tmp_path_factory.mktemp("logs") / "events.jsonl"
    log, journal = EventLog(path, SMALL, 40), Journal(path, None)
    seen: list[int] = []
    last: Position | None = None
    for count, is_restarted in steps:
        for n in range(count):
            log.record("test", "bot", text="x" * (n * 7 % 50))
        if is_restarted:
            journal.close()
            journal = Journal(path, last)
        found = all_of(journal)
        seen += numbers(found)
        last = found[-1][1] if found else last
        assert not journal.lost
    assert seen == list(range(1, log.count + 1))
    journal.close()
    log.close()


def test_what_is_written_while_a_file_is_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the file may come after the last read of it, and before its new name."""
    path = tmp_path / "events.jsonl"
    log, journal = EventLog(path, SMALL, 40), Journal(path, None)
    log.record("test")
    assert numbers(all_of(journal)) == [1]
    listed = journal._paths

    def paths() -> list[Path]:
        monkeypatch.setattr(journal, "_paths", listed)
        for _ in range(30):
            log.record("test")
        return listed()

    monkeypatch.setattr(journal, "_paths", paths)
    assert numbers(all_of(journal)) == list(range(2, 32))
    journal.close()
    log.close()


def test_what_another_program_does_to_the_files(tmp_path: Path) -> None:
    """A file that it moved away is lost; what is left is read, and nothing of it twice."""
    path = tmp_path / "events.jsonl"
    log = EventLog(path, SMALL, 5)
    for _ in range(30):
        log.record("test")
    first = Journal(path, None)
    position = all_of(first)[-1][1]
    first.close()
    log.record("test")
    path.rename(tmp_path / "events.jsonl-2026")
    for _ in range(3):
        log.record("test")
    moved = Journal(path, position)
    found = numbers(all_of(moved))
    moved.close()

    assert moved.lost
    assert found == [n for n in range(31, log.count + 1) if n != 31]
    log.close()
    for one in tmp_path.iterdir():
        one.unlink()
    until(lambda: datetime.now(UTC).isoformat(timespec="milliseconds") > position.time)
    anew = EventLog(path)
    anew.record("test")
    emptied = Journal(path, position)
    assert numbers(all_of(emptied)) == [1]
    emptied.close()
    anew.close()


def test_a_position_in_a_file_that_has_the_inode_of_another_is_not_taken(tmp_path: Path) -> None:
    """The event before it has another number there."""
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    for _ in range(5):
        log.record("test")
    size, inode = path.stat().st_size, path.stat().st_ino
    journal = Journal(path, Position(inode, size, 99, "2026-01-01T00:00:00.000Z"))
    all_of(journal)
    assert journal.lost
    journal.close()
    log.close()


def test_lines_that_are_damaged_or_not_written_whole(tmp_path: Path) -> None:
    """They are passed over, and the rest of a line is waited for."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\x00\xff\n{"n": 1, "time": "t", "event": "a"}\n{"n": 2, "ti')
    journal = Journal(path, None)
    assert numbers(all_of(journal)) == [1]
    with path.open("ab") as file:
        file.write(b'me": "t", "event": "b"}\n')
    assert numbers(all_of(journal)) == [2]
    journal.close()


def test_there_may_be_no_file_yet(tmp_path: Path) -> None:
    """It is read when it is there; one that cannot be read is an error."""
    path = tmp_path / "events.jsonl"
    journal = Journal(path, None)
    assert journal.read() == []
    log = EventLog(path)
    log.record("test")
    assert numbers(all_of(journal)) == [1]
    journal.close()
    log.close()
    if os.geteuid():
        path.chmod(0)
        with pytest.raises(PermissionError):
            Journal(path, None).read()


@pytest.mark.parametrize(
    ("names", "begin"),
    [
        ("", 0),
        ("started failed hooks", 0),  # the first start of the host
        ("started settled failed failed hooks hooks", 4),  # added to a host that runs
        ("started settled hooks started failed hooks", 3),  # of the last start alone
    ],
)
def test_where_the_first_start_begins(names: str, begin: int) -> None:
    """At the start of its host, or where it was added: former failures are no news."""
    first = FirstPosition("hooks")
    for n, name in enumerate(names.split(), 1):
        if name == "hooks":
            event = Event(n, "t", "service.state", "hooks")
        else:
            event = Event(n, "t", f"supervisor.{name}")
        first.take(event, Position(1, n, n, "t"))
    assert (first.begin.offset if first.begin else 0) == begin
