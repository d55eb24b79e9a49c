"""The process of a node: carries out what the supervisor commands, and ends everything in time.

Its loop waits for the connection, the local engine and signals. Nothing in it blocks, except the
end of everything. Times are monotonic seconds, those of the lease seconds of CLOCK_BOOTTIME.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path

from garrison.ipc.system.lease_page import LeaseWriter
from garrison.supervisor import signals
from garrison.supervisor.config.environment import base_environment
from garrison.supervisor.processes import node_protocol
from garrison.supervisor.processes.node_assignment import NodePlaces
from garrison.supervisor.processes.node_lease import NodeLease
from garrison.supervisor.processes.node_stream import StreamOverflow
from garrison.supervisor.systemd import Systemd

from .home import NodeHome
from .link import NodeLink, boottime
from .spool import LogSpool
from .workers import NodeWorkers

SAMPLE_S = 2.0  # between two reports of what workers use
FIRST_S = 0.3  # from a fork to a report
LOOK_S = 0.1  # between two looks into the logs
SAVE_S = 1.0  # between two notes of how much of the logs was received
RETRY_S = 1.0  # between two attempts to write what could not be written
IDLE_S = 5.0  # longest wait
KILL_AGAIN_S = 0.5  # between two attempts to end what runs, once the lease is over
DRAIN_S = 10.0  # for what has not moved to end in order
LEFT_S = 2.0  # for the supervisor to receive that everything has ended
NANOSECONDS = 1_000_000_000
LEASE = "lease"  # the file of the lease, in the folder of sockets


class NodeProcess:
    """The node.

    Args:
        home: Its home.
        link: The connection to the supervisor.
        lease: The lease, which the connection extends.
        folder: Of plugins.
        host: The supervisor's machine, as this one reaches it.
        environ: The environment; workers get its allow-list.
        grace: Seconds for services to move, after the first SIGTERM.
        say: Prints a line for people.
    """

    def __init__(
        self,
        home: NodeHome,
        link: NodeLink,
        lease: NodeLease,
        folder: Path,
        host: str,
        environ: Mapping[str, str],
        grace: float,
        say: Callable[[str], None],
    ) -> None:
        self._home, self._link, self._lease, self._say = home, link, lease, say
        self._page, self._grace = LeaseWriter(home.run / LEASE), grace
        if home.is_new:  # a lease of another run of the machine is by another clock
            self._page.set(0)
        lease.seconds, lease.until = home.memory.lease, self._page.until_ns / NANOSECONDS
        self._systemd = Systemd(environ)
        places = NodePlaces(home.run, home.state, folder, host, str(home.run / LEASE))
        self._workers = NodeWorkers(home, places, base_environment(environ), link.send)
        memory = home.memory
        self._spool = LogSpool(
            home.logs, self._send_chunk, memory.sent, memory.files, memory.log_bytes
        )
        for one in memory.workers:
            self._spool.add(one.name)
        self._sample_at = self._look_at = self._save_at = self._kill_at = 0.0
        self._signals, self._end_at = 0, inf
        self._retry_at, self._problem = 0.0, ""
        self._in_contact = self._done = self._refused = self._drained = False

    def run(self) -> None:
        """Serve until the node is ordered to end."""
        wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signals.catch(lambda *_: None, signals.handled())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.handled())
        self._workers.reap()
        try:
            while not self._done:
                self._turn(wake)
        finally:
            signal.set_wakeup_fd(-1)
            os.close(wake)
            os.close(wake_write)
            self._systemd.close()
            self._workers.close()
            self._link.close()
            self._page.close()
            self._home.close()

    def _turn(self, wake: int) -> None:
        if wake in self._wait(wake):
            self._on_signals(wake)
        if not self._workers.adopting:
            self._link.turn()
        try:
            for message in self._link.receive():
                self._take(message)
            self._workers.turn()
            self._send_logs()
        except StreamOverflow:
            self._link.begin_anew()
        self._check_lease()
        now = time.monotonic()
        self._check_home(now)
        if now >= self._sample_at:
            self._sample_at = now + SAMPLE_S
            self._link.send_once(self._workers.sample())
        if self._signals and (now >= self._end_at or not self._workers.table):
            self._end_in_order(now)

    def _wait(self, wake: int) -> set[int]:
        """Wait until there is something to do; return the descriptors that are ready."""
        now = time.monotonic()
        link_due = inf if self._workers.adopting else self._link.due
        due = min(link_due, self._workers.due, self._sample_at, self._end_at, now + IDLE_S)
        if self._workers.table:
            left = self._lease.until - boottime()
            due = min(due, self._look_at, now + left if left > 0 else self._kill_at)
        poll = select.poll()
        for descriptor in (wake, self._link.fileno(), *self._workers.descriptors()):
            poll.register(descriptor, select.POLLIN)
        seconds = 0.0 if self._link.has_message else max(due - now, 0.0)
        return {fd for fd, _ in poll.poll(seconds * 1000)}

    # --- the supervisor's messages ----------------------------------------------------------

    def _take(self, message: node_protocol.Downward) -> None:
        match message:
            case node_protocol.Adopt():
                self._workers.begin_session(message, self._link.former)
                self._spool.most = message.log_bytes
                self._spool.send_again()
                self._sample_at = 0.0
            case node_protocol.Refused(reason):
                if not self._refused:  # it asks again, and the seconds in the reason go on
                    self._say(f"refused: {reason}")
                self._refused = True
            case node_protocol.Renewed():
                self._refused = False
                self._page.set(int(self._lease.until * NANOSECONDS))
                if not self._in_contact:
                    self._in_contact = True
                    self._systemd.ready()
                    self._say("in contact with the supervisor")
            case node_protocol.Identify() | node_protocol.Received():
                pass
            case node_protocol.Leave(kill):
                self._leave(kill)
                self._say("the supervisor has stopped; waiting for the next one")
            case _:
                if isinstance(message, node_protocol.Fork):
                    self._spool.add(message.log)
                    self._sample_at = min(self._sample_at, time.monotonic() + FIRST_S)
                self._workers.carry_out(message, not self._lease.is_over(boottime()))

    # --- the lease --------------------------------------------------------------------------

    def _check_lease(self) -> None:
        """End everything that runs, as soon as the lease is over."""
        if not self._lease.is_over(boottime()):
            return
        now = time.monotonic()
        if self._workers.table and now >= self._kill_at:
            self._kill_at = now + KILL_AGAIN_S
            count = self._workers.kill_all()
            if self._in_contact or not self._link.joined:
                self._say(f"the lease is over; workers that are ended: {count}")
        self._in_contact = False

    def _check_home(self, now: float) -> None:
        """Write again what could not be written, and say so once."""
        if self._home.problem and now >= self._retry_at:
            self._retry_at = now + RETRY_S
            self._home.save()
        if self._home.problem != self._problem:
            self._problem = self._home.problem
            self._say(self._problem or "the home can be written again")

    # --- logs -------------------------------------------------------------------------------

    def _send_chunk(self, chunk: node_protocol.LogChunk) -> int:
        return self._link.send(chunk)

    def _send_logs(self) -> None:
        now = time.monotonic()
        if not self._link.joined or now < self._look_at:
            return
        self._look_at = now + LOOK_S
        self._spool.acknowledge(self._link.delivered)
        self._spool.turn()
        if now >= self._save_at:
            self._save_at = now + SAVE_S
            memory, sent, files = self._home.memory, *self._spool.positions()
            if (sent, files) != (memory.sent, memory.files):
                memory.sent, memory.files = sent, files
                self._home.save()

    # --- the end ----------------------------------------------------------------------------

    def _on_signals(self, wake: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(wake, 4096):
                if number == signal.SIGCHLD:
                    self._workers.reap()
                if number in {signal.SIGTERM, signal.SIGINT}:
                    self._signals += 1
                    self._on_stop()

    def _on_stop(self) -> None:
        """Let services move elsewhere at the first signal; end at the second."""
        if self._signals > 1 or not self._link.joined:
            self._end_at = 0.0
            return
        self._end_at = time.monotonic() + self._grace
        self._systemd.stopping()
        count = len(self._workers.table)
        self._say(f"leaving: workers that may move for {self._grace:g} s: {count}")
        self._link.send(node_protocol.Leaving())

    def _end_in_order(self, now: float) -> None:
        """Let what is still here drain, for a moment; then end it."""
        if self._signals == 1 and self._workers.table and not self._drained:
            self._drained, self._end_at = True, now + DRAIN_S
            self._workers.drain_all()
            return
        self._end()

    def _leave(self, kill: bool) -> None:
        """End everything, and report that."""
        self._workers.leave(kill)
        self._page.set(0)  # what could not be ended ends itself
        self._look_at = 0.0
        with contextlib.suppress(StreamOverflow):
            self._send_logs()
            self._link.send(node_protocol.Left())

    def _end(self) -> None:
        self._leave(kill=True)
        self._done = True
        until = time.monotonic() + LEFT_S
        while self._link.joined and self._link.waiting and time.monotonic() < until:
            self._link.turn()
            self._link.receive()
            time.sleep(0.01)
        self._say("everything here has ended")
