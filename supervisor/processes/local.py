"""The engine of this machine: workers are forked by launchers, which are children of this process.

There is one for the host's own interpreter, and one for each other one that a plugin names. An
outdated launcher keeps its workers until they end. Those of a former supervisor are adopted. If
one is killed, this process, a subreaper, inherits its workers and ends their trees itself. If
another process had started it, they are reparented to init, and are held by their pidfds alone.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import assert_never

from msgspec.structs import replace

from garrison.ipc.errors import GarrisonError
from garrison.ipc.system import process_tree
from garrison.supervisor.config.spec import ProcessLimits
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.limits import cgroup_limits
from garrison.supervisor.lifecycle.start_slots import StartWork

from . import cgroups, engine, inherited, protocol, stacks
from .command_usage import usage_below
from .cpu import CpuMeter
from .early_launcher import EarlyLauncher
from .engine import NO_LIMITS, SELF, Happened, Inherited, Key, Measured
from .former_workers import FormerWorkers
from .inherited import InheritedTrees
from .inquiry import InterpreterProblem
from .launcher_process import LauncherProcess, remove_stale_in
from .launchers import LauncherSet
from .other_interpreters import OtherInterpreters, WaitingFork
from .post_mortem import PostMortem, inode_and_size
from .protocol import TREE_WAIT, Fork, Report, Signal, decode_report
from .start_work import sample_start
from .takeover import Inventory, LauncherTakeover
from .usage import UsageMonitor, sample_quickly
from .worker_table import LocalWorker, WorkerTable

FORK_WAIT = 5.0  # seconds for a launcher to report, unless it starts or imports
GONE_WAIT = TREE_WAIT + 2.0  # seconds for a launcher to end the tree of a worker that has ended


class LocalEngine:
    """All launchers and workers of this host.

    Args:
        run: The folder of sockets and flight recorders.
        logs: The folder of logs.
        environment: The environment of launchers, which workers inherit.
        orphan_grace: Seconds that launchers and workers outlive this process.
        each_cgroup: Whether each worker has a cgroup of its own, where possible.
        others: Pids of children of this process that are not the engine's; it may change later.
        early: The first launcher, if it was started already.
    """

    def __init__(
        self,
        run: Path,
        logs: Path,
        environment: Mapping[str, str],
        orphan_grace: float,
        each_cgroup: bool = True,
        others: set[int] | None = None,
        early: EarlyLauncher | None = None,
    ) -> None:
        process_tree.become_subreaper()
        self._run, self._logs = run, logs
        self._run_inode = inode_and_size(run)[0]
        self._others = others if others is not None else set()
        self._strangers = set(self._others)  # no code of this process waits for these
        self._launchers = LauncherSet(run, logs, environment, orphan_grace, each_cgroup, early)
        self._workers = WorkerTable()
        self._trees = InheritedTrees()
        self._happened: list[Happened] = []
        self._takeover: LauncherTakeover | None = None
        self._deferred: list[Callable[[], None]] = []  # commands that wait for the takeover
        self._usage = UsageMonitor()
        self._meter, self._command_meter = CpuMeter(), CpuMeter(usage_below)
        self._post_mortem = PostMortem(run, logs)
        self._former = FormerWorkers(self._workers, self._post_mortem, self._others)
        self._interpreters = OtherInterpreters(environment)

    # --- what to poll, and what has happened ------------------------------------------------

    @property
    def due(self) -> float:
        """Return when `turn` is to be called even if no descriptor is ready."""
        parts = self._workers.answers_due, self._usage.due, self._meter.due
        takeover = self._takeover.due if self._takeover is not None else inf
        return min(*parts, takeover, self._interpreters.due, self._launchers.idle_due)

    @property
    def busy(self) -> bool:
        """Return whether `turn` is to be called soon, though no descriptor is ready."""
        waiting = self._happened or self._former.busy or self._post_mortem.busy
        return bool(waiting) or self._trees.busy(self._workers)

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        adopting = self._takeover.descriptors() if self._takeover is not None else []
        others = [*self._launchers.sockets(), *adopting, *self._interpreters.descriptors()]
        return [self._workers.fileno(), self._usage.wake, *others]

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
        self._happened += self._former.end_missing()
        if (changed := self._launchers.take_changed()) is not None:
            self._happened.append(engine.Fresh(changed))
        self._take_answers()
        self._launchers.retire_idle()
        if time.monotonic() >= self._workers.answers_due:
            self._end_hanging()
        if time.monotonic() >= self._meter.due:
            workers = self._workers.values()
            self._meter.sample({os.getpid(), *(one.pid for one in workers if one.pid)})
            self._command_meter.sample({one.pid for one in workers if one.command})
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
            self._launchers.check_fresh()

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
        self._former.begin(known)
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
        reparented = self._former.hold_reparented(found)
        for key in reparented:
            self._happened.append(engine.Forked(key, self._workers[key].handle))
        running = found.running | reparented
        found = replace(found, running=running, reparented=frozenset(reparented))
        self._happened = [*before, found, *self._happened]
        self._post_mortem.sweep({*self._former.known, *found.running})
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
                self._former.resume(report.key, report.name)
                self._workers[report.key] = LocalWorker(
                    launcher, log_began=self._former.log_began(report.key)
                )
                launcher.keys.add(report.key)
            elif isinstance(report, protocol.EndedReport):
                self._former.resume(report.key, "")
            self._take(report, fds)

    # --- workers ----------------------------------------------------------------------------

    def fork(
        self,
        key: Key,
        name: str,
        assignment: bytes,
        limits: ProcessLimits = NO_LIMITS,
        log: str = "",
        python: str = "",
        brief: bool = False,
    ) -> None:
        """Fork a worker; answered by Forked or NotForked."""
        if self._defer(partial(self.fork, key, name, assignment, limits, log, python, brief)):
            return
        fork = WaitingFork(key, name, assignment, limits, log or name, brief)
        worker = LocalWorker(None, limits, self._post_mortem.start(key, name, fork.log))
        try:
            if (launcher := self._launchers.under(python)) is not None:
                self._fork_by(launcher, fork, worker)
                return
            self._workers[key] = worker
            self._interpreters.wait(python, fork, self._launchers.used())
        except (OSError, GarrisonError) as error:
            self._not_forked(key, str(error))
        except InterpreterProblem as error:
            self._not_forked(key, str(error), unusable=True)

    def _fork_by(self, launcher: LauncherProcess, fork: WaitingFork, worker: LocalWorker) -> None:
        """Have a launcher fork a worker.

        Raises:
            OSError: No descriptor is left for its assignment.
        """
        worker.launcher = launcher
        self._workers[fork.key] = worker
        self._workers.expect_answer(worker, FORK_WAIT)
        launcher.keys.add(fork.key)
        path = str(self._logs / f"{fork.log}.log")
        command = Fork(fork.key, fork.name, path, cgroup_limits(fork.limits), fork.brief)
        if not launcher.fork(command, fork.assignment):
            self._not_forked(fork.key, "the launcher does not answer")

    def _take_answers(self) -> None:
        """Fork what has waited for its interpreter."""
        for answered in self._interpreters.turn():
            for fork in answered.forks:
                if answered.problem:
                    self._not_forked(fork.key, answered.problem, unusable=True)
                    continue
                try:
                    launcher = self._launchers.start_under(answered.under)
                    self._fork_by(launcher, fork, self._workers[fork.key])
                except (OSError, GarrisonError) as error:
                    self._not_forked(fork.key, str(error))

    def has(self, key: Key) -> bool:
        """Return whether anything of a worker is left."""
        return key in self._workers or (self._takeover is not None and key in self._former.known)

    def contact(self, key: Key) -> None:
        """Return None: nothing on the way holds up what workers of this machine send."""

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

    def measure(self, key: Key, tree: bool = False, command: bool = False) -> Measured:
        """Return what a worker uses now."""
        worker = self._workers.get(key)
        pid = os.getpid() if key == SELF else worker.pid if worker is not None else 0
        if not pid:
            return Measured()
        if worker is not None:
            worker.command = command  # sampled from now on
        used = (self._command_meter if command else self._meter).measure(pid)
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
        elif self._interpreters.drop(key):
            self._not_forked(key, "it was ended before its interpreter had answered")
        elif worker.pidfd >= 0 and not worker.end_tree_until:
            if group:
                cgroups.signal_worker(worker.pid, number, worker.cgroup)
            else:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(worker.pidfd, number)

    def dump(self, key: Key, is_last: bool = True) -> None:
        """Make a worker write its stacks to its log."""
        worker = self._workers.get(key)
        if worker is not None:
            log = self._post_mortem.dump(key, is_last)
            worker.paused = is_last and process_tree.stopped(worker.pid)
            if not stacks.dump_many(worker.pid, log):
                self.signal(key, signal.SIGUSR1, group=False)

    def report(self, key: Key) -> None:
        """Read what a gone worker left for its crash report, then remove it."""
        self._post_mortem.request(key)

    def discard(self, key: Key) -> None:
        """Remove what a gone worker left for its crash report."""
        self._post_mortem.discard(key)

    def _not_forked(self, key: Key, reason: str, unusable: bool = False) -> None:
        self._usage.end(key)
        self._workers.forget(key)
        self._post_mortem.gone(key)
        self._happened.append(engine.NotForked(key, reason, unusable))

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
            self._workers.answered(launcher.keys, FORK_WAIT)
            report = decode_report(data)
            launcher.importing &= not isinstance(report, protocol.PreloadedReport)
            if isinstance(report, protocol.FreshReport):
                self._launchers.note_fresh(launcher, report.changed)
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
            case protocol.FreshReport():
                pass
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
        ours |= self._interpreters.pids()
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
                self._not_forked(key, launcher.lost_words)
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
        answering = self._interpreters.pids()
        return launchers | answering | self._workers.without_launcher() | self._others

    def _reap(self, key: Key, worker: LocalWorker) -> None:
        status = inherited.reap(worker)
        self._trees.worker_ended()
        self._usage.end(key)
        self._happened.append(engine.Ended(key, status, paused=worker.paused))

    # --- the end ----------------------------------------------------------------------------

    def close(self) -> None:
        """Release descriptors and threads; workers and launchers continue, for a successor."""
        self._usage.close()
        self._interpreters.close()
        self._launchers.close()
        self._workers.close()

    def leave(self, kill: bool) -> None:
        """End all workers and launchers; with `kill`, within some five seconds."""
        if self._takeover is not None:
            self._takeover.finish()
            self._adopt_further()
        self._interpreters.close()
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
