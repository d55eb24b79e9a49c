"""When tasks run: intervals, cron at clock changes, missed times. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.workers import Task
from garrison.workers.services.task.cron import Cron, UnusableTimes
from garrison.workers.services.task.missed import Policy, as_time, following, reschedule
from garrison.workers.services.task.task_times import times_of
from garrison.workers.services.task.times import CATCH_UP_MOST, Every, Once

BERLIN = ZoneInfo("Europe/Berlin")
NOW = 1_800_000_000.0
HOUR = 3600.0


def berlin(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


def times_between(expression: str, begin: str, end: str) -> list[str]:
    """Return the times of an expression, as clocks in Berlin show them."""
    cron, found = Cron(expression, "Europe/Berlin"), list[str]()
    time = cron.after(berlin(begin))
    while time is not None and time < berlin(end):
        found.append(f"{datetime.fromtimestamp(time, BERLIN):%d %H:%M %Z}")
        time = cron.after(time)
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["28 02:30 CET", "29 03:00 CEST", "30 02:30 CEST"]),
        ("0,30 2 * * *", ["28 02:00 CET", "28 02:30 CET", "29 03:00 CEST"]),
        ("*/30 2 * * *", ["28 02:00 CET", "28 02:30 CET", "29 03:00 CEST"]),
        ("30 2,3 * * *", ["28 02:30 CET", "28 03:30 CET", "29 03:00 CEST", "29 03:30 CEST"]),
        ("30 */2 29 * *", ["29 00:30 CET", "29 03:00 CEST", "29 04:30 CEST"]),
        ("30 * 29 * *", ["29 00:30 CET", "29 01:30 CET", "29 03:30 CEST"]),
        ("0 3 * * *", ["28 03:00 CET", "29 03:00 CEST", "30 03:00 CEST"]),
    ],
)
def test_a_time_that_a_clock_change_skips_runs_once_at_the_next_minute(
    expression: str, expected: list[str]
) -> None:
    """In Berlin, 2:00 was followed by 3:00 on 29 March 2026."""
    found = times_between(expression, "2026-03-27 23:00", "2026-03-31 00:00")
    assert found[: len(expected)] == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["24 02:30 CEST", "25 02:30 CEST", "26 02:30 CET"]),
        ("*/30 2 * * *", ["24 02:00 CEST", "24 02:30 CEST", "25 02:00 CEST", "25 02:30 CEST"]),
        ("30 */2 25 * *", ["25 00:30 CEST", "25 02:30 CEST", "25 04:30 CET"]),
        ("30 * 25 * *", ["25 00:30 CEST", "25 01:30 CEST", "25 02:30 CEST", "25 02:30 CET"]),
    ],
)
def test_a_time_that_comes_twice_runs_the_first_time(expression: str, expected: list[str]) -> None:
    """In Berlin, 3:00 was followed by 2:00 on 25 October 2026; with an hour of `*`, both are
    hours."""
    found = times_between(expression, "2026-10-23 23:00", "2026-10-27 00:00")
    assert found[: len(expected)] == expected


def test_a_doubled_time_is_not_run_again_within_the_second_hour() -> None:
    """A host that starts then goes on with the next day."""
    cron = Cron("30 2 * * *", "Europe/Berlin")
    assert cron.after(berlin("2026-10-25 02:10", fold=1)) == berlin("2026-10-26 02:30")


@pytest.mark.parametrize(
    ("expression", "zone", "problem"),
    [
        ("* * * *", "UTC", "has 4 fields, not 5"),
        ("0 0 * * * *", "UTC", "has 6 fields, not 5"),
        ("0 25 * * *", "UTC", "Bad hour"),
        ("0 0 31 2 *", "UTC", "Bad day-of-month"),
        ("0 0 * * *", "Europe/Atlantis", "no time zone 'Europe/Atlantis'"),
        ("0 0 * * *", "../etc/passwd", "no time zone"),
    ],
)
def test_what_is_no_cron_expression_says_why(expression: str, zone: str, problem: str) -> None:
    """It is found before the task runs."""
    with pytest.raises(UnusableTimes, match=problem):
        Cron(expression, zone)


def test_many_passed_times_are_counted_up_to_a_bound() -> None:
    """The latest ones are right all the same."""
    passed = Cron("* * * * *", "UTC").passed(NOW - 30 * 86_400, NOW)
    assert passed.count == 1000
    assert passed.latest[-1] == NOW
    assert passed.latest[-2] == NOW - 60


@given(
    seconds=st.floats(0.1, 1e7),
    base=st.floats(0, 2e9),
    time=st.floats(0, 2e9),
)
def test_the_time_after_another_is_later_by_at_most_the_interval(
    seconds: float, base: float, time: float
) -> None:
    """An interval has no drift: its times are a grid."""
    found = Every(seconds, base).after(time)
    assert found is not None
    assert time < found <= time + seconds * 1.001 + 1e-3


# --- missed times -----------------------------------------------------------------------------


def hourly(at: float, **fields: Any) -> Task:
    metadata = {"updateInterval": HOUR * 1000}
    return Task(
        name="X", scheduled_for=as_time(at), tags=["queue", "repeat"], metadata=metadata, **fields
    )


@pytest.mark.parametrize(
    ("policy", "late", "expected"),
    [
        # policy, seconds late; (from now: next time, missed, how many of them run), None: it runs
        (Policy.LATEST, 10, None),
        (Policy.SKIP, 10, None),
        (Policy.RUN, 10, None),
        (Policy.LATEST, 400, (-400, 1, 1)),
        (Policy.SKIP, 400, (HOUR - 400, 1, 0)),
        (Policy.RUN, 400, (-400, 1, 1)),
        (Policy.LATEST, 2 * HOUR + 10, (-10, 2, 0)),  # the last one is in time, and runs as usual
        (Policy.SKIP, 2 * HOUR + 10, (-10, 2, 0)),
        (Policy.RUN, 2 * HOUR + 10, (-2 * HOUR - 10, 3, 3)),
        (Policy.LATEST, 2 * HOUR + 400, (-400, 3, 1)),
        (Policy.SKIP, 2 * HOUR + 400, (HOUR - 400, 3, 0)),
        (Policy.RUN, 500 * HOUR + 400, (-99 * HOUR - 400, 501, 100)),
    ],
)
def test_missed_times_of_a_repeated_task_follow_the_policy(
    policy: Policy, late: float, expected: tuple[float, int, int] | None
) -> None:
    """`max_late` is 300 s here."""
    task = hourly(NOW - late)
    found = reschedule(task, times_of(task, "UTC", NOW), NOW, policy, 300.0)
    assert (found is None) == (expected is None)
    if expected is not None and found is not None:
        assert found.at is not None
        assert found.missed is not None
        assert found.at - NOW == pytest.approx(expected[0])
        assert (found.missed.count, found.missed.runs) == expected[1:]


@pytest.mark.parametrize("policy", Policy)
@given(late=st.floats(0, 1e6), max_late=st.floats(0, 1e5))
def test_what_was_missed_is_decided_once(policy: Policy, late: float, max_late: float) -> None:
    """After the decision, the task runs at the time that it was sent to; each time up to now is run
    or counted, and at most `CATCH_UP_MOST` are run."""
    task = hourly(NOW - late)
    times = times_of(task, "UTC", NOW)
    found = reschedule(task, times, NOW, policy, max_late)
    due = int(late // HOUR) + 1
    if found is None:
        assert due == 1
        return
    assert found.missed is not None
    assert found.missed.count + (found.missed.runs == 0 and (found.at or 0) <= NOW) >= due - 1
    assert found.missed.runs <= CATCH_UP_MOST
    sent = msgspec.structs.replace(
        task, scheduled_for=as_time(found.at), **found.missed.fields(task)
    )
    if found.at is not None and found.at <= NOW:
        assert reschedule(sent, times_of(sent, "UTC", NOW), NOW, policy, max_late) is None
        ran = 1
        while (at := following(sent, times_of(sent, "UTC", NOW), NOW)) is not None and at <= NOW:
            sent = msgspec.structs.replace(sent, scheduled_for=as_time(at))
            ran += 1
        assert ran == max(found.missed.runs, 1)


@pytest.mark.parametrize(("policy", "at"), [("run", -HOUR), ("latest", -HOUR), ("skip", None)])
def test_a_single_task_that_was_missed_runs_late_or_has_no_time(
    policy: str, at: float | None
) -> None:
    """It is reported either way."""
    task = Task(name="X", scheduled_for=as_time(NOW - HOUR))
    found = reschedule(task, Once(), NOW, Policy(policy), 300.0)
    assert found is not None
    assert found.missed is not None
    assert found.at == (None if at is None else pytest.approx(NOW + at))


def test_times_during_a_run_are_left_out_of_an_interval_alone() -> None:
    """A cron task that took too long runs again at once, and tells what it missed."""
    task = hourly(NOW - 2.5 * HOUR)
    assert following(task, times_of(task, "UTC", NOW), NOW) == pytest.approx(NOW + HOUR / 2)
    at = datetime(2026, 7, 1, 12, tzinfo=UTC)
    cron = Task(name="X", cron="0 * * * *", scheduled_for=at)
    late = (at + timedelta(hours=2)).timestamp()
    next_time = following(cron, times_of(cron, "UTC", late), late)
    assert next_time == (at + timedelta(hours=1)).timestamp()
