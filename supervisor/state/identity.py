"""Names that a supervisor holds while it runs: no path, so nothing can remove them.

They are abstract Unix sockets: for the config's path as it was given, for the resolved path, and
for the folder of sockets, where commands look while that is being restored. The kernel releases
them with the process. A connection is answered with this supervisor's home. Any user can take any
name, so a name counts only if its holder is of this user.
"""

import contextlib
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterable

import msgspec

from garrison.ipc import socket_paths
from garrison.supervisor.config.load import Config

from .holders import ANSWER_S, Holder, config_names, find_holder, holder_of
from .home import AlreadyRunning

RETRY_S = 0.02  # while a holder is starting or ending
BACKLOG = 8


def check_alone(config: Config) -> None:
    """Raise AlreadyRunning if another supervisor runs this config."""
    holder = find_holder(config.paths)
    if holder is not None:
        raise _already_running(config, holder)


def _already_running(config: Config, holder: Holder) -> AlreadyRunning:
    home = str(config.host.home)
    if holder.home == home:
        return AlreadyRunning.of(home, str(holder.pid))
    stop = f"garrison --home {holder.home} down" if holder.home else "kill PID, where it runs"
    return AlreadyRunning(
        f"a supervisor already runs {config.shown} (pid {holder.pid or '?'}, home "
        f"{holder.home or 'unknown: it does not answer'}). With the home {home} each of its "
        f"services would run twice. Stop it with: {stop}, or allow a second one with: garrison up "
        "--another"
    )


class ConfigIdentity:
    """The names of a config, as far as this supervisor holds them.

    Args:
        config: The config.
        handed: Descriptors of the names that this process has held since before an upgrade.
    """

    def __init__(self, config: Config, handed: Iterable[int] = ()) -> None:
        self._config = config
        self._config_names = config_names(config.paths)
        self._names = [*self._config_names, socket_paths.run_name(config.host.run)]
        self._sockets: dict[bytes, socket.socket] = {}
        self._ready = select.epoll()
        for fd in handed:
            with contextlib.suppress(OSError):
                self._keep(socket.socket(fileno=fd))

    def _keep(self, listener: socket.socket) -> None:
        name = listener.getsockname()
        if name not in self._names:
            listener.close()
            return
        listener.set_inheritable(False)
        listener.setblocking(False)
        self._sockets[name] = listener
        self._ready.register(listener, select.EPOLLIN)

    def claim(self, alone: bool) -> None:
        """Take the names.

        Args:
            alone: Whether this is to be the only host of the config.

        Raises:
            AlreadyRunning: Another supervisor has one, and this is to be the only host.
        """
        until = time.monotonic() + ANSWER_S
        while True:
            self.take_free()
            taken = [name for name in self._missing() if name in self._config_names]
            if not taken or not alone:
                return
            holder = next(filter(None, map(holder_of, taken)), None)
            if holder is not None:
                self.close()
                raise _already_running(self._config, holder)
            if time.monotonic() >= until:  # another user's process has it
                return
            time.sleep(RETRY_S)

    def take_free(self) -> None:
        """Take the names that no process has."""
        for name in self._missing():
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                listener.bind(name)
                listener.listen(BACKLOG)
                self._keep(listener)
            except OSError as error:
                listener.close()
                if error.errno != errno.EADDRINUSE:  # the kernel has no such names here
                    self._names.remove(name)

    def _missing(self) -> list[bytes]:
        return [name for name in self._names if name not in self._sockets]

    def fileno(self) -> int:
        """Return a descriptor that is readable when `answer` has something to do."""
        return self._ready.fileno()

    def answer(self) -> None:
        """Send this supervisor's home to every process of this user, or root, that connected."""
        own = Holder(pid=os.getpid(), home=str(self._config.host.home))
        for listener in self._sockets.values():
            with contextlib.suppress(BlockingIOError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                        if struct.unpack("3i", peer)[1] in {os.geteuid(), 0}:
                            connection.setblocking(False)
                            connection.send(msgspec.json.encode(own))

    def hand_over(self) -> list[int]:
        """Return the descriptors for the successor in this process, which inherits them."""
        for listener in self._sockets.values():
            listener.set_inheritable(True)
        return [listener.fileno() for listener in self._sockets.values()]

    def close(self) -> None:
        """Release the names."""
        self._ready.close()
        for listener in self._sockets.values():
            listener.close()
        self._sockets.clear()
