"""Launchers as the supervisor sees them: start, signal, ended, tree gone. The local engine.

Nothing outside this module knows how a worker came to be. A launcher whose preloaded code is old
serves its workers until they are gone, beside a fresh one. One that a former supervisor left is
taken over, with its workers. Of a launcher that was killed, this process inherits the workers, as
their subreaper, and ends their trees itself; where another process than this one started that
launcher they are strays: nobody's children, held by their pidfds alone.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TypeAlias

from garrison.ipc.errors import GarrisonError
from garrison.ipc.messages import BAD_BYTES
from garrison.ipc.sockets import check_length
from garrison.ipc.system import log_stream, process_tree
from garrison.supervisor.config.spec import CgroupLimits

from . import cgroups
from .launcher import (
    CODE,
    FRAME_BYTES,
    SPOKEN,
    TREE_WAIT,
    Ask,
    CheckFresh,
    Ended,
    Fork,
    Forked,
    Fresh,
    Gone,
    Here,
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
MEET_WAIT = 2.0  # seconds for a former supervisor's launcher to say what it has
LAUNCHER = "garrison.supervisor.processes.launcher"  # the module that it is started as
FORMER_LAUNCHER = "garrison.supervisor.launcher"  # its name up to 0.1.0: such a one is adopted
# Between looks for what a stray left, which read every process's environment; or twenty times as
# long as they take, where that is more.
LOOK_S = 0.05
NO_WALLS = CgroupLimits()
Key: TypeAlias = bytes  # a worker, as the engine knows it: its incarnation's token


@dataclass(frozen=True, slots=True)
class Lost:
    """A launcher ended that should not have; its workers live on."""

    pid: int
    workers: int
    importing: bool = False  # in the middle of a preload


Happened: TypeAlias = Report | Lost


@dataclass(slots=True, eq=False)
class LauncherProcess:
    """One launcher: its process and the socket to it."""

    pid: int
    pidfd: int
    socket: socket.socket
    path: str
    process: subprocess.Popen[bytes] | None = None  # None: another supervisor started it
    keys: set[Key] = field(default_factory=set)
    retired: bool = False
    importing: bool = False  # a preload was asked for, and not yet answered

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def ended(self, seconds: float) -> bool:
        """Tell whether its process ends within so long."""
        return process_tree.ended(self.pidfd, seconds)

    def bury(self) -> None:
        """Let go of it once it has ended; of one that the kernel would not end, unreaped."""
        if self.process is not None:
            self.process.poll()
        else:  # after an upgrade it is a child all the same
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
        os.close(self.pidfd)
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            Path(self.path).unlink()


@dataclass(slots=True)
class WorkerHandle:
    """One worker."""

    line: LauncherProcess | None  # None: no launcher has it any more
    pid: int = 0
    pidfd: int = -1
    stray: bool = False  # no child of this process either: init's
    cgroup: Path | None = None  # without a launcher: what its launcher made for it
    closing: float = 0.0  # without a launcher, ended: until when its tree may take
    due: float = inf  # when its launcher must have answered: it hangs otherwise


@dataclass(slots=True)
class InheritedState:
    """What a former supervisor's launchers told."""

    living: dict[Key, str] = field(default_factory=dict)  # the name that each was forked for
    ended: dict[Key, Ended] = field(default_factory=dict)  # lately
    modules: tuple[str, ...] = ()  # preloaded in the launcher that forks from now on
    ending: set[Key] = field(default_factory=set)  # those living whose launcher was giving up
    launchers: int = 0
    over: bool = True  # no launcher goes on
    outdated: bool = False  # that launcher has another version's code
    refused: list[str] = field(default_factory=list)  # what was no use, in words


class LocalEngine:
    """Every launcher and every worker of this host.

    Args:
        run: The folder of sockets.
        log: Where launchers write what they have to say.
        environment: The scrubbed environment that workers descend from.
        orphan_grace: Seconds that everything outlives this process.
        each_cgroup: Whether each worker has a cgroup of its own, where that can be.
    """

    def __init__(
        self,
        run: Path,
        log: Path,
        environment: Mapping[str, str],
        orphan_grace: float,
        each_cgroup: bool = True,
    ) -> None:
        self._run, self._log, self._environment = run, log, dict(environment)
        self._orphan_grace = orphan_grace
        self._cgroups = "cgroups" if each_cgroup else "no-cgroups"
        self._number = 0
        self._lines: list[LauncherProcess] = []
        self._held: dict[Key, WorkerHandle] = {}
        self._happened: list[Happened] = []
        self._preload: tuple[str, ...] = ()
        self.deaths = select.epoll()  # every worker's pidfd: ready when it ended
        self._by_pidfd: dict[int, Key] = {}
        self.due = inf  # when `end_hanging` has something to do, at the earliest
        process_tree.become_subreaper()
        self.others = set(process_tree.children())  # of whoever became this process: none of ours
        self._escaped = 0.0  # until when to end what a lost launcher left besides workers
        self._look_at = 0.0  # when what strays left is looked for again

    # --- launchers --------------------------------------------------------------------------

    @property
    def current(self) -> LauncherProcess:
        """Return the launcher that forks now."""
        for line in reversed(self._lines):
            if not line.retired:
                return line
        return self._launch()

    @property
    def pid(self) -> int | None:
        """Return the pid of the launcher that forks now."""
        return next((line.pid for line in reversed(self._lines) if not line.retired), None)

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
                line.kill()

    def _launch(self) -> LauncherProcess:
        self._number += 1
        path = str(self._run / f"launcher-{self._number}.sock")
        check_length(path)
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        log, _ = log_stream.log_or_nothing(str(self._log))  # a full disk keeps no launcher from it
        try:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",  # the folder that it starts in shadows no library
                    "-m",
                    LAUNCHER,
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
        finally:
            os.close(log)
        theirs.close()
        ours.setblocking(False)
        line = LauncherProcess(process.pid, os.pidfd_open(process.pid), ours, path, process)
        self._lines.append(line)
        if self._preload:
            self._import(line, self._preload)
        return line

    # --- what a former supervisor left ------------------------------------------------------

    def adopt(self) -> InheritedState:
        """Take over every launcher that is still there, with its workers.

        Takes as long as the launchers, which answer in milliseconds; one that does not within two
        seconds is ended, and its workers are strays, for `adopt_stray`.
        """
        found = InheritedState()
        for path in sorted(self._run.glob("launcher-*.sock"), key=_number):
            self._number = max(self._number, _number(path))
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.settimeout(MEET_WAIT)
            try:
                connection.connect(str(path))
            except OSError:  # nobody is there any more
                connection.close()
                path.unlink(missing_ok=True)
                continue
            problem = self._meet(connection, str(path), found)
            if problem:
                found.refused.append(f"{path.name}: {problem}")
                connection.close()
                path.unlink(missing_ok=True)
        return found

    def _meet(self, connection: socket.socket, path: str, found: InheritedState) -> str:
        """Hear what a launcher has; return why it is of no use, or nothing."""
        pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        try:
            pidfd = os.pidfd_open(pid[0])
        except OSError:
            return "it has just ended"
        if not _is_launcher(pid[0], path):
            os.close(pidfd)
            return f"process {pid[0]} listens there, and is no launcher; it was left alone"
        line = LauncherProcess(pid[0], pidfd, connection, path)
        deadline = time.monotonic() + MEET_WAIT
        here: Here | None = None
        try:
            while here is None:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                data, fds = _received(connection)
                if not data:
                    raise ConnectionError("it has just ended")
                here = self._learn(decode_report(data), fds, line, found)
            if here.spoken != SPOKEN:
                raise ConnectionError(f"it speaks version {here.spoken}, not {SPOKEN}")
        except (OSError, *BAD_BYTES) as error:
            line.kill()
            for key in list(line.keys):
                self._forget(key)
                found.living.pop(key, None)
            os.close(pidfd)
            return (
                f"{error}; it was ended"
                if not isinstance(error, TimeoutError)
                else (f"it did not answer within {MEET_WAIT:g} s; it was ended")
            )
        connection.setblocking(False)
        line.retired = here.retired
        self._lines.append(line)
        self.others.discard(line.pid)
        found.launchers += 1
        if here.ending:
            found.ending |= line.keys
        else:
            found.over = False
        if not here.retired:
            found.modules, found.outdated = here.modules, here.code != CODE
            self._preload = here.modules
        return ""

    def _learn(
        self, report: Report, fds: list[int], line: LauncherProcess, found: InheritedState
    ) -> Here | None:
        if isinstance(report, Here):
            for fd in fds:
                os.close(fd)
            return report
        if isinstance(report, Forked):
            self._held[report.key] = WorkerHandle(line)
            line.keys.add(report.key)
            found.living[report.key] = report.name
        elif isinstance(report, Ended):
            found.ended[report.key] = report
        self._take(report, fds)
        return None

    def gone(self, key: Key) -> None:
        """Say of a worker that was to be taken over that nothing is there; end what it left."""
        process_tree.end_marked(process_tree.incarnation_mark(key))
        self._happened += [Ended(key, None), Gone(key)]

    def adopt_stray(self, key: Key, pid: int, ticks: int) -> bool:
        """Take over a worker that has neither launcher nor parent; False where it has ended.

        Args:
            key: Its incarnation's token.
            pid: Its pid.
            ticks: When it started, as `tree.started` has it: the pid may be another's by now.
        """
        try:
            pidfd = os.pidfd_open(pid)
        except (OSError, OverflowError):  # the second: a number that no process can have
            return False
        if process_tree.start_ticks(pid) != ticks or process_tree.ended(pidfd, 0):
            os.close(pidfd)
            return False
        self.others.discard(pid)
        stray = pid not in process_tree.children()
        self._held[key] = WorkerHandle(None, pid, pidfd, stray, cgroups.cgroup_of(pid))
        self.deaths.register(pidfd, select.EPOLLIN)
        self._by_pidfd[pidfd] = key
        return True

    def _import(self, line: LauncherProcess, modules: tuple[str, ...]) -> None:
        line.importing = True
        self._ask(line, Preload(modules))

    def _ask(self, line: LauncherProcess, ask: Ask, fd: int = -1) -> bool:
        try:
            socket.send_fds(line.socket, [encode(ask)], [fd] if fd >= 0 else [])
        except OSError:  # gone, or so far behind that it is no use; its end will be seen
            return False
        return True

    # --- workers ----------------------------------------------------------------------------

    def fork(
        self,
        key: Key,
        name: str,
        log: str,
        assignment: bytes,
        walls: CgroupLimits = NO_WALLS,
    ) -> None:
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
            held = self._held[key] = WorkerHandle(line)
            self._expect(held, FORK_WAIT)
            line.keys.add(key)
            if not self._ask(line, Fork(key, name, log, walls), fd):
                self._forget(key)
                self._happened.append(NotForked(key, "the launcher does not answer"))
        finally:
            os.close(fd)

    def has(self, key: Key) -> bool:
        """Tell whether anything of a worker is left."""
        return key in self._held

    def signal(self, key: Key, number: int, group: bool = True) -> None:
        """Signal a worker: with its whole process group, or alone."""
        held = self._held.get(key)
        if held is None:
            return
        if held.line is not None:
            self._ask(held.line, Signal(key, number, group))
        elif held.pidfd >= 0 and not held.closing:
            if group:
                cgroups.signal_worker(held.pid, number, held.cgroup)
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
            line.kill()
        for held in self._held.values():
            if held.due <= now:  # one that imports has its own limit
                held.due = now + FORK_WAIT
        self.due = min((held.due for held in self._held.values()), default=inf)

    def _expect(self, held: WorkerHandle, seconds: float) -> None:
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
        closing = any(held.closing for held in self._held.values())
        return bool(self._happened or self._escaped) or closing

    def _read(self, line: LauncherProcess) -> None:
        while True:
            try:
                data, fds = _received(line.socket)
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
            if held is None:
                for fd in fds:
                    os.close(fd)
                return
            if not fds:  # no descriptor was left for it: what cannot be watched must not live
                self.signal(report.key, signal.SIGKILL)
                self._forget(report.key)
                self._happened.append(NotForked(report.key, "no descriptor was left for it"))
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

    def _lost(self, line: LauncherProcess) -> None:
        self._lines.remove(line)
        line.kill()  # its socket is closed: whatever it still does, it is of no use
        line.ended(LEAVE_WAIT)
        line.bury()
        ours = set(process_tree.children())
        inherited = 0
        for key in list(line.keys):
            held = self._held[key]
            held.due = inf
            if held.pid:
                held.line, held.stray = None, held.pid not in ours
                held.cgroup = cgroups.cgroup_of(held.pid)
                inherited += 1
                if held.pidfd >= 0 and held.pidfd not in self._by_pidfd:
                    self._bury(key, held)  # it ended, and the launcher could not say how
                continue
            self._forget(key)
            self._happened.append(NotForked(key, "the launcher was lost"))
        line.keys.clear()
        self._escaped = (
            time.monotonic() + TREE_WAIT if process_tree.kill_orphans(self._keep()) else 0.0
        )
        if line.importing:
            self._preload = ()  # or the next launcher would end of it as well
        if not line.retired or inherited:
            self._happened.append(Lost(line.pid, inherited, line.importing))

    def _keep(self) -> set[int]:
        keep = {line.pid for line in self._lines}
        inherited = {held.pid for held in self._held.values() if held.line is None}
        return keep | inherited | self.others

    def _bury(self, key: Key, held: WorkerHandle) -> None:
        """Reap a worker without a launcher, and begin to end its tree."""
        # A zombie still holds its number, and so does a group with a member left.
        cgroups.signal_worker(held.pid, signal.SIGKILL, held.cgroup)
        status: int | None = None
        if not held.stray:
            with contextlib.suppress(ChildProcessError):
                process_tree.ended(held.pidfd, LEAVE_WAIT)  # it has, unless it was killed just now
                reaped, word = os.waitpid(held.pid, os.WNOHANG)
                status = word if reaped else None
        held.pid = 0
        held.closing = time.monotonic() + TREE_WAIT
        self._happened.append(Ended(key, status))

    def _close_inherited(self) -> None:
        closing = [(key, held) for key, held in self._held.items() if held.closing]
        now = time.monotonic()
        if not (closing or self._escaped) or now < self._look_at:
            return
        left = process_tree.kill_orphans(self._keep())
        if not left or now >= self._escaped:
            self._escaped = 0.0
        for key, held in closing:
            own = list(left)
            if held.stray:  # what it left behind is init's: its environment and its cgroup tell
                began = time.monotonic()
                own += process_tree.end_marked(process_tree.incarnation_mark(key))
                took = time.monotonic() - began
                self._look_at = max(self._look_at, now + max(LOOK_S, 20 * took))
            if cgroups.kill(held.cgroup):
                own += cgroups.inside(held.cgroup)
            if not own or now >= held.closing:
                self._forget(key)
                self._happened.append(Gone(key, tuple(own)))

    # --- the end ----------------------------------------------------------------------------

    def leave(self, kill: bool) -> None:
        """End every launcher; what still lives goes with them where `kill` is set.

        Returns when they are gone; with `kill`, no later than after five seconds.
        """
        for key, held in list(self._held.items()):
            if held.line is None and held.pid:
                process_tree.signal_group(held.pid, signal.SIGKILL)
                self._bury(key, held)
            if held.stray:
                process_tree.end_marked(process_tree.incarnation_mark(key))
        for line in self._lines:
            # Services have ended by now: a plugin that is read, or a worker that is none of this
            # host's, must not keep the launcher, or outlive it.
            self._ask(line, Leave(kill or bool(line.keys)))
        cgroups_of = {
            key: cgroups.cgroup_of(held.pid) for key, held in self._held.items() if held.pid
        }
        for line in self._lines:
            self._see_off(line)
        self._end_left(cgroups_of)
        process_tree.end_everything_below(TREE_WAIT, self.others)
        self._lines.clear()
        for held in self._held.values():
            if held.pidfd >= 0:
                os.close(held.pidfd)
        self._held.clear()
        self.deaths.close()

    def _end_left(self, cgroups_of: Mapping[Key, Path | None]) -> None:
        """End what a launcher has left that had to be killed itself: it may be init's by now."""
        for key, held in self._held.items():
            if held.line is None or held.pidfd < 0 or process_tree.ended(held.pidfd, 0):
                continue
            process_tree.signal_group(held.pid, signal.SIGKILL)
            cgroups.kill(cgroups_of.get(key))
            process_tree.end_marked(process_tree.incarnation_mark(key))
            process_tree.ended(held.pidfd, TREE_WAIT)

    def _see_off(self, line: LauncherProcess) -> None:
        deadline = time.monotonic() + LEAVE_WAIT
        while not line.ended(0.005) and time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError, OSError):
                while _received(line.socket)[0]:
                    pass
        line.kill()
        line.ended(LEAVE_WAIT)
        line.bury()


def _received(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Return a report with its descriptors; an upgrade does not inherit them.

    `recv_fds` takes MSG_CMSG_CLOEXEC and does nothing about it.
    """
    data, fds, _, _ = socket.recv_fds(connection, FRAME_BYTES, 4)
    for fd in fds:
        os.set_inheritable(fd, False)
    return data, fds


def _is_launcher(pid: int, path: str) -> bool:
    """Tell whether a process was started as the launcher at a path: anybody can listen there."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        name = os.fsencode(os.path.basename(path))  # noqa: PTH119 (the folder has several names)
        started_as = {LAUNCHER.encode(), FORMER_LAUNCHER.encode()}
        return not started_as.isdisjoint(words) and name in map(os.path.basename, words)
    return False


def _number(path: Path) -> int:
    digits = path.stem.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0


__all__ = [
    "Ended",
    "Forked",
    "Fresh",
    "Gone",
    "Happened",
    "InheritedState",
    "Key",
    "LocalEngine",
    "Lost",
    "NotForked",
    "Preloaded",
]
