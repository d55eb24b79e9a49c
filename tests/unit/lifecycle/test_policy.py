"""The restart policy by table: every state meets every event, and what follows in which time."""

from math import inf
from typing import Any

import pytest
from msgspec.structs import replace

from garrison.ipc.messages import State
from garrison.supervisor.config.spec import Restart, ServiceSpec, service_spec
from garrison.supervisor.lifecycle.policy import (
    TRANSITIONS,
    Child,
    Effect,
    Event,
    StopReason,
    diagram,
    has_process,
    postpone,
    step,
)

ALMOST_ONE = 1 - 2**-53  # the most that jitter can be
NOW = 100.0


def spec(restart: Restart = Restart.PERMANENT, **changes: Any) -> ServiceSpec:
    """Return how a service is run, all else as by default."""
    return service_spec(name="a", plugin="a", service_type="a", restart=restart, **changes)


def child(
    state: State,
    restart: Restart = Restart.PERMANENT,
    why: StopReason = StopReason.ORDER,
    **changes: Any,
) -> Child:
    """Return a service in a state as it would be at NOW, wanted where that state says so."""
    deadlines = {
        State.INITIALIZING: 150.0,
        State.STARTING: 150.0,
        State.RUNNING: 105.0,
        State.STOPPING: 107.0,
        State.BACKOFF: 101.0,
        State.FAILED: 115.0,
    }
    wanted = state not in {State.REGISTERED, State.STOPPED}
    return Child(
        spec(restart, **changes), state, wanted, 90.0, deadlines.get(state, inf), 3, why=why
    )


def walk(before: Child, *events: Event, now: float = NOW, jitter: float = 0.5) -> Child:
    """Return a service after events that happen at the same moment."""
    for event in events:
        before, _ = step(before, event, now, jitter)
    return before


def started(before: Child, now: float) -> Child:
    """Return a queued service once it runs."""
    return walk(before, Event.SLOT, Event.INITIALIZED, Event.READY, now=now)


def running(restart: Restart = Restart.PERMANENT, now: float = NOW, **changes: Any) -> Child:
    """Return a service that was ordered to start, and runs."""
    return started(walk(Child(spec(restart, **changes)), Event.START, now=now), now)


# --- every pair ---------------------------------------------------------------------------

Expected = tuple[State, Effect | None, float]

# What a trusted, permanent service comes to at NOW: its state, the effect, its deadline
EXPECTED: dict[State, dict[Event, Expected]] = {
    State.REGISTERED: {
        Event.START: (State.QUEUED, None, inf),
        Event.STOP: (State.STOPPED, None, inf),
    },
    State.QUEUED: {
        Event.SLOT: (State.INITIALIZING, Effect.SPAWN, 160.0),
        Event.STOP: (State.STOPPED, None, inf),
        Event.RESET: (State.QUEUED, None, inf),
        Event.REFUSED: (State.FAILED, None, inf),
    },
    State.INITIALIZING: {
        Event.INITIALIZED: (State.STARTING, None, 150.0),
        Event.READY: (State.RUNNING, None, 110.0),
        Event.CLEAN_EXIT: (State.BACKOFF, None, 100.25),
        Event.CRASH: (State.BACKOFF, None, 100.25),
        Event.REFUSED: (State.FAILED, None, inf),
        Event.POSTPONED: (State.BACKOFF, None, 100.5),
        Event.DEADLINE: (State.STOPPING, Effect.DUMP, 100.5),
        Event.STOP: (State.STOPPING, Effect.DRAIN, 110.0),
        Event.RESET: (State.INITIALIZING, None, 150.0),
        Event.EXCESS: (State.STOPPING, Effect.DRAIN, 110.0),
        Event.OVERRUN: (State.STOPPING, Effect.KILL, 105.0),
    },
    State.STARTING: {
        Event.READY: (State.RUNNING, None, 110.0),
        Event.CLEAN_EXIT: (State.BACKOFF, None, 100.25),
        Event.CRASH: (State.BACKOFF, None, 100.25),
        Event.REFUSED: (State.FAILED, None, inf),
        Event.POSTPONED: (State.BACKOFF, None, 100.5),
        Event.DEADLINE: (State.STOPPING, Effect.DUMP, 100.5),
        Event.STOP: (State.STOPPING, Effect.DRAIN, 110.0),
        Event.RESET: (State.STARTING, None, 150.0),
        Event.EXCESS: (State.STOPPING, Effect.DRAIN, 110.0),
        Event.OVERRUN: (State.STOPPING, Effect.KILL, 105.0),
    },
    State.RUNNING: {
        Event.BEAT: (State.RUNNING, None, 110.0),
        Event.CLEAN_EXIT: (State.QUEUED, None, inf),
        Event.CRASH: (State.QUEUED, None, inf),
        Event.REFUSED: (State.FAILED, None, inf),
        Event.POSTPONED: (State.BACKOFF, None, 100.5),
        Event.DEADLINE: (State.STOPPING, Effect.DUMP, 100.5),
        Event.STOP: (State.STOPPING, Effect.DRAIN, 110.0),
        Event.RESET: (State.RUNNING, None, 105.0),
        Event.WELL: (State.RUNNING, None, 105.0),
        Event.UNWELL: (State.RUNNING, None, 105.0),
        Event.EXCESS: (State.STOPPING, Effect.DRAIN, 110.0),
        Event.OVERRUN: (State.STOPPING, Effect.KILL, 105.0),
    },
    State.STOPPING: {
        Event.CLEAN_EXIT: (State.QUEUED, None, inf),
        Event.CRASH: (State.QUEUED, None, inf),
        Event.REFUSED: (State.QUEUED, None, inf),
        Event.POSTPONED: (State.QUEUED, None, inf),
        Event.DEADLINE: (State.STOPPING, Effect.TERM, 102.0),
        Event.START: (State.STOPPING, None, 107.0),
        Event.RESET: (State.STOPPING, None, 107.0),
        Event.OVERRUN: (State.STOPPING, Effect.KILL, 105.0),
    },
    State.STOPPED: {
        Event.START: (State.QUEUED, None, inf),
    },
    State.BACKOFF: {
        Event.DEADLINE: (State.QUEUED, None, inf),
        Event.START: (State.QUEUED, None, inf),
        Event.RESET: (State.QUEUED, None, inf),
        Event.STOP: (State.STOPPED, None, inf),
    },
    State.FAILED: {
        Event.DEADLINE: (State.QUEUED, None, inf),
        Event.START: (State.QUEUED, None, inf),
        Event.RESET: (State.QUEUED, None, inf),
        Event.STOP: (State.STOPPED, None, inf),
    },
}

PAIRS = [(state, event) for state in State for event in Event]


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_state_meets_every_event(state: State, event: Event) -> None:
    """A pair leads where the table says; one that the table lacks changes nothing but `wanted`."""
    before = child(state)
    expected = EXPECTED[state].get(event, (state, None, before.deadline))

    after, effect = step(before, event, NOW, 0.5)

    assert (after.state, effect, after.deadline) == expected
    assert after.wanted is {Event.START: True, Event.STOP: False}.get(event, before.wanted)
    if event not in EXPECTED[state]:
        assert replace(after, wanted=before.wanted) == before


def test_the_table_has_the_rules_that_are_known_and_no_other() -> None:
    """A rule that is added or taken out is noticed."""
    assert {state: set(rules) for state, rules in TRANSITIONS.items()} == {
        state: set(rules) for state, rules in EXPECTED.items()
    }


@pytest.mark.parametrize("state", list(State))
def test_a_process_exists_in_four_states(state: State) -> None:
    """From its order on until its end was seen, a service has a process."""
    live = {State.INITIALIZING, State.STARTING, State.RUNNING, State.STOPPING}

    assert has_process(state) is (state in live)


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_since_is_when_a_state_began(state: State, event: Event) -> None:
    """`since` changes with the state, and with nothing else."""
    before = child(state)

    after, _ = step(before, event, NOW, 0.5)

    assert after.since == (before.since if after.state is state else NOW)


# --- restart policy × exit ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart", "event", "expected", "wanted"),
    [
        (Restart.PERMANENT, Event.CLEAN_EXIT, State.QUEUED, True),
        (Restart.PERMANENT, Event.CRASH, State.QUEUED, True),
        (Restart.PERMANENT, Event.REFUSED, State.FAILED, True),
        (Restart.TRANSIENT, Event.CLEAN_EXIT, State.STOPPED, False),
        (Restart.TRANSIENT, Event.CRASH, State.QUEUED, True),
        (Restart.TRANSIENT, Event.REFUSED, State.FAILED, True),
        (Restart.TEMPORARY, Event.CLEAN_EXIT, State.STOPPED, False),
        (Restart.TEMPORARY, Event.CRASH, State.STOPPED, False),
        (Restart.TEMPORARY, Event.REFUSED, State.FAILED, True),
    ],
)
def test_restart_policy_decides_what_an_exit_means(
    restart: Restart, event: Event, expected: State, wanted: bool
) -> None:
    """Each restart policy meets each kind of end of a running service."""
    after, effect = step(child(State.RUNNING, restart), event, NOW)

    assert (after.state, after.wanted, effect) == (expected, wanted, None)


@pytest.mark.parametrize("state", [State.INITIALIZING, State.STARTING])
@pytest.mark.parametrize("event", [Event.CLEAN_EXIT, Event.CRASH])
@pytest.mark.parametrize(
    ("restart", "expected", "deadline"),
    [
        (Restart.PERMANENT, State.BACKOFF, 100.25),
        (Restart.TRANSIENT, State.BACKOFF, 100.25),
        (Restart.TEMPORARY, State.FAILED, inf),
    ],
)
def test_restart_policy_decides_what_a_failed_start_means(
    state: State, event: Event, restart: Restart, expected: State, deadline: float
) -> None:
    """A start that fails is tried again, except that of a temporary service."""
    after, _ = step(child(state, restart), event, NOW)

    assert (after.state, after.deadline) == (expected, deadline)


@pytest.mark.parametrize("event", [Event.CLEAN_EXIT, Event.CRASH, Event.REFUSED])
@pytest.mark.parametrize("restart", list(Restart))
@pytest.mark.parametrize("why", list(StopReason))
def test_an_ordered_stop_ends_in_stopped(event: Event, restart: Restart, why: StopReason) -> None:
    """What is no longer wanted rests, however and of whatever its process ended."""
    before = replace(child(State.STOPPING, restart, why), wanted=False)

    after, _ = step(before, event, NOW)

    assert (after.state, after.deadline) == (State.STOPPED, inf)


@pytest.mark.parametrize("event", [Event.CLEAN_EXIT, Event.CRASH])
@pytest.mark.parametrize(
    ("why", "restart", "expected"),
    [
        (StopReason.ORDER, Restart.PERMANENT, State.QUEUED),
        (StopReason.ORDER, Restart.TRANSIENT, State.QUEUED),
        (StopReason.ORDER, Restart.TEMPORARY, State.QUEUED),
        (StopReason.WATCHDOG, Restart.PERMANENT, State.QUEUED),
        (StopReason.WATCHDOG, Restart.TRANSIENT, State.QUEUED),
        (StopReason.WATCHDOG, Restart.TEMPORARY, State.STOPPED),
        (StopReason.HEALTH, Restart.PERMANENT, State.QUEUED),
        (StopReason.HEALTH, Restart.TRANSIENT, State.QUEUED),
        (StopReason.HEALTH, Restart.TEMPORARY, State.STOPPED),
        (StopReason.LIMIT, Restart.PERMANENT, State.QUEUED),
        (StopReason.LIMIT, Restart.TRANSIENT, State.QUEUED),
        (StopReason.LIMIT, Restart.TEMPORARY, State.STOPPED),
        (StopReason.START_TIMEOUT, Restart.PERMANENT, State.BACKOFF),
        (StopReason.START_TIMEOUT, Restart.TRANSIENT, State.BACKOFF),
        (StopReason.START_TIMEOUT, Restart.TEMPORARY, State.FAILED),
    ],
)
def test_why_it_was_ended_decides_what_follows(
    event: Event, why: StopReason, restart: Restart, expected: State
) -> None:
    """By order: started again. By the watchdog: a crash. By the timeout: a failed start."""
    after, _ = step(child(State.STOPPING, restart, why), event, NOW)

    assert after.state is expected


def test_the_second_bad_answer_in_a_row_is_one_too_many() -> None:
    """A good one between two bad ones forgets the first; another incarnation begins anew."""
    once = walk(running(), Event.UNWELL, Event.WELL, Event.UNWELL)
    twice, effect = step(once, Event.UNWELL, NOW)

    assert (once.state, once.unwell) == (State.RUNNING, 1)
    assert (twice.state, twice.why, effect) == (State.STOPPING, StopReason.HEALTH, Effect.DRAIN)
    assert started(walk(twice, Event.CLEAN_EXIT), NOW).unwell == 0


@pytest.mark.parametrize("event", [Event.EXCESS, Event.OVERRUN])
def test_what_took_too_much_is_restarted_as_after_a_crash(event: Event) -> None:
    """It counts, so that a service which takes too much at each start is given up in time."""
    before = running(intensity=2)
    for _ in range(3):
        before = walk(before, event, Event.CLEAN_EXIT)
        before = walk(before, *([Event.DEADLINE] if before.state is State.BACKOFF else []))
        before = started(before, NOW)

    assert before.state is State.FAILED


def test_what_is_killed_for_taking_too_much_while_it_stops_was_ended_as_before() -> None:
    """An ordered stop that needs a KILL is still an ordered stop."""
    stopping = walk(running(), Event.STOP)

    killed, effect = step(stopping, Event.OVERRUN, NOW)

    assert (effect, killed.why, killed.escalation) == (Effect.KILL, StopReason.ORDER, Effect.KILL)
    assert walk(killed, Event.CRASH).state is State.STOPPED


# --- backoff ------------------------------------------------------------------------------


def crashes(count: int, jitter: float, **changes: Any) -> list[float]:
    """Return the waits before each new start of a service that crashes as soon as it runs."""
    after, now, waits = running(**changes), NOW, []
    for _ in range(count):
        after, _ = step(after, Event.CRASH, now, jitter)
        assert after.state in {State.QUEUED, State.BACKOFF}
        waits.append(after.deadline - now if after.state is State.BACKOFF else 0.0)
        now += waits[-1]
        if after.state is State.BACKOFF:
            after = walk(after, Event.DEADLINE, now=now)
        after = started(after, now)
    return waits


def test_a_crash_restarts_at_once_then_later_and_later() -> None:
    """At once, then 0.5 s doubling to 60 s, which is the most that jitter can make of it."""
    waits = crashes(11, ALMOST_ONE, intensity=0)

    assert waits[0] == 0.0
    assert waits[1:] == pytest.approx([0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60])


def test_the_jitter_is_full() -> None:
    """The wait is anything from nothing to the step's length, in proportion to jitter."""
    assert crashes(5, 0.0, intensity=0) == [0.0] * 5
    assert crashes(5, 0.5, intensity=0) == pytest.approx([0.0, 0.25, 0.5, 1, 2])


def failed_starts(count: int, jitter: float) -> tuple[Child, list[float]]:
    """Return a service whose start fails again and again, and the waits between."""
    after, now = walk(Child(spec()), Event.START), NOW
    waits = []
    for _ in range(count):
        after = walk(after, Event.SLOT, Event.CRASH, now=now, jitter=jitter)
        assert after.state is State.BACKOFF
        waits.append(after.deadline - now)
        now = after.deadline
        after = walk(after, Event.DEADLINE, now=now)
    return after, waits


def test_a_failed_start_backs_off_without_counting() -> None:
    """0.5 s doubling to 60 s, as often as it takes; the intensity is for what has run."""
    after, waits = failed_starts(50, ALMOST_ONE)

    assert waits[:9] == pytest.approx([0.5, 1, 2, 4, 8, 16, 32, 60, 60])
    assert waits[-1] == pytest.approx(60)
    assert (after.restarts, after.probes, after.state) == ((), 0, State.QUEUED)


def test_a_minute_of_health_forgets() -> None:
    """After 60 s of running a crash is the first again; a moment earlier it is not."""
    before = replace(running(), attempts=4, restarts=(60.0, 70.0), probes=0)

    early, _ = step(before, Event.CRASH, NOW + 59.99, ALMOST_ONE)
    late, _ = step(before, Event.CRASH, NOW + 60.0, ALMOST_ONE)

    assert early.state is State.BACKOFF
    assert early.deadline - (NOW + 59.99) == pytest.approx(4.0)
    assert late.state is State.QUEUED
    assert (late.attempts, late.restarts) == (1, (NOW + 60.0,))


def test_a_minute_of_health_regains_trust() -> None:
    """What was failed and then ran for a minute is restarted at once when it crashes."""
    before = replace(running(), probes=3)

    assert step(before, Event.CRASH, NOW + 59.0)[0].state is State.FAILED
    assert step(before, Event.CRASH, NOW + 60.0)[0].state is State.QUEUED


@pytest.mark.parametrize(("attempts", "probes"), [(7, 0), (7, 3)])
def test_a_minute_of_health_counts_where_the_watchdog_ends_it(attempts: int, probes: int) -> None:
    """A service that ran for hours and then hung is restarted at once, as if it had crashed."""
    hours = NOW + 10_000.0
    before = replace(running(), attempts=attempts, probes=probes)
    before = walk(before, Event.BEAT, now=hours)

    after = walk(before, Event.DEADLINE, now=hours + 10.0)
    after = walk(after, Event.CRASH, now=hours + 10.5, jitter=ALMOST_ONE)

    assert after.state is State.QUEUED


def test_silence_is_no_health() -> None:
    """A service that hangs as soon as it runs gains nothing by a watchdog of minutes."""
    before = replace(running(watchdog=600.0), attempts=4)

    after = walk(before, Event.DEADLINE, now=NOW + 600.0)
    after = walk(after, Event.CRASH, now=NOW + 600.5, jitter=ALMOST_ONE)

    assert after.state is State.BACKOFF
    assert after.deadline - (NOW + 600.5) == pytest.approx(4.0)


# --- intensity and probes -----------------------------------------------------------------


def crashed(times: int, every: float, **changes: Any) -> Child:
    """Return a service that crashed so often, its starts taking no time."""
    after = running(**changes)
    for number in range(times):
        now = NOW + number * every
        if after.state is State.BACKOFF:
            after = walk(after, Event.DEADLINE, now=now)
        if after.state is State.QUEUED:
            after = started(after, now)
        after = walk(after, Event.CRASH, now=now, jitter=0.0)
    return after


@pytest.mark.parametrize(
    ("times", "every", "expected"),
    [
        (5, 1.0, State.QUEUED),
        (6, 1.0, State.FAILED),
        (6, 11.99, State.FAILED),  # the first is 59.95 s old
        (6, 12.0, State.QUEUED),  # it is 60 s old, and out of the period
        (40, 12.0, State.QUEUED),
    ],
)
def test_too_many_crashes_in_the_period_fail_a_service(
    times: int, every: float, expected: State
) -> None:
    """Five restarts in 60 s are within the intensity; the sixth crash is one too many."""
    assert crashed(times, every).state is expected


@pytest.mark.parametrize(("intensity", "crashes_until_failed"), [(1, 2), (2, 3), (20, 21)])
def test_intensity_is_the_restarts_that_are_allowed(
    intensity: int, crashes_until_failed: int
) -> None:
    """So many restarts in the period, and the next crash fails it."""
    assert crashed(crashes_until_failed - 1, 0.1, intensity=intensity).state is State.QUEUED
    assert crashed(crashes_until_failed, 0.1, intensity=intensity).state is State.FAILED


def test_intensity_zero_is_unlimited() -> None:
    """It never gives up, and what it remembers of the crashes has a bound."""
    after = crashed(1200, 0.001, intensity=0)

    assert after.state is State.QUEUED
    assert after.restarted == 1200
    assert len(after.restarts) == 1000


def test_a_shorter_period_forgets_sooner() -> None:
    """`period` is the seconds within which crashes are counted."""
    assert crashed(6, 1.0, period=5.0).state is State.QUEUED
    assert crashed(6, 0.9, period=5.0).state is State.FAILED


@pytest.mark.parametrize("after_running", [True, False])
def test_a_failed_service_is_probed_less_and_less_often(after_running: bool) -> None:
    """15 s doubling to 300 s, whether the probe crashes before or after it runs."""
    after = crashed(6, 0.0)
    now, waits = NOW, []
    for _ in range(7):
        assert after.state is State.FAILED
        waits.append(after.deadline - now)
        now = after.deadline
        after = walk(after, Event.DEADLINE, Event.SLOT, now=now)
        if after_running:
            after = walk(after, Event.READY, now=now)
        after = walk(after, Event.CRASH, now=now)

    assert waits == [15.0, 30.0, 60.0, 120.0, 240.0, 300.0, 300.0]


def test_a_service_of_no_permission_to_retry_is_never_probed() -> None:
    """PermanentFailure fails a service until someone acts."""
    for state in (State.INITIALIZING, State.STARTING, State.RUNNING):
        after, effect = step(child(state), Event.REFUSED, NOW)

        assert (after.state, after.deadline, effect) == (State.FAILED, inf, None)
        assert walk(after, Event.START).state is State.QUEUED


def test_a_permanent_failure_after_the_watchdog_stays_one() -> None:
    """A process that reported a PermanentFailure is not retried because it was being ended."""
    for why in (StopReason.WATCHDOG, StopReason.START_TIMEOUT):
        after, _ = step(child(State.STOPPING, why=why), Event.REFUSED, NOW)

        assert (after.state, after.deadline) == (State.FAILED, inf)


# --- orders -------------------------------------------------------------------------------


def test_ordered_restarts_never_count() -> None:
    """A hundred of them leave a service as trusted as before."""
    after = running()
    for _ in range(100):
        after = walk(after, Event.STOP, Event.START)
        assert after.state is State.STOPPING
        after = started(walk(after, Event.CLEAN_EXIT), NOW)

    assert after.state is State.RUNNING
    assert (after.attempts, after.restarts, after.restarted, after.probes) == (0, (), 0, 0)
    assert after.generation == 101


def test_a_start_is_kept_while_it_drains() -> None:
    """A restart is STOP then START: the START is remembered until the process is gone."""
    after = walk(running(), Event.STOP)
    assert (after.wanted, after.state) == (False, State.STOPPING)
    deadline = after.deadline

    after = walk(after, Event.START, now=NOW + 1)
    assert (after.wanted, after.state, after.deadline) == (True, State.STOPPING, deadline)

    after = walk(after, Event.CRASH, now=NOW + 2)
    assert after.state is State.QUEUED


def test_a_stop_after_the_start_is_the_last_word() -> None:
    """STOP, START, STOP while it drains: it rests."""
    after = walk(running(), Event.STOP, Event.START, Event.STOP, Event.CLEAN_EXIT)

    assert (after.state, after.wanted) == (State.STOPPED, False)


def test_a_stop_counts_while_the_watchdog_ends_it() -> None:
    """STOP of a service that is being ended lets it rest instead of restarting it."""
    after = walk(running(), Event.DEADLINE, Event.STOP, Event.CRASH)

    assert (after.state, after.wanted) == (State.STOPPED, False)


def test_a_restart_while_the_watchdog_ends_it_is_an_ordered_one() -> None:
    """It is queued with all forgotten, and its timers go on meanwhile."""
    before = replace(running(), attempts=4, restarts=(99.0,), probes=2)
    ending = walk(before, Event.DEADLINE)
    after = walk(ending, Event.STOP, Event.START)

    assert (after.deadline, after.escalation) == (ending.deadline, ending.escalation)
    after = walk(after, Event.CRASH)
    assert (after.state, after.attempts, after.restarts, after.probes) == (State.QUEUED, 0, (), 0)


@pytest.mark.parametrize("state", [State.BACKOFF, State.FAILED])
@pytest.mark.parametrize("event", [Event.START, Event.RESET])
def test_an_order_ends_the_wait_and_forgets(state: State, event: Event) -> None:
    """START and RESET try at once what waits, and trust it again."""
    before = replace(child(state), attempts=5, restarts=(98.0, 99.0), probes=2)

    after, _ = step(before, event, NOW)

    assert after.state is State.QUEUED
    assert (after.attempts, after.restarts, after.probes) == (0, (), 0)


@pytest.mark.parametrize(
    "state",
    [State.QUEUED, State.INITIALIZING, State.STARTING, State.RUNNING, State.STOPPING],
)
def test_reset_forgets_and_disturbs_nothing(state: State) -> None:
    """RESET of what is on its way or runs takes its restarts away, and no more."""
    before = replace(child(state), attempts=5, restarts=(98.0, 99.0), probes=2)

    after, effect = step(before, Event.RESET, NOW)

    assert effect is None
    assert after == replace(before, attempts=0, restarts=(), probes=0)


def test_restarted_counts_what_it_did_by_itself() -> None:
    """Crashes, failed starts and probes count as restarts; orders do not."""
    after = walk(running(), Event.CRASH)
    assert after.restarted == 1
    after = walk(after, Event.SLOT, Event.CRASH)
    assert (after.state, after.restarted) == (State.BACKOFF, 2)
    after = walk(after, Event.STOP, Event.START)
    assert after.restarted == 2
    after = walk(replace(child(State.FAILED), restarted=2), Event.DEADLINE)
    assert after.restarted == 3


# --- deadlines ----------------------------------------------------------------------------


def test_the_watchdog_dumps_then_terminates_then_kills() -> None:
    """Silence past `watchdog`: the stacks, 0.5 s, TERM, 2 s, KILL, and KILL again every 5 s."""
    after, now = running(watchdog=10.0), NOW
    seen = []
    for _ in range(5):
        assert after.deadline > now
        waited, now = after.deadline - now, after.deadline
        after, effect = step(after, Event.DEADLINE, now)
        seen.append((waited, effect))
        assert (after.state, after.why) == (State.STOPPING, StopReason.WATCHDOG)

    assert seen == [
        (10.0, Effect.DUMP),
        (0.5, Effect.TERM),
        (2.0, Effect.KILL),
        (5.0, Effect.KILL),
        (5.0, Effect.KILL),
    ]


def test_a_stop_drains_for_its_grace_then_terminates_then_kills() -> None:
    """`grace` for the drain, TERM, 2 s, KILL; there is nothing to dump."""
    after, effect = step(running(grace=3.0), Event.STOP, NOW)
    seen = [effect]
    times = [after.deadline - NOW]
    for _ in range(3):
        now = after.deadline
        after, effect = step(after, Event.DEADLINE, now)
        seen.append(effect)
        times.append(after.deadline - now)

    assert seen == [Effect.DRAIN, Effect.TERM, Effect.KILL, Effect.KILL]
    assert times == [3.0, 2.0, 5.0, 5.0]


def test_a_second_stop_does_not_begin_the_grace_again() -> None:
    """The deadline of the first one stands."""
    once = walk(running(), Event.STOP)

    assert walk(once, Event.STOP, Event.START, Event.STOP, now=NOW + 5) == once


def test_start_timeout_is_for_init_and_start_together() -> None:
    """INITIALIZED renews nothing; past the timeout its stacks are dumped and it is ended."""
    after = walk(Child(spec(start_timeout=7.0)), Event.START, Event.SLOT)
    assert after.deadline == NOW + 7
    after = walk(after, Event.INITIALIZED, now=NOW + 5)
    assert (after.state, after.deadline) == (State.STARTING, NOW + 7)

    after, effect = step(after, Event.DEADLINE, NOW + 7)

    assert (effect, after.why) == (Effect.DUMP, StopReason.START_TIMEOUT)
    assert after.deadline == NOW + 7.5


def test_a_start_that_hangs_backs_off_as_one_that_fails() -> None:
    """It does not count, and each wait is longer."""
    after, now, waits = walk(Child(spec()), Event.START), NOW, []
    for _ in range(4):
        after = walk(after, Event.SLOT, Event.DEADLINE, Event.CRASH, now=now, jitter=ALMOST_ONE)
        assert after.state is State.BACKOFF
        waits.append(after.deadline - now)
        now = after.deadline
        after = walk(after, Event.DEADLINE, now=now)

    assert waits == pytest.approx([0.5, 1, 2, 4])
    assert after.restarts == ()


def test_watchdog_zero_is_never() -> None:
    """A service without a watchdog has no deadline while it runs."""
    after = running(watchdog=0.0)

    assert after.deadline == inf
    assert walk(after, Event.BEAT).deadline == inf


def test_each_beat_puts_the_watchdog_off() -> None:
    """The silence is counted from the last beat."""
    after = walk(running(watchdog=10.0), Event.BEAT, now=NOW + 9)

    assert (after.deadline, after.since) == (NOW + 19, NOW)


def test_each_process_has_its_own_generation() -> None:
    """The number grows by one with each SPAWN and never else."""
    after, effect = step(child(State.QUEUED), Event.SLOT, NOW)

    assert (effect, after.generation) == (Effect.SPAWN, 4)


def test_the_diagram_shows_every_transition_that_moves() -> None:
    """What the README shows is the table: an edge for each move that a rule can make."""
    text = diagram()

    assert text.splitlines()[:2] == ["stateDiagram-v2", "    [*] --> registered"]
    for before, rules in EXPECTED.items():
        for event, (after, _, _) in rules.items():
            if after is not before:
                edges = [line for line in text.splitlines() if f"{before.value} --> " in line]
                edge = next(line for line in edges if f"--> {after.value}:" in line)
                assert event.value in edge.partition(": ")[2].split(", ")


# --- a start that names the time of the next one ------------------------------------------


@pytest.mark.parametrize("state", [State.INITIALIZING, State.STARTING])
def test_a_postponed_start_is_tried_again_then_and_not_before(state: State) -> None:
    """Without jitter; it counts neither as a crash nor as an attempt, however often."""
    before, now = replace(child(state), attempts=2, restarts=(99.0,)), NOW
    for _ in range(20):
        after, effect = step(postpone(before, now + 900), Event.POSTPONED, now, ALMOST_ONE)
        assert effect is None
        assert (after.state, after.deadline) == (State.BACKOFF, now + 900)
        assert (after.attempts, after.restarts, after.probes) == (2, (99.0,), 0)
        now += 900
        before = walk(after, Event.DEADLINE, Event.SLOT, Event.INITIALIZED, now=now)
        assert before.state is State.STARTING
    assert before.restarted == 20


@pytest.mark.parametrize("order", [Event.START, Event.RESET])
def test_an_operator_s_order_starts_a_postponed_service_at_once(order: Event) -> None:
    """And a crash of that start waits as any other does."""
    waiting = walk(postpone(child(State.STARTING), NOW + 900), Event.POSTPONED)

    queued = walk(waiting, order)
    assert queued.state is State.QUEUED
    after = walk(queued, Event.SLOT, Event.CRASH)
    assert (after.state, after.deadline) == (State.BACKOFF, NOW + 0.25)
    assert walk(waiting, Event.STOP).state is State.STOPPED


def test_no_start_is_tried_again_in_a_loop() -> None:
    """One that names no time to wait waits as long as the first backoff."""
    after = walk(postpone(child(State.STARTING), NOW), Event.POSTPONED, jitter=0.0)
    assert after.deadline == NOW + 0.5


@pytest.mark.parametrize(
    ("why", "wanted", "expected"),
    [
        (StopReason.ORDER, True, State.QUEUED),  # a restart by command
        (StopReason.ORDER, False, State.STOPPED),
        (StopReason.START_TIMEOUT, True, State.BACKOFF),
        (StopReason.LIMIT, True, State.BACKOFF),
        (StopReason.START_TIMEOUT, False, State.STOPPED),
    ],
)
def test_a_start_that_is_postponed_while_it_is_ended(
    why: StopReason, wanted: bool, expected: State
) -> None:
    """The order counts; the time holds where the supervisor ends it for its own fault."""
    before = replace(child(State.STOPPING, why=why), wanted=wanted)
    assert walk(postpone(before, NOW + 9), Event.POSTPONED).state is expected


def test_a_temporary_service_is_not_started_again() -> None:
    """Not even at a time of its own."""
    before = postpone(child(State.STARTING, Restart.TEMPORARY), NOW + 9)
    after = walk(before, Event.POSTPONED)
    assert (after.state, after.deadline) == (State.FAILED, inf)
