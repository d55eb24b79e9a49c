"""One test in two sizes: seconds of it in each run, minutes of it as a soak."""

from typing import TypeVar

import pytest
from _pytest.mark.structures import ParameterSet

T = TypeVar("T")


def sizes(short: T, long: T) -> list[ParameterSet]:
    """Return parameters for `pytest.mark.parametrize`; `pytest -m soak` runs the long one."""
    return [
        pytest.param(short, id="short"),
        pytest.param(long, id="long", marks=pytest.mark.soak),
    ]
