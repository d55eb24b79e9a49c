"""The launcher process: has workers forked, reaps them and ends their process trees.

It has one thread, no event loop and no ZeroMQ context: only such a process may fork. It has the
libraries imported, so a worker starts in milliseconds. Workers are forked by a copy of it, the
template. A worker's assignment arrives as a descriptor, which is passed on unread. The launcher
outlives its supervisor by `orphan_grace` seconds; a new supervisor that connects in that time
receives an inventory of the workers.
"""

from . import hot_names  # noqa: F401 (before other names are made)

# isort: split
import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from math import inf
from typing import assert_never

import msgspec

from garrison.ipc.system import log_stream, malloc, process_tree
from garrison.supervisor import signals

from . import cgroups, protocol
from .brief_workers import fork_brief
from .early_launcher import EARLY
from .fork import ForkedWorker, open_descriptors
from .launcher_socket import LauncherSocket
from .loaded import LoadedModules
from .protocol import (
    CheckFresh,
    Command,
    EarlySettings,
    EndedReport,
    Fork,
    ForkedReport,
    FreshReport,
    GoneReport,
    InventoryEnd,
    LeaveCommand,
    NotForkedReport,
    Preload,
    Report,
    Signal,
    decode_command,
)
from .spares import SPARE, TEMPLATE, Entry, Spares
from .supervisor_link import SupervisorLink
from .tree_ends import TreeEnds

ENDED = select.POLLHUP | select.POLLERR | select.POLLRDHUP  # the other end has closed
TERM_WAIT = 2.0  # seconds from SIGTERM to SIGKILL
ENDS_KEPT = 256  # ends of workers that are reported to the next supervisor


class Launcher:
    """The launcher's whole state and its loop."""

    def __init__(
        self,
        connection: socket.socket,
        path: str,
        orphan_grace: float,
        worker_cgroups: cgroups.Cgroups,
        loaded: LoadedModules,
    ) -> None:
        self._link = SupervisorLink(connection)
        self._orphan_grace = orphan_grace
        self._cgroups = worker_cgroups
        self._workers: dict[bytes, ForkedWorker] = {}
        self._pids: dict[int, bytes] = {}
        self._names: dict[bytes, str] = {}
        self._recent_ends: dict[bytes, EndedReport] = {}
        self._trees = TreeEnds(worker_cgroups, self._pids, self._gone)
        self._entry = _entry()
        self._spares = Spares(
            worker_cgroups,
            self._pids,
            started=self._started,
            failed=self._not_forked,
            orphaned=self._trees.end_orphans_soon,
            settled=self._trees.work,
            entry=self._entry,
        )
        self._early: list[Signal] = []  # for workers that are not forked yet
        self._retired = False
        self._kill_at = inf  # when to send SIGTERM, then SIGKILL, to all workers
        self._termed = False
        self._loaded = loaded
        self._reaped = 0
        self._socket = LauncherSocket(path)
        self._wake, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signals.catch(_report_signal, signals.handled())
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # its supervisor may have blocked some
        self._own_fds = {self._wake, self._wake_write}

    @property
    def has_supervisor(self) -> bool:
        """Return whether the supervisor is there, as of now."""
        return self._link.has_peer()

    def run(self) -> None:
        """Serve until nothing is left to serve."""
        try:
            while not self._finished():
                self._turn()
        finally:
            self._spares.close()
        self.close()

    def close(self) -> None:
        """Remove what this process has made."""
        self._cgroups.close()
        self._socket.unlink()

    def _finished(self) -> bool:
        empty = not self._workers and not self._trees.ending and not self._spares.busy
        return empty and (self._retired or self._termed)

    def _turn(self) -> None:
        for fd, _ in self._poller().poll(self._wait() * 1000):
            if fd == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake, 4096)
            elif fd == self._socket.fileno():
                self._accept()
            elif fd == self._spares.fileno():
                self._spares.forked()
            else:
                self._read()
        self._socket.restore_if_lost(self._link.live_peer)
        self._reap()
        if time.monotonic() >= self._spares.due:
            self._fork_ahead()
        if time.monotonic() >= self._kill_at:
            self._end_all()
        self._send_unsent()

    def _poller(self) -> select.poll:
        poll = select.poll()
        for fd in (self._wake, self._socket.fileno(), self._spares.fileno()):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        if self._link.connected:
            poll.register(self._link.fileno(), self._link.events())
        return poll

    def _wait(self) -> float:
        if self._trees.busy:
            return 0.002
        due = min(self._kill_at, self._spares.due, self._socket.due)
        return min(max(due - time.monotonic(), 0), 60)

    # --- the connection to the supervisor ---------------------------------------------------

    def _accept(self) -> None:
        connection = self._socket.accept(self._link.has_peer())
        if connection is None:
            return
        self._link.replace(connection)
        self._spares.cancel("its supervisor ended")  # the next one would not know the worker
        if not self._termed:
            self._kill_at = inf
        self._send_inventory()

    def _send_inventory(self) -> None:
        """Report everything to a new supervisor: what the old one received is unknown."""
        for key, process in self._workers.items():
            fd = -1
            with contextlib.suppress(OSError):
                fd = os.pidfd_open(process.pid)
            self._report(ForkedReport(key, process.pid, self._names.get(key, "")), fd)
        for key, ended in self._recent_ends.items():
            self._report(ended)
            if key not in self._trees.ending:
                self._gone(key)
        retired = self._retired or self._termed
        modules = self._loaded.preloaded
        end = InventoryEnd(
            os.getpid(), protocol.VERSION, protocol.CODE, modules, retired, self._termed
        )
        self._report(end, os.pidfd_open(os.getpid()))
        if not retired:
            self._spares.plan()

    def _read(self) -> None:
        while self._link.connected:
            try:
                data, fds = self._link.receive()
            except BlockingIOError:
                return
            if not data:
                self._disconnected()
                return
            try:
                self._carry_out(decode_command(data), fds)
            except msgspec.MsgspecError as error:
                print(f"launcher: invalid command ignored: {error}", file=sys.stderr, flush=True)
            finally:
                for fd in fds:
                    os.close(fd)

    def _disconnected(self) -> None:
        self._link.disconnect()
        self._kill_at = min(self._kill_at, time.monotonic() + self._orphan_grace)

    def _end_all(self) -> None:
        """Signal every worker: SIGTERM the first time, SIGKILL afterwards."""
        number = signal.SIGKILL if self._termed else signal.SIGTERM
        self._termed = True
        self._spares.cancel("the launcher is ending")
        self._spares.drop_spare()
        for process in self._workers.values():
            cgroups.signal_worker(process.pid, number, process.cgroup)
        self._kill_at = time.monotonic() + TERM_WAIT

    def _carry_out(self, command: Command, fds: list[int]) -> None:
        match command:
            case Fork():
                self._fork(command, fds)
            case Signal():
                self._signal(command)
            case Preload(modules):
                self._preload(modules)
            case CheckFresh():
                self._report(FreshReport(tuple(self._loaded.changed())))
            case LeaveCommand(kill):
                self._retired = True
                self._spares.drop_spare()
                if kill:
                    self._termed = True
                    self._end_all()
            case _:
                assert_never(command)

    def _signal(self, command: Signal) -> None:
        process = self._workers.get(command.key)
        if process is None:
            if self._spares.is_waiting(command.key):
                self._early.append(command)
            return
        if command.group:
            cgroups.signal_worker(process.pid, command.number, process.cgroup)
        else:
            process_tree.signal_one(process.pid, command.number)

    def _report(self, report: Report, fd: int = -1) -> None:
        self._link.report(report, fd)
        self._send_unsent()

    def _send_unsent(self) -> None:
        if not self._link.send():
            self._disconnected()

    # --- forking ----------------------------------------------------------------------------

    def _fork(self, fork: Fork, fds: list[int]) -> None:
        if len(fds) != 1 or self._termed:
            self._report(NotForkedReport(fork.key, "the launcher is ending"))
            return
        try:
            if fork.brief:
                self._fork_brief(fork, fds[0])
            else:
                self._spares.assign(fork, fds[0])
        except OSError as error:
            self._not_forked(fork, str(error))

    def _fork_brief(self, fork: Fork, assignment: int) -> None:
        cgroup = self._cgroups.make()
        try:
            pid = fork_brief(self._entry, self._spares.keep, cgroup, fork, assignment)
        except OSError:
            self._cgroups.discard(cgroup)
            raise
        self._started(fork, ForkedWorker(pid, cgroup))

    def _not_forked(self, fork: Fork, reason: str) -> None:
        self._early = [one for one in self._early if one.key != fork.key]
        self._report(NotForkedReport(fork.key, reason))

    def _started(self, fork: Fork, process: ForkedWorker) -> None:
        own_pids = {os.getpid(), self._link.peer_pid(), self._spares.template_pid}
        unsupported = self._cgroups.apply_limits(process.cgroup, fork.limits, own_pids)
        self._workers[fork.key] = process
        self._pids[process.pid] = fork.key
        self._names[fork.key] = fork.name
        try:
            forked = ForkedReport(fork.key, process.pid, unsupported=tuple(unsupported))
            self._report(forked, os.pidfd_open(process.pid))
        except OSError as error:  # without a descriptor the worker cannot be watched
            process_tree.signal_group(process.pid, signal.SIGKILL)
            print(f"launcher: {fork.name} was killed: {error}", file=sys.stderr, flush=True)
        early = [one for one in self._early if one.key == fork.key]
        self._early = [one for one in self._early if one.key != fork.key]
        for command in early:
            self._signal(command)

    def fork_readers(self) -> None:
        """Carry out the commands that have come, but fork only what reads plugins, for now."""
        self.note_library_fds()
        self._spares.hold()
        self._turn()

    def fork_workers(self) -> None:
        """Fork workers from now on, the first one at once."""
        self._spares.release()

    def _fork_ahead(self) -> None:
        wanted = not (self._retired or self._termed) and self._link.connected
        if wanted or self._spares.busy:
            self._spares.fork_ahead()
        else:
            self._spares.due = inf

    # --- ends of workers and of their trees -------------------------------------------------

    def _reap(self) -> None:
        while (pid := process_tree.peek_ended()) is not None:
            key = self._pids.get(pid)
            if key in {SPARE, TEMPLATE}:
                self._spares.ended(key)
            elif key is None:
                self._trees.reaped(pid)  # there may be more of its tree
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            else:
                process_tree.signal_group(pid, signal.SIGKILL)  # a zombie still holds its number
                self._reap_worker(key, pid)
        if self._spares.fileno() < 0:  # else a worker that is not known yet passes for an orphan
            self._trees.work()

    def _gone(self, key: bytes, left: tuple[int, ...] = ()) -> None:
        self._report(GoneReport(key, left))

    def _reap_worker(self, key: bytes, pid: int) -> None:
        process = self._workers.pop(key)
        del self._pids[pid]
        self._names.pop(key, None)
        status, usage = process.reap()
        self._trees.begin(key, process.cgroup)
        ended = EndedReport(
            key,
            status,
            usage.ru_utime,
            usage.ru_stime,
            usage.ru_maxrss * 1024,
            cgroups.oom_killed(process.cgroup),
        )
        self._recent_ends[key] = ended
        if len(self._recent_ends) > ENDS_KEPT:
            del self._recent_ends[next(iter(self._recent_ends))]
        self._report(ended)
        self._reaped += 1
        if self._reaped % 100 == 0:
            gc.collect()  # cheap: preloaded objects are frozen

    # --- imported code ----------------------------------------------------------------------

    def _preload(self, modules: tuple[str, ...]) -> None:
        if self._loaded.has_all(modules):  # and so has the template
            self._report(self._loaded.preload(modules))
            return
        self._spares.close()
        preloaded = self._loaded.preload(modules)
        from garrison.workers.process import main

        main.warm_plugins()
        self._loaded.freeze()
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signals.catch(_report_signal, signals.handled())  # an import may have run an event loop
        self.note_library_fds()
        self._spares.resume()
        self._report(preloaded)

    def note_library_fds(self) -> None:
        """Note what imports have left open; workers keep that."""
        own = self._own_fds | {self._socket.fileno()}
        own |= {self._link.fileno()} if self._link.connected else set()
        self._spares.keep = set(open_descriptors()) - own


def _entry() -> Entry:
    from garrison.workers.process import main

    return Entry(main.prepare, main.get_ready, main.run)


def _report_signal(number: int, _: object) -> None:
    """Log a signal that does nothing: only the supervisor, or its absence, ends a launcher."""
    if number != signal.SIGCHLD:
        log_stream.follow()
        with contextlib.suppress(OSError):  # not `print`: it may be what was interrupted
            os.write(2, f"launcher: {signals.name_of(number)} ignored\n".encode())


def main() -> None:
    """Run the launcher.

    Arguments: the connection's descriptor, the socket path, the orphan grace in seconds, and
    `cgroups` or `no-cgroups`. Of one that is started early: the descriptor, the name of the socket,
    and `early`.
    """
    gc.disable()
    malloc.keep_freed_memory()
    process_tree.forbid_cores()  # its supervisor may not have done so for both yet
    fd, path, grace = sys.argv[1:4]
    connection = socket.socket(fileno=int(fd))
    launcher = (
        _begin_early(connection)
        if grace == EARLY
        else _begin(connection, EarlySettings(path, float(grace), sys.argv[4] == "cgroups"))
    )
    if launcher is not None:
        launcher.note_library_fds()
        launcher.run()


def _begin(connection: socket.socket, settings: EarlySettings) -> Launcher:
    """Return the launcher, at its path before it imports what workers need."""
    _write_to_log()
    loaded = LoadedModules()
    launcher = _launcher(connection, settings, loaded)
    _warm_up(loaded)
    return launcher


def _begin_early(connection: socket.socket) -> Launcher | None:
    """Return the launcher once it has a command; None if its supervisor ended before that."""
    from garrison.workers.process import main

    main.warm_up()
    data, fds, _, _ = socket.recv_fds(connection, protocol.FRAME_BYTES, 1)
    if not data or not fds:
        return None
    for out in (1, 2):
        os.dup2(fds[0], out)
    os.close(fds[0])
    _write_to_log()
    settings, loaded = protocol.decode_settings(data), LoadedModules()
    main.import_bundled(settings.plugins)
    poll = select.poll()
    poll.register(connection, select.POLLIN | select.POLLRDHUP)
    # Until the supervisor has the home's lock and sends a command, or ends: then the launcher of
    # the next one may be at the path.
    if any(event & ENDED for _, event in poll.poll()):
        return None
    launcher = _launcher(connection, settings, loaded)
    if launcher.has_supervisor:
        main.warm_plugins()
        launcher.fork_readers()
        loaded.freeze()
        launcher.fork_workers()
        return launcher
    # It ended before the socket was at its path: the next supervisor may not have found it there,
    # so nothing may be forked.
    launcher.close()
    return None


def _launcher(
    connection: socket.socket, settings: EarlySettings, loaded: LoadedModules
) -> Launcher:
    process_tree.become_subreaper()
    groups = cgroups.Cgroups(cgroups.own() if settings.cgroups else None)
    if settings.cgroups and groups.problem:
        print(f"launcher: no cgroup for each worker: {groups.problem}", file=sys.stderr, flush=True)
    return Launcher(connection, settings.path, settings.orphan_grace, groups, loaded)


def _write_to_log() -> None:
    log_stream.install(log_stream.standard())
    if (log := log_stream.path_of(1)).endswith(".log"):  # not /dev/null, for want of room
        log_stream.follow(log)


def _warm_up(loaded: LoadedModules) -> None:
    """Import what every worker needs."""
    from garrison.workers.process import main

    main.warm_up()
    loaded.freeze()


if __name__ == "__main__":
    main()
