"""Direct routes in any history: calls keep their order and end once; grants stay within bounds."""

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw
from tests.support.examples import examples

from garrison.ipc import messages
from garrison.ipc.call_state import OpenCall, Outcome
from garrison.ipc.calls import Calls
from garrison.ipc.direct_state import Act, Happened, Stage, step
from garrison.ipc.errors import CallError
from garrison.ipc.messages import EMPTY_MAP, Entry, Manifest, State, Token
from garrison.supervisor.bus import direct
from garrison.supervisor.bus.direct import EACH_MOST, Fitness, Grants, Mode

CALLEE, ADDRESS = b"g" + bytes(15), b"d" + bytes(15)
ARGS = Raw(b"\x90")


class Pair:
    """A caller with a route, its callee, and the two ways between them; each way keeps its order,
    and which of them is read next is any."""

    def __init__(self) -> None:
        self.calls = Calls(self.send, 8, 1 << 20)
        self.ways: dict[Token, deque[Any]] = {CALLEE: deque(), ADDRESS: deque()}
        self.back: dict[Token, deque[Any]] = {CALLEE: deque(), ADDRESS: deque()}
        self.ids, self.barrier = count(1), -1
        self.stage = Stage.CLOSED
        self.read: list[int] = []
        self.outcomes: dict[int, list[Outcome]] = {}
        manifest = Manifest("b", frames=True)
        entry = Entry("b", "p", 0, manifest, State.RUNNING, True, 1, CALLEE)
        self.calls.changed("b", entry, 0.0)

    def send(self, to: Token, message: Any) -> None:
        self.ways[to].append(message)

    # --- what may happen ------------------------------------------------------------------

    def call(self) -> None:
        number = next(self.ids)
        outcomes = self.outcomes[number] = []
        self.calls.start(
            OpenCall(number, "b", "m", ARGS, EMPTY_MAP, 1, 9.0, 9.0, outcomes.append), 0.0
        )

    def cancel(self) -> None:
        if pending := [number for number, outcomes in self.outcomes.items() if not outcomes]:
            self.calls.cancel(pending[0], 0.0)
            del self.outcomes[pending[0]]

    def grant(self) -> None:
        if self.stage is Stage.CLOSED:
            self.stage = Stage.CONNECTING
            self._send_barrier(ADDRESS)

    def read_one(self, way: Token) -> None:
        if self.ways[way]:
            message = self.ways[way].popleft()
            if isinstance(message, messages.Call):
                self.read.append(message.id)
                self.back[way].append(messages.Reply(message.id, ARGS))
            elif isinstance(message, messages.Barrier):
                self.back[way].append(messages.Passed(message.number))

    def answer_one(self, way: Token) -> None:
        if self.back[way]:
            message = self.back[way].popleft()
            if isinstance(message, messages.Reply):
                self.calls.answered(message.id, way, message.result, 0.0)
            elif message.number == self.barrier:
                self.barrier = -1
                self.happen(Happened.PASSED)

    def happen(self, event: Happened) -> None:
        rule = step(self.stage, event)
        if rule is None:
            return
        if event is Happened.LATE and self.stage is Stage.EMPTYING:
            if self.calls.has_sent(ADDRESS):
                return
            self.happen(Happened.EMPTY)
            return
        self.stage = rule.stage
        match rule.act:
            case Act.ENTER:
                self.calls.hold(CALLEE)
                self._send_barrier(CALLEE)
            case Act.LEAVE:
                self.calls.hold(CALLEE)
                self._send_barrier(ADDRESS)
            case Act.USE | Act.STAY:
                self.calls.release(CALLEE, ADDRESS, 0.0)
            case Act.EMPTY | Act.CLOSE:
                self.calls.release(CALLEE, b"", 0.0)
            case Act.HOLD:
                self.calls.hold(CALLEE)
            case Act.SETTLE:
                self.calls.ended(ADDRESS, "lost", 0.0)
                self.calls.release(CALLEE, b"", 0.0)
            case None:
                pass

    def _send_barrier(self, way: Token) -> None:
        self.barrier = next(self.ids)
        self.ways[way].append(messages.Barrier(self.barrier))


STEPS: dict[str, Callable[[Pair], None]] = {
    "call": Pair.call,
    "cancel": Pair.cancel,
    "grant": Pair.grant,
    "revoke": lambda pair: pair.happen(Happened.REVOKED),
    "late": lambda pair: pair.happen(Happened.LATE),
    "read routed": lambda pair: pair.read_one(CALLEE),
    "read direct": lambda pair: pair.read_one(ADDRESS),
    "answer routed": lambda pair: pair.answer_one(CALLEE),
    "answer direct": lambda pair: pair.answer_one(ADDRESS),
}
OFTEN = ["call", "grant", "read routed", "read direct", "answer routed", "answer direct"]
TO_DIRECT = ["grant", "read direct", "answer direct", "read routed", "answer routed"]
MOVES = st.sampled_from([*STEPS, *OFTEN, *OFTEN, *OFTEN])


@example([*TO_DIRECT, "call", "revoke", "late", "call", "read routed", "read direct"])
@example(["call", *TO_DIRECT[:3], "call", "read direct", "read routed"])
@given(st.lists(MOVES, min_size=20, max_size=150))
@settings(max_examples=examples(600), deadline=None)
def test_calls_keep_their_order_whichever_way_is_read_first(history: list[str]) -> None:
    """Each call that is not cancelled is run once, in the order of the calls, and answered."""
    pair = Pair()
    for name in history:
        STEPS[name](pair)
    for _ in range(400):  # in the end all that was sent is read and answered
        for way in (ADDRESS, CALLEE):
            pair.read_one(way)
            pair.answer_one(way)
    assert pair.read == sorted(set(pair.read))
    assert all(len(outcomes) == 1 for outcomes in pair.outcomes.values())
    assert not any(isinstance(one[0], CallError) for one in pair.outcomes.values())
    assert set(pair.outcomes) <= set(pair.read)


NAMES = [b"g%d" % number for number in range(6)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["busy", "idle", "open", "refuse", "use", "close", "end", "pause"]),
            st.sampled_from(NAMES),
            st.sampled_from(NAMES),
            st.floats(0.0, 40.0),
        ),
        max_size=60,
    )
)
@settings(max_examples=examples(600), deadline=None)
def test_grants_are_for_pairs_that_live_and_are_fit(
    history: list[tuple[str, Token, Token, float]],
) -> None:
    """One for a pair, within bounds, each with an address of its own; after an end, none is left
    that names it."""
    ended, paused, numbers, now = set[Token](), set[Token](), count(), 0.0

    def fitness(token: Token) -> Fitness:
        lives, takes = token not in ended, token not in ended | paused
        return Fitness(lives, lives, takes, takes, "/p")

    grants = Grants(Mode.BUSY, fitness, lambda: b"d%d" % next(numbers))
    addresses = dict[tuple[Token, Token], Token]()
    for what, one, other, seconds in history:
        now += seconds
        address = grants.address_of(one, other)
        found: list[direct.Message] = []
        match what:
            case "busy" | "idle":
                found = grants.called(one, other, 1000 if what == "busy" else 0, 1.0, now)
            case "open" | "refuse":
                problem = "no" if what == "refuse" else ""
                found = grants.opened(other, messages.DirectOpen(address, problem), now)
            case "use" | "close":
                report = messages.DirectRoute(address or b"d-", other, what == "use")
                found = grants.reported(one, report, now)
            case "end":
                ended.add(one)
            case "pause":
                paused ^= {one}
        for to, message in found:
            if isinstance(message, messages.AcceptDirect):
                assert to not in ended
            if isinstance(message, messages.GrantDirect):
                assert addresses.get((to, message.callee)) != message.address
                addresses[to, message.callee] = message.address
        grants.check(now)
        active = grants.active
        assert len(set(active)) == len(active) <= len(grants)
        assert not any(set(pair) & ended for pair in active)
        assert not any(callee in paused for _, callee in active)
        for token in NAMES:
            assert sum(caller == token for caller, _ in active) <= EACH_MOST
            assert token not in ended or not any(grants.address_of(token, b) for b in NAMES)
