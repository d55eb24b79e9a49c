"""How much of the control plane one turn takes: what is said in long batches is heard in parts."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import zmq

from garrison.ipc.messages import SUPERVISOR, Beat, Leave, encode
from garrison.supervisor.bus.endpoints import RouterSet
from garrison.supervisor.control import server
from garrison.supervisor.control.server import BATCH_MOST, ControlServer

FLOODS, OTHER = b"g-floods", b"g-other"
TAKES_S = server.CONTROL_S / 10  # of the clock below, to hear one message


class Router:
    """A ROUTER with what has come."""

    def __init__(self) -> None:
        self.coming: list[list[bytes]] = []
        self.left = 0  # frames of the message that is being read

    def recv(self, _: int) -> bytes:
        """Take the next frame."""
        if not self.coming:
            raise zmq.Again
        frame = self.coming[0].pop(0)
        self.left = len(self.coming[0])
        if not self.left:
            del self.coming[0]
        return frame

    def getsockopt(self, _: int) -> bool:
        """Tell whether the message has more frames."""
        return self.left > 0

    def says(self, token: bytes, *batch: Any) -> None:
        """Have a batch come."""
        self.coming.append([token, SUPERVISOR, encode(list(batch))])


class Said:
    """What a supervisor has heard, on a clock that only hearing moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.heard = 1000.0, list[bytes]()
        monkeypatch.setattr(server, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.router = Router()
        self.refused: list[str] = []
        record = lambda event, **data: self.refused.append(data["error"])  # noqa: E731
        host: Any = SimpleNamespace(
            members=SimpleNamespace(leave=self._hear),
            orders=SimpleNamespace(forget=lambda token: None),
            journal=SimpleNamespace(record=record),
        )
        self.hearing = ControlServer(host, RouterSet(cast(Any, self.router)))

    def _hear(self, token: bytes) -> None:
        self.now += TAKES_S
        self.heard.append(token)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """Return a supervisor that has heard nothing yet."""
    return Said(monkeypatch)


def test_a_long_batch_is_heard_in_turns(said: Said) -> None:
    """A turn takes its time and little more; the rest is heard in the next ones, in order, and what
    others have said comes after it."""
    said.router.says(FLOODS, *[Leave()] * 100)
    said.router.says(OTHER, Leave())
    turns = 0
    while said.router.coming or said.hearing.unheard:
        began = said.now
        said.hearing.read()
        assert 0 < said.now - began <= server.CONTROL_S + TAKES_S
        turns += 1
        assert turns <= 20
    assert said.heard == [FLOODS] * 100 + [OTHER]
    assert turns > 5


def test_no_more_is_read_than_is_heard(said: Said) -> None:
    """Of batches that come faster than they are heard, one waits here; the others in the socket."""
    for _ in range(50):
        said.router.says(FLOODS, *[Leave()] * 100)
    for _ in range(30):
        said.hearing.read()
        assert len(said.hearing.unheard) <= 100


def test_a_batch_beyond_the_bound_is_refused_as_a_whole(said: Said) -> None:
    """It is counted, and what comes after it is heard."""
    said.router.says(FLOODS, *[Beat(n, 0, 0, {}) for n in range(BATCH_MOST + 1)])
    said.router.says(OTHER, Leave())
    said.hearing.read()
    assert said.heard == [OTHER]
    assert said.hearing.refused == 1
    assert said.refused == [f"not a valid message: {BATCH_MOST + 1} messages at once"]


def test_one_message_that_errs_loses_no_other(said: Said) -> None:
    """A mistake over one message of a batch is written down; the rest is heard."""
    erred: list[str] = []
    cast(Any, said.hearing)._host.erred = lambda over, error: erred.append(over)
    said.router.says(
        FLOODS, Leave(), Beat(1, 0, 0, {}), Leave()
    )  # this host knows of no registration
    said.hearing.read()
    assert said.heard == [FLOODS, FLOODS]
    assert erred == ["a Beat"]
