"""Requests of one process to its supervisor, and their answers. Durations are seconds."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from . import messages
from .errors import UNANSWERED, OrderFailed, SupervisorGone
from .messages import Upward
from .system import process_tree

REQUEST_S = 10.0  # default deadline of a request to the supervisor
REQUEST_MARGIN_S = 2.0  # added to a request's own deadline, for a supervisor that is busy


class Requests:
    """The requests that have no answer yet.

    Args:
        send: Sends a message to the supervisor.
        ids: Numbers of requests.
        where: Returns the supervisor in words, for errors.
    """

    def __init__(
        self, send: Callable[[Upward], None], ids: Iterator[int], where: Callable[[], str]
    ) -> None:
        self._send, self._ids, self._where = send, ids, where
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def request(
        self, verb: str, names: tuple[str, ...], timeout: float, options: dict[str, Any]
    ) -> Any:
        """Send a request; return its answer's data. See `Client.order`."""
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        why, person = (str(options.pop(key, "")) for key in ("why", "person"))
        mark, behalf = process_tree.own_mark(), int(options.pop("behalf", -1))
        order = messages.Order(number, verb, names, timeout, options, mark, why, person, behalf)
        self._send(order)
        try:
            async with asyncio.timeout(timeout + REQUEST_MARGIN_S):
                return await answer
        except TimeoutError:
            problem = f"it gave no answer within {timeout:g} s"
            raise SupervisorGone(self._where(), problem) from None
        finally:
            self._waiting.pop(number, None)

    def take(self, answer: messages.Answer) -> None:
        """Take an answer."""
        waiting = self._waiting.get(answer.id)
        if waiting is None or waiting.done():
            return
        if answer.ok:
            waiting.set_result(answer.data)
        else:
            waiting.set_exception(OrderFailed(answer.code, answer.message, answer.data))

    def fail(self) -> None:
        """Fail all: the next supervisor does not know them."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(SupervisorGone(self._where(), UNANSWERED))
