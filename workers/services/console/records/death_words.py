"""What a crash report is on a page: facts in words, stacks by thread, how often the same. Pure.

Durations are seconds, sizes bytes.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ..words import size, span
from .line_words import clean

Report = Mapping[str, Any]  # as `garrison death ID --json` has it

AROUND = timedelta(minutes=5), timedelta(seconds=30)  # of the logs around a death
THREAD = re.compile(r"^(Current thread|Thread) (0x[0-9a-f]+)(.*)$")
FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+)(?:,)? in (.*)$')
# Garrison's own frames, and those of the library that forks workers
OWN = re.compile(r"/garrison/(?!workers/services/)|-packages/multiprocess/|^<frozen ")


class Thread(msgspec.Struct, frozen=True):
    """The stack of one thread, the most recent call first.

    Attributes:
        title: Which thread.
        lines: Its frames, without garrison's own.
        own: How many of garrison's own are left out.
        is_main: It runs the loop.
    """

    title: str
    lines: list[str]
    own: int
    is_main: bool


class Death(msgspec.Struct, frozen=True):
    """A row of the list."""

    id: str
    service: str
    at: str
    cause: str
    kind: str
    up: str
    generation: int
    alike: int  # with the same service and cause, in the list


def listed(deaths: Sequence[Report]) -> list[Death]:
    """Return the rows of a list of deaths, the latest first."""
    alike = Counter((one["service"], one["cause"]) for one in deaths)
    return [
        Death(
            str(one["id"]),
            str(one["service"]),
            str(one["at"]),
            clean(str(one["cause"])),
            str(one["kind"]),
            span(one.get("uptime_s")),
            int(one.get("generation") or 0),
            alike[one["service"], one["cause"]],
        )
        for one in reversed(deaths)
    ]


def facts(report: Report) -> list[tuple[str, str]]:
    """Return the facts of a report, as pairs of a term and a text."""
    policy = report.get("policy") or {}
    up = f" after {span(report['uptime_s'])}" if report.get("uptime_s") is not None else ""
    pid = report.get("pid") or "none"
    found = [
        ("Process", f"pid {pid}, incarnation {report.get('generation')}: {report.get('exit')}{up}"),
        ("It was", str(report.get("state") or "")),
        ("Then", _next(policy)),
        ("Restarts", str(policy.get("restarts") or "")),
        ("Started", str(report.get("began") or "")),
        ("Used", _usage(report)),
        (
            "Last heartbeat",
            f"{span(report['beat_age_s'])} before" if report.get("beat_age_s") else "",
        ),
        ("Left behind", ", ".join(map(str, report.get("left") or ()))),
        ("Plugin", f"{report.get('plugin')}, type {report.get('service_type')}"),
    ]
    return [(term, clean(text)) for term, text in found if text]


def _next(policy: Mapping[str, Any]) -> str:
    text = str(policy.get("next") or "")
    if policy.get("crashes") and policy.get("intensity"):
        allowed = f"{policy['intensity']} are allowed"
        text += f" (crash {policy['crashes']} within {policy['period']:g} s, {allowed})"
    return text


def _usage(report: Report) -> str:
    user, system = report.get("user_s"), report.get("system_s")
    if user is None or system is None:
        return ""
    peak = size(report.get("rss_bytes") or 0)
    return (
        f"{user + system:.2f} s of a processor ({system:.2f} s in the kernel), {peak} at its peak"
    )


def threads_of(stacks: str) -> list[Thread]:
    """Return the threads of a report's stacks, the one that runs the loop first."""
    found = [_thread(lines) for lines in _by_thread(stacks.splitlines())]
    return sorted(found, key=lambda one: not one.is_main)


def _by_thread(lines: Iterable[str]) -> Iterator[list[str]]:
    current = list[str]()
    for line in lines:
        if THREAD.match(line) and current:
            yield current
            current = []
        if line.strip():
            current.append(line)
    if current:
        yield current


def _thread(lines: list[str]) -> Thread:
    head = THREAD.match(lines[0])
    frames = lines[1:] if head else lines
    kept, own, is_own = list[str](), 0, False
    for line in frames:
        if frame := FRAME.match(line):
            is_own = OWN.search(frame[1]) is not None
            own += is_own
        if not is_own:
            kept.append(clean(line))
    is_main = head is not None and head[1] == "Current thread"
    title = "the thread that was running" if is_main else f"thread {head[2]}" if head else "stack"
    return Thread(title, kept, own, is_main)


def logs_around(service: str, at: str) -> dict[str, str]:
    """Return the parameters of the logs around a death; none if its time is none."""
    try:
        moment = datetime.fromisoformat(at).astimezone(UTC)
        since, until = moment - AROUND[0], moment + AROUND[1]
    except (ValueError, OverflowError):
        return {"name": service}
    form = "%Y-%m-%dT%H:%M:%SZ"
    return {"name": service, "since": since.strftime(form), "until": until.strftime(form)}


def moment(at: str) -> str:
    """Return the UTC time of day of a recorded time, with milliseconds."""
    return at[11:23] if len(at) > 19 else at
