"""How crash reports are shown to people, at any width."""

import re
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from garrison.supervisor.crashes.report import (
    CrashReport,
    CrashSummary,
    InFlight,
    RecentMessage,
)
from garrison.supervisor.logs.events import local_time, localized

from .lines import terminal_width
from .table import folded, indented, pairs, table
from .text import counted, sanitize, size, span

# The first frame of garrison's own, below all of an author's; in reports of earlier versions too.
WORKER_LOOP = re.compile(r"/garrison/workers/(process/)?main\.py\".* in _loop$")
SUMMARY_LEAST = 72  # columns for the table of crashes
CUT = ("SERVICE", "METHOD", "OUTCOME")  # columns that are cut on a narrow terminal


def summary_table(lines: Iterable[CrashSummary]) -> RenderableType:
    """Return crashes as a table, one a row; in a narrow terminal, each as a paragraph."""
    lines = list(lines)
    if terminal_width() < SUMMARY_LEAST:
        return Group(*(part for line in lines for part in _summary(line)))
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("ID", no_wrap=True, overflow="ellipsis", max_width=32)
    made.add_column("WHEN", no_wrap=True)
    made.add_column("UP", justify="right", no_wrap=True)
    made.add_column("CAUSE", overflow="fold")
    for line in lines:
        up = span(line.uptime_s) if line.uptime_s is not None else "-"
        when = local_time(line.at, " ", "seconds")[:19]
        made.add_row(line.id, sanitize(when), up, Text(sanitize(line.cause)))
    return made


def _summary(line: CrashSummary) -> Iterable[RenderableType]:
    up = f", up {span(line.uptime_s)}" if line.uptime_s is not None else ""
    when = local_time(line.at, " ", "seconds")[:19]
    yield folded(f"{line.id}  {when}{up}")
    yield indented(folded(line.cause))


def full_report(report: CrashReport) -> Iterable[RenderableType]:
    """Return everything that is known of one crash."""
    at = sanitize(local_time(report.at, " "))
    yield Text.assemble((report.service, "bold"), " died at ", (at, "bold"), f"  ({report.id})")
    yield indented(pairs(_facts(report)))
    if report.in_flight:
        more = report.in_flight_count - len(report.in_flight)
        title = f"calls in flight: {report.in_flight_count}"
        yield _title(title + (f", the last {len(report.in_flight)} here" if more else ""))
        yield indented(*_in_flight(report.in_flight))
    if report.messages:
        calls = counted(report.calls, "call")
        yield _title(f"last messages: {len(report.messages)}, of {calls} in its life")
        yield indented(*_messages(report.messages))
    if report.exception is not None and report.exception.traceback:
        yield _title(f"exception, in {report.exception.phase}")
        yield _lines(report.exception.traceback.rstrip().splitlines())
    if report.stacks:
        yield _title("stacks")
        yield _lines(_author_frames(report.stacks.rstrip().splitlines()))
    if report.log:
        lines = f"{len(report.log)} lines" if len(report.log) > 1 else "line"
        yield _title(f"log: its last {lines}, of {report.log_file}")
        yield _lines(map(localized, report.log))
    if report.before:
        yield _title("what came before")
        yield _lines(map(_event, report.before))
    for problem in report.unknown:
        yield folded(f"not known: {problem}")


def _facts(report: CrashReport) -> list[tuple[str, str | None]]:
    policy = report.policy
    crashes = f"crash {policy.crashes} within {policy.period:g} s, {policy.intensity} are allowed"
    up = f" after {_long(report.uptime_s)}" if report.uptime_s is not None else ""
    beat = f"{report.beat_age_s:.1f} s before" if report.beat_age_s is not None else None
    process = f"{report.pid or 'none'} (generation {report.generation}) {report.exit}{up}"
    return [
        ("cause", report.cause),
        ("process", process),
        ("node", report.node or None),
        ("it was", report.state),
        ("then", policy.next + (f" ({crashes})" if policy.crashes and policy.intensity else "")),
        ("restarts", str(policy.restarts) if policy.restarts else None),
        ("used", _usage(report)),
        ("last beat", beat),
        ("left behind", " ".join(map(str, report.left))),
        ("plugin", f"{report.plugin}, type {report.service_type}"),
    ]


def _usage(report: CrashReport) -> str | None:
    if report.user_s is None or report.system_s is None:
        return None
    kernel = f"{report.system_s:.2f} s in the kernel"
    peak = f"{size(report.rss_bytes or 0)} at its peak"
    return f"{report.user_s + report.system_s:.2f} s of a processor ({kernel}), {peak}"


def _in_flight(calls: list[InFlight]) -> Iterable[RenderableType]:
    rows = (
        (
            _time(call.since),
            _preposition(call.direction),
            call.service,
            call.method + (f", {call.items} items" if call.items else ""),
            str(call.size),
            _long(call.age_s),
        )
        for call in calls
    )
    heads = ("SINCE", "", "SERVICE", "METHOD", "BYTES", "FOR")
    yield table(heads, rows, cut=CUT, right={"BYTES"})
    yield from _values((call.since, call.method, call.value) for call in calls)
    traces = dict.fromkeys(sanitize(call.trace) for call in calls if call.trace)
    yield from (folded(f"trace {trace}") for trace in traces)


def _messages(messages: list[RecentMessage]) -> Iterable[RenderableType]:
    rows = (
        (
            _time(message.time),
            _preposition(message.direction),
            message.service,
            message.method,
            str(message.size),
            message.kind,
            message.outcome.replace("RemoteError", "raised"),
        )
        for message in messages
    )
    heads = ("TIME", "", "SERVICE", "METHOD", "BYTES", "KIND", "OUTCOME")
    yield table(heads, rows, cut=CUT, right={"BYTES"})
    yield from _values((one.time, f"{one.method} {one.kind}", one.value) for one in messages)


def _values(rows: Iterable[tuple[str, str, str]]) -> Iterable[RenderableType]:
    """Return the arguments and results, where the service records them: time, call, value."""
    for time, what, value in rows:
        if value:
            yield folded(f"{_time(time)} {what}: {value}")


def _time(utc: str) -> str:
    return local_time(utc, " ")[11:23]


def _long(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else span(seconds)


def _preposition(direction: str) -> str:
    return "from" if direction == "in" else "to"


def _title(title: str) -> RenderableType:
    return Padding(Text(title, "bold"), (1, 0, 0, 0))


def _lines(lines: Iterable[str]) -> RenderableType:
    return indented(*map(folded, lines))


def _author_frames(lines: Iterable[str]) -> Iterable[str]:
    """Leave out the frames of the worker's loop: they are garrison's own and always the same."""
    below = False
    for line in lines:
        if below and line.startswith("  File "):
            continue
        below = WORKER_LOOP.search(line) is not None
        if not below:
            yield line


def _event(text: str) -> str:
    time, _, rest = text.partition(" ")
    return f"{_time(time)} {rest}"
