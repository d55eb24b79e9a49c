"""Orders of the command line while they are carried out; each is answered once, in time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from garrison.ipc import messages
from garrison.ipc.errors import ConfigError
from garrison.ipc.messages import Answer, Token
from garrison.supervisor.logs.events import Event
from garrison.supervisor.tasks import Steps

from .commands import COMMANDS, Refusal

if TYPE_CHECKING:
    from garrison.supervisor.loop import Supervisor

ORDERS_MOST = 256
ORDERS_EACH = 32  # of one connection, so that none takes all the room
TURN_S = 0.005  # of all orders in one turn; the others go on in the next


@dataclass(slots=True, eq=False)
class Request:
    """An order that waits for its end."""

    peer: Token
    order: messages.Order
    work: Steps
    deadline: float
    answered: bool = False  # it was not done in time; it goes on, and nobody waits for it


class RequestQueue:
    """Every order that is under way, and who follows the journal.

    Args:
        host: What orders are about.
        send: Sends to one connection; False where it is gone, or does not read.
    """

    def __init__(
        self, host: "Supervisor", send: Callable[[Token, messages.Downward], bool]
    ) -> None:
        self._host = host
        self._send = send
        self._pending: list[Request] = []
        self._followers: dict[Token, tuple[int, frozenset[str]]] = {}

    def __bool__(self) -> bool:
        return bool(self._pending)

    def take(self, peer: Token, order: messages.Order) -> None:
        """Begin to carry out an order."""
        command = COMMANDS.get(order.verb)
        if command is None:
            self._answer(peer, order, Refusal("usage", f"this supervisor has no {order.verb}"))
            return
        if sum(pending.peer == peer for pending in self._pending) >= ORDERS_EACH:
            self._answer(peer, order, Refusal("failed", f"{ORDERS_EACH} of yours wait already"))
            return
        if len(self._pending) >= ORDERS_MOST:  # the oldest of those that only look on gives way
            oldest = next((p for p in self._pending if p.order.verb == "wait"), self._pending[0])
            self._reply(oldest, Refusal("failed", f"{ORDERS_MOST} orders wait already"))
            oldest.work.close()
            self._pending.remove(oldest)
        wait = order.wait if 0 < order.wait < 1e9 else 1e9
        work = command(self._host, peer, order)
        self._pending.append(Request(peer, order, work, time.monotonic() + wait))

    def go_on(self) -> None:
        """Take every order a step further, for a bounded time."""
        until = time.monotonic() + TURN_S
        looked_at: list[Request] = []
        while self._pending and time.monotonic() < until:
            pending = self._pending.pop(0)
            if self._waits(pending):
                looked_at.append(pending)
        if self._pending:
            self._host.stir()
        self._pending += looked_at

    def forget(self, peer: Token) -> None:
        """Drop what only waited for the sake of a connection that is gone."""
        self._followers.pop(peer, None)
        self._pending = [p for p in self._pending if p.peer != peer or p.order.verb != "wait"]

    def end(self) -> None:
        """Answer everything that still waits: the supervisor is ending."""
        for pending in self._pending:
            done = pending.order.verb == "down"
            refusal = Refusal("failed", "the supervisor is ending")
            self._reply(pending, {} if done else refusal)

    def follow(self, peer: Token, order: messages.Order, services: frozenset[str]) -> None:
        """Send a connection every event from now on."""
        self._followers[peer] = (order.id, services)

    def heard(self, event: Event) -> None:
        """Pass an event on to those who follow."""
        for peer, (order_id, services) in list(self._followers.items()):
            if services and event.service not in services:
                continue
            if not self._send(peer, Answer(order_id, True, event, more=True)):
                del self._followers[peer]

    def _waits(self, pending: Request) -> bool:
        """Take an order a step further; False where that was its last."""
        try:
            only_waits = next(pending.work)
        except StopIteration as end:
            if end.value is not None:
                self._reply(pending, end.value)
            self._host.stir()
            return False
        except (Refusal, ConfigError) as error:
            self._reply(pending, error)
            return False
        except Exception as error:  # noqa: BLE001 (one order must not end the host)
            self._host.erred(pending.order.verb, error)
            refusal = Refusal("failed", f"{pending.order.verb}: {type(error).__name__}: {error}")
            self._reply(pending, refusal)
            return False
        if time.monotonic() < pending.deadline:
            return True
        what = "not so" if pending.order.verb == "wait" else "not done"
        text = f"{pending.order.verb}: {what} within {pending.order.wait:g} s"
        if pending.order.verb != "wait":
            text += "; it goes on"
        self._reply(pending, Refusal("timed_out", text))
        pending.answered = True
        if only_waits:
            pending.work.close()
        return not only_waits

    def _reply(self, pending: Request, result: Any) -> None:
        self._host.succession.write_now()  # what was answered holds, whatever happens next
        if pending.order.verb != "status":  # asked often, and changes nothing
            self._host.members.publish(at_once=True)  # and whoever is called next knows it, too
        if not pending.answered:
            self._answer(pending.peer, pending.order, result)

    def _answer(self, peer: Token, order: messages.Order, result: Any) -> None:
        if isinstance(result, Refusal):
            answer = Answer(order.id, False, result.data, result.code, str(result))
        elif isinstance(result, ConfigError):
            answer = Answer(order.id, False, None, "ConfigError", str(result))
        else:
            answer = Answer(order.id, True, result)
        self._send(peer, answer)
