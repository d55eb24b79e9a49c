"""Splits a text into messages that a platform accepts. Pure.

Lengths are UTF-16 units, which some platforms count: no platform counts more for a character. A
text is cut between paragraphs, lines or words, never within one that fits into a message. A code
fence that is open at a cut is closed there and opened again. Characters that belong together, such
as a letter and its accents or the parts of an emoji, stay together.
"""

import re
import unicodedata
from collections.abc import Iterator

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
INFO_MOST = 40  # characters of a fence's first line that are repeated
JOINER = "\u200d"
BREAKS = ("\n\n", "\n", " ")  # the best first
LEAST_SHARE = 2  # a better break must leave this part (1/2) of a message filled


def units(text: str) -> int:
    """Return the length of a text in UTF-16 units."""
    return len(text) + sum(char > "\uffff" for char in text)


def split(text: str, limit: int) -> list[str]:
    """Return a text in messages; none for a text without visible characters.

    Args:
        text: Any text; lone surrogates, which cannot be sent, are replaced.
        limit: Longest message, in UTF-16 units; 0: none.
    """
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if not text.strip():
        return []
    if limit <= 0 or units(text) <= limit:
        return [text]
    parts: list[str] = []
    opened, rest = "", text
    while rest.strip() and units(opened) + units(rest) > limit:
        head, rest, closing, reopened = _cut(opened, rest, limit)
        if head.strip():
            parts.append(opened + head + closing)
        opened = reopened
    if rest.strip():
        parts.append(opened + rest)
    return parts


def _cut(opened: str, text: str, limit: int) -> tuple[str, str, str, str]:
    """Cut the first message off a text.

    Args:
        opened: What the message begins with: a fence that is open.
        text: More than fits.
        limit: Longest message.

    Returns:
        The message without its fences, the rest, the end of its fence, and the rest's beginning.
    """
    room = limit - units(opened)
    for reserve in (0, *_closings(opened + text)):
        if room - reserve < 1:
            continue
        end, after = _break(text, room - reserve, bool(opened))
        fence = _open_fence(opened + text[:end])
        closing = f"\n{fence[0]}" if fence else ""
        reopened = f"{fence[0]}{fence[1]}\n" if fence else ""
        if units(closing) <= reserve and units(reopened) + units(closing) < limit // 2:
            keeps = bool(fence)  # the indentation of code
            return text[:end], text[after:] if keeps else text[after:].lstrip(), closing, reopened
    end, after = _break(text, max(room, 1), False)  # too little room to repeat a fence
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


def _break(text: str, room: int, in_code: bool) -> tuple[int, int]:
    """Return where a message ends, and where the next begins.

    Args:
        text: More than fits, or just as much.
        room: UTF-16 units.
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


def _index(text: str, room: int) -> int:
    """Return how many characters fit into a number of UTF-16 units, one at least."""
    index = used = 0
    for char in text:
        used += 2 if char > "\uffff" else 1
        if used > room:
            break
        index += 1
    return max(index, 1)


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
