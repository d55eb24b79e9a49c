"""The options `-n`, `--since`, `--until` and `--grep` as one. Times are Unix seconds."""

import functools
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from math import inf
from typing import Any, TypeAlias, TypeVar

import click

from garrison.ipc.log_span import Span

from .durations import Whole

SpanOf: TypeAlias = Callable[..., Span]  # takes `following`
F = TypeVar("F", bound=Callable[..., Any])

LAST = 50  # that are shown if no option says otherwise
UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hour": 3600, "d": 86_400, "day": 86_400}
UNITS |= {"w": 604_800, "week": 604_800, "hr": 3600}
AGO = re.compile(r"(?:\d+(?:\.\d+)?\s*[a-z]+\s*)+")
PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?")
EXAMPLES = "10m, 2h30m, 1d, 14:05, 2026-05-06, 2026-05-06T14:05, 2026-05-06T14:05:00Z"


def parse_time(text: str, now: float) -> float:
    """Return a time: how long ago, a time of day that has passed, or a date with or without time.

    Without an offset it is local.

    Raises:
        ValueError: It is none of these.
    """
    word = text.strip().lower().removeprefix("-").removesuffix("ago").strip()
    today = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)
    if word == "now":
        return now
    if word in {"today", "yesterday"}:
        return (today - timedelta(days=word == "yesterday")).timestamp()
    if AGO.fullmatch(word):
        return now - sum(float(count) * _unit(unit) for count, unit in PART.findall(word))
    if clock := CLOCK.fullmatch(word):
        hour, minute, second = (int(part or 0) for part in clock.groups())
        at = today.replace(hour=hour, minute=minute, second=second)
        return (at if at.timestamp() <= now else at - timedelta(days=1)).timestamp()
    return datetime.fromisoformat(text.strip()).timestamp()


def _unit(word: str) -> int:
    singular = word.removesuffix("s") if len(word) > 2 else word
    if singular not in UNITS:
        raise ValueError(f"{word} is no unit of time")
    return UNITS[singular]


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
