"""The verb that injects faults into a running host, under load, and reports what was lost."""

import asyncio
import contextlib
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from garrison.supervisor.chaos.schedule import HOST, PlannedFault
from garrison.supervisor.cli.render.text import counted

from .completion import complete_names
from .durations import Seconds, Whole
from .errors import DONE, FAILED, INTERRUPTED
from .output import Invocation, options

if TYPE_CHECKING:
    from garrison.supervisor.chaos.runner import RunOptions, RunReport

SECONDS = 10.0  # without --kills and --for
LIVE_S, PIPE_S = 0.2, 5.0  # between progress lines, at a terminal and in a pipe
LEFT_OUT_SHOWN = 40

DESCRIPTIONS = {
    PlannedFault.KILL: "SIGKILL to workers",
    PlannedFault.STOP: "SIGSTOP to workers, which their watchdog ends",
    PlannedFault.HANG: "blocked event loops, which the watchdog ends",
    PlannedFault.LEAK: "memory allocated until memory_max ends the worker",
    PlannedFault.FLOOD: "one service floods another with calls and events",
    PlannedFault.SUPERVISOR: "SIGKILL to the supervisor; the next one starts as it was, detached",
}


class Faults(click.ParamType[tuple[PlannedFault, ...]]):
    """Kinds of faults, separated by commas."""

    name = "faults"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[PlannedFault, ...]:
        """Return the kinds, each once."""
        if not isinstance(value, str):
            return tuple(value)
        known = {fault.value: fault for fault in PlannedFault}
        words = [word.strip() for word in value.split(",")]
        for word in words:
            if word not in known:
                self.fail(f"there is no fault {word!r}; there are {', '.join(known)}", param, ctx)
        return tuple(dict.fromkeys(known[word] for word in words))


@click.command(
    epilog="Examples: garrison chaos --kills 1000; garrison chaos --for 60 --faults kill,hang; "
    "garrison chaos hello 'ada.*'"
)
@click.argument("names", nargs=-1, metavar="[NAME…]", shell_complete=complete_names)
@click.option("--kills", "total", type=Whole(min=1), metavar="N", help="How many faults in all.")
@click.option(
    "--for",
    "seconds",
    type=Seconds(1e7),
    metavar="S",
    help=f"How many seconds of faults. Default without --kills: {SECONDS:g}.",
)
@click.option(
    "--faults",
    type=Faults(),
    default="kill",
    show_default=True,
    metavar="KINDS",
    help="Any of kill,stop,hang,leak,flood,supervisor.",
)
@click.option(
    "--callers",
    type=Whole(1, 64),
    default=8,
    show_default=True,
    metavar="N",
    help="How many callers make calls meanwhile.",
)
@click.option(
    "--within",
    type=Seconds(86_400),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds in which a service must be back, after its watchdog if that has to end it.",
)
@options
def chaos(
    invocation: Invocation,
    names: tuple[str, ...],
    total: int | None,
    seconds: float | None,
    faults: tuple[PlannedFault, ...],
    callers: int,
    within: float,
) -> int:
    """Inject faults into services, and count what is lost.

    Meanwhile the command makes calls of its own and, if there is a mailbox, posts messages. The
    config must have `chaos = true` in [host]. Exits 1 if a number is not zero that must be.
    """
    from garrison.supervisor.chaos.runner import RunOptions, RunReport

    if total is not None and seconds is not None:
        raise click.UsageError("use --kills or --for, not both")
    if total is None and seconds is None:
        seconds = SECONDS
    wish = RunOptions(invocation.home, names, faults, total, seconds, callers, within)
    report = RunReport(lambda report: _announce(invocation, wish, report))
    try:
        asyncio.run(_run(invocation, wish, report))
    except BaseException:
        if report.seconds and not invocation.json:  # the results until then
            _show(wish, report)
            invocation.say("broken off: undelivered messages and orphans were not counted")
        raise
    invocation.answer(
        report.tally.as_data()
        | {
            "seconds": report.seconds,
            "interrupted": report.interrupted,
            "services": report.targets,
            "callers": callers,
            "left_out": report.left_out,
        }
    )
    if not invocation.json:
        _show(wish, report)
    if not report.tally.ok:
        return FAILED
    return INTERRUPTED if report.interrupted else DONE


async def _run(invocation: Invocation, wish: "RunOptions", report: "RunReport") -> None:
    from garrison.supervisor.chaos.runner import run

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None

    def interrupted() -> None:
        if stop.is_set() or not report.targets:
            main.cancel()  # the second Ctrl-C, or one before the first fault: end at once
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupted)
    progress = asyncio.create_task(_print_progress(invocation, wish, report, stop))
    try:
        await run(wish, report, stop)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        progress.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await progress


def _announce(invocation: Invocation, wish: "RunOptions", report: "RunReport") -> None:
    many = len(report.targets)
    faults = f"{wish.seconds:g} s of faults" if wish.total is None else counted(wish.total, "fault")
    where = f"in {counted(many, 'service')}, with {counted(wish.callers, 'caller')}"
    invocation.say(f"{faults} {where}; Ctrl-C ends it in order:")
    for fault, names in report.takers.items():
        some = f" (of {len(names)})" if names != [HOST] and len(names) < many else ""
        invocation.say(f"  {fault.value}: {DESCRIPTIONS[fault]}{some}")
    for reason in report.left_out[:LEFT_OUT_SHOWN]:
        invocation.say(f"  left out: {reason}")
    invocation.say("Restart counts are reset before each fault, so that no service is given up.")


async def _print_progress(
    invocation: Invocation, wish: "RunOptions", report: "RunReport", stop: asyncio.Event
) -> None:
    live = sys.stderr.isatty() and not invocation.json
    began = time.monotonic()
    try:
        while True:
            await asyncio.sleep(LIVE_S if live else PIPE_S)
            if not report.targets:
                continue
            line = _progress(wish, report, time.monotonic() - began, stop.is_set())
            if live:
                # A line that wraps could not be replaced by the next.
                room = shutil.get_terminal_size().columns - 1
                click.echo(f"\r\x1b[K{line[:room]}", nl=False, err=True)
            else:
                invocation.say(line)
    finally:
        if live:
            click.echo("\r\x1b[K", nl=False, err=True)


def _progress(wish: "RunOptions", report: "RunReport", elapsed: float, ending: bool) -> str:
    tally = report.tally
    of = f" of {wish.total:,}" if wish.total is not None else ""
    bad = sum(tally.zeros().values())
    line = f"{elapsed:.0f} s: {tally.faults:,}{of} faults, {tally.ends.total():,} calls"
    if report.mail:
        line += f", {tally.acknowledged:,} posts"
    line += f", {bad:,} not as promised" if bad else ", all as promised"
    return line + (" (ending)" if ending or report.seconds else "")


def _show(wish: "RunOptions", report: "RunReport") -> None:
    from .render import chaos, table

    table.show("", *chaos.run_report(wish, report))
