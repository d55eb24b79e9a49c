"""No message waits in a ROUTER while the supervisor sleeps.

libzmq signals at a socket's descriptor once, and any call to the socket takes the signal. So here
are real sockets, and a reader that sleeps only when `BusRouter.unread` and `Inputs.unread` let it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from garrison.ipc import socket_paths, sockets
from garrison.ipc.messages import SUPERVISOR, Sync, Token, encode
from garrison.supervisor.bus import router as routing
from garrison.supervisor.bus.endpoints import BusRouters, RouterSet
from garrison.supervisor.bus.router import AGAIN_S, BusRouter
from garrison.supervisor.inputs import Inputs

SLEEP_S = 20.0  # longest sleep; a lost wake-up would be one
BURST = 300  # messages


class Bus:
    """A bus with two users' ROUTERs besides the own one, a member at each, and its reader."""

    def __init__(self, folder: Path) -> None:
        self.context = zmq.Context[zmq.Socket[bytes]]()
        routers = [sockets.router(self.context, -1) for _ in range(3)]
        plane: BusRouters = RouterSet(routers[0])
        for uid, one in enumerate(routers[1:], 1):
            plane.add(uid, one)
        self.router = BusRouter(plane, self._reject, 1 << 30, "boot")
        self.members: list[zmq.Socket[bytes]] = []
        self.tokens: list[Token] = []
        for uid, one in enumerate(routers):
            one.bind(f"ipc://{folder}/{uid}")
            token = socket_paths.new_token()
            if uid:
                plane.admit(token, uid)
            self.router.admit(token)
            member = sockets.dealer(self.context, f"{folder}/{uid}", token, -1, keep=True)
            self.members.append(member)
            self.tokens.append(token)
        self.inputs = Inputs()
        self.routers = tuple(routers)
        self.planes: Any = SimpleNamespace(control=SimpleNamespace(all=()), bus=plane)
        self.inputs.watch(self.planes, [], [])
        for member in self.members:
            member.send_multipart([SUPERVISOR, encode([Sync("boot")])])
        while len(self.router.connected) < len(self.members):
            self.turn()
        for member in self.members:
            assert member.poll(int(1000 * SLEEP_S))
            member.recv_multipart()  # Synced

    def _reject(self, reason: str) -> None:
        raise AssertionError(reason)

    def turn(self) -> None:
        """Sleep and route, as the supervisor's loop does in a turn that only routes."""
        again = AGAIN_S if self.router.waiting else SLEEP_S
        ready = self.inputs.wait(0.0 if self.router.unread else again)
        assert ready or self.router.unread or self.router.waiting, "the wake-up was lost"
        self.router.route_pending([self.inputs.bus[fd] for fd in ready])

    def close(self) -> None:
        """Close everything."""
        self.inputs.close()
        for one in (*self.members, *self.routers):
            one.close(linger=0)
        self.context.term()


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    """Return a bus."""
    made = Bus(tmp_path)
    yield made
    made.close()


def test_a_turn_that_ended_early_is_gone_on_with(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of a turn is hit after each message; all the others are routed all the same."""
    monkeypatch.setattr(routing, "TURN_S", -1.0)
    sender, receiver = bus.members[0], bus.members[1]
    for number in range(BURST):
        sender.send_multipart([bus.tokens[1], b"%d" % number])
    until = bus.router.carried + BURST
    while bus.router.carried < until:
        bus.turn()
    assert [int(receiver.recv_multipart()[1]) for _ in range(BURST)] == list(range(BURST))


def call_each_other(members: list["zmq.Socket[bytes]"], tokens: list[Token]) -> None:
    """Have each member send to each other one, and all answer what arrives."""
    for a, member in enumerate(members):
        for b in range(len(members)):
            if a != b:
                member.send_multipart([tokens[b], b"0"])
    left = BURST * len(members) * (len(members) - 1)
    poller = zmq.Poller()
    for member in members:
        poller.register(member, zmq.POLLIN)
    while left and (ready := poller.poll(int(1000 * SLEEP_S))):
        for member, _ in ready:
            source, count = member.recv_multipart()
            left -= 1
            if int(count) < BURST - 1:
                member.send_multipart([source, b"%d" % (int(count) + 1)])


def test_members_of_several_users_call_each_other(bus: Bus) -> None:
    """What is sent through one ROUTER may take the signal of what has arrived in it; no call of
    many between all pairs is left lying."""
    members = Thread(target=call_each_other, args=(bus.members, bus.tokens))
    members.start()
    until = bus.router.carried + BURST * 6
    while bus.router.carried < until:
        bus.turn()
    members.join()


def test_a_notice_sent_between_turns_loses_no_message(bus: Bus) -> None:
    """Ends are announced after the bus was read. That uses the socket, so it is looked at again
    before the next sleep, also where the signal of a message is taken by the announcement."""
    sender, receiver = bus.members[0], bus.members[1]
    for number in range(BURST):
        ended = socket_paths.new_token()
        bus.router.admit(ended)
        bus.router.pairs.count(bus.tokens[0], ended)
        sender.send_multipart([bus.tokens[1], b"%d" % number])
        until = bus.router.carried + 2
        bus.router.drop(ended, "it ended")
        while bus.router.carried < until:
            bus.turn()
        assert receiver.recv_multipart()[1] == b"%d" % number


def test_a_slow_turn_looks_into_each_socket_before_it_sleeps(bus: Bus) -> None:
    """Whatever has used a socket since, `Inputs.unread` finds the message that waits in it."""
    sender = bus.members[2]
    planes: Any = SimpleNamespace(
        control=SimpleNamespace(all=bus.routers[2:]), bus=bus.planes.control
    )
    bus.inputs.watch(planes, [], [])
    bus.router.unread.clear()
    sender.send_multipart([bus.tokens[1], b"waits"])
    own = bus.routers[2]
    (descriptor,) = bus.inputs.control
    while not int(own.get(zmq.EVENTS)) & zmq.POLLIN:  # a look takes the signal
        assert bus.inputs.wait(SLEEP_S) == {descriptor}, "the wake-up was lost"
    assert bus.inputs.unread() == {descriptor}
    bus.inputs.hold_control(True)
    assert bus.inputs.unread() == set()


def test_a_descriptor_whose_number_is_used_again_is_waited_for(bus: Bus) -> None:
    """epoll forgets a descriptor that is closed. Where the next file has the same number, that is
    waited for."""
    first, first_end = os.pipe()
    bus.inputs.watch(bus.planes, [], [first])
    os.close(first)
    os.close(first_end)
    second, second_end = os.pipe()
    assert second == first
    bus.inputs.watch(bus.planes, [], [second])
    os.write(second_end, b"x")
    assert bus.inputs.wait(SLEEP_S) >= {second}
    os.close(second)
    os.close(second_end)
