"""Any history of one service: its state and its process agree, and nothing wanted is forgotten."""

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support.examples import examples

from garrison.ipc.messages import State
from garrison.supervisor.config.spec import Restart, ServiceSpec, service_spec
from garrison.supervisor.lifecycle.policy import Child, Effect, Event, step

WITH_PROCESS = {State.INITIALIZING, State.STARTING, State.RUNNING, State.STOPPING}
LUCK = st.sampled_from([0.0, 0.01, 0.5, 1 - 2**-53])
SPECS = st.builds(
    service_spec,
    name=st.just("a"),
    plugin=st.just("a"),
    service_type=st.just("a"),
    restart=st.sampled_from(Restart),
    intensity=st.sampled_from([0, 1, 3]),
    period=st.sampled_from([5.0, 60.0]),
    watchdog=st.sampled_from([0.0, 10.0, 90.0]),
    grace=st.sampled_from([0.5, 10.0]),
    start_timeout=st.sampled_from([1.0, 60.0]),
)
ENDS = st.sampled_from([Event.CLEAN_EXIT, Event.CRASH, Event.REFUSED, Event.POSTPONED])


class Life(RuleBasedStateMachine):
    """One service, a process that only speaks while it lives, and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.child = Child(service_spec(name="a", plugin="a", service_type="a"))
        self.now = 1000.0
        self.alive = False
        self.speaks = ""  # what the process reported of its start
        self.signals: list[Effect] = []  # what this process was sent
        self.wanted = False  # the last order was to run
        self.refused = False  # it reported that no retry can help

    @initialize(spec=SPECS)
    def configured(self, spec: ServiceSpec) -> None:
        self.child = Child(spec)

    # --- the world ------------------------------------------------------------------------

    def happens(self, event: Event, luck: float = 0.5) -> None:
        before = self.child
        after, effect = step(before, event, self.now, luck)
        self.child = after
        assert after.generation == before.generation + (effect is Effect.SPAWN)
        if effect is Effect.SPAWN:
            assert not self.alive
            assert after.wanted
            self.alive, self.speaks, self.signals, self.refused = True, "", [], False
        elif effect is not None:
            assert self.alive
            if effect is Effect.KILL:
                assert Effect.TERM in self.signals
            self.signals.append(effect)

    def ends(self, event: Event, luck: float = 0.5) -> None:
        self.alive = False
        self.refused = event is Event.REFUSED
        self.happens(event, luck)

    def passes(self, seconds: float, luck: float = 0.5) -> None:
        """Let time pass; the loop wakes at the deadline, at the latest a moment after it."""
        self.now += seconds
        if self.child.deadline <= self.now:
            self.happens(Event.DEADLINE, luck)

    # --- what can happen ------------------------------------------------------------------

    @rule(event=st.sampled_from([Event.START, Event.STOP]))
    def ordered(self, event: Event) -> None:
        self.wanted = event is Event.START
        self.refused = self.refused and event is not Event.START
        self.happens(event)

    @rule()
    def reset(self) -> None:
        self.happens(Event.RESET)

    @rule()
    def slot(self) -> None:
        self.happens(Event.SLOT)

    @precondition(lambda self: self.child.state is State.QUEUED)
    @rule()
    def misfit(self) -> None:
        self.refused = True
        self.happens(Event.REFUSED)

    @precondition(lambda self: self.alive and not self.speaks)
    @rule()
    def initialized(self) -> None:
        self.speaks = "initialized"
        self.happens(Event.INITIALIZED)

    @precondition(lambda self: self.alive and self.speaks == "initialized")
    @rule()
    def ready(self) -> None:
        self.speaks = "ready"
        self.happens(Event.READY)

    @precondition(lambda self: self.alive)
    @rule()
    def beat(self) -> None:
        self.happens(Event.BEAT)

    @precondition(lambda self: self.alive)
    @rule(event=ENDS, luck=LUCK)
    def end(self, event: Event, luck: float) -> None:
        self.ends(event, luck)

    @precondition(lambda self: self.child.state is State.QUEUED)
    @rule(times=st.integers(1, 6), ready=st.booleans(), luck=LUCK)
    def crashes_again_and_again(self, times: int, ready: bool, luck: float) -> None:
        for _ in range(times):
            if self.child.state is State.BACKOFF:
                self.passes(self.child.deadline - self.now)
            if self.child.state is not State.QUEUED:
                break
            self.happens(Event.SLOT)
            if ready:
                self.happens(Event.READY)
            self.ends(Event.CRASH, luck)

    @precondition(lambda self: Effect.KILL in self.signals and self.alive)
    @rule(luck=LUCK)
    def killed(self, luck: float) -> None:
        self.ends(Event.CRASH, luck)

    @rule(seconds=st.sampled_from([0.001, 0.4, 3.0, 20.0, 100.0, 4000.0]), luck=LUCK)
    def time(self, seconds: float, luck: float) -> None:
        self.passes(seconds, luck)

    @precondition(lambda self: self.child.deadline < inf)
    @rule(luck=LUCK)
    def deadline(self, luck: float) -> None:
        self.passes(max(self.child.deadline - self.now, 0.0), luck)

    # --- what always holds ----------------------------------------------------------------

    @invariant()
    def a_process_lives_exactly_where_the_state_says_so(self) -> None:
        assert self.alive is (self.child.state in WITH_PROCESS)

    @invariant()
    def what_is_wanted_does_not_rest(self) -> None:
        child = self.child
        if not child.wanted:
            return
        assert child.state not in {State.REGISTERED, State.STOPPED}
        given_up = self.refused or child.spec.supervision.restart is Restart.TEMPORARY
        resting = child.state is State.FAILED and given_up
        unwatched = child.state is State.RUNNING and not child.spec.supervision.watchdog
        queued = child.state is State.QUEUED
        assert child.deadline < inf or resting or unwatched or queued

    @invariant()
    def what_is_not_wanted_only_ends(self) -> None:
        if not self.child.wanted:
            assert self.child.state in {State.REGISTERED, State.STOPPED, State.STOPPING}

    @invariant()
    def only_a_policy_takes_the_wish_back(self) -> None:
        if self.wanted and not self.child.wanted:
            assert self.child.spec.supervision.restart is not Restart.PERMANENT
        if not self.wanted:
            assert not self.child.wanted

    @invariant()
    def a_deadline_is_ahead_and_in_reach(self) -> None:
        child = self.child
        if child.deadline < inf:
            assert self.now < child.deadline <= self.now + 300.0

    @invariant()
    def a_deadline_belongs_to_a_state_that_waits(self) -> None:
        if self.child.state in {State.REGISTERED, State.QUEUED, State.STOPPED}:
            assert self.child.deadline == inf

    @invariant()
    def the_restarts_that_are_remembered_are_past(self) -> None:
        child = self.child
        assert list(child.restarts) == sorted(child.restarts)
        assert all(at <= self.now for at in child.restarts)
        if child.spec.supervision.intensity:
            assert len(child.restarts) <= child.spec.supervision.intensity + 1 + child.probes

    # --- and in the end -------------------------------------------------------------------

    def teardown(self) -> None:
        """Whatever went before, kindness brings it to run, and a stop brings it to rest."""
        for _ in range(12):
            state = self.child.state
            if state is State.RUNNING or not self.child.wanted:
                break
            if state is State.QUEUED:
                self.happens(Event.SLOT)
            elif state in {State.INITIALIZING, State.STARTING}:
                self.happens(Event.READY)
            elif state is State.STOPPING and Effect.KILL in self.signals:
                self.ends(Event.CRASH)
            elif self.child.deadline < inf:
                self.passes(self.child.deadline - self.now)
            else:
                assert self.refused or self.child.spec.supervision.restart is Restart.TEMPORARY
                break
        else:
            raise AssertionError(f"it never came to run: {self.child}")
        self.happens(Event.STOP)
        for _ in range(4):
            if self.child.state is not State.STOPPING:
                break
            self.passes(self.child.deadline - self.now)
        if self.alive:
            assert self.signals[-1] is Effect.KILL  # by then no process is left
            self.ends(Event.CRASH)
        assert self.child.state in {State.STOPPED, State.REGISTERED}
        assert self.child.deadline == inf


def test_any_life() -> None:
    """Orders, ends, beats, luck and time in any order."""
    run_state_machine_as_test(
        Life, settings=settings(max_examples=examples(150), stateful_step_count=40)
    )
