"""The services of this host: what each is, where its process is, what is told of it. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TypeAlias

from garrison.ipc.messages import (
    Changed,
    Entry,
    Failing,
    Health,
    Manifest,
    State,
    Stopped,
    Token,
)
from garrison.supervisor.config.spec import PluginSpec, ServiceSpec

from .dependencies import blocking_dependencies
from .handle import NO_PROCESS, Handle
from .limits import oom_words
from .policy import Child, Event, StopReason

Key: TypeAlias = bytes  # an incarnation's token


@dataclass(slots=True, eq=False)
class Service:
    """One service of this host, and its present incarnation."""

    child: Child
    plugin: PluginSpec
    manifest: Manifest
    position: int
    events: tuple[str, ...] = ()  # what the incarnation subscribed to
    watchdog: float | None = None  # of the next incarnation, where the present one has another
    token: Token = b""  # the incarnation's; empty where there is none
    pid: int = 0
    uid: int = -1  # of the user that the incarnation runs as, where that is not the host's own
    started_at: float = 0.0  # monotonic, when its process was ordered
    paused: bool = False  # when its stacks were asked for, its process was stopped
    handle: Handle = NO_PROCESS  # the engine's note of its process
    slot_until: float = 0.0  # it keeps a start slot until then, or until it is initialized
    welcomed: bool = False  # its Hello was answered
    said_ready: bool = False
    connected: bool = False  # its bus connection was seen
    ended: bool = False  # its process ended; its tree may not have yet
    adopting: bool = False  # a former supervisor's, and it has not said yet that it is there
    broken: Failing | None = None  # what it said of its own failure
    clean: Stopped | None = None
    in_flight: int = 0
    refused: int = 0
    beat_at: float = 0.0
    facts: dict[str, float] = field(default_factory=dict)  # what it says of itself
    health: Health | None = None  # what its own `health` said last
    health_at: float = 0.0  # and when
    unwell_told_at: float = float("-inf")  # when the journal was last told that it is not well
    reason: str = ""  # why it is not running, or did not the last time
    traceback: str = ""
    left: tuple[Handle, ...] = ()  # processes that could not be ended
    last_exit: str = ""  # how its last process ended, in words
    last_exit_at: float = 0.0  # wall clock
    status: int | None = None  # of the incarnation's end, as wait() has it
    used: tuple[float, float, int] | None = None  # by then: user s, system s, peak bytes
    excess: str = ""  # why the incarnation has too much, in words, once it is ended for that
    overran: bool = False  # it was killed for its last excess
    oom: bool = False  # the kernel killed in its cgroup, for that had all its memory
    death: str = ""  # the id of its record, while the policy is told of the incarnation's end

    @property
    def name(self) -> str:
        """Return its NAME."""
        return self.child.spec.name

    @property
    def spec(self) -> ServiceSpec:
        """Return how it is run."""
        return self.child.spec

    @property
    def state(self) -> State:
        """Return where it is in life."""
        return self.child.state

    @property
    def open_token(self) -> Token:
        """Return where calls go: nowhere, unless it runs."""
        there = self.connected and not self.adopting and not self.ended
        return self.token if self.state is State.RUNNING and there else b""

    def entry(self) -> Entry:
        """Return it as the directory has it."""
        child = self.child
        return Entry(
            self.name,
            child.spec.plugin,
            self.position,
            self.manifest,
            child.state,
            child.wanted,
            child.generation,
            self.open_token,
            self.events,
            child.spec.agent.name,
        )

    def changed(self) -> Changed:
        """Return its state as a change of the directory."""
        child = self.child
        return Changed(self.name, child.state, child.wanted, child.generation, self.open_token)

    def begin(self, token: Token, now: float, slot_until: float) -> None:
        """Take up a new incarnation."""
        self.token, self.started_at, self.slot_until = token, now, slot_until
        self.uid = -1
        self.handle = NO_PROCESS
        self.pid, self.in_flight, self.refused, self.beat_at = 0, 0, 0, 0.0
        self.paused = False
        self.welcomed = self.said_ready = self.connected = self.ended = self.adopting = False
        self.broken = self.clean = self.status = self.used = None
        self.death = self.excess = ""
        self.oom = self.overran = False
        self.events = ()
        self.facts = {}
        self.health = None

    def what_ended(self) -> Event:
        """Return what the end of the process means to the policy."""
        if self.broken is not None:
            return Event.REFUSED if self.broken.permanent else Event.CRASH
        return Event.CLEAN_EXIT if self.clean is not None else Event.CRASH

    @property
    def unanswered(self) -> bool:
        """Tell whether it is being ended for not having answered a new supervisor."""
        return self.adopting and self.child.why in {StopReason.WATCHDOG, StopReason.START_TIMEOUT}

    def cause(self, exit_words: str) -> str:
        """Return why the process ended, in words."""
        paused = "was stopped, and " if self.paused else ""
        if self.child.state is State.STOPPING and self.unanswered:
            return f"it {paused}did not answer the new supervisor in time, so it was ended"
        if self.child.state is State.STOPPING and self.excess:
            return self.excess
        if self.adopting and self.broken is None and self.clean is None:
            words = f"{exit_words}," if self.status is None else exit_words
            return f"its process {words} while there was no supervisor"
        if self.child.state is State.STOPPING and self.child.why is StopReason.WATCHDOG:
            silent = "its process was stopped, and" if self.paused else "its loop was"
            return f"{silent} silent for {self.spec.supervision.watchdog:g} s, so it was ended"
        if self.child.state is State.STOPPING and self.child.why is StopReason.START_TIMEOUT:
            limit = self.spec.supervision.start_timeout
            return f"it {paused}did not start within {limit:g} s, so it was ended"
        if self.child.state is State.STOPPING and self.child.why is StopReason.HEALTH:
            said = f" ({self.health.problem})" if self.health is not None else ""
            return f"its health was not good twice in a row{said}, so it was ended"
        if self.broken is not None:
            return self.broken.reason
        if self.clean is not None and self.clean.reason:
            return self.clean.reason
        if self.oom:
            return f"its process {exit_words}: {oom_words(self.spec.limits)}"
        return f"its process {exit_words}"


@dataclass(slots=True, eq=False)
class UnreadablePlugin:
    """A plugin whose code could not be read, or is being read."""

    name: str
    position: int
    reading: bool = True
    reason: str = "its plugin is being read"
    traceback: str = ""
    tries: int = 0
    again_at: float = float("inf")


@dataclass(slots=True)
class ServiceTable:
    """Every service, and every plugin that has shown none yet."""

    posts: dict[str, Service] = field(default_factory=dict)
    unread: dict[str, UnreadablePlugin] = field(default_factory=dict)
    by_token: dict[Token, Service] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Service]:
        return iter(self.posts.values())

    def children(self) -> Mapping[str, Child]:
        """Return every service as the policy sees it."""
        return {name: post.child for name, post in self.posts.items()}

    def names(self) -> list[str]:
        """Return every NAME that an order may speak of."""
        return list(dict.fromkeys([*self.posts, *self.unread]))

    def match(self, patterns: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return the NAMEs that names and globs stand for, and those that stand for nothing."""
        found: dict[str, None] = {}
        missing: list[str] = []
        known = self.names()
        for pattern in patterns:
            if pattern in known:
                found[pattern] = None
                continue
            matching = [name for name in known if fnmatchcase(name, pattern)]
            if not matching:
                missing.append(pattern)
            found.update(dict.fromkeys(matching))
        return list(found), missing

    def unknown(self, name: str) -> str:
        """Return the sentence for a NAME that is none."""
        known = self.names()
        if any(one.startswith(f"{name}.") for one in known):
            return f"no service {name}; that agent's are '{name}.*'"
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
        return f"no service {name}; {hint}"

    def reorder(self, specs: Iterable[ServiceSpec]) -> None:
        """Take the order of the config as that of the services."""
        for position, spec in enumerate(specs):
            if spec.name in self.posts:
                self.posts[spec.name].position = position
        self.posts = dict(sorted(self.posts.items(), key=lambda pair: pair[1].position))

    def waiting_reason(self, post: Service) -> str:
        """Return what a queued service waits for, in words; empty where for a slot alone."""
        blockers = blocking_dependencies(post.child, self.children())
        return ", ".join(f"waits for {name}, which is {self._is(name)}" for name in blockers)

    def stuck(self, post: Service) -> bool:
        """Tell whether a queued service waits for one that will not come by itself."""
        children = self.children()
        looked_at, to_look_at = {post.name}, [post]
        while to_look_at:
            waiting = to_look_at.pop()
            if waiting.state is not State.QUEUED:
                continue
            for name in blocking_dependencies(waiting.child, children):
                other = self.posts.get(name)
                if other is None or other.state is State.FAILED or not other.child.wanted:
                    return True
                if name not in looked_at:
                    looked_at.add(name)
                    to_look_at.append(other)
        return False

    def _is(self, name: str) -> str:
        post = self.posts.get(name)
        if post is None:
            return "not there: its plugin cannot be read"
        return post.state.value
