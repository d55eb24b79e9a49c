"""Recall the part of a character's knowledge that is near to a message. Pure.

Sizes are characters.
"""

from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import mul

from garrison.workers.services.eliza.feature_hashing import vector

WHOLE = 4_000  # knowledge up to this size is in every prompt; of more, the nearest as much
PIECE = 800  # texts are cut into pieces of at most this size
PIECES_MOST = 1_000  # pieces that are looked at; the rest is left out


def pieces(texts: Iterable[str]) -> list[str]:
    """Return knowledge in pieces, each at most `PIECE` long, cut between lines or words."""
    found = list[str]()
    for text in texts:
        rest = text.strip()
        while rest and len(found) < PIECES_MOST:
            end = _cut(rest)
            found.append(rest[:end].rstrip())
            rest = rest[end:].lstrip()
    return found


def _cut(text: str) -> int:
    """Return where the first piece of a text ends."""
    if len(text) <= PIECE:
        return len(text)
    for mark in ("\n\n", "\n", ". ", " "):
        place = text.rfind(mark, PIECE // 4, PIECE)
        if place > 0:
            return place + len(mark)
    return PIECE


def is_long(texts: Iterable[str]) -> bool:
    """Return whether knowledge is recalled instead of shown whole."""
    return sum(map(len, texts)) > WHOLE


def recall(
    found: Sequence[str], vectors: Sequence[Sequence[float]], wanted: Sequence[float]
) -> list[str]:
    """Return the pieces that are nearest to a vector, up to `WHOLE`, in their own order.

    Args:
        found: The pieces.
        vectors: Theirs, all as long as the wanted one.
        wanted: The message's.
    """
    scores = [sum(map(mul, one, wanted)) for one in vectors]
    chosen, left = set[int](), WHOLE
    for place in sorted(range(len(found)), key=lambda place: (-scores[place], place)):
        if len(found[place]) <= left:
            chosen.add(place)
            left -= len(found[place])
    return [found[place] for place in sorted(chosen)]


def recall_by_words(found: Sequence[str], text: str) -> list[str]:
    """Return the pieces that share most words, and parts of words, with a text."""
    return recall(found, [hashed(one) for one in found], hashed(text))


@lru_cache(maxsize=PIECES_MOST)
def hashed(text: str) -> "array[float]":
    """Return a text's vector by feature hashing; those of a character's pieces are kept."""
    return array("d", vector(text))
