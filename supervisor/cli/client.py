"""Sends an order to the supervisor of a home, and yields its answers. Durations are seconds."""

import contextlib
import itertools
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import zmq

from garrison.ipc import messages, sockets
from garrison.ipc.errors import OrderFailed, SupervisorGone
from garrison.ipc.system import process_tree
from garrison.ipc.system.locks import is_locked

from .errors import unquoted_pattern

NO_LIMIT = math.inf  # an order's wait
ANSWER_S = 10.0  # beyond the order's own wait, for a supervisor that is busy
PROBE_S = 1.0  # between checks that the supervisor still listens
STARTING_S = 3.0  # for a supervisor that starts or is being upgraded, until it listens
STARTING_POLL_S = 0.02
MAX_MESSAGE = 256 * 1024 * 1024

SINCE = {"number": 0}  # of events: those from now on

_ids = itertools.count(1)


def request(
    home: Path,
    verb: str,
    names: tuple[str, ...] = (),
    wait: float = 0.0,
    *,
    pidfd: int | None = None,
    once: bool = False,
    **options: Any,
) -> Any:
    """Send an order, and return the answer's data.

    Args:
        home: The home whose supervisor is meant.
        verb: A verb of `supervisor.control.commands`.
        names: NAMEs and globs.
        wait: Seconds until the supervisor answers `timed_out`; `NO_LIMIT` for an order that may
            take any time, 0 for one that is answered at once.
        pidfd: The supervisor's, so that its end is noticed at once.
        once: Do not repeat the order to a supervisor that takes this one's place.
        options: What the verb takes besides.

    Raises:
        SupervisorGone: No supervisor answers.
        OrderFailed: It was not done; `code` says why.
    """
    order = messages.Order(next(_ids), verb, names, 0.0 if wait == NO_LIMIT else wait, options)
    for answer in _answers(_Exchange(home, order, wait, once, pidfd)):
        return answer.data
    raise SupervisorGone(str(home))


def follow(home: Path, verb: str, names: tuple[str, ...] = (), **options: Any) -> Iterator[Any]:
    """Send an order that has any number of answers; yield the data of each."""
    order = messages.Order(next(_ids), verb, names, 0.0, {**options, "follow": True})
    for answer in _answers(_Exchange(home, order, NO_LIMIT, follows=True)):
        yield answer.data


class EndingSupervisor:
    """A supervisor whose end is waited for.

    Its pid identifies it in its own PID namespace alone. From another one, it has ended when no
    process has its lock.

    Args:
        home: Its home.
        head: What `status` reports of it.

    Attributes:
        pid: Its pid, in its own namespace.
        pidfd: None if it is in another namespace, or has ended.
    """

    def __init__(self, home: Path, head: dict[str, Any]) -> None:
        self._lock = sockets.run_folder(home) / "supervisor.lock"
        self.pid: int = head["pid"]
        self.pidfd: int | None = None
        if process_tree.is_pid_namespace(head.get("pid_namespace", 0)):
            with contextlib.suppress(ProcessLookupError):
                self.pidfd = os.pidfd_open(self.pid)

    def ended(self, seconds: float) -> bool:
        """Return True if it ends within that time."""
        if self.pidfd is not None:
            return process_tree.ended(self.pidfd, seconds)
        deadline = time.monotonic() + seconds
        while is_locked(self._lock):
            if time.monotonic() >= deadline:
                return False
            time.sleep(STARTING_POLL_S)
        return True

    def close(self) -> None:
        """Release the descriptor."""
        if self.pidfd is not None:
            os.close(self.pidfd)


@dataclass
class _Exchange:
    """An order, and how long and from which supervisor its answers are expected."""

    home: Path
    order: messages.Order
    wait: float
    once: bool = False
    pidfd: int | None = None
    follows: bool = False
    sent: bool = False

    @property
    def path(self) -> str:
        return sockets.control_path(sockets.run_folder(self.home))

    def check(self, answer: messages.Answer) -> None:
        """Raise the error that an answer reports."""
        if answer.ok:
            return
        message = answer.message
        if answer.code == "no_such_service":
            message = unquoted_pattern(self.order.names) or message
        raise OrderFailed(answer.code, message, answer.data)


def _answers(exchange: _Exchange) -> Iterator[messages.Answer]:
    _wait_until_listening(exchange.path)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = sockets.dealer(context, exchange.path, sockets.new_token(), MAX_MESSAGE)
    dealer.set(zmq.SNDTIMEO, int(ANSWER_S * 1000))
    try:
        yield from _received(dealer, exchange)
    except zmq.Again:
        raise SupervisorGone(exchange.path, _silent()) from None
    finally:
        with contextlib.suppress(zmq.ZMQError):  # spares the supervisor work for an absent client
            leave = [messages.SUPERVISOR, messages.encode([messages.Leave()])]
            dealer.send_multipart(leave, zmq.NOBLOCK)
        dealer.close(linger=200)
        context.term()


def _wait_until_listening(path: str) -> None:
    """Raise SupervisorGone if no supervisor listens, and none is starting."""
    deadline = time.monotonic() + STARTING_S
    while True:
        try:
            sockets.check_listening(path)
        except SupervisorGone:
            if not sockets.is_starting(path):
                raise
            if time.monotonic() >= deadline:
                raise sockets.socket_missing(path) from None
            time.sleep(STARTING_POLL_S)
        else:
            return


def _received(dealer: zmq.Socket[bytes], exchange: _Exchange) -> Iterator[messages.Answer]:
    poller = zmq.Poller()
    poller.register(dealer, zmq.POLLIN)
    if exchange.pidfd is not None:
        poller.register(exchange.pidfd, zmq.POLLIN)
    began = time.monotonic()
    deadline = began + ANSWER_S
    while time.monotonic() < deadline:
        ready = dict(poller.poll(int(PROBE_S * 1000)))
        if dealer not in ready:
            if exchange.pidfd in ready:
                raise SupervisorGone(exchange.path, "it has ended")
            _wait_until_listening(exchange.path)
            continue
        for message in messages.decode_downward(dealer.recv_multipart()[1]):
            if isinstance(message, messages.Identify):
                _send(dealer, exchange)
                deadline = began + exchange.wait + ANSWER_S
            elif isinstance(message, messages.Answer) and message.id == exchange.order.id:
                exchange.check(message)
                yield message
                if not message.more and not exchange.follows:
                    return
    raise SupervisorGone(exchange.path, _silent())


def _send(dealer: zmq.Socket[bytes], exchange: _Exchange) -> None:
    """Send the order on a new connection.

    The first connection begins with Identify, and so does the one to a next supervisor, which does
    not know the order that the former one received.
    """
    order = exchange.order
    if exchange.sent and exchange.once:
        raise SupervisorGone(exchange.path, "another has taken its place")
    if exchange.sent and exchange.follows:
        order = msgspec.structs.replace(order, options={**order.options, **SINCE})
    exchange.sent = True
    dealer.send_multipart([messages.SUPERVISOR, messages.encode([order])])


def _silent() -> str:
    return (
        f"it gave no answer within {ANSWER_S:g} s; is it stopped? Resume it with fg or kill -CONT, "
        f"or try again when the machine is less busy"
    )
