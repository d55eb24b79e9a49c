"""A launcher that is started before its supervisor is imported: both import at the same time.

It forks nothing, and is not at its path, until the supervisor has the locks of the home and sends
it a command. It ends if the supervisor ends before that. This module imports little: what comes
before it makes every start later.
"""

import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

from garrison.supervisor.config.passed_variables import is_passed_to_all

TYPE_CHECKING = False  # what comes before the launcher does without `typing`
if TYPE_CHECKING:
    from typing import Any

LAUNCHER = "garrison.supervisor.processes.launcher"  # the module that it is started as
EARLY = "early"  # the argument of such a launcher
HANDOVER = "GARRISON_HANDOVER"  # a variable: what a supervisor leaves its successor
NAME = "launcher-1.sock"  # of its socket: the first launcher's of a home


class EarlyLauncher:
    """The launcher of a host whose supervisor is being imported.

    Args:
        pid: Its pid.
        connection: To it.
        environment: Its own; its workers inherit it.

    Attributes:
        path: Of its socket, once it is known.
    """

    def __init__(self, pid: int, connection: socket.socket, environment: dict[str, str]) -> None:
        self.pid, self.connection, self.environment = pid, connection, environment
        self.pidfd = os.pidfd_open(pid)
        self.path = ""
        self._taken = False

    def configure(self, path: str, settings: bytes, log: int) -> None:
        """Send what it needs to know before it is used.

        Args:
            path: Of its socket.
            settings: `EarlySettings`, encoded.
            log: The descriptor of its log.
        """
        with contextlib.suppress(OSError):  # it has ended, which is noticed when it is taken
            socket.send_fds(self.connection, [settings], [log])
            self.path = path

    def take(self, path: str, environment: Mapping[str, str], limits: Sequence[int]) -> bool:
        """Return whether it is the launcher of this path and environment, and runs.

        It belongs to the caller then.

        Args:
            path: Of its socket.
            environment: Of a launcher.
            limits: Which limits of its supervisor it is given: they were set since it was started.
        """
        fits = self.path == path and self.environment == environment
        if self._taken or not fits or not _is_alive(self.pid) or not self._limit(limits):
            self.drop()
            return False
        self._taken = True
        return True

    def _limit(self, limits: Sequence[int]) -> bool:
        """Give it limits; return whether that is permitted."""
        try:
            for limit in limits:
                resource.prlimit(self.pid, limit, resource.getrlimit(limit))
        except OSError:
            return False
        return True

    def drop(self) -> None:
        """End it, unless it was taken."""
        if self._taken:
            return
        self._taken = True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self.connection.close()


def _is_alive(pid: int) -> bool:
    """Return whether a child runs; one that has ended is left to be reaped."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def begin(environ: Mapping[str, str]) -> EarlyLauncher | None:
    """Start a launcher; None where that is not possible: what is wrong is reported later.

    None as well for a supervisor that takes another one's place in the same process: that one's
    launcher runs.

    Args:
        environ: The environment of the supervisor, of which it is given what all services are.
    """
    if HANDOVER in environ:
        return None
    environment = {name: value for name, value in environ.items() if is_passed_to_all(name)}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        number = theirs.fileno()
        os.set_inheritable(number, True)
        words = [sys.executable, "-P", "-m", LAUNCHER, str(number), NAME, EARLY]
        pid = os.posix_spawn(
            sys.executable,
            words,
            environment,
            file_actions=_file_actions(number),
            setsid=True,
            setsigdef=[signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ],
        )
    except (OSError, NotImplementedError):  # also where the C library cannot make a session
        ours.close()
        return None
    finally:
        theirs.close()
    try:
        return EarlyLauncher(pid, ours, environment)
    except OSError:  # no descriptor is left for its pidfd
        ours.close()
        return None


def _file_actions(connection: int) -> "list[Any]":
    """Return what it does with its descriptors: it has its connection alone, and no log yet."""
    actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    actions += [(os.POSIX_SPAWN_OPEN, out, os.devnull, os.O_WRONLY, 0) for out in (1, 2)]
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        number = int(name)
        with contextlib.suppress(OSError):  # that of the listing itself
            if number > 2 and number != connection and os.get_inheritable(number):
                actions.append((os.POSIX_SPAWN_CLOSE, number))
    return actions
