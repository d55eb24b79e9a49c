"""Numbers and times in words, for templates. Pure: sizes are bytes, durations seconds."""

import re
from datetime import UTC, datetime

_ESCAPES = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\].*?(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]"
)
# Controls, overrides of the direction of text, and what is no text: lone surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: float | None) -> str:
    """Return a number of bytes: `12.3 MiB`; empty for None."""
    if count is None:
        return ""
    amount, unit = float(count), 0
    while abs(amount) >= 1024 and unit < len(UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f} {UNITS[unit]}" if unit < 2 else f"{amount:.1f} {UNITS[unit]}"


def span(seconds: float | None) -> str:
    """Return a duration with its two largest units: `2 h 5 min`; empty for None."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for unit, name, smaller, small in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name} {rest} {small}" if rest else f"{whole // unit} {name}"
    return f"{whole} s"


def coarse(seconds: float | None) -> str:
    """Return a duration that changes seldom: `5 min`, `2 h`."""
    if seconds is None:
        return ""
    if seconds < 60:
        return "under a minute"
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return ""


def utc(at: float) -> str:
    """Return a time in Unix seconds as `2026-05-06T14:05:00Z`; empty if it is none."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return ""


def plain(text: object) -> str:
    """Return a text without escape sequences of terminals and control characters."""
    return _ESCAPES.sub("", str(text))


def harmless(value: object) -> object:
    """Return a text without what hides or reorders it: a replacement character for each."""
    return _UNSAFE.sub("\ufffd", value) if type(value) is str else value
