"""Asks the supervisor of a home, and waits for its answer."""

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import zmq

from garrison.ipc import messages, sockets
from garrison.ipc.errors import OrderFailed, SupervisorGone

ANSWER_S = 10.0  # beyond the order's own wait, for a supervisor that is busy
LOOK_S = 1.0  # between looks whether it is still there
COMING_S = 3.0  # for a supervisor that starts or is being upgraded, until it listens
COMING_LOOK_S = 0.02
MAX_MESSAGE = 256 * 1024 * 1024

SINCE = {"number": 0}  # of events: those from now on

_ids = itertools.count(1)


def request(
    home: Path,
    verb: str,
    names: tuple[str, ...] = (),
    wait: float = 0.0,
    pidfd: int | None = None,
    **options: Any,
) -> Any:
    """Give an order, and return the answer's data.

    Args:
        home: The home whose supervisor is meant.
        verb: One of `supervisor.commands`.
        names: NAMEs and globs.
        wait: Seconds until the supervisor answers that it is not done yet; 0 is without limit.
        pidfd: The supervisor's, so that its end is seen at once.
        options: What the verb takes besides.

    Raises:
        SupervisorGone: Nobody answers.
        OrderFailed: It was not done; `code` says why.
    """
    for answer in _answers(home, verb, names, wait, options, pidfd):
        return answer.data
    raise SupervisorGone(str(home))


def follow(home: Path, verb: str, names: tuple[str, ...] = (), **options: Any) -> Iterator[Any]:
    """Give an order whose answers keep coming; yield the data of each."""
    for answer in _answers(home, verb, names, 0.0, options):
        yield answer.data


def _answers(
    home: Path,
    verb: str,
    names: tuple[str, ...],
    wait: float,
    options: dict[str, Any],
    pidfd: int | None = None,
) -> Iterator[messages.Answer]:
    path = sockets.control_path(sockets.run_folder(home))
    _until_answered(path)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = sockets.dealer(context, path, sockets.new_token(), MAX_MESSAGE)
    dealer.set(zmq.SNDTIMEO, int(ANSWER_S * 1000))
    order = messages.Order(next(_ids), verb, names, wait, options)
    try:
        yield from _received(dealer, path, order, wait, pidfd)
    except zmq.Again:
        raise SupervisorGone(path, "it does not answer; it may be stopped") from None
    finally:
        with contextlib.suppress(zmq.ZMQError):  # nobody waits for what only waited for us
            bye = [messages.SUPERVISOR, messages.encode([messages.Leave()])]
            dealer.send_multipart(bye, zmq.NOBLOCK)
        dealer.close(linger=200)
        context.term()


def _until_answered(path: str) -> None:
    """Raise SupervisorGone where nobody listens, and nobody is about to."""
    until = time.monotonic() + COMING_S
    while True:
        try:
            sockets.check_listening(path)
        except SupervisorGone:
            if time.monotonic() >= until or not sockets.is_starting(path):
                raise
            time.sleep(COMING_LOOK_S)
        else:
            return


def _received(
    dealer: zmq.Socket[bytes],
    path: str,
    order: messages.Order,
    wait: float,
    pidfd: int | None,
) -> Iterator[messages.Answer]:
    patient = order.verb in {"start", "stop", "restart", "reset", "down", "upgrade", "wait"}
    following = bool(order.options.get("follow"))
    until = time.monotonic() + (wait or (1e9 if patient or following else 0.0)) + ANSWER_S
    asked = False
    poller = zmq.Poller()
    poller.register(dealer, zmq.POLLIN)
    if pidfd is not None:
        poller.register(pidfd, zmq.POLLIN)
    heard_by = time.monotonic() + ANSWER_S
    while time.monotonic() < (until if asked else heard_by):
        ready = dict(poller.poll(int(LOOK_S * 1000)))
        if dealer not in ready:
            if pidfd in ready:
                raise SupervisorGone(path, "it has ended")
            _until_answered(path)
            continue
        frames = dealer.recv_multipart()
        for message in messages.decode_downward(frames[1]):
            if isinstance(message, messages.Identify):
                # Each new connection begins so: this one's first, or that to a next supervisor,
                # which does not know what the one before was asked.
                if asked and order.verb in {"down", "upgrade"}:
                    raise SupervisorGone(path, "another has taken its place")
                if asked and following:
                    order = msgspec.structs.replace(order, options={**order.options, **SINCE})
                asked = True
                dealer.send_multipart([messages.SUPERVISOR, messages.encode([order])])
                continue
            if not isinstance(message, messages.Answer) or message.id != order.id:
                continue
            if not message.ok:
                raise OrderFailed(message.code, message.message, message.data)
            yield message
            if not message.more and not following:
                return
    raise SupervisorGone(path, f"it gave no answer within {ANSWER_S:g} s; is it stopped?")
