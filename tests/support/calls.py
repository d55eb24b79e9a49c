"""A table of calls for tests, with what it sent and how each call ended."""

from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import Raw

from garrison.ipc import messages
from garrison.ipc.call_state import OpenCall, Outcome
from garrison.ipc.calls import Calls
from garrison.ipc.errors import (
    CallError,
)
from garrison.ipc.messages import (
    EMPTY_MAP,
    Entry,
    Manifest,
    State,
    Token,
    Value,
)

ONE, TWO, OTHER = b"g-one", b"g-two", b"g-other"
RESULT = Raw(b"\x01")


@dataclass
class Caller:
    """Calls, the messages that were sent, and each call's outcomes."""

    window: int = 4
    window_bytes: int = 1000
    now: float = 100.0
    sent: list[tuple[Token, messages.Data]] = field(default_factory=list)
    outcomes: dict[int, list[Outcome]] = field(default_factory=dict)
    made: int = 0

    def __post_init__(self) -> None:
        self.calls = Calls(
            lambda to, message: self.sent.append((to, message)), self.window, self.window_bytes
        )

    def call(self, name: str = "a", size: int = 10, timeout: float = 30.0) -> int:
        """Start a call with arguments of a size; return its id."""
        return self.start(name, size, timeout).id

    def start(
        self,
        name: str = "a",
        size: int = 10,
        timeout: float = 30.0,
        item: Callable[[Value], None] | None = None,
        wants_more: Callable[[], bool] | None = None,
    ) -> OpenCall:
        """Start a call, or a stream; return it."""
        self.made += 1
        outcomes = self.outcomes[self.made] = []
        args = Raw(bytes(size - len(EMPTY_MAP)))
        deadline = self.now + timeout
        settle = outcomes.append
        call = OpenCall(
            self.made, name, "m", args, EMPTY_MAP, size, timeout, deadline, settle, item, wants_more
        )
        self.calls.start(call, self.now)
        return call

    def changed(
        self, state: State = State.RUNNING, token: Token = ONE, wanted: bool = True, name: str = "a"
    ) -> None:
        """Apply a change of the directory."""
        entry = Entry(name, "p", 0, Manifest("t"), state, wanted, 1, token)
        self.calls.changed(name, entry, self.now)

    def runs(self, token: Token = ONE, name: str = "a") -> None:
        """Set a service to running."""
        self.changed(State.RUNNING, token, name=name)

    def answer(self, call_id: int, source: Token = ONE) -> bool:
        """Deliver the reply to a call."""
        return self.calls.answered(call_id, source, RESULT, self.now)

    def calls_sent(self, to: Token = ONE) -> list[int]:
        """Return the ids of the calls that were sent to an incarnation, in order."""
        return [m.id for token, m in self.sent if token == to and isinstance(m, messages.Call)]

    def outcome(self, call_id: int) -> Outcome:
        """Return the one outcome of a call."""
        (outcome,) = self.outcomes[call_id]
        return outcome

    def error(self, call_id: int, kind: type[CallError]) -> CallError:
        """Return the error that a call ended with, of exactly that class."""
        outcome = self.outcome(call_id)
        assert isinstance(outcome, CallError)
        assert type(outcome) is kind, outcome
        return outcome
