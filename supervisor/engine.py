"""Launchers as the supervisor sees them: start, signal, ended, tree gone. The local engine.

Nothing outside this module knows how a worker came to be. A launcher whose preloaded code is old
serves its workers until they are gone, beside a fresh one. Of a launcher that was killed, this
process inherits the workers, as their subreaper, and ends their trees itself.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TypeAlias

from garrison.ipc import tree
from garrison.ipc.errors import GarrisonError
from garrison.ipc.sockets import check_length

from .launcher import (
    FRAME_BYTES,
    TREE_WAIT,
    Ask,
    CheckFresh,
    Ended,
    Fork,
    Forked,
    Fresh,
    Gone,
    Leave,
    NotForked,
    Preload,
    Preloaded,
    Report,
    Signal,
    decode_report,
    encode,
)

LEAVE_WAIT = 5.0  # seconds for a launcher to go
FORK_WAIT = 5.0  # seconds for a launcher to fork, unless it is importing
GONE_WAIT = TREE_WAIT + 2.0  # seconds for it to end the tree of a worker that has ended
Key: TypeAlias = bytes  # a worker, as the engine knows it: its incarnation's token


@dataclass(frozen=True, slots=True)
class Lost:
    """A launcher ended that should not have; its workers live on."""

    pid: int
    workers: int
    importing: bool = False  # in the middle of a preload


Happened: TypeAlias = Report | Lost


@dataclass(slots=True, eq=False)
class Line:
    """One launcher: its process and the socket to it."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    path: str
    keys: set[Key] = field(default_factory=set)
    retired: bool = False
    importing: bool = False  # a preload was asked for, and not yet answered


@dataclass(slots=True)
class Held:
    """One worker."""

    line: Line | None  # None: inherited, and a child of this process
    pid: int = 0
    pidfd: int = -1
    closing: float = 0.0  # inherited, ended: until when its tree may take
    due: float = inf  # when its launcher must have answered: it hangs otherwise


class Engine:
    """Every launcher and every worker of this host.

    Args:
        run: The folder of sockets.
        log: Where launchers write what they have to say.
        environment: The scrubbed environment that workers descend from.
        orphan_grace: Seconds that everything outlives this process.
        cgroups: Whether each worker has a cgroup of its own, where that can be.
    """

    def __init__(
        self,
        run: Path,
        log: Path,
        environment: Mapping[str, str],
        orphan_grace: float,
        cgroups: bool = True,
    ) -> None:
        self._run, self._log, self._environment = run, log, dict(environment)
        self._orphan_grace = orphan_grace
        self._cgroups = "cgroups" if cgroups else "no-cgroups"
        self._number = 0
        self._lines: list[Line] = []
        self._held: dict[Key, Held] = {}
        self._happened: list[Happened] = []
        self._preload: tuple[str, ...] = ()
        self.deaths = select.epoll()  # every worker's pidfd: ready when it ended
        self._by_pidfd: dict[int, Key] = {}
        self.due = inf  # when `end_hanging` has something to do, at the earliest
        tree.become_subreaper()
        self._others = set(tree.children())  # of whoever became this process: none of ours

    # --- launchers --------------------------------------------------------------------------

    @property
    def current(self) -> Line:
        """Return the launcher that forks now."""
        for line in reversed(self._lines):
            if not line.retired:
                return line
        return self._launch()

    @property
    def pid(self) -> int | None:
        """Return the pid of the launcher that forks now."""
        return next((line.process.pid for line in reversed(self._lines) if not line.retired), None)

    def descriptors(self) -> list[int]:
        """Return what to poll besides `deaths`: one socket a launcher."""
        return [line.socket.fileno() for line in self._lines]

    def preload(self, modules: tuple[str, ...]) -> None:
        """Have these modules imported once; answered by Preloaded."""
        self._preload = ()  # not again, should a new launcher be needed for it
        self._import(self.current, modules)
        self._preload = modules

    def check_fresh(self) -> None:
        """Ask whether a preloaded file has changed; answered by Fresh."""
        self._ask(self.current, CheckFresh())

    def refresh(self, modules: tuple[str, ...]) -> None:
        """Put a fresh launcher in the old one's place; answered by Preloaded."""
        for line in self._lines:
            if not line.retired:
                line.retired = True
                self._ask(line, Leave())
        self._preload = modules
        self._launch()

    def abandon(self) -> None:
        """End a launcher that hangs in an import; its workers are inherited."""
        for line in self._lines:
            if line.importing:
                line.process.kill()

    def _launch(self) -> Line:
        self._number += 1
        path = str(self._run / f"launcher-{self._number}.sock")
        check_length(path)
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",  # the folder that it starts in shadows no library
                    "-m",
                    "garrison.supervisor.launcher",
                    str(theirs.fileno()),
                    path,
                    str(self._orphan_grace),
                    self._cgroups,
                ],
                env=self._environment,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        theirs.close()
        ours.setblocking(False)
        line = Line(process, ours, path)
        self._lines.append(line)
        if self._preload:
            self._import(line, self._preload)
        return line

    def _import(self, line: Line, modules: tuple[str, ...]) -> None:
        line.importing = True
        self._ask(line, Preload(modules))

    def _ask(self, line: Line, ask: Ask, fd: int = -1) -> bool:
        try:
            socket.send_fds(line.socket, [encode(ask)], [fd] if fd >= 0 else [])
        except OSError:  # gone, or so far behind that it is no use; its end will be seen
            return False
        return True

    # --- workers ----------------------------------------------------------------------------

    def fork(self, key: Key, name: str, log: str, assignment: bytes) -> None:
        """Have a worker forked; answered by Forked or NotForked."""
        try:
            line = self.current
            fd = os.memfd_create("assignment", os.MFD_CLOEXEC)
        except (OSError, GarrisonError) as error:
            self._happened.append(NotForked(key, str(error)))
            return
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(assignment)
            os.lseek(fd, 0, os.SEEK_SET)
            held = self._held[key] = Held(line)
            self._expect(held, FORK_WAIT)
            line.keys.add(key)
            if not self._ask(line, Fork(key, name, log), fd):
                self._forget(key)
                self._happened.append(NotForked(key, "the launcher does not answer"))
        finally:
            os.close(fd)

    def signal(self, key: Key, number: int, group: bool = True) -> None:
        """Signal a worker: with its whole process group, or alone."""
        held = self._held.get(key)
        if held is None:
            return
        if held.line is not None:
            self._ask(held.line, Signal(key, number, group))
        elif held.pidfd >= 0 and not held.closing:
            if group:
                tree.signal_group(held.pid, number)
            else:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(held.pidfd, number)

    def ended_now(self) -> list[Key]:
        """Return the workers whose pidfd says, since the last call, that they ended."""
        ended: list[Key] = []
        for fd, _ in self.deaths.poll(0):
            self.deaths.unregister(fd)
            key = self._by_pidfd.pop(fd)
            ended.append(key)
            held = self._held[key]
            if held.line is None:
                self._bury(key, held)
            else:
                self._expect(held, GONE_WAIT)
        return ended

    def end_hanging(self) -> None:
        """End every launcher that has not answered in time; its workers are inherited."""
        now = time.monotonic()
        hanging = {
            id(held.line): held.line
            for held in self._held.values()
            if held.line is not None and held.due <= now and not held.line.importing
        }
        for line in hanging.values():
            line.process.kill()
        for held in self._held.values():
            if held.due <= now:  # one that imports has its own limit
                held.due = now + FORK_WAIT
        self.due = min((held.due for held in self._held.values()), default=inf)

    def _expect(self, held: Held, seconds: float) -> None:
        held.due = time.monotonic() + seconds
        self.due = min(self.due, held.due)

    def read(self) -> list[Happened]:
        """Return what launchers reported, and what was found out here."""
        for line in list(self._lines):
            self._read(line)
        self._close_inherited()
        happened, self._happened = self._happened, []
        return happened

    @property
    def busy(self) -> bool:
        """Tell whether `read` has something to do soon without any descriptor saying so."""
        return bool(self._happened) or any(held.closing for held in self._held.values())

    def _read(self, line: Line) -> None:
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(line.socket, FRAME_BYTES, 4)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._lost(line)
                return
            report = decode_report(data)
            if isinstance(report, Preloaded):
                line.importing = False
            self._take(report, fds)

    def _take(self, report: Report, fds: list[int]) -> None:
        if isinstance(report, Forked):
            held = self._held.get(report.key)
            if held is None or not fds:
                for fd in fds:
                    os.close(fd)
                return
            held.pid, held.pidfd, held.due = report.pid, fds[0], inf
            self.deaths.register(held.pidfd, select.EPOLLIN)
            self._by_pidfd[held.pidfd] = report.key
        elif isinstance(report, Gone | NotForked):
            self._forget(report.key)
        self._happened.append(report)

    def _forget(self, key: Key) -> None:
        held = self._held.pop(key, None)
        if held is None:
            return
        if held.line is not None:
            held.line.keys.discard(key)
        if held.pidfd >= 0:
            if self._by_pidfd.pop(held.pidfd, None) is not None:
                self.deaths.unregister(held.pidfd)
            os.close(held.pidfd)

    # --- a launcher's end -------------------------------------------------------------------

    def _lost(self, line: Line) -> None:
        self._lines.remove(line)
        line.socket.close()
        line.process.kill()  # its socket is closed: whatever it still does, it is of no use
        line.process.wait()
        with contextlib.suppress(FileNotFoundError):
            Path(line.path).unlink()
        ours = set(tree.children())
        inherited = 0
        for key in list(line.keys):
            held = self._held[key]
            held.due = inf
            if held.pid in ours:
                held.line = None
                inherited += 1
                if held.pidfd >= 0 and held.pidfd not in self._by_pidfd:
                    self._bury(key, held)  # it ended, and the launcher could not say how
                continue
            self._forget(key)
            if held.pid:
                self._happened += [Ended(key, None), Gone(key)]
            else:
                self._happened.append(NotForked(key, "the launcher was lost"))
        line.keys.clear()
        tree.end_escaped(self._keep())
        if line.importing:
            self._preload = ()  # or the next launcher would end of it as well
        if not line.retired or inherited:
            self._happened.append(Lost(line.process.pid, inherited, line.importing))

    def _keep(self) -> set[int]:
        keep = {line.process.pid for line in self._lines}
        inherited = {held.pid for held in self._held.values() if held.line is None}
        return keep | inherited | self._others

    def _bury(self, key: Key, held: Held) -> None:
        """Reap an inherited worker, and begin to end its tree."""
        tree.signal_group(held.pid, signal.SIGKILL)  # a zombie still holds its number
        status: int | None = None
        with contextlib.suppress(ChildProcessError):
            _, status = os.waitpid(held.pid, 0)
        held.pid = 0
        held.closing = time.monotonic() + TREE_WAIT
        self._happened.append(Ended(key, status))

    def _close_inherited(self) -> None:
        closing = [(key, held) for key, held in self._held.items() if held.closing]
        if not closing:
            return
        left = tree.end_escaped(self._keep())
        for key, held in closing:
            if not left or time.monotonic() >= held.closing:
                self._forget(key)
                self._happened.append(Gone(key, tuple(left)))

    # --- the end ----------------------------------------------------------------------------

    def leave(self, kill: bool) -> None:
        """End every launcher; what still lives goes with them where `kill` is set.

        Returns when they are gone; with `kill`, no later than after five seconds.
        """
        for key, held in list(self._held.items()):
            if held.line is None and held.pid:
                tree.signal_group(held.pid, signal.SIGKILL)
                self._bury(key, held)
        for line in self._lines:
            self._ask(line, Leave(kill))
        for line in self._lines:
            self._see_off(line)
        tree.end_everything_below(TREE_WAIT, self._others)
        self._lines.clear()
        for held in self._held.values():
            if held.pidfd >= 0:
                os.close(held.pidfd)
        self._held.clear()
        self.deaths.close()

    def _see_off(self, line: Line) -> None:
        deadline = time.monotonic() + LEAVE_WAIT
        while line.process.poll() is None and time.monotonic() < deadline:
            select.select([line.socket], [], [], 0.05)
            with contextlib.suppress(BlockingIOError, OSError):
                while socket.recv_fds(line.socket, FRAME_BYTES, 4)[0]:
                    pass
        if line.process.poll() is None:
            line.process.kill()
            line.process.wait()
        line.socket.close()
        with contextlib.suppress(FileNotFoundError):
            Path(line.path).unlink()


__all__ = [
    "Ended",
    "Engine",
    "Forked",
    "Fresh",
    "Gone",
    "Happened",
    "Key",
    "Lost",
    "NotForked",
    "Preloaded",
]
