"""Measure services on nodes, beside Ray's named actors in the same run, and print a table.

    .venv/bin/python benchmarks/nodes.py [--ray PYTHON] [--quick] PART…

A host on one machine and two nodes on others: network, process and mount namespaces of this
benchmark's own, on a bridge, with keys. Needs root. `--ray` is a Python with Ray: its cluster runs
on the same machines, with token authentication and Ray's own settings otherwise, and a named actor
that is called from an actor of the head. Calls and kills are by turns; a machine that is lost or
cut off is so for both at once. Nothing else should run. The parts, all without a PART:

    calls      one after another, and 64 in flight; with Ray about 40 s
    kills      SIGKILL of the process, to the next answer; about 20 s
    loss       a machine is lost, to the next answer; with Ray about 90 s
    partition  likewise cut off; how long two incarnations ran; with Ray up to 200 s

Before them, 10 s for the host, and with Ray 20 to 60 s more; calls and kills share that.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.node_ray import NamedActor, named_actor
from benchmarks.node_site import Site, site
from benchmarks.peer_calls import WIDTH, PeerFailed

from garrison.ipc import with_timeout

LONG_S = 60.0
SETTLE_S = 0.5  # after a kill, before the next
QUIET_S = 5.0  # without a line, after which an incarnation has ended
TWINS_S = 170.0  # for which a cut-off machine is watched
KEEPING = ("calls", "kills")  # they leave the machines as they are
PARTS = ("calls", "kills", "loss", "partition")
OWN, RAY, HERE = "garrison, on a node", "Ray's named actor, on a node", "garrison, on this machine"


class Size(NamedTuple):
    """How much is measured: rounds, calls of each kind in one, kills."""

    rounds: int
    call: int
    flight: int
    kills: int


FULL, QUICK = Size(7, 500, 3_200, 9), Size(2, 200, 640, 2)


async def measure_calls(size: Size, there: Site, ray: NamedActor | None) -> Iterator[str]:
    """Measure calls by turns: to a service here, to one on a node, to Ray's actor."""
    service = there.host.client.get_service("caller")
    assert service is not None
    patient = with_timeout(service, LONG_S)
    found: dict[str, tuple[list[float], list[float]]] = {}
    for title, name in ((HERE, "here"), (OWN, "there")):
        await patient.small(name, size.call)  # not measured
        found[title] = [], []
    for _ in range(size.rounds):
        for title, name in ((HERE, "here"), (OWN, "there")):
            calls, flights = found[title]
            calls.append(statistics.median(await patient.small(name, size.call)))
            took = await patient.small_side_by_side(name, size.flight, WIDTH)
            flights.append(size.flight / took)
        if ray is not None:
            calls, flights = found.setdefault(RAY, ([], []))
            calls.append(float(await ray.ask(f"call {size.call}")))
            flights.append(float(await ray.ask(f"flight {size.flight}")))
    base = statistics.median(found[OWN][0]), statistics.median(found[OWN][1])
    rows = ["| | a call, p50 | 64 in flight |", "|---|---|---|"]
    for title, (calls, flights) in found.items():
        call, flight = statistics.median(calls), statistics.median(flights)
        beside = f"({call / base[0]:.2f})", f"({flight / base[1]:.2f})"
        rows.append(f"| {title} | {call * 1e6:,.0f} µs {beside[0]} | {flight:,.0f}/s {beside[1]} |")
    return iter(rows)


async def measure_kills(size: Size, there: Site, ray: NamedActor | None) -> Iterator[str]:
    """Measure by turns how long a killed service does not answer."""
    own, rays = list[float](), list[float]()
    by_address = {one.address: name for name, one in there.machines.items()}
    for _ in range(size.kills):
        node, pid = await there.where()
        began = _kill(there, node, pid)
        own.append(await there.answered() - began)
        await asyncio.sleep(SETTLE_S)
        if ray is not None:
            pid, address = await ray.ask("where")
            began = _kill(there, by_address[address], pid)
            rays.append(await ray.ask("answered") - began)
            await asyncio.sleep(SETTLE_S)
    words = f"killed, to the next answer: p50 {statistics.median(own) * 1000:.0f} ms"
    rows = [f"{words}, longest {max(own) * 1000:.0f} ms"]
    if rays:
        ratio = statistics.median(rays) / statistics.median(own)
        words = f"Ray's: p50 {statistics.median(rays) * 1000:.0f} ms ({ratio:.1f})"
        rows.append(f"{words}, longest {max(rays) * 1000:.0f} ms")
    return iter(rows)


def _kill(there: Site, node: str, pid: int) -> float:
    outside = there.machines[node].outside(pid)
    began = time.monotonic()
    os.kill(outside, signal.SIGKILL)
    return began


async def measure_loss(there: Site, ray: NamedActor | None, is_cut: bool) -> Iterator[str]:
    """Measure how long nothing answers after a machine was lost, and whether twins have run."""
    node, _ = await there.where()
    began = time.monotonic()
    if is_cut:
        there.machines[node].cut()
    else:
        there.machines[node].lose()
    what = "cut off" if is_cut else "lost"
    own, rays = await asyncio.gather(
        there.answered(), ray.ask("answered") if ray is not None else asyncio.sleep(0, None)
    )
    rows = [f"machine {what}, to the next answer: {own - began:.1f} s"]
    if rays is not None:
        ratio = (rays - began) / (own - began)
        rows.append(f"Ray's: {rays - began:.1f} s ({ratio:.1f})")
    if is_cut:
        rows.append(f"two incarnations ran for {twins(there.seen):.1f} s")
        if ray is not None:
            is_over = await _one_left(ray.seen, began + TWINS_S)
            words = "" if is_over else f" (both still ran {TWINS_S:.0f} s after the cut)"
            rows.append(f"Ray's: {twins(ray.seen):.1f} s{words}")
    return iter(rows)


async def _one_left(seen: Path, until: float) -> bool:
    """Wait until one incarnation is left; return False if that is not so in time."""
    while time.monotonic() < until:
        alive = [last for _, last in spans(seen) if last > time.monotonic() - QUIET_S]
        if len(alive) < 2:
            return True
        await asyncio.sleep(0.5)
    return False


def spans(seen: Path) -> list[tuple[float, float]]:
    """Return of each incarnation when it has run first and last, in order."""
    found: dict[str, tuple[float, float]] = {}
    for line in seen.read_text().splitlines():
        mark, _, at = line.partition(" ")
        with contextlib.suppress(ValueError):  # a line that is just being written
            found[mark] = found.get(mark, (float(at), 0.0))[0], float(at)
    return sorted(found.values())


def twins(seen: Path) -> float:
    """Return for how many seconds two incarnations have run at one time."""
    pairs = itertools.pairwise(spans(seen))
    return sum(max(last - first, 0.0) for (_, last), (first, _) in pairs)


async def measure(parts: Sequence[str], size: Size, python: str) -> None:
    """Measure parts on the same machines."""
    async with site() as there:
        node, _ = await there.where()
        async with named_actor(python, there, node) as ray:
            for part in parts:
                match part:
                    case "calls":
                        rows = await measure_calls(size, there, ray)
                    case "kills":
                        rows = await measure_kills(size, there, ray)
                    case _:
                        rows = await measure_loss(there, ray, part == "partition")
                print("\n".join(rows), flush=True)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--ray", default="", metavar="PYTHON")
    given = parser.parse_args()
    python = os.path.abspath(given.ray) if given.ray else ""  # noqa: PTH100 (a link stays one)
    print(machine.line(machine.describe()), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # ends the machines
    chosen = given.part or PARTS
    together = [one for one in chosen if one in KEEPING]
    for parts in [together, *([one] for one in chosen if one not in KEEPING)]:
        if not parts:
            continue
        try:
            asyncio.run(measure(parts, QUICK if given.quick else FULL, python))
        except PeerFailed as error:
            sys.exit(f"Ray has failed: {error}")


if __name__ == "__main__":
    main()
