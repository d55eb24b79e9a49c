"""Samples from what the host shows, few from many, and what a chart is made of. Pure."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isnan, nan
from typing import Any

from .ring import Sample

Rates = Mapping[str, tuple[float, float | None, float | None]]  # NAME → calls/s, p50, p99
POINTS_MOST = 600  # of a chart
STATES = ("running", "starting", "initializing", "stopping")


def samples(rows: Mapping[str, Mapping[str, Any]], rates: Rates, at: int) -> dict[str, Sample]:
    """Return a sample of each service.

    Args:
        rows: As `status` has them.
        rates: Of calls to services.
        at: The time, in Unix seconds.
    """
    found = dict[str, Sample]()
    for name, row in rows.items():
        calls, p50, p99 = rates.get(name, (0.0, None, None))
        live = bool(row["pid"])
        found[name] = Sample(
            at,
            int(row["generation"]) % 2**32 if live else 0,
            int(row["rss_bytes"]) if live else 0,
            float(row["cpu_percent"]) if live else 0.0,
            calls,
            nan if p50 is None else p50,
            nan if p99 is None else p99,
        )
    return found


def summed(many: Sequence[Sample]) -> Sample:
    """Return one sample of several: the mean of those with a process, the worst durations."""
    live = [one for one in many if one.generation]
    last = many[-1]
    if not live:
        return Sample(last.at)
    count = len(live)
    return Sample(
        last.at,
        live[-1].generation,
        sum(one.memory for one in live) // count,
        sum(one.cpu for one in live) / count,
        sum(one.calls for one in many) / len(many),
        _worst([one.p50 for one in live]),
        _worst([one.p99 for one in live]),
    )


def thinned(found: Sequence[Sample], most: int = POINTS_MOST) -> list[Sample]:
    """Return at most so many samples, each of neighbours."""
    if len(found) <= most:
        return list(found)
    each = -(-len(found) // most)
    return [summed(found[start : start + each]) for start in range(0, len(found), each)]


def columns(found: Sequence[Sample], step: int) -> dict[str, list[float | int | None]]:
    """Return what a chart is made of: times, and a list for each line; None is a gap.

    Args:
        found: By time.
        step: Seconds between two samples; where more are missing, there is a gap.
    """
    lines: dict[str, list[float | int | None]] = {
        key: [] for key in ("at", "memory", "cpu", "calls", "p50", "p99")
    }
    before = 0
    for one in found:
        if before and one.at - before > 3 * step:
            _append(lines, before + step, [None] * 5)
        live = one.generation > 0
        values = (one.memory, one.cpu, one.calls, one.p50, one.p99)
        _append(
            lines,
            one.at,
            [None if not live or isnan(value) else _short(value) for value in values],
        )
        before = one.at
    return lines


def summary(found: Sequence[Sample]) -> dict[str, Any]:
    """Return a chart in numbers: the last and the largest memory, the mean CPU, restarts."""
    live = [one for one in found if one.generation]
    if not live:
        return {}
    largest = max(live, key=lambda one: one.memory)
    times = [one.p99 for one in live if not isnan(one.p99)]
    return {
        "memory": live[-1].memory,
        "memory_first": live[0].memory,
        "memory_most": largest.memory,
        "memory_most_at": largest.at,
        "cpu": sum(one.cpu for one in live) / len(live),
        "cpu_most": max(one.cpu for one in live),
        "calls": sum(one.calls for one in live) / len(live),
        "p99_most": max(times) if times else None,
        "restarts": sum(one.generation != two.generation for one, two in pairwise(live)),
        "since": found[0].at,
    }


def sparkline(values: Sequence[int], width: int, height: int) -> str:
    """Return the points of a small line of values, for an SVG; empty for fewer than two."""
    if len(values) < 2:
        return ""
    least, most = min(values), max(values)
    room = max(most - least, most // 20, 1)  # a line that hardly moves looks flat
    step = width / (len(values) - 1)
    return " ".join(
        f"{index * step:.1f},{height - 1 - (value - least) / room * (height - 2):.1f}"
        for index, value in enumerate(values)
    )


def _append(lines: dict[str, list[float | int | None]], at: int, values: Sequence[Any]) -> None:
    lines["at"].append(at)
    for key, value in zip(("memory", "cpu", "calls", "p50", "p99"), values, strict=True):
        lines[key].append(value)


def _short(value: float) -> float | int:
    return value if isinstance(value, int) else float(f"{value:.4g}")


def _worst(values: Sequence[float]) -> float:
    return max((one for one in values if not isnan(one)), default=nan)
