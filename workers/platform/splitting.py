"""Splits a text into messages that a platform accepts. Pure.

Lengths are UTF-16 units, unless a platform counts by a function of its own. A text is cut between
paragraphs, lines or words, never within one that fits into a message. A code fence that is open at
a cut is closed there and opened again. Characters that belong together, such as a letter and its
accents or the parts of an emoji, stay together.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
INFO_MOST = 40  # characters of a fence's first line that are repeated
JOINER = "\u200d"
BREAKS = ("\n\n", "\n", " ")  # the best first
LEAST_SHARE = 2  # a better break must leave this part (1/2) of a message filled
LOOKED_AT = 32  # times the limit: characters of a text that are measured for one message

Length = Callable[[str], int]


def units(text: str) -> int:
    """Return the length of a text in UTF-16 units."""
    return len(text) + sum(char > "\uffff" for char in text)


class Measure(NamedTuple):
    """How long a message may be, and how that is counted."""

    limit: int
    length: Length


def split(text: str, limit: int, length: Length = units) -> list[str]:
    """Return a text in messages; none for a text without visible characters.

    Args:
        text: Any text; lone surrogates, which cannot be sent, are replaced.
        limit: Longest message, as `length` counts; 0: none.
        length: How long a text is for the platform. A longer text is never shorter.
    """
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if not text.strip():
        return []
    if limit <= 0 or length(text) <= limit:
        return [text]
    parts: list[str] = []
    opened, rest = "", text
    measure = Measure(limit, length)
    while rest.strip() and not _fits(opened, rest, measure):
        head, rest, closing, reopened = _cut(opened, rest, measure)
        if head.strip():
            parts.append(opened + head + closing)
        opened = reopened
    if rest.strip():
        parts.append(opened + rest)
    return parts


def _fits(opened: str, text: str, measure: Measure) -> bool:
    most = measure.limit * LOOKED_AT
    return len(text) <= most and measure.length(opened) + measure.length(text) <= measure.limit


def _cut(opened: str, text: str, measure: Measure) -> tuple[str, str, str, str]:
    """Cut the first message off a text.

    Args:
        opened: What the message begins with: a fence that is open.
        text: More than fits.
        measure: Longest message.

    Returns:
        The message without its fences, the rest, the end of its fence, and the rest's beginning.
    """
    limit, length = measure
    room = limit - length(opened)
    for reserve in (0, *_closings(opened + text)):
        if room - reserve < 1:
            continue
        end, after = _break(text, Measure(room - reserve, length), bool(opened))
        fence = _open_fence(opened + text[:end])
        closing = f"\n{fence[0]}" if fence else ""
        reopened = f"{fence[0]}{fence[1]}\n" if fence else ""
        if length(closing) <= reserve and length(reopened) + length(closing) < limit // 2:
            keeps = bool(fence)  # the indentation of code
            return text[:end], text[after:] if keeps else text[after:].lstrip(), closing, reopened
    # too little room to repeat a fence
    end, after = _break(text, Measure(max(room, 1), length), False)
    return text[:end], text[after:], "", ""


def _closings(text: str) -> list[int]:
    """Return the lengths of the closing lines that a text may need."""
    return sorted({len(found[1]) + 1 for found in FENCE.finditer(text)})


def _open_fence(text: str) -> tuple[str, str] | None:
    """Return the marks and the info of the fence that is open at the end of a text."""
    fence: tuple[str, str] | None = None
    for found in FENCE.finditer(text):
        marks, info = found[1], found[2].strip()
        if fence is None:
            if "`" not in info or marks[0] == "~":
                fence = marks, info if len(info) <= INFO_MOST else ""
        elif marks[0] == fence[0][0] and len(marks) >= len(fence[0]) and not info:
            fence = None
    return fence


def _break(text: str, room: Measure, in_code: bool) -> tuple[int, int]:
    """Return where a message ends, and where the next begins.

    Args:
        text: More than fits, or just as much.
        room: What fits.
        in_code: Its beginning is in a code fence.
    """
    most = _index(text, room)
    if most >= len(text):
        return len(text), len(text)
    for mark in BREAKS:
        at = text.rfind(mark, 0, most + len(mark))
        is_late = at * LEAST_SHARE >= most or mark == " "
        if at > 0 and is_late:
            return at, at + (1 if in_code else len(mark))
    for at in range(most, 0, -1):  # any other space
        if text[at].isspace():
            return at, at + 1
    end = next((at for at in range(most, 0, -1) if not _belongs(text, at)), most)
    return end, end


def _index(text: str, room: Measure) -> int:
    """Return how many characters of a text fit, one at least."""
    if room.length is not units:
        return _index_by(room, text)
    index = used = 0
    for char in text:
        used += 2 if char > "\uffff" else 1
        if used > room.limit:
            break
        index += 1
    return max(index, 1)


def _index_by(room: Measure, text: str) -> int:
    """Return the same by a platform's own length."""
    limit, length = max(room.limit, 1), room.length
    most = min(len(text), limit * LOOKED_AT)
    last = min(limit, most)
    while last < most and length(text[:last]) <= limit:
        last = min(last * 2, most)
    fitting = bisect_right(range(1, last + 1), limit, key=lambda end: length(text[:end]))
    return max(fitting, 1)


def _belongs(text: str, at: int) -> bool:
    """Return True if a cut would separate characters that are shown as one."""
    char, before = text[at], text[at - 1]
    if unicodedata.category(char) in {"Mn", "Mc", "Me"} or JOINER in {char, before}:
        return True
    if "\U0001f3fb" <= char <= "\U0001f3ff" or "\U000e0020" <= char <= "\U000e007f":
        return True
    if _is_flag(char) and _is_flag(before):
        return sum(1 for _ in _flags_before(text, at)) % 2 == 1
    return before == "\r" and char == "\n"


def _is_flag(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _flags_before(text: str, at: int) -> Iterator[str]:
    while at > 0 and _is_flag(text[at - 1]):
        at -= 1
        yield text[at]
