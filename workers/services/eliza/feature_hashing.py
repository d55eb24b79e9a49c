"""Embed a text by feature hashing: words and character n-grams, hashed to signed indexes. Pure.

Texts that share words or parts of words are near each other; meaning is not considered. It needs no
model and no download. A text has the same vector on every machine and Python version, except for
characters that a later Unicode version changed. Lengths are characters.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b

DIMENSIONS = 384  # the default
MAX_TEXT = 10_000  # the rest of a text is ignored
NGRAM_SIZES = (3, 4)  # of a word

_TOKENS = re.compile(r"(\w+)|[^\w\s]")
_NGRAM_WEIGHT = 0.5  # of an n-gram or punctuation mark; a word has 1


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return a vector of length 1; all zeros for a text without words or marks.

    A feature that occurs n times has weight √n. The dot product of two vectors is the similarity of
    their texts.
    """
    sums = [0.0] * dimensions
    for feature, count in Counter(_features(text)).items():
        index, sign = _hash(feature, dimensions)
        weight = 1.0 if feature[0] == "w" else _NGRAM_WEIGHT
        sums[index] += sign * weight * math.sqrt(count)
    length = math.sqrt(math.fsum(value * value for value in sums))
    return [value / length for value in sums] if length else sums


def _features(text: str) -> Iterator[str]:
    """Yield words, n-grams and punctuation marks, each with its kind as prefix: w, p or m."""
    for token in _TOKENS.finditer(unicodedata.normalize("NFKC", text[:MAX_TEXT]).casefold()):
        if word := token[1]:
            yield f"w{word}"
            padded = f" {word} "
            for size in NGRAM_SIZES:
                starts = range(len(padded) - size + 1)
                yield from (f"p{padded[start : start + size]}" for start in starts)
        else:
            yield f"m{token[0]}"


def _hash(feature: str, dimensions: int) -> tuple[int, int]:
    """Return a feature's index and sign. Signs let features that share an index cancel out."""
    digest = blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    number = int.from_bytes(digest, "big")
    return (number >> 1) % dimensions, 1 if number & 1 else -1
