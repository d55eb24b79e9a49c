"""What each order of the command line does to the state.

A command is a generator: it yields while it waits, is resumed whenever something may have changed,
and returns the answer's data. Refusals carry the words that the command line exits by.
"""

import os
import signal
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec

from garrison.ipc.errors import ConfigError, StartError
from garrison.ipc.messages import Order, State, Token
from garrison.supervisor.config.environment import worker_environment
from garrison.supervisor.config.load import Config, load
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.lifecycle.dependencies import in_start_order
from garrison.supervisor.lifecycle.policy import Event, has_process
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.plugins import PluginProbe
from garrison.supervisor.processes.users import resolve_user
from garrison.supervisor.tasks import Steps

from .status import service_row, supervisor_row, unread_row

if TYPE_CHECKING:
    from garrison.supervisor.loop import Supervisor

T = TypeVar("T")
Command: TypeAlias = Callable[["Supervisor", Token, Order], Steps]

EVENTS_MOST = 4096
NAMES_MOST = 1000  # in one order, and characters in one of them: each is looked for in the loop


class Refusal(Exception):
    """An order that was not, or not wholly, carried out."""

    def __init__(self, code: str, text: str, data: Any = None) -> None:
        self.code, self.data = code, data
        super().__init__(text)


# --- asking -------------------------------------------------------------------------------


def status(host: "Supervisor", peer: Token, order: Order) -> Steps:
    """Return the supervisor's row and those of the services that were named, or of all."""
    names, detail = host.roster.names(), bool(order.names)
    if order.names:
        names = _matching(host, order)
        yield from _recorded(host)
    rows = []
    for name in names:
        if name in host.roster.posts:
            rows.append(service_row(host, host.roster.posts[name], detail))
        elif name in host.roster.unread:
            rows.append(unread_row(host.roster.unread[name], detail))
    return {"supervisor": supervisor_row(host), "services": rows}


def events(host: "Supervisor", peer: Token, order: Order) -> Steps:
    """Return the last events; with `follow`, send every one from now on."""
    names = frozenset(_matching(host, order)) if order.names else frozenset[str]()
    number = min(_option(order, "number", int, 50), EVENTS_MOST)
    last = host.journal.last(number, names)
    if order.options.get("follow"):
        host.orders.follow(peer, order, names)
    return last
    yield False


def deaths(host: "Supervisor", peer: Token, order: Order) -> Steps:
    """Return once every death that was seen is written down; the records are for who asks."""
    names = _matching(host, order) if order.names else host.roster.names()
    yield from _recorded(host)
    return {"services": names}


def wait(host: "Supervisor", peer: Token, order: Order) -> Steps:
    """Return when every service that was named is in a state."""
    yield from _until_registered(host)
    names = _matching(host, order)
    wanted = _option(order, "state", State, None)
    while True:
        posts = [host.roster.posts.get(name) for name in names]
        if all(post is not None and post.state is wanted for post in posts):
            return {"services": dict.fromkeys(names, wanted.value)}
        yield True


# --- starting and stopping ----------------------------------------------------------------


def start(host: "Supervisor", peer: Token, order: Order) -> Steps:
    """Start what was named, and return when it runs."""
    yield from _until_registered(host)
    names = _matching(host, order)
    unreadable = yield from _read_again(host, names)
    posts = _posts(host, names)
    for post in posts:
        if not has_process(post.state) or post.state is State.STOPPING:
            _take_spec_from_disk(host, post)
        host.wants(post.name, True)
        was_resting = not has_process(post.state)
        host.advance(post, Event.START)
        if was_resting:
            host.restart_bound(post.name)
    return (yield from _until_running(host, posts, unreadable))


def stop(host: "Supervisor", peer: Token, order: Order) -> Steps:
    """Stop what was named, dependents first, and return when it has stopped."""
    yield from _until_registered(host)
    names = _matching(host, order)
    unread = [name for name in names if name in host.roster.unread]
    if unread:
        text = f"{unread[0]} is a plugin that cannot be read; it runs nothing that could be stopped"
        raise Refusal("failed", text)
    posts = _posts(host, names)
    specs = {post.name: post.spec for post in host.roster}
    for post in posts:
        host.wants(post.name, False)
    pending = list(reversed(in_start_order(names, specs)))
    while pending:
        busy = {name for name in pending if has_process(host.roster.posts[name].state)}
        for name in pending:
            dependents = {
                other
                for other in busy
                if name in host.roster.posts[other].spec.supervision.depends_on
            }
            post = host.roster.posts[name]
            if not dependents and (post.child.wanted or not has_process(post.state)):
                host.advance(post, Event.STOP)
                post.reason = "stopped by order"
        pending = [name for name in pending if has_process(host.roster.posts[name].state)]
        if pending:
            yield False
    return {"services": {post.name: post.state.value for post in posts}}


def restart(host: "Supervisor", peer: Token, order: Order) -> Steps:
    """Run what is on disk; where that is unusable, the running one stays."""
    yield from _until_registered(host)
    names = _matching(host, order)
    unreadable = yield from _read_again(host, names)
    posts = _posts(host, names)
    config = _load(host)
    readers = yield from _read_for(host, posts, config)
    newly = {name: reader.found for name, reader in readers.items() if reader.found is not None}
    specs = {spec.name: spec for spec in host.registration.specs(config, newly)}
    for post in posts:
        if post.name not in specs:
            text = f"{post.name} is no longer in {config.path}; the running one stays"
            raise Refusal("ConfigError", text)
        _check_readable(host, post, specs[post.name], config, readers[specs[post.name].plugin])
    yield from host.registration.refresh()
    host.registration.read.update(newly)
    for found in newly.values():
        yield from host.registration.preload(found.preload)
    host.take_config(config, list(specs.values()))
    host.registration.admit(list(specs.values()))
    generations = {}
    for post in posts:
        _take_spec(post, specs[post.name], config)
        host.wants(post.name, True)
        generations[post.name] = post.child.generation
        host.advance(post, Event.STOP)
        host.advance(post, Event.START)
        host.restart_bound(post.name)
    return (yield from _until_running(host, posts, unreadable, generations))


def reset(host: "Supervisor", peer: Token, order: Order) -> Steps:
    """Forget the restarts of what was named; what is failed and wanted is tried at once."""
    yield from _until_registered(host)
    names = _matching(host, order)
    unreadable = yield from _read_again(host, names)
    posts = _posts(host, names)
    for post in posts:
        host.advance(post, Event.RESET)
    if unreadable is not None:
        raise unreadable
    return {"services": {post.name: post.state.value for post in posts}}


def down(host: "Supervisor", peer: Token, order: Order) -> Steps:
    """Stop everything; answered by the supervisor's last act."""
    host.stop_everything()
    while True:
        yield False


def upgrade(host: "Supervisor", peer: Token, order: Order) -> Steps:
    """Make way for a new supervisor in this process, once this has been answered."""
    yield from _until_registered(host)
    python = order.options.get("python")
    if not isinstance(python, str) or not os.access(python, os.X_OK):
        raise Refusal("failed", f"{python} is no interpreter that could be run")
    problem = yield from host.succession.proven(python)
    if problem:
        raise Refusal("failed", f"the installed garrison cannot take over: {problem}")
    yield from _until_registered(host)  # a while has passed
    host.succession.write()
    if host.succession.problem:
        text = f"it cannot be written down who lives: {host.succession.problem}"
        raise Refusal("failed", f"{text}; mend that and try again")
    host.later(host.succession.replace_by(python))
    return {"boot": host.boot}


# --- chaos --------------------------------------------------------------------------------


def chaos(host: "Supervisor", peer: Token, order: Order) -> Steps:
    """Return what `garrison chaos` must know of what it may injure: of all that was named."""
    _check_chaos(host)
    yield from _until_registered(host)
    posts = _posts(host, _matching(host, order) if order.names else host.roster.names())
    return {
        "orphan_grace_s": host.config.host.orphan_grace,
        "logs": str(host.config.host.logs),
        "services": [_to_injure(host, post) for post in posts],
    }


def fault(host: "Supervisor", peer: Token, order: Order) -> Steps:
    """Injure one running service: signal its process, or note that its own code is told to.

    Its restarts are forgotten before: it is not to be given up for what was done to it.
    """
    _check_chaos(host)
    yield from _until_registered(host)
    kind = _option(order, "kind", str, "")
    posts = _posts(host, _matching(host, order))
    if len(posts) != 1:
        raise Refusal("usage", f"fault: one service at a time, not {len(posts)}")
    (post,) = posts
    if post.state is not State.RUNNING or post.current.ended:
        raise Refusal("failed", f"{post.name} is {post.state.value}, so no fault was injected")
    told = _to_injure(host, post)
    host.advance(post, Event.RESET)
    host.journal.record("service.fault", post.name, fault=kind, pid=post.current.pid)
    if kind in FAULT_SIGNALS:
        host.engine.signal(post.current.token, FAULT_SIGNALS[kind], group=False)
    return told


FAULT_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}  # the others a worker does itself


def _check_chaos(host: "Supervisor") -> None:
    if not host.config.host.chaos:
        text = (
            f"this host takes no faults; to allow them write `chaos = true` under [host] in "
            f"{host.config.path}, and start the host again"
        )
        raise Refusal("ConfigError", text)


def _to_injure(host: "Supervisor", post: Service) -> dict[str, Any]:
    spec = post.spec
    return {
        "name": post.name,
        "state": post.state.value,
        "generation": post.child.generation,
        "pid": post.current.pid or None,
        "ticks": post.current.handle.ticks,  # when it started: no pid is reused
        "restart": spec.supervision.restart.value,
        "watchdog": spec.supervision.watchdog,
        "memory_max": spec.limits.memory_max,
        "data": str(host.config.host.state / "services" / post.name),
    }


COMMANDS: dict[str, Command] = {
    command.__name__: command
    for command in (
        status,
        events,
        deaths,
        wait,
        start,
        stop,
        restart,
        reset,
        down,
        upgrade,
        chaos,
        fault,
    )
}


# --- what they share ----------------------------------------------------------------------


def _recorded(host: "Supervisor") -> Steps:
    yield from host.deaths.until_written()


def _option(order: Order, key: str, kind: type[T], default: T | None) -> T:
    """Return an option; an order comes from anyone who can connect."""
    try:
        return msgspec.convert(order.options.get(key, default), kind)
    except msgspec.ValidationError as error:
        raise Refusal("usage", f"{order.verb}: {key}: {error}") from error


def _until_registered(host: "Supervisor") -> Steps:
    while not host.registration.finished:
        yield False
    if host.stopping:
        raise Refusal("failed", "the supervisor is ending")


def _matching(host: "Supervisor", order: Order) -> list[str]:
    if len(order.names) > NAMES_MOST or any(len(name) > NAMES_MOST for name in order.names):
        raise Refusal("usage", f"{order.verb}: at most {NAMES_MOST} names of so many characters")
    names, missing = host.roster.match(order.names)
    if missing:
        raise Refusal("no_such_service", host.roster.unknown(missing[0]))
    return names


def _posts(host: "Supervisor", names: list[str]) -> list[Service]:
    return [host.roster.posts[name] for name in names if name in host.roster.posts]


def _read_again(host: "Supervisor", names: list[str]) -> Generator[bool, None, Refusal | None]:
    """Read those plugins again that could not be read, with what the config says of them now.

    Returns:
        What is to be said of the first that still cannot be; the others are none the worse.
    """
    refusal: Refusal | None = None
    for plugin in [name for name in names if name in host.roster.unread]:
        yield from host.registration.again(plugin, _load(host))
        unread = host.roster.unread.get(plugin)
        if unread is not None and refusal is None:
            text = f"plugin {plugin} cannot be read: {unread.reason}"
            refusal = Refusal("StartError", text, {"traceback": unread.traceback})
    return refusal


def _read_for(
    host: "Supervisor", posts: list[Service], config: Config
) -> Generator[bool, None, dict[str, PluginProbe]]:
    """Read the plugins that services have, or will have by a new config."""
    wanted = {post.spec.plugin for post in posts}
    wanted |= {config.plugin_of(post.name) or post.spec.plugin for post in posts}
    readers = {
        plugin: host.registration.begin(plugin, config)
        for plugin in wanted
        if plugin in config.plugins
    }
    yield from host.registration.until_done(*readers.values())
    return readers


def _load(host: "Supervisor") -> Config:
    """Return the config on disk, its `[host]` aside: that is how this host was started."""
    running = host.config.host
    config = load(host.config.path, running.home, host.environ)
    if config.host != running:
        host.journal.record("config.host_unchanged", until="the host is started again")
    return replace(config, host=running)


def _take_spec_from_disk(host: "Supervisor", post: Service) -> None:
    """Let a service that has no process start with what the config says now, if that is usable."""
    try:
        config = _load(host)
        specs = {spec.name: spec for spec in host.registration.specs(config)}
    except ConfigError as error:  # it starts as it was known
        host.journal.record("config.unusable", post.name, problem=str(error))
        return
    if post.name in specs:
        host.take_config(config, list(specs.values()))
        _take_spec(post, specs[post.name], config)


def _take_spec(post: Service, spec: ServiceSpec, config: Config) -> None:
    post.child, post.next_watchdog = replace(post.child, spec=spec), None
    post.plugin = config.plugins[spec.plugin]


def _check_readable(
    host: "Supervisor", post: Service, spec: ServiceSpec, config: Config, reader: PluginProbe
) -> None:
    """Refuse a restart that could only take away what runs."""
    stays = "; the running one stays" if post.state is State.RUNNING else ""
    if reader.found is not None:
        for problem in reader.found.problems:
            if problem.keys[:2] in {("services", spec.name), ("plugins", spec.plugin)}:
                error = config.error_at(problem.keys, problem.problem)
                raise Refusal("ConfigError", f"{error}{stays}")
        if spec.service_type not in {m.service_type for m in reader.found.services}:
            text = f"plugin {spec.plugin} no longer has a service of type {spec.service_type}"
            raise Refusal("ConfigError", f"{text}{stays}")
    elif post.state is State.RUNNING:
        text = f"{post.name}: its plugin cannot be read: {reader.problem.reason}"
        raise Refusal("StartError", f"{text}{stays}", {"traceback": reader.problem.traceback})
    try:
        worker_environment(spec, host.environ)
        resolve_user(spec, host.config.host.state / "services" / spec.name)
    except StartError as error:
        raise Refusal("ConfigError", f"{error}{stays}") from error


def _until_running(
    host: "Supervisor",
    posts: list[Service],
    unreadable: Refusal | None,
    generations: dict[str, int] | None = None,
) -> Steps:
    """Wait until all of them run, or one says that it will not by itself."""
    before = generations or {}
    tries = {post.name: post.child.restarted for post in posts}
    while True:
        left = [
            post
            for post in posts
            if post.state is not State.RUNNING
            or post.child.generation == before.get(post.name)
            or post.current.ended
        ]
        if not left and unreadable is not None:
            raise unreadable
        if not left:
            return {"services": [service_row(host, post, False) for post in posts]}
        for post in left:
            _check_hope(host, post, tries[post.name])
        yield True


def _check_hope(host: "Supervisor", post: Service, tries: int) -> None:
    state = post.state
    if state is State.QUEUED and host.roster.stuck(post):
        text = f"{post.name} is queued: it {host.roster.waiting_reason(post)}"
        raise Refusal("StartError", text)
    failed = state in {State.FAILED, State.BACKOFF} or post.child.restarted > tries
    resting = state is State.STOPPED and not post.child.wanted
    if failed or resting:
        again = ""
        if state is State.BACKOFF:
            again = f"; it is tried again in {post.child.deadline - time.monotonic():.1f} s"
        text = f"{post.name} did not start: {post.reason or state.value}{again}"
        raise Refusal("StartError", text, {"traceback": post.traceback})
