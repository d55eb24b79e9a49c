"""The options `-n`, `--since`, `--until` and `--grep` as one. Times are Unix seconds."""

import functools
import re
import time
from collections.abc import Callable
from math import inf
from typing import Any, TypeAlias, TypeVar

import click

from garrison.ipc.log_span import Span
from garrison.ipc.time_words import EXAMPLES, parse_time

from .durations import Whole

SpanOf: TypeAlias = Callable[..., Span]  # takes `following`
F = TypeVar("F", bound=Callable[..., Any])

LAST = 50  # that are shown if no option says otherwise


def _time(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_time(text, time.time())
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(f"{text!r} is no time; write one as in {EXAMPLES}") from None


def _pattern(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is no regular expression: {error}") from None


def selection(what: str) -> Callable[[F], F]:
    """Add the options to a verb, which takes `span_of`: the function below for these options.

    Args:
        what: What a number counts.
    """

    def add(function: F) -> F:
        def verb(*args: Any, **kwargs: Any) -> Any:
            given = [kwargs.pop(name) for name in ("number", "since", "until", "grep")]
            return function(*args, span_of=functools.partial(span_of, *given), **kwargs)

        options = [
            click.option(
                "-n",
                "number",
                type=Whole(min=0),
                default=None,
                metavar="N",
                help=f"How many {what}, the last. Default: {LAST}, or all with --since.",
            ),
            click.option(
                "--since",
                callback=_time,
                metavar="TIME",
                help="From this time on: 10m, 2h (ago), 14:05, 2026-05-06, 2026-05-06T14:05.",
            ),
            click.option("--until", callback=_time, metavar="TIME", help="Up to this time."),
            click.option(
                "--grep",
                callback=_pattern,
                metavar="REGEX",
                help="Those that contain a match of this regular expression.",
            ),
        ]
        decorated: Any = functools.update_wrapper(verb, function)
        for option in reversed(options):
            decorated = option(decorated)
        whole: F = decorated
        return whole

    return add


def span_of(
    number: int | None,
    since: float | None,
    until: float | None,
    grep: re.Pattern[str] | None,
    following: bool = False,
) -> Span:
    """Return what the options ask for.

    Raises:
        UsageError: They contradict each other.
    """
    if following and until is not None:
        raise click.UsageError("--follow shows what comes, and --until what has been: use one")
    if number is None and since is None:
        number = LAST
    return Span(-inf if since is None else since, inf if until is None else until, grep, number)
