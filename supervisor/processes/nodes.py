"""The engine for several machines: this one's workers by the local engine, others by nodes.

A node's process runs the same local engine. It connects to the engine socket, and what one side
commands and the other reports is repeated until it has arrived. Nothing here waits for a node: what
is asked of it is answered from its last report. Times are monotonic seconds.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf

import zmq
from msgspec.structs import replace

from garrison.ipc import flight_record
from garrison.supervisor.config.spec import ProcessLimits
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.silence import Contact
from garrison.supervisor.lifecycle.start_slots import StartWork

from . import engine, node_protocol
from .engine import NO_LIMITS, Engine, Happened, Inherited, Key, Measured
from .node_lease import SILENCE_LEASES
from .node_record import read_record
from .node_set import Disconnect, NodeOf, NodeSet, NodeSettings
from .node_table import NodeView, NodeWorker

LEAVE_S = 8.0  # for all nodes to end what they run, when the host stops
GONE_MOST = 1000  # workers that have ended, of which it is known where


class NodesEngine:
    """Workers on this machine and on nodes.

    Args:
        local: Runs those of this machine.
        settings: What holds on all nodes.
    """

    def __init__(self, local: Engine, settings: NodeSettings) -> None:
        self._local, self._settings = local, settings
        self._nodes = NodeSet(settings)
        self._places: dict[Key, str] = {}  # of workers that are about to be forked
        self._happened: list[Happened] = []
        self._found: dict[Key, str] = {}  # on nodes, for Found: key → name
        self._stranded: dict[Key, str] = {}  # of them, those that no snapshot has
        self._held: list[tuple[str, Callable[[], None]]] = []  # forks that wait for their end
        self._gone: dict[Key, str] = {}  # key → node, of workers that may be reported on

    def attach(
        self,
        socket: "zmq.Socket[bytes]",
        node_of: NodeOf | None = None,
        disconnect: Disconnect = lambda _: None,
    ) -> None:
        """Use a bound ROUTER for the connections of nodes; see `NodeSet.attach`."""
        self._nodes.attach(socket, node_of, disconnect)

    def nodes(self) -> list[NodeView]:
        """Return every node that has reported in, or that may run something."""
        return self._nodes.views()

    def place(self, key: Key, node: str) -> None:
        """Have a worker forked on a node; called before `fork`. Empty: on this machine."""
        if node:
            self._places[key] = node

    # --- what to poll, and what has happened ------------------------------------------------

    @property
    def due(self) -> float:
        """Return when `turn` is to be called even if no descriptor is ready."""
        return min(self._local.due, self._nodes.due)

    @property
    def busy(self) -> bool:
        """Return whether `turn` is to be called soon, though no descriptor is ready."""
        return bool(self._happened) or self._local.busy or self._nodes.busy

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        return [*self._local.descriptors(), *self._nodes.descriptors()]

    def turn(self) -> list[Happened]:
        """Return what has happened since the last call."""
        for event in self._local.turn():
            self._happened += self._found_all(event) if isinstance(event, engine.Found) else [event]
        for node, event in self._nodes.turn():
            if isinstance(event, engine.Gone):
                self._note_gone(event.key, node)
            self._happened.append(event)
        self._fork_held()
        happened, self._happened = self._happened, []
        return happened

    def _found_all(self, found: engine.Found) -> list[Happened]:
        """Return Found with the workers of nodes, and that these were found."""
        on_nodes, self._found = self._found, {}
        self._nodes.modules = self._nodes.modules or found.modules
        here = [key for key in on_nodes if self._worker(key) is not None]
        running = {**found.running, **{key: on_nodes[key] for key in here}}
        over = found.over and not here
        handles = [
            (key, worker.handle) for key in here if (worker := self._worker(key)) is not None
        ]
        forked = [engine.Forked(key, handle) for key, handle in handles]
        return [replace(found, running=running, over=over), *forked]

    def _worker(self, key: Key) -> NodeWorker | None:
        node = self._nodes.having(key)
        return node.workers[key] if node is not None else None

    # --- adoption ---------------------------------------------------------------------------

    def adopt(self, known: Sequence[Inherited]) -> None:
        """Take over what a former supervisor left running, here and on nodes.

        Workers of nodes count as running, until their node says that they are not, or is fenced.
        """
        record, problem = read_record(self._settings.state)
        if problem:
            self._happened.append(engine.NodeChanged("", "unknown", problem))
        for one in known:
            if one.handle.node:
                worker = NodeWorker(one.name, one.handle, forked=True)
                self._nodes.get(one.handle.node).workers[one.key] = worker
        for digits, recorded in record.workers.items():
            key = bytes.fromhex(digits)
            node = self._nodes.get(recorded.node)
            if key not in node.workers:  # the snapshot was not written any more, or is lost
                handle = Handle(node=recorded.node)
                node.workers[key] = NodeWorker(recorded.name, handle, forked=True)
                self._stranded[key] = recorded.name
        for name, instance in record.instances.items():
            self._nodes.get(name).instance = bytes.fromhex(instance)
        self._nodes.count_former(record.lease)
        for node in self._nodes:
            self._found |= {key: worker.name for key, worker in node.workers.items()}
        self._local.adopt([one for one in known if not one.handle.node])

    # --- workers ----------------------------------------------------------------------------

    def fork(
        self,
        key: Key,
        name: str,
        assignment: bytes,
        limits: ProcessLimits = NO_LIMITS,
        log: str = "",
        python: str = "",
        brief: bool = False,
    ) -> None:
        """Fork a worker where `place` decided; answered by Forked or NotForked."""
        if brief:  # what reads a plugin runs beside the supervisor
            self._local.fork(key, name, assignment, limits, log, python, brief)
            return
        place = self._places.pop(key, "")
        fork = node_protocol.Fork(
            *(key, name, assignment, limits, log or name, python), dict(self._settings.shared)
        )
        if name in self._stranded.values():  # one that may still run has priority
            self._held.append((name, partial(self._fork, place, fork)))
        else:
            self._fork(place, fork)

    def _fork(self, place: str, fork: node_protocol.Fork) -> None:
        key, limits = fork.key, fork.limits
        if not place:
            self._local.fork(key, fork.name, fork.assignment, limits, fork.log, fork.python)
            return
        node = self._nodes.get(place)
        if not node.joined or node.session is None:
            reason = f"node {place} has not reported in: start garrison node there"
            if node.contact.heard_at > -inf:
                seconds = time.monotonic() - node.contact.heard_at
                reason = f"node {place} has had no contact for {seconds:.0f} s"
            self._happened.append(engine.NotForked(key, reason))
            return
        node.workers[key] = NodeWorker(fork.name)
        try:
            self._nodes.write()  # before it can run
        except OSError as error:
            del node.workers[key]
            reason = f"{self._settings.state}/nodes.json cannot be written: {error.strerror}"
            self._happened.append(engine.NotForked(key, reason))
            return
        self._nodes.send(node, fork)

    def _fork_held(self) -> None:
        """Fork what has waited for the end of a worker that no snapshot has."""
        if not self._stranded:
            return
        self._stranded = {
            key: one for key, one in self._stranded.items() if self._nodes.having(key)
        }
        held, self._held = self._held, []
        for name, fork in held:
            if name in self._stranded.values():
                self._held.append((name, fork))
            else:
                fork()

    def watch(self, key: Key, limits: ProcessLimits) -> None:
        """Measure a worker against these limits from now on, if there are any."""
        if (node := self._nodes.having(key)) is None:
            self._local.watch(key, limits)
        else:
            self._nodes.send(node, node_protocol.Watch(key, limits))

    def signal(self, key: Key, number: int, group: bool = True) -> None:
        """Signal a worker's process group, or the worker alone."""
        if (node := self._nodes.having(key)) is None:
            self._local.signal(key, number, group)
        else:
            self._nodes.send(node, node_protocol.SignalWorker(key, number, group))

    def has(self, key: Key) -> bool:
        """Return whether anything of a worker is left."""
        return self._nodes.having(key) is not None or self._local.has(key)

    def contact(self, key: Key) -> Contact | None:
        """Return what is known of a worker on another machine; None: it is on this one."""
        node, now = self._nodes.having(key), time.monotonic()
        if node is None:
            return None
        worker, its = node.workers[key], node.contact
        return Contact(
            its.sure_at(now),
            its.is_held_up(now),
            worker.loop_s,
            worker.loop_at,
            SILENCE_LEASES * its.lease,
        )

    def left(self, handles: Sequence[Handle]) -> list[Handle]:
        """Return those of these processes that still run, as far as is known."""
        here = self._local.left([one for one in handles if not one.node])
        nodes = {one.node: self._nodes.find(one.node) for one in handles if one.node}
        there = [one for one in handles if (node := nodes.get(one.node)) and one in node.left]
        return [*here, *there]

    def measure(self, key: Key, tree: bool = False, command: bool = False) -> Measured:
        """Return what a worker uses, by the last report."""
        node = self._nodes.having(key)
        if node is None:
            return self._local.measure(key, tree, command)
        worker = node.workers[key]
        if command and not worker.command:
            worker.command = True
            self._nodes.send(node, node_protocol.MeasureCommand(key))
        return worker.measured

    def measure_start(self, key: Key) -> StartWork | None:
        """Return what a worker has used of the processor; None where that is not known."""
        return self._local.measure_start(key) if self._nodes.having(key) is None else None

    def dump(self, key: Key, is_last: bool = True) -> None:
        """Make a worker write its stacks to its log."""
        if (node := self._nodes.having(key)) is None:
            self._local.dump(key, is_last)
        else:
            self._nodes.send(node, node_protocol.Dump(key, is_last))

    # --- launchers --------------------------------------------------------------------------

    def preload(self, modules: tuple[str, ...]) -> None:
        """Import modules once, here and on each node; answered by Preloaded, of this machine."""
        self._nodes.modules = modules
        self._local.preload(modules)
        self._nodes.broadcast(node_protocol.Preload(modules, renew=False))

    def check_fresh(self) -> None:
        """Check whether a preloaded file has changed on this machine; answered by Fresh."""
        self._local.check_fresh()

    def refresh(self, modules: tuple[str, ...]) -> None:
        """Fork from new launchers from now on; answered by Preloaded, of this machine."""
        self._nodes.modules = modules
        self._local.refresh(modules)
        self._nodes.broadcast(node_protocol.Preload(modules, renew=True))

    def abandon(self) -> None:
        """End a launcher of this machine that hangs in an import; reported as Lost."""
        self._local.abandon()

    def reap(self) -> None:
        """Reap ended children of this process that are not the engine's."""
        self._local.reap()

    # --- after the end of a worker ----------------------------------------------------------

    def _note_gone(self, key: Key, node: str) -> None:
        self._gone[key] = node
        while len(self._gone) > GONE_MOST:
            del self._gone[next(iter(self._gone))]

    def report(self, key: Key) -> None:
        """Read what a gone worker left for its crash report, then remove it."""
        name = self._gone.pop(key, "")
        if not name:
            self._local.report(key)
        elif (node := self._nodes.find(name)) is not None and node.session is not None:
            self._nodes.send(node, node_protocol.Report(key))
        else:
            nothing = flight_record.RecordedCalls(problem=f"node {name} has no contact")
            self._happened.append(engine.FlightRecord(key, nothing))
            self._happened.append(engine.LogTail(key, "", ""))

    def discard(self, key: Key) -> None:
        """Remove what a gone worker left for its crash report."""
        name = self._gone.pop(key, "")
        if not name:
            self._local.discard(key)
        elif (node := self._nodes.find(name)) is not None:
            self._nodes.send(node, node_protocol.Discard(key))

    # --- the end ----------------------------------------------------------------------------

    def status(self) -> Mapping[str, int | None]:
        """Return what `garrison status` shows of the engine itself."""
        return self._local.status()

    def close(self) -> None:
        """Release descriptors and threads; workers and launchers continue, for a successor."""
        self._local.close()

    def leave(self, kill: bool) -> None:
        """End all workers and launchers, here and on the nodes that have contact.

        The others end what they run when their lease is over.
        """
        self._nodes.left.clear()
        waiting = {node.name for node in self._nodes if node.joined}
        self._nodes.broadcast(node_protocol.Leave(kill))
        self._local.leave(kill)
        until = time.monotonic() + LEAVE_S
        while waiting - self._nodes.left and time.monotonic() < until:
            self._nodes.wait(0.05)
            self._nodes.turn()
        self._nodes.save()
