"""How X counts a text, how texts are found again, and threads."""

from typing import Any

import pytest

from garrison.workers.platform.splitting import split
from garrison.workers.services.twitter.text import comparable, full_text, is_same, weight

LONG = "https://docs.python.org/3/library/asyncio-task.html#asyncio.TaskGroup"


@pytest.mark.parametrize(
    ("text", "theirs"),  # as X's own library counts
    [
        ("hello", 5),
        ("日本語", 6),
        ("пример", 6),
        ("e\u0301", 1),
        ("© ®", 5),
        ("👍", 2),
        (f"See {LONG}.", 28),
        ("https://en.wikipedia.org/wiki/Python_(programming_language)", 23),
        (f"{LONG} {LONG}", 47),
        ("(https://a.org/b)", 25),
        ("https://a.org/b日本", 27),
        ("http://localhost:3000/foo", 25),
        ("https://t.co/abc-def", 27),
    ],
)
def test_a_length_as_x_counts(text: str, theirs: int) -> None:
    """An address is 23; scripts of Asia and emoji are 2 a character."""
    assert weight(text) == theirs


@pytest.mark.parametrize(
    ("text", "theirs"),
    [
        ("file.py", 23),
        ("http://a.local/bbbbbbbbbbbbbbbbbbbbbbbbbbbb", 43),
        ("a.co日本b.co", 50),
        ("пример.рф", 23),
        ("example.com/path", 23),
        ("👨‍👩‍👧", 2),
        ("1️⃣", 2),
        ("👍🏽", 2),
    ],
)
def test_a_length_that_depends_on_tables(text: str, theirs: int) -> None:
    """It is never below X's own: a post that is too long is refused."""
    assert weight(text) >= theirs


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ("Hello", {"text": "@ada Hello"}),
        ("a < b & c", {"text": "a &lt; b &amp; c"}),
        ("two\n\n\nlines ", {"text": "two\n\nlines"}),
        (
            f"See {LONG} now",
            {
                "text": "See https://t.co/x1 now",
                "entities": {"urls": [{"url": "https://t.co/x1", "expanded_url": LONG}]},
            },
        ),
        (f"See {LONG} now", {"text": "See https://t.co/x1 now"}),
        (
            "a picture",
            {
                "text": "a picture https://t.co/x2",
                "entities": {"urls": [{"url": "https://t.co/x2", "media_key": "3_1"}]},
            },
        ),
        ("@ada see", {"text": "@bob @ada see"}),
        ("long", {"text": "lo…", "note_post": {"text": "long"}}),
        ("cafe\u0301", {"text": "caf\u00e9"}),
    ],
)
def test_a_text_is_found_again(sent: str, found: dict[str, Any]) -> None:
    """Whatever X has changed of it."""
    assert is_same(comparable(sent), comparable(full_text(found)))


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ("Hello", {"text": "Hello!"}),
        (f"See {LONG} now", {"text": "See https://t.co/x1 then"}),
        ("Hello", {"text": "https://t.co/x1 https://t.co/x2"}),
        ("", {"text": "Hello"}),
    ],
)
def test_another_text_is_another(sent: str, found: dict[str, Any]) -> None:
    """A shortened address stands for one word alone."""
    assert not is_same(comparable(sent), comparable(full_text(found)))


def test_a_thread_fits() -> None:
    """A long answer with code arrives whole; no address is cut, each part fits."""
    code = "\n".join(f"    value_{n} = compute({n})" for n in range(60))
    words = " ".join(f"word{n} {LONG}?n={n} 日本" for n in range(60))
    text = f"{words}\n\n```python\n{code}\n```\n\nThe end."
    parts = split(text, 280, weight)
    assert len(text) > 5000
    assert max(map(weight, parts)) <= 280
    assert min(weight(part) for part in parts[:-1]) > 100
    for number in range(60):
        assert sum(f"?n={number} " in f"{part} " for part in parts) == 1
        assert sum(f"compute({number})" in part for part in parts) == 1
    assert sum(part.count("```") for part in parts) % 2 == 0
    assert all(part.count("```") % 2 == 0 for part in parts)
    order = [
        part.index(f"?n={n} ") + at * 10_000
        for n in range(60)
        for at, part in enumerate(f"{p} " for p in parts)
        if f"?n={n} " in part
    ]
    assert order == sorted(order)


def test_a_huge_text_is_split_in_time() -> None:
    """What is measured for one part is bounded."""
    parts = split("x" * 50_000, 280, weight)
    assert "".join(parts) == "x" * 50_000
    assert max(map(len, parts)) == 280
