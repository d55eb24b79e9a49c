"""One supervisor after another: it adopts what the one before left, and makes way for the next.

Adoption: launchers are taken over with their workers, every service is put back where it was, and
each worker says that it is there once it has found the new sockets.
"""

import time
from collections.abc import Generator
from typing import TYPE_CHECKING

from garrison.ipc import tree
from garrison.ipc.messages import WIRES, State, Token

from .adoption import (
    Fate,
    Kept,
    Living,
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

if TYPE_CHECKING:
    from .config import Config
    from .loop import Supervisor

SAVE_S = 0.02  # what changes is written down so much later, together
UNCLAIMED_S = 5.0  # from TERM to KILL, for a worker that no service of this host is

Work = Generator[bool, None, None]


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
        self.adopted = 0
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
        known: set[Token] = set()
        for position, (one, spec) in enumerate(services):
            known.add(self._take(one, spec, position, found, now))
        for token, name in found.living.items():
            if token not in known:
                host.later(self._end_unclaimed(token, name))
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

    def _end_unclaimed(self, token: Token, name: str) -> Work:
        """End a worker that is none of this host's: its service was taken out, or it is unknown."""
        host = self._host
        host.journal.record("worker.unclaimed", service=name, ended="by TERM")
        host.engine.signal(token, 15)
        until = time.monotonic() + UNCLAIMED_S
        while host.engine.has(token) and time.monotonic() < until:
            yield False
        host.engine.signal(token, 9)

    def greet(self, post: Post) -> None:
        """Welcome a worker that has found the new sockets; it answers with all that it is."""
        if post.adopting and not post.ended and not post.welcomed:
            post.welcomed = self._host.members.welcome(post.token)

    def hello(self, post: Post, wire: int) -> None:
        """Take an adopted worker's Hello; what comes too late, or is of another version, goes."""
        host = self._host
        if post.state is State.STOPPING and post.unanswered:
            host.members.turn_away(post.token, "it is being replaced")
            return
        post.adopting = False
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

    def forget(self) -> None:
        """Leave nothing: everything has ended in order."""
        forget_living(self._host.config.host.state)
