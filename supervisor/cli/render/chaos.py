"""How the results of `garrison chaos` are shown to people."""

from collections.abc import Iterable
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from garrison.supervisor.chaos.runner import RunOptions, RunReport
from garrison.supervisor.chaos.schedule import PlannedFault

from .table import table
from .text import counted, sanitize, size

ROWS_MOST = 40  # of single services

ZEROS = {
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


def run_report(wish: RunOptions, report: RunReport) -> Iterable[RenderableType]:
    """Return the results of a run."""
    data = report.tally.as_data()
    yield Text(
        f"{counted(data['faults'], 'fault')} in {counted(len(report.targets), 'service')} under "
        f"{counted(wish.callers, 'caller')}, {report.seconds:.1f} s"
        + (", interrupted" if report.interrupted else "")
    )
    yield ""
    yield from _recoveries(data["recoveries"], len(report.targets))
    yield ""
    yield Text(_calls(data["calls"]))
    yield Text(_posts(data["posts"], report.mail))
    yield ""
    for key, count in data["zeros"].items():
        verdict = Text("NOT ZERO", "bold red") if count else Text("ok", "green")
        yield Text.assemble(f"{ZEROS[key]:<46}{count:>8,}  ", verdict)
    yield ""
    yield Text(_supervisor(data["supervisor"]))
    for problem in data["problems"]:
        yield Text(sanitize(problem))


def _calls(calls: dict[str, Any]) -> str:
    ends = ", ".join(f"{count:,} {kind}" for kind, count in calls["outcomes"].items())
    return f"calls {calls['total']:,}" + (f": {ends}" if ends else "")


def _posts(posts: dict[str, int], mail: bool) -> str:
    if not mail:
        return "posts none: no mailbox runs, or no service can receive"
    text = f"posts {posts['acknowledged']:,} acknowledged: {posts['delivered']:,} delivered"
    for key, words in POSTS.items():
        if posts[key]:
            text += f", {posts[key]:,} {words}"
    return text


def _supervisor(growth: dict[str, Any]) -> str:
    since = " (since its last start)" if growth["since_its_last_start"] else ""
    memory = growth["memory_growth_bytes"] / (1 << 20)
    return (
        f"the supervisor's memory {memory:+.1f} MiB to {size(growth['memory_bytes'])}, its "
        f"descriptors {growth['descriptors_growth']:+,} to {growth['descriptors']:,}{since}"
    )


def _recoveries(rows: list[dict[str, Any]], services: int) -> Iterable[RenderableType]:
    if not rows:
        yield "no fault is over"
        return
    single = [row for row in rows if row["service"] is not None]
    shown = [row for row in rows if row["service"] is None] + (single if services > 1 else [])
    shown = shown[: ROWS_MOST + len(PlannedFault)]
    heads = ("FAULT", "SERVICE", "COUNT", "P50", "P99", "MAX")
    yield table(heads, map(_recovery, shown), cut={"SERVICE"})
    if len(rows) > len(shown) and services > 1:
        yield f"… and {len(rows) - len(shown)} more; --json has all of them"


def _recovery(row: dict[str, Any]) -> tuple[str, ...]:
    durations = (_duration(row[key]) for key in ("p50_s", "p99_s", "max_s"))
    return (row["fault"], row["service"] or "all", f"{row['count']:,}", *durations)


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 10 else f"{seconds:.1f} s"
