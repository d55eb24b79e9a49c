"""An idle worker drops its copies soon after its start, and seldom later; a busy one does not."""

from collections.abc import Iterable

from garrison.workers.process.copy_schedule import (
    AGAIN_S,
    FIRST_S,
    IDLE_FAULTS,
    LEAST_FAULTS,
    CopySchedule,
)


def due(schedule: CopySchedule, beats: Iterable[tuple[float, int]]) -> list[float]:
    """Return the times of those heartbeats at which copies are to be dropped."""
    return [now for now, faults in beats if schedule.is_due(faults, now)]


def still(begin: float, faults: int, beats: int) -> list[tuple[float, int]]:
    """Return heartbeats of a worker that makes no faults."""
    return [(begin + number, faults) for number in range(beats)]


def test_soon_after_the_start_and_then_once_at_most() -> None:
    """Copies are dropped once: those of pages that an idle worker uses are soon there again."""
    schedule = CopySchedule()
    assert due(schedule, still(0, 9000, 2)) == [1]
    assert due(schedule, still(2, 9000 + LEAST_FAULTS * 2, 60)) == []


def test_a_busy_worker_keeps_its_copies() -> None:
    """It would make them again at once."""
    beats = [(now, 9000 + now * (IDLE_FAULTS + 1)) for now in range(100)]
    assert due(CopySchedule(), beats) == []


def test_after_work_it_idles_for_longer_first() -> None:
    """A call that comes every few seconds does not make them anew each time."""
    schedule = CopySchedule()
    assert due(schedule, still(0, 9000, 10)) == [1]
    worked = 9000 + LEAST_FAULTS
    assert due(schedule, still(10, worked, 30)) == [10 + AGAIN_S]
    assert FIRST_S < AGAIN_S


def test_few_copies_are_not_searched_for() -> None:
    """However long it idles, and also where they come one by one."""
    schedule = CopySchedule()
    assert due(schedule, still(0, 9000, 10)) == [1]
    assert due(schedule, still(10, 9000 + LEAST_FAULTS - 1, 100)) == []
    assert due(schedule, still(110, 9000 + LEAST_FAULTS, 12)) != []
