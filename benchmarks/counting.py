"""Measure what it costs to count calls, and what `garrison top` costs.

    .venv/bin/python benchmarks/counting.py [--rounds N] [--seconds S]

Calls in flight with counting and without, by turns in one host: each pair of rounds is one ratio,
and the figure is their median, of calls a second and of the caller's processor time. Then `top`
runs for S seconds on a terminal of 80 columns, beside 50 services of which each calls another: the
figures are its processor time and the supervisor's, of one core, with and without it.

Exit status: 0 where both reach their target, 1 otherwise.
"""

import argparse
import asyncio
import fcntl
import os
import pty
import statistics
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import psutil

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.host import Host, host

from garrison.ipc import with_timeout

COUNTING_MOST, TOP_MOST = 0.03, 0.05  # targets
WIDTH, CALLS = 64, 10_000
SERVICES = 50
LONG_S = 300.0
PACE = 20  # calls a second of each service, while top runs


async def main() -> int:
    """Measure both; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40, help="pairs of rounds")
    parser.add_argument("--seconds", type=float, default=30.0, help="of top")
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}")
    wall, used = await counting(options.rounds)
    print(f"counting: {wall:+.1%} of the time, {used:+.1%} of the caller's processor time")
    seen, without, beside = await top(options.seconds)
    print(
        f"top: {seen:.1%} of a core; the supervisor {without:.1%} without it, {beside:.1%} beside"
    )
    print(f"load {os.getloadavg()[0]:.1f}")
    return 0 if used <= COUNTING_MOST and seen <= TOP_MOST else 1


async def counting(rounds: int) -> tuple[float, float]:
    """Return the share that counting adds to the time, and to the caller's processor time."""
    walls: list[float] = []
    used: list[float] = []
    async with host({"echo": "echo", "counted": "counted"}) as there:
        found = there.client.get_service("counted")
        assert found is not None
        caller = with_timeout(found, LONG_S)
        await caller.start_counts()
        await caller.side_by_side("echo", CALLS, WIDTH, True)
        for number in range(rounds):
            pair = {}
            for on in (number % 2 == 0, number % 2 == 1):  # what is first has no advantage
                pair[on] = await caller.side_by_side("echo", CALLS, WIDTH, on)
            walls.append(pair[True][0] / pair[False][0] - 1)
            used.append(pair[True][1] / pair[False][1] - 1)
    return statistics.median(walls), statistics.median(used)


async def top(seconds: float) -> tuple[float, float, float]:
    """Return the cores that `top`, and the supervisor without it and beside it, take."""
    names = {f"s{n:02}": "counted" for n in range(SERVICES)}
    async with host(names | {"echo": "echo"}) as there:
        pid = (await there.client.order("status"))["supervisor"]["pid"]
        calling = asyncio.create_task(_call_always(there, list(names)))
        await asyncio.sleep(5.0)
        without = await _cores(pid, seconds)
        process, leader = _start_top(there)
        try:
            await asyncio.sleep(3.0)  # its imports are not what it costs
            cores = await asyncio.gather(_cores(process.pid, seconds), _cores(pid, seconds))
            if process.poll() is not None:
                raise RuntimeError(f"top has ended with {process.returncode}")
        finally:
            process.terminate()
            process.wait()
            os.close(leader)
            calling.cancel()
    return cores[0], without, cores[1]


async def _call_always(there: Host, names: list[str]) -> None:
    found = [there.client.get_service(name) for name in names]
    callers = [with_timeout(one, LONG_S) for one in found if one is not None]
    await asyncio.gather(*(one.start_counts() for one in callers))
    while True:
        await asyncio.gather(
            *(one.side_by_side("echo", PACE, 1, True) for one in callers), asyncio.sleep(1.0)
        )


def _start_top(there: Host) -> tuple["subprocess.Popen[bytes]", int]:
    """Start `top` on a terminal that is read."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 80, 0, 0))
    command = [sys.executable, "-m", "garrison.supervisor.cli", "--home", str(there.home), "top"]
    process = subprocess.Popen(
        command,
        env={**os.environ, "TERM": "xterm"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)

    def read() -> None:
        try:
            while os.read(leader, 65_536):
                pass
        except OSError:  # it has ended
            return

    threading.Thread(target=read, daemon=True).start()
    return process, leader


async def _cores(pid: int, seconds: float) -> float:
    """Return how much of one core a process takes."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    await asyncio.sleep(seconds)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / seconds


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
