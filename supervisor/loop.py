"""The one loop: sockets, ends, signals, deadlines. It carries out what the policy decides.

All of the supervisor's state belongs to it, so there are no locks. Times are monotonic seconds.
"""

import contextlib
import os
import random
import secrets
import select
import signal
import time
import traceback
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import zmq

from garrison.ipc import messages, sockets, tree
from garrison.ipc.errors import ConfigError, GarrisonError, StartError, WireError
from garrison.ipc.messages import SUPERVISOR, WIRE, WIRES, Answer, State, Token, encode

from . import adoption, engine
from .bus import Bus
from .commands import COMMANDS, Refusal
from .config import Config
from .environment import scrubbed, worker_environment
from .journal import Event as JournalEvent
from .journal import Journal
from .order import may_stop, restarts_along, waits_for
from .policy import Child, Effect, Event, Why, has_process, step
from .registration import Registration
from .roster import Post, Roster
from .spec import ServiceSpec

CONTROL_MOST = 1000  # messages of the control plane in one turn
SLOT_S = 2.0  # a start keeps its slot no longer: one that hangs must not keep others waiting
STIR_S = 0.05  # how often waiting orders look, at the least
IDLE_S = 60.0  # the longest wait for anything
ORDERS_MOST = 256
PROGRAMS_MOST = 512
MISTAKES_MOST = 1000  # of the supervisor's own, until it is better to end
LATE_S = 1.0  # a turn that comes so late was stopped from outside; beats are not to blame

Work: TypeAlias = Generator[bool, None, Any]  # yields True where it only waits


@dataclass(slots=True, eq=False)
class Pending:
    """An order that waits for its end."""

    peer: Token
    order: messages.Order
    work: Work
    deadline: float
    answered: bool = False  # it was not done in time; it goes on, and nobody waits for it


class AlreadyRunning(GarrisonError):
    """Another supervisor has this home."""

    code = "already_running"


class Supervisor:
    """The supervisor of one home.

    Args:
        config: What to run.
        environ: The environment as it was at the start; secrets are taken from it.
        journal: Where events go.

    Raises:
        AlreadyRunning: Another supervisor has this home.
    """

    def __init__(self, config: Config, environ: Mapping[str, str], journal: Journal) -> None:
        self.config = config
        self.environ = dict(environ)
        self.journal = journal
        self.boot = secrets.token_hex(8)
        self.began = time.monotonic()
        self.roster = Roster()
        self.refused = 0  # frames of the control plane that were no message of ours
        self.settled = False  # the first starts have come to an end, good or bad
        self.stopping = False
        self.done = False
        self.failure: GarrisonError | None = None  # what the host cannot run with
        self._stirred = True
        self._dirty: dict[str, None] = {}  # NAMEs whose state is to be told
        self._listed: dict[str, None] = {}  # NAMEs whose whole entry is to be told
        self._delisted: dict[str, None] = {}
        self._stale: set[Token] = set()  # members that missed a change of the directory
        self._soonest = inf
        self._turned_at = time.monotonic()
        self._pending: list[Pending] = []
        self._works: list[Work] = []
        self._programs: dict[Token, int] = {}  # pidfds
        self._leavers = select.epoll()
        self._followers: dict[Token, tuple[int, frozenset[str]]] = {}
        self._signals = 0
        self._mistakes = 0  # of this program's own
        self._poller = zmq.Poller()
        self._polled: list[int] | None = None  # the launchers' sockets that it has
        host = config.host
        self._locks = _take_home(config)
        former = adoption.end_former(host.run)
        self.saved, problem = adoption.load(host.state)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.engine = engine.Engine(
            host.run, host.logs / "launcher.log", scrubbed(self.environ), host.orphan_grace
        )
        control, bus = sockets.control_path(host.run), sockets.bus_path(host.run)
        self.control = sockets.router(self.context, control, host.max_message)
        self.bus = Bus(sockets.router(self.context, bus, host.max_message), self._refuse)
        self.registration = Registration(self)
        journal.listeners.append(self._follow)
        journal.record("supervisor.started", pid=os.getpid(), home=str(host.home))
        if former:
            journal.record("supervisor.former_ended", launchers=former)
        if problem:
            journal.record("state.damaged", problem=problem)

    # --- the loop ---------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to stop, and everything has stopped."""
        wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup; an ignored SIGINT is only what a script's & hands down
            signal.signal(number, lambda *_: None)
        self._works += [self._register(), self._until_settled()]
        try:
            while not self.done:
                try:
                    self._turn(wake)
                except Exception as error:
                    self._erred("a turn of the loop", error)
                    self._stirred = True
                    if self._mistakes > MISTAKES_MOST:
                        raise
        finally:
            self._close()
            signal.set_wakeup_fd(-1)

    def _turn(self, wake: int) -> None:
        ready = self._poll(wake)
        if wake in ready:
            self._on_signals(wake)
        if self.control in ready:
            self._read_control()
        if self._leavers.fileno() in ready:
            self._programs_left()
        launchers = self.engine.deaths.fileno() in ready or self.engine.busy
        if launchers or any(fd in ready for fd in self.engine.descriptors()):
            self._read_engine()
        if self.bus.socket in ready or self.bus.settling:
            for token in self.bus.turn():
                self._connected(token)
            self.bus.tell_ends()
        now = time.monotonic()
        if now >= self._soonest:
            self._deadlines(now)
        if self._stirred or self._works or self._pending:
            self._settle()
        self._turned_at = time.monotonic()

    def _poll(self, wake: int) -> dict[Any, int]:
        launchers = self.engine.descriptors()
        if launchers != self._polled:  # a poller is made anew only for another set of launchers
            self._polled = launchers
            self._poller = zmq.Poller()
            fds = (wake, self.engine.deaths.fileno(), self._leavers.fileno(), *launchers)
            for one in (self.control, self.bus.socket, *fds):
                self._poller.register(one, zmq.POLLIN)
        return dict(self._poller.poll(int(self._wait() * 1000 + 0.999)))

    def _wait(self) -> float:
        if self._stirred:
            return 0.0
        if self.bus.settling or self.engine.busy:
            return 0.001
        wait = min(self._soonest - time.monotonic(), IDLE_S)
        return max(min(wait, STIR_S) if self._works or self._pending else wait, 0.0)

    def _settle(self) -> None:
        """Start what may start, go on with what waits, tell what changed."""
        self._stirred = False
        if self.stopping:
            self._stop_next()
        else:
            self._start_next()
        self._works = [work for work in self._works if self._goes_on(work)]
        self._pending = [pending for pending in self._pending if self._waits(pending)]
        self._publish()

    def _goes_on(self, work: Work) -> bool:
        try:
            next(work)
        except StopIteration:
            self._stirred = True
            return False
        except Exception as error:  # noqa: BLE001 (one piece of work must not end the host)
            self._erred("work in the background", error)
            return False
        return True

    def stir(self) -> None:
        """Have the next turn look at everything that waits."""
        self._stirred = True

    def _register(self) -> Work:
        try:
            yield from self.registration.all()
        except Exception as error:  # noqa: BLE001 (without its services the host is no use)
            self._erred("the registration", error)
            self.failure = GarrisonError(f"nothing could be registered: {error!r}")
            self.done = True

    def _until_settled(self) -> Work:
        """Say once that everything which was to be started runs, or has failed."""
        moving = {State.QUEUED, State.INITIALIZING, State.STARTING}
        while not self.registration.finished or any(
            post.state in moving and not self.roster.stuck(post) for post in self.roster
        ):
            yield False
        running = sum(post.state is State.RUNNING for post in self.roster)
        self.settled = True
        self.journal.record("supervisor.settled", running=running, services=len(self.roster.posts))

    def later(self, work: Work) -> None:
        """Go on with work from turn to turn until it ends."""
        self._works.append(work)
        self.stir()

    def _deadlines(self, now: float) -> None:
        gap = now - self._turned_at
        late = gap if gap > LATE_S + max(self._soonest - self._turned_at, 0) else 0.0
        for post in list(self.roster):
            if post.child.deadline > now:
                continue
            if late and post.state is State.RUNNING:  # its beats wait in the socket, unread
                self.advance(post, Event.BEAT)
            else:
                self.advance(post, Event.DEADLINE)
        self._soonest = min((post.child.deadline for post in self.roster), default=inf)
        self._stirred = True  # a start slot may have run out

    def _on_signals(self, wake: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(wake, 64):
                if number in {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
                    # A terminal that closes says so twice; that is no order to hurry.
                    self._signals += number != signal.SIGHUP or not self._signals
                    name = signal.Signals(number).name
                    self.journal.record("supervisor.signal", signal=name, count=self._signals)
        if self._signals == 1:
            self.stop_everything()
        elif self._signals > 1:
            self.done = True

    # --- one service ------------------------------------------------------------------------

    def advance(self, post: Post, event: Event) -> None:
        """Take an event to the policy, and carry out what it decides."""
        before = post.child
        after, effect = step(before, event, time.monotonic(), random.random())
        if after is before:
            return
        post.child = after
        if after.state is not before.state:
            self._moved(post, before, event)
        if (after.state, after.wanted) != (before.state, before.wanted):
            self._dirty[post.name] = None
            self._stirred = True
        self._soonest = min(self._soonest, after.deadline)
        if effect is not None:
            self._carry_out(post, effect)

    def _moved(self, post: Post, before: Child, event: Event) -> None:
        after = post.child
        said: dict[str, Any] = {"from": before.state.value, "to": after.state.value}
        if event in {Event.CRASH, Event.CLEAN_EXIT, Event.REFUSED}:
            said["exit"] = post.last_exit
        if after.state in {State.BACKOFF, State.FAILED} and after.deadline < inf:
            said |= {"restarts": after.restarted, "wait_s": after.deadline - time.monotonic()}
        if after.state in {State.BACKOFF, State.FAILED, State.STOPPING} and post.reason:
            said["reason"] = post.reason
        if after.state is State.STOPPING and event is Event.DEADLINE:
            said["reason"] = post.cause("")
        if after.state is State.RUNNING:
            said |= {"pid": post.pid, "generation": after.generation}
            said["took_s"] = after.since - post.started_at
            post.reason = post.traceback = ""
        self.journal.record("service.state", post.name, **said)
        self._take_along(post, before, event)

    def _take_along(self, post: Post, before: Child, event: Event) -> None:
        """Restart who is bound to a service that ended without being told to."""
        ended = event in {Event.CRASH, Event.CLEAN_EXIT, Event.REFUSED}
        silent = before.state is State.STOPPING and before.why is Why.WATCHDOG
        if ended and (before.state is State.RUNNING or silent) and not self.stopping:
            self.restart_bound(post.name)

    def restart_bound(self, name: str) -> None:
        """Restart what runs and is bound to a service."""
        for bound in restarts_along(name, self.roster.children()):
            other = self.roster.posts[bound]
            if has_process(other.state) and other.child.wanted:
                self.journal.record("service.taken_along", bound, by=name)
                self.advance(other, Event.STOP)
                self.advance(other, Event.START)

    def _carry_out(self, post: Post, effect: Effect) -> None:
        match effect:
            case Effect.SPAWN:
                self._spawn(post)
            case Effect.DRAIN:
                if not post.welcomed or not self.send(post.token, messages.Drain(post.spec.grace)):
                    self.engine.signal(post.token, signal.SIGTERM)
            case Effect.DUMP:
                self.engine.signal(post.token, signal.SIGUSR1, group=False)
            case Effect.TERM:
                self.engine.signal(post.token, signal.SIGTERM)
            case Effect.KILL:
                self.engine.signal(post.token, signal.SIGKILL)

    def _spawn(self, post: Post) -> None:
        now = time.monotonic()
        token = sockets.new_token()
        post.begin(token, now, now + SLOT_S)
        self.roster.by_token[token] = post
        self.bus.admit(token)
        try:
            assignment = encode(self._assignment(post))
        except StartError as error:
            self._not_started(post, error.reason, permanent=True)
        except Exception as error:  # noqa: BLE001 (one service's start must not end the host)
            self._erred(f"the start of {post.name}", error)
            reason = f"it cannot be told what to be: {type(error).__name__}: {error}"
            self._not_started(post, reason, permanent=True)
        else:
            log = str(self.config.host.logs / f"{post.name}.log")
            self.engine.fork(token, post.name, log, assignment)

    def _assignment(self, post: Post) -> messages.Assignment:
        spec, host = post.spec, self.config.host
        env, secret = worker_environment(spec, self.environ)
        return messages.Assignment(
            name=spec.name,
            source=self.registration.source(post.plugin),
            service_type=spec.service_type,
            generation=post.child.generation,
            token=post.token,
            control=sockets.control_path(host.run),
            bus=sockets.bus_path(host.run),
            lock=str(host.run / f"{spec.name}.service.lock") if spec.exclusive else "",
            env=messages.packed(env),
            secrets=messages.packed(secret),
            config=spec.config,
            plugin_config=post.plugin.config,
            watchdog=spec.watchdog,
            grace=spec.grace,
            orphan_grace=host.orphan_grace,
            timeout=spec.timeout,
            window=spec.window,
            window_bytes=spec.window_bytes,
            max_message=host.max_message,
        )

    def _not_started(self, post: Post, reason: str, permanent: bool) -> None:
        post.broken = messages.Broken("fork", reason, permanent=permanent)
        self._ended(post, None)
        post.last_exit = "was not forked"
        self._gone(post, ())

    def _connected(self, token: Token) -> None:
        post = self.roster.by_token.get(token)
        if post is not None:
            post.connected = True
            self._maybe_running(post)

    def _maybe_running(self, post: Post) -> None:
        """It runs once `start` returned and its bus connection was seen, not before: else its
        first call could come back undelivered."""
        if post.said_ready and post.connected and not post.ended:
            self.advance(post, Event.READY)

    # --- ends -------------------------------------------------------------------------------

    def _read_engine(self) -> None:
        for key in self.engine.ended_now():
            self.bus.died(key)
            post = self.roster.by_token.get(key)
            if post is not None:
                post.ended = True
                self._dirty[post.name] = None
                self._stirred = True
        for happened in self.engine.read():
            self._take(happened)

    def _take(self, happened: engine.Happened) -> None:
        match happened:
            case engine.Forked(key, pid):
                post = self.roster.by_token.get(key)
                if post is not None:
                    post.pid = pid
            case engine.NotForked(key, reason):
                post = self.roster.by_token.get(key)
                if post is not None:
                    self._not_started(post, f"it could not be forked: {reason}", permanent=False)
            case engine.Ended(key, status):
                post = self.roster.by_token.get(key)
                if post is not None:
                    self._ended(post, status)
            case engine.Gone(key, left):
                post = self.roster.by_token.get(key)
                if post is not None:
                    self._gone(post, left)
            case engine.Lost(pid, workers):
                self.journal.record("launcher.lost", pid=pid, workers=workers)
        self.registration.take(happened)
        self._stirred = True

    def _ended(self, post: Post, status: int | None) -> None:
        words = tree.describe(status)
        cause = post.cause(words)
        post.ended = True
        post.last_exit = words
        post.last_exit_at = time.time()
        self.bus.died(post.token)
        self.bus.cause(post.token, cause)
        unasked = post.state is not State.STOPPING or post.child.why is not Why.ORDER
        if unasked or post.clean is None or post.clean.reason not in {"", "ordered"}:
            post.reason = cause
        if post.broken is not None:
            post.traceback = post.broken.traceback

    def _gone(self, post: Post, left: tuple[int, ...]) -> None:
        if left:
            pids = " ".join(map(str, left))
            self.journal.record("service.leftover", post.name, pids=pids)
        event = post.what_ended()
        token, post.token, post.pid, post.in_flight = post.token, b"", 0, 0
        self.roster.by_token.pop(token, None)
        post.events = ()
        if self.bus.connected.isdisjoint({token}):  # it never spoke: nobody waits for its notice
            self.bus.drop(token, "")
        self.advance(post, event)
        self._listed[post.name] = None

    # --- control ----------------------------------------------------------------------------

    def _read_control(self) -> None:
        for _ in range(CONTROL_MOST):
            try:
                frames = self.control.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(frames) == 2 and not frames[1]:
                continue  # a probe: somebody connected
            try:
                if len(frames) != 3:
                    raise WireError(f"{len(frames)} frames")
                batch = messages.decode_upward(frames[2])
            except WireError as error:
                self._refuse(str(error))
                continue
            for message in batch:
                try:
                    self._hear(frames[0], message)
                except Exception as error:  # noqa: BLE001 (one message must not end the host)
                    self._erred(f"a {type(message).__name__}", error)

    def _erred(self, over: str, error: Exception) -> None:
        """Write down a mistake of the supervisor's own; the host goes on."""
        self._mistakes += 1
        text = "".join(traceback.format_exception(error))
        self.journal.record("supervisor.erred", over=over, error=text[-4000:])

    def _refuse(self, reason: str) -> None:
        self.refused += 1
        if self.refused <= 10 or self.refused % 1000 == 0:
            self.journal.record("frame.refused", count=self.refused, error=reason[:200])

    def _hear(self, token: Token, message: messages.Upward) -> None:
        match message:
            case messages.Order():
                self._on_order(token, message)
                return
            case messages.Join(wire, pid):
                self._join(token, wire, pid)
                return
            case messages.Bye():
                self._program_left(token)
                self._forget_orders(token)
                return
        if self.registration.hear(token, message):
            return
        post = self.roster.by_token.get(token)
        if post is None or post.ended:
            if isinstance(message, messages.Hello):
                self._turn_away(token, "no such incarnation is expected here")
            elif isinstance(message, messages.Beat):  # late, or of a former supervisor's
                self.send(token, messages.TurnedAway("no such incarnation is expected here"))
            return
        self._hear_worker(post, message)

    def _hear_worker(self, post: Post, message: messages.Upward) -> None:
        match message:
            case messages.Hello(wire):
                if wire not in WIRES:
                    self._turn_away(post.token, f"wire version {wire}; spoken here: {_wires()}")
                else:
                    post.welcomed = True
                    self.send(post.token, self.welcome())
            case messages.Initialized():
                self.advance(post, Event.INITIALIZED)
            case messages.Ready(manifest):
                if manifest != post.manifest:
                    post.manifest = manifest
                    self._listed[post.name] = None
                post.said_ready = True
                self._maybe_running(post)
            case messages.Beat(_, in_flight, refused):
                post.in_flight, post.refused = in_flight, refused
                post.beat_at = time.monotonic()
                self.advance(post, Event.BEAT)
            case messages.Broken():
                post.broken = message
                self.send(post.token, messages.Noted())
            case messages.Stopped():
                post.clean = message
                self.send(post.token, messages.Noted())
            case messages.Subscribe(events):
                post.events = events
                self._listed[post.name] = None
                self._stirred = True

    def _turn_away(self, token: Token, reason: str) -> None:
        self.journal.record("member.turned_away", token=token.hex()[:12], reason=reason)
        self.send(token, messages.TurnedAway(reason))

    def welcome(self) -> messages.Welcome:
        """Return the directory as it is, for a new member."""
        entries = tuple(post.entry() for post in self.roster)
        usual = self.config.usual
        return messages.Welcome(
            WIRE,
            self.boot,
            os.getpid(),
            entries,
            usual.timeout,
            usual.window,
            usual.window_bytes,
            self.config.host.max_message,
        )

    def send(self, token: Token, message: messages.Downward) -> bool:
        """Send to one connection; False where it is gone, or does not read."""
        try:
            self.control.send_multipart([token, SUPERVISOR, encode([message])], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in {zmq.EAGAIN, zmq.EHOSTUNREACH}:
                raise
            return False
        return True

    # --- programs ---------------------------------------------------------------------------

    def _join(self, token: Token, wire: int, pid: int) -> None:
        if wire not in WIRES:
            self._turn_away(token, f"wire version {wire}; spoken here: {_wires()}")
            return
        if len(self._programs) >= PROGRAMS_MOST:
            self._turn_away(token, f"{PROGRAMS_MOST} programs are connected already")
            return
        try:
            pidfd = os.pidfd_open(pid)
        except (OSError, OverflowError):
            self._turn_away(token, f"there is no process {pid}")
            return
        self._program_left(token)
        self._programs[token] = pidfd
        self._leavers.register(pidfd, select.EPOLLIN)
        self.bus.admit(token)
        self.later(self._welcome_program(token))

    def _welcome_program(self, token: Token) -> Work:
        while not self.registration.finished:
            yield False
        if token in self._programs:
            self.send(token, self.welcome())

    def _program_left(self, token: Token) -> None:
        pidfd = self._programs.pop(token, None)
        if pidfd is not None:
            self._leavers.unregister(pidfd)
            os.close(pidfd)
            self._followers.pop(token, None)
            self.bus.drop(token, "the program ended")

    def _programs_left(self) -> None:
        gone = {fd for fd, _ in self._leavers.poll(0)}
        for token in [token for token, pidfd in self._programs.items() if pidfd in gone]:
            self._program_left(token)

    # --- orders -----------------------------------------------------------------------------

    def _on_order(self, peer: Token, order: messages.Order) -> None:
        command = COMMANDS.get(order.verb)
        if command is None:
            self._answer(peer, order, Refusal("usage", f"this supervisor has no {order.verb}"))
            return
        if len(self._pending) >= ORDERS_MOST:  # the oldest of those that only look on gives way
            oldest = next((p for p in self._pending if p.order.verb == "wait"), self._pending[0])
            self._reply(oldest, Refusal("failed", f"{ORDERS_MOST} orders wait already"))
            oldest.work.close()
            self._pending.remove(oldest)
        wait = order.wait if 0 < order.wait < 1e9 else 1e9
        work = command(self, peer, order)
        self._pending.append(Pending(peer, order, work, time.monotonic() + wait))
        self._stirred = True

    def _waits(self, pending: Pending) -> bool:
        try:
            only_waits = next(pending.work)
        except StopIteration as end:
            if end.value is not None:
                self._reply(pending, end.value)
            self._stirred = True
            return False
        except (Refusal, ConfigError) as error:
            self._reply(pending, error)
            return False
        except Exception as error:  # noqa: BLE001 (one order must not end the host)
            self._erred(pending.order.verb, error)
            refusal = Refusal("failed", f"{pending.order.verb}: {type(error).__name__}: {error}")
            self._reply(pending, refusal)
            return False
        if time.monotonic() < pending.deadline:
            return True
        text = f"{pending.order.verb}: not done within {pending.order.wait:g} s; it goes on"
        self._reply(pending, Refusal("timed_out", text))
        pending.answered = True
        if only_waits:
            pending.work.close()
        return not only_waits

    def _reply(self, pending: Pending, result: Any) -> None:
        if not pending.answered:
            self._answer(pending.peer, pending.order, result)

    def _answer(self, peer: Token, order: messages.Order, result: Any) -> None:
        if isinstance(result, Refusal):
            answer = Answer(order.id, False, result.data, result.code, str(result))
        elif isinstance(result, ConfigError):
            answer = Answer(order.id, False, None, "ConfigError", str(result))
        else:
            answer = Answer(order.id, True, result)
        self.send(peer, answer)

    def _forget_orders(self, peer: Token) -> None:
        """Drop what only waited for the sake of a connection that is gone."""
        self._followers.pop(peer, None)
        self._pending = [p for p in self._pending if p.peer != peer or p.order.verb != "wait"]

    def follow(self, peer: Token, order: messages.Order, services: frozenset[str]) -> None:
        """Send a connection every event from now on."""
        self._followers[peer] = (order.id, services)

    def _follow(self, event: JournalEvent) -> None:
        for peer, (order_id, services) in list(self._followers.items()):
            if services and event.service not in services:
                continue
            if not self.send(peer, Answer(order_id, True, event, more=True)):
                del self._followers[peer]

    # --- what is told to everyone -----------------------------------------------------------

    def list_entry(self, name: str) -> None:
        """Tell everyone of a new or altered entry."""
        self._listed[name] = None
        self._stirred = True

    def delist(self, name: str) -> None:
        """Tell everyone that a service is no more."""
        self._delisted[name] = None
        self._stirred = True

    def _publish(self) -> None:
        if not (self._dirty or self._listed or self._delisted or self._stale):
            return
        batch: list[messages.Downward] = [
            messages.Delisted(name) for name in self._delisted if name not in self.roster.posts
        ]
        posts = self.roster.posts
        batch += [messages.Listed(posts[name].entry()) for name in self._listed if name in posts]
        for name in self._dirty:
            if name in posts and name not in self._listed:
                batch.append(posts[name].changed())
        self._dirty.clear()
        self._listed.clear()
        self._delisted.clear()
        members = [post.token for post in self.roster if post.welcomed and not post.ended]
        encoded = encode(batch)
        for token in [*members, *self._programs]:
            if token in self._stale:
                if self.send(token, self.welcome()):
                    self._stale.discard(token)
            elif batch:
                self._tell(token, encoded)
        self._stale &= {*members, *self._programs}

    def _tell(self, token: Token, encoded: bytes) -> None:
        try:
            self.control.send_multipart([token, SUPERVISOR, encoded], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in {zmq.EAGAIN, zmq.EHOSTUNREACH}:
                raise
            if error.errno == zmq.EAGAIN:  # it does not read: tell it the whole once it does
                self._stale.add(token)
            else:
                self._program_left(token)

    # --- starting and stopping everything ---------------------------------------------------

    def _start_next(self) -> None:
        queued = [post for post in self.roster if post.state is State.QUEUED]
        if not queued:
            return
        now = time.monotonic()
        children = self.roster.children()
        busy = sum(
            post.state is State.INITIALIZING and now < post.slot_until for post in self.roster
        )
        for post in queued:
            if busy >= self.config.host.starts_at_once:
                slots = [p.slot_until for p in self.roster if p.slot_until > now]
                self._soonest = min(self._soonest, *slots, now + SLOT_S)
                return
            if not waits_for(post.child, children):
                busy += 1
                self.advance(post, Event.SLOT)

    def stop_everything(self) -> None:
        """Stop every service in reverse order of the starts, then end."""
        if not self.stopping:
            self.stopping = True
            self.journal.record("supervisor.stopping")
            self.stir()

    def _stop_next(self) -> None:
        left = [post for post in self.roster if post.child.wanted or has_process(post.state)]
        under_way = [p for p in left if p.state is State.STOPPING and not p.child.wanted]
        ready = [p for p in left if p not in under_way and may_stop(p.name, self.roster.children())]
        for post in ready or ([] if under_way else left):  # left: a circle, which must end as well
            self.advance(post, Event.STOP)
        if not any(has_process(post.state) for post in self.roster):
            self.done = True

    def take_config(self, config: Config, specs: list[ServiceSpec]) -> None:
        """Take what the config on disk says now: who depends on whom counts for all at once, so
        that there is one order; the rest for each service when it is told to start."""
        self.config = config
        by_name = {spec.name: spec for spec in specs}
        for post in self.roster:
            if (new := by_name.get(post.name)) is not None:
                spec = msgspec.structs.replace(
                    post.spec, depends_on=new.depends_on, bind_to=new.bind_to
                )
                post.child = replace(post.child, spec=spec)

    def wants(self, name: str, wanted: bool) -> None:
        """Remember an order beyond this supervisor's life."""
        saved, post = self.saved, self.roster.posts.get(name)
        autostart = post is None or post.spec.autostart
        before = (list(saved.stopped), list(saved.started))
        for names in (saved.stopped, saved.started):
            if name in names:
                names.remove(name)
        if wanted and not autostart:
            saved.started.append(name)
        if not wanted and autostart:
            saved.stopped.append(name)
        if (saved.stopped, saved.started) != before:
            self.save()

    def save(self) -> None:
        """Write down what is to be remembered."""
        try:
            adoption.save(self.config.host.state, self.saved)
        except OSError as error:
            self.journal.record("state.unsaved", error=str(error))

    # --- the end ----------------------------------------------------------------------------

    def _close(self) -> None:
        killing = self._signals > 1 or self.failure is not None
        self.engine.leave(kill=killing or any(has_process(post.state) for post in self.roster))
        self.journal.record("supervisor.stopped", killed="yes" if killing else "")
        for pending in self._pending:
            done = pending.order.verb == "down"
            refusal = Refusal("failed", "the supervisor is ending")
            self._reply(pending, {} if done else refusal)
        for pidfd in self._programs.values():
            os.close(pidfd)
        self._leavers.close()
        self.control.close()
        self.bus.socket.close()
        self.context.term()
        run = self.config.host.run
        for path in (sockets.control_path(run), sockets.bus_path(run)):
            Path(path).unlink(missing_ok=True)
        self.journal.close()
        for lock in self._locks:
            os.close(lock)


def _wires() -> str:
    return ", ".join(map(str, sorted(WIRES)))


def make_private(folder: Path) -> None:
    """Make a folder that is its user's alone, unless it is there; what is above it, as usual.

    Raises:
        GarrisonError: It cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise GarrisonError(
            f"{folder} cannot be made: {error.strerror}; choose another home with --home"
        ) from error


def _leave_link(link: Path, folder: Path) -> None:
    """Let whoever knows the home find a folder that was moved out of it."""
    if link == folder:
        if link.is_symlink():
            raise GarrisonError(f"{link} is a link of another config's: remove {link}")
        return
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise GarrisonError(f"{link} is there, and [host] {link.name} moves it: remove {link}")
    link.symlink_to(folder)


def _take_home(config: Config) -> list[int]:
    """Make the home's folders and take its locks; return the locks' descriptors.

    One lock lies in the home, the other with the sockets: either can be shared by mistake.
    """
    host = config.host
    make_private(host.home)
    locks = [_take_lock(host.home / "supervisor.lock", host.home)]
    for folder, name in ((host.run, "run"), (host.state, "state"), (host.logs, "logs")):
        _leave_link(host.home / name, folder)
        make_private(folder)
    host.run.chmod(0o700)
    return [*locks, _take_lock(host.run / "supervisor.lock", host.run)]


def _take_lock(path: Path, what: Path) -> int:
    lock = sockets.hold_lock(path)
    if lock is None:
        holder = path.read_text("ascii", "replace").strip() or "?"
        raise AlreadyRunning(
            f"a supervisor already runs for {what} (pid {holder}); "
            "stop it with: garrison down, or give this one another --home"
        )
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock
