"""The engine of this machine: workers are forked by launchers, which are children of this process.

An outdated launcher keeps its workers until they end. Those of a former supervisor are adopted. If
one is killed, this process, a subreaper, inherits its workers and ends their trees itself. If
another process had started it, they are reparented to init, and are held by their pidfds alone.
"""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import assert_never

from garrison.ipc.errors import GarrisonError
from garrison.ipc.system import process_tree
from garrison.supervisor.config.spec import ProcessLimits
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.limits import cgroup_limits
from garrison.supervisor.lifecycle.start_slots import StartWork

from . import cgroups, engine, inherited, protocol, stacks
from .cpu import CpuMeter
from .engine import NO_LIMITS, SELF, Found, Happened, Inherited, Key, Measured
from .inherited import InheritedTrees
from .launcher_process import LauncherProcess, remove_stale_in
from .launchers import LauncherSet
from .post_mortem import PostMortem, inode_and_size
from .protocol import TREE_WAIT, CheckFresh, Fork, Report, Signal, decode_report
from .start_work import sample_start
from .takeover import Inventory, LauncherTakeover
from .usage import UsageMonitor, sample_quickly
from .worker_table import LocalWorker, WorkerTable

FORK_WAIT = 5.0  # seconds for a launcher to fork, unless it starts or imports
GONE_WAIT = TREE_WAIT + 2.0  # seconds for a launcher to end the tree of a worker that has ended
SEARCH_S = 0.005  # of one turn, for processes that former workers left


class LocalEngine:
    """All launchers and workers of this host.

    Args:
        run: The folder of sockets and flight recorders.
        logs: The folder of logs.
        environment: The environment of launchers, which workers inherit.
        orphan_grace: Seconds that launchers and workers outlive this process.
        each_cgroup: Whether each worker has a cgroup of its own, where possible.
        others: Pids of children of this process that are not the engine's; it may change later.
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
        self._run, self._logs = run, logs
        self._run_inode = inode_and_size(run)[0]
        self._others = others if others is not None else set()
        self._strangers = set(self._others)  # no code of this process waits for these
        self._launchers = LauncherSet(run, logs, environment, orphan_grace, each_cgroup)
        self._workers = WorkerTable()
        self._trees = InheritedTrees()
        self._happened: list[Happened] = []
        self._takeover: LauncherTakeover | None = None
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
        return min(self._workers.answers_due, self._usage.due, self._meter.due, takeover)

    @property
    def busy(self) -> bool:
        """Return whether `turn` is to be called soon, though no descriptor is ready."""
        waiting = self._happened or self._missing or self._post_mortem.busy
        return bool(waiting) or self._trees.busy(self._workers)

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        sockets = self._launchers.sockets()
        adopting = self._takeover.descriptors() if self._takeover is not None else []
        return [self._workers.fileno(), self._usage.wake, *sockets, *adopting]

    def turn(self) -> list[Happened]:
        """Return what has happened since the last call."""
        self._read_exits()
        if self._takeover is not None:
            self._adopt_further()
        for launcher in self._launchers:
            self._read(launcher)
        if self._trees.busy(self._workers):
            for key, left in self._trees.step(self._workers, self._kept_pids()):
                self._gone(key, left)
        self._end_missing()
        if time.monotonic() >= self._workers.answers_due:
            self._end_hanging()
        if time.monotonic() >= self._meter.due:
            pids = {worker.pid for worker in self._workers.values() if worker.pid}
            self._meter.sample({os.getpid(), *pids})
        self._happened += self._usage.turn()
        self._happened += self._post_mortem.read_next()
        happened, self._happened = self._happened, []
        return happened

    # --- launchers --------------------------------------------------------------------------

    def status(self) -> dict[str, int | None]:
        """Return what `garrison status` shows of the engine itself."""
        return {"launcher_pid": self._launchers.pid}

    def preload(self, modules: tuple[str, ...]) -> None:
        """Import modules once, for all later workers; answered by Preloaded."""
        if not self._defer(partial(self.preload, modules)):
            self._launchers.preload(modules)

    def check_fresh(self) -> None:
        """Check whether a preloaded file has changed; answered by Fresh."""
        if not self._defer(self.check_fresh):
            self._launchers.current().send(CheckFresh())

    def refresh(self, modules: tuple[str, ...]) -> None:
        """Fork from a new launcher from now on; answered by Preloaded if there are modules."""
        if not self._defer(partial(self.refresh, modules)):
            self._launchers.replace(modules)

    def abandon(self) -> None:
        """Kill a launcher that hangs in an import; its workers are inherited."""
        self._launchers.kill_importing()

    # --- adoption ---------------------------------------------------------------------------

    def adopt(self, known: Sequence[Inherited]) -> None:
        """Start to take over what a former supervisor left running; answered by one Found."""
        self._known = {one.key: one for one in known}
        self._takeover = LauncherTakeover(self._run)
        last = max(self._launchers.last_number, self._takeover.last_number)
        self._launchers.last_number = last

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
        found = takeover.found()
        for inventory in takeover.complete:
            self._adopt_launcher(inventory)
        found = self._adopt_reparented(found)
        self._happened = [*before, found, *self._happened]
        self._post_mortem.sweep({*self._known, *found.running})
        self.reap()
        while self._deferred:
            self._deferred.pop(0)()

    def _adopt_launcher(self, inventory: Inventory) -> None:
        launcher, end = inventory.launcher, inventory.end
        assert end is not None
        launcher.retired = end.retired
        self._launchers.add(launcher, end.modules)
        self._others.discard(launcher.pid)
        for report, fds in inventory.reports:
            if isinstance(report, protocol.ForkedReport):
                self._resume(report.key, report.name)
                self._workers[report.key] = LocalWorker(
                    launcher, log_began=self._log_began(report.key)
                )
                launcher.keys.add(report.key)
            elif isinstance(report, protocol.EndedReport):
                self._resume(report.key, "")
            self._take(report, fds)

    def _adopt_reparented(self, found: Found) -> Found:
        """Adopt known workers that no launcher has; report the others as ended."""
        reparented: dict[Key, str] = {}
        for key, one in self._known.items():
            if key in found.running or key in found.ended:
                continue
            self._resume(key, one.name)
            if self._hold(key, one):
                reparented[key] = one.name
                self._happened.append(engine.Forked(key, self._workers[key].handle))
            else:
                self._missing.append(key)
        return replace(found, running=found.running | reparented, reparented=frozenset(reparented))

    def _resume(self, key: Key, name: str) -> None:
        """Note where a former supervisor's worker leaves its files; an unknown one by its name."""
        known = self._known.get(key)
        if name := known.name if known is not None else name:
            self._post_mortem.resume(key, name, self._log_began(key))

    def _log_began(self, key: Key) -> tuple[int, int] | None:
        known = self._known.get(key)
        return known.handle.log_began if known is not None else None

    def _hold(self, key: Key, known: Inherited) -> bool:
        """Adopt a worker that has neither launcher nor parent; return False if it has ended."""
        handle, pidfd = known.handle, inherited.open_worker(key, known)
        if pidfd < 0:
            return False
        self._others.discard(handle.pid)
        worker = self._workers[key] = LocalWorker(None, log_began=handle.log_began)
        worker.pid, worker.ticks = handle.pid, handle.ticks
        inherited.inherit(worker, process_tree.children())
        self._workers.watch_exit(key, pidfd)
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
            launcher = self._launchers.current()
            fd = os.memfd_create("assignment", os.MFD_CLOEXEC)
        except (OSError, GarrisonError) as error:
            self._not_forked(key, str(error))
            return
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(assignment)
            os.lseek(fd, 0, os.SEEK_SET)
            worker = self._workers[key] = LocalWorker(launcher, limits, log_began)
            self._workers.expect_answer(worker, FORK_WAIT)
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
        pid = os.getpid() if key == SELF else worker.pid if worker is not None else 0
        if not pid:
            return Measured()
        used = self._meter.measure(pid)
        below = sample_quickly(pid) if tree else self._usage.last(key)
        return Measured(used.rss_bytes, used.percent, below, used.seconds)

    def measure_start(self, key: Key) -> StartWork | None:
        """Return what a worker has used of the processor."""
        worker = self._workers.get(key)
        return sample_start(worker.pid) if worker is not None and worker.pid else None

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
            log = self._post_mortem.dump(key)
            worker.paused = process_tree.stopped(worker.pid)
            if not stacks.dump_many(worker.pid, log):
                self.signal(key, signal.SIGUSR1, group=False)

    def report(self, key: Key) -> None:
        """Read what a gone worker left for its crash report, then remove it."""
        self._post_mortem.request(key)

    def discard(self, key: Key) -> None:
        """Remove what a gone worker left for its crash report."""
        self._post_mortem.discard(key)

    def _not_forked(self, key: Key, reason: str) -> None:
        self._usage.end(key)
        self._workers.forget(key)
        self._post_mortem.gone(key)
        self._happened.append(engine.NotForked(key, reason))

    def _gone(self, key: Key, left: Collection[int]) -> None:
        self._usage.end(key)
        self._workers.forget(key)
        self._post_mortem.gone(key)
        handles = tuple(Handle(pid, process_tree.start_ticks(pid)) for pid in left)
        self._happened.append(engine.Gone(key, handles))

    # --- what launchers report --------------------------------------------------------------

    def _read_exits(self) -> None:
        """Report the workers whose pidfd shows that they have ended."""
        for key, worker in self._workers.exited():
            self._died(key, worker)
            if worker.launcher is None:
                self._reap(key, worker)

    def _died(self, key: Key, worker: LocalWorker) -> None:
        self._happened.append(engine.Died(key, self._post_mortem.batches_read(key)))
        self._usage.end(key)
        if worker.launcher is not None:
            self._workers.expect_answer(worker, GONE_WAIT)

    def _end_hanging(self) -> None:
        """Kill every launcher that has not answered in time; its workers are inherited."""
        for worker in self._workers.answers_late(FORK_WAIT):
            if worker.launcher is not None and not worker.launcher.may_be_silent:
                worker.launcher.kill()

    def _read(self, launcher: LauncherProcess) -> None:
        while True:
            try:
                data, fds = launcher.receive()
            except BlockingIOError:
                return
            if not data:
                self._lost(launcher)
                return
            launcher.boot_until = 0.0
            report = decode_report(data)
            if isinstance(report, protocol.PreloadedReport):
                launcher.importing = False
            self._take(report, fds)

    def _take(self, report: Report, fds: list[int]) -> None:
        match report:
            case protocol.ForkedReport():
                self._forked(report, fds)
            case protocol.NotForkedReport(key, reason):
                self._not_forked(key, reason)
            case protocol.EndedReport(key, status, user_s, system_s, rss_bytes, oom):
                if self._workers.exited_by_report(key):  # before its pidfd was polled
                    self._died(key, self._workers[key])
                paused = key in self._workers and self._workers[key].paused
                ended = engine.Ended(key, status, user_s, system_s, rss_bytes, oom, paused)
                self._happened.append(ended)
            case protocol.GoneReport(key, left):
                self._gone(key, left)
            case protocol.PreloadedReport(failed, threaded, took_s, opened):
                self._happened.append(engine.Preloaded(failed, threaded, took_s, opened))
            case protocol.FreshReport(changed):
                self._happened.append(engine.Fresh(changed))
            case protocol.InventoryEnd():
                for fd in fds:
                    os.close(fd)
            case _:
                assert_never(report)

    def _forked(self, report: protocol.ForkedReport, fds: list[int]) -> None:
        worker = self._workers.get(report.key)
        if worker is None:
            for fd in fds:
                os.close(fd)
            return
        if not fds:  # no descriptor was left; a worker that cannot be watched must not live
            self.signal(report.key, signal.SIGKILL)
            self._not_forked(report.key, "no file descriptor was left for it")
            return
        worker.pid, worker.answer_due = report.pid, inf
        worker.ticks = process_tree.start_ticks(report.pid)
        self._workers.watch_exit(report.key, fds[0])
        self._usage.begin(report.key, worker.pid, worker.limits)
        self._happened.append(engine.Forked(report.key, worker.handle, report.unsupported))

    def reap(self) -> None:
        """Reap the ended children that no code of this process waits for."""
        if self._takeover is not None:  # until it is over, launchers and workers are unknown
            return
        ours = {one.pid for one in (*self._launchers, *self._workers.values())}
        reaped = inherited.reap_strangers(ours | self._others - self._strangers)
        self._others -= reaped
        self._strangers -= reaped

    # --- the end of a launcher --------------------------------------------------------------

    def _lost(self, launcher: LauncherProcess) -> None:
        self._launchers.remove(launcher)
        children = set(process_tree.children())
        count = 0
        for key in list(launcher.keys):
            (worker := self._workers[key]).answer_due = inf
            if not worker.pid:
                self._not_forked(key, "the launcher was lost")
                continue
            inherited.inherit(worker, children)
            count += 1
            if self._workers.exit_seen(worker):
                self._reap(key, worker)  # it ended, and the launcher has not reported it
        launcher.keys.clear()
        self._trees.launcher_lost(self._kept_pids())
        if not launcher.retired or count:
            self._happened.append(engine.Lost(Handle(launcher.pid), count, launcher.importing))

    def _kept_pids(self) -> set[int]:
        launchers = {one.pid for one in self._launchers}
        return launchers | self._workers.without_launcher() | self._others

    def _reap(self, key: Key, worker: LocalWorker) -> None:
        status = inherited.reap(worker)
        self._usage.end(key)
        self._happened.append(engine.Ended(key, status, paused=worker.paused))

    # --- the end ----------------------------------------------------------------------------

    def close(self) -> None:
        """Release descriptors and threads; workers and launchers continue, for a successor."""
        self._usage.close()
        self._launchers.close()
        self._workers.close()

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
        self._launchers.leave(kill)
        workers = self._workers.items()
        running = {key: cgroups.cgroup_of(one.pid) for key, one in workers if one.pid}
        self._launchers.wait_for_exit()
        for key, worker in self._workers.items():
            launched = worker.launcher is not None and worker.pidfd >= 0
            if launched and not process_tree.ended(worker.pidfd, 0):
                inherited.end_left(key, worker, running.get(key))
        process_tree.end_everything_below(TREE_WAIT, self._others)
        self._workers.close()
        remove_stale_in(self._run)
        if inode_and_size(self._run)[0] == self._run_inode:  # else it may be another host's
            self._post_mortem.sweep()
