"""The beginning and the end of each incarnation: its order, and what the engine tells of it.

Times are monotonic seconds.
"""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

import msgspec

from garrison.ipc import messages, sockets
from garrison.ipc.errors import StartError
from garrison.ipc.messages import State, encode
from garrison.ipc.system import process_tree
from garrison.supervisor.config.characters import character_for
from garrison.supervisor.config.environment import worker_environment
from garrison.supervisor.config.spec import ServiceSpec, service_spec
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.limits import Used, check_limits, excess_words
from garrison.supervisor.lifecycle.policy import Event, StopReason
from garrison.supervisor.lifecycle.services import Incarnation, Service
from garrison.supervisor.processes.capabilities import format_unsupported, unsupported_limits
from garrison.supervisor.processes.post_mortem import flight_path
from garrison.supervisor.processes.users import check_access, required_folders, resolve_user

from .processes import engine

if TYPE_CHECKING:
    from .loop import Supervisor

SAID_MOST = 10_000  # sentences about limits that are said once
SLOT_S = 2.0  # a start keeps its slot no longer: one that hangs must not keep others waiting


class ServiceManager:
    """The processes of this host's services.

    Args:
        host: The supervisor.
    """

    def __init__(self, host: "Supervisor") -> None:
        self._host = host
        self.backlog: list[engine.Happened] = []  # what came with the answer to `adopt`
        self._said: set[tuple[str, str]] = set()  # NAME and what is not held of its limits

    def begin(self, post: Service) -> None:
        """Order a process for a service, as it is configured."""
        host, now = self._host, time.monotonic()
        token = sockets.new_token()
        if post.next_watchdog is not None:  # the adopted incarnation kept its own
            spec = service_spec(post.spec, watchdog=post.next_watchdog)
            post.child, post.next_watchdog = replace(post.child, spec=spec), None
        post.current = Incarnation(token, started_at=now, slot_until=now + SLOT_S)
        host.roster.by_token[token] = post
        host.bus.admit(token)
        host.deaths.on_start(post)
        self._tell_unheld(post)
        alive = [str(handle.pid) for handle in host.engine.left(post.left)]
        if alive and post.spec.supervision.exclusive:
            reason = f"a leftover of it still lives (pid {', '.join(alive)}): end that, or say"
            self._not_started(post, f"{reason} exclusive = false", permanent=False)
            return
        try:
            assignment = messages.encode_assignment(self._assignment(post))
        except StartError as error:
            self._not_started(post, error.reason, permanent=True)
        except OSError as error:
            reason = f"its user cannot be let in: {error}"
            self._not_started(post, reason, permanent=False)
        except Exception as error:  # noqa: BLE001 (one service's start must not end the host)
            host.erred(f"the start of {post.name}", error)
            reason = f"it cannot be told what to be: {type(error).__name__}: {error}"
            self._not_started(post, reason, permanent=True)
        else:
            host.engine.fork(token, post.name, assignment, post.spec.limits)

    def _tell_unheld(self, post: Service) -> None:
        """Say what its limits lack on this machine, once for each that is asked for."""
        for one in unsupported_limits(post.spec, self._host.machine):
            self._say_unheld(post, format_unsupported(post.name, one))

    def _say_unheld(self, post: Service, reason: str) -> None:
        if (post.name, reason) not in self._said and len(self._said) < SAID_MOST:
            self._said.add((post.name, reason))
            self._host.journal.record("limit.unheld", post.name, reason=reason)

    def _assignment(self, post: Service) -> messages.Assignment:
        spec, host = post.spec, self._host.config.host
        data = host.state / "services" / spec.name
        limits, of_user = _limits(spec), None
        if (account := resolve_user(spec, data)) is not None:
            limits = account.put_on(limits)
            post.current.uid = limits.uid
            self._host.doors.admit(post.current.token, post.current.uid)
            if post.current.uid >= 0:
                of_user = account.environment
                check_access(spec.name, account, required_folders(host.run, host.state))
        control, bus = self._host.doors.paths(post.current.uid)
        env, secret = worker_environment(spec, self._host.environ, of_user=of_user)
        character, withheld = character_for(spec, secret)
        self._host.deaths.on_secrets(spec.name, secret)
        times, calls = spec.supervision, spec.calls
        return messages.Assignment(
            name=spec.name,
            source=self._host.registration.source(post.plugin),
            service_type=spec.service_type,
            generation=post.child.generation,
            token=post.current.token,
            paths=messages.Paths(
                control,
                bus,
                lock=str(host.run / f"{spec.name}.service.lock") if times.exclusive else "",
                recorder=str(flight_path(host.run, post.name, post.current.token)),
                data=str(data),
            ),
            environment=messages.Environment(messages.packed(env), messages.packed(secret)),
            config=spec.config,
            plugin_config=post.plugin.config,
            timing=messages.Timing(
                times.watchdog,
                times.start_timeout,
                times.grace,
                host.orphan_grace,
                times.health_interval,
            ),
            calls=messages.CallLimits(
                calls.timeout, calls.window, calls.window_bytes, host.max_message
            ),
            identity=messages.AgentIdentity(
                spec.agent.name, msgspec.Raw(encode(character)), withheld
            ),
            record_values=calls.record_values,
            with_parts=spec.with_parts,
            priority=spec.priority,
            limits=limits,
            chaos=host.chaos,
        )

    def _not_started(self, post: Service, reason: str, permanent: bool) -> None:
        post.current.failing = messages.Failing("fork", reason, permanent=permanent)
        self._ended(post, None)
        post.last_exit = "was not forked"
        self._gone(post, ())

    # --- ends -------------------------------------------------------------------------------

    def read_engine(self) -> None:
        """Take what the engine has seen and heard."""
        host = self._host
        backlog, self.backlog = self.backlog, []
        for happened in [*backlog, *host.engine.turn()]:
            self._take(happened)

    def _take(self, happened: engine.Happened) -> None:
        host, by_token = self._host, self._host.roster.by_token
        match happened:
            case engine.Died(key):
                host.bus.mark_ended(key)
                post = by_token.get(key)
                if post is not None:
                    post.current.ended = True
                    host.members.changed(post.name)
            case engine.Forked(key, handle, problems):
                post = by_token.get(key)
                if post is not None:
                    post.current.pid, post.current.handle = handle.pid, handle
                    host.engine.watch(key, post.spec.limits)
                    for problem in problems:
                        self._say_unheld(post, problem)
                    host.succession.touch()
            case engine.NotForked(key, reason):
                post = by_token.get(key)
                if post is not None:
                    self._not_started(post, f"it could not be forked: {reason}", permanent=False)
            case engine.Ended(key, status, user_s, system_s, rss_bytes, oom, paused):
                post = by_token.get(key)
                if post is not None:
                    post.current.oom, post.current.paused = oom, paused
                    post.current.used = (user_s, system_s, rss_bytes) if rss_bytes else None
                    self._ended(post, status)
            case engine.Gone(key, left):
                post = by_token.get(key)
                if post is not None:
                    self._gone(post, left)
            case engine.Lost(launcher, workers):
                host.journal.record("launcher.lost", pid=launcher.pid, workers=workers)
            case engine.Usage(key, used):
                post = by_token.get(key)
                if post is not None:
                    self._check_limits(post, used)
            case engine.FlightRecord() | engine.LogTail():
                host.deaths.take(happened)
            case engine.Preloaded() | engine.Fresh() | engine.Found():
                pass
            case _:
                assert_never(happened)
        host.registration.take(happened)
        host.stir()

    def _check_limits(self, post: Service, used: Used) -> None:
        event = check_limits(post.spec.limits, used)
        draining = post.state is State.STOPPING
        if event is None or (draining and event is not Event.OVERRUN):
            return
        post.current.excess = excess_words(post.spec.limits, used, event is Event.OVERRUN)
        self._host.advance(post, event)
        if (
            draining and not post.current.overran
        ):  # its state does not change, so no other event says it
            self._host.journal.record("service.overrun", post.name, reason=post.current.excess)
        post.current.overran = event is Event.OVERRUN

    def _ended(self, post: Service, status: int | None) -> None:
        words = process_tree.describe(status)
        cause = post.cause(words)
        post.current.ended = True
        post.current.status = status
        post.last_exit = words
        post.last_exit_at = time.time()
        self._host.bus.mark_ended(post.current.token)
        self._host.bus.set_cause(post.current.token, cause)
        unasked = post.state is not State.STOPPING or post.child.why is not StopReason.ORDER
        if (
            unasked
            or post.current.stopped is None
            or post.current.stopped.reason not in {"", "ordered"}
        ):
            post.reason = cause
        if post.current.failing is not None:
            post.traceback = post.current.failing.traceback

    def _gone(self, post: Service, left: tuple[Handle, ...]) -> None:
        host = self._host
        if left:
            pids = " ".join(str(handle.pid) for handle in left)
            host.journal.record("service.leftover", post.name, pids=pids)
            post.left = left
        ended, event = post.current, post.current.outcome()
        death = host.deaths.on_exit(post, event, left)
        token, post.current = ended.token, Incarnation()
        host.roster.by_token.pop(token, None)
        host.doors.control.forget(token)
        if ended.events:
            host.members.listed(post.name)
        if token not in host.bus.connected:  # it never spoke: nobody waits for its notice
            host.bus.drop(token, "")
        host.advance(post, event, death.id if death is not None else "")
        host.deaths.on_restart_decided(death, post)


def _limits(spec: ServiceSpec) -> messages.Limits:
    """Return what a worker is to put itself under."""
    return messages.Limits(
        open_files=spec.limits.open_files,
        nice=spec.limits.nice,
        oom_score_adj=spec.limits.oom_score_adj,
        umask=spec.limits.umask,
        working_directory=str(spec.limits.working_directory or ""),
        no_new_privs=spec.limits.no_new_privs,
    )
