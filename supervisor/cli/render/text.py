"""Values as text for people: terminal-safe strings, durations, sizes. Imports no rich."""

import unicodedata
from typing import Any

from garrison.supervisor.cli.output import encode

COMPACT_MOST = 2000  # characters of a value
# Control characters, separators of lines and paragraphs, and what is no text (lone surrogates).
UNSAFE = {"Cc", "Zl", "Zp", "Cs"}
REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def sanitize(text: str, lines: bool = False) -> str:
    """Return text that neither moves a terminal's cursor, nor changes its colours, nor reorders.

    Args:
        text: Any text, also of a service or of a user.
        lines: Keep line breaks and tabs.
    """
    return "".join(c if _is_safe(c) or (lines and c in "\n\t") else " " for c in text)


def _is_safe(character: str) -> bool:
    return character not in REORDERING and unicodedata.category(character) not in UNSAFE


def span(seconds: float) -> str:
    """Return a duration in a few columns: `12s`, `5m`, `3h`, `2d`."""
    if seconds < 100:
        return f"{seconds:.0f}s"
    if seconds < 6000:
        return f"{seconds / 60:.0f}m"
    if seconds < 360_000:
        return f"{seconds / 3600:.0f}h"
    return f"{seconds / 86_400:.0f}d"


def size(count: int) -> str:
    """Return a number of bytes in a few columns: `27M`, `12G`."""
    return f"{count / 1024**2:.0f}M" if count < 10 * 1024**3 else f"{count / 1024**3:.0f}G"


def compact(value: Any) -> str:
    """Return a value as JSON on one line, cut if it is long."""
    text = encode(value).decode()
    if len(text) <= COMPACT_MOST:
        return text
    return f"{text[:COMPACT_MOST]}… ({len(text):,} characters)"


def counted(number: int, what: str) -> str:
    """Return a number with its noun: `1 fault`, `2 faults`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
