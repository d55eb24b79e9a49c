"""Numbers of seconds on the command line."""

import math
from typing import Any

import click

LONGEST_S = 1e7  # some four months; clocks and sockets compute with it


class Seconds(click.FloatRange):
    """A number of seconds above 0. "nan" is rejected, which no comparison does.

    Args:
        most: The largest number.
    """

    def __init__(self, most: float = LONGEST_S) -> None:
        super().__init__(min=0, min_open=True, max=most)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return it."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return float(seconds)
