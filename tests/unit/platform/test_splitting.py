"""Texts in messages that a platform accepts."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from garrison.workers.platform.splitting import FENCE, split, units

WORDS = st.text("abcdefghij", min_size=1, max_size=8)
PROSE = st.lists(st.one_of(WORDS, st.sampled_from(["\n", "\n\n", "  ", "."])), max_size=60)
CODE = st.lists(st.sampled_from(["```py", "```", "~~~~", "x = 1", "    y", "z", ""]), max_size=30)
CLUSTERS = ("e\u0301\u0323", "👩\u200d👩\u200d👧", "👍🏽", "🇩🇪", "🏴\U000e0067\U000e007f", "a")


def closed(part: str) -> bool:
    """Return whether each fence of a message has its end."""
    return len(FENCE.findall(part)) % 2 == 0


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("", 10, []),
        (" \n ", 10, []),
        ("hello", 0, ["hello"]),
        ("hello", 5, ["hello"]),
        ("one two three", 8, ["one two", "three"]),
        ("one two\n\nthree four", 12, ["one two", "three four"]),
        ("one two\nthree four", 12, ["one two", "three four"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("😀😀😀", 4, ["😀😀", "😀"]),
        ("a\ud800b", 5, ["a\ufffdb"]),
    ],
)
def test_examples(text: str, limit: int, parts: list[str]) -> None:
    """A text is cut between paragraphs, then lines, then words; an overlong word anywhere."""
    assert split(text, limit) == parts


def test_a_code_fence_is_closed_and_opened_again() -> None:
    """Each message shows its part of the code as code, in the same language."""
    text = "Look:\n```python\n" + "\n".join(f"    line{n}()" for n in range(20)) + "\n```\nDone."

    parts = split(text, 100)

    assert len(parts) > 2
    for part in parts:
        assert units(part) <= 100
        assert closed(part)
    assert all(part.startswith("```python\n    line") for part in parts[1:-1])
    lines = [line for part in parts for line in part.splitlines() if "line" in line]
    assert lines == [f"    line{n}()" for n in range(20)]


@given(PROSE, st.integers(8, 40))
@example(["\n", "\n", "aaaaa"], 8)
def test_no_word_that_fits_is_broken_and_none_is_lost(words: list[str], limit: int) -> None:
    """What is read in the messages is what was said, but for white space at the cuts."""
    text = " ".join(words)
    parts = split(text, limit)

    assert " ".join(parts).split() == text.split() or any(
        units(word) > limit for word in text.split()
    )
    assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", text)
    assert all(0 < units(part) <= limit and part.strip() for part in parts)


@given(CODE, st.integers(40, 120))
@example(["```py", *["x = 1"] * 30, "```"], 40)
def test_code_keeps_its_lines_and_each_message_is_closed(lines: list[str], limit: int) -> None:
    """Whatever fences there are, no message is too long and no line of code is lost."""
    text = "\n".join(lines)
    parts = split(text, limit)

    assert all(units(part) <= limit for part in parts)
    said = [line for part in parts for line in part.splitlines()]
    for line in ("x = 1", "    y", "z"):
        assert said.count(line) == lines.count(line)


@given(st.lists(st.sampled_from(CLUSTERS), max_size=60), st.integers(12, 30))
def test_what_is_shown_as_one_character_stays_together(shown: list[str], limit: int) -> None:
    """Accents, families, skin tones and flags are not cut."""
    parts = split("".join(shown), limit)

    assert "".join(parts) == "".join(shown)
    for part in parts:
        assert not unicodedata.combining(part[0])
        assert part[0] not in "\u200d🏽\U000e0067\U000e007f"
        assert part[-1] != "\u200d"
        flags = re.findall("[\U0001f1e6-\U0001f1ff]", part)
        assert len(flags) % 2 == 0


@given(st.text(max_size=200), st.integers(2, 50))
def test_any_text_can_be_split(text: str, limit: int) -> None:
    """No message is empty or too long, and each can be encoded."""
    for part in split(text, limit):
        assert 0 < units(part) <= limit
        assert part.strip()
        part.encode()


@given(st.text(st.sampled_from("a \n`~"), max_size=120), st.integers(2, 60))
def test_any_fences_can_be_split(text: str, limit: int) -> None:
    """Odd fences and small messages: no message is too long."""
    assert all(units(part) <= limit for part in split(text, limit))
