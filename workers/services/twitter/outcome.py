"""What an exception of a request means: refused, put off, or uncertain."""

import time
from typing import Any

from garrison.workers import NotSent, RetryLater

from .answer import answer_of
from .limits import retry_after

PORTAL = "https://developer.x.com/en/portal/dashboard"
UNAUTHORIZED, PAYMENT, FORBIDDEN, TOO_MANY = 401, 402, 403, 429
REFUSED = frozenset({400, FORBIDDEN, 404, 405, 413, 422})  # the message can never be sent so
DUPLICATE = "duplicate content"
AGAIN_S = 5.0
BLOCKED_S = 60.0
UNPAID_S = 3600.0


class Duplicate(NotSent):
    """X refuses a post because one with the same text is there."""


def as_outcome(error: Exception, http: Any) -> Exception:
    """Return what a request's exception means for a message.

    Args:
        error: What the library raised.
        http: The module `aiohttp`, which the library sends with.
    """
    if isinstance(error, http.ClientConnectorError):
        return RetryLater(AGAIN_S, f"X cannot be reached: {error}")
    answer, reason = answer_of(error), reason_of(error)
    if answer is None:
        return error  # it may have been sent
    if answer.status == TOO_MANY:
        return RetryLater(wait_after(error), "X limits how often the bot may write")
    if answer.status == UNAUTHORIZED:
        return RetryLater(BLOCKED_S, f"X refuses the tokens now: {reason}")
    if answer.status == PAYMENT:
        return RetryLater(UNPAID_S, f"the account's credits at X are used up: see {PORTAL}")
    if answer.status not in REFUSED:
        return error
    if not answer.is_json:
        return RetryLater(BLOCKED_S, f"a proxy before X refuses the request ({answer.status})")
    is_twice = answer.status == FORBIDDEN and DUPLICATE in reason.lower()
    return (Duplicate if is_twice else NotSent)(f"X refused it: {reason}")


def wait_after(error: BaseException) -> float:
    """Return the seconds until a request that X limited may be repeated."""
    answer = answer_of(error)
    return retry_after(answer.headers if answer is not None else {}, time.time())


def reason_of(error: BaseException) -> str:
    """Return what happened in one line."""
    text = " ".join(str(error).split())[:300]
    return text if answer_of(error) is not None else f"{type(error).__name__}: {text}"
