"""The engine of this machine: workers are forked by launchers, which are children of this process.

A launcher whose preloaded code is outdated keeps its workers until they end, beside a new one. The
launchers of a former supervisor are adopted with their workers. If a launcher is killed, this
process, their subreaper, inherits its workers and ends their trees itself. If another process had
started that launcher, its workers are reparented to init and are held by their pidfds alone.
"""

import contextlib
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import assert_never

from garrison.ipc.errors import GarrisonError
from garrison.ipc.system import process_tree
from garrison.supervisor.config.spec import ProcessLimits
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.limits import cgroup_limits

from . import cgroups, engine, launcher_process, protocol
from .engine import NO_LIMITS, Found, Happened, Inherited, Key, Measured
from .launcher_process import LEAVE_WAIT, LauncherProcess
from .post_mortem import PostMortem
from .protocol import TREE_WAIT, CheckFresh, Fork, Leave, Preload, Report, Signal, decode_report
from .takeover import Takeover
from .usage import CpuMeter, UsageMonitor, sample_quickly

FORK_WAIT = 5.0  # seconds for a launcher to fork, unless it is importing
GONE_WAIT = TREE_WAIT + 2.0  # seconds for a launcher to end the tree of a worker that has ended
SEARCH_S = 0.005  # of one turn, for processes that former workers left
# Minimum time between searches for what reparented workers left, which read the environment of
# every process; or twenty times the duration of a search, if that is longer.
SEARCH_GAP_S = 0.05


@dataclass(slots=True, eq=False)
class LocalWorker:
    """One worker."""

    launcher: LauncherProcess | None  # None: its launcher has ended
    limits: ProcessLimits = NO_LIMITS
    log_began: tuple[int, int] | None = None
    pid: int = 0
    pidfd: int = -1
    ticks: int = 0
    reparented: bool = False  # it is not a child of this process either
    paused: bool = False  # it was stopped when its stacks were requested
    cgroup: Path | None = None  # without a launcher: its cgroup
    end_tree_until: float = 0.0  # without a launcher, ended: deadline for its tree
    answer_due: float = inf  # when its launcher must have answered; after that it is killed

    @property
    def handle(self) -> Handle:
        """Return how it is found again."""
        return Handle(self.pid, self.ticks, self.log_began)


class LocalEngine:
    """All launchers and workers of this host.

    Args:
        run: The folder of sockets and flight recorders.
        logs: The folder of logs.
        environment: The environment of launchers, which workers inherit.
        orphan_grace: Seconds that launchers and workers outlive this process.
        each_cgroup: Whether each worker has a cgroup of its own, where possible.
        others: Pids of children of this process that are not the engine's; the caller may change
            the set later.
    """

    def __init__(
        self,
        run: Path,
        logs: Path,
        environment: Mapping[str, str],
        orphan_grace: float,
        each_cgroup: bool = True,
        others: set[int] | None = None,
    ) -> None:
        process_tree.become_subreaper()
        self._run, self._logs, self._environment = run, logs, dict(environment)
        self._orphan_grace, self._each_cgroup = orphan_grace, each_cgroup
        self._others = others if others is not None else set()
        self._number = 0  # of the last launcher's socket
        self._launchers: list[LauncherProcess] = []
        self._workers: dict[Key, LocalWorker] = {}
        self._happened: list[Happened] = []
        self._modules: tuple[str, ...] = ()  # that each new launcher preloads
        self._exits = select.epoll()  # the pidfds of all workers
        self._by_pidfd: dict[int, Key] = {}
        self._answers_due = inf  # the earliest `answer_due` of all workers
        self._orphans_until = 0.0  # end other processes of a lost launcher until then
        self._search_at = 0.0  # when to search for what reparented workers left
        self._takeover: Takeover | None = None
        self._known: dict[Key, Inherited] = {}  # workers of a former supervisor
        self._deferred: list[Callable[[], None]] = []  # commands that wait for the takeover
        self._missing: deque[Key] = deque()  # known workers that ended unseen
        self._usage = UsageMonitor()
        self._meter = CpuMeter()
        self._post_mortem = PostMortem(run, logs)

    # --- what to poll, and what has happened ------------------------------------------------

    @property
    def due(self) -> float:
        """Return when `turn` is to be called even if no descriptor is ready."""
        takeover = self._takeover.due if self._takeover is not None else inf
        return min(self._answers_due, self._usage.due, takeover)

    @property
    def busy(self) -> bool:
        """Return whether `turn` is to be called soon, though no descriptor is ready."""
        ending = any(worker.end_tree_until for worker in self._workers.values())
        waiting = self._happened or self._missing or self._post_mortem.busy
        return bool(waiting or self._orphans_until) or ending

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        sockets = [launcher.socket.fileno() for launcher in self._launchers]
        adopting = self._takeover.descriptors() if self._takeover is not None else []
        return [self._exits.fileno(), self._usage.wake, *sockets, *adopting]

    def turn(self) -> list[Happened]:
        """Return what has happened since the last call."""
        self._read_exits()
        if self._takeover is not None:
            self._adopt_further()
        for launcher in list(self._launchers):
            self._read(launcher)
        self._end_inherited_trees()
        self._end_missing()
        if time.monotonic() >= self._answers_due:
            self._end_hanging()
        self._happened += self._usage.turn()
        self._happened += self._post_mortem.read_next()
        happened, self._happened = self._happened, []
        return happened

    # --- launchers --------------------------------------------------------------------------

    def status(self) -> dict[str, int | None]:
        """Return what `garrison status` shows of the engine itself."""
        current = next((one for one in reversed(self._launchers) if not one.retired), None)
        return {"launcher_pid": current.pid if current is not None else None}

    def preload(self, modules: tuple[str, ...]) -> None:
        """Import modules once, for all later workers; answered by Preloaded."""
        if self._defer(partial(self.preload, modules)):
            return
        self._modules = ()  # if a new launcher must be started here, it imports them once
        self._import(self._current(), modules)
        self._modules = modules

    def check_fresh(self) -> None:
        """Check whether a preloaded file has changed; answered by Fresh."""
        if not self._defer(self.check_fresh):
            self._current().send(CheckFresh())

    def refresh(self, modules: tuple[str, ...]) -> None:
        """Fork from a new launcher from now on; answered by Preloaded if there are modules."""
        if self._defer(partial(self.refresh, modules)):
            return
        for launcher in self._launchers:
            if not launcher.retired:
                launcher.retired = True
                launcher.send(Leave())
        self._modules = modules
        self._start_launcher()

    def abandon(self) -> None:
        """Kill a launcher that hangs in an import; its workers are inherited."""
        for launcher in self._launchers:
            if launcher.importing:
                launcher.kill()

    def _current(self) -> LauncherProcess:
        """Return the launcher that forks now."""
        for launcher in reversed(self._launchers):
            if not launcher.retired:
                return launcher
        return self._start_launcher()

    def _start_launcher(self) -> LauncherProcess:
        self._number += 1
        launcher = launcher_process.start(
            self._run / f"launcher-{self._number}.sock",
            self._logs / "launcher.log",
            self._environment,
            self._orphan_grace,
            self._each_cgroup,
        )
        self._launchers.append(launcher)
        if self._modules:
            self._import(launcher, self._modules)
        return launcher

    def _import(self, launcher: LauncherProcess, modules: tuple[str, ...]) -> None:
        launcher.importing = True
        launcher.send(Preload(modules))

    # --- adoption ---------------------------------------------------------------------------

    def adopt(self, known: Sequence[Inherited]) -> None:
        """Start to take over what a former supervisor left running; answered by one Found."""
        self._known = {one.key: one for one in known}
        self._takeover = Takeover(self._run)
        self._number = max(self._number, self._takeover.last_number)

    def _defer(self, command: Callable[[], None]) -> bool:
        """Keep a command until the takeover is over; return False if it is."""
        if self._takeover is not None:
            self._deferred.append(command)
        return self._takeover is not None

    def _adopt_further(self) -> None:
        assert self._takeover is not None
        self._takeover.turn()
        if not self._takeover.finished:
            return
        takeover, self._takeover = self._takeover, None
        before, self._happened = self._happened, []
        found = self._adopt_launchers(takeover)
        found = self._adopt_reparented(found)
        self._happened = [*before, found, *self._happened]
        self._post_mortem.sweep({*self._known, *found.running})
        deferred, self._deferred = self._deferred, []
        for command in deferred:
            command()

    def _adopt_launchers(self, takeover: Takeover) -> Found:
        found = Found(launchers=len(takeover.complete), refused=tuple(takeover.refused))
        running: dict[Key, str] = {}
        ended: set[Key] = set()
        for inventory in takeover.complete:
            launcher, end = inventory.launcher, inventory.end
            assert end is not None
            launcher.retired = end.retired
            self._launchers.append(launcher)
            self._others.discard(launcher.pid)
            for report, fds in inventory.reports:
                if isinstance(report, protocol.Forked):
                    self._resume(report.key, report.name)
                    self._workers[report.key] = self._inherited(report.key, launcher)
                    launcher.keys.add(report.key)
                    running[report.key] = report.name
                elif isinstance(report, protocol.Ended):
                    self._resume(report.key, "")
                    ended.add(report.key)
                self._take(report, fds)
            found = replace(
                found,
                over=found.over and end.ending,
                ending=found.ending | launcher.keys if end.ending else found.ending,
            )
            if not end.retired:
                self._modules = end.modules
                outdated = end.code != protocol.CODE
                found = replace(found, modules=end.modules, outdated=outdated)
        return replace(found, running=running, ended=frozenset(ended))

    def _adopt_reparented(self, found: Found) -> Found:
        """Adopt known workers that no launcher has; report the others as ended."""
        reparented: dict[Key, str] = {}
        for key, one in self._known.items():
            if key in found.running or key in found.ended:
                continue
            self._resume(key, one.name)
            if self._hold(key, one.handle):
                reparented[key] = one.name
                self._happened.append(engine.Forked(key, self._workers[key].handle))
            else:
                self._missing.append(key)
        return replace(found, running=found.running | reparented, reparented=frozenset(reparented))

    def _resume(self, key: Key, name: str) -> None:
        known = self._known.get(key)
        began = known.handle.log_began if known is not None else None
        if name := known.name if known is not None else name:
            self._post_mortem.resume(key, name, began)

    def _inherited(self, key: Key, launcher: LauncherProcess | None) -> LocalWorker:
        known = self._known.get(key)
        began = known.handle.log_began if known is not None else None
        return LocalWorker(launcher, log_began=began)

    def _hold(self, key: Key, handle: Handle) -> bool:
        """Adopt a worker that has neither launcher nor parent; return False if it has ended."""
        try:
            pidfd = os.pidfd_open(handle.pid)
        except (OSError, OverflowError, ValueError):  # also for a number that is no pid
            return False
        same = process_tree.start_ticks(handle.pid) == handle.ticks
        if not same or process_tree.ended(pidfd, 0):
            os.close(pidfd)
            return False
        self._others.discard(handle.pid)
        worker = self._workers[key] = self._inherited(key, None)
        worker.pid, worker.pidfd, worker.ticks = handle.pid, pidfd, handle.ticks
        worker.reparented = handle.pid not in process_tree.children()
        worker.cgroup = cgroups.cgroup_of(handle.pid)
        self._register(key, pidfd)
        return True

    def _end_missing(self) -> None:
        """Report known workers that ended unseen, and end what they left."""
        until = time.monotonic() + SEARCH_S
        while self._missing and time.monotonic() < until:
            key = self._missing.popleft()
            process_tree.end_marked(process_tree.incarnation_mark(key))
            self._post_mortem.gone(key)
            self._happened += [engine.Ended(key, None), engine.Gone(key)]

    # --- workers ----------------------------------------------------------------------------

    def fork(
        self,
        key: Key,
        name: str,
        assignment: bytes,
        limits: ProcessLimits = NO_LIMITS,
        log: str = "",
    ) -> None:
        """Fork a worker; answered by Forked or NotForked."""
        if self._defer(partial(self.fork, key, name, assignment, limits, log)):
            return
        log_began = self._post_mortem.start(key, name, log or name)
        try:
            launcher = self._current()
            fd = os.memfd_create("assignment", os.MFD_CLOEXEC)
        except (OSError, GarrisonError) as error:
            self._not_forked(key, str(error))
            return
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(assignment)
            os.lseek(fd, 0, os.SEEK_SET)
            worker = self._workers[key] = LocalWorker(launcher, limits, log_began)
            self._expect_answer(worker, FORK_WAIT)
            launcher.keys.add(key)
            path = str(self._logs / f"{log or name}.log")
            if not launcher.send(Fork(key, name, path, cgroup_limits(limits)), fd):
                self._not_forked(key, "the launcher does not answer")
        finally:
            os.close(fd)

    def has(self, key: Key) -> bool:
        """Return whether anything of a worker is left."""
        return key in self._workers or (self._takeover is not None and key in self._known)

    def left(self, handles: Sequence[Handle]) -> list[Handle]:
        """Return those of these processes that still run."""
        return [one for one in handles if process_tree.is_alive(one.pid, one.ticks)]

    def watch(self, key: Key, limits: ProcessLimits) -> None:
        """Measure a worker against these limits from now on, if there are any."""
        worker = self._workers.get(key)
        if worker is not None:
            worker.limits = limits
            if worker.pid:
                self._usage.begin(key, worker.pid, limits)

    def measure(self, key: Key, tree: bool = False) -> Measured:
        """Return what a worker uses now."""
        worker = self._workers.get(key)
        if worker is None or not worker.pid:
            return Measured()
        rss, cpu = self._meter.measure(worker.pid)
        return Measured(rss, cpu, sample_quickly(worker.pid) if tree else self._usage.last(key))

    def signal(self, key: Key, number: int, group: bool = True) -> None:
        """Signal a worker's process group, or the worker alone."""
        worker = self._workers.get(key)
        if worker is None:
            self._defer(partial(self.signal, key, number, group))
        elif worker.launcher is not None:
            worker.launcher.send(Signal(key, number, group))
        elif worker.pidfd >= 0 and not worker.end_tree_until:
            if group:
                cgroups.signal_worker(worker.pid, number, worker.cgroup)
            else:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(worker.pidfd, number)

    def dump(self, key: Key) -> None:
        """Make a worker write its stacks to its log."""
        worker = self._workers.get(key)
        if worker is not None:
            self._post_mortem.dump(key)
            worker.paused = process_tree.stopped(worker.pid)
            self.signal(key, signal.SIGUSR1, group=False)

    def report(self, key: Key) -> None:
        """Read what a gone worker left for its crash report, then remove it."""
        self._post_mortem.request(key)

    def discard(self, key: Key) -> None:
        """Remove what a gone worker left for its crash report."""
        self._post_mortem.discard(key)

    def _register(self, key: Key, pidfd: int) -> None:
        self._exits.register(pidfd, select.EPOLLIN)
        self._by_pidfd[pidfd] = key

    def _forget(self, key: Key) -> None:
        self._usage.end(key)
        worker = self._workers.pop(key, None)
        if worker is None:
            return
        if worker.launcher is not None:
            worker.launcher.keys.discard(key)
        if worker.pidfd >= 0:
            if self._by_pidfd.pop(worker.pidfd, None) is not None:
                self._exits.unregister(worker.pidfd)
            os.close(worker.pidfd)

    def _not_forked(self, key: Key, reason: str) -> None:
        self._forget(key)
        self._post_mortem.gone(key)
        self._happened.append(engine.NotForked(key, reason))

    def _gone(self, key: Key, left: Collection[int]) -> None:
        self._forget(key)
        self._post_mortem.gone(key)
        handles = tuple(Handle(pid, process_tree.start_ticks(pid)) for pid in left)
        self._happened.append(engine.Gone(key, handles))

    # --- what launchers report --------------------------------------------------------------

    def _read_exits(self) -> None:
        """Report the workers whose pidfd shows that they have ended."""
        for fd, _ in self._exits.poll(0):
            self._exits.unregister(fd)
            key = self._by_pidfd.pop(fd)
            self._happened.append(engine.Died(key))
            worker = self._workers[key]
            self._usage.end(key)
            if worker.launcher is None:
                self._reap(key, worker)
            else:
                self._expect_answer(worker, GONE_WAIT)

    def _expect_answer(self, worker: LocalWorker, seconds: float) -> None:
        worker.answer_due = time.monotonic() + seconds
        self._answers_due = min(self._answers_due, worker.answer_due)

    def _end_hanging(self) -> None:
        """Kill every launcher that has not answered in time; its workers are inherited."""
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.answer_due <= now:
                launcher = worker.launcher
                if launcher is not None and not launcher.importing:  # imports have their own limit
                    launcher.kill()
                worker.answer_due = now + FORK_WAIT
        self._answers_due = min((one.answer_due for one in self._workers.values()), default=inf)

    def _read(self, launcher: LauncherProcess) -> None:
        while True:
            try:
                data, fds = launcher.receive()
            except BlockingIOError:
                return
            if not data:
                self._lost(launcher)
                return
            report = decode_report(data)
            if isinstance(report, protocol.Preloaded):
                launcher.importing = False
            self._take(report, fds)

    def _take(self, report: Report, fds: list[int]) -> None:
        match report:
            case protocol.Forked():
                self._forked(report, fds)
            case protocol.NotForked(key, reason):
                self._not_forked(key, reason)
            case protocol.Ended(key, status, user_s, system_s, rss_bytes, oom):
                paused = key in self._workers and self._workers[key].paused
                ended = engine.Ended(key, status, user_s, system_s, rss_bytes, oom, paused)
                self._happened.append(ended)
            case protocol.Gone(key, left):
                self._gone(key, left)
            case protocol.Preloaded(failed, threaded, took_s):
                self._happened.append(engine.Preloaded(failed, threaded, took_s))
            case protocol.Fresh(changed):
                self._happened.append(engine.Fresh(changed))
            case protocol.InventoryEnd():
                for fd in fds:
                    os.close(fd)
            case _:
                assert_never(report)

    def _forked(self, report: protocol.Forked, fds: list[int]) -> None:
        worker = self._workers.get(report.key)
        if worker is None:
            for fd in fds:
                os.close(fd)
            return
        if not fds:  # no descriptor was left; a worker that cannot be watched must not live
            self.signal(report.key, signal.SIGKILL)
            self._not_forked(report.key, "no file descriptor was left for it")
            return
        worker.pid, worker.pidfd, worker.answer_due = report.pid, fds[0], inf
        worker.ticks = process_tree.start_ticks(report.pid)
        self._register(report.key, worker.pidfd)
        self._usage.begin(report.key, worker.pid, worker.limits)
        self._happened.append(engine.Forked(report.key, worker.handle, report.unsupported))

    # --- the end of a launcher --------------------------------------------------------------

    def _lost(self, launcher: LauncherProcess) -> None:
        self._launchers.remove(launcher)
        launcher.kill()  # its socket is closed, so it is of no use even if it still runs
        launcher.reap()
        children = set(process_tree.children())
        inherited = 0
        for key in list(launcher.keys):
            worker = self._workers[key]
            worker.answer_due = inf
            if not worker.pid:
                self._not_forked(key, "the launcher was lost")
                continue
            worker.launcher, worker.reparented = None, worker.pid not in children
            worker.cgroup = cgroups.cgroup_of(worker.pid)
            inherited += 1
            if worker.pidfd >= 0 and worker.pidfd not in self._by_pidfd:
                self._reap(key, worker)  # it ended, and the launcher has not reported it
        launcher.keys.clear()
        orphans = process_tree.kill_orphans(self._kept_pids())
        self._orphans_until = time.monotonic() + TREE_WAIT if orphans else 0.0
        if launcher.importing:
            self._modules = ()  # else the next launcher would end from it as well
        if not launcher.retired or inherited:
            lost = engine.Lost(Handle(launcher.pid), inherited, launcher.importing)
            self._happened.append(lost)

    def _kept_pids(self) -> set[int]:
        launchers = {launcher.pid for launcher in self._launchers}
        inherited = {worker.pid for worker in self._workers.values() if worker.launcher is None}
        return launchers | inherited | self._others

    def _reap(self, key: Key, worker: LocalWorker) -> None:
        """Reap a worker without a launcher, and begin to end its tree."""
        # A zombie still holds its number, and so does a group with a member left.
        cgroups.signal_worker(worker.pid, signal.SIGKILL, worker.cgroup)
        status: int | None = None
        if not worker.reparented:
            with contextlib.suppress(ChildProcessError):
                process_tree.ended(worker.pidfd, LEAVE_WAIT)  # it may have been killed just now
                reaped, word = os.waitpid(worker.pid, os.WNOHANG)
                status = word if reaped else None
        worker.pid = 0
        worker.end_tree_until = time.monotonic() + TREE_WAIT
        self._usage.end(key)
        self._happened.append(engine.Ended(key, status, paused=worker.paused))

    def _end_inherited_trees(self) -> None:
        """End what workers without a launcher left, until nothing is left or time is up."""
        ending = [(key, worker) for key, worker in self._workers.items() if worker.end_tree_until]
        now = time.monotonic()
        if not (ending or self._orphans_until) or now < self._search_at:
            return
        orphans = process_tree.kill_orphans(self._kept_pids())
        if not orphans or now >= self._orphans_until:
            self._orphans_until = 0.0
        for key, worker in ending:
            left = list(orphans)
            if worker.reparented:  # init has what it left: environment and cgroup identify it
                began = time.monotonic()
                left += process_tree.end_marked(process_tree.incarnation_mark(key))
                took = time.monotonic() - began
                self._search_at = max(self._search_at, now + max(SEARCH_GAP_S, 20 * took))
            if cgroups.kill(worker.cgroup):
                left += cgroups.inside(worker.cgroup)
            if not left or now >= worker.end_tree_until:
                self._gone(key, left)

    # --- the end ----------------------------------------------------------------------------

    def close(self) -> None:
        """Release descriptors and threads; workers and launchers continue, for a successor."""
        self._usage.close()

    def leave(self, kill: bool) -> None:
        """End all workers and launchers; with `kill`, within some five seconds."""
        if self._takeover is not None:
            self._takeover.finish()
            self._adopt_further()
        for key, worker in list(self._workers.items()):
            if worker.launcher is None and worker.pid:
                process_tree.signal_group(worker.pid, signal.SIGKILL)
                self._reap(key, worker)
            if worker.reparented:
                process_tree.end_marked(process_tree.incarnation_mark(key))
        for launcher in self._launchers:
            # All services have ended by now. A probe of a plugin, or a worker that is not this
            # host's, must neither keep the launcher nor outlive it.
            launcher.send(Leave(kill or bool(launcher.keys)))
        running = {
            key: cgroups.cgroup_of(worker.pid)
            for key, worker in self._workers.items()
            if worker.pid
        }
        for launcher in self._launchers:
            launcher.wait_for_exit(LEAVE_WAIT)
        self._end_left(running)
        process_tree.end_everything_below(TREE_WAIT, self._others)
        self._launchers.clear()
        for worker in self._workers.values():
            if worker.pidfd >= 0:
                os.close(worker.pidfd)
        self._workers.clear()
        self._exits.close()
        self._post_mortem.sweep()

    def _end_left(self, running: Mapping[Key, Path | None]) -> None:
        """End workers of launchers that had to be killed: they may be init's children by now."""
        for key, worker in self._workers.items():
            if worker.launcher is None or worker.pidfd < 0 or process_tree.ended(worker.pidfd, 0):
                continue
            process_tree.signal_group(worker.pid, signal.SIGKILL)
            cgroups.kill(running.get(key))
            process_tree.end_marked(process_tree.incarnation_mark(key))
            process_tree.ended(worker.pidfd, TREE_WAIT)
