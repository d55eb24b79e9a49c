"""The crash reports on disk, and their limits."""

import json
from pathlib import Path

import pytest

from garrison.supervisor.crashes.report import (
    RECORD_BYTES,
    CrashReport,
    InFlight,
    RecentMessage,
)
from garrison.supervisor.crashes.store import KEPT, KEPT_A_SERVICE, CrashStore


def write(store: CrashStore, service: str) -> CrashReport:
    """Write a report."""
    n = store.next_number()
    crash = CrashReport(
        f"{service}-{n}", n, service, "2026-11-23T12:00:00Z", "signal", "it was killed"
    )
    store.write(crash)
    return crash


def test_reports_are_kept_and_found_again(tmp_path: Path) -> None:
    """By the next supervisor, too, which continues the numbers; the folder is private."""
    folder = tmp_path / "deaths"
    store = CrashStore(folder)
    assert store.ids() == []
    first, second = write(store, "chat"), write(store, "chat-2")
    later = CrashStore(folder)
    assert later.ids() == ["chat-1", "chat-2-2"]
    assert later.ids({"chat-2"}) == ["chat-2-2"]
    assert later.read(first.id) == first
    assert [line.cause for line in later.lines([second.id])] == ["it was killed"]
    assert write(later, "chat").id == "chat-3"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "chat-1.json").stat().st_mode & 0o777 == 0o600


def test_one_service_that_crashes_again_and_again_does_not_push_out_the_others(
    tmp_path: Path,
) -> None:
    """Each keeps its last reports, their total is limited, and no number is used twice."""
    store = CrashStore(tmp_path / "deaths")
    write(store, "quiet")
    for _ in range(3 * KEPT_A_SERVICE):
        write(store, "loop")
    assert store.ids({"quiet"}) == ["quiet-1"]
    numbers = [int(one.rpartition("-")[2]) for one in store.ids({"loop"})]
    last = 3 * KEPT_A_SERVICE + 1
    assert numbers == list(range(last - KEPT_A_SERVICE + 1, last + 1))
    for n in range(KEPT + 10):
        write(store, f"s{n}")
    assert len(store.ids()) == KEPT == len(list((tmp_path / "deaths").iterdir()))
    assert len(CrashStore(tmp_path / "deaths").ids()) == KEPT
    assert CrashStore(tmp_path / "deaths").next_number() == last + KEPT + 11


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"id": 3}', b"\xff\xfe", b"x" * (3 * RECORD_BYTES)]
)
def test_a_damaged_report_is_left_out(tmp_path: Path, content: bytes) -> None:
    """The others are still read."""
    store = CrashStore(tmp_path)
    whole, damaged = write(store, "chat"), write(store, "chat")
    (tmp_path / f"{damaged.id}.json").write_bytes(content)
    store = CrashStore(tmp_path)
    assert [line.id for line in store.lines(store.ids())] == [whole.id]
    assert store.read(damaged.id) is None
    assert write(store, "chat").n == 3


def test_a_report_cut_at_any_byte_is_no_error(tmp_path: Path) -> None:
    """As after a power cut."""
    store = CrashStore(tmp_path)
    crash = write(store, "chat")
    path = tmp_path / f"{crash.id}.json"
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert store.read(crash.id) is None


def test_reports_of_a_newer_format_are_left_out(tmp_path: Path) -> None:
    """Unknown fields alone are no reason for that."""
    store = CrashStore(tmp_path)
    newer, older = write(store, "chat"), write(store, "chat")
    for crash, change in ((newer, {"format": 2}), (older, {"later": 1})):
        path = tmp_path / f"{crash.id}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert store.read(newer.id) is None
    assert store.read(older.id) == older


def test_what_a_killed_supervisor_left_half_written_is_removed(tmp_path: Path) -> None:
    """Other files stay."""
    (tmp_path / "chat-1.new").write_text("{")
    (tmp_path / "notes.txt").write_text("mine")
    assert CrashStore(tmp_path).ids() == []
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_recorded_values_are_cleared(tmp_path: Path) -> None:
    """Everything else of a report stays; one without values is not written again."""
    store = CrashStore(tmp_path / "deaths")
    write(store, "quiet")
    full = write(store, "agent")
    call = RecentMessage("t", "in", "call", "chat", "say", 3, "ok", 1, value="my sister")
    full.messages, full.in_flight = [call], [InFlight("in", "chat", "say", 3, "t", 1.0, 1, 0, "x")]
    store.write(full)

    assert store.clear_values() == 1
    assert store.clear_values() == 0
    found = store.read(full.id)
    assert found is not None
    assert (found.messages[0].value, found.in_flight[0].value) == ("", "")
    assert found.messages[0].method == "say"
    assert b"my sister" not in (tmp_path / "deaths" / f"{full.id}.json").read_bytes()
