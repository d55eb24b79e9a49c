"""Forks what reads a plugin for `garrison check`, so that it costs no imports.

It stands for the module `subprocess` there. A reader is forked when its descriptors and its session
are in place, and runs instead of the command. It is started where Python would not start the same.
"""

import os
import subprocess
import sys
from functools import partial
from typing import Any

from tests.support import forked_launcher
from tests.support.commands import same_python

from garrison.supervisor import reading
from garrison.workers.process import probe

ARGUMENTS = 3  # its command up to the module's name: python -P -m


def install() -> None:
    """Fork the readers of this process, a command."""
    setattr(reading, "subprocess", Forking())  # noqa: B010 - not exported


class Forking:
    """Starts readers as `subprocess` would."""

    PIPE, TimeoutExpired = subprocess.PIPE, subprocess.TimeoutExpired

    def Popen(self, command: list[str], **options: Any) -> "subprocess.Popen[Any]":
        """Start one."""
        if command[0] == sys.executable and same_python(options["env"], os.environ):
            options["preexec_fn"] = partial(_become, command, options)
        return subprocess.Popen(command, **options)


def _become(command: list[str], options: dict[str, Any]) -> None:
    """Read a plugin; never return."""
    (lifeline,) = options["pass_fds"]
    os.closerange(3, lifeline)
    os.closerange(lifeline + 1, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(options["env"])
    del sys.path[0]  # as -P does
    sys.argv[1:] = command[ARGUMENTS + 1 :]
    forked_launcher.forget_tests(probe)
    forked_launcher.leave(probe.main)
