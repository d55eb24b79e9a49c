"""Recorded lines and events are found by time, pattern and number, rotated files included."""

import json
import re
from datetime import UTC, datetime
from math import inf
from pathlib import Path

import click
import pytest

from garrison.ipc.log_events import EventReader, LogEvent
from garrison.ipc.log_files import LogReader, rotated_path
from garrison.ipc.log_span import Span, recorded_events, recorded_lines, unix_time
from garrison.ipc.time_words import parse_time
from garrison.supervisor.cli.selection import span_of

NOON = datetime(2026, 5, 6, 12, 0, 0).timestamp()  # local
UTC_NOON = datetime(2026, 5, 6, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("now", 0),
        ("10m", 600),
        ("90s", 90),
        ("2h30m", 9000),
        ("1.5 h", 5400),
        ("1d", 86_400),
        ("2 weeks ago", 1_209_600),
        ("-5min", 300),
        ("3 hours 2 secs", 10_802),
        ("today", 43_200),
        ("yesterday", 129_600),
        ("11:59", 60),
        ("12:00:01", 86_399),
        ("2026-05-06", 43_200),
        ("2026-05-06T11:00", 3600),
        ("2026-05-06 11:00:30", 3570),
    ],
)
def test_times_are_written_in_many_ways(text: str, ago: float) -> None:
    """Without an offset they are local; a time of day is the last one that has passed."""
    assert parse_time(text, NOON) == NOON - ago


def test_an_offset_is_heeded() -> None:
    """Whatever the local one is."""
    assert parse_time("2026-05-06T12:00:00Z", NOON) == UTC_NOON
    assert parse_time("2026-05-06T12:00:00+02:00", NOON) == UTC_NOON - 7200


@pytest.mark.parametrize("text", ["", "soon", "10", "10x", "500ms", "25:00", "nan", "1e5", "m10"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Not guessed."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_time(text, NOON)


def test_the_number_is_limited_unless_a_beginning_is_named() -> None:
    """With --since everything is shown, unless -n limits it; --until cannot be followed."""
    assert span_of(None, None, None, None).last == 50
    assert span_of(None, 5.0, None, None).last is None
    assert span_of(3, 5.0, None, None).last == 3
    assert span_of(None, None, 9.0, None) == Span(-inf, 9.0, None, 50)
    with pytest.raises(click.UsageError, match="--follow"):
        span_of(None, None, 9.0, None, following=True)


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("2026-05-06T12:00:00.250Z INFO service=a: x", UTC_NOON + 0.25),
        ("2026-05-06 12:00:00,5 local", NOON + 0.5),
        ("[2026-05-06T12:00:00+0200] x", UTC_NOON - 7200),
        ("2026-05-06T14:00:00.123456789+02:00", UTC_NOON + 0.123456),
        ("2026-13-06T12:00:00Z", None),
        ("at 2026-05-06T12:00:00Z", None),
        ("", None),
    ],
)
def test_a_line_s_time_is_at_its_beginning(line: str, at: float | None) -> None:
    """As logging, and most programs, write it."""
    found = unix_time(line)
    assert found == at or (found is not None and at is not None and abs(found - at) < 1e-3)


def stamp(second: int) -> str:
    """Return a time as services log it."""
    return f"2026-05-06T12:00:{second:02d}.000Z"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with logs of two services, one of them rotated, and of a third."""
    (tmp_path / "a.log.2").write_text(f"{stamp(1)} a1\n{stamp(5)} a5\n  of a5\n")
    (tmp_path / "a.log.1").write_text(f"{stamp(7)} a7\n")
    (tmp_path / "a.log").write_text(f"{stamp(9)} a9\n{stamp(11)} a11, not ended")
    (tmp_path / "b.log").write_text(f"early\n{stamp(4)} b4\n{stamp(8)} b8\nprinted\n")
    (tmp_path / "c.log").write_text("printed alone\n")
    return tmp_path


def shown(folder: Path, span: Span, *names: str) -> list[str]:
    """Return the last word of each line, with its service."""
    lines = recorded_lines(folder, names or ("a", "b", "c"), span)
    return [f"{name} {line.split()[-1]}" for name, line in lines]


def test_lines_of_several_services_are_merged_by_time(folder: Path) -> None:
    """Rotated files too. A line without a time stands behind the line that it followed."""
    merged = ["a a1", "b early", "b b4", "a a5", "a a5", "a a7", "b b8", "b printed", "a a9"]

    assert shown(folder, Span(), "a", "b") == [*merged, "a ended"]
    assert shown(folder, Span(last=100), "a", "b") == [*merged, "a ended"]
    assert shown(folder, Span(last=1), "a", "b") == ["b printed", "a ended"]
    assert shown(folder, Span(last=0)) == []
    assert shown(folder, Span())[-1] == "c alone"  # no time at all: when it was written


def test_lines_are_chosen_by_time_and_pattern(folder: Path) -> None:
    """Both ends belong to the span; the number is that of what matches."""
    at = UTC_NOON

    assert shown(folder, Span(at + 5, at + 8)) == ["a a5", "a a5", "a a7", "b b8", "b printed"]
    assert shown(folder, Span(at + 5, at + 8, last=1)) == ["a a7", "b printed"]
    assert shown(folder, Span(pattern=re.compile("a[57]|b4"))) == ["b b4", "a a5", "a a5", "a a7"]
    assert shown(folder, Span(pattern=re.compile("a[57]"), last=1)) == ["a a7"]
    assert shown(folder, Span(at + 3600), "a", "b") == []


def test_a_log_that_is_rotated_while_it_is_read_is_read_once(tmp_path: Path) -> None:
    """Every line is there, and none twice."""
    live = tmp_path / "a.log"
    live.write_text("".join(f"{number}\n" for number in range(100_000)))
    reader = LogReader(tmp_path, lambda name: True, since=-inf)
    found = [line for _, line in reader.read()]
    copy = rotated_path(live, 1)
    copy.write_bytes(live.read_bytes())
    with live.open("r+b") as file:
        file.truncate(0)
    with live.open("ab") as file:
        file.write(b"last\n")
    while not reader.is_complete:
        found += [line for _, line in reader.read()]
    for _ in range(8):
        found += [line for _, line in reader.read()]
    reader.close()

    assert found == [*map(str, range(100_000)), "last"]


def event(number: int, service: str = "a", **data: object) -> LogEvent:
    """Return an event of that second."""
    return LogEvent(number, stamp(number), "service.state", service, dict(data))


def write(path: Path, *events: LogEvent) -> None:
    """Append events to a file."""
    with path.open("ab") as file:
        for one in events:
            text = {"n": one.n, "time": one.time, "event": one.event, "service": one.service}
            file.write(json.dumps(text | {"data": one.data}).encode() + b"\n")


def test_events_are_read_from_all_files(tmp_path: Path) -> None:
    """Thousands of them, and those behind a damaged line."""
    path = tmp_path / "events.jsonl"
    many = [LogEvent(n, stamp(0), "e", "b" if n % 2 else "a") for n in range(1, 3001)]
    write(rotated_path(path, 2), *many)
    write(rotated_path(path, 1), event(10))
    with rotated_path(path, 1).open("ab") as file:
        file.write(b'{"n": \xff\n')
    write(path, event(20), event(30, "b", to="running"))

    assert len(recorded_events(path, (), Span())) == 3003
    assert [one.n for one in recorded_events(path, (), Span(last=3))] == [10, 20, 30]
    assert len(recorded_events(path, ("b",), Span())) == 1501
    assert [one.n for one in recorded_events(path, ("[a]",), Span(last=2))] == [10, 20]
    since = Span(UTC_NOON + 10, UTC_NOON + 20)
    assert [one.n for one in recorded_events(path, (), since)] == [10, 20]
    running = Span(pattern=re.compile("to=run"))
    assert [one.n for one in recorded_events(path, (), running)] == [30]
    assert recorded_events(tmp_path / "none.jsonl", (), Span()) == []


def test_events_are_followed_across_a_rotation(tmp_path: Path) -> None:
    """What was written before the file was renamed is not lost."""
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert reader.read() == []
    write(path, event(1))
    assert [one.n for one in reader.read()] == [1]
    write(path, event(2))
    path.rename(rotated_path(path, 1))
    assert [one.n for one in reader.read()] == [2]
    assert reader.read() == []
    write(path, event(3))
    assert [one.n for one in reader.read()] == [3]
    reader.close()
