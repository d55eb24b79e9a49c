"""Forks a supervisor's first launcher with its imports done, as the supervisor's own child.

A child of the command server that is to be a supervisor first forks a waiting process. The first
launcher that the supervisor starts is this process: it takes over descriptors, environment and
arguments, and has no other modules in `sys.modules` than a launcher's own. Its command and the
mark in its environment are written over those of the command server, so /proc shows them. Each
further launcher is started by its command.
"""

import array
import atexit
import contextlib
import ctypes
import fcntl
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

from tests.support.proc import MARK, NO_MARK

from garrison.supervisor.processes import early_launcher, launcher, launcher_process
from garrison.workers.process import main

REQUEST_MOST = 1 << 18  # bytes
LIMITS = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
ARGUMENTS, ENVIRONMENT = 45, 47  # fields of /proc/PID/stat after the name: their bounds


def leave(run: Callable[[], object]) -> Never:
    """Run a process, and end as an interpreter does, but leave its memory to the kernel."""
    code: object = None
    try:
        run()
    except SystemExit as end:
        code = end.code
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader has ended; it is closed
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def warm_up() -> None:
    """Do what a launcher does once it has started."""
    own = sys.path.pop(0)  # a launcher has none of these, and what it does is kept by its path
    main.warm_up()
    sys.path.insert(0, own)


def install() -> None:
    """Fork what becomes the first launcher of this process, a supervisor."""
    setattr(launcher_process, "subprocess", WaitingLauncher())  # noqa: B010 - not exported
    setattr(early_launcher, "begin", lambda _: None)  # noqa: B010 - it would import all of that


class WaitingLauncher:
    """A process that becomes a launcher, and what its supervisor starts launchers by.

    It stands for the module `subprocess` there.
    """

    DEVNULL = subprocess.DEVNULL

    def __init__(self) -> None:
        self._requests: socket.socket | None
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if not self._pid:
            self._requests.close()
            _wait(theirs)
        theirs.close()

    def Popen(self, command: list[str], **options: Any) -> Any:
        """Start a launcher; the first one is the waiting process."""
        if self._requests is None:
            return subprocess.Popen(command, **options)
        (passed,) = options["pass_fds"]
        request = {
            "argv": command,
            "env": dict(options["env"]),
            "cwd": str(Path.cwd()),
            "umask": _umask(),
            "limits": {name: resource.getrlimit(number) for name, number in LIMITS.items()},
        }
        fds = array.array("i", [options["stdout"], passed])
        self._requests.sendmsg(
            [json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
        )
        self._requests.close()
        self._requests = None
        return types.SimpleNamespace(pid=self._pid, returncode=None)


def _wait(requests: socket.socket) -> Never:
    """Become a launcher when that is requested; end when its supervisor ends without one."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    own = requests.fileno()
    os.closerange(3, own)
    os.closerange(own + 1, os.sysconf("SC_OPEN_MAX"))
    fds = array.array("i")
    data, ancillary, *_ = requests.recvmsg(REQUEST_MOST, socket.CMSG_SPACE(2 * fds.itemsize))
    if not data:
        os._exit(0)
    for *_, packed in ancillary:
        fds.frombytes(packed)
    requests.close()
    request = json.loads(data)
    _start_as(request, *fds)
    forget_tests(launcher)
    leave(launcher.main)


def _start_as(request: dict[str, Any], output: int, passed: int) -> None:
    """Do what `subprocess` and the interpreter do at a start."""
    argv, environ = request["argv"], request["env"]
    os.setsid()
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    for name, (soft, hard) in request["limits"].items():
        resource.setrlimit(LIMITS[name], (soft, hard))
    numbers = (output, passed)
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 1024) for fd in numbers]  # out of the way
    for fd in numbers:
        os.close(fd)
    targets = ((moved[0], 1), (moved[0], 2), (moved[1], int(argv[4])))
    for fd, target in targets:
        os.dup2(fd, target)
    for fd in moved:
        os.close(fd)
    os.environ.clear()
    os.environ.update(environ)
    del sys.path[0]  # as -P does
    sys.argv[1:] = argv[4:]
    show_as(argv, environ.get(MARK, NO_MARK))


def show_as(argv: list[str], mark: str) -> None:
    """Have /proc show a command and the mark of a host, in place of the command server's."""
    _write_over(ARGUMENTS, b"\0".join(map(os.fsencode, argv)).ljust(_size(ARGUMENTS), b"\0"))
    environment = Path("/proc/self/environ").read_bytes()
    _write_over(ENVIRONMENT, environment.replace(NO_MARK.encode(), mark.encode()))


def _bounds(field: int) -> tuple[int, int]:
    first, last = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[field : field + 2]
    return int(first), int(last)


def _size(field: int) -> int:
    first, last = _bounds(field)
    return last - first


def _write_over(field: int, new: bytes) -> None:
    """Replace bytes that the kernel has put on the stack at the start, and shows in /proc."""
    assert len(new) == _size(field)
    ctypes.memmove(_bounds(field)[0], new, len(new))


def forget_tests(main_module: types.ModuleType) -> None:
    """Leave no module of the tests' in `sys.modules`, and the one that runs as `__main__`."""
    for name in [*sys.modules]:
        if name.partition(".")[0] == "tests":
            del sys.modules[name]
    sys.modules["__main__"] = main_module


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
