"""The socket of sd_notify(3), by which a command reports that it is ready, or lives.

Only the command's own processes are listened to.
"""

import array
import asyncio
import contextlib
import logging
import os
import secrets
import socket
import struct
from collections.abc import Callable

from garrison.workers.children.descendants import is_below

log = logging.getLogger(__name__)

MESSAGE_BYTES = 4096
DESCRIPTORS = 16  # that a message may carry; they are closed, which is what BARRIER=1 waits for
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
EXTEND_MOST_S = 3600.0


def fields_of(data: bytes) -> dict[str, str]:
    """Return the fields of a message: lines of NAME=VALUE."""
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        name, equals, value = line.partition("=")
        if equals and name.isidentifier():
            found[name] = value
    return found


class NotifySocket:
    """The socket; its address is for the environment of the command.

    Args:
        received: Called with the fields of each message.
    """

    def __init__(self, received: Callable[[dict[str, str]], None]) -> None:
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # Abstract: nothing is left behind, and the length of a path does not matter.
        self.address = f"@garrison-notify-{secrets.token_hex(8)}"
        self._socket.bind(f"\0{self.address[1:]}")
        self._loop.add_reader(self._socket, self._read)
        self._refused = False

    def close(self) -> None:
        """Close it."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        space = socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(4 * DESCRIPTORS)
        try:
            data, ancillary, _, _ = self._socket.recvmsg(MESSAGE_BYTES, space)
        except OSError:
            return
        pid, passed = 0, array.array("i")
        for level, kind, content in ancillary:
            if level != socket.SOL_SOCKET:
                continue
            if kind == socket.SCM_CREDENTIALS:
                pid = CREDENTIALS.unpack(content[: CREDENTIALS.size])[0]
            elif kind == socket.SCM_RIGHTS:
                passed.frombytes(content[: len(content) - len(content) % passed.itemsize])
        try:
            if is_below(pid, os.getpid()):
                self._received(fields_of(data))
            elif not self._refused:
                self._refused = True  # reported once: another program might send many
                log.warning("notify.refused pid=%d: it is none of the command's processes", pid)
        finally:
            for descriptor in passed:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
