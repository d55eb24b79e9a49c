"""When a periodic call is due."""

import pytest

from garrison.workers.background import Ticks


@pytest.mark.parametrize(
    ("began", "due"),
    [
        ([10.0], 20.0),
        ([10.05, 20.05], 30.0),  # a little late: no drift
        ([43.4], 53.4),  # a stall of three periods: one call, and the next a period later
        ([19.7], 29.7),  # a stall just before the second call
        ([10.0, 25.0], 35.0),  # the call took one and a half periods
        ([10.0, 20.9], 30.0),
    ],
)
def test_what_was_missed_is_one_call(began: list[float], due: float) -> None:
    """And the next comes a period after it."""
    ticks = Ticks(10.0, 0.0)
    for now in began:
        assert now >= ticks.due
        ticks.begin(now)
    assert ticks.due == pytest.approx(due)
