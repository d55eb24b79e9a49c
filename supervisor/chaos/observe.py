"""What is seen of processes from outside: what is over, and how a supervisor began."""

import contextlib
import fcntl
import os
import signal
import subprocess
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.ipc.system import process_tree
from garrison.supervisor.state.handover import HANDOVER

OVER_MOST = 50_000  # incarnations that are remembered, the newest
SESSION = "--events-only"  # a supervisor without a terminal shows no logs


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Hold a home against another run, and tell whether there is none; a killed one holds nothing.

    The folder itself is locked: a file could be root's, and nobody else's then.
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
    """Every incarnation that was seen: what its processes bear, and which was its own."""

    def __init__(self) -> None:
        self._marks: dict[str, None] = {}
        self._bodies: deque[tuple[int, int]] = deque(maxlen=OVER_MOST)

    def seen(self, token: bytes) -> None:
        """Note an incarnation's address."""
        if token:
            self._marks[process_tree.incarnation_mark(token)] = None
            if len(self._marks) > OVER_MOST:
                del self._marks[next(iter(self._marks))]

    def injured(self, pid: int, ticks: int) -> None:
        """Note a process that is to end, and when it started."""
        self._bodies.append((pid, ticks))

    def left(self, living: Iterable[bytes]) -> list[int]:
        """Return the processes of those that are over; none of another user's, but for root."""
        over = self._marks.keys() - {process_tree.incarnation_mark(token) for token in living}
        bodies = [pid for pid, ticks in self._bodies if process_tree.is_alive(pid, ticks)]
        return [*bodies, *(pid for pid in _bearing(over) if process_tree.is_alive(pid))]


def _bearing(marks: Iterable[str]) -> Iterable[int]:
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
    """How a process was started, as far as /proc tells."""

    argv: tuple[bytes, ...]
    environ: dict[bytes, bytes]
    folder: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    watched: bool  # something like systemd may start it again


def how_it_began(pid: int) -> StartCommand:
    """Return how a process was started. Raises OSError where that is another user's, or over."""
    proc = Path(f"/proc/{pid}")
    argv = tuple((proc / "cmdline").read_bytes().split(b"\0")[:-1])
    pairs = (entry.partition(b"=") for entry in (proc / "environ").read_bytes().split(b"\0"))
    environ = {name: value for name, _, value in pairs if name}
    environ.pop(HANDOVER.encode(), None)  # a former supervisor's, taken long ago
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


def begin_again(how: StartCommand, log: Path) -> subprocess.Popen[bytes]:
    """Start a supervisor as one was started before, without a terminal."""
    argv = [*how.argv, *([] if SESSION.encode() in how.argv else [SESSION.encode()])]
    argv = [word for word in argv if word != b"--detach"]
    as_whom: dict[str, Any] = {}
    if os.geteuid() == 0 and how.uid != 0:
        as_whom = {"user": how.uid, "group": how.gid, "extra_groups": how.groups}
    with log.open("ab") as output:
        if as_whom:  # whose log it is from now on
            os.fchown(output.fileno(), how.uid, how.gid)
        process: subprocess.Popen[bytes] = subprocess.Popen(
            argv,
            env=how.environ,
            cwd=how.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **as_whom,
        )
    return process


def kill(pid: int, seconds: float) -> bool:
    """Kill a process; tell whether it has ended within so long."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return process_tree.ended(pidfd, seconds)
    finally:
        os.close(pidfd)


class Tail:
    """What is added to a file of numbers, a line each; it may come later, or be another's soon."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def numbers(self) -> list[int]:
        """Return the numbers that were added since the last look, in whole lines."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._read:
                    self._read = 0  # somebody cut it
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
