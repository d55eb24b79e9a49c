"""Hands each message of the control plane to the component that it is for."""

from collections.abc import Callable

from garrison.ipc import messages
from garrison.ipc.messages import Token
from garrison.ipc.sockets import Peer
from garrison.supervisor.bus.router import BusRouter
from garrison.supervisor.control.publisher import DirectoryPublisher
from garrison.supervisor.control.requests import EventFollowers, RequestQueue
from garrison.supervisor.control.server import CONTROL_S, ControlServer, Input
from garrison.supervisor.control.stack_requests import StackRequests
from garrison.supervisor.lifecycle.services import ServiceTable
from garrison.supervisor.state.adoption import Adoption

from .manager import ServiceManager
from .plugins import PluginRegistry
from .tasks import Steps

EARLY_MOST = 4096  # inputs of unknown workers that wait for the adoption
UNKNOWN = "no such incarnation is expected here"


class InputDispatcher:
    """Dispatches messages, and has programs join and leave.

    Args:
        control: Counts messages that no peer may send.
        publisher: Has the members.
        bus: Admits programs.
        services: All services.
        manager: Takes the messages of workers.
        plugins: Takes the messages of processes that read plugins.
        adoption: Has workers that belong to no service.
        requests: Takes orders.
        stacks: Takes the stacks of workers.
        add_task: Starts a background task.
        wake: The next turn of the loop must not wait.
        report_error: Called with an error of this program.
    """

    def __init__(
        self,
        control: ControlServer,
        publisher: DirectoryPublisher,
        followers: EventFollowers,
        bus: BusRouter,
        services: ServiceTable,
        manager: ServiceManager,
        plugins: PluginRegistry,
        adoption: Adoption,
        requests: RequestQueue,
        stacks: StackRequests,
        add_task: Callable[[Steps], None],
        wake: Callable[[], None],
        report_error: Callable[[str, Exception], None],
    ) -> None:
        self._control, self._publisher, self._bus = control, publisher, bus
        self._followers, self._requests, self._stacks = followers, requests, stacks
        self._services, self._manager, self._plugins = services, manager, plugins
        self._adoption, self._add_task = adoption, add_task
        self._wake, self._report_error = wake, report_error
        self._joining: set[Token] = set()  # programs that are to be welcomed
        self._early: list[Input] = []  # inputs of unknown workers, before the adoption is over

    def receive(self, seconds: float = CONTROL_S) -> bool:
        """Dispatch what has arrived, for a bounded time; return whether it was beats alone."""
        only_beats = True
        for received in self._control.receive(seconds):
            only_beats = only_beats and isinstance(received[1], messages.Beat)
            self._dispatch_safely(received)
        return only_beats

    def dispatch_early(self) -> None:
        """Dispatch what was kept until the engine had found the workers."""
        early, self._early = self._early, []
        for received in early:
            self._dispatch_safely(received)

    def _dispatch_safely(self, received: Input) -> None:
        token, message, peer = received
        try:
            if message is None:
                self._on_connected(token)
            else:
                self._dispatch(token, message, peer)
        except Exception as error:  # noqa: BLE001 (one message must not end the host)
            self._report_error(f"a {type(message).__name__}", error)

    def _dispatch(self, token: Token, message: messages.Upward, peer: Peer) -> None:
        match message:
            case messages.Order():
                self._requests.take(token, message, peer)
                self._wake()
            case messages.Join():
                self._on_join(token, message)
            case messages.Leave():
                self._publisher.leave(token)
                self.forget_program(token)
            case messages.Stacks():
                self._stacks.take(token, message)
                self._wake()
            case _:
                taken = self._plugins.on_message(token, message)
                if not taken and not self._manager.on_message(token, message):
                    self._on_unknown_worker(token, message)

    # --- workers ----------------------------------------------------------------------------

    def _on_connected(self, token: Token) -> None:
        if self._manager.on_probe(token) or self._plugins.has_probe(token):
            return
        self._keep_early(token, None)
        # a program of a former supervisor answers; any other peer is about to send
        self._publisher.send(token, messages.Identify())

    def _keep_early(self, token: Token, message: messages.Upward | None) -> bool:
        """Keep an input that may come from a worker that the engine has yet to find."""
        early = self._manager.hold_starts
        if early and len(self._early) < EARLY_MOST:
            self._early.append(Input(token, message))
        return early

    def _on_unknown_worker(self, token: Token, message: messages.Upward) -> None:
        if self._keep_early(token, message):
            return
        if token in self._adoption.unclaimed:  # it is being ended: let it end in order
            if isinstance(message, messages.Stopped | messages.Failing):
                self._publisher.send(token, messages.Acknowledged())
        elif isinstance(message, messages.Hello):
            self._publisher.reject(token, UNKNOWN)
        elif isinstance(message, messages.Beat):  # late, or of a former supervisor's worker
            self._publisher.send(token, messages.Rejected(UNKNOWN))

    # --- programs ---------------------------------------------------------------------------

    def _on_join(self, token: Token, message: messages.Join) -> None:
        if token in self._services.by_token or self._plugins.has_probe(token):
            self._control.reject("a worker that says it is a program")
        elif self._publisher.join(token, message):
            self._bus.admit(token)
            if not message.syncs:
                self._bus.connect_without_sync(token, probed=True)
            if token not in self._joining:
                self._joining.add(token)
                self._add_task(self._welcome(token))

    def _welcome(self, token: Token) -> Steps:
        """Welcome a program once the plugins have been read."""
        while not self._plugins.finished:
            yield False
        self._joining.discard(token)
        if self._publisher.has_program(token) and not self._publisher.welcome(token):
            self._publisher.resend_directory(token)

    def on_program_left(self, token: Token) -> None:
        """Release what a program had that has ended."""
        self.forget_program(token)
        self._bus.drop(token, "the program ended")

    def forget_program(self, token: Token) -> None:
        """Drop what only waits for a program."""
        self._requests.forget(token)
        self._followers.remove(token)
