"""Processes as seen from outside: remains of ended incarnations, a supervisor's command."""

import contextlib
import fcntl
import os
import signal
import subprocess
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from garrison.ipc.system import process_tree
from garrison.supervisor.processes.early_launcher import HANDOVER

REMEMBERED = 50_000  # incarnations, the latest
SESSION = "--events-only"  # a supervisor without a terminal shows no logs


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[bool]:
    """Lock a home against another run; yield False if one is under way.

    The kernel releases the lock of a killed run. The folder itself is locked, because a lock file
    that root created could not be opened by another user.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


class IncarnationHistory:
    """Every incarnation that was seen: its mark, and its worker process if a fault ended that."""

    def __init__(self) -> None:
        self._marks: dict[str, None] = {}
        self._workers: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)

    def seen(self, token: bytes) -> None:
        """Record an incarnation's address."""
        if token:
            self._marks[process_tree.incarnation_mark(token)] = None
            if len(self._marks) > REMEMBERED:
                del self._marks[next(iter(self._marks))]

    def harmed(self, pid: int, ticks: int) -> None:
        """Record a worker that is to end, and its start in clock ticks."""
        self._workers.append((pid, ticks))

    def left(self, current: Iterable[bytes]) -> list[int]:
        """Return the processes of ended incarnations; only root sees those of other users.

        Args:
            current: The addresses of the incarnations that have not ended.
        """
        over = self._marks.keys() - {process_tree.incarnation_mark(token) for token in current}
        workers = [pid for pid, ticks in self._workers if process_tree.is_alive(pid, ticks)]
        return [*workers, *(pid for pid in _marked(over) if process_tree.is_alive(pid))]


def _marked(marks: Iterable[str]) -> Iterable[int]:
    needle, known = f"{process_tree.MARK}=".encode(), set(marks)
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                if (
                    entry.startswith(needle)
                    and entry[len(needle) :].decode("ascii", "replace") in known
                ):
                    yield int(name)


@dataclass(frozen=True, slots=True)
class StartCommand:
    """How a process was started, according to /proc."""

    argv: tuple[bytes, ...]
    environ: dict[bytes, bytes]
    folder: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    watched: bool  # systemd may start it again


def start_command(pid: int) -> StartCommand:
    """Return how a process was started. Raises OSError if it has ended, or is another user's."""
    proc = Path(f"/proc/{pid}")
    argv = tuple((proc / "cmdline").read_bytes().split(b"\0")[:-1])
    pairs = (entry.partition(b"=") for entry in (proc / "environ").read_bytes().split(b"\0"))
    environ = {name: value for name, _, value in pairs if name}
    environ.pop(HANDOVER.encode(), None)  # a former supervisor's; it was used already
    ids = {
        key: [int(number) for number in rest.split()]
        for key, _, rest in (
            line.partition(":") for line in (proc / "status").read_text().splitlines()
        )
        if key in {"Uid", "Gid", "Groups"}
    }
    return StartCommand(
        argv,
        environ,
        str((proc / "cwd").readlink()),
        ids["Uid"][1],
        ids["Gid"][1],
        tuple(ids["Groups"]),
        b"INVOCATION_ID" in environ,
    )


def start_again(command: StartCommand, log: Path) -> subprocess.Popen[bytes]:
    """Start a supervisor with the command of an earlier one, without a terminal."""
    argv = [*command.argv, *([] if SESSION.encode() in command.argv else [SESSION.encode()])]
    argv = [word for word in argv if word != b"--detach"]
    switches = os.geteuid() == 0 and command.uid != 0  # this is root, and the host is not
    with log.open("ab") as output:
        if switches:  # the log is that user's from now on
            os.fchown(output.fileno(), command.uid, command.gid)
        return subprocess.Popen(
            argv,
            env=command.environ,
            cwd=command.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            user=command.uid if switches else None,
            group=command.gid if switches else None,
            extra_groups=command.groups if switches else None,
        )


def kill(pid: int, seconds: float) -> bool:
    """Kill a process; return False if it has not ended within `seconds`."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return process_tree.ended(pidfd, seconds)
    finally:
        os.close(pidfd)


class Tail:
    """Reads the numbers that are appended to a file, one a line. The file may be created later."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def numbers(self) -> list[int]:
        """Return the numbers that were appended since the last read, in whole lines."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._read:
                    self._read = 0  # it was truncated
                file.seek(self._read)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return [int(line) for line in whole.splitlines() if line.isdigit()]

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
