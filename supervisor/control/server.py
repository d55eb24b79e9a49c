"""The control plane as the supervisor hears it: workers, programs and the command line.

It reads what comes, refuses what is malformed, and hands the rest to whom it concerns.
"""

import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec
import zmq

from garrison.ipc import messages, sockets
from garrison.ipc.errors import WireError
from garrison.ipc.messages import State, Token
from garrison.supervisor.bus.endpoints import RouterSet
from garrison.supervisor.lifecycle.policy import Event
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.tasks import Steps

if TYPE_CHECKING:
    from garrison.supervisor.loop import Supervisor

# What the host's own user alone may say
OWN_ALONE = (messages.Order, messages.Join, messages.Leave)
CONTROL_S = 0.002  # of the control plane in one turn
CONTROL_BYTES = 4 * 1024 * 1024  # of one message, from anyone
BATCH_MOST = 1000  # messages of one batch to the supervisor
FACTS_MOST = 16  # of one service
UNWELL_TELL_S = 60.0  # between two words on one service that is well and unwell by turns
REASON_MOST = 4000  # characters of what a worker says of its own end
TRACEBACK_MOST = 100_000


class ControlServer:
    """What is said to the supervisor.

    Args:
        host: The supervisor.
        control: The control plane.
    """

    def __init__(self, host: "Supervisor", control: RouterSet) -> None:
        self._host = host
        self._control = control
        self.refused = 0  # frames that were no message of ours, those of the bus among them
        self.unheard: deque[tuple[Token, messages.Upward]] = deque()  # of the last batch
        self._joining: set[Token] = set()  # programs that are to be welcomed

    def read(self) -> None:
        """Take what has come, for a bounded time; of a long batch the rest is for the next turn."""
        until = time.monotonic() + CONTROL_S
        silent = False
        while not silent and time.monotonic() < until:
            if self.unheard:
                self._hear(*self.unheard.popleft())
                continue
            silent = True
            for router in self._control.all:  # one message each: none keeps others waiting
                with contextlib.suppress(zmq.Again):
                    frames = sockets.receive(router)
                    silent = False
                    self._take(frames, router)

    def _take(self, frames: list[bytes], router: zmq.Socket[bytes]) -> None:
        token, others = frames[0], router is not self._control.own
        if others and not self._control.owns_address(token, router):
            if not self._control.is_former(token):
                self.refuse("another user under an address that is none of its services'")
            return
        if len(frames) == 2 and not frames[1]:  # a probe: somebody connected
            self._greet(token)
            return
        try:
            if len(frames) != 3:
                raise WireError(f"{len(frames)} frames")
            batch = messages.decode_upward(frames[2])
            if len(batch) > BATCH_MOST:
                raise WireError(f"{len(batch)} messages at once")
            if others and any(isinstance(message, OWN_ALONE) for message in batch):
                raise WireError("another user's service that orders, or says it is a program")
        except WireError as error:
            self.refuse(str(error))
            return
        self.unheard.extend((token, message) for message in batch)

    def _hear(self, token: Token, message: messages.Upward) -> None:
        try:
            self._hear_from(token, message)
        except Exception as error:  # noqa: BLE001 (one message must not end the host)
            self._host.erred(f"a {type(message).__name__}", error)

    def _greet(self, token: Token) -> None:
        if (post := self._host.roster.by_token.get(token)) is not None:
            self._host.succession.greet(post)
        elif not self._host.registration.reads(token):
            # a program of a former supervisor's answers; everybody else is about to speak
            self._host.members.send(token, messages.Identify())

    def refuse(self, reason: str) -> None:
        """Count a frame that is no message of ours; the first ones are written down."""
        self.refused += 1
        if messages.should_log(self.refused):
            self._host.journal.record("frame.refused", count=self.refused, error=reason[:200])

    def _hear_from(self, token: Token, message: messages.Upward) -> None:
        host = self._host
        match message:
            case messages.Order():
                host.orders.take(token, message)
                host.stir()
                return
            case messages.Join(wire, pid):
                if token in host.roster.by_token or host.registration.reads(token):
                    self.refuse("a worker that says it is a program")
                elif host.members.join(token, wire, pid):
                    host.bus.admit(token)
                    if token not in self._joining:
                        self._joining.add(token)
                        host.later(self._welcome(token))
                return
            case messages.Leave():
                host.members.leave(token)
                host.orders.forget(token)
                return
        if host.registration.hear(token, message):
            return
        post = host.roster.by_token.get(token)
        if post is None or post.current.ended:
            if token in host.succession.unclaimed:  # it was told to end: let it, in order
                if isinstance(message, messages.Stopped | messages.Failing):
                    host.members.send(token, messages.Acknowledged())
            elif isinstance(message, messages.Hello):
                host.members.turn_away(token, "no such incarnation is expected here")
            elif isinstance(message, messages.Beat):  # late, or of a former supervisor's
                host.members.send(token, messages.Rejected("no such incarnation is expected here"))
            return
        self._hear_worker(post, message)

    def _hear_worker(self, post: Service, message: messages.Upward) -> None:
        host = self._host
        match message:
            case messages.Hello(wire, _, generation):
                if post.current.adopting:
                    host.succession.hello(post, wire, generation)
                elif host.members.speaks(post.current.token, wire):
                    if post.current.welcomed:  # once more: a directory costs more than a Hello
                        host.members.tell_anew(post.current.token)
                        host.stir()
                        return
                    post.current.welcomed = True
                    host.members.welcome(post.current.token)
            case messages.Initialized():
                host.advance(post, Event.INITIALIZED)
            case messages.Ready(manifest):
                if manifest != post.manifest:
                    post.manifest = manifest
                    host.members.listed(post.name)
                    host.succession.touch()
                    host.stir()
                post.current.ready = True
                host.maybe_running(post)
            case messages.Beat(_, in_flight, refused, facts):
                post.current.in_flight, post.current.refused_frames = in_flight, refused
                post.current.facts = dict(list(facts.items())[:FACTS_MOST])
                post.current.beat_at = time.monotonic()
                host.advance(post, Event.BEAT)
            case messages.Health():
                self._hear_health(post, message)
            case messages.Failing():
                post.current.failing = msgspec.structs.replace(
                    message,
                    reason=message.reason[:REASON_MOST],
                    traceback=message.traceback[-TRACEBACK_MOST:],
                )
                host.members.send(post.current.token, messages.Acknowledged())
            case messages.Stopped():
                post.current.stopped = messages.Stopped(message.reason[:REASON_MOST])
                host.members.send(post.current.token, messages.Acknowledged())
            case messages.Subscribe(events) if events != post.current.events:
                post.current.events = events
                host.members.listed(post.name)
                host.stir()

    def _hear_health(self, post: Service, said: messages.Health) -> None:
        if (
            post.current.adopting or post.state is not State.RUNNING
        ):  # said to a former one, or too late
            return
        host, now, before = self._host, time.monotonic(), post.current.health
        problem = said.problem[:REASON_MOST]
        post.current.health, post.current.health_at = messages.Health(problem, said.took_s), now
        was_unwell = before is not None and bool(before.problem)
        if problem and not was_unwell and now >= post.unwell_logged_at + UNWELL_TELL_S:
            post.unwell_logged_at = now
            host.journal.record("service.unwell", post.name, problem=problem, took_s=said.took_s)
        host.advance(post, Event.UNWELL if problem else Event.WELL)

    def _welcome(self, token: Token) -> Steps:
        """Welcome a program once the first plugins are read."""
        while not self._host.registration.finished:
            yield False
        self._joining.discard(token)
        if self._host.members.has_program(token):
            self._host.members.welcome(token)
