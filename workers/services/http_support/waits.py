"""How long a server says to wait. Pure."""

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

DEFAULT_S = 30.0  # where a server that is overloaded does not say
MOST_S = 86_400.0


def wait_of(status: int, headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds to wait after an answer; None if it says nothing and need not.

    Args:
        status: Of HTTP. After 429 there is always a wait.
        headers: Its headers; `Retry-After` has seconds or a date.
        now: Seconds since the epoch; None is the present time.
    """
    stated = headers.get("Retry-After")
    seconds = None if stated is None else _seconds(stated, time.time() if now is None else now)
    if seconds is None:
        return DEFAULT_S if status == 429 else None
    return min(max(seconds, 1.0), MOST_S)


def _seconds(stated: str, now: float) -> float | None:
    try:
        seconds = float(stated)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(stated).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if math.isfinite(seconds) else None
