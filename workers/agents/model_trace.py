"""How a request to a model went: who answered, who failed before, and how many tokens it took."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, Self

import msgspec

COUNTS_MOST = 16  # kinds of tokens
ERROR_MOST = 2_000  # characters of an error


class ModelTrace:
    """Follows the requests of `use_model` within its block, of this task.

    Attributes:
        service: NAME of the service that answered last; "" if none did.
        errors: NAME of each service that failed before it, or was passed over, and its error.
        tokens: Kind of tokens to their number, as the service counts them; empty if it does not.
        cost: What they cost, in the config's currency; None if the service does not know.
    """

    def __init__(self) -> None:
        self.service = ""
        self.errors: dict[str, str] = {}
        self.tokens: dict[str, int] = {}
        self.cost: float | None = None
        self._entered: Token[ModelTrace | None] | None = None

    def __enter__(self) -> Self:
        self._entered = _TRACE.set(self)
        return self

    def __exit__(self, *raised: object) -> None:
        assert self._entered is not None
        _TRACE.reset(self._entered)


class Counted(msgspec.Struct):
    """A model's output on the wire, with the tokens that it took, and what they cost."""

    output: Any
    tokens: dict[str, int] = {}
    cost: float | None = None  # in the config's currency; None: its service does not know


_TRACE: ContextVar[ModelTrace | None] = ContextVar("garrison_model_trace", default=None)
_COUNTED: ContextVar[Counted | None] = ContextVar("garrison_counted", default=None)


# --- in the worker that makes the request ---------------------------------------------------


def trace_answer(service: str, answer: Any, is_counted: bool) -> Counted:
    """Note which service answered; return the model's output, with what it took.

    Args:
        service: Its NAME.
        answer: As the service returned it.
        is_counted: Whether that is a `Counted`.
    """
    counted = msgspec.convert(answer, Counted) if is_counted else Counted(answer)
    if (trace := _TRACE.get()) is not None:
        trace.service, trace.tokens, trace.cost = service, counted.tokens, counted.cost
    return counted


def trace_error(service: str, error: str) -> None:
    """Note that a service failed."""
    if (trace := _TRACE.get()) is not None:
        trace.errors[service] = error[:ERROR_MOST]


# --- in the model's worker ------------------------------------------------------------------


@contextmanager
def counting() -> Iterator[Counted]:
    """Collect what the model counts in the block."""
    counted = Counted(None)
    entered = _COUNTED.set(counted)
    try:
        yield counted
    finally:
        _COUNTED.reset(entered)


def count_tokens(counts: dict[str, int]) -> None:
    """Add to the tokens of the request that this task answers; without one, do nothing."""
    counted = _COUNTED.get()
    if counted is None:
        return
    tokens = counted.tokens
    for kind, count in counts.items():
        if kind in tokens or len(tokens) < COUNTS_MOST:
            tokens[kind] = tokens.get(kind, 0) + int(count)


def count_cost(cost: float) -> None:
    """Add to the cost of that request, likewise."""
    counted = _COUNTED.get()
    if counted is not None:
        counted.cost = (counted.cost or 0.0) + float(cost)
