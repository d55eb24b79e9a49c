"""Requests of the command line while they are carried out; each is answered once."""

import time
from collections.abc import Callable
from typing import Any

import msgspec

from garrison.ipc import messages, socket_paths, sockets
from garrison.ipc.errors import ConfigError
from garrison.ipc.messages import Answer, Token
from garrison.supervisor.control.commands.base import (
    STOPPED,
    AnswerNow,
    Command,
    CommandContext,
    CommandSpec,
    GoesOn,
    Refusal,
)
from garrison.supervisor.lifecycle.actions import Action
from garrison.supervisor.logs.events import LogEvent

from .commands import COMMANDS

REQUESTS_MOST = 256
OPERATORS_MOST = 64  # of other users together
REQUESTS_EACH = 32  # of one connection, so that none takes all the room
TURN_S = 0.005  # of one turn, for all requests; the rest continues in the next
ACTIONS_MOST = 1000  # that a command performs in one step

Send = Callable[[Token, messages.Downward], bool]
Admit = Callable[[Token, messages.Order, sockets.Peer], messages.Order]


class EventFollowers:
    """The connections that every event is sent to.

    Args:
        send: Sends to one connection; returns False if it is gone or does not read.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._followers: dict[Token, tuple[int, frozenset[str]]] = {}

    def add(self, peer: Token, order: messages.Order, services: frozenset[str]) -> None:
        """Send a connection every event from now on; of these services, or all."""
        self._followers[peer] = (order.id, services)

    def remove(self, peer: Token) -> None:
        """Send a connection no more events."""
        self._followers.pop(peer, None)

    def publish_event(self, event: LogEvent) -> None:
        """Send an event to those that follow it."""
        for peer, (order_id, services) in list(self._followers.items()):
            if services and event.service not in services:
                continue
            if not self._send(peer, Answer(order_id, True, event, more=True)):
                del self._followers[peer]


class Request(msgspec.Struct, eq=False):
    """A request that is not finished."""

    peer: Token
    order: messages.Order
    command: CommandSpec
    steps: Command
    deadline: float
    answered: bool = False  # it timed out; it is carried out all the same


class RequestHooks(msgspec.Struct, frozen=True):
    """What requests have done by others."""

    send: Send
    perform: Callable[[Action], None]
    write_snapshot: Callable[[], None]  # before an answer: what was answered holds
    publish: Callable[[], None]  # likewise: what the client asks next is answered accordingly
    wake: Callable[[], None]
    report_error: Callable[[str, Exception], None]


class RequestQueue:
    """All requests that are under way.

    Args:
        context: What commands may look at.
        hooks: What is done by others.
        admit: Returns an order as its sender may give it; raises Refusal.
    """

    def __init__(self, context: CommandContext, hooks: RequestHooks, admit: Admit) -> None:
        self._context, self._hooks, self._admit = context, hooks, admit
        self._requests: list[Request] = []

    def __bool__(self) -> bool:
        return bool(self._requests)

    def take(
        self, peer: Token, order: messages.Order, sender: sockets.Peer = sockets.UNKNOWN_PEER
    ) -> None:
        """Begin to carry out a request.

        Args:
            peer: The connection.
            order: The request.
            sender: Whose process has sent it.
        """
        if peer and any((one.peer, one.order.id) == (peer, order.id) for one in self._requests):
            return  # its connection was made twice, as after a takeover
        try:
            order = self._admit(peer, order, sender)
            command = self._command(peer, order)
        except Refusal as refusal:
            self._answer(peer, order, refusal)
            return
        if len(self._requests) >= REQUESTS_MOST:
            self._drop_one()
        wait = order.wait if 0 < order.wait < 1e9 else 1e9
        steps = command.body(self._context, peer, order)
        self._requests.append(Request(peer, order, command, steps, time.monotonic() + wait))

    def _command(self, peer: Token, order: messages.Order) -> CommandSpec:
        """Return the command of an order. Raises Refusal: there is none, or too many wait."""
        if order.verb not in COMMANDS:
            raise Refusal("usage", f"this supervisor has no {order.verb}")
        if sum(request.peer == peer for request in self._requests) >= REQUESTS_EACH:
            raise Refusal("failed", f"{REQUESTS_EACH} of yours wait already")
        of_operators = (socket_paths.is_operator_token(request.peer) for request in self._requests)
        if socket_paths.is_operator_token(peer) and sum(of_operators) >= OPERATORS_MOST:
            raise Refusal("failed", f"{OPERATORS_MOST} orders of operators wait already")
        return COMMANDS[order.verb]

    def _drop_one(self) -> None:
        """Drop the oldest request that only waits, or the oldest of all."""
        waiting = (request for request in self._requests if request.command.waits)
        oldest = next(waiting, self._requests[0])
        self._reply(oldest, Refusal("failed", f"{REQUESTS_MOST} orders wait already"))
        oldest.steps.close()
        self._requests.remove(oldest)

    def step_all(self) -> None:
        """Continue every request, for a bounded time."""
        until = time.monotonic() + TURN_S
        continued: list[Request] = []
        while self._requests and time.monotonic() < until:
            request = self._requests.pop(0)
            if self._step(request, until):
                continued.append(request)
        if self._requests:
            self._hooks.wake()
        self._requests += continued

    def forget(self, peer: Token) -> None:
        """Drop the requests of a connection that is gone which only wait."""
        self._requests = [r for r in self._requests if r.peer != peer or not r.command.waits]

    def answer_all(self) -> None:
        """Answer everything that still waits: the supervisor is ending."""
        for request in self._requests:
            refusal = Refusal("failed", STOPPED)
            self._reply(request, {} if request.command.ends_host else refusal)

    def _step(self, request: Request, until: float) -> bool:
        """Continue a request; return False if it has finished."""
        verb = request.order.verb
        try:
            only_waits = self._run(request, until)
        except StopIteration as end:
            if end.value is not None:
                self._reply(request, end.value)
            self._hooks.wake()
            return False
        except (Refusal, ConfigError) as error:
            self._reply(request, error)
            return False
        except Exception as error:  # noqa: BLE001 (one request must not end the host)
            self._hooks.report_error(verb, error)
            self._reply(request, Refusal("failed", f"{verb}: {type(error).__name__}: {error}"))
            return False
        if time.monotonic() < request.deadline:
            return True
        self._time_out(request)
        if only_waits:
            request.steps.close()
        return not only_waits

    def _run(self, request: Request, until: float) -> bool:
        """Perform what a command yields until it waits, or this turn has lasted; return True if it
        only waits for others."""
        for _ in range(ACTIONS_MOST):
            match next(request.steps):
                case bool(only_waits):
                    return only_waits
                case GoesOn():
                    if time.monotonic() >= until:
                        break
                case AnswerNow(data):
                    self._reply(request, data)
                    request.answered = True
                case action:
                    self._hooks.perform(action)
        self._hooks.wake()
        return False

    def _time_out(self, request: Request) -> None:
        verb, waits = request.order.verb, request.command.waits
        what = "not so" if waits else "not done"
        text = f"{verb}: {what} within {request.order.wait:g} s"
        held = self._held(request.order.names)
        self._reply(request, Refusal("timed_out", text if waits else f"{text}; it goes on{held}"))
        request.answered = True

    def _held(self, patterns: tuple[str, ...]) -> str:
        """Return what holds up the ends that an order waits for, in words."""
        names, _ = self._context.services.match(patterns)
        known = self._context.services.services
        words = [(name, known[name].held_words()) for name in names if name in known]
        return "".join(f"; {name} waits for {held}" for name, held in words if held)

    def _reply(self, request: Request, result: Any) -> None:
        self._hooks.write_snapshot()
        if not request.command.reads:
            self._hooks.publish()
        if not request.answered:
            self._answer(request.peer, request.order, result)

    def _answer(self, peer: Token, order: messages.Order, result: Any) -> None:
        if isinstance(result, Refusal):
            answer = Answer(order.id, False, result.data, result.code, str(result))
        elif isinstance(result, ConfigError):
            answer = Answer(order.id, False, None, "ConfigError", str(result))
        else:
            answer = Answer(order.id, True, result)
        self._hooks.send(peer, answer)
