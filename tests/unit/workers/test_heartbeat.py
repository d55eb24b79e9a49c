"""When a worker beats: together with others, and less often while nothing changes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.workers.process.heartbeat import (
    BEAT_S,
    GROUPS,
    QUIET_S,
    HeartbeatSchedule,
    is_hello_due,
)

TOKENS = st.binary(min_size=16, max_size=16)
WATCHDOGS = st.one_of(st.just(0.0), st.floats(0.1, 1000.0))


def at(times: int, schedule: HeartbeatSchedule, now: float) -> list[float]:
    """Return the next times to beat, by a timer that is early or late by a millisecond."""
    found = []
    for number in range(times):
        now += schedule.delay(now) + (0.001 if number % 2 else -0.001)
        found.append(now)
    return found


@given(WATCHDOGS, TOKENS, st.floats(0, 1e6))
def test_a_worker_beats_at_a_steady_rate(watchdog: float, token: bytes, now: float) -> None:
    """Also the first time, by a timer that is not exact: no interval is much longer or shorter."""
    times = [now, *at(5, HeartbeatSchedule(watchdog, token), now)]
    interval = min(BEAT_S, watchdog / 4) if watchdog else BEAT_S
    for one, after in pairwise(times):
        assert 0.7 * interval - 0.003 <= after - one <= 1.75 * interval + 0.003


@given(TOKENS, TOKENS, st.floats(0, 1e6), st.floats(0, 10))
def test_workers_of_one_group_beat_together(a: bytes, b: bytes, now: float, later: float) -> None:
    """Whenever each was started."""
    first, second = (HeartbeatSchedule(10.0, token) for token in (a, b))
    apart = (at(1, first, now)[0] - at(1, second, now + later)[0]) % BEAT_S
    if sum(a) % GROUPS == sum(b) % GROUPS:
        assert min(apart, BEAT_S - apart) < 0.01
    else:
        assert BEAT_S / GROUPS - 0.01 < apart < BEAT_S - BEAT_S / GROUPS + 0.01


def test_there_are_several_groups() -> None:
    """Not all workers of a host run at one moment."""
    times = {round(at(1, HeartbeatSchedule(0.0, bytes([n])), 0.0)[0] % 1, 2) for n in range(9)}
    assert len(times) == GROUPS


@given(st.lists(st.tuples(TOKENS, st.floats(0, 10)), min_size=9), st.floats(0, 1e6))
def test_all_groups_leave_out_the_same_beats(
    started: list[tuple[bytes, float]], now: float
) -> None:
    """So idle workers wake the supervisor once for each group and interval of a repeated beat."""
    moments = set()
    for token, later in started:
        schedule = HeartbeatSchedule(10.0, token)
        times = at(9, schedule, now + later)
        sent = [one for one in times if schedule.is_due("same", one)]
        assert all(1.9 < after - one < 2.1 for one, after in pairwise(sent[1:]))
        moments |= {round(sent[-1] % QUIET_S * GROUPS) % (QUIET_S * GROUPS)}
    assert len(moments) <= GROUPS


@given(TOKENS, st.floats(1.3, 9.0))
def test_a_late_beat_is_not_left_out(token: bytes, blocked: float) -> None:
    """A loop that was blocked over the time of a beat sends one when it goes on."""
    schedule = HeartbeatSchedule(10.0, token)
    now = 100.0 + at(1, schedule, 100.0)[0] % 1
    assert schedule.is_due("same", now)
    assert schedule.is_due("same", now + 1.0 + blocked)


@pytest.mark.parametrize(
    ("watchdog", "sent"),
    [
        (10.0, [0, 2, 4, 5, 6, 8]),
        (0.0, [0, 2, 4, 5, 6, 8]),
        (4.0, list(range(10))),  # a quarter of it is one second
        (8.0, [0, 2, 4, 5, 6, 8]),
    ],
)
def test_what_changes_nothing_is_sent_less_often(watchdog: float, sent: list[int]) -> None:
    """But often enough for the watchdog; what is new is sent at once, also for a new supervisor."""
    schedule = HeartbeatSchedule(watchdog, b"t")
    found = []
    for second in range(10):
        if second == 6:
            schedule.renew()
        content = "other" if second >= 5 else "same"
        if schedule.is_due(content, 100.0 + second):
            found.append(second)
    assert found == sent
    assert schedule.is_due("other", 109.1, adds=True)  # calls that are counted
    assert QUIET_S <= 10.0 / 4  # of the watchdog by default


def test_a_hello_is_sent_again_after_longer_and_longer_pauses() -> None:
    """The first beats do not count, as an import may have blocked the loop."""
    assert [number for number in range(40) if is_hello_due(number)] == [4, 8, 16, 32]
