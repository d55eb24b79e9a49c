"""Every answer that a callee's process had handed to the kernel arrives, whenever it is killed.

The caller is the real one. Between it and its callee a relay passes the packets on, and so knows
which answers had left the process.
"""

import asyncio
import contextlib
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec import Raw
from tests.support.commands import inherited
from tests.support.waiting import until_true

from garrison.ipc import messages
from garrison.ipc.call_state import OpenCall, Outcome
from garrison.ipc.direct import Direct
from garrison.ipc.direct_sockets import PACKET, listen, new_address
from garrison.ipc.errors import ServiceLost
from garrison.ipc.hooks import WorkerHooks
from garrison.ipc.messages import EMPTY_MAP, SUPERVISOR, Entry, Manifest, State, Token
from garrison.ipc.session import Session
from garrison.ipc.socket_paths import new_token

KILLS = int(os.environ.get("GARRISON_KILLS", "12"))
CALLS = 64  # in flight
NO_ARGS = Raw(b"\x90")


class Relay:
    """Passes the packets of one connection on; keeps those that come from the callee."""

    def __init__(self, front: Path, back: Path) -> None:
        self.sent: list[bytes] = []
        self._back = back
        self._listener, _ = listen(str(front))
        self._listener.setblocking(True)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._listener:
            caller, _ = self._listener.accept()
        callee = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        callee.connect(str(self._back))
        other = {caller: callee, callee: caller}
        with caller, callee:
            while True:
                for one in select.select([caller, callee], [], [])[0]:
                    try:
                        packet = one.recv(PACKET)
                    except ConnectionResetError:  # comes before the last packets
                        continue
                    if one is callee:
                        if not packet:
                            return
                        self.sent.append(packet)
                    with contextlib.suppress(OSError):  # to a callee that was killed
                        other[one].send(packet)

    def answered(self) -> set[int]:
        """Return the ids of the calls whose answers have come; wait for the end."""
        self._thread.join(20.0)
        assert not self._thread.is_alive()
        batches = [messages.decode_data(packet) for packet in self.sent]
        return {one.id for batch in batches for one in batch if isinstance(one, messages.Reply)}


class Bus:
    """In place of the link to the router: it passes each barrier."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def send(self, peer: Token, message: object) -> None:
        """Answer a barrier."""
        if isinstance(message, messages.Barrier):
            passed = messages.Passed(message.number)
            self._session.loop.call_soon(self._session.handlers[messages.Passed], peer, passed)

    def forget(self, peer: Token) -> None:
        """Forget a peer."""

    def close(self, until: float) -> None:
        """Close it."""


class Caller:
    """A worker's session with direct routes, and the calls that it makes."""

    def __init__(self) -> None:
        hooks = WorkerHooks(
            redact=lambda message: message,
            welcomed=lambda message, is_next: None,
            ordered=lambda message: None,
            batch_read=lambda source: None,
            synced=lambda: None,
            router_changed=lambda: None,
            peer_ended=lambda token: None,
        )
        self.session = Session(new_token(), messages.CallLimits(window=CALLS), worker=hooks)
        self.session.bus = Bus(self.session)  # type: ignore[assignment]
        self.session.direct = self.direct = Direct(self.session, lambda address: None)
        self.outcomes: dict[int, list[Outcome]] = {}
        self.goes_on = True  # each answer is followed by the next call

    def runs(self, token: Token) -> None:
        """Note that an incarnation of the callee runs."""
        manifest = Manifest("callee", frames=True)
        entry = Entry("callee", "p", 0, manifest, State.RUNNING, True, 1, token)
        self.session.calls.changed("callee", entry, self.session.now())

    def call(self) -> None:
        """Make a call."""
        if not self.goes_on:
            return
        number, now = next(self.session.ids), self.session.now()
        outcomes = self.outcomes[number] = []
        times = (60.0, now + 60.0)
        call = OpenCall(
            number, "callee", "m", NO_ARGS, EMPTY_MAP, 1, *times, lambda one: settled(one)
        )

        def settled(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if self.goes_on:
                self.session.loop.call_soon(self.call)

        self.session.calls.start(call, now)


@pytest.fixture(scope="module")
def forks() -> Iterator[subprocess.Popen[str]]:
    """Run the process that forks callees."""
    command = [sys.executable, "-m", "tests.support.direct_callee"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=inherited()
    ) as forks:
        yield forks
        assert forks.stdin is not None
        forks.stdin.close()


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    """Return a caller."""
    caller = Caller()
    yield caller
    caller.session.close()


def fork(forks: subprocess.Popen[str], path: Path) -> int:
    """Fork a callee; return its pid."""
    assert forks.stdin is not None
    assert forks.stdout is not None
    forks.stdin.write(f"{path}\n")
    forks.stdin.flush()
    return int(forks.stdout.readline())


@pytest.mark.parametrize("early", [True, False], ids=["notice first", "connection first"])
async def test_what_was_written_before_a_death_arrives(
    caller: Caller, forks: subprocess.Popen[str], tmp_path: Path, early: bool
) -> None:
    """The notice of the end comes on another way, before the last answers or after them. Each call
    ends once; those without an answer are lost, and no answer comes later."""
    chance, answered, lost = random.Random(7), 0, 0
    for number in range(KILLS):
        back, front, token = tmp_path / f"b{number}", tmp_path / f"f{number}", new_token()
        pid = fork(forks, back)
        pidfd = os.pidfd_open(pid)
        await until_true(back.exists)
        relay = Relay(front, back)
        address = new_address()
        caller.runs(token)
        caller.direct.ordered(messages.GrantDirect(address, token, str(front)))
        await until_true(lambda: caller.session.calls.direct)
        caller.outcomes, caller.goes_on = {}, True
        for _ in range(CALLS):
            caller.call()
        await asyncio.sleep(chance.random() * 0.02)  # the moment of death is any
        caller.goes_on = False
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], 20.0)
        os.close(pidfd)
        end = messages.Ended(token, "killed")
        if not early:
            await asyncio.sleep(0.003)
        caller.session.handlers[messages.Ended](SUPERVISOR, end)
        await until_true(lambda: all(caller.outcomes.values()))

        arrived = {
            call
            for call, outcomes in caller.outcomes.items()
            if not isinstance(outcomes[0], ServiceLost)
        }
        assert arrived == relay.answered()
        answered += len(arrived)
        lost += len(caller.outcomes) - len(arrived)
        assert all(len(outcomes) == 1 for outcomes in caller.outcomes.values())
        await until_true(lambda: not caller.session.links)
    assert answered > KILLS
    assert lost > 0
    print(f"{KILLS} kills, {answered} answers, {lost} calls lost")
