"""Measure garrison beside its peers, by turns in one run, and print the tables of the docs.

    .venv/bin/python benchmarks/peers.py [--quick] [--only PEER …] [--part PART] [--venvs FOLDER]

Calls: raw pyzmq, NATS, aiohttp on a Unix socket, RPyC, Pyro5, managers of multiprocessing, gRPC and
Ray actors, each a program in `programs/peers/` with one caller and one callee. Restarts, starts and
the status command: supervisord, pm2 and circus, all with the same program. Each peer is installed
in a virtual environment of its own (pm2 by npm) from the package registries; `--venvs` keeps them
for the next run. Traffic stays on loopback and Unix sockets. Nothing else should run.

A round measures each peer once; figures are medians over the rounds. Measuring ends within nine
minutes; what is installed the first time comes before that.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import statistics
import sys
import tempfile
import textwrap
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine, peer_managers
from benchmarks.peer_calls import CALL_PEERS, Caller, PeerFailed, garrison_caller, peer_caller
from benchmarks.peer_managers import Manager
from benchmarks.venvs import NotInstalled, Venvs

GARRISON = "garrison"
DIRECT, ROUTED = "garrison, direct route", "garrison, through the supervisor"
CALLS_S, MANAGERS_S = 210.0, 300.0  # no further round begins if it would last longer


class Size(NamedTuple):
    """How much is measured: rounds at most, and calls of each kind in a round; kills."""

    rounds: int
    call: int
    flight: int
    large: int
    kills: int


FULL, QUICK = Size(9, 1000, 12_800, 40, 3), Size(2, 500, 6_400, 16, 2)
Figures = dict[str, dict[str, list[float]]]  # peer → what → a figure of each round


async def install(only: list[str], venvs: Venvs) -> tuple[dict[str, str], dict[str, Manager]]:
    """Install the peers, before anything is measured.

    Returns:
        The Python of each peer whose calls are measured, and the managers, by name.
    """
    pythons: dict[str, str] = {}
    managers: dict[str, Manager] = {}
    for peer in (one for one in CALL_PEERS if one.name in only):
        with _reported(peer.name):
            pythons[peer.name] = await venvs.python(Path(peer.program).stem, peer.packages)
    for name, prepare in peer_managers.MANAGERS.items():
        if name in only or name.startswith(GARRISON):
            with _reported(name):
                managers[name] = await prepare(venvs)
    return pythons, managers


async def measure_calls(size: Size, pythons: Mapping[str, str]) -> Figures:
    """Measure the calls of all peers by turns."""
    found: Figures = defaultdict(lambda: defaultdict(list))
    async with contextlib.AsyncExitStack() as stack:
        callers: dict[str, Caller] = {}
        for peer in (one for one in CALL_PEERS if one.name in pythons):
            with _reported(peer.name):
                started = peer_caller(peer, pythons[peer.name])
                callers[peer.name] = await stack.enter_async_context(started)
        for name in (DIRECT, ROUTED):
            callers[name] = await stack.enter_async_context(garrison_caller(name == DIRECT))
        for _ in _rounds(size.rounds, CALLS_S):
            for what in ("call", "flight", "large"):
                for name, caller in list(callers.items()):
                    with _reported(name):
                        value = await _or_dropped(callers, name, caller(what, getattr(size, what)))
                        found[name][what].append(value)
    return found


async def _or_dropped(callers: dict[str, Caller], name: str, measuring: Awaitable[float]) -> float:
    """Return a figure. A peer that fails is measured no more."""
    try:
        return await measuring
    except PeerFailed:
        del callers[name]
        raise


async def measure_managers(size: Size, managers: Mapping[str, Manager]) -> Figures:
    """Measure restarts, starts and the status command of all managers by turns."""
    found: Figures = defaultdict(lambda: defaultdict(list))
    failed: set[str] = set()
    for _ in _rounds(size.rounds, MANAGERS_S):
        for name in [name for name in managers if name not in failed]:
            try:
                figures = await peer_managers.measured(managers[name], size.kills)
            except (TimeoutError, OSError) as error:
                failed.add(name)
                print(f"{name}: left out from here: {error!r}", file=sys.stderr)
                continue
            for what, value in figures.items():
                found[name][what].append(value)
    return found


def _rounds(most: int, seconds: float) -> Iterator[int]:
    """Yield the numbers of rounds: one at least, then as many as fit into the time."""
    began = time.monotonic()
    for number in range(most):
        longest = (time.monotonic() - began) / number if number else 0.0
        if time.monotonic() - began + longest > seconds:
            return
        yield number


@contextlib.contextmanager
def _reported(name: str) -> Iterator[None]:
    try:
        yield
    except (NotInstalled, PeerFailed) as error:
        print(f"{name}: left out: {error}", file=sys.stderr)


COLUMNS: Mapping[
    str, tuple[str, Callable[[float], str]]
] = {  # what → its head, and how its figure is shown
    "call": ("a call, p50", lambda value: f"{value * 1e6:,.0f} µs"),
    "flight": ("64 in flight", lambda value: f"{value:,.0f}/s"),
    "large": ("1 MiB there and back", lambda value: f"{value / 1e6:,.0f} MB/s"),
    "restart": ("SIGKILL to its next hello, p50", lambda value: f"{value * 1e3:,.0f} ms"),
    "start": (f"{peer_managers.COUNT} programs started", lambda value: f"{value:,.2f} s"),
    "status": ("its status command", lambda value: f"{value * 1e3:,.0f} ms"),
}


def table(found: Figures) -> str:
    """Return figures as a table, with each one's ratio to that of garrison's first row."""
    first = next(name for name in found if name.startswith(GARRISON))
    whats = list(found[first])
    lines = ["| | " + " | ".join(COLUMNS[what][0] for what in whats) + " |"]
    lines.append("|---|" + "---|" * len(whats))
    ours = {what: statistics.median(found[first][what]) for what in whats}
    for name, figures in found.items():
        cells = []
        for what in whats:
            if not figures.get(what):
                cells.append("")
                continue
            value = statistics.median(figures[what])
            ratio = "" if name == first else f" ({value / ours[what]:.2f})"
            cells.append(COLUMNS[what][1](value) + ratio)
        shown = f"**{name}**" if name.startswith(GARRISON) else name
        lines.append(f"| {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


async def main() -> int:
    """Measure the requested parts, and print them."""
    names = [peer.name for peer in CALL_PEERS] + [
        name for name in peer_managers.MANAGERS if not name.startswith(GARRISON)
    ]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", action="append", choices=names, help="this peer; may be repeated")
    parser.add_argument("--part", choices=("calls", "managers"), help="this table alone")
    parser.add_argument("--venvs", type=Path, help="where peers are installed; kept")
    parser.add_argument("--json", action="store_true", help="every round's figures, as JSON")
    options = parser.parse_args()
    only, size = options.only or names, QUICK if options.quick else FULL
    here = machine.describe()
    with tempfile.TemporaryDirectory(prefix="bench-venvs-", dir="/tmp") as folder:
        venvs = Venvs(options.venvs or Path(folder))
        pythons, prepared = await install(only, venvs)
        tables: dict[str, Figures] = {}
        if options.part != "managers":
            tables["calls"] = await measure_calls(size, pythons)
        if options.part != "calls":
            tables["managers"] = await measure_managers(size, prepared)
    if options.json:
        print(json.dumps({"machine": here, **tables}, indent=2))
        return 0
    for found in tables.values():
        rounds = max(len(one) for figures in found.values() for one in figures.values())
        print(
            f"{table(found)}\n\nIn brackets: of garrison's first row. Medians of {rounds} rounds.\n"
        )
    print(textwrap.fill(machine.line(here), 80))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(asyncio.run(main()))
