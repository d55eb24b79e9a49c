"""What an exception of the library means for a message: refused, put off, or uncertain."""

from typing import Any

from garrison.workers import NotSent, RetryLater

UNAUTHORIZED, TOO_MANY = 401, 429
REFUSED = frozenset({400, 403, 404, 405, 413})  # of statuses: the message can never be sent so
AGAIN_S = 5.0


def as_outcome(error: Exception, library: Any, http: Any) -> Exception:
    """Return what `deliver` raises for an exception of the library.

    Args:
        error: What the library raised.
        library: The module `discord`.
        http: The module `aiohttp`, which the library sends with.
    """
    raised: Any = error  # the library is not imported for its types
    if isinstance(error, library.RateLimited):
        return RetryLater(raised.retry_after, "Discord limits how often the bot may write")
    if isinstance(error, library.HTTPException):
        if raised.status in REFUSED:
            return NotSent(f"Discord refused it: {raised.text or error} ({raised.status})")
        if raised.status in {UNAUTHORIZED, TOO_MANY}:
            return RetryLater(AGAIN_S, f"Discord does not take it now: {error}")
    if isinstance(error, http.ClientConnectorError):
        return RetryLater(AGAIN_S, f"Discord cannot be reached: {error}")
    return error  # it may have been sent
