"""Logs for an operator of a team, whom the supervisor reads them for. Durations are seconds."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from garrison.ipc import OrderFailed
from garrison.ipc.log_files import GAP

SERVICES_MOST = 20  # of one page
EVERY_S = 2.0  # between two orders about one service
MARK_BYTES = 128  # the last bytes of what was read, to find the place again
REST_MOST = 16 * 1024  # bytes of a line without an end

Order = Callable[..., Awaitable[Any]]  # as Visit.order


class OperatorLogs:
    """The ends of some services' logs, and what is added to them.

    Args:
        order: Gives an order on behalf of the operator.
        names: NAMEs of services; of more than `SERVICES_MOST`, the first.
    """

    def __init__(self, order: Order, names: Sequence[str]) -> None:
        self._order = order
        self.names = list(names[:SERVICES_MOST])
        self._ends: dict[str, tuple[int, bytes]] = {}
        self._rests: dict[str, bytes] = {}

    async def texts(self) -> dict[str, bytes]:
        """Return the end of each log that the operator may read.

        Raises:
            OrderFailed: There is none.
        """
        texts: dict[str, bytes] = {}
        refused: OrderFailed | None = None
        for name in self.names:
            try:
                before = await self._order("logs", (name,), rotated=1)
                answer = await self._order("logs", (name,))
            except OrderFailed as error:
                refused = error
                continue
            data: bytes = answer["data"]
            self._ends[name] = answer["end"], data[-MARK_BYTES:]
            whole, _, self._rests[name] = (before["data"] + data).rpartition(b"\n")
            texts[name] = whole + b"\n" if whole else b""
        if refused is not None and not texts:
            raise refused
        return texts

    async def added(self) -> AsyncGenerator[tuple[str, str], None]:
        """Yield the NAME and line of what is written after `texts`."""
        while True:
            await asyncio.sleep(EVERY_S)
            for name, (end, mark) in list(self._ends.items()):
                answer = await self._order("logs", (name,), after=end, mark=mark)
                data: bytes = answer["data"]
                self._ends[name] = answer["end"], (mark + data)[-MARK_BYTES:]
                if answer["gap"]:
                    data = GAP + data
                *lines, rest = (self._rests.get(name, b"") + data).split(b"\n")
                if len(rest) > REST_MOST:
                    lines.append(rest)
                    rest = b""
                self._rests[name] = rest
                for line in lines:
                    yield name, line.decode("utf-8", "replace")
