"""Listens for other machines, and has new connections wait while few descriptors are left.

Whoever reaches a port may connect to it. Without a key a connection ends after two seconds, but
many of them could take all descriptors that this machine's own services and commands need. libzmq
accepts whatever comes, and to unbind would end the connections that there are. So the kernel drops
the packets that would begin further ones, by a filter on the listening socket; their senders send
them again.
"""

import ctypes
import resource
import socket
import struct
import time
from collections.abc import Callable
from math import inf
from typing import Any

import zmq

from garrison.ipc import sockets
from garrison.ipc.system.descriptors import free_descriptors

SHARE = 3  # a third of all descriptors is never for connections that wait to be let in
BACKLOG = 32  # connections that libzmq may accept before this process can look
AGAIN_S = 0.5  # before the next attempt to let connections in
LOG_S = 60.0  # between two events
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h
DROP = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0), 8)  # linux/filter.h: ret 0
FILTER = struct.pack("HL", 1, ctypes.addressof(DROP))


class TcpListeners:
    """The sockets that listen.

    Args:
        record: Records an event.

    Attributes:
        open: Whether connections are let in.
    """

    def __init__(self, record: Callable[..., Any]) -> None:
        self._record = record
        self._listening: list[socket.socket] = []
        self._monitors: list[zmq.Socket[bytes]] = []
        self.open = True
        self._log_at = 0.0

    def bind(self, router: "zmq.Socket[bytes]", host: str, port: int) -> str:
        """Have a ROUTER listen; return its endpoint.

        Args:
            router: The ROUTER.
            host: An address of this machine, in brackets if it is of IPv6.
            port: 0 is any that is free.

        Raises:
            OSError: The port cannot be had.
        """
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host.strip("[]"), port))
            listening.listen(BACKLOG)
            number = listening.getsockname()[1]
            self._monitors.append(router.get_monitor_socket(int(zmq.EVENT_ACCEPTED)))
            router.set(zmq.IPV6, family == socket.AF_INET6)
            router.set(zmq.USE_FD, listening.dup().detach())
            router.bind(f"tcp://{host}:{number}")
        except BaseException:
            listening.close()
            raise
        self._listening.append(listening)
        return f"tcp://{host}:{number}"

    def filenos(self) -> list[int]:
        """Return descriptors that are readable when connections were accepted."""
        return [int(monitor.get(zmq.FD)) for monitor in self._monitors]

    def turn(self) -> float:
        """Let no more connections in, or let them in again; return when to call this again."""
        for monitor in self._monitors:
            while int(monitor.get(zmq.EVENTS)) & sockets.POLLIN:
                monitor.recv_multipart(zmq.NOBLOCK)
        few = free_descriptors() < resource.getrlimit(resource.RLIMIT_NOFILE)[0] // SHARE
        now = time.monotonic()
        if few and self.open:
            self._filter(SO_ATTACH_FILTER, FILTER)
            if now >= self._log_at:
                self._log_at = now + LOG_S
                self._record("node.crowded", reason="few descriptors are left for connections")
        elif not few and not self.open:
            self._filter(SO_DETACH_FILTER, struct.pack("i", 0))
        self.open = not few
        return inf if self.open else now + AGAIN_S

    def close(self) -> None:
        """Listen and watch no more."""
        for monitor in self._monitors:
            monitor.close(linger=0)
        for listening in self._listening:
            listening.close()

    def _filter(self, option: int, value: bytes) -> None:
        for listening in self._listening:
            try:
                listening.setsockopt(socket.SOL_SOCKET, option, value)
            except OSError as error:  # a sandbox may forbid it
                self._record("node.crowded", reason=f"connections cannot be held: {error.strerror}")
