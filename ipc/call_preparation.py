"""Prepares a call: encodes its arguments, and checks them, its deadline and its chain.

Durations are seconds, sizes are bytes.
"""

import logging
from collections.abc import Callable
from typing import Any

from . import frames, values
from .call_context import ATTRIBUTION, CHAIN, DEADLINE
from .call_state import OpenCall
from .errors import CallError, InvalidCall, ServiceUnavailable, chain_problem
from .messages import CHAIN_MOST, EMPTY_MAP, LONGEST_TIMEOUT, Value
from .session import Session
from .tracing import TRACE

log = logging.getLogger(__name__)

MARGIN = 65_536  # bytes of a message besides its arguments

_encode = values.encode


def prepared(
    session: Session,
    name: str,
    method: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    timeout: float | None,
    settle: Callable[[Value | CallError], None],
    now: float,
) -> OpenCall | None:
    """Return a call that can be started; None: it cannot, and was settled with its error."""
    if session.unreachable:
        settle(ServiceUnavailable(name, method, f"out of reach: {session.unreachable}"))
        return None
    chain = CHAIN.get()
    if len(chain) >= CHAIN_MOST:
        error = InvalidCall(name, method, chain_problem(chain))
        log.warning("call.refused %s", error)
        settle(error)
        return None
    try:
        encoded = frames.arguments(args, _encode)
        named_args = frames.arguments(kwargs, _encode) if kwargs else EMPTY_MAP
    except values.BAD_VALUE as error:
        why = values.arguments_problem(args, kwargs, error)
        settle(InvalidCall(name, method, f"its arguments cannot travel: {why}"))
        return None
    size = len(encoded) + len(named_args)
    limits = session.limits
    if size > limits.max_message - MARGIN:
        detail = f"its arguments have {size} bytes; max_message allows {limits.max_message}"
        settle(InvalidCall(name, method, detail))
        return None
    if timeout is None:
        timeout = limits.timeout
    if timeout > LONGEST_TIMEOUT:
        timeout = LONGEST_TIMEOUT
    if timeout != timeout:  # nan: no comparison of deadlines would hold
        settle(InvalidCall(name, method, "its timeout is nan, not a number of seconds"))
        return None
    deadline = now + timeout
    outer = DEADLINE.get()
    if outer < deadline:
        deadline, timeout = outer, max(outer - now, 0.001)
    call = OpenCall(
        next(session.ids), name, method, encoded, named_args, size, timeout, deadline, settle
    )
    call.chain, call.attribution, call.trace = chain, ATTRIBUTION.get(), TRACE.get()
    return call
