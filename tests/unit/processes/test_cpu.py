"""A process's percentage is about a fixed window, whoever asks how often."""

import os
import time

import pytest

from garrison.ipc.system import process_tree
from garrison.supervisor.processes.cpu import SAMPLE_S, WINDOW_S, CpuMeter, CpuUsage, percent


@pytest.mark.parametrize(
    ("samples", "now", "seconds", "expected"),
    [
        ([], 5.0, 3.0, 0.0),
        ([(0.0, 0.0)], 4.0, 1.0, 25.0),  # younger than a window: since its start
        ([(0.0, 0.0)], 0.0, 1.0, 0.0),
        ([(0.0, 0.0), (2.0, 2.0), (4.0, 2.0)], 12.0, 3.0, 10.0),  # since 2.0
        ([(0.0, 0.0), (2.0, 2.0), (4.0, 2.0)], 14.5, 3.0, 9.5),  # since 4.0
        ([(0.0, 5.0)], 20.0, 4.0, 0.0),  # a clock of the kernel that went back
        ([(0.0, 0.0)], 10.0, 20.0, 200.0),  # two threads
    ],
)
def test_a_percentage_is_since_the_last_sample_that_is_a_window_old(
    samples: list[tuple[float, float]], now: float, seconds: float, expected: float
) -> None:
    """Or since the process started."""
    assert percent(samples, now, seconds) == expected


class Process:
    """Stands in for a process and for the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.seconds, self.ticks = 1000.0, 0.0, 1
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "clock_gettime", lambda clock: 0.01)
        monkeypatch.setattr(process_tree, "usage", lambda pid: (self.ticks, 4096, self.seconds))

    def lives(self, meter: CpuMeter, seconds: float, share: float) -> None:
        """Let time pass; the meter samples when it is due."""
        for _ in range(round(seconds / SAMPLE_S)):
            self.now += SAMPLE_S
            self.seconds += SAMPLE_S * share
            if self.now >= meter.due:
                meter.sample([7])


def test_questions_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two readers, one asking all the time, both get the same."""
    process = Process(monkeypatch)
    asked, unasked = CpuMeter(), CpuMeter()
    for meter in (asked, unasked):
        meter.sample([7])
    for _ in range(10):
        process.now += SAMPLE_S
        process.seconds += SAMPLE_S / 2
        for meter in (asked, unasked):
            meter.sample([7])
        for _ in range(5):
            asked.measure(7)

    assert asked.measure(7) == unasked.measure(7)
    assert asked.measure(7).percent == 50.0
    assert asked.measure(7).seconds == process.seconds


def test_an_old_load_leaves_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds stay; the samples are bounded."""
    process, meter = Process(monkeypatch), CpuMeter()
    meter.sample([7])
    process.lives(meter, 60, share=1.0)
    assert meter.measure(7).percent == 100.0
    process.lives(meter, WINDOW_S + 2 * SAMPLE_S, share=0.0)
    assert meter.measure(7).percent == 0.0
    assert meter.measure(7).seconds == 60.0
    process.ticks, process.seconds = 2, 0.0  # another process with this pid
    assert meter.measure(7).seconds == 0.0
    meter.sample([8])
    assert set(meter._processes) == {8}
    assert len(meter._processes[8].samples) <= WINDOW_S / SAMPLE_S + 2


def test_this_process_is_measured() -> None:
    """From its first question on; a process that has ended uses nothing."""
    meter, began = CpuMeter(), time.process_time()
    used = meter.measure(os.getpid())

    assert used.seconds >= round(began, 1) - 0.1
    assert used.rss_bytes > 0
    assert 0.0 <= used.percent <= 100.0 * (os.cpu_count() or 1)
    assert meter.measure(2**22 + 1) == CpuUsage()
