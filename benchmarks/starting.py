"""Measure the start of a new host: `garrison init`, `up --detach`, and the first answer.

    .venv/bin/python benchmarks/starting.py [--json] [--rounds N]

Each round makes a host of its own as `garrison init` does, and starts it: once by `up --detach`
and then `call hello greet`, as a user types them; once by `up`, with a client that joins as soon as
there is a supervisor and calls `hello` as soon as it runs. The host's own events say how far it is
in between. Figures are medians, in milliseconds since the first command. Modules are compiled.
It leaves no process and no file behind.

Exit status: 0 where the first answer comes in time, 1 otherwise.
"""

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.host import running

ANSWER_S = 0.5  # target: from `up` to the first answer
COMMAND_S = 60.0
PROGRAM = str(Path(sys.executable).with_name("garrison"))
STEPS = {  # event of the host → what it is the end of
    "supervisor.started": "the supervisor runs",
    "plugin.read": "the last plugin is read",
    "preload.done": "they are preloaded",
    "supervisor.settled": "all services run",
}
DETACHED, TYPED, CLIENT = "`up --detach` returns", "`call` after it", "an answer to a client"


def command(home: Path, *words: str) -> None:
    """Run a command line of a host; raise CalledProcessError if it fails."""
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(
        [PROGRAM, "--home", str(home), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=environ,
        check=True,
        timeout=COMMAND_S,
    )


@contextlib.contextmanager
def new_host() -> Iterator[Path]:
    """Make the folder of a host as `garrison init` does; yield its config."""
    # Not under $TMPDIR: a socket's path has 107 bytes at most
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
        there = Path(folder) / "host"
        command(there / "home", "init", str(there))
        yield there / "config.toml"


def events(home: Path, began: float) -> dict[str, float]:
    """Return when each step was done, in seconds since a time of the wall clock."""
    found: dict[str, float] = {}
    for line in (home / "logs" / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] in STEPS:
            at = datetime.datetime.fromisoformat(event["time"]).timestamp()
            found[STEPS[event["event"]]] = at - began
    return found


def typed() -> dict[str, float]:
    """Return the figures of one host that is started in the background."""
    with new_host() as config:
        home = config.with_name("home")
        wall, began = time.time(), time.perf_counter()
        try:
            command(home, "up", "--detach", "-c", str(config))
            up = time.perf_counter() - began
            command(home, "call", "hello", "greet")
            answered = time.perf_counter() - began
            return {**events(home, wall), DETACHED: up, TYPED: answered}
        finally:
            command(home, "down")


async def joined() -> dict[str, float]:
    """Return the figure of one host whose client calls as soon as it can."""
    with new_host() as config:
        began = time.perf_counter()
        async with running(config, ["hello"]) as there:
            service = await there.client.get_service_load_promise("hello")
            await service.greet()
            return {CLIENT: time.perf_counter() - began}


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="every round's figures, as JSON")
    options = parser.parse_args()
    found: dict[str, list[float]] = defaultdict(list)
    typed()  # compiles what is not compiled
    for _ in range(options.rounds):
        for figures in (typed(), asyncio.run(joined())):
            for what, seconds in figures.items():
                found[what].append(seconds)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for what, values in found.items():
            print(f"{what:<26}{statistics.median(values) * 1e3:>7.0f} ms")
        print(f"target, at most           {ANSWER_S * 1e3:>7.0f} ms to an answer")
    return 0 if statistics.median(found[CLIENT]) <= ANSWER_S else 1


if __name__ == "__main__":
    sys.exit(main())
