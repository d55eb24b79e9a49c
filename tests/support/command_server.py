"""Runs `garrison` commands for a test session in forked children, so that each costs no imports.

A child is a process of its own, with its own descriptors, environment, directory and exit; only
the imports were done before. It has the server's environment in /proc, so no mark: the requester
waits for its end.

A request is one packet on the socket that is standard input: JSON with `argv`, `cwd` and `env`, and
the descriptors for standard input, output, error and the report. The report is the child's pid, and
its exit code once it has ended, a line each.
"""

import array
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import select
import socket
import sys
import time
from typing import Any

from tests.support import forked_launcher, forked_reader, forked_supervisor
from tests.support.picture import STACK_SIGNAL

from garrison.supervisor import cli
from garrison.supervisor.cli import __path__ as verbs

REQUEST_MOST = 1 << 18  # bytes
SS_DISABLE = 2  # asm-generic/signal-defs.h
USED_LATER = (
    "encodings.utf_8_sig",
    "garrison.ipc.client",
    "garrison.ipc.messages.answers",
    "garrison.supervisor.check",
    "garrison.supervisor.cli.render.crash",
    "garrison.supervisor.cli.render.link",
    "garrison.supervisor.cli.render.status_table",
    "garrison.supervisor.cli.render.table",
    "garrison.supervisor.logs.console",
    "garrison.supervisor.loop",
    "rich.console",
    "rich.table",
    "zmq.asyncio",
)


class _SignalStack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


def leave_signal_stack() -> None:
    """Have signals handled on the ordinary stack again, as in a supervisor of the command line.

    `faulthandler` sets a small one, which a test overflows that sends all signals at once.
    """
    none = _SignalStack(flags=SS_DISABLE)
    assert ctypes.CDLL(None).sigaltstack(ctypes.byref(none), None) == 0


def serve() -> dict[str, Any]:
    """Fork a child for each request until the other end closes; return in each child only."""
    requests = socket.socket(fileno=os.dup(0))
    polling = select.poll()
    polling.register(requests, select.POLLIN)
    running: dict[int, tuple[int, int]] = {}  # pidfd → pid, report
    while True:
        for fd, _ in polling.poll():
            if fd in running:
                polling.unregister(fd)
                _report_end(fd, *running.pop(fd))
                continue
            data, fds = _receive(requests)
            if not data:
                sys.exit()
            pid = os.fork()
            if not pid:
                requests.detach()
                return _become(json.loads(data), fds)
            pidfd = os.pidfd_open(pid)
            *standard, report = fds
            for one in standard:
                os.close(one)
            os.write(report, f"{pid}\n".encode())
            running[pidfd] = (pid, report)
            polling.register(pidfd, select.POLLIN)


def _receive(requests: socket.socket) -> tuple[bytes, list[int]]:
    fds = array.array("i")
    data, ancillary, *_ = requests.recvmsg(REQUEST_MOST, socket.CMSG_SPACE(4 * fds.itemsize))
    for *_, packed in ancillary:
        fds.frombytes(packed)
    return data, list(fds)


def _report_end(pidfd: int, pid: int, report: int) -> None:
    _, status = os.waitpid(pid, 0)
    os.close(pidfd)
    os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os.close(report)


def _become(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]  # as `python -m` does
    sys.argv[1:] = request["argv"]
    return request


if __name__ == "__main__":
    for found in pkgutil.iter_modules(verbs):
        if found.name not in {"__main__", "reference"}:
            importlib.import_module(f"{cli.__name__}.{found.name}")
    for name in USED_LATER:
        importlib.import_module(name)
    forked_launcher.warm_up()
    gc.freeze()  # else each child would copy these pages
    request = serve()
    if "--detach" in request["argv"]:
        forked_supervisor.install()
    elif request["argv"][:1] == ["up"]:
        forked_launcher.install()
        faulthandler.register(STACK_SIGNAL, all_threads=True)  # after the fork of its launcher
        leave_signal_stack()
    else:
        forked_reader.install()
    forked_launcher.leave(cli.main)
