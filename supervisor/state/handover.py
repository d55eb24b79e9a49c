"""Replaces this supervisor by another version in the same process: `garrison upgrade`."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Generator, Mapping, MutableMapping

import msgspec

from garrison.ipc.messages import BAD_BYTES
from garrison.supervisor.bus.router import BusRouter
from garrison.supervisor.config.load import Config
from garrison.supervisor.helpers import HelperProcesses
from garrison.supervisor.processes.early_launcher import HANDOVER
from garrison.supervisor.signals import blocked_at_start
from garrison.supervisor.tasks import Steps

QUIET_S = 0.1  # without a message on the bus: calls in flight have been answered
QUIET_MOST_S = 2.0  # until the exec, if the bus does not fall silent
PROGRAMS_MOST_S = 1.0  # of that; services that call each other do not fall silent on their own
CHECK_S = 30.0  # for a new version to show that it could take over


class Handover(msgspec.Struct):
    """What a supervisor passes to its successor in the same process."""

    locks: list[int] = []  # descriptors that hold the home's locks
    others: list[int] = []  # children of this process that do not belong to the host
    names: list[int] = []  # descriptors that hold the config's names
    terminal: bool = False  # the first supervisor was started at a terminal


def take_handover(environ: MutableMapping[str, str]) -> Handover:
    """Return what the predecessor left in the environment, and remove it there."""
    try:
        found = msgspec.json.decode(environ.pop(HANDOVER, "{}"), type=Handover)
        for lock in (*found.locks, *found.names):
            os.set_inheritable(lock, False)
    except (OSError, *BAD_BYTES):
        return Handover()
    return found


def supervisor_command(python: str, config: Config) -> list[str]:
    """Return the command line of a supervisor."""
    return [
        *(python, "-P", "-m", "garrison.supervisor.cli", "up"),
        *(word for path in config.paths for word in ("--config", str(path))),
        *("--home", str(config.host.home)),
    ]


class Upgrade:
    """The change to a successor.

    Args:
        environ: The environment that the successor gets.
        others: Pids of children of this process that are not the engine's.
        helpers: Tries the successor.
        bus: Messages on their way are forwarded before the exec.

    Attributes:
        successor: The interpreter of the successor; empty while there is none.
        environ: The environment of the successor.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        others: set[int],
        helpers: HelperProcesses,
        bus: BusRouter,
    ) -> None:
        self.environ, self._others, self._bus = dict(environ), others, bus
        self._helpers = helpers
        self.successor = ""

    def check_successor(self, python: str, config: Config) -> Generator[bool, None, str]:
        """Return why an interpreter's garrison could not take over; empty if it could.

        It is tried in a process of its own, with the environment of the successor except for the
        secrets. Nothing that runs has been changed yet.
        """
        # the former name of --check-takeover; every version knows it
        command = [*supervisor_command(python, config), "--prove"]
        return (yield from self._helpers.run(command, CHECK_S))

    def exec_successor(
        self,
        python: str,
        suspend_programs: Callable[[], None],
        suspend_calls: Callable[[], None],
        stop_loop: Callable[[], bool],
    ) -> Steps:
        """Have this process become a new supervisor as soon as its loop has ended.

        No service takes calls from now on, so that calls wait for the successor instead of being
        lost with this router. Programs learn it first, and workers once the bus is silent: a method
        that a program has called may need other services to answer.

        Args:
            python: The interpreter of the successor.
            suspend_programs: Publishes to programs that no service takes calls.
            suspend_calls: Publishes that no service takes calls.
            stop_loop: Ends the loop; returns False if the host is being stopped instead.
        """
        began = time.monotonic()
        suspend_programs()
        yield from self._until_quiet(began + PROGRAMS_MOST_S)
        suspend_calls()
        yield from self._until_quiet(began + QUIET_MOST_S)
        if stop_loop():
            self.successor = python

    def _until_quiet(self, until: float) -> Steps:
        """Wait until no message has been forwarded for a while."""
        forwarded = -1
        while time.monotonic() < until and forwarded != self._bus.carried:
            forwarded, soon = self._bus.carried, time.monotonic() + QUIET_S
            while time.monotonic() < soon:
                yield False

    def hand_over(self, locks: list[int], names: list[int], wake: int, terminal: bool) -> None:
        """Keep the locks and names, and leave pending signals to the successor.

        Args:
            locks: The home's.
            names: The config's, inheritable already.
            wake: The pipe with the signals that came before they were blocked.
            terminal: Whether the host was started at a terminal.
        """
        blocked = blocked_at_start()
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)  # pending ones outlive an exec
        with contextlib.suppress(BlockingIOError):
            for number in os.read(wake, 64):
                if number in blocked:
                    os.kill(os.getpid(), number)
        for lock in locks:
            os.set_inheritable(lock, True)
        handover = Handover(locks, sorted(self._others), names, terminal)
        self.environ[HANDOVER] = msgspec.json.encode(handover).decode()
