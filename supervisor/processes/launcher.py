"""The process that owns processes: forks workers, waits for them, ends their trees.

Single-threaded, without an event loop or a ZeroMQ context: only such a process may fork. It has
the libraries imported, so that a worker is there in milliseconds. What a worker is given arrives
in a descriptor that is passed on unread. It outlives its supervisor by `orphan_grace` seconds; the
next one that connects within them is told what there is.
"""

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from multiprocess import popen_fork
from multiprocess.context import ForkProcess

from garrison.ipc.system import log_stream, malloc, process_tree
from garrison.supervisor.config.spec import CgroupLimits

from . import cgroups

FRAME_BYTES = 256 * 1024
TERM_WAIT = 2.0  # seconds from TERM until KILL
TREE_WAIT = 5.0  # seconds until a tree that will not go is reported as it is
SPARE_S = 0.05  # after a start: until the next worker is forked ahead
SPARE = b""  # the key of a worker that has no order yet
UNSENT = 4096  # reports kept for a supervisor that does not read
ENDS_KEPT = 256  # of workers, for a supervisor that was not there to be told
SPOKEN = 1  # the version of what follows
CODE = f"{sys.executable} {process_tree.__file__}"


class Fork(msgspec.Struct, tag="fork", frozen=True):
    """Fork a worker; its assignment comes along as a descriptor."""

    key: bytes
    name: str
    log: str
    walls: CgroupLimits = CgroupLimits()


class Signal(msgspec.Struct, tag="signal", frozen=True):
    """Signal a worker: its whole group, or itself alone."""

    key: bytes
    number: int
    group: bool = True


class Preload(msgspec.Struct, tag="preload", frozen=True):
    """Import these modules, so that later workers have them."""

    modules: tuple[str, ...]


class CheckFresh(msgspec.Struct, tag="check_fresh", frozen=True):
    """Tell which preloaded files have changed on disk."""


class Leave(msgspec.Struct, tag="leave", frozen=True):
    """Go: now, with everything, or when the last worker is gone."""

    kill: bool = False


Ask: TypeAlias = Fork | Signal | Preload | CheckFresh | Leave


class Forked(msgspec.Struct, tag="forked", frozen=True):
    """A worker is there; its pidfd comes along."""

    key: bytes
    pid: int
    name: str = ""
    unheld: tuple[str, ...] = ()  # what its cgroup does not hold it to, though it should


class NotForked(msgspec.Struct, tag="not_forked", frozen=True):
    """The kernel would not."""

    key: bytes
    reason: str


class Ended(msgspec.Struct, tag="ended", frozen=True):
    """A worker ended; its tree is being ended."""

    key: bytes
    status: int | None  # as wait() has it
    user_s: float = 0.0
    system_s: float = 0.0
    rss_bytes: int = 0  # at its peak
    oom: bool = False  # its cgroup was full, and the kernel killed in it


class Gone(msgspec.Struct, tag="gone", frozen=True):
    """Nothing of a worker is left, but for what the kernel would not end."""

    key: bytes
    left: tuple[int, ...] = ()


class Preloaded(msgspec.Struct, tag="preloaded", frozen=True):
    """The modules are imported, but for these."""

    failed: dict[str, str] = {}
    threaded: tuple[str, ...] = ()  # imported, and they started threads
    took_s: float = 0.0


class Fresh(msgspec.Struct, tag="fresh", frozen=True):
    """Whether what is in memory is what is on disk."""

    changed: tuple[str, ...]


class Here(msgspec.Struct, tag="here", frozen=True):
    """A new supervisor has been told of every worker by now; the launcher's pidfd comes along."""

    pid: int
    spoken: int  # SPOKEN, as this launcher has it
    code: str  # CODE: where it has that of its workers from
    modules: tuple[str, ...] = ()  # preloaded
    retired: bool = False  # it forks no more
    ending: bool = False  # nor does it serve: its grace was over, and its workers are told to end


Report: TypeAlias = Forked | NotForked | Ended | Gone | Preloaded | Fresh | Here

encode = msgspec.msgpack.Encoder().encode
decode_ask = msgspec.msgpack.Decoder(Ask).decode
decode_report = msgspec.msgpack.Decoder(Report).decode


class _Popen(popen_fork.Popen):  # type: ignore[misc]  # multiprocess ships no types
    """A fork whose end also tells what it used."""

    pid: int
    returncode: int | None
    usage: Any = None
    status: int | None = None

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        # Only `join` reaps: `start` polls all older processes, and would swallow an end unseen.
        if self.returncode is None and not flag & os.WNOHANG:
            pid, status, usage = os.wait4(self.pid, flag)
            if pid == self.pid:
                self.status, self.usage = status, usage
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class _Process(ForkProcess):  # type: ignore[misc]
    cgroup: Path | None = None

    @staticmethod
    def _Popen(process: Any) -> _Popen:
        return _Popen(process)


class Launcher:
    """The launcher's whole state and its loop."""

    def __init__(
        self,
        connection: socket.socket,
        path: str,
        orphan_grace: float,
        groups: cgroups.Cgroups,
    ) -> None:
        self._connection: socket.socket | None = connection
        self._path = path
        self._orphan_grace = orphan_grace
        self._cgroups = groups
        self._workers: dict[bytes, Any] = {}
        self._pids: dict[int, bytes] = {}
        self._names: dict[bytes, str] = {}
        self._ends_lately: dict[bytes, Ended] = {}
        self._modules: tuple[str, ...] = ()
        self._ending: dict[bytes, float] = {}  # keys whose trees are not gone, and until when
        self._closing: dict[bytes, Path | None] = {}  # and their cgroups
        self._strays = 0.0  # until when to end what is below, though no worker is ending
        self._stuck: set[int] = set()  # what the kernel would not end, and was reported
        self._unsent: deque[tuple[bytes, int]] = deque(maxlen=UNSENT)
        self._spare: tuple[Any, socket.socket] | None = None  # forked ahead, waits for its order
        self._spare_at = inf  # when one is to be forked
        self._retired = False
        self._harsh_at = inf  # when TERM, then KILL, goes to everything
        self._termed = False
        self._loaded: dict[str, tuple[int, int]] = {}  # file → when it was changed, and its size
        self._library_fds: set[int] = set()  # opened by an import; workers keep them
        self._ends = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(path)
        Path(path).chmod(0o600)
        self._listener.listen(64)  # each supervisor that was killed while this was stopped waits
        self._wake, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the supervisor decides, or its absence
        self._own = {self._listener.fileno(), self._wake, self._wake_write}
        for one in (connection, self._listener):
            one.setblocking(False)

    def run(self) -> None:
        """Serve until there is nobody to serve."""
        while not self._finished():
            self._turn()
        self._drop_spare()
        self._cgroups.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # noqa: PTH108

    def _finished(self) -> bool:
        empty = not self._workers and not self._ending
        return empty and (self._retired or self._termed)

    def _turn(self) -> None:
        poll = select.poll()
        for fd in (self._wake, self._listener.fileno()):
            poll.register(fd, select.POLLIN)
        if self._connection is not None:
            writing = select.POLLOUT if self._unsent else 0
            poll.register(self._connection, select.POLLIN | writing)
        due = min(self._harsh_at, self._spare_at, *self._ending.values(), inf)
        wait = 0.002 if self._ending or self._strays else min(max(due - time.monotonic(), 0), 60)
        for fd, _ in poll.poll(wait * 1000):
            if fd == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake, 4096)
            elif fd == self._listener.fileno():
                self._accept()
            else:
                self._read()
        self._reap()
        if time.monotonic() >= self._spare_at:
            self._fork_spare()
        if time.monotonic() >= self._harsh_at:
            self._end_all()
        self._send_unsent()

    # --- the supervisor, or its absence -----------------------------------------------------

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # nobody there any more, or no descriptor left
            connection, _ = self._listener.accept()
            if self._connection is not None:
                self._connection.close()
            connection.setblocking(False)
            self._connection = connection
            if not self._termed:
                self._harsh_at = inf
            self._introduce()

    def _introduce(self) -> None:
        """Tell a new supervisor everything: what the one before still read, nobody knows."""
        for _, fd in self._unsent:
            if fd >= 0:
                os.close(fd)
        self._unsent.clear()
        for key, process in self._workers.items():
            fd = -1
            with contextlib.suppress(OSError):
                fd = os.pidfd_open(process.pid)
            self._report(Forked(key, process.pid, self._names.get(key, "")), fd)
        for key, ended in self._ends_lately.items():
            self._report(ended)
            if key not in self._ending:
                self._report(Gone(key))
        retired = self._retired or self._termed
        here = Here(os.getpid(), SPOKEN, CODE, self._modules, retired, self._termed)
        self._report(here, os.pidfd_open(os.getpid()))
        if not retired:
            self._spare_at = time.monotonic() + SPARE_S

    def _read(self) -> None:
        while self._connection is not None:
            try:
                data, fds, _, _ = socket.recv_fds(self._connection, FRAME_BYTES, 4)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._lost()
                return
            try:
                self._do(decode_ask(data), fds)
            except msgspec.MsgspecError as error:
                print(f"launcher: refused an order: {error}", file=sys.stderr, flush=True)
            finally:
                for fd in fds:
                    os.close(fd)

    def _lost(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._harsh_at = min(self._harsh_at, time.monotonic() + self._orphan_grace)

    def _end_all(self) -> None:
        """End every worker: TERM the first time, KILL from then on."""
        number = signal.SIGKILL if self._termed else signal.SIGTERM
        self._termed = True
        self._drop_spare()
        for process in self._workers.values():
            cgroups.signal_worker(process.pid, number, process.cgroup)
        self._harsh_at = time.monotonic() + TERM_WAIT

    def _do(self, ask: Ask, fds: list[int]) -> None:
        match ask:
            case Fork():
                self._fork(ask, fds)
            case Signal(key, number, group):
                process = self._workers.get(key)
                if process is not None and group:
                    cgroups.signal_worker(process.pid, number, process.cgroup)
                elif process is not None:
                    process_tree.signal_one(process.pid, number)
            case Preload(modules):
                self._preload(modules)
            case CheckFresh():
                self._report(Fresh(tuple(self._changed())))
            case Leave(kill):
                self._retired = True
                self._drop_spare()
                if kill:
                    self._termed = True
                    self._end_all()

    def _report(self, report: Report, fd: int = -1) -> None:
        if len(self._unsent) == UNSENT and self._unsent[0][1] >= 0:
            os.close(self._unsent[0][1])
        self._unsent.append((encode(report), fd))
        self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent and self._connection is not None:
            data, fd = self._unsent[0]
            try:
                socket.send_fds(self._connection, [data], [fd] if fd >= 0 else [])
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            self._unsent.popleft()
            if fd >= 0:
                os.close(fd)

    # --- workers ----------------------------------------------------------------------------

    def _fork(self, fork: Fork, fds: list[int]) -> None:
        if len(fds) != 1 or self._termed:
            self._report(NotForked(fork.key, "the launcher is ending"))
            return
        try:
            process = self._take_spare(fork, fds[0])
            if process is None:
                process = self._start(self._become, fork, fds[0])
        except OSError as error:
            self._report(NotForked(fork.key, str(error)))
            return
        ours = {os.getpid(), self._supervisor()}
        unheld = self._cgroups.hold(process.cgroup, fork.walls, ours)
        self._workers[fork.key] = process
        self._pids[process.pid] = fork.key
        self._names[fork.key] = fork.name
        try:
            forked = Forked(fork.key, process.pid, unheld=tuple(unheld))
            self._report(forked, os.pidfd_open(process.pid))
        except OSError as error:  # no descriptor left: it cannot be watched, so it cannot live
            process_tree.signal_group(process.pid, signal.SIGKILL)
            print(f"launcher: {fork.name} was ended: {error}", file=sys.stderr, flush=True)

    def _supervisor(self) -> int:
        """Return the pid of the supervisor that is served; its own where there is none."""
        if self._connection is None:
            return os.getpid()
        option = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid: int = struct.unpack("3i", option)[0]
        return pid

    def _start(self, target: Callable[..., None], *args: Any) -> Any:
        """Fork. A TERM to the child waits until it is not ignored any more, as it is here."""
        cgroup = self._cgroups.make()
        process = _Process(target=self._be_in, args=(cgroup, target, *args))
        process.cgroup = cgroup
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            process.start()
        except OSError:
            self._cgroups.discard(cgroup)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return process

    def _be_in(self, cgroup: Path | None, target: Callable[..., None], *args: Any) -> None:
        """Go where the end reaches everything at once, before anything else: in the child."""
        cgroups.enter(cgroup)
        target(*args)

    def _become(self, fork: Fork, assignment: int) -> None:
        """Be a worker from here on: in the child, with nothing of the launcher's left open."""
        self._strip({assignment})
        from garrison.workers.process import (
            main,  # the one place that names the worker's entry point
        )

        main.run(assignment, fork.log)

    def _strip(self, keep: set[int]) -> None:
        """Let go of what is the launcher's: in the child."""
        signal.set_wakeup_fd(-1)
        keep = keep | self._library_fds | {0, 1, 2}
        for fd in _open_descriptors():
            if fd not in keep:
                os.close(fd)
        gc.enable()

    # --- one worker ahead -------------------------------------------------------------------

    def _fork_spare(self) -> None:
        """Fork a worker ahead of its order, so that the next start need not wait for a fork."""
        self._spare_at = inf
        if self._spare is not None or self._retired or self._termed or self._connection is None:
            return
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:  # no descriptor left; a start will say so
            return
        try:
            process = self._start(self._be_spare, theirs)
        except OSError:  # a start will say what is wrong
            ours.close()
        else:
            self._pids[process.pid] = SPARE
            self._spare = process, ours
        finally:
            theirs.close()

    def _be_spare(self, orders: socket.socket) -> None:
        """Wait for an order, in the child; without a launcher there is none."""
        self._strip({orders.fileno()})
        from garrison.workers.process import main

        main.get_ready()
        data, fds, _, _ = socket.recv_fds(orders, FRAME_BYTES, 1)
        orders.close()
        if not data or not fds:
            os._exit(0)
        fork = decode_ask(data)
        assert isinstance(fork, Fork)
        main.run(fds[0], fork.log)

    def _take_spare(self, fork: Fork, assignment: int) -> Any:
        """Give the order to the worker that was forked ahead; return None where there is none."""
        self._spare_at = time.monotonic() + SPARE_S
        if self._spare is None:
            return None
        process, orders = self._spare
        try:
            socket.send_fds(orders, [encode(fork)], [assignment])
        except OSError:  # it has ended
            self._drop_spare()
            return None
        self._spare = None
        orders.close()
        return process

    def _drop_spare(self) -> None:
        if self._spare is not None:
            (process, orders), self._spare = self._spare, None
            orders.close()
            self._pids.pop(process.pid, None)
            os.kill(process.pid, signal.SIGKILL)  # not reaped yet, so the number is its own
            process.join()
            self._cgroups.discard(process.cgroup)
            process.close()

    def _reap(self) -> None:
        while (pid := process_tree.peek_ended()) is not None:
            key = self._pids.get(pid)
            if key == SPARE:
                self._drop_spare()
            elif key is None:
                self._stuck.discard(pid)
                self._strays = time.monotonic() + TREE_WAIT  # where one was, there may be more
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            else:
                process_tree.signal_group(pid, signal.SIGKILL)  # a zombie still holds its number
                self._ended(key, pid)
        if self._ending:
            self._end_trees()
        elif self._strays:
            self._end_strays()

    def _end_trees(self) -> None:
        """End what dead workers left, again until nothing is left, or the kernel will not."""
        full = {key for key, cgroup in self._closing.items() if cgroups.kill(cgroup)}
        found = process_tree.kill_orphans(self._pids)
        self._stuck.intersection_update(found)
        left = [pid for pid in found if pid not in self._stuck]
        now = time.monotonic()
        for key, until in list(self._ending.items()):
            if now < until and (left or key in full):
                continue
            del self._ending[key]
            cgroup = self._closing.pop(key)
            inside = cgroups.inside(cgroup) if key in full else []
            self._cgroups.discard(cgroup)
            self._stuck.update(left)  # told once, so that no later end waits for it
            self._report(Gone(key, tuple({*left, *inside})))

    def _end_strays(self) -> None:
        """End what fell to this process from a living worker, or after a dead one's tree."""
        left = set(process_tree.kill_orphans(self._pids)) - self._stuck
        if time.monotonic() >= self._strays:
            self._stuck |= left
        if left <= self._stuck:
            self._strays = 0.0

    def _ended(self, key: bytes, pid: int) -> None:
        process = self._workers.pop(key)
        del self._pids[pid]
        self._names.pop(key, None)
        process.join()
        popen = process._popen
        usage = popen.usage
        process.close()
        self._ending[key] = time.monotonic() + TREE_WAIT
        self._closing[key] = process.cgroup
        ended = Ended(
            key,
            popen.status,
            usage.ru_utime,
            usage.ru_stime,
            usage.ru_maxrss * 1024,
            cgroups.oom_killed(process.cgroup),
        )
        self._ends_lately[key] = ended
        if len(self._ends_lately) > ENDS_KEPT:
            del self._ends_lately[next(iter(self._ends_lately))]
        self._report(ended)
        self._ends += 1
        if self._ends % 100 == 0:
            gc.collect()  # what is preloaded is frozen, so this is cheap

    # --- what is in memory ------------------------------------------------------------------

    def warm_up(self) -> None:
        """Import what every worker needs, and keep its pages shared."""
        from garrison.workers.process import main

        main.warm_up()
        self._freeze()

    def _preload(self, modules: tuple[str, ...]) -> None:
        self._modules = tuple(dict.fromkeys([*self._modules, *modules]))
        self._drop_spare()  # it would not have them
        self._spare_at = time.monotonic() + SPARE_S
        began = time.monotonic()
        failed: dict[str, str] = {}
        threaded: list[str] = []
        for module in modules:
            try:
                importlib.import_module(module)
            except BaseException as error:  # noqa: BLE001 (a library may raise anything)
                failed[module] = f"{type(error).__name__}: {error}"
            if len(os.listdir("/proc/self/task")) > 1 + bool(threaded):  # noqa: PTH208
                threaded.append(module)
        self._freeze()
        self._report(Preloaded(failed, tuple(threaded), time.monotonic() - began))

    def _freeze(self) -> None:
        gc.collect()
        gc.freeze()
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file not in self._loaded:
                self._loaded[file] = _stamp(file)
        if not self._workers:  # later, workers' sentinels would be among them
            own = self._own | ({self._connection.fileno()} if self._connection else set())
            self._library_fds = set(_open_descriptors()) - own

    def _changed(self) -> list[str]:
        return [file for file, stamp in self._loaded.items() if _stamp(file) != stamp][:5]


def _open_descriptors() -> list[int]:
    found: list[int] = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):  # the listing's own
            os.fstat(int(name))
            found.append(int(name))
    return found


def _stamp(file: str) -> tuple[int, int]:
    try:
        found = Path(file).stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


def main() -> None:
    """Run the launcher: its connection's descriptor, its path, the grace in seconds, and whether
    workers have cgroups of their own."""
    fd, path, grace, wanted = sys.argv[1:5]
    gc.disable()
    malloc.keep_freed_memory()
    log_stream.install(log_stream.standard())
    process_tree.become_subreaper()
    groups = cgroups.Cgroups(cgroups.own()) if wanted == "cgroups" else cgroups.Cgroups(None)
    if wanted == "cgroups" and groups.problem:
        print(f"launcher: no cgroup for each worker: {groups.problem}", file=sys.stderr, flush=True)
    launcher = Launcher(socket.socket(fileno=int(fd)), path, float(grace), groups)
    launcher.warm_up()
    launcher.run()


if __name__ == "__main__":
    main()
