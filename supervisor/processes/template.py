"""The template: a copy of the launcher, made when its imports were done, which forks the workers.

A page of memory is shared by all processes in which it was not written since the fork. The launcher
writes to its pages all the time, each time anew for each worker that was forked before. The
template only waits, so what a worker has for itself is what that worker has written.

The template forks twice. The process in between ends at once, so that the worker becomes a child of
the launcher, which is a subreaper: it is reaped, and its tree is ended, there.
"""

import contextlib
import errno
import gc
import os
import signal
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from multiprocess.context import ForkProcess

from garrison.ipc.system import heap, immortal, process_tree

from . import cgroups
from .fork import close_descriptors

REQUEST_BYTES = 16 * 1024  # of a cgroup's path
PID_BYTES = 8
NO_CGROUP = b"\0"
NAME = "template"

Task = Callable[[], object]
Target = Callable[[socket.socket], object]  # what a worker does, with the socket of its orders


class Template:
    """The template, as the launcher sees it.

    Args:
        keep: Descriptors that libraries have open, which workers keep.
        prepare: What it does itself, once, so that its workers need not.
        target: What a worker does.
    """

    def __init__(self, keep: set[int], prepare: Task, target: Target) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process: Any = ForkProcess(target=_run, args=(theirs, keep, prepare, target))
        try:
            self._process.start()
        except OSError:
            self._connection.close()
            raise
        finally:
            theirs.close()
        self.pid = int(self._process.pid)

    def fileno(self) -> int:
        """Return the descriptor of the connection to it."""
        return self._connection.fileno()

    def request(self, cgroup: Path | None, orders: socket.socket) -> None:
        """Request a worker; `answer` returns it.

        Args:
            cgroup: The worker's.
            orders: The socket that it gets.

        Raises:
            OSError: The template has ended.
        """
        request = NO_CGROUP if cgroup is None else os.fsencode(cgroup)
        socket.send_fds(self._connection, [request], [orders.fileno()])

    def answer(self) -> int:
        """Return the pid of the requested worker, which is a child of this process.

        Raises:
            ChildProcessError: The template has ended, or has not answered yet.
            OSError: No process can be forked.
        """
        answer = b""
        with contextlib.suppress(OSError):
            answer = self._connection.recv(PID_BYTES, socket.MSG_DONTWAIT)
        pid = int.from_bytes(answer, "little", signed=True) or -errno.ECHILD
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))  # its class is that of the number
        return pid

    def close(self) -> None:
        """End it, and reap it."""
        self._connection.close()
        self._process.kill()
        self._process.join()
        self._process.close()


def _run(connection: socket.socket, keep: set[int], prepare: Task, target: Target) -> NoReturn:
    """Fork workers as requested; end with the launcher."""
    signal.set_wakeup_fd(-1)
    close_descriptors(keep | {connection.fileno(), 0, 1, 2})
    process_tree.set_name(NAME)
    prepare()
    immortal.make_immortal()
    heap.settle()
    gc.freeze()
    with contextlib.suppress(OSError):
        while _serve(connection, target):
            pass
    os._exit(0)


def _serve(connection: socket.socket, target: Target) -> bool:
    """Answer one request; return False if the launcher has ended."""
    request, fds, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 1)
    if not request:
        return False
    try:
        pid = _fork_twice(connection, request, fds[0], target)
    except OSError as error:
        pid = -(error.errno or errno.EAGAIN)
    os.close(fds[0])
    connection.send(pid.to_bytes(PID_BYTES, "little", signed=True))
    return True


def _fork_twice(connection: socket.socket, request: bytes, orders: int, target: Target) -> int:
    """Return the pid of a worker, or the number of an error, negative."""
    reader, writer = os.pipe()
    between = process_tree.bare_fork()
    if between == 0:
        _fork_once(request, orders, target, (reader, writer, connection.fileno()))
    os.close(writer)
    answer = os.read(reader, PID_BYTES)  # empty if it was killed
    os.close(reader)
    os.waitpid(between, 0)  # from now on the launcher is the worker's parent
    return int.from_bytes(answer, "little", signed=True) or -errno.ECHILD


def _fork_once(request: bytes, orders: int, target: Target, fds: tuple[int, ...]) -> NoReturn:
    """Fork a worker, report its pid, and end.

    Args:
        request: Of the launcher.
        orders: The descriptor that the worker gets.
        target: What it does.
        fds: Those that it does not get; the second one is for its pid.
    """
    try:
        pid = os.fork()
    except OSError as error:
        pid = -(error.errno or errno.EAGAIN)
    if pid == 0:
        try:
            # Before anything else: a kill of the cgroup then reaches all of it.
            cgroups.enter(None if request == NO_CGROUP else Path(os.fsdecode(request)))
            for fd in fds:
                os.close(fd)
            target(socket.socket(fileno=orders))
        except BaseException:  # noqa: BLE001 (nothing above this function would report it)
            traceback.print_exc()
        os._exit(1)
    os.write(fds[1], pid.to_bytes(PID_BYTES, "little", signed=True))
    os._exit(0)
