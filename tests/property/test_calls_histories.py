"""In any history, each call has one outcome, in time, which states what happened to it."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from msgspec import Raw
from tests.support.examples import examples

from garrison.ipc import messages
from garrison.ipc.call_state import OpenCall, Outcome
from garrison.ipc.calls import Calls
from garrison.ipc.errors import (
    CallError,
    CallTimeout,
    Overloaded,
    RemoteError,
    ServiceLost,
    ServiceUnavailable,
)
from garrison.ipc.messages import EMPTY_MAP, Entry, Manifest, State, Token

NAMES = ["a", "b"]
AWAY = {State.REGISTERED, State.STOPPED, State.FAILED}


@dataclass(eq=False)
class Made:
    """A call that was made, as the world outside sees it."""

    id: int
    name: str
    size: int
    deadline: float
    to: Token = b""  # the incarnation that has it
    been_at: list[Token] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    had: Token = b""  # the incarnation that had it when it was settled
    cancelled: bool = False
    idempotent: bool = False
    lost: int = 0  # how often it was taken back, having been sent
    blamed: int = 0  # how often it may have been what ended its receiver

    def waits_again(self, blamed: bool) -> bool:
        """Return True if it will wait for the next incarnation when it is lost."""
        return self.idempotent and not (blamed and self.blamed >= 2)

    def lose(self, blamed: bool) -> None:
        """Return it from an incarnation that ended or cannot be reached."""
        self.to = b""
        self.lost += 1
        self.blamed += blamed

    @property
    def over(self) -> bool:
        return self.cancelled or bool(self.outcomes)


@dataclass(eq=False)
class Service:
    """A service in the directory, and other events of its incarnation."""

    name: str
    state: State | None = None
    wanted: bool = False
    token: Token = b""
    ended: set[Token] = field(default_factory=set)  # incarnations that accept no more calls
    blocked: bool = False

    @property
    def accepts(self) -> bool:
        if self.state is None or self.state in AWAY:
            return False
        return self.wanted or self.state is State.RUNNING

    @property
    def open(self) -> bool:
        return bool(self.token) and self.token not in self.ended and not self.blocked


class World(RuleBasedStateMachine):
    """A caller, two services whose incarnations come and go, and a clock."""

    made = Bundle("made")

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.ids = 0
        self.tokens = 0
        self.services = {name: Service(name) for name in NAMES}
        self.all: dict[int, Made] = {}
        self.window, self.window_bytes = 2, 100
        self.calls = Calls(self.send, 2, 100)

    @initialize(window=st.integers(1, 3), window_bytes=st.sampled_from([1, 60, 1000]))
    def begun(self, window: int, window_bytes: int) -> None:
        self.window, self.window_bytes = window, window_bytes
        self.calls = Calls(self.send, window, window_bytes)
        for name in NAMES:
            self.runs(name, wanted=True, fresh=True)

    # --- what the calls do ----------------------------------------------------------------

    def send(self, to: Token, message: messages.Data) -> None:
        assert to
        if isinstance(message, messages.Cancel):
            assert self.all[message.id].to == to
            return
        assert isinstance(message, messages.Call)
        made = self.all[message.id]
        service = self.services[made.name]
        assert not made.over
        assert not made.to
        assert made.deadline > self.now
        assert to not in made.been_at or to not in service.ended
        assert (to, service.open) == (service.token, True)
        older = [call for call in self.parked(made.name) if call.id < made.id]
        assert not older
        assert message.timeout == made.deadline - self.now
        made.to = to
        made.been_at.append(to)

    def settled(self, made: Made, outcome: Outcome) -> None:
        assert not made.over
        made.outcomes.append(outcome)
        made.had, made.to = made.to, b""

    def parked(self, name: str) -> list[Made]:
        """Return the calls that wait to be sent."""
        return [c for c in self.all.values() if c.name == name and not c.over and not c.to]

    def flying(self, name: str) -> list[Made]:
        """Return the calls that an incarnation has."""
        return [c for c in self.all.values() if c.name == name and not c.over and c.to]

    # --- what can happen ------------------------------------------------------------------

    @rule(
        target=made,
        name=st.sampled_from(NAMES),
        size=st.sampled_from([2, 30, 50, 200, 2000]),
        timeout=st.sampled_from([0.5, 2.0, 30.0]),
        number=st.integers(1, 6),
        again=st.booleans(),
    )
    def start(self, name: str, size: int, timeout: float, number: int, again: bool) -> object:
        begun = [self.start_one(name, size, timeout, again) for _ in range(number)]
        return multiple(*begun)

    def start_one(self, name: str, size: int, timeout: float, again: bool) -> Made:
        self.ids += 1
        made = self.all[self.ids] = Made(self.ids, name, size, self.now + timeout)
        made.idempotent = again
        service = self.services[name]
        many = sum(c.size for c in self.parked(name)) > 16 * self.window_bytes  # it among them
        call = OpenCall(
            made.id,
            name,
            "m",
            Raw(bytes(size - len(EMPTY_MAP))),
            EMPTY_MAP,
            size,
            timeout,
            made.deadline,
            lambda outcome: self.settled(made, outcome),
            idempotent=again,
        )
        self.calls.start(call, self.now)
        if made.over:
            if service.accepts:
                assert type(made.outcomes[0]) is Overloaded
                assert many
            else:
                assert type(made.outcomes[0]) is ServiceUnavailable
        else:
            assert service.accepts
        return made

    @rule(call=made, good=st.booleans())
    def answered(self, call: Made, good: bool) -> None:
        """The incarnation that has a call, or had it last, answers: maybe late, maybe twice."""
        if not call.been_at:
            return
        source = call.been_at[-1]
        has = call.to == source
        outcome: Outcome = Raw(b"\x01") if good else RemoteError(call.name, "m", "ValueError")
        assert self.calls.answered(call.id, source, outcome, self.now) is has
        if has:
            assert call.outcomes == [outcome]

    @rule(call=made)
    def answered_by_another(self, call: Made) -> None:
        assert not self.calls.answered(call.id, b"g-unknown", Raw(b"\x02"), self.now)

    @rule(call=made, full=st.booleans())
    def returned_unsent(self, call: Made, full: bool) -> None:
        """A call comes back from the incarnation that has it, or had it last."""
        if not call.been_at:
            return
        to, service = call.been_at[-1], self.services[call.name]
        has = call.to == to
        if has:
            call.to = b""
            if full:
                service.blocked = True
            else:
                service.ended.add(to)
        assert self.calls.returned_unsent(call.id, to, self.now, full=full) is has

    @rule(call=consumes(made))
    def cancelled(self, call: Made) -> None:
        was_over = call.over
        call.cancelled = not was_over
        assert self.calls.cancel(call.id, self.now) is not was_over
        call.to = b""

    @rule(name=st.sampled_from(NAMES), known=st.booleans())
    def ended(self, name: str, known: bool) -> None:
        """A process ends; the directory changes before, after or never."""
        service = self.services[name]
        holders = [call.to for call in self.flying(name)]
        token = holders[0] if holders and known else service.token
        if not token:
            return
        service.ended.add(token)
        expected = self.lose([call for call in self.flying(name) if call.to == token])
        assert self.calls.ended(token, "was killed", self.now) == len(expected)
        assert all(type(call.outcomes[0]) is ServiceLost for call in expected)

    def lose(self, calls: list[Made], blamed: bool = True) -> list[Made]:
        """Let those wait that are sent again; return those that are lost for good."""
        again = [call for call in calls if call.waits_again(blamed)]
        for call in again:
            call.lose(blamed)
        return [call for call in calls if call not in again]

    @rule(name=st.sampled_from(NAMES), wanted=st.booleans(), fresh=st.booleans())
    def runs(self, name: str, wanted: bool, fresh: bool) -> None:
        service = self.services[name]
        if fresh or not service.token:
            self.tokens += 1
            service.token = b"g%d" % self.tokens
        service.state, service.wanted = State.RUNNING, wanted
        self.announce(service)

    @rule(name=st.sampled_from(NAMES), wanted=st.booleans(), state=st.sampled_from(State))
    def moved(self, name: str, wanted: bool, state: State) -> None:
        """A state without an address, even RUNNING: its process ended, its descendants did not."""
        service = self.services[name]
        service.state, service.wanted, service.token = state, wanted, b""
        self.announce(service)

    @rule(name=st.sampled_from(NAMES))
    def taken_out(self, name: str) -> None:
        service = self.services[name]
        service.state, service.wanted, service.token = None, False, b""
        self.announce(service)

    def announce(self, service: Service) -> None:
        entry = None
        if service.state is not None:
            entry = Entry(
                service.name,
                "p",
                0,
                Manifest("t"),
                service.state,
                service.wanted,
                1,
                service.token,
            )
        self.calls.changed(service.name, entry, self.now)

    @rule()
    def unblocked(self) -> None:
        for service in self.services.values():
            service.blocked = False
        self.calls.unblock(self.now)

    @rule()
    def router_changed(self) -> None:
        """Another supervisor, which sends its whole directory."""
        flying = self.lose([c for name in NAMES for c in self.flying(name)], blamed=False)
        known = {service.name: service.token for service in self.services.values()}
        for service in self.services.values():
            service.ended.clear()
            service.token, service.blocked = b"", False
        self.calls.router_changed("the router restarted", self.now)
        assert all(type(call.outcomes[0]) is ServiceLost for call in flying)
        for service in self.services.values():
            service.token = known[service.name]
            self.announce(service)

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 2.0, 40.0]))
    def time(self, seconds: float) -> None:
        self.now += seconds
        again = self.calls.due(self.now)
        left = [call.deadline for call in self.all.values() if not call.over]
        assert all(deadline > self.now for deadline in left)
        assert again <= min(left, default=float("inf"))
        assert again > self.now

    # --- what always holds ----------------------------------------------------------------

    @invariant()
    def an_outcome_tells_what_happened(self) -> None:
        for call in self.all.values():
            assert len(call.outcomes) + call.cancelled <= 1
            for outcome in call.outcomes:
                if isinstance(outcome, ServiceLost | CallTimeout | RemoteError | Raw):
                    assert call.had or call.lost  # it may have run
                else:
                    assert isinstance(outcome, ServiceUnavailable | Overloaded)
                    assert not call.had  # it did not
                    assert not call.lost
                assert call.blamed <= 2 * call.idempotent
                assert not isinstance(outcome, CallError) or outcome.service == call.name
                if isinstance(outcome, ServiceUnavailable):
                    assert outcome.state != "running"

    @invariant()
    def the_windows_hold(self) -> None:
        for name in NAMES:
            flying = self.flying(name)
            size = sum(call.size for call in flying)
            assert len(flying) <= self.window
            assert size <= self.window_bytes or len(flying) == 1

    @invariant()
    def what_is_counted_is_there(self) -> None:
        assert len(self.calls) == sum(not call.over for call in self.all.values())
        for name, peer in self.calls._peers.items():
            flying, parked = self.flying(name), self.parked(name)
            assert peer.calls == len(flying)
            assert peer.bytes == sum(call.size for call in flying)
            assert peer.waiting_bytes == sum(call.size for call in parked)

    @invariant()
    def what_can_be_sent_does_not_wait(self) -> None:
        for name, service in self.services.items():
            parked, flying = self.parked(name), self.flying(name)
            if not parked or not service.open:
                continue
            size = sum(call.size for call in flying) + min(parked, key=lambda c: c.id).size
            room = len(flying) < self.window and (size <= self.window_bytes or not flying)
            assert not room

    @invariant()
    def nothing_waits_for_what_will_not_come(self) -> None:
        for name, service in self.services.items():
            assert service.accepts or not self.parked(name)

    # --- and in the end -------------------------------------------------------------------

    def teardown(self) -> None:
        """Past all deadlines every call is settled or cancelled, and nothing is counted."""
        self.now += 1000.0
        self.calls.due(self.now)
        assert all(call.over for call in self.all.values())
        self.what_is_counted_is_there()
        assert len(self.calls) == 0
        for peer in self.calls._peers.values():
            assert (peer.calls, peer.bytes, peer.waiting_bytes) == (0, 0, 0)


def test_any_history() -> None:
    """Starts, answers, ends, changes, cancels and time in any order."""
    run_state_machine_as_test(
        World, settings=settings(max_examples=examples(300), stateful_step_count=40)
    )
