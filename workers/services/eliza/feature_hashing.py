"""A text's vector by feature hashing: words and pieces of words, hashed to signed places. Pure.

It knows nothing of meaning: texts are near each other that share words, or pieces of them. It
costs no model and no download, and a text has the same vector on every machine and in every
version of Python, but for characters that a later Unicode has changed. Lengths are characters.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b

DIMENSIONS = 384  # of a vector, where nothing else is asked for
READ = 10_000  # so much of a text is read
PIECES = (3, 4)  # lengths of the pieces of words

_TOKENS = re.compile(r"(\w+)|[^\w\s]")
_PIECE = 0.5  # the weight of a piece or a mark, where a word's is 1


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return a vector of length 1; that of a text with nothing to read in it is all zeros.

    What stands n times in a text counts √n times. Two vectors' product is their texts' likeness.
    """
    sums = [0.0] * dimensions
    for feature, count in Counter(_features(text)).items():
        place, sign = _hashed(feature, dimensions)
        weight = 1.0 if feature[0] == "w" else _PIECE
        sums[place] += sign * weight * math.sqrt(count)
    length = math.sqrt(math.fsum(value * value for value in sums))
    return [value / length for value in sums] if length else sums


def _features(text: str) -> Iterator[str]:
    """Yield a text's words, their pieces and the marks between them, each with its kind before."""
    for token in _TOKENS.finditer(unicodedata.normalize("NFKC", text[:READ]).casefold()):
        if word := token[1]:
            yield f"w{word}"
            edged = f" {word} "
            for size in PIECES:
                yield from (f"p{edged[at : at + size]}" for at in range(len(edged) - size + 1))
        else:
            yield f"m{token[0]}"


def _hashed(feature: str, dimensions: int) -> tuple[int, int]:
    """Return a feature's place and sign. Signs let what falls on one place by chance cancel out."""
    digest = blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    number = int.from_bytes(digest, "big")
    return (number >> 1) % dimensions, 1 if number & 1 else -1
