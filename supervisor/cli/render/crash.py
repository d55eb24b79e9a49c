"""How deaths look to people, at any width."""

from collections.abc import Iterable
from datetime import datetime

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from garrison.supervisor.crashes.report import CrashReport, CrashSummary, InFlight, Message

from .status import size, span


def table(lines: Iterable[CrashSummary]) -> Iterable[RenderableType]:
    """Return deaths as a table, a line each."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("ID", no_wrap=True, overflow="ellipsis", max_width=32)
    made.add_column("WHEN", no_wrap=True)
    made.add_column("UP", justify="right", no_wrap=True)
    made.add_column("CAUSE", overflow="fold")
    for line in lines:
        up = span(line.uptime_s) if line.uptime_s is not None else "-"
        made.add_row(line.id, local(line.at, "seconds")[:19], up, plain(line.cause))
    yield made


def whole(death: CrashReport) -> Iterable[RenderableType]:
    """Return everything that is known of one death."""
    yield Text.assemble(
        (death.service, "bold"), " died at ", (local(death.at), "bold"), f"  ({death.id})"
    )
    yield _under(_facts(death))
    if death.in_flight:
        more = death.in_flight_count - len(death.in_flight)
        title = f"calls in flight: {death.in_flight_count}"
        yield _section(title + (f", the last {len(death.in_flight)} here" if more else ""))
        yield _under(_in_flight(death.in_flight))
    if death.messages:
        calls = f"{death.calls} call{'s' if death.calls != 1 else ''}"
        yield _section(f"last messages: {len(death.messages)}, of {calls} in its life")
        yield _under(_messages(death.messages))
    if death.exception is not None and death.exception.traceback:
        yield _section(f"exception, in {death.exception.phase}")
        yield _lines(death.exception.traceback.rstrip().splitlines())
    if death.stacks:
        yield _section("stacks")
        yield _lines(_authors(death.stacks.rstrip().splitlines()))
    if death.log:
        lines = f"{len(death.log)} lines" if len(death.log) > 1 else "line"
        yield _section(f"log: its last {lines}, of {death.log_file}")
        yield _lines(death.log)
    if death.before:
        yield _section("what came before")
        yield _lines(map(_event, death.before))
    for problem in death.unknown:
        yield Text(f"not known: {plain(problem)}", overflow="fold")


def _facts(death: CrashReport) -> Table:
    policy = death.policy
    crashes = f"crash {policy.crashes} within {policy.period:g} s, {policy.intensity} are allowed"
    up = f" after {_long(death.uptime_s)}" if death.uptime_s is not None else ""
    used = None
    if death.user_s is not None and death.system_s is not None:
        used = f"{death.user_s + death.system_s:.2f} s of a processor"
        used += f" ({death.system_s:.2f} s in the kernel), {size(death.rss_bytes or 0)} at its peak"
    beat = f"{death.beat_age_s:.1f} s before" if death.beat_age_s is not None else None
    facts = [
        ("cause", plain(death.cause)),
        ("process", f"{death.pid or 'none'} (generation {death.generation}) {death.exit}{up}"),
        ("it was", death.state),
        ("then", policy.next + (f" ({crashes})" if policy.crashes and policy.intensity else "")),
        ("restarts", str(policy.restarts) if policy.restarts else None),
        ("used", used),
        ("last beat", beat),
        ("left behind", " ".join(map(str, death.left))),
        ("plugin", f"{death.plugin}, type {death.service_type}"),
    ]
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for key, value in facts:
        if value:
            made.add_row(key, Text(value))
    return made


def _in_flight(calls: list[InFlight]) -> "Grid":
    made = Grid("SINCE", "", "SERVICE", "METHOD", "BYTES", "FOR")
    for call in calls:
        method = call.method + (f", {call.items} items" if call.items else "")
        made.add(
            call.value,
            local(call.since)[11:23],
            _way(call.direction),
            call.service,
            method,
            str(call.size),
            _long(call.age_s),
        )
    return made


def _messages(messages: list[Message]) -> "Grid":
    made = Grid("TIME", "", "SERVICE", "METHOD", "BYTES", "KIND", "OUTCOME")
    for message in messages:
        made.add(
            message.value,
            local(message.time)[11:23],
            _way(message.direction),
            message.service,
            message.method,
            str(message.size),
            message.kind,
            message.outcome.replace("RemoteError", "raised"),
        )
    return made


class Grid:
    """Rows in columns, each with a value below it where there is one; names give way to width."""

    NAMES = (
        "SERVICE",
        "METHOD",
        "OUTCOME",
    )  # cut where the terminal is narrow, the longer one first

    def __init__(self, *titles: str) -> None:
        self._titles = titles
        self._rows: list[tuple[tuple[str, ...], str]] = []

    def add(self, value: str, *cells: str) -> None:
        """Add a row."""
        self._rows.append((tuple(map(plain, cells)), plain(value)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = [self._titles, *(cells for cells, _ in self._rows)]
        widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
        names = [n for n, title in enumerate(self._titles) if title in self.NAMES]
        while sum(widths) + 2 * (len(widths) - 1) > options.max_width:
            longest = max(names, key=lambda n: widths[n])
            if widths[longest] <= 8:
                break
            widths[longest] -= 1
        yield self._row(self._titles, widths, "dim")
        for cells, value in self._rows:
            yield self._row(cells, widths, "")
            if value:
                yield Padding(Text(value, overflow="fold"), (0, 0, 0, 2))

    def _row(self, cells: tuple[str, ...], widths: list[int], style: str) -> Text:
        row = Text(style=style, no_wrap=True, overflow="ellipsis")
        for title, cell, width in zip(self._titles, cells, widths, strict=True):
            text = Text(cell)
            text.truncate(width, overflow="ellipsis")
            text.align("right" if title == "BYTES" else "left", width)
            row.append_text(text).append("  ")
        row.rstrip()
        return row


def _long(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else span(seconds)


def _way(direction: str) -> str:
    return "from" if direction == "in" else "to"


def _section(title: str) -> RenderableType:
    return Padding(Text(title, "bold"), (1, 0, 0, 0))


def _under(part: RenderableType) -> RenderableType:
    return Padding(part, (0, 0, 0, 2))


def _lines(lines: Iterable[str]) -> RenderableType:
    return _under(Group(*(Text(plain(line), overflow="fold") for line in lines)))


def _authors(lines: Iterable[str]) -> Iterable[str]:
    """Leave out the frames below a worker's loop, which are garrison's own and always the same."""
    below = False
    for line in lines:
        if below and line.startswith("  File "):
            continue
        below = "/garrison/workers/main.py" in line and line.endswith(" in _loop")
        if not below:
            yield line


def _event(text: str) -> str:
    time, _, rest = text.partition(" ")
    return f"{local(time)[11:23]} {rest}"


def local(utc: str, precision: str = "milliseconds") -> str:
    """Return a record's time as people here read it, with their offset."""
    try:
        return datetime.fromisoformat(utc).astimezone().isoformat(" ", timespec=precision)
    except ValueError:
        return plain(utc)


def plain(text: str) -> str:
    """Return a text whose control characters do nothing to a terminal."""
    return "".join(c if c.isprintable() or c in "\t\n" else "�" for c in text.expandtabs(4))
