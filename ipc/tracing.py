"""The trace that running work is a part of, in the form in which calls carry it. Pure.

The form is that of W3C Trace Context: a `traceparent`, and after a space the `tracestate` where
there is one. Nothing here needs a library: a worker without one passes on what it received.
"""

import re
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Protocol
from urllib.parse import unquote

import msgspec

from .messages import TRACE_MOST

# The trace of the running method, as its call carried it; calls that it makes carry it on.
TRACE: ContextVar[str] = ContextVar("garrison_trace", default="")

PARENT, STATE = "traceparent", "tracestate"  # the names of W3C's headers
_ID = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?: |$)")


def packed(headers: dict[str, str]) -> str:
    """Return W3C's headers as a call carries them. A `tracestate` that is too long is left out."""
    parent, state = headers.get(PARENT, ""), headers.get(STATE, "")
    if not parent or len(parent) > TRACE_MOST:
        return ""
    whole = f"{parent} {state}"
    return whole if state and len(whole) <= TRACE_MOST else parent


def unpacked(trace: str) -> dict[str, str]:
    """Return W3C's headers from what a call carried."""
    parent, _, state = trace.partition(" ")
    return {PARENT: parent, STATE: state} if state else {PARENT: parent}


def trace_id(trace: str) -> str:
    """Return the id of a trace, 32 hexadecimal digits; empty: what was carried has none."""
    found = _ID.match(trace)
    return found[1] if found else ""


def header_values(headers: str) -> dict[str, str]:
    """Return the values in `OTEL_EXPORTER_OTLP_HEADERS`, by a name for each: they are secrets.

    Args:
        headers: "name=value,name=value"; values may be percent-encoded.
    """
    found = {"traces_headers": headers} if headers else {}
    for pair in headers.split(","):
        name, _, value = pair.partition("=")
        if value := unquote(value.strip()):
            found[f"traces_headers.{name.strip()}"] = value
            scheme, _, token = value.partition(" ")  # "Bearer TOKEN"
            if token:
                found[f"traces_headers.{name.strip()}.{scheme}"] = token
    return found


class Sending(msgspec.Struct):
    """A message that is being posted: its trace, and its id once it has one."""

    trace: str
    message_id: str = ""


class Producer(Protocol):
    """Begins a span for each message that a process posts."""

    def sending(self, service: str, method: str) -> AbstractContextManager[Sending]:
        """Begin the span of a message; the block posts it."""
        ...
