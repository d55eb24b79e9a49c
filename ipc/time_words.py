"""Times as people write them: how long ago, a time of day, a date. Pure; Unix seconds."""

import re
from datetime import datetime, timedelta, tzinfo

UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hour": 3600, "d": 86_400, "day": 86_400}
UNITS |= {"w": 604_800, "week": 604_800, "hr": 3600}
AGO = re.compile(r"(?:\d+(?:\.\d+)?\s*[a-z]+\s*)+")
PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?")
EXAMPLES = "10m, 2h30m, 1d, 14:05, 2026-05-06, 2026-05-06T14:05, 2026-05-06T14:05:00Z"
WORD_MOST = 64  # characters: a pattern must not take long


def parse_time(text: str, now: float, zone: tzinfo | None = None) -> float:
    """Return a time: how long ago, a time of day that has passed, or a date with or without time.

    Args:
        text: What was written.
        now: The time now.
        zone: That of a time without an offset; None: the local one.

    Raises:
        ValueError: It is none of these.
    """
    word = text.strip().lower().removeprefix("-").removesuffix("ago").strip()
    if len(word) > WORD_MOST:
        raise ValueError("it is too long for a time")
    midnight = datetime.fromtimestamp(now, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    if word == "now":
        return now
    if word in {"today", "yesterday"}:
        return (midnight - timedelta(days=word == "yesterday")).timestamp()
    if AGO.fullmatch(word):
        return now - sum(float(count) * _unit(unit) for count, unit in PART.findall(word))
    if clock := CLOCK.fullmatch(word):
        hour, minute, second = (int(part or 0) for part in clock.groups())
        at = midnight.replace(hour=hour, minute=minute, second=second)
        return (at if at.timestamp() <= now else at - timedelta(days=1)).timestamp()
    found = datetime.fromisoformat(text.strip())
    return (found.replace(tzinfo=zone) if zone and found.tzinfo is None else found).timestamp()


def _unit(word: str) -> int:
    singular = word.removesuffix("s") if len(word) > 2 else word
    if singular not in UNITS:
        raise ValueError(f"{word} is no unit of time")
    return UNITS[singular]
