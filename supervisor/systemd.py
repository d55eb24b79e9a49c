"""Reports readiness, state and life to systemd: sd_notify(3). Times are monotonic seconds.

A supervisor that no unit of `Type=notify` has started reports nothing. Nothing here waits, but for
a moment before this process becomes another version: what systemd does not read is sent again.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterable, Mapping
from math import inf

from garrison.ipc.messages import State
from garrison.supervisor.lifecycle.services import Service

NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
LOOK_S = 1.0  # between two looks whether the status has changed
EXTEND_EACH_S = 5.0  # between two extensions, while the host starts or stops
EXTENDED_S = 30.0  # for which one extension holds
AGAIN_S = 0.1  # before what systemd did not read is sent again
LAST_S = 0.2  # for the last report before this process becomes another program
NAMED_MOST = 3  # services that the status names


class Systemd:
    """The connection to systemd, if there is one.

    Args:
        environ: The supervisor's.

    Attributes:
        due: When to call `turn`; never, without systemd.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get(NOTIFY_SOCKET, ""))
        self._socket: socket.socket | None = None
        self._watchdog = _watchdog(environ)
        self._alive_at = self._extend_at = 0.0
        self._status = ""
        self._unread: list[str] = []  # lines, of a handful of kinds
        self.due = inf
        if self._address:
            with contextlib.suppress(OSError):
                kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                self._socket = socket.socket(socket.AF_UNIX, kind)
                self.due = 0.0

    def turn(self, now: float, services: Iterable[Service], settling: bool) -> None:
        """Report what is due: life, the status, and that a start or a stop takes longer.

        Args:
            now: Monotonic seconds.
            services: The services.
            settling: Whether the host is on its way up or down.
        """
        if self._socket is None:
            return
        lines, self._unread = self._unread, []
        self.due = now + LOOK_S
        if self._watchdog:
            if now >= self._alive_at:
                lines.append("WATCHDOG=1")
                self._alive_at = now + self._watchdog / 3
            self.due = min(self.due, self._alive_at)
        if settling and now >= self._extend_at:
            lines.append(f"EXTEND_TIMEOUT_USEC={int(EXTENDED_S * 1e6)}")
            self._extend_at = now + EXTEND_EACH_S
        status = status_line(services)
        if status != self._status:
            self._status = status
            lines.append(f"STATUS={status}")
        if not self._send(lines):
            self._unread = [line for line in lines if not line.startswith("WATCHDOG")]
            self._alive_at, self.due = 0.0, now + AGAIN_S

    def ready(self) -> None:
        """Report that every service that was to be started runs, or was given up."""
        self._report("READY=1")

    def stopping(self) -> None:
        """Report that the host stops."""
        self._report("STOPPING=1")
        self._extend_at = 0.0

    def reloading(self) -> None:
        """Report that another version takes over in this process; it reports that it is ready."""
        if self._socket is not None:
            self._socket.settimeout(LAST_S)
        self._send(["RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"])

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket, self.due = None, inf

    def _report(self, line: str) -> None:
        if self._socket is not None and not self._send([line]):
            self._unread.append(line)
            self.due = 0.0

    def _send(self, lines: list[str]) -> bool:
        """Send lines as one report; return False if systemd does not read at the moment."""
        if self._socket is not None and lines:
            try:
                self._socket.sendto("\n".join(lines).encode(), self._address)
            except (BlockingIOError, TimeoutError):
                return False
            except OSError:  # the address is gone, or was none
                pass
        return True


def status_line(services: Iterable[Service]) -> str:
    """Return what `systemctl status` shows: how many services run, and which wanted ones do not."""
    wanted = [one for one in services if one.child.wanted]
    running = sum(one.state is State.RUNNING for one in wanted)
    others = [
        f"{one.name} is {one.state.value}" for one in wanted if one.state is not State.RUNNING
    ]
    text = f"{running} of {len(wanted)} services run"
    if others:
        more = len(others) - NAMED_MOST
        text += f": {', '.join(others[:NAMED_MOST])}{f' and {more} more' if more > 0 else ''}"
    return text


def _address(name: str) -> str:
    """Return the address of systemd's socket; "" if there is none of a kind that is supported."""
    if name.startswith("@"):
        return f"\0{name[1:]}"
    return name if name.startswith("/") else ""


def _watchdog(environ: Mapping[str, str]) -> float:
    """Return the seconds within which systemd expects a sign of life; 0.0: none is expected."""
    if environ.get(WATCHDOG_PID, str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return max(int(environ.get(WATCHDOG_USEC, "0")) / 1e6, 0.0)
    except ValueError:
        return 0.0
