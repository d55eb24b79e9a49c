"""How many examples a property test tries, by the hypothesis profile."""

from hypothesis import settings

FULL = 100  # `max_examples` of the profile `full`


def examples(full: int) -> int:
    """Return how many examples to try: these in the profile `full`, else in proportion."""
    return max(full * settings().max_examples // FULL, 5)
