"""The history of services: what is kept, what a crash or a clock does to it, by table."""

from math import isnan
from pathlib import Path
from typing import Any

import pytest

from garrison.workers.services.console.history.files import HistoryFiles
from garrison.workers.services.console.history.ring import (
    SIZE,
    Ring,
    Sample,
    packed,
    unpacked,
)
from garrison.workers.services.console.history.summing import (
    columns,
    samples,
    sparkline,
    summary,
    summed,
    thinned,
)

RING = Ring(30, 10)


def sample(at: int, memory: int = 100, generation: int = 1) -> Sample:
    """Return a sample of a service."""
    return Sample(at, generation, memory, 1.0, 2.0, 0.25, 0.5)


def test_a_ring_keeps_the_last_ones(tmp_path: Path) -> None:
    """It has one size, however long it is written; another process reads it as it is."""
    files = HistoryFiles(tmp_path, {"fine": RING})
    for at in range(3000, 3000 + 25 * 30, 30):
        files.write("fine", {"a/../b": sample(at)})

    (path,) = tmp_path.iterdir()
    kept = HistoryFiles(tmp_path, {"fine": RING}).read("a/../b", "fine", 0, 9999)

    assert path.stat().st_size <= RING.size == 10 * SIZE
    assert [one.at for one in kept] == list(range(3450, 3750, 30))
    assert kept[0] == sample(3450)


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """There is no history then, and no failure; the next sample makes it again."""
    files = HistoryFiles(tmp_path / "history", {"fine": RING})

    files.prune(["a"], 0.0)
    assert files.read("a", "fine", 0, 99) == []
    files.write("fine", {"a": sample(30)})
    assert files.read("a", "fine", 0, 99) == [sample(30)]


def test_what_a_crash_has_torn_is_left_out() -> None:
    """And so are places that nothing was written to; the rest is there."""
    good, torn = packed(sample(30)), packed(sample(60))[:-1] + b"\xff"

    assert unpacked(good + torn + bytes(SIZE) + b"\x01", 0, 99) == [sample(30)]


def test_a_clock_that_was_set_back_shows_no_future() -> None:
    """Samples of later times are left out until they are overwritten."""
    data = packed(sample(30)) + packed(sample(9000))

    assert [one.at for one in unpacked(data, 0, 60)] == [30]


def test_what_belongs_to_no_service_is_deleted(tmp_path: Path) -> None:
    """Once it is older than everything that is shown; other files are none of a history."""
    files = HistoryFiles(tmp_path, {"fine": RING})
    files.write("fine", {"here": sample(30), "gone": sample(30)})
    (tmp_path / "gone.old").write_bytes(b"")

    files.prune({"here"}, (tmp_path / "gone.fine").stat().st_mtime - 1)
    assert {path.name for path in tmp_path.iterdir()} == {"here.fine", "gone.fine"}
    files.prune({"here"}, (tmp_path / "gone.fine").stat().st_mtime + 1)
    assert {path.name for path in tmp_path.iterdir()} == {"here.fine"}


def test_samples_are_made_of_status_and_rates() -> None:
    """A service without a process uses nothing."""
    row: dict[str, Any] = {"pid": 7, "generation": 3, "rss_bytes": 50, "cpu_percent": 12.5}
    rows = {"a": row, "b": {**row, "pid": None}}

    found = samples(rows, {"a": (1.5, None, 0.2)}, 60)

    assert found["a"][:5] == (60, 3, 50, 12.5, 1.5)
    assert isnan(found["a"].p50)
    assert (found["b"].generation, found["b"].memory) == (0, 0)


def test_several_samples_become_one() -> None:
    """The mean of what is used while there is a process, and the worst duration."""
    many = [Sample(30), sample(60, 100), Sample(90, 2, 300, 3.0, 0.0, 0.1, 0.9)]

    one = summed(many)

    assert (one.at, one.generation, one.memory, one.cpu) == (90, 2, 200, 2.0)
    assert one.p99 == pytest.approx(0.9)
    assert summed([Sample(30)]) == Sample(30)[:5] + summed([Sample(30)])[5:]


def test_a_chart_has_gaps_where_nothing_was_recorded() -> None:
    """Neither a stop of the console nor one of the service is drawn as a line."""
    lines = columns([sample(30), sample(60), Sample(90), sample(600)], 30)

    assert lines["at"] == [30, 60, 90, 120, 600]
    assert lines["memory"] == [100, 100, None, None, 100]


def test_a_chart_is_bounded() -> None:
    """A week has as many points as an hour can have."""
    found = thinned([sample(at) for at in range(0, 30 * 2880, 30)], 600)

    assert 300 < len(found) <= 600


def test_a_chart_says_its_figures() -> None:
    """What now, what most and when, and how often it was restarted."""
    found = [sample(30, 10), sample(60, 70), sample(90, 20, 2), Sample(120)]

    figures = summary(found)

    assert (figures["memory"], figures["memory_most"], figures["memory_most_at"]) == (20, 70, 60)
    assert figures["restarts"] == 1
    assert summary([Sample(30)]) == {}


@pytest.mark.parametrize(
    ("values", "points"),
    [([], ""), ([5], ""), ([5, 5], "0.0,19.0 80.0,19.0"), ([0, 100], "0.0,19.0 80.0,1.0")],
)
def test_a_sparkline_fits_its_box(values: list[int], points: str) -> None:
    """A line that hardly moves looks flat."""
    assert sparkline(values, 80, 20) == points
