"""The verb chaos: injure a host that allows it, and show that it keeps its promises."""

import asyncio
import contextlib
import math
import signal
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from garrison.supervisor.cli.output import (
    DONE,
    FAILED,
    INTERRUPTED,
    SETTINGS,
    answer,
    options,
    say,
)

from .schedule import HOST, Fault

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .runner import RunOptions, RunReport

SECONDS = 10.0  # unless a number of faults is said
LIVE_S, PLAIN_S = 0.2, 5.0  # between two words of progress, at a terminal and elsewhere
ROWS_MOST = 40  # of single services

WORDS = {
    "past_deadline": "calls past their deadline",
    "never_ended": "calls that never ended",
    "second_answers": "second answers",
    "wrong_answers": "wrong answers",
    "messages_lost": "messages lost",
    "out_of_order": "messages out of order",
    "undelivered": "messages not delivered yet",
    "orphans": "orphans",
    "not_back": "services that were not back in time",
    "restarted_with_supervisor": "services that a killed supervisor took along",
}
POSTS = {
    "delivered_again": "came again",
    "not_acknowledged": "were not acknowledged",
    "dead_letters_replayed": "dead letters sent again",
}
DEEDS = {
    Fault.KILL: "SIGKILL to workers",
    Fault.STOP: "SIGSTOP to workers, which their watchdog ends",
    Fault.HANG: "blocked loops, which the watchdog ends",
    Fault.LEAK: "memory taken until memory_max ends it",
    Fault.FLOOD: "one service floods another with calls and events",
    Fault.SUPERVISOR: "SIGKILL to the supervisor; another one is started as it was, detached",
}


class Faults(click.ParamType[tuple[Fault, ...]]):
    """Kinds of faults, with commas between."""

    name = "faults"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Fault, ...]:
        """Return the kinds, each once."""
        if not isinstance(value, str):
            return tuple(value)
        known = {fault.value: fault for fault in Fault}
        words = [word.strip() for word in value.split(",")]
        for word in words:
            if word not in known:
                self.fail(f"there is no fault {word!r}; there are {', '.join(known)}", param, ctx)
        return tuple(dict.fromkeys(known[word] for word in words))


class Seconds(click.FloatRange):
    """A number of seconds above 0; "nan", which no comparison refuses, is none."""

    def __init__(self, most: float) -> None:
        super().__init__(min=0, min_open=True, max=most)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return it."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return float(seconds)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("--kills", "total", type=click.IntRange(min=1), metavar="N", help="Faults in all.")
@click.option(
    "--for",
    "seconds",
    type=Seconds(1e7),
    metavar="S",
    help=f"Seconds; without either {SECONDS:g}.",
)
@click.option(
    "--faults",
    type=Faults(),
    default="kill",
    show_default=True,
    help="Any of kill,stop,hang,leak,flood,supervisor.",
)
@click.option(
    "--callers", type=click.IntRange(1, 64), default=8, show_default=True, help="Of its own."
)
@click.option(
    "--within",
    type=Seconds(86_400),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds for a service to be back, beyond its watchdog where that has to end it.",
)
@options
def chaos(
    names: tuple[str, ...],
    total: int | None,
    seconds: float | None,
    faults: tuple[Fault, ...],
    callers: int,
    within: float,
) -> int:
    """Injure what runs, and show that the host keeps its promises.

    It makes calls and, where there is a mailbox, posts of its own meanwhile. The config must say
    `chaos = true` under [host]. Exits 1 where a number is not zero that has to be.
    """
    from .runner import RunOptions, RunReport

    if total is not None and seconds is not None:
        raise click.UsageError("say --kills or --for, not both")
    if total is None and seconds is None:
        seconds = SECONDS
    wish = RunOptions(SETTINGS.home, names, faults, total, seconds, callers, within)
    scene = RunReport(lambda scene: _announce(wish, scene))
    try:
        asyncio.run(_run(wish, scene))
    except BaseException:
        if scene.seconds and not SETTINGS.json:  # what was seen until then
            _show(wish, scene)
            say("broken off: it was not looked for what is still to be delivered, and for orphans")
        raise
    told = scene.tally.told() | {
        "seconds": scene.seconds,
        "interrupted": scene.interrupted,
        "services": scene.targets,
        "callers": callers,
        "left_out": scene.left_out,
    }
    answer(told)
    if not SETTINGS.json:
        _show(wish, scene)
    if not scene.tally.ok:
        return FAILED
    return INTERRUPTED if scene.interrupted else DONE


async def _run(wish: "RunOptions", scene: "RunReport") -> None:
    from .runner import run

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None

    def interrupted() -> None:
        if stop.is_set() or not scene.targets:
            main.cancel()  # twice, or before it has begun: at once
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupted)
    progress = asyncio.create_task(_progress(wish, scene, stop))
    try:
        await run(wish, scene, stop)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        progress.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await progress


# --- what is shown --------------------------------------------------------------------------


def _announce(wish: "RunOptions", scene: "RunReport") -> None:
    many = len(scene.targets)
    faults = f"{wish.seconds:g} s of faults" if wish.total is None else counted(wish.total, "fault")
    around = f"in {counted(many, 'service')}, with {counted(wish.callers, 'caller')}"
    say(f"{faults} {around}; Ctrl-C ends it in order:")
    for fault, names in scene.takers.items():
        who = f" (of {len(names)})" if names != [HOST] and len(names) < many else ""
        say(f"  {fault.value}: {DEEDS[fault]}{who}")
    for left in scene.left_out[:ROWS_MOST]:
        say(f"  left out: {left}")
    say("Services forget their restarts before each fault, so none is given up for it.")


def counted(number: int, what: str) -> str:
    """Return so many of something."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


async def _progress(wish: "RunOptions", scene: "RunReport", stop: asyncio.Event) -> None:
    live = sys.stderr.isatty() and not SETTINGS.json
    began = time.monotonic()
    try:
        while True:
            await asyncio.sleep(LIVE_S if live else PLAIN_S)
            if not scene.targets:
                continue
            line = _line(wish, scene, time.monotonic() - began, stop.is_set())
            if live:
                click.echo(f"\r\x1b[K{line[:79]}", nl=False, err=True)
            else:
                say(line)
    finally:
        if live:
            click.echo("\r\x1b[K", nl=False, err=True)


def _line(wish: "RunOptions", scene: "RunReport", elapsed: float, ending: bool) -> str:
    tally = scene.tally
    of = f" of {wish.total:,}" if wish.total is not None else ""
    bad = sum(tally.zeros().values())
    told = f"{elapsed:.0f} s: {tally.faults:,}{of} faults, {tally.ends.total():,} calls"
    if scene.mail:
        told += f", {tally.acknowledged:,} posts"
    told += f", {bad:,} not as promised" if bad else ", all as promised"
    return told + (" (ending)" if ending or scene.seconds else "")


def _show(wish: "RunOptions", scene: "RunReport") -> None:
    from garrison.supervisor.cli.render import status

    say()
    status.show(*_report(wish, scene))


def _report(wish: "RunOptions", scene: "RunReport") -> "Iterable[RenderableType]":
    from rich.text import Text

    from garrison.supervisor.cli.render import status

    told = scene.tally.told()
    yield Text(
        f"{counted(told['faults'], 'fault')} in {counted(len(scene.targets), 'service')} under "
        f"{counted(wish.callers, 'caller')}, {scene.seconds:.1f} s"
        + (", interrupted" if scene.interrupted else "")
    )
    yield ""
    yield from _recoveries(told["recoveries"], len(scene.targets))
    yield ""
    calls = told["calls"]
    ends = ", ".join(f"{count:,} {kind}" for kind, count in calls["outcomes"].items())
    yield Text(f"calls {calls['total']:,}" + (f": {ends}" if ends else ""))
    posts = told["posts"]
    if scene.mail:
        told_posts = (
            f"posts {posts['acknowledged']:,} acknowledged: {posts['delivered']:,} delivered"
        )
        for key, words in POSTS.items():
            if posts[key]:
                told_posts += f", {posts[key]:,} {words}"
        yield Text(told_posts)
    else:
        yield Text("posts none: there is no mailbox that runs, or nobody to post to")
    yield ""
    for key, count in told["zeros"].items():
        verdict = Text("NOT ZERO", "bold red") if count else Text("ok", "green")
        yield Text.assemble(f"{WORDS[key]:<46}{count:>8,}  ", verdict)
    yield ""
    grown = told["supervisor"]
    since = " (since its last start)" if grown["since_its_last_start"] else ""
    memory = grown["memory_growth_bytes"] / (1 << 20)
    yield Text(
        f"the supervisor's memory {memory:+.1f} MiB to {status.size(grown['memory_bytes'])}, its "
        f"descriptors {grown['descriptors_growth']:+,} to {grown['descriptors']:,}{since}"
    )
    for problem in told["problems"]:
        yield Text(problem)


def _recoveries(rows: list[dict[str, Any]], services: int) -> "Iterable[RenderableType]":
    from garrison.supervisor.cli.render import status

    if not rows:
        yield "no fault is over"
        return
    single = [row for row in rows if row["service"] is not None]
    shown = [row for row in rows if row["service"] is None] + (single if services > 1 else [])
    shown = shown[: ROWS_MOST + len(Fault)]
    yield status.table(
        ("FAULT", "SERVICE", "COUNT", "P50", "P99", "MAX"),
        (
            (
                row["fault"],
                row["service"] or "all",
                f"{row['count']:,}",
                *(_duration(row[key]) for key in ("p50_s", "p99_s", "max_s")),
            )
            for row in shown
        ),
    )
    if len(rows) > len(shown) and services > 1:
        yield f"… and {len(rows) - len(shown)} more; --json has all of them"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 10 else f"{seconds:.1f} s"
