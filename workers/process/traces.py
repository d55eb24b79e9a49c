"""Switches a worker's traces on and off. Without them nothing of OpenTelemetry is imported.

Durations are seconds.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from garrison.ipc.client import Client
from garrison.ipc.messages import Assignment, Token
from garrison.ipc.system.installed import loaded_version

from .dispatch import Dispatch

if TYPE_CHECKING:
    from .span_export import Losses

log = logging.getLogger(__name__)

FLUSH_S = 2.0  # for the last spans to be sent at the service's end
FLUSH_FAILING_S = 0.2  # likewise, while the collector takes none
LOST, PROBLEM = "traces lost", "traces problem"  # the keys of its lines in `garrison status`
INSTALL = "pip install 'garrison[otel]'"


class Traces:
    """The traces of one worker.

    Args:
        assignment: What the worker runs.
        client: Makes its calls.
        dispatch: Runs its methods.
        warn: Shows a line in `garrison status`, or with None removes it, by a key.
        name_of: Returns the NAME of a caller; empty: it is a program.
    """

    def __init__(
        self,
        assignment: Assignment,
        client: Client,
        dispatch: Dispatch,
        warn: Callable[[str, str | None], None],
        name_of: Callable[[Token], str],
    ) -> None:
        self._assignment, self._client, self._dispatch = assignment, client, dispatch
        self._warn, self._name_of = warn, name_of
        self._provider: Any = None
        self._losses: Losses | None = None

    def begin(self) -> None:
        """Record spans from now on, if the config wants it. No error of it ends the service."""
        wanted = self._assignment.traces
        disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        if not wanted.address or disabled:
            return
        if wanted.problem:
            self._complain(wanted.problem)
        try:
            self._begin()
        except ModuleNotFoundError as error:
            self._complain(f"{error.name} is not installed: {INSTALL}, then restart the service")
        except Exception as error:  # noqa: BLE001 (a variable OTEL_… may hold anything)
            self._complain(f"{type(error).__name__}: {error}")

    def _begin(self) -> None:
        from garrison.ipc.call_spans import CallSpans, set_provider

        from .method_spans import MethodSpans
        from .span_export import make_provider

        a, calls = self._assignment, self._client.calls
        loop = asyncio.get_running_loop()

        def changed(text: str | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._warn, LOST, text)

        wanted = a.traces
        headers = headers_of(os.fsdecode(wanted.headers))
        self._provider, self._losses = make_provider(
            wanted.address, wanted.ratio, headers, self._resource(), changed
        )
        set_provider(self._provider)
        spans = CallSpans(calls.observer, a.record_values)
        calls.observer = calls.producer = spans
        self._dispatch.trace_by(MethodSpans(a.name, self._name_of, a.record_values))

    def _resource(self) -> dict[str, str]:
        """Return the attributes of this incarnation, by the conventions for resources."""
        a = self._assignment
        found = {
            "service.name": a.name,
            "service.instance.id": f"{a.name}-{a.generation}-{a.token.hex()[:8]}",
            "service.version": loaded_version(),
        }
        if a.identity.agent:
            found["service.namespace"] = a.identity.agent
        return found

    def _complain(self, problem: str) -> None:
        log.warning("traces.off reason=%r", problem)
        self._warn(PROBLEM, f"traces: {problem}")

    async def end(self) -> None:
        """Send the last spans, for a limited time."""
        if self._provider is None:
            return
        failing = self._losses is not None and self._losses.failing
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        provider, self._provider = self._provider, None

        def shut_down() -> None:
            with contextlib.suppress(Exception):
                provider.shutdown()
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=shut_down, daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_FAILING_S if failing else FLUSH_S):
                await done.wait()


def headers_of(text: str) -> dict[str, str]:
    """Return headers as `OTEL_EXPORTER_OTLP_HEADERS` has them: "name=value,name=value"."""
    found: dict[str, str] = {}
    for pair in text.split(","):
        name, _, value = pair.partition("=")
        if name.strip():
            found[name.strip().lower()] = unquote(value.strip())
    return found
