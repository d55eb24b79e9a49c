"""Forks the supervisor that `garrison up --detach` starts, so that it costs no imports.

It stands for the module `subprocess` there. A fork has the session, the descriptors and the command
in /proc that a started supervisor has.
"""

import os
import subprocess
import sys
from typing import Any, Never

from tests.support import forked_launcher
from tests.support.proc import MARK, NO_MARK

from garrison.supervisor import cli
from garrison.supervisor.cli import host

WORDS = 4  # of its command before those of `garrison`: python -P -m garrison.supervisor.cli


def install() -> None:
    """Fork what this process, a command, starts in the background."""
    setattr(host, "subprocess", Forking())  # noqa: B010 - not exported


class Forking:
    """Starts supervisors as `subprocess` would."""

    DEVNULL = subprocess.DEVNULL

    def Popen(self, command: list[str], **options: Any) -> "ForkedSupervisor":
        """Start one."""
        pid = os.fork()
        if not pid:
            _become(command, options["stdout"].fileno())
        return ForkedSupervisor(pid)


class ForkedSupervisor:
    """One that runs.

    Attributes:
        returncode: None while it runs.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal; None if it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def _become(command: list[str], output: int) -> Never:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, fd in enumerate((nothing, output, output)):
        os.dup2(fd, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.argv[1:] = command[WORDS:]
    forked_launcher.show_as(command, os.environ.get(MARK, NO_MARK))
    forked_launcher.install()
    forked_launcher.leave(cli.main)
