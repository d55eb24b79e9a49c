"""Spans of a program's calls, once the program itself has imported OpenTelemetry.

The program's own provider decides what becomes of them: garrison sets up none.
"""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from .call_state import OpenCall, Outcome
from .messages import Value
from .tracing import TRACE, Sending

if TYPE_CHECKING:
    from .call_spans import CallSpans

API = "opentelemetry.trace"


class ProgramSpans:
    """Observes a program's calls and posts; without OpenTelemetry it does nothing."""

    def __init__(self) -> None:
        self._loaded: CallSpans | None = None

    def _spans(self) -> "CallSpans | None":
        if self._loaded is None and API in sys.modules:
            from .call_spans import CallSpans  # a program without traces does not need its library

            self._loaded = CallSpans()
        return self._loaded

    def started(self, call: OpenCall) -> int:
        """Begin the span of a call; return its number, 0 if there is none."""
        spans = self._spans()
        return 0 if spans is None else spans.started(call)

    def item(self, number: int, value: Value) -> None:
        """Ignore an item of a stream."""

    def settled(self, number: int, outcome: Outcome | None) -> None:
        """End the span of a call."""
        if number and self._loaded is not None:
            self._loaded.settled(number, outcome)

    def sending(self, service: str, method: str) -> AbstractContextManager[Sending]:
        """Begin the span of a message that the block posts."""
        if (spans := self._spans()) is not None:
            return spans.sending(service, method)
        return nullcontext(Sending(TRACE.get()))
