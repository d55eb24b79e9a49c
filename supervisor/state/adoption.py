"""One supervisor after another: it adopts what the one before left, and makes way for the next.

Adoption: launchers are taken over with their workers, every service is put back where it was, and
each worker says that it is there once it has found the new sockets.
"""

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, MutableMapping
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import msgspec

from garrison.ipc.errors import StartError
from garrison.ipc.messages import BAD_BYTES, WIRES, Limits, State, Token
from garrison.supervisor.config.environment import base_environment
from garrison.supervisor.config.spec import Restart, ServiceSpec
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.policy import Effect, Event, StopReason
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.plugins import bound_services
from garrison.supervisor.processes.engine import Found, Inherited
from garrison.supervisor.processes.users import resolve_user
from garrison.supervisor.tasks import Steps

from .snapshot import (
    ServiceSnapshot,
    Snapshot,
    WorkerFate,
    fate,
    forget_living,
    kept,
    restored,
    save_living,
    started_after_snapshot,
    this_machine,
    token_of,
)

if TYPE_CHECKING:
    from garrison.supervisor.config.load import Config
    from garrison.supervisor.loop import Supervisor

SAVE_S = 0.02  # what changes is written down so much later, together
SAVE_SHARE = 10  # or so many times as long as the last writing took, where that is more
SAVE_MOST_S = 0.5
AGAIN_S = 5.0  # until what a full disk did not take is written again
HANDOVER = "GARRISON_HANDOVER"
QUIET_S = 0.2  # until an upgrade, for messages on their way to be carried
PROVE_S = 30.0  # for a new version to show that it could take over
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SETTLED_S = 2.0  # for an adopted worker without a watchdog to say that it is there
UNCLAIMED_S = 5.0  # from TERM to KILL, for a worker that no service of this host is


class Handover(msgspec.Struct):
    """What a supervisor hands to the one that takes its place in the same process."""

    locks: list[int] = []  # descriptors, which the home's locks go on being held by
    others: list[int] = []  # children of this process that are none of the host's


def handed_over(environ: MutableMapping[str, str]) -> Handover:
    """Take what the supervisor before left in the environment; it is not there any more then."""
    try:
        found = msgspec.json.decode(environ.pop(HANDOVER, "{}"), type=Handover)
        for lock in found.locks:
            os.set_inheritable(lock, False)
    except (OSError, *BAD_BYTES):
        return Handover()
    return found


def command(python: str, config: "Config") -> list[str]:
    """Return the command line of a supervisor."""
    return [
        *(python, "-P", "-m", "garrison.supervisor.cli", "up"),
        *("--config", str(config.path), "--home", str(config.host.home)),
    ]


def adoptable(config: "Config", living: Snapshot) -> list[tuple[ServiceSnapshot, ServiceSpec]]:
    """Return every service that was left and still is one, with how it is run from now on.

    Raises:
        ConfigError: The config does not fit what runs; nothing has been touched yet.
    """
    provides = {
        name: [manifest.service_type for manifest in read.services]
        for name, read in living.plugins.items()
        if name in config.plugins
    }
    specs = {spec.name: spec for spec in bound_services(config, provides)}
    return [
        (one, spec)
        for one in living.services
        if (spec := specs.get(one.name)) is not None
        and (spec.plugin, spec.service_type) == (one.plugin, one.service_type)
        and spec.agent.name == one.agent
    ]


class Adoption:
    """What a former supervisor left to this one, and what this one writes down for the next."""

    def __init__(self, host: "Supervisor") -> None:
        self._host = host
        self._unsaved = False
        self._took = 0.0  # the last writing, in seconds
        self.problem = ""  # why it cannot be written down who lives
        self.due = inf  # when `write` has something to do
        self._unknown: list[Token] = []  # workers of which nothing was written down
        self._wanted: dict[str, bool] | None = None  # as it was when everything was told to stop
        self._over = False  # everything has ended in order: there is nothing to write down
        self.unclaimed: set[Token] = set()  # workers that no service is, and that are ending
        self.adopted = 0
        self.successor = ""  # the interpreter of the supervisor that takes this one's place
        self.environ: dict[str, str] = {}  # and its environment
        self.outdated = False  # the launcher that was taken over has another version's code

    # --- adoption ---------------------------------------------------------------------------

    def adopt(
        self, living: Snapshot | None, services: list[tuple[ServiceSnapshot, ServiceSpec]]
    ) -> None:
        """Take over what is there: before the first turn, so that no worker is heard too early.

        Args:
            living: What was written down; None where nothing was. Launchers may be there all the
                same: what they have is ended.
            services: Those of its services that still are.
        """
        host = self._host
        found = self._found(living)
        now = time.monotonic()
        for problem in found.refused:
            host.journal.record("launcher.refused", problem=problem)
        named = {name: token for token, name in found.running.items()}
        known: set[Token] = set()
        for kept_one in living.services if living is not None else ():
            self._let_in(kept_one.name, token_of(kept_one), kept_one.uid)
        for position, (one, spec) in enumerate(services):
            if token_of(one) not in found.running and one.name in named:
                one = started_after_snapshot(one, named[one.name], now)
                one = msgspec.structs.replace(one, uid=self._uid_of(spec))
                self._let_in(one.name, token_of(one), one.uid)
            known.add(self._take(one, spec, position, found, now))
        for token, name in found.running.items():
            if token in known:
                continue
            if living is None:
                self._unknown.append(token)
            number = signal.SIGKILL if living is None else signal.SIGTERM
            host.later(self._end_unclaimed(token, name, number))
        self.outdated = found.outdated
        if living is not None:
            read = {n: r for n, r in living.plugins.items() if n in host.config.plugins}
            host.registration.resume(read, found.modules)
            if host.config.digest != living.config:
                self._forgive()
        if found.launchers or self.adopted:
            host.journal.record(
                "supervisor.adopts",
                services=self.adopted,
                launchers=found.launchers,
                preloaded=len(found.modules),
            )
        self.touch()

    def _found(self, living: Snapshot | None) -> Found:
        """Return what the engine finds of the workers that were written down."""
        engine = self._host.engine
        engine.adopt(
            [
                Inherited(token_of(one), one.name, Handle(one.pid, one.ticks, one.log_began))
                for one in (living.services if living is not None else ())
                if token_of(one)
            ]
        )
        while True:
            happened = engine.turn()
            for place, one in enumerate(happened):
                if isinstance(one, Found):
                    self._host.incarnations.backlog = [*happened[:place], *happened[place + 1 :]]
                    return one
            select.select(engine.descriptors(), [], [], 0.01)

    def _let_in(self, name: str, token: Token, uid: int) -> None:
        """Open the way for what runs as another user: before it comes back."""
        try:
            if token:
                self._host.doors.admit(token, uid)
        except OSError as error:  # it will not be heard, and is replaced
            self._host.journal.record("user.not_let_in", name, uid=uid, error=str(error))

    def _uid_of(self, spec: ServiceSpec) -> int:
        """Return whom a service runs as by its config: what was written down is older."""
        data = self._host.config.host.state / "services" / spec.name
        with contextlib.suppress(StartError):
            if (account := resolve_user(spec, data)) is not None:
                return account.put_on(Limits()).uid
        return -1

    def _take(
        self,
        one: ServiceSnapshot,
        spec: ServiceSpec,
        position: int,
        found: Found,
        now: float,
    ) -> Token:
        host, token = self._host, token_of(one)
        post = Service(
            restored(one, spec, now), host.config.plugins[spec.plugin], one.manifest, position
        )
        if post.spec.supervision.watchdog != spec.supervision.watchdog:
            post.next_watchdog = spec.supervision.watchdog
        post.reason, post.traceback = one.reason, one.traceback
        post.last_exit, post.last_exit_at = one.last_exit, one.last_exit_at
        post.current.handle, post.current.uid = Handle(one.pid, one.ticks, one.log_began), one.uid
        host.roster.posts[one.name] = post
        if not token:
            return token
        post.current.token, post.current.pid, post.current.started_at, post.current.adopting = (
            token,
            one.pid,
            one.started_at,
            True,
        )
        host.roster.by_token[token] = post
        host.bus.admit(token)
        match fate(one, found.running, found.ended):
            case WorkerFate.LAUNCHED:
                self.adopted += 1
                if token in found.ending:
                    self._is_ending(post, now)
            case _:
                if found.over and spec.supervision.restart is Restart.TEMPORARY:
                    self._is_ending(post, now)
        return token

    def _is_ending(self, post: Service, now: float) -> None:
        """Take an end for what it is: there was no supervisor for too long. That is no clean end
        after which a service has done its part, so what is wanted is started again."""
        post.child = replace(
            post.child,
            state=State.STOPPING,
            deadline=now + UNCLAIMED_S,
            why=StopReason.ORDER,
            harder=Effect.KILL,
        )

    def _forgive(self) -> None:
        """Try again at once what was given up: the config may be better now."""
        for post in self._host.roster:
            if post.state is State.FAILED and post.child.wanted:
                self._host.advance(post, Event.START)

    def _end_unclaimed(self, token: Token, name: str, number: int) -> Steps:
        """End a worker that is none of this host's: its service was taken out, or it is unknown."""
        host = self._host
        self.unclaimed.add(token)
        host.journal.record("worker.unclaimed", name, ended=signal.Signals(number).name)
        host.engine.signal(token, number)
        until = time.monotonic() + UNCLAIMED_S
        while host.engine.has(token) and time.monotonic() < until:
            yield False
        host.engine.signal(token, signal.SIGKILL)
        host.engine.discard(token)
        self.unclaimed.discard(token)
        host.doors.control.forget(token)
        host.doors.bus.forget(token)

    def until_ended(self) -> Steps:
        """Wait until the unknown are gone, so that nothing is there twice for a moment."""
        until = time.monotonic() + UNCLAIMED_S
        while any(map(self._host.engine.has, self._unknown)) and time.monotonic() < until:
            yield False

    def awaits(self, post: Service) -> bool:
        """Tell whether an adopted worker is yet to say that it is there; one without a watchdog may
        be silent for as long as it likes, and is not waited for."""
        patient = post.child.deadline < inf or time.monotonic() < self._host.began + SETTLED_S
        return post.current.adopting and patient

    def greet(self, post: Service) -> None:
        """Welcome a worker that has found the new sockets; it answers with all that it is."""
        if post.current.adopting and not post.current.ended and not post.current.welcomed:
            post.current.welcomed = self._host.members.welcome(post.current.token)

    def hello(self, post: Service, wire: int, generation: int) -> None:
        """Take an adopted worker's Hello; what comes too late, or is of another version, goes."""
        host = self._host
        if post.state is State.STOPPING and post.adoption_timed_out:
            host.members.turn_away(post.current.token, "it is being replaced")
            return
        post.current.adopting = False
        post.child = replace(post.child, generation=max(post.child.generation, generation))
        told = {
            "pid": post.current.pid,
            "generation": post.child.generation,
            "state": post.state.value,
        }
        host.journal.record("service.adopted", post.name, **told)
        host.advance(post, Event.BEAT)
        host.members.changed(post.name)
        if wire not in WIRES:
            host.journal.record("service.replaced", post.name, reason=f"it speaks wire {wire}")
            post.current.welcomed = False  # it would not understand: TERM tells it to drain
            wanted = post.child.wanted
            host.advance(post, Event.STOP)
            if wanted:
                host.advance(post, Event.START)

    # --- for the next one -------------------------------------------------------------------

    def touch(self) -> None:
        """Have what changed written down soon."""
        if not self._unsaved:
            self._unsaved = True
            self.due = time.monotonic() + min(max(SAVE_S, SAVE_SHARE * self._took), SAVE_MOST_S)

    def write_now(self) -> None:
        """Write down what changed before somebody is told of it."""
        if self._unsaved:
            self.write()

    def write(self) -> None:
        """Write down who lives."""
        self._unsaved, self.due = False, inf
        if self._over:
            return
        host, began = self._host, time.monotonic()
        if not host.keep_orders():
            self.due = time.monotonic() + AGAIN_S
        services = [
            kept(post, post.current.handle.ticks, self._is_wanted(post)) for post in host.roster
        ]
        living = Snapshot(
            machine=this_machine(),
            config=host.config.digest,
            plugins=host.registration.read,
            services=services,
        )
        try:
            save_living(host.config.host.state, living)
        except (OSError, TypeError, ValueError, OverflowError) as error:  # disk, or what it is told
            if str(error) != self.problem:  # once, not fifty times a second
                host.journal.record("state.unsaved", error=str(error))
            self.problem = str(error)
            self.due = time.monotonic() + AGAIN_S
        else:
            self.problem = ""
        self._took = time.monotonic() - began

    def _is_wanted(self, post: Service) -> bool:
        return post.child.wanted if self._wanted is None else self._wanted.get(post.name, False)

    def keep_wanted(self) -> None:
        """Remember what is wanted now: that everything is stopped is an order to this host alone,
        which the next one, should this be killed on the way, does not go on with."""
        self._wanted = {post.name: post.child.wanted for post in self._host.roster}

    def proven(self, python: str) -> Generator[bool, None, str]:
        """Return why an interpreter's garrison could not take over here; empty where it could.

        It shows that in a process of its own, which sees what the successor will see, but for the
        secrets: nothing that runs has been touched yet.
        """
        host = self._host
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(
                    [*command(python, host.config), "--prove"],
                    env=base_environment(host.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    start_new_session=True,
                )
            except OSError as error:
                return f"{python}: {error.strerror}"
            host.others.add(process.pid)  # none that is to be ended as a leftover
            until = time.monotonic() + PROVE_S
            try:
                while process.poll() is None:
                    if time.monotonic() >= until:
                        return f"it has not shown within {PROVE_S:g} s that it can"
                    yield False
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                host.others.discard(process.pid)
            if process.returncode == 0:
                return ""
            said.seek(0)
            lines = said.read(65_536).decode("utf-8", "replace").strip().splitlines()
            return lines[-1].removeprefix("error: ") if lines else f"exit {process.returncode}"

    def replace_by(self, python: str) -> Steps:
        """Have this process become a new supervisor, as soon as this one's loop has ended.

        Everybody is told first that no service takes calls, so that calls wait for the successor
        instead of being lost with this router; what is on its way is carried until all is quiet.
        """
        host = self._host
        for post in host.roster:
            post.current.connected = False
            host.members.changed(post.name)
        until = time.monotonic() + QUIET_S
        carried = -1
        while time.monotonic() < until and carried != host.bus.carried:
            carried, soon = host.bus.carried, time.monotonic() + QUIET_S / 4
            while time.monotonic() < soon:
                yield False
        if not host.stopping:
            self.successor = python
            host.done = True

    def hand_over(self, locks: list[int], wake: int) -> None:
        """Write down who lives, keep the locks, and have signals wait for the successor.

        Args:
            locks: The home's.
            wake: Where signals are noted that came before they were made to wait.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # pending ones outlive an exec
        with contextlib.suppress(BlockingIOError):
            for number in os.read(wake, 64):
                if number in ENDING:
                    os.kill(os.getpid(), number)
        self._host.bus.route_pending()
        self.write()
        for lock in locks:
            os.set_inheritable(lock, True)
        handover = Handover(locks, sorted(self._host.others))
        self.environ = {**self._host.environ, HANDOVER: msgspec.json.encode(handover).decode()}

    def forget(self) -> None:
        """Leave nothing: everything has ended in order."""
        self._over = True
        try:
            forget_living(self._host.config.host.state)
        except OSError as error:
            self._host.journal.record("state.unsaved", error=str(error))
