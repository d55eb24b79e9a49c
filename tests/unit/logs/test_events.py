"""The log of events: one line for each event, in a file and in memory."""

import os
import stat
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from garrison.supervisor.logs import events as journal_module
from garrison.supervisor.logs.events import KEPT, EventLog, LogEvent, local_time, localized


@pytest.fixture
def journal(tmp_path: Path) -> EventLog:
    """Return an event log with a file of its own."""
    return EventLog(tmp_path / "events.log")


def lines(path: Path) -> list[LogEvent]:
    """Return the events of a file."""
    return [msgspec.json.decode(line, type=LogEvent) for line in path.read_bytes().splitlines()]


def test_an_event_is_one_line_of_the_file(journal: EventLog, tmp_path: Path) -> None:
    """It has a number, the time in UTC, its name, its service and its data."""
    happened = journal.record("service.state", "a", to="running", wait_s=0.25)
    journal.record("supervisor.stopping")
    journal.close()

    first, second = lines(tmp_path / "events.log")
    assert first == happened
    assert (first.n, first.event, first.service) == (1, "service.state", "a")
    assert first.data == {"to": "running", "wait_s": 0.25}
    assert first.time.endswith("Z")
    assert (second.n, second.event, second.service, second.data) == (
        2,
        "supervisor.stopping",
        "",
        {},
    )


def test_the_last_events_are_kept_in_memory(journal: EventLog) -> None:
    """Oldest first; of all services or of some."""
    for number in range(6):
        journal.record("e", "ab"[number % 2], n=number)
    journal.record("host")

    assert [event.data.get("n") for event in journal.last(3)] == [4, 5, None]
    assert [event.data["n"] for event in journal.last(2, frozenset({"a"}))] == [2, 4]
    assert len(journal.last(10, frozenset({"a", "b"}))) == 6
    assert journal.last(0) == []
    assert journal.last(-1) == []


def test_memory_has_a_bound(journal: EventLog) -> None:
    """Ten thousand events leave the last few thousand."""
    for _ in range(10_000):
        journal.record("e")
    journal.close()

    kept = journal.last(100_000)
    assert len(kept) == KEPT
    assert kept[-1].n == 10_000


def test_listeners_get_each_event(journal: EventLog) -> None:
    """One that leaves during a call does not keep the event from the others."""
    received: list[tuple[str, int]] = []

    def once(event: LogEvent) -> None:
        received.append(("once", event.n))
        journal.listeners.remove(once)

    journal.listeners += [once, lambda event: received.append(("always", event.n))]
    journal.record("e")
    journal.record("e")

    assert received == [("once", 1), ("always", 1), ("always", 2)]


@pytest.mark.parametrize("files", [2, 4])
def test_the_file_is_rotated_by_size(tmp_path: Path, files: int) -> None:
    """No file is larger than the limit, and there are never more than the limit; each event is in
    one of them."""
    path = tmp_path / "events.log"
    (tmp_path / f"events.log.{files}").write_text("of a larger log_files")
    journal = EventLog(path, 1000, files)
    for number in range(60):
        journal.record("e", text="x" * 50, number=number)
    journal.close()

    kept = [path.with_name(f"events.log.{number}") for number in range(files - 1, 0, -1)]
    found = [event.n for one in (*kept, path) for event in lines(one)]
    assert found == list(range(found[0], 61))
    assert all(850 < one.stat().st_size < 1000 for one in kept)
    assert set(tmp_path.iterdir()) == {path, *kept}


def test_the_next_supervisor_appends(tmp_path: Path) -> None:
    """The existing content counts towards the size."""
    path = tmp_path / "events.log"
    for _ in range(2):
        journal = EventLog(path, 1000)
        journal.record("e", text="x" * 450)
        journal.close()

    assert [event.n for event in lines(tmp_path / "events.log.1")] == [1]
    assert [event.n for event in lines(path)] == [1]


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced"])
def test_a_file_that_others_removed_or_renamed_is_opened_anew(
    journal: EventLog, tmp_path: Path, how: str
) -> None:
    """The next event is in the file at the path, and the one after it says so."""
    path = tmp_path / "events.log"
    journal.record("before")
    if how == "removed":
        path.unlink()
    else:
        path.rename(tmp_path / "events.log.old")
    if how == "replaced":
        path.touch()
    journal.record("after")
    journal.record("last")
    journal.close()

    assert [event.event for event in lines(path)] == ["after", "log.reopened", "last"]


def test_the_next_supervisor_loads_the_last_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers continue; a line that is cut or of another format is skipped."""
    monkeypatch.setattr(journal_module, "RECALLED", 5)
    path = tmp_path / "events.log"
    before = EventLog(path, 1000)
    for number in range(25):
        before.record("e", "a", text="x" * 50, number=number)
    before.close()
    with path.open("ab") as file:
        file.write(b'{"n":"many"}\n[]\n\xff\xfe\n' + b"[" * 5000 + b'\n{"n":26,"ti')

    journal = EventLog(path, 100_000)
    journal.recall()
    assert [event.data["number"] for event in journal.last(100)] == [*range(20, 25)]
    assert journal.record("e").n == 26
    journal.close()
    last = path.read_bytes().splitlines()[-1]
    assert msgspec.json.decode(last, type=LogEvent).n == 26


def test_without_a_file_numbers_begin_at_one(journal: EventLog) -> None:
    """There is nothing to load."""
    journal.recall()
    assert journal.last(10) == []
    assert journal.record("e").n == 1


def test_its_own_user_alone_reads_the_file(journal: EventLog, tmp_path: Path) -> None:
    """The umask makes no difference."""
    before = os.umask(0)
    try:
        journal.record("e")
    finally:
        os.umask(before)
    journal.close()

    assert stat.S_IMODE((tmp_path / "events.log").stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """The events are still in memory, and listeners get them."""
    journal = EventLog(tmp_path / "nowhere" / "events.log")
    received: list[LogEvent] = []
    journal.listeners.append(received.append)

    journal.record("e")

    assert len(journal.last(1)) == len(received) == 1


def test_it_can_be_closed_twice(journal: EventLog, tmp_path: Path) -> None:
    """The next event opens the file again."""
    journal.record("e")
    journal.close()
    journal.close()
    journal.record("e")
    journal.close()

    assert len(lines(tmp_path / "events.log")) == 2


def event(service: str = "a", **data: Any) -> LogEvent:
    """Return an event."""
    return LogEvent(1, "2024-05-06T07:08:09.123Z", "service.state", service, data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "service.state service=a"),
        ({"to": "running", "pid": 7}, "service.state service=a to=running pid=7"),
        ({"wait_s": 0.123456}, "service.state service=a wait_s=0.123"),
        ({"wait_s": 300.0}, "service.state service=a wait_s=300"),
        ({"reason": "two words"}, 'service.state service=a reason="two words"'),
        ({"reason": ""}, "service.state service=a"),
        ({"n": 0, "ok": False}, "service.state service=a n=0 ok=False"),
    ],
)
def test_an_event_as_text(data: dict[str, Any], text: str) -> None:
    """Its name, its service, and its data; empty values are not shown."""
    assert event(**data).text() == text


def test_an_event_of_no_service() -> None:
    """An event of the host has no service."""
    assert event("", pid=7).text() == "service.state pid=7"
    assert event("").text() == "service.state"


@pytest.mark.parametrize("reason", ["one\ntwo", "one\r\ntwo", "one\x1b[2Jtwo", "one\x00two"])
def test_an_event_is_one_line_whatever_its_data(reason: str) -> None:
    """The text of an exception may have line breaks and control characters."""
    text = event(reason=reason).text()

    assert text.isprintable()
    assert "one" in text
    assert "two" in text


def test_times_are_shown_with_their_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    """In local time."""
    shown = local_time("2024-05-06T07:08:09.123Z")

    assert shown[10] == "T"
    assert ".123" in shown
    assert shown[-6] in "+-"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2024-05-06T07:08:09.123Z INFO x", "2024-05-06T12:53:09.123+05:45 INFO x"),
        ("2024-05-06T07:08:09Z", "2024-05-06T12:53:09.000+05:45"),
        ("2024-05-06T07:08:09.123456+00:00 x", "2024-05-06T12:53:09.123+05:45 x"),
        ("2024-05-06T07:08:09.123 x", "2024-05-06T07:08:09.123 x"),  # of an unknown zone
        ("2024-05-06T07:08:09.123Zulu", "2024-05-06T07:08:09.123Zulu"),
        ("2024-99-06T07:08:09.123Z x", "2024-99-06T07:08:09.123Z x"),
        ("at 2024-05-06T07:08:09.123Z", "at 2024-05-06T07:08:09.123Z"),
        ("", ""),
    ],
)
def test_a_log_line_is_shown_in_the_local_timezone(
    monkeypatch: pytest.MonkeyPatch, line: str, expected: str
) -> None:
    """Only the time that it begins with, and only if that is UTC: one output has one timezone."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        shown = localized(line)
    time.tzset()
    assert shown == expected


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0312, "0.0312"),
        (1.0, "1"),
        (0.0, "0"),
        (1.17e-05, "0"),
        (0.00012, "0.00012"),
        (999.4, "999"),
        (999.9, "1000"),
        (3600.0, "3600"),
        (-1234.5, "-1234"),
    ],
)
def test_numbers_are_shown_without_exponents(value: float, shown: str) -> None:
    """A wait of an hour is no `3.6e+03`."""
    event = LogEvent(1, "", "service.state", "a", {"wait_s": value})
    assert event.text() == f"service.state service=a wait_s={shown}"
