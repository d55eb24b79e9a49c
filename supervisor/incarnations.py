"""The beginning and the end of each incarnation: its order, and what the engine tells of it.

Times are monotonic seconds.
"""

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from garrison.ipc import messages, sockets, tree
from garrison.ipc.errors import StartError
from garrison.ipc.messages import State, encode

from . import engine
from .characters import told_character
from .environment import worker_environment
from .policy import Why
from .roster import Post

if TYPE_CHECKING:
    from .loop import Supervisor

SLOT_S = 2.0  # a start keeps its slot no longer: one that hangs must not keep others waiting


class Incarnations:
    """The processes of this host's services.

    Args:
        host: The supervisor.
    """

    def __init__(self, host: "Supervisor") -> None:
        self._host = host

    def begin(self, post: Post) -> None:
        """Order a process for a service, as it is configured."""
        host, now = self._host, time.monotonic()
        token = sockets.new_token()
        if post.watchdog is not None:  # until here it was that of an adopted incarnation
            spec = msgspec.structs.replace(post.spec, watchdog=post.watchdog)
            post.child, post.watchdog = replace(post.child, spec=spec), None
        post.begin(token, now, now + SLOT_S)
        host.roster.by_token[token] = post
        host.bus.admit(token)
        host.deaths.begun(post)
        alive = [str(pid) for pid, start in post.left if tree.lives(pid, start)]
        if alive and post.spec.exclusive:
            reason = f"a leftover of it still lives (pid {', '.join(alive)}): end that, or say"
            self._not_started(post, f"{reason} exclusive = false", permanent=False)
            return
        try:
            assignment = encode(self._assignment(post))
        except StartError as error:
            self._not_started(post, error.reason, permanent=True)
        except Exception as error:  # noqa: BLE001 (one service's start must not end the host)
            host.erred(f"the start of {post.name}", error)
            reason = f"it cannot be told what to be: {type(error).__name__}: {error}"
            self._not_started(post, reason, permanent=True)
        else:
            log = str(host.config.host.logs / f"{post.name}.log")
            host.engine.fork(token, post.name, log, assignment)

    def _assignment(self, post: Post) -> messages.Assignment:
        spec, host = post.spec, self._host.config.host
        env, secret = worker_environment(spec, self._host.environ)
        character, withheld = told_character(spec, secret)
        self._host.deaths.given(spec.name, secret)
        return messages.Assignment(
            name=spec.name,
            source=self._host.registration.source(post.plugin),
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
            start_timeout=spec.start_timeout,
            grace=spec.grace,
            orphan_grace=host.orphan_grace,
            timeout=spec.timeout,
            window=spec.window,
            window_bytes=spec.window_bytes,
            max_message=host.max_message,
            recorder=str(self._host.deaths.flight(post)),
            record_values=spec.record_values,
            agent=spec.agent,
            character=msgspec.Raw(encode(character)),
            with_parts=spec.with_parts,
            priority=spec.priority,
            withheld=withheld,
            data=str(host.state / "services" / spec.name),
            chaos=host.chaos,
        )

    def _not_started(self, post: Post, reason: str, permanent: bool) -> None:
        post.broken = messages.Broken("fork", reason, permanent=permanent)
        self._ended(post, None)
        post.last_exit = "was not forked"
        self._gone(post, ())

    # --- ends -------------------------------------------------------------------------------

    def read_engine(self) -> None:
        """Take what the engine has seen and heard."""
        host = self._host
        for key in host.engine.ended_now():
            host.bus.died(key)
            post = host.roster.by_token.get(key)
            if post is not None:
                post.ended = True
                host.members.changed(post.name)
                host.stir()
        for happened in host.engine.read():
            self._take(happened)

    def _take(self, happened: engine.Happened) -> None:
        host, by_token = self._host, self._host.roster.by_token
        match happened:
            case engine.Forked(key, pid):
                post = by_token.get(key)
                if post is not None:
                    post.pid = pid
                    host.succession.touch()
            case engine.NotForked(key, reason):
                post = by_token.get(key)
                if post is not None:
                    self._not_started(post, f"it could not be forked: {reason}", permanent=False)
            case engine.Ended(key, status, user_s, system_s, rss_bytes):
                post = by_token.get(key)
                if post is not None:
                    post.used = (user_s, system_s, rss_bytes) if rss_bytes else None
                    self._ended(post, status)
            case engine.Gone(key, left):
                post = by_token.get(key)
                if post is not None:
                    self._gone(post, left)
            case engine.Lost(pid, workers):
                host.journal.record("launcher.lost", pid=pid, workers=workers)
        host.registration.take(happened)
        host.stir()

    def _ended(self, post: Post, status: int | None) -> None:
        words = tree.describe(status)
        cause = post.cause(words)
        post.ended = True
        post.status = status
        post.last_exit = words
        post.last_exit_at = time.time()
        self._host.bus.died(post.token)
        self._host.bus.cause(post.token, cause)
        unasked = post.state is not State.STOPPING or post.child.why is not Why.ORDER
        if unasked or post.clean is None or post.clean.reason not in {"", "ordered"}:
            post.reason = cause
        if post.broken is not None:
            post.traceback = post.broken.traceback

    def _gone(self, post: Post, left: tuple[int, ...]) -> None:
        host = self._host
        if left:
            pids = " ".join(map(str, left))
            host.journal.record("service.leftover", post.name, pids=pids)
            post.left = tuple((pid, tree.started(pid)) for pid in left)
        event = post.what_ended()
        death = host.deaths.gone(post, event, left)
        token, post.token, post.pid, post.in_flight = post.token, b"", 0, 0
        host.roster.by_token.pop(token, None)
        if post.events:
            post.events = ()
            host.members.listed(post.name)
        if token not in host.bus.connected:  # it never spoke: nobody waits for its notice
            host.bus.drop(token, "")
        host.advance(post, event)
        host.deaths.decided(death, post)
