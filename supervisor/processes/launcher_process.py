"""A launcher, as the supervisor sees it: its process and the socket to it."""

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from garrison.ipc.socket_paths import check_length
from garrison.ipc.system import log_stream, process_tree
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.spec import PluginSpec

from .early_launcher import LAUNCHER, NAME, EarlyLauncher
from .engine import Key
from .launcher_socket import is_listening, peer_of
from .protocol import FRAME_BYTES, Command, EarlySettings, Fork, encode

FORMER_LAUNCHER = "garrison.supervisor.launcher"  # that module up to 0.1.0; still adopted
LEAVE_WAIT = 5.0  # seconds for a launcher to end
BOOT_WAIT = 30.0  # seconds for its first report: its interpreter starts late on a busy machine
PLAIN = re.compile(r"[A-Za-z0-9_]{1,64}")  # an entry point that may be a bundled plugin's
PLUGINS_MOST = 64  # that an early launcher imports
PYTHON, STAMP = "python=", "stamp="  # its last arguments, of one under another interpreter


class UnderPython(msgspec.Struct, frozen=True):
    """The interpreter that a launcher runs under."""

    path: str = ""  # empty: the supervisor's own
    stamp: str = ""  # what it was when the launcher was started, see `inquiry.stamp_of`

    @property
    def words(self) -> list[str]:
        """Return the arguments of the launcher by which the next supervisor recognises it."""
        return [f"{PYTHON}{self.path}", f"{STAMP}{self.stamp}"] if self.path else []


OWN_PYTHON = UnderPython()


class LauncherProcess(msgspec.Struct, eq=False):
    """One launcher."""

    pid: int
    pidfd: int
    socket: socket.socket
    path: str
    keys: set[Key] = msgspec.field(default_factory=set)  # its workers
    retired: bool = False  # it forks no more
    importing: bool = False  # a preload has not been answered yet
    boot_until: float = 0.0  # it may be silent until then; 0: it has reported
    under: UnderPython = OWN_PYTHON
    idle_since: float = msgspec.field(default_factory=time.monotonic)  # where it has no workers

    @property
    def may_be_silent(self) -> bool:
        """Return whether it is busy with what has a limit of its own: its start, or imports."""
        return self.importing or time.monotonic() < self.boot_until

    @property
    def lost_words(self) -> str:
        """Return why it forks no more, after its end."""
        if not self.under.path:
            return "the launcher was lost"
        return f"the launcher under {self.under.path} ended; see launcher.log in the folder of logs"

    def send(self, command: Command, fd: int = -1) -> bool:
        """Send a command, with a descriptor; return False if that is not possible.

        It is not possible if the launcher has ended, which is noticed elsewhere, or if it is so far
        behind that its socket is full.
        """
        try:
            socket.send_fds(self.socket, [encode(command)], [fd] if fd >= 0 else [])
        except OSError:
            return False
        return True

    def fork(self, command: Fork, assignment: bytes) -> bool:
        """Send a fork with its assignment, in memory that has no name; False as for `send`.

        Raises:
            OSError: No descriptor is left for it.
        """
        fd = os.memfd_create("assignment", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(assignment)
            os.lseek(fd, 0, os.SEEK_SET)
            return self.send(command, fd)
        finally:
            os.close(fd)

    def receive(self) -> tuple[bytes, list[int]]:
        """Return a report with its descriptors, which an upgrade does not inherit.

        `recv_fds` accepts MSG_CMSG_CLOEXEC and ignores it. Empty data: the launcher has ended.

        Raises:
            BlockingIOError: There is none yet.
        """
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, FRAME_BYTES, 4)
        except BlockingIOError:
            raise
        except OSError:
            return b"", []
        for fd in fds:
            os.set_inheritable(fd, False)
        if data:
            self.boot_until = 0.0
        return data, fds

    def kill(self) -> None:
        """Kill it."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def wait_for_exit(self, seconds: float) -> None:
        """Wait until it ends, reading its reports so that it can; kill it after that time."""
        deadline = time.monotonic() + seconds
        while not process_tree.ended(self.pidfd, 0.005) and time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                while self.receive()[0]:
                    pass
        self.kill()
        self.reap()

    def reap(self) -> None:
        """Wait for its end after a kill, and release what belongs to it."""
        process_tree.ended(self.pidfd, LEAVE_WAIT)
        with contextlib.suppress(ChildProcessError):  # another supervisor's child
            os.waitpid(self.pid, os.WNOHANG)
        self.disconnect()
        remove_stale(Path(self.path))

    def disconnect(self) -> None:
        """Release its descriptors; it continues to run, for a next supervisor."""
        os.close(self.pidfd)
        self.socket.close()


def start(
    path: Path,
    log: Path,
    environment: Mapping[str, str],
    orphan_grace: float,
    each_cgroup: bool,
    under: UnderPython = OWN_PYTHON,
) -> LauncherProcess:
    """Start a launcher.

    Args:
        path: Of the socket that it listens on for a next supervisor.
        log: Where its output goes.
        environment: Of its workers; they all inherit it.
        orphan_grace: Seconds that it outlives this process.
        each_cgroup: Whether to make a cgroup for each worker, where possible.
        under: The interpreter that it runs under.
    """
    check_length(str(path))
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    output, _ = log_stream.log_or_nothing(str(log))  # it starts on a full disk, too
    try:
        process = subprocess.Popen(
            [
                under.path or sys.executable,
                "-P",  # files in the current folder must not shadow libraries
                "-m",
                LAUNCHER,
                str(theirs.fileno()),
                str(path),
                str(orphan_grace),
                "cgroups" if each_cgroup else "no-cgroups",
                *under.words,
            ],
            env=environment,
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    finally:
        os.close(output)
    theirs.close()
    ours.setblocking(False)
    process.returncode = 0  # it is reaped by its pid; Popen is not to warn that it still runs
    launcher = LauncherProcess(process.pid, os.pidfd_open(process.pid), ours, str(path))
    launcher.under = under
    launcher.boot_until = time.monotonic() + BOOT_WAIT
    return launcher


def socket_path(run: Path, number: int) -> Path:
    """Return the path of a launcher's socket."""
    return run / f"launcher-{number}.sock"


def configure_early(
    early: EarlyLauncher, host: HostSpec, log: Path, plugins: Iterable[PluginSpec]
) -> bool:
    """Send a launcher that was started early what it needs; False if a former one may be running.

    Args:
        early: The launcher.
        host: The settings of the host.
        log: Where its output goes; the folder exists.
        plugins: Those of the config: the bundled ones among them are imported.
    """
    if any(host.run.glob("launcher-*.sock")):
        return False
    words = [one.use for one in plugins if one.python is None and PLAIN.fullmatch(one.use)]
    path = str(host.run / NAME)
    settings = EarlySettings(path, host.orphan_grace, host.cgroups, tuple(words[:PLUGINS_MOST]))
    output, _ = log_stream.log_or_nothing(str(log))
    try:
        early.configure(path, encode(settings), output)
    finally:
        os.close(output)
    return True


def take_early(
    early: EarlyLauncher, path: Path, environment: Mapping[str, str]
) -> LauncherProcess | None:
    """Return a launcher that was started early, if it is this one, and runs."""
    check_length(str(path))
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    if not early.take(str(path), environment, (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)):
        return None
    early.connection.setblocking(False)
    launcher = LauncherProcess(early.pid, early.pidfd, early.connection, str(path))
    launcher.boot_until = time.monotonic() + BOOT_WAIT
    return launcher


def remove_stale(path: Path) -> None:
    """Remove the socket of a launcher that has ended, unless another process listens there."""
    if not is_listening(path):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def remove_stale_in(run: Path) -> None:
    """Remove the sockets of all launchers in a folder that have ended."""
    for path in run.glob("launcher-*.sock"):
        remove_stale(path)


def connected(connection: socket.socket, path: Path) -> LauncherProcess:
    """Return the launcher at the other end of a connection.

    Raises:
        OSError: It has just ended, or another program listens there.
    """
    pid, uid = peer_of(connection)
    if uid != os.geteuid():
        raise ConnectionError(f"process {pid} of uid {uid} listens there; left alone")
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        raise ConnectionError("it has just ended") from None
    under = _launcher_under(pid, path.name)
    if under is None:
        os.close(pidfd)
        raise ConnectionError(f"process {pid} listens there and is not a launcher; left alone")
    return LauncherProcess(pid, pidfd, connection, str(path), under=under)


def _launcher_under(pid: int, socket_name: str) -> UnderPython | None:
    """Return the interpreter of the launcher at a socket; None: any program can listen there."""
    try:
        words = list(map(os.fsdecode, Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")))
    except OSError:
        return None
    # The folder may have several names, so only the file's own name is compared.
    names = map(os.path.basename, words)
    if {LAUNCHER, FORMER_LAUNCHER}.isdisjoint(words) or socket_name not in names:
        return None
    return under_python(words)


def under_python(words: Sequence[str]) -> UnderPython:
    """Return the interpreter that a launcher's arguments name."""
    paths = [word.removeprefix(PYTHON) for word in words if word.startswith(PYTHON)]
    stamps = [word.removeprefix(STAMP) for word in words if word.startswith(STAMP)]
    return UnderPython(paths[0], stamps[0]) if paths and stamps else OWN_PYTHON


def socket_number(path: Path) -> int:
    """Return the number in a launcher's socket path; 0 if there is none."""
    digits = path.stem.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0
