"""Sends an order to the supervisor of a home, and yields its answers. Durations are seconds."""

import contextlib
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from garrison.ipc import messages, socket_paths
from garrison.ipc.errors import OrderFailed, SupervisorGone
from garrison.ipc.messages import encodable
from garrison.ipc.system import process_tree
from garrison.ipc.system.locks import is_locked
from garrison.supervisor.config.own_machine import SUPERVISOR

from .control_connection import ControlConnection
from .errors import unquoted_pattern

FOLLOWED_MOST = 20_000  # answers that wait to be printed
NO_LIMIT = math.inf  # an order's wait
ANSWER_S = 10.0  # beyond the order's own wait, for a supervisor that is busy
PROBE_S = 1.0  # between checks that the supervisor still listens
WATCH_S = 0.25  # between two answers of `status` while an order is carried out
STARTING_S = 3.0  # for a supervisor that starts or is being upgraded, until it listens
STARTING_POLL_S = 0.02

CHANGING = frozenset(
    {
        "start",
        "stop",
        "restart",
        "reload",
        "trial",
        "reset",
        "pause",
        "resume",
        "fault",
        "down",
        "upgrade",
    }
)
MAYBE_DONE = "the order was sent and may have been done: garrison status shows it"
SINCE = {"number": 0}  # of events: those from now on

Watch: TypeAlias = Callable[[Any], None]

_ids = itertools.count(1)


def request(
    home: Path,
    verb: str,
    names: tuple[str, ...] = (),
    wait: float = 0.0,
    *,
    pidfd: int | None = None,
    once: bool = False,
    why: str = "",
    watch: Watch | None = None,
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
        why: Why it is given, for the events and the services.
        watch: Called with the data of `status` four times a second until the answer is there.
        options: What the verb takes besides.

    Raises:
        SupervisorGone: No supervisor answers.
        OrderFailed: It was not done; `code` says why.
    """
    limit = 0.0 if wait == NO_LIMIT else wait
    order = messages.Order(
        next(_ids), verb, names, limit, options, process_tree.own_mark(), encodable(why)
    )
    for answer in _answers(_Exchange(home, order, wait, once, pidfd, watch=watch)):
        return answer.data
    raise SupervisorGone(str(home))


def follow(home: Path, verb: str, names: tuple[str, ...] = (), **options: Any) -> Iterator[Any]:
    """Send an order that has any number of answers; yield the data of each.

    A thread reads them: the supervisor keeps few for a terminal that is paused, or slow.
    """
    import queue  # commands that order once do without
    import threading

    order = messages.Order(next(_ids), verb, names, 0.0, {**options, "follow": True})
    exchange = _Exchange(home, order, NO_LIMIT, follows=True)
    waiting: queue.Queue[Any] = queue.Queue(FOLLOWED_MOST)  # data of answers, at last an error

    def read() -> None:
        try:
            for answer in _answers(exchange):
                waiting.put(answer.data)
        except Exception as error:  # noqa: BLE001 (raised by who takes the answers)
            waiting.put(error)

    threading.Thread(target=read, name="follow", daemon=True).start()
    while True:
        found = waiting.get()
        if isinstance(found, Exception):
            raise found
        yield found


class Conversation:
    """Orders that are answered at once, one after the other, over one connection.

    Args:
        home: The home whose supervisor is meant.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._exchange: _Exchange | None = None
        self._answers: Iterator[messages.Answer] = iter(())

    def request(self, verb: str, names: tuple[str, ...] = (), **options: Any) -> Any:
        """Send an order, and return the answer's data. After an error, the next one connects anew.

        Raises:
            SupervisorGone: No supervisor answers.
            OrderFailed: It was not done; `code` says why.
        """
        order = messages.Order(next(_ids), verb, names, 0.0, options, process_tree.own_mark())
        if self._exchange is None:
            self._exchange = _Exchange(self._home, order, 0.0, repeats=True)
            self._answers = _answers(self._exchange)
        self._exchange.order = order
        try:
            return next(self._answers).data
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection."""
        self._exchange, self._answers = None, iter(())


def is_here(row: Mapping[str, Any]) -> bool:
    """Return whether a service of `status` runs on the supervisor's machine, as its pid says."""
    return row.get("node") in {None, SUPERVISOR}


def is_operator(home: Path) -> bool:
    """Return True if this user reaches the host of a home as an operator of a team alone."""
    run = socket_paths.run_folder(home)
    return not os.access(socket_paths.control_path(run), os.W_OK) and os.access(
        socket_paths.operators_path(run), os.W_OK
    )


def control_path(home: Path) -> str:
    """Return the path of the socket that this user gives orders at."""
    run = socket_paths.run_folder(home)
    return socket_paths.operators_path(run) if is_operator(home) else socket_paths.control_path(run)


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
        self._lock = socket_paths.run_folder(home) / "supervisor.lock"
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


class _Exchange(msgspec.Struct):
    """An order, and how long and from which supervisor its answers are expected."""

    home: Path
    order: messages.Order
    wait: float
    once: bool = False
    pidfd: int | None = None
    follows: bool = False
    repeats: bool = False  # once its answer has been taken, the next order is sent
    watch: Watch | None = None
    sent: bool = False
    looked_at: float = 0.0
    look: int = 0  # id of the order `status` that is under way, for `watch`; 0: none is

    @property
    def path(self) -> str:
        return control_path(self.home)

    def token(self) -> messages.Token:
        """Return a routing id for its socket."""
        if self.path == socket_paths.operators_path(socket_paths.run_folder(self.home)):
            return socket_paths.new_operator_token()
        return socket_paths.new_token()

    def check(self, answer: messages.Answer) -> None:
        """Raise the error that an answer reports."""
        if answer.ok:
            return
        message = answer.message
        if answer.code == "no_such_service":
            message = unquoted_pattern(self.order.names) or message
        raise OrderFailed(answer.code, message, answer.data)


def _answers(exchange: _Exchange) -> Iterator[messages.Answer]:
    connection = ControlConnection(exchange.path, exchange.token())
    try:
        _wait_until_listening(connection, exchange.path)
        if is_operator(exchange.home):
            socket_paths.check_admitted(exchange.path)
        yield from _received(connection, exchange)
    except SupervisorGone as error:
        if exchange.sent and exchange.order.verb in CHANGING:
            raise SupervisorGone(exchange.path, f"{error.hint}; {MAYBE_DONE}") from None
        raise
    finally:  # Leave spares the supervisor work for an absent client
        connection.send([messages.SUPERVISOR, messages.encode([messages.Leave()])])
        connection.close()


def _wait_until_listening(connection: ControlConnection, path: str) -> None:
    """Raise SupervisorGone if no supervisor listens, and none is starting."""
    deadline = time.monotonic() + STARTING_S
    while True:
        try:
            connection.open()
        except SupervisorGone as error:
            if socket_paths.is_refused(error) or not socket_paths.is_starting(path):
                raise
            if time.monotonic() >= deadline:
                raise socket_paths.socket_missing(path) from None
            time.sleep(STARTING_POLL_S)
        else:
            return


def _received(connection: ControlConnection, exchange: _Exchange) -> Iterator[messages.Answer]:
    began = time.monotonic()
    deadline = began + ANSWER_S
    while time.monotonic() < deadline:
        arrived = connection.receive(WATCH_S if exchange.watch else PROBE_S, exchange.pidfd)
        _look(connection, exchange)
        if not arrived:
            if exchange.pidfd is not None and process_tree.ended(exchange.pidfd, 0.0):
                raise SupervisorGone(exchange.path, "it has ended")
            _wait_until_listening(connection, exchange.path)
        for message in (one for frames in arrived for one in messages.decode_answers(frames[1])):
            if isinstance(message, messages.Identify):
                _send(connection, exchange)
                deadline = began + exchange.wait + ANSWER_S
            elif isinstance(message, messages.Answer) and message.id == exchange.look:
                exchange.look = 0
                if exchange.watch is not None and message.ok:
                    exchange.watch(message.data)
            elif isinstance(message, messages.Answer) and message.id == exchange.order.id:
                exchange.check(message)
                yield message
                if exchange.repeats:
                    _send(connection, exchange)
                    deadline = time.monotonic() + ANSWER_S
                elif not message.more and not exchange.follows:
                    return
    raise SupervisorGone(exchange.path, _silent())


def _send(connection: ControlConnection, exchange: _Exchange) -> None:
    """Send the order on a new connection.

    The first connection begins with Identify, and so does the one to a next supervisor, which does
    not know the order that the former one received.
    """
    order = exchange.order
    if exchange.sent and exchange.once:
        raise SupervisorGone(exchange.path, "another has taken its place")
    if exchange.sent and exchange.follows:
        order = msgspec.structs.replace(order, options={**order.options, **SINCE})
    exchange.sent, exchange.look = True, 0
    connection.send([messages.SUPERVISOR, messages.encode([order])])


def _look(connection: ControlConnection, exchange: _Exchange) -> None:
    """Order `status` for `watch`, over the connection of the order that is waited for."""
    now = time.monotonic()
    if exchange.watch is None or not exchange.sent or now - exchange.looked_at < WATCH_S:
        return
    exchange.looked_at = now
    if exchange.look == 0 and not connection.has_unsent:
        exchange.look = next(_ids)
        look = messages.Order(exchange.look, "status")
        connection.send([messages.SUPERVISOR, messages.encode([look])])


def _silent() -> str:
    return (
        f"it gave no answer within {ANSWER_S:g} s; is it stopped? Resume it with fg or kill -CONT, "
        f"or try again when the machine is less busy"
    )
