"""One test in two sizes: seconds of it in each run, minutes of it as a soak."""

from typing import TypeVar

import pytest
from _pytest.mark.structures import ParameterSet

T = TypeVar("T")


def sizes(short: T, long: T) -> list[ParameterSet]:
    """Return parameters for `pytest.mark.parametrize`; `pytest -m soak` runs the long one.

    A tuple has the values of several parameters.
    """
    return [
        pytest.param(*_values(short), id="short"),
        pytest.param(*_values(long), id="long", marks=pytest.mark.soak),
    ]


def _values(size: object) -> tuple[object, ...]:
    return size if isinstance(size, tuple) else (size,)
