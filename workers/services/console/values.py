"""Values of services as one line of text, as the command line shows them. Pure."""

from typing import Any

import msgspec

COMPACT_MOST = 2_000  # characters


def compact(value: Any, most: int = COMPACT_MOST) -> str:
    """Return a value as JSON on one line, cut if it is long."""
    try:
        text = msgspec.json.encode(value, enc_hook=repr).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        text = repr(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def number(text: str, default: int, least: int, most: int) -> int:
    """Return a number that a visitor gave, within bounds."""
    return min(max(int(text), least), most) if text.isascii() and text.isdigit() else default
