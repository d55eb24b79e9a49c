"""Numbers on the command line: of seconds, and whole ones."""

import math
from typing import Any

import click

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
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
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number of seconds; {_example(value)}", param, ctx)
        return float(super().convert(seconds, param, ctx))


class Span(Seconds):
    """The same, which may have a unit: `30`, `30s`, `2m`."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return it."""
        text = str(value)
        try:
            value = float(text[:-1]) * UNITS[text[-1:].lower()]
        except (KeyError, ValueError):
            value = text
        return super().convert(value, param, ctx)


class Whole(click.IntRange):
    """A whole number within bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is no whole number; write it as 20", param, ctx)
        return int(super().convert(number, param, ctx))


def _example(text: str) -> str:
    """Return what to write in place of a text, such as `5s` or `2m`."""
    number, unit = text[:-1], text[-1:].lower()
    try:
        meant = float(number) * UNITS[unit]
    except (KeyError, ValueError):
        return "write it as 5 or 0.5"
    return f"write {meant:g}"
