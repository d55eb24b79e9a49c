"""Calls that an answer can do without: to providers, and to `validate`. Durations are seconds."""

import asyncio
import logging
from collections.abc import Callable
from math import inf
from typing import Any

import msgspec

from garrison.ipc.client import Client
from garrison.ipc.errors import CallTimeout, RemoteError, ServiceUnavailable

from .absence import LEFT_OUT_S, Absences, Lateness, Part

log = logging.getLogger(__name__)

Warn = Callable[[str, str | None], None]

LATE = "parts.late"  # key of the warning
WHOLE = 0.95  # share of a timeout after which a part counts as late: its caller may cancel first


class LeftOut(ServiceUnavailable):
    """Not run: the part is left out, because its service does not run or it was late before."""


class _Open(msgspec.Struct, eq=False):
    """One call that waits for its outcome."""

    answer: str
    future: "asyncio.Future[Any]"
    left_out: bool = False


class OptionalCalls:
    """Makes such calls. What does not run, or was late twice, is left out at once.

    Args:
        client: The caller's client.
        warn: Shows a line in `status`, or with None removes it, by a key.
    """

    def __init__(self, client: Client, warn: Warn = lambda key, text: None) -> None:
        self._client, self._warn = client, warn
        self._absences, self._lateness = Absences(), Lateness()
        self._open: dict[str, set[_Open]] = {}  # by service
        self._named: set[str] = set()  # services whose absence was logged
        client.on_service_change(self._changed)

    async def call(
        self,
        part: Part,
        method: str,
        args: tuple[Any, ...],
        result: Any,
        timeout: float | None,
        answer: str,
    ) -> Any:
        """Call a part.

        Args:
            part: What is called.
            method: The method's name on the wire.
            args: Its arguments.
            result: The type that the result is converted to.
            timeout: Seconds; None is the client's default.
            answer: The id of the message that is answered.

        Raises:
            LeftOut: It does not run, or was late before.
            CallError: The call failed.
        """
        limit = self._client.session.limits.timeout if timeout is None else timeout
        began = self._client.now()
        if self._lateness.leaves_out(part, began):
            raise LeftOut(part.service, method, f"left out, because {part} was late")
        try:
            value = await self._present(part.service, method, args, result, timeout, answer)
        except (CallTimeout, asyncio.CancelledError):
            now = self._client.now()
            if now - began >= limit * WHOLE:  # not cut short by a deadline of the caller's own
                self._lateness.timed_out(part, now)
                self._show_late()
            raise
        except RemoteError:
            self._answered(part)
            raise
        self._answered(part)
        return value

    # --- absence ----------------------------------------------------------------------------

    async def _present(
        self,
        service: str,
        method: str,
        args: tuple[Any, ...],
        result: Any,
        timeout: float | None,
        answer: str,
    ) -> Any:
        """Call a method as long as its service runs, or is back within the grace."""
        wait = self._wait(service, answer)
        if wait <= 0:
            raise self._absent(service, method)
        decode = msgspec.msgpack.Decoder(result).decode
        one = _Open(answer, self._client.loop.create_future())
        self._open.setdefault(service, set()).add(one)
        try:
            self._client.call(service, method, args, {}, timeout, decode, one.future, True)
            self._watch(service, one, wait)
            return await one.future
        except asyncio.CancelledError:
            if one.left_out:
                raise self._absent(service, method) from None
            raise
        finally:
            one.future.cancel()
            self._open[service].discard(one)
            if not self._open[service]:
                del self._open[service]

    def _wait(self, service: str, answer: str) -> float:
        entry = self._client.directory.get(service)
        state, wanted = (None, False) if entry is None else (entry.state, entry.wanted)
        return self._absences.wait(service, state, wanted, answer, self._client.now())

    def _watch(self, service: str, one: _Open, wait: float) -> None:
        if 0 < wait < inf:
            self._client.loop.call_later(wait, self._check, service, one)

    def _check(self, service: str, one: _Open) -> None:
        if one.future.done():
            return
        wait = self._wait(service, one.answer)
        self._watch(service, one, wait)  # it is back, or the timer was early
        if wait <= 0:
            one.left_out = True
            one.future.cancel()

    def _changed(self, service: str) -> None:
        entry = self._client.directory.get(service)
        state = None if entry is None else entry.state
        self._absences.saw(service, state, self._client.now())
        for one in list(self._open.get(service, ())):
            self._check(service, one)

    def _absent(self, service: str, method: str) -> LeftOut:
        """Return the error; log once for each absence."""
        entry = self._client.directory.get(service)
        state = "not configured" if entry is None else entry.state.value
        if service not in self._named:
            self._named.add(service)
            log.warning(
                "parts.left_out service=%s state=%s its providers and actions are left out of "
                "answers until it runs",
                *(service, state),
            )
        return LeftOut(service, method, state)

    # --- lateness ---------------------------------------------------------------------------

    def _answered(self, part: Part) -> None:
        self._named.discard(part.service)
        if self._lateness.answered(part):
            self._show_late()

    def _show_late(self) -> None:
        """Show in `status` what is left out, until its time is over."""
        parts = self._lateness.left_out(self._client.now())
        named = ", ".join(map(str, parts))
        text = f"left out of answers for {LEFT_OUT_S:g} s, because it timed out twice: {named}"
        self._warn(LATE, text if parts else None)
        if parts:
            self._client.loop.call_later(LEFT_OUT_S + 0.1, self._show_late)
