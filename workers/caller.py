"""`Caller`: who called the method that runs."""

from contextvars import ContextVar
from typing import NamedTuple

CALLER: ContextVar[bytes] = ContextVar("caller", default=b"")  # the token that the call came from


class Caller(NamedTuple):
    """A service that called, as the directory knows it."""

    name: str  # NAME
    agent: str  # NAME of its agent; empty for a shared service
    service_type: str
