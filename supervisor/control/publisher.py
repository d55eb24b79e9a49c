"""Publishes the directory and its changes to the members: workers and client programs.

Workers are known by their incarnation's token. Programs join by their pid and leave when it ends.
Times are monotonic seconds.
"""

import errno
import os
import select
import time
from collections.abc import Callable
from math import inf

import msgspec
import zmq

from garrison.ipc import messages, socket_paths
from garrison.ipc.directory import accepts_calls
from garrison.ipc.messages import SUPERVISOR, WIRE, WIRES, State, Token, encode
from garrison.ipc.system.process_tree import is_pid_namespace, pid_namespace
from garrison.supervisor.bus.endpoints import RouterSet, ZmqRouter
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.spec import CallSettings
from garrison.supervisor.lifecycle.services import ServiceTable
from garrison.supervisor.logs.events import EventLog

from .shares import Shares

PROGRAMS_MOST = 512
HELD_S = 0.05  # longest delay of a change that no call depends on
EACH_S = 0.0002  # minimum gap between broadcasts, for each member: a broadcast wakes all of them
STARTS_A_BROADCAST = 4  # with so many starts under way or queued, that gap is twice as long
AHEAD_S = 0.05  # how far the rate limit may be exceeded after a pause: a lone restart is immediate
LISTED_MOST, LISTED_RATE = 8, 10.0  # changes of one entry at once, then a second: others are held
STALE_S = 0.25  # until a member that did not read is tried again
NO_PIDFD = -1
ELSEWHERE_S = 2.0  # between two looks for programs of other PID namespaces
STARTING = frozenset({State.QUEUED, State.INITIALIZING, State.STARTING})


class DirectoryPublisher:
    """Sends the directory to the members.

    Args:
        control: The control plane.
        services: The directory.
        host: The settings of the host.
        boot: The id of this run of the supervisor.
        call_defaults: Returns the settings for calls of programs.
        log: Where rejected members are recorded.
        on_program_left: Called with the token of each program that has left.

    Attributes:
        exit_poll: Every program's pidfd; readable when one has ended.
    """

    def __init__(
        self,
        control: RouterSet[ZmqRouter],
        services: ServiceTable,
        host: HostSpec,
        boot: str,
        call_defaults: Callable[[], CallSettings],
        log: EventLog,
        on_program_left: Callable[[Token], None],
    ) -> None:
        self._control, self._services, self._host = control, services, host
        self._boot, self._call_defaults, self._log = boot, call_defaults, log
        self._on_program_left = on_program_left
        self._programs: dict[Token, int] = {}  # pidfds; NO_PIDFD in another PID namespace
        self._expected: set[Token] = set()  # programs that are yet to be welcomed
        self._changed: dict[str, None] = {}  # NAMEs whose state is to be published
        self._listed: dict[str, bool] = {}  # NAMEs whose whole entry is to be published; at once?
        self._removed: dict[str, None] = {}  # NAMEs that are no services any more
        self._stale: set[Token] = set()  # members that missed a change
        self._resend_at_once = False  # to one of them
        self._entries = Shares(LISTED_MOST, LISTED_RATE)
        self._publish_at = inf  # when held back changes are due
        self._next_free = 0.0  # rate limiter: earliest time of the next broadcast
        self._rejected = 0
        self._checked_at = 0.0  # when the programs of other PID namespaces were looked for
        self._accepting: dict[str, bool] = {}  # NAME → whether it takes calls, as last published
        self.exit_poll = select.epoll()

    def send(self, token: Token, message: messages.Downward) -> bool:
        """Send to one member; return False if it is gone or does not read."""
        return self._send(token, encode([message])) == 0

    def _send(self, token: Token, batch: bytes) -> int:
        """Send without waiting; return 0, or the error number."""
        try:
            self._control.at(token).send_multipart([token, SUPERVISOR, batch], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in {zmq.EAGAIN, zmq.EHOSTUNREACH}:
                raise
            return error.errno
        return 0

    # --- members ----------------------------------------------------------------------------

    def accepts_wire(self, token: Token, wire: int) -> bool:
        """Return True if the wire version is supported; reject the member if not."""
        if wire in WIRES:
            return True
        spoken = ", ".join(map(str, sorted(WIRES)))
        self.reject(token, f"wire version {wire}; spoken here: {spoken}")
        return False

    def reject(self, token: Token, reason: str) -> None:
        """Reject a member; the first ones are recorded."""
        self._rejected += 1
        if messages.should_log(self._rejected):
            short, count = token.hex()[:12], self._rejected
            self._log.record("member.turned_away", token=short, count=count, reason=reason)
        self.send(token, messages.Rejected(reason))

    def join(self, token: Token, message: messages.Join) -> bool:
        """Add a program; it is welcomed once the directory is complete.

        A program that has joined may do so again, because each of its connections is answered with
        an Identify. It stays the member that it is: to forget it would end its calls in flight,
        and it has no reason to send the bus another Sync.
        """
        if not self.accepts_wire(token, message.wire):
            return False
        if token in self._programs:
            return True
        if not socket_paths.is_token(token):  # a reserved address would pass for the router's own
            self.reject(token, "a member's routing id is a token of 16 bytes")
            return False
        if len(self._programs) >= PROGRAMS_MOST:
            self.reject(token, f"{PROGRAMS_MOST} programs are connected already")
            return False
        pidfd = NO_PIDFD
        if is_pid_namespace(message.pid_namespace):
            try:
                pidfd = os.pidfd_open(message.pid)
            except (OSError, OverflowError) as error:
                full = getattr(error, "errno", 0) in {errno.EMFILE, errno.ENFILE}
                why = "no descriptor is left here" if full else f"there is no process {message.pid}"
                self.reject(token, why)
                return False
        self._programs[token] = pidfd
        self._expected.add(token)
        if pidfd != NO_PIDFD:
            self.exit_poll.register(pidfd, select.EPOLLIN)
        return True

    def has_program(self, token: Token) -> bool:
        """Return True if a program has joined and not left."""
        return token in self._programs

    def leave(self, token: Token) -> None:
        """Remove a program."""
        self._expected.discard(token)
        pidfd = self._programs.pop(token, None)
        if pidfd is not None:
            if pidfd != NO_PIDFD:
                self.exit_poll.unregister(pidfd)
                os.close(pidfd)
            self._on_program_left(token)

    def remove_ended_programs(self) -> None:
        """Remove the programs whose processes have ended."""
        gone = {fd for fd, _ in self.exit_poll.poll(0)}
        for token in [token for token, pidfd in self._programs.items() if pidfd in gone]:
            self.leave(token)

    def check_programs_elsewhere(self, now: float) -> None:
        """Remove the programs of other PID namespaces that are no longer connected.

        Nothing reports their end, so every `ELSEWHERE_S` each is sent an empty batch.
        """
        if now < self._checked_at + ELSEWHERE_S:
            return
        self._checked_at = now
        for token in [token for token, pidfd in self._programs.items() if pidfd == NO_PIDFD]:
            if self._send(token, encode([])) == zmq.EHOSTUNREACH:
                self.leave(token)

    def send_farewell(self) -> None:
        """Send every program that the supervisor ends for good."""
        for token in self._programs:
            self.send(token, messages.Farewell())

    def close(self) -> None:
        """Close all descriptors."""
        for pidfd in self._programs.values():
            if pidfd != NO_PIDFD:
                os.close(pidfd)
        self.exit_poll.close()

    # --- the directory ----------------------------------------------------------------------

    def welcome(self, token: Token, introduce: bool = False) -> bool:
        """Send the whole directory to a member.

        Args:
            token: The member.
            introduce: Whether a worker is to send its Hello and its state (again).

        Returns:
            False if it is gone or does not read.
        """
        calls = self._call_defaults()
        welcome = messages.Welcome(
            WIRE,
            self._boot,
            os.getpid(),
            self._services.entries(),
            calls.timeout,
            calls.window,
            calls.window_bytes,
            self._host.max_message,
            self._host.orphan_grace,
            syncs=True,
            logs=str(self._host.logs),
            pid_namespace=pid_namespace(),
            introduce=introduce,
        )
        sent = self.send(token, welcome)
        if sent:
            self._expected.discard(token)
        return sent

    def resend_directory(self, token: Token) -> None:
        """Send the whole directory to a member again: at the end of the turn, unless it wants that
        all the time."""
        self._stale.add(token)
        self._resend_at_once |= self._entries.take(token, 1, time.monotonic())

    def changed(self, name: str) -> None:
        """Publish a service's state at the end of the turn."""
        self._changed[name] = None

    def listed(self, name: str) -> None:
        """Publish a new or changed entry: at the end of the turn, unless it changes all the time.

        Otherwise a service that describes itself again and again wakes all members as often.
        """
        at_once = self._entries.take(name, 1, time.monotonic())
        self._listed[name] = at_once or self._listed.get(name, False)

    def removed(self, name: str) -> None:
        """Publish at the end of the turn that there is no such service any more."""
        self._removed[name] = None

    def publish(self, at_once: bool = False) -> float:
        """Send what has changed to all members; return when to call this again at the latest.

        Args:
            at_once: Whether to hold nothing back, because a client is about to be answered that
                may depend on it.
        """
        if not (self._changed or self._listed or self._removed or self._stale):
            return inf
        now = time.monotonic()
        if now < self._publish_at and not at_once:
            wait = self._next_free - AHEAD_S - now if self._is_urgent() else HELD_S
            if wait > 0:
                self._publish_at = min(self._publish_at, now + wait)
                return self._publish_at
        self._publish_at, self._resend_at_once = inf, False
        members = self._broadcast(self._take_changes())
        # Each start ends with a change: while many start, one broadcast has the changes of several.
        starting = sum(service.state in STARTING for service in self._services)
        cost = min(EACH_S * members * (1 + starting / STARTS_A_BROADCAST), HELD_S)
        self._next_free = max(self._next_free, now) + cost
        return now + STALE_S if self._stale else inf

    def _take_changes(self) -> list[messages.Downward]:
        services = self._services.services
        listed = [name for name in self._listed if name in services]
        changed = [name for name in self._changed if name in services]
        for name in (*listed, *changed):
            service = services[name]
            self._accepting[name] = accepts_calls(service.state, service.child.wanted)
        batch: list[messages.Downward] = [
            messages.Listed(entry) for entry in self._services.entries(listed)
        ]
        # After those: one that was renamed is there again before it is gone.
        batch += [messages.Delisted(name) for name in self._removed if name not in services]
        batch += [services[name].changed() for name in changed if name not in self._listed]
        self._changed.clear()
        self._listed.clear()
        for name in self._removed:
            self._accepting.pop(name, None)
        self._removed.clear()
        return batch

    def _broadcast(self, batch: list[messages.Downward]) -> int:
        """Send changes to all members; return how many there are."""
        current = (service.current for service in self._services.all())
        workers = [one.token for one in current if one.welcomed and not one.ended]
        members = [*workers, *self._welcomed_programs()]
        encoded = encode(batch)
        for token in members:
            if token in self._stale:
                if self.welcome(token):
                    self._stale.discard(token)
            elif batch:
                self._send_changes(token, encoded)
        self._stale &= {*workers, *self._programs}
        return len(members)

    def _welcomed_programs(self) -> list[Token]:
        """Return the programs that changes are sent to.

        A program that joins a new supervisor fails its calls in flight when the Welcome comes. A
        change before that would have it send the calls that wait, only to fail them.
        """
        expected = self._expected - self._stale
        return [token for token in self._programs if token not in expected]

    def suspend_programs(self) -> None:
        """Send all programs that no service takes calls; workers still call each other."""
        changes = [
            msgspec.structs.replace(service.changed(), token=b"") for service in self._services
        ]
        encoded = encode(changes)
        for token in self._welcomed_programs():
            self._send_changes(token, encoded)

    def _is_urgent(self) -> bool:
        """Return True if calls depend on what is to be published.

        Each change wakes every member: the steps of a start would cost more than the start itself.
        """
        if any(self._listed.values()) or self._removed or self._resend_at_once:
            return True
        services = self._services.services
        changed = [services[name] for name in self._changed if name in services]
        return any(
            service.state not in STARTING or not self._accepting.get(service.name)
            for service in changed
        )

    def _send_changes(self, token: Token, encoded: bytes) -> None:
        error = self._send(token, encoded)
        if error == zmq.EAGAIN:  # it does not read: send the whole directory once it does
            self._stale.add(token)
        elif error:
            self.leave(token)
