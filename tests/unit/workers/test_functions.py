"""An author's function gets as many of the arguments as it takes, however it was made."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from garrison.workers.agents.functions import call_with_prefix


class Holder:
    """Methods of each kind."""

    def method(self, first: int) -> tuple[int, ...]:
        """Take one."""
        return (first,)

    @classmethod
    def of_class(cls, first: int, second: int = 0) -> tuple[int, ...]:
        """Take two."""
        return first, second

    @staticmethod
    def static() -> tuple[int, ...]:
        """Take none."""
        return ()

    def __call__(self, first: int, /, second: int, *, named: int = 9) -> tuple[int, ...]:
        """Take two."""
        return first, second


def anything(*args: int) -> tuple[int, ...]:
    """Take any number."""
    return args


def two(first: int, second: int) -> tuple[int, ...]:
    """Take two."""
    return first, second


@functools.wraps(two)
def wrapper(*args: int) -> tuple[int, ...]:
    """Take what the wrapped function takes."""
    return two(*args)


@pytest.mark.parametrize(
    ("function", "taken"),
    [
        (lambda: (), 0),
        (two, 2),
        (anything, 3),
        (wrapper, 2),
        (functools.partial(two, 7), 1),
        (Holder().method, 1),
        (Holder.of_class, 2),
        (Holder.static, 0),
        (Holder(), 2),
        (lambda first, *rest: (first, *rest), 3),
        (max, 3),
    ],
)
def test_a_function_gets_what_it_takes(function: Callable[..., Any], taken: int) -> None:
    """Arguments that it does not take are left out."""
    given = (1, 2, 3)
    found = call_with_prefix(function, *given)
    if function is max:
        assert found == 3
    elif isinstance(function, functools.partial):
        assert found == (7, 1)
    else:
        assert found == given[:taken]
