"""The workers of a node: carries out commands by the local engine, and reports what happens.

Times are monotonic seconds.
"""

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import assert_never

from garrison.ipc import flight_recorder
from garrison.ipc.errors import GarrisonError, WireError
from garrison.ipc.messages import Assignment, decode_assignment, encode_assignment
from garrison.ipc.system import process_tree
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.processes import engine, node_protocol
from garrison.supervisor.processes.engine import Happened, Inherited, Key
from garrison.supervisor.processes.local import LocalEngine
from garrison.supervisor.processes.node_assignment import NodePlaces, moved, rewritten
from garrison.supervisor.processes.node_protocol import KnownWorker, WorkerSample
from garrison.supervisor.processes.post_mortem import flight_path

from .home import NodeHome
from .machine import read_machine

PAUSED_S = 3.0  # without a sample: this process did not run, and so may not the workers
# Workers on the supervisor's machine need no libzmq; each one here does, for TCP.
CONNECTION = ("garrison.ipc.link", "garrison.ipc.remote")
LASTING = {"NotForked", "Died", "Ended", "Gone"}  # reports that the next session needs as well


class NodeWorkers:
    """The workers.

    Args:
        home: The home of the node.
        places: Where things are on it.
        base: The variables that all workers have.
        report: Sends a message to the supervisor, and repeats it until it was received.

    Attributes:
        table: Every worker of which something is left.
        adopting: Whether launchers of the process before this one have yet to answer.
    """

    def __init__(
        self,
        home: NodeHome,
        places: NodePlaces,
        base: Mapping[str, str],
        report: Callable[[node_protocol.Upward], object],
    ) -> None:
        self._home, self._places, self._base, self._report = home, places, base, report
        self._engine: LocalEngine | None = None
        self._others = set(process_tree.children())
        self._left: set[Handle] = set()
        self._commands: set[Key] = set()
        self._modules: tuple[str, ...] | None = None  # that the supervisor had preloaded last
        self._sampled_at = self._awake_at = time.monotonic()  # the latter: without a pause since
        self.table: dict[Key, KnownWorker] = {}
        self.adopting = False
        if home.memory.lease:  # a process before this one may have left some
            self._adopt()

    def _adopt(self) -> None:
        known = self._home.memory.workers
        self.table = {one.key: one for one in known}
        self._make().adopt([Inherited(one.key, one.name, one.handle) for one in known])
        self.adopting = True

    def _make(self) -> LocalEngine:
        if self._engine is None:
            home, memory = self._home, self._home.memory
            self._engine = LocalEngine(
                home.run, home.logs, self._base, memory.orphan_grace, memory.cgroups, self._others
            )
        return self._engine

    # --- what to poll, and what has happened ------------------------------------------------

    @property
    def due(self) -> float:
        """Return when `turn` is to be called even if no descriptor is ready."""
        if self._engine is None:
            return inf
        return time.monotonic() + 0.001 if self._engine.busy else self._engine.due

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        return self._engine.descriptors() if self._engine is not None else []

    def turn(self) -> None:
        """Report what has happened."""
        for event in self._engine.turn() if self._engine is not None else []:
            self._note(event)
            if (message := node_protocol.report_of(event)) is not None:
                self._report(message)

    def _note(self, event: Happened) -> None:
        changed = True
        match event:
            case engine.Found(running):
                self.adopting = False
                for key, name in running.items():
                    self.table.setdefault(key, KnownWorker(key, name, Handle()))
            case engine.Forked(key, handle):
                if (known := self.table.get(key)) is not None:
                    self.table[key] = KnownWorker(key, known.name, handle)
            case engine.NotForked(key) | engine.Gone(key):
                self.table.pop(key, None)
                self._commands.discard(key)
                if isinstance(event, engine.Gone):
                    self._left |= set(event.left)
            case _:
                changed = False
        if changed:
            self._remember()

    def _remember(self) -> None:
        self._home.memory.workers = list(self.table.values())
        self._home.save()

    def reap(self) -> None:
        """Reap ended children of this process that are not the engine's."""
        if self._engine is not None:
            self._engine.reap()

    # --- sessions ---------------------------------------------------------------------------

    def begin_session(self, adopt: node_protocol.Adopt, former: Iterable[bytes]) -> None:
        """Report what there is, and what the supervisor has not received in the session before."""
        memory = self._home.memory
        memory.lease, memory.log_bytes = adopt.lease, adopt.log_bytes
        memory.orphan_grace, memory.cgroups = adopt.orphan_grace, adopt.cgroups
        self._remember()
        self._make()
        reports, ended = list[node_protocol.Upward](), set[Key]()
        for body in former:
            message = node_protocol.decode_upward(body)
            if isinstance(message, node_protocol.Leaving):
                reports.append(message)
            elif isinstance(message, node_protocol.Reported) and message.kind in LASTING:
                reports.append(message)
                event = node_protocol.event_of(message)
                if isinstance(event, engine.Gone | engine.NotForked):
                    ended.add(event.key)
        inventory = node_protocol.Inventory(tuple(self.table.values()), frozenset(ended))
        for message in (inventory, *reports):
            self._report(message)
        if adopt.modules != self._modules:
            self._modules = adopt.modules
            self._make().preload((*CONNECTION, *adopt.modules))

    # --- commands ---------------------------------------------------------------------------

    def carry_out(self, message: node_protocol.Command, may_run: bool) -> None:
        """Carry out a command.

        Args:
            message: The command.
            may_run: Whether the lease lets a worker be forked.
        """
        local = self._make()
        match message:
            case node_protocol.Fork():
                self._fork(local, message, may_run)
            case node_protocol.Watch(key, limits):
                local.watch(key, limits)
            case node_protocol.SignalWorker(key, number, group):
                local.signal(key, number, group)
            case node_protocol.Preload(modules, renew):
                self._modules = modules
                (local.refresh if renew else local.preload)((*CONNECTION, *modules))
            case node_protocol.Dump(key, is_last):
                local.dump(key, is_last)
            case node_protocol.Report(key):
                local.report(key)
            case node_protocol.Discard(key):
                local.discard(key)
            case node_protocol.MeasureCommand(key):
                self._commands.add(key)
            case _:
                assert_never(message)

    def _fork(self, local: LocalEngine, fork: node_protocol.Fork, may_run: bool) -> None:
        try:
            if not may_run:
                raise GarrisonError("the node's lease is over")
            assignment = decode_assignment(fork.assignment)
            if not isinstance(assignment, Assignment):
                raise WireError("no service to run")
            mine = rewritten(assignment, self._places, fork.shared, self._base)
        except GarrisonError as error:
            not_forked = node_protocol.report_of(engine.NotForked(fork.key, str(error)))
            assert not_forked is not None
            self._report(not_forked)
            return
        self.table[fork.key] = KnownWorker(fork.key, fork.name, Handle())
        own = encode_assignment(mine)
        python = moved(fork.python, assignment.source.folder, self._places.folder)
        local.fork(fork.key, fork.name, own, fork.limits, fork.log, python)

    def kill_all(self) -> int:
        """Kill every worker, with all that it has started; return how many there are."""
        if self._engine is not None:
            for key in self.table:
                self._engine.signal(key, signal.SIGKILL)
        return len(self.table)

    def drain_all(self) -> None:
        """Have every worker finish its calls and end."""
        if self._engine is not None:
            for key in self.table:
                self._engine.signal(key, signal.SIGTERM, group=False)

    def sample(self) -> node_protocol.Sample:
        """Return what workers and the machine use now."""
        samples, now = list[WorkerSample](), time.monotonic()
        if now > self._sampled_at + PAUSED_S:
            self._awake_at = now
        self._sampled_at = now
        if self._engine is not None:
            for key, worker in self.table.items():
                used = self._engine.measure(key, tree=True, command=key in self._commands)
                samples.append(WorkerSample(key, used, self._silence(worker, now)))
            self._left = set(self._engine.left([*self._left]))
        return node_protocol.Sample(
            tuple(samples), read_machine(self._home.state / "services"), tuple(self._left)
        )

    def _silence(self, worker: KnownWorker, now: float) -> float | None:
        """Return for how long a worker's loop has not turned while this process ran."""
        turned = flight_recorder.read_turn(flight_path(self._home.run, worker.name, worker.key))
        return None if turned is None else max(now - max(turned, self._awake_at), 0.0)

    # --- the end ----------------------------------------------------------------------------

    def leave(self, kill: bool) -> None:
        """End all workers and launchers; with `kill`, within some five seconds."""
        if self._engine is not None:
            self._engine.leave(kill)
            self._engine.close()
            self._engine = None
        self.table.clear()
        self._modules = ()
        self._remember()

    def close(self) -> None:
        """Release descriptors; workers continue, for the next process of the node."""
        if self._engine is not None:
            self._engine.close()
