"""Feature hashing: similar texts are near each other, and a text's vector never changes."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.workers.services.eliza.feature_hashing import DIMENSIONS, MAX_TEXT, vector


def similarity(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(vector(one), vector(other), strict=True))


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("my mother hates the cat", "the cats hate my mothers", "stock prices fell on monday"),
        ("The bot was restarted", "restart the bot", "a glass of cold milk"),
        ("colour", "colours", "flavour"),
        ("Straße", "STRASSE", "Gasse"),
        ("ｆｕｌｌ width", "full width", "half a mile"),
        ("我喜欢这只猫", "这只猫", "明天会下雨"),
        ("🙂 🙂", "🙂", "🙁"),
        ("good!", "good", "!"),
    ],
)
def test_texts_that_share_words_or_parts_of_them_are_nearer(text: str, near: str, far: str) -> None:
    assert similarity(text, near) > similarity(text, far) + 0.1


@pytest.mark.parametrize(
    ("text", "indexes"),
    [
        ("a", {44: 0.894427, 172: 0.447214, 0: 0.0, 1: 0.0}),
        ("Hello, world", {95: -0.3849, 302: -0.3849, 21: -0.19245, 132: 0.19245}),
        ("naïve café", {192: -0.408248, 243: 0.408248, 6: -0.204124, 14: -0.204124}),
    ],
)
def test_a_texts_vector_never_changes(text: str, indexes: dict[int, float]) -> None:
    """Stored vectors of an older version are compared with new ones."""
    largest = sorted(enumerate(vector(text)), key=lambda pair: (-abs(pair[1]), pair[0]))[:4]
    assert {index: round(value, 6) for index, value in largest} == indexes


def test_another_process_computes_the_same_vector() -> None:
    """`hash()` would differ: each process has its own seed."""
    module = "garrison.workers.services.eliza.feature_hashing"
    code = f"from {module} import vector; print(vector('we are one'))"
    path = str(Path(__file__).parents[3] / ".src")
    env = {"PYTHONPATH": path, "PYTHONHASHSEED": "7"}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert run.stdout.decode().strip() == str(vector("we are one"))


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_has_a_vector_of_zeros(text: str) -> None:
    assert vector(text) == [0.0] * DIMENSIONS


def test_the_rest_of_a_long_text_is_ignored() -> None:
    start = "word " * (MAX_TEXT // 5)
    assert vector(start + "and more") == vector(start)
    assert vector(start[:-5] + "and more") != vector(start)


@given(st.text(st.characters()), st.integers(1, 600))
def test_any_text_has_a_vector_of_length_one_or_zeros(text: str, dimensions: int) -> None:
    values = vector(text, dimensions)
    assert len(values) == dimensions
    length = math.sqrt(sum(value * value for value in values))
    assert length == pytest.approx(1) or not any(values)
