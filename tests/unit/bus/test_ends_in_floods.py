"""The end of a member is announced although others send without a pause."""

from collections import deque
from types import SimpleNamespace
from typing import cast

import pytest
import zmq

from garrison.ipc.messages import SUPERVISOR, Ended, decode_data
from garrison.ipc.sockets import EVENTS, POLLIN
from garrison.supervisor.bus import router as bus
from garrison.supervisor.bus.endpoints import RouterSet
from garrison.supervisor.bus.ends import OVER_BY_S
from garrison.supervisor.bus.router import BusRouter

ENDED, CALLER, TARGET = (b"g" + name * 15 for name in (b"e", b"c", b"t"))
FLOODS = [b"g" + b"%015d" % number for number in range(8)]
EACH_S = 20e-6  # for one message


class Router:
    """A ROUTER that is never empty: floods, and the last messages of a member that has ended."""

    def __init__(self, answers: int) -> None:
        self.now = 1000.0
        self.connected = True  # libzmq has not read to the end of its connection yet
        self.peers = deque([*FLOODS, ENDED])
        self.answers = answers
        self.coming: list[bytes] = []
        self.sent: list[list[bytes]] = [[]]

    def recv(self, _: int, copy: bool = True) -> bytes:
        """Take the next frame, of the peers by turns."""
        if not self.coming:
            self.now += EACH_S
            self.peers.rotate(-1)
            if self.peers[-1] == ENDED:
                if not self.answers:
                    self.peers.rotate(-1)
                else:
                    self.answers -= 1
            source = self.peers[-1]
            self.coming = [source, CALLER if source == ENDED else TARGET, b"batch"]
        return self.coming.pop(0)

    def getsockopt(self, option: int) -> int:
        """Return that there is more."""
        return POLLIN if option == EVENTS else len(self.coming) > 0

    def send(self, frame: bytes, flags: int) -> None:
        """Take a frame."""
        if not self.sent[-1] and frame == ENDED and not self.connected:
            raise zmq.ZMQError(zmq.EHOSTUNREACH)
        self.sent[-1].append(frame)
        if not flags & zmq.SNDMORE:
            self.sent.append([])


def made(router: Router, monkeypatch: pytest.MonkeyPatch) -> BusRouter:
    """Return a bus with all of them."""
    monkeypatch.setattr(bus, "time", SimpleNamespace(monotonic=lambda: router.now))
    made = BusRouter(RouterSet(cast("zmq.Socket[bytes]", router)), lambda _: None, 1 << 30, "boot")
    for token in (ENDED, CALLER, TARGET, *FLOODS):
        made.admit(token)
        made.connect_without_sync(token, probed=True)
    made.route_pending()
    return made


def index_of_end(router: Router) -> int | None:
    """Return which of the messages that were sent announces the end."""
    for number, (to, source, *batch) in enumerate(filter(None, router.sent)):
        if to == CALLER and source == SUPERVISOR:
            assert [type(one) for one in decode_data(batch[0])] == [Ended]
            return number
    return None


@pytest.mark.parametrize("answers", [0, 1, 64, 200])
def test_an_end_is_announced_behind_the_last_answers(
    answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them are carried before it, and of the flood only a bounded number after them."""
    router = Router(answers=answers + 100)
    made_bus = made(router, monkeypatch)
    while router.answers > answers:
        made_bus.route_pending()
    left = router.answers
    made_bus.mark_ended(ENDED)
    made_bus.set_cause(ENDED, "was killed")
    router.connected, router.sent = False, [[]]
    while index_of_end(router) is None:
        made_bus.route_pending()
        made_bus.announce_ends()
    end = index_of_end(router)
    before = [frames[1] for frames in router.sent[:end]]
    assert before.count(ENDED) == left == before.count(ENDED) + router.answers
    last = max((n for n, source in enumerate(before) if source == ENDED), default=0)
    turn = bus.TURN_S / EACH_S + 1
    assert len(before) - last <= 2 * (len(FLOODS) + 3 + bus.PEERS_MORE) + 2 * turn
    assert not made_bus.settling


def test_a_connection_that_has_not_ended_yet_is_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last messages may be on their way; but not for ever."""
    router = Router(answers=0)
    made_bus = made(router, monkeypatch)
    ended_at = router.now
    made_bus.mark_ended(ENDED)
    made_bus.set_cause(ENDED, "was killed")
    while made_bus.settling:
        assert router.now < ended_at + OVER_BY_S + bus.TURN_S + EACH_S
        made_bus.route_pending()
        made_bus.announce_ends()
    assert router.now >= ended_at + OVER_BY_S
