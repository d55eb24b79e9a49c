"""One supervisor after another: it adopts what the one before left, and makes way for the next.

Adoption: launchers are taken over with their workers, every service is put back where it was, and
each worker says that it is there once it has found the new sockets.
"""

import os
import signal
import time
from collections.abc import MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from garrison.ipc import tree
from garrison.ipc.messages import BAD_BYTES, WIRES, State, Token

from .adoption import (
    Fate,
    Kept,
    Living,
    begun_since,
    fate,
    forget_living,
    kept,
    restored,
    save_living,
    this_machine,
    token_of,
)
from .engine import Found
from .policy import Event
from .registration import bound_services
from .roster import Post
from .spec import ServiceSpec
from .works import Work

if TYPE_CHECKING:
    from .config import Config
    from .loop import Supervisor

SAVE_S = 0.02  # what changes is written down so much later, together
HANDOVER = "GARRISON_HANDOVER"
QUIET_S = 0.2  # until an upgrade, for messages on their way to be carried
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


def adoptable(config: "Config", living: Living) -> list[tuple[Kept, ServiceSpec]]:
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
    ]


class Succession:
    """What a former supervisor left to this one, and what this one writes down for the next."""

    def __init__(self, host: "Supervisor") -> None:
        self._host = host
        self._unsaved = False
        self._tokens: dict[Token, int] = {}  # token → when its process started, in ticks
        self._problem = ""
        self.due = float("inf")  # when `write` has something to do
        self._unknown: list[Token] = []  # workers of which nothing was written down
        self.adopted = 0
        self.successor = ""  # the interpreter of the supervisor that takes this one's place
        self.environ: dict[str, str] = {}  # and its environment
        self.outdated = False  # the launcher that was taken over has another version's code

    # --- adoption ---------------------------------------------------------------------------

    def adopt(self, living: Living | None, services: list[tuple[Kept, ServiceSpec]]) -> None:
        """Take over what is there: before the first turn, so that no worker is heard too early.

        Args:
            living: What was written down; None where nothing was. Launchers may be there all the
                same: what they have is ended.
            services: Those of its services that still are.
        """
        host, now = self._host, time.monotonic()
        found = host.engine.adopt()
        for problem in found.refused:
            host.journal.record("launcher.refused", problem=problem)
        named = {name: token for token, name in found.living.items()}
        known: set[Token] = set()
        for position, (one, spec) in enumerate(services):
            if token_of(one) not in found.living and one.name in named:
                one = begun_since(one, named[one.name], now)
            known.add(self._take(one, spec, position, found, now))
        for token, name in found.living.items():
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

    def _take(self, one: Kept, spec: ServiceSpec, position: int, found: Found, now: float) -> Token:
        host, token = self._host, token_of(one)
        post = Post(
            restored(one, spec, now), host.config.plugins[spec.plugin], one.manifest, position
        )
        post.reason, post.traceback = one.reason, one.traceback
        post.last_exit, post.last_exit_at = one.last_exit, one.last_exit_at
        host.roster.posts[one.name] = post
        if not token:
            return token
        post.token, post.pid, post.started_at, post.adopting = token, one.pid, one.started_at, True
        host.roster.by_token[token] = post
        host.bus.admit(token)
        match fate(one, found.living, found.ended):
            case Fate.LAUNCHED:
                self.adopted += 1
            case Fate.UNSEEN if host.engine.adopt_stray(token, one.pid, one.ticks):
                self.adopted += 1
            case Fate.UNSEEN:
                host.engine.gone(token)
            case _:
                pass  # the launcher's word of its end has been taken in, and is read next
        return token

    def _forgive(self) -> None:
        """Try again at once what was given up: the config may be better now."""
        for post in self._host.roster:
            if post.state is State.FAILED and post.child.wanted:
                self._host.advance(post, Event.START)

    def _end_unclaimed(self, token: Token, name: str, number: int) -> Work:
        """End a worker that is none of this host's: its service was taken out, or it is unknown."""
        host = self._host
        host.journal.record("worker.unclaimed", name, ended=signal.Signals(number).name)
        host.engine.signal(token, number)
        until = time.monotonic() + UNCLAIMED_S
        while host.engine.has(token) and time.monotonic() < until:
            yield False
        host.engine.signal(token, signal.SIGKILL)

    def until_ended(self) -> Work:
        """Wait until the unknown are gone, so that nothing is there twice for a moment."""
        until = time.monotonic() + UNCLAIMED_S
        while any(map(self._host.engine.has, self._unknown)) and time.monotonic() < until:
            yield False

    def greet(self, post: Post) -> None:
        """Welcome a worker that has found the new sockets; it answers with all that it is."""
        if post.adopting and not post.ended and not post.welcomed:
            post.welcomed = self._host.members.welcome(post.token)

    def hello(self, post: Post, wire: int, generation: int) -> None:
        """Take an adopted worker's Hello; what comes too late, or is of another version, goes."""
        host = self._host
        if post.state is State.STOPPING and post.unanswered:
            host.members.turn_away(post.token, "it is being replaced")
            return
        post.adopting = False
        post.child = replace(post.child, generation=max(post.child.generation, generation))
        told = {"pid": post.pid, "generation": post.child.generation, "state": post.state.value}
        host.journal.record("service.adopted", post.name, **told)
        host.advance(post, Event.BEAT)
        host.members.changed(post.name)
        if wire not in WIRES:
            host.journal.record("service.replaced", post.name, reason=f"it speaks wire {wire}")
            post.welcomed = False  # it would not understand: TERM tells it to drain
            wanted = post.child.wanted
            host.advance(post, Event.STOP)
            if wanted:
                host.advance(post, Event.START)

    # --- for the next one -------------------------------------------------------------------

    def touch(self) -> None:
        """Have what changed written down soon."""
        if not self._unsaved:
            self._unsaved = True
            self.due = time.monotonic() + SAVE_S

    def write_now(self) -> None:
        """Write down what changed before somebody is told of it."""
        if self._unsaved:
            self.write()

    def write(self) -> None:
        """Write down who lives."""
        self._unsaved, self.due = False, float("inf")
        host = self._host
        live = {post.token: post.pid for post in host.roster if post.token and post.pid}
        self._tokens = {
            token: self._tokens.get(token) or tree.started(pid) for token, pid in live.items()
        }
        services = [kept(post, self._tokens.get(post.token, 0)) for post in host.roster]
        living = Living(
            machine=this_machine(),
            config=host.config.digest,
            plugins=host.registration.read,
            services=services,
        )
        try:
            save_living(host.config.host.state, living)
        except OSError as error:
            if str(error) != self._problem:  # once, not fifty times a second
                host.journal.record("state.unsaved", error=str(error))
            self._problem = str(error)
        else:
            self._problem = ""

    def replace_by(self, python: str) -> Work:
        """Have this process become a new supervisor, as soon as this one's loop has ended."""
        yield False  # the answer to the order leaves first
        self.successor = python
        self._host.done = True

    def hand_over(self, locks: list[int]) -> None:
        """Carry what is on its way, write down who lives, and keep the locks."""
        until = time.monotonic() + QUIET_S
        while time.monotonic() < until and self._host.bus.turn():
            pass
        self.write()
        for lock in locks:
            os.set_inheritable(lock, True)
        handover = Handover(locks, sorted(self._host.engine.others))
        self.environ = {**self._host.environ, HANDOVER: msgspec.json.encode(handover).decode()}

    def forget(self) -> None:
        """Leave nothing: everything has ended in order."""
        forget_living(self._host.config.host.state)
