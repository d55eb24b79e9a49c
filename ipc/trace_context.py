"""The trace that work is a part of, kept for work that goes on elsewhere: in a queue, another task.

It knows OpenTelemetry only where this process has imported it.
"""

import sys
from typing import Any, Self

from .tracing import TRACE, trace_id

CONTEXT, API = "opentelemetry.context", "opentelemetry.trace"


class TraceContext:
    """The trace that the running work is a part of. In its block, work goes on in that trace.

    Attributes:
        id: The trace's id, 32 hexadecimal digits; empty: the work is a part of none.
    """

    __slots__ = ("_carried", "_context", "_entered", "id")

    def __init__(self) -> None:
        self._carried = TRACE.get()
        contexts = sys.modules.get(CONTEXT)
        self._context: Any = None if contexts is None else contexts.get_current()
        self._entered: list[Any] = []
        self.id = _span_id(self._context) or trace_id(self._carried)

    def __enter__(self) -> Self:
        contexts, attached = sys.modules.get(CONTEXT), None
        if contexts is not None and self._context is not None:
            attached = contexts.attach(self._context)
        self._entered.append((TRACE.set(self._carried), attached))
        return self

    def __exit__(self, *raised: object) -> None:
        carried, attached = self._entered.pop()
        TRACE.reset(carried)
        if attached is not None:
            sys.modules[CONTEXT].detach(attached)


def _span_id(context: Any) -> str:
    """Return the id of the trace of a context's span."""
    api: Any = sys.modules.get(API)
    if api is None or context is None:
        return ""
    found = api.get_current_span(context).get_span_context()
    return f"{found.trace_id:032x}" if found.is_valid else ""
