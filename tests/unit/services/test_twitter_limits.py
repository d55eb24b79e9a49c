"""X's limits: what is left, when to poll next, and the month's budget."""

import pytest

from garrison.workers.services.twitter.limits import (
    Budget,
    Limits,
    Pace,
    budget_of,
    retry_after,
    server_time,
)

UNIX = 1_767_225_600.0
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
NOW = 500.0  # monotonic


def headers(remaining: int, seconds: float, prefix: str = "x-rate-limit-") -> dict[str, str]:
    """Return what an answer states."""
    return {
        "Date": DATE,
        f"{prefix}remaining": str(remaining),
        f"{prefix}reset": str(int(UNIX + seconds)),
    }


def test_requests_are_spread_over_what_is_left() -> None:
    """With nothing left, the reset is waited for; another endpoint is not concerned."""
    limits = Limits()
    assert (limits.wait_s("a", NOW), limits.spread_s("a", NOW)) == (0.0, 0.0)
    limits.note("a", headers(9, 899.0), NOW, 0.0)
    assert limits.spread_s("a", NOW) == 100.0
    assert limits.remaining("a", NOW) == 9
    assert limits.wait_s("a", NOW) == 0.0
    limits.note("a", headers(0, 599.0), NOW, 0.0)
    assert limits.wait_s("a", NOW + 100) == 500.0
    assert limits.wait_s("a", NOW + 600) <= 0.0
    assert limits.spread_s("a", NOW + 601) == 0.0
    assert limits.wait_s("b", NOW) == 0.0


def test_the_day_s_limit_counts_as_well() -> None:
    """The longest wait is the one that holds."""
    limits = Limits()
    day = headers(0, 7199.0, "x-user-limit-24hour-")
    limits.note("a", headers(5, 60.0) | day, NOW, 0.0)
    assert limits.wait_s("a", NOW) == 7200.0


def test_an_answer_without_limits_changes_nothing() -> None:
    """Nor does one whose limits are no numbers."""
    limits = Limits()
    limits.note("a", headers(0, 99.0), NOW, 0.0)
    limits.note("a", {}, NOW, UNIX)
    limits.note("a", {"x-rate-limit-remaining": "many", "x-rate-limit-reset": "soon"}, NOW, UNIX)
    assert limits.wait_s("a", NOW) == 100.0


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        (headers(0, 60.0), 61.0),
        ({"Date": DATE, "x-rate-limit-reset": str(int(UNIX + 60))}, 61.0),
        (headers(0, -60.0), 1.0),
        ({"retry-after": "7"}, 7.0),
        ({}, 900.0),
        (headers(3, 60.0), 900.0),
    ],
)
def test_how_long_a_refusal_holds(stated: dict[str, str], seconds: float) -> None:
    """What is stated; else one window."""
    assert retry_after(stated, UNIX) == seconds


def test_the_server_s_clock_counts() -> None:
    """This machine's is used where an answer has no date."""
    assert server_time({"Date": DATE}, 5.0) == UNIX
    assert server_time({"Date": "tomorrow"}, 5.0) == 5.0
    assert server_time({}, 5.0) == 5.0


def test_polls_slow_down_and_speed_up() -> None:
    """From `poll` to `poll_idle` while nothing comes, and back with the first mention."""
    pace = Pace(60.0, 300.0, 60.0)
    waits = []
    for _ in range(6):
        pace = pace.after(0)
        waits.append(pace.interval)
    assert waits == [90.0, 135.0, 202.5, 300.0, 300.0, 300.0]
    assert pace.after(1).interval == 60.0
    assert pace.wait_s(400.0, 0.0) == 400.0
    assert pace.wait_s(0.0, 900.0) == 900.0
    assert Pace(60.0, 10.0, 60.0).after(0).interval == 60.0


def test_the_month_s_budget() -> None:
    """The reserve is left alone; without numbers there is no budget."""
    found = budget_of({"project_cap": "10000", "project_usage": "9500", "cap_reset_day": 3})
    assert found is not None
    assert found == Budget(500, 3)
    assert (found.readable(100), found.readable(600)) == (400, 0)
    assert found.after(450).readable(100) == 0
    assert budget_of({"project_cap": "none"}) is None
    assert budget_of({}) is None
