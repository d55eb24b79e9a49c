"""What the supervisor knows of one node: its session, its lease, and what runs there. Pure.

Times are monotonic seconds.
"""

from dataclasses import dataclass, field
from math import inf

from msgspec.structs import replace

from garrison.supervisor.lifecycle.handle import NO_PROCESS, Handle

from . import engine
from .engine import Happened, Key, Measured
from .node_lease import NodeContact
from .node_protocol import Inventory, Machine, NodeHello, Sample
from .node_stream import Inbox, Outbox

NOTHING_MEASURED = Measured()
UNKNOWN_MACHINE = Machine()


@dataclass(slots=True, eq=False)
class NodeWorker:
    """One worker on a node."""

    name: str
    handle: Handle = NO_PROCESS
    forked: bool = False  # the node has reported it
    died: bool = False
    ended: bool = False
    measured: Measured = NOTHING_MEASURED
    command: bool = False  # it is measured by its command
    loop_s: float | None = None  # for which its loop had not turned; None: not known
    loop_at: float = -inf  # when that was reported


@dataclass(slots=True)
class Session:
    """One process of the node, as long as its state here and there goes on."""

    id: bytes
    identity: bytes  # the routing id of the node's process
    hello: NodeHello
    began: float
    outbox: Outbox = field(default_factory=Outbox)
    inbox: Inbox = field(default_factory=Inbox)
    acknowledged: int = 0  # the last number that the node knows to be received here
    listed: bool = False  # its inventory has arrived
    carried: list[bytes] = field(default_factory=list)  # of the session before, sent after that


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node, as it is shown."""

    name: str
    joined: bool  # it has contact, and takes workers
    since: float  # when that began
    leaving: bool
    lease_age: float | None  # seconds since the lease was renewed; None: not yet
    fenced: bool  # nothing runs there
    workers: dict[Key, str]  # key → name
    machine: Machine
    hello: NodeHello | None  # with its host and packages; None: it has not reported in


@dataclass(slots=True, eq=False)
class NodeState:
    """One node."""

    name: str
    contact: NodeContact
    instance: bytes = b""  # of the home that may run something; empty: none
    session: Session | None = None
    joined: bool = False
    since: float = 0.0
    leaving: bool = False
    removed: bool = False  # its key was removed
    refused_at: float = -inf  # when it was recorded last that a process was refused
    workers: dict[Key, NodeWorker] = field(default_factory=dict)
    machine: Machine = UNKNOWN_MACHINE
    left: frozenset[Handle] = frozenset()  # processes that could not be ended

    def view(self, now: float) -> NodeView:
        """Return what is shown of it."""
        age = now - self.contact.heard_at
        return NodeView(
            self.name,
            self.joined,
            self.since,
            self.leaving,
            age if age < float("inf") else None,
            self.contact.is_fenced(now) and not self.workers,
            {key: one.name for key, one in self.workers.items()},
            self.machine,
            self.session.hello if self.session is not None else None,
        )

    def refusal(self, hello: NodeHello, now: float) -> str:
        """Return why a process must not become the node now; empty: it may."""
        if self.instance in {b"", hello.instance} or self.contact.is_fenced(now):
            return ""
        return (
            f"another home has the key of node {self.name}, and what it runs may go on for "
            f"{self.contact.fenced_at - now:.0f} s: give each machine a key of its own"
        )

    def begin(self, session: Session) -> None:
        """Replace the session; what the node has not received is sent once it is listed."""
        former, self.session = self.session, session
        if former is not None:
            session.carried = [*former.carried, *former.outbox.bodies()]
        self.instance, self.joined = session.hello.instance, False

    # --- events ---------------------------------------------------------------------------

    def take_inventory(self, inventory: Inventory) -> tuple[list[Happened], list[Key]]:
        """Compare what the node has with what is known.

        Returns:
            What happened meanwhile, and the workers there that are not known here.
        """
        happened: list[Happened] = []
        there = {one.key: one for one in inventory.workers}
        for key, found in there.items():
            if (known := self.workers.get(key)) is not None:
                happened += self._forked(key, known, found.handle)
        for key, worker in list(self.workers.items()):
            if key not in there and key not in inventory.ended and worker.forked:
                happened += self.lost(key)
        return happened, [key for key in there if key not in self.workers]

    def _forked(self, key: Key, worker: NodeWorker, handle: Handle) -> list[Happened]:
        handle = replace_node(handle, self.name)
        if worker.forked and worker.handle == handle:
            return []
        worker.handle, worker.forked = handle, True
        return [engine.Forked(key, handle)]

    def take(self, event: Happened, now: float) -> list[Happened]:
        """Return what an event of the node means here."""
        if isinstance(event, engine.FlightRecord | engine.LogTail):
            return [event]
        if isinstance(event, engine.Lost):
            words = f"pid {event.launcher.pid}; workers that continue: {event.workers}"
            return [engine.NodeChanged(self.name, "launcher_lost", words)]
        if isinstance(event, engine.Preloaded):
            failed = [f"{module}: {error}" for module, error in event.failed.items()]
            return [engine.NodeChanged(self.name, "preload_failed", one) for one in failed]
        key = getattr(event, "key", None)
        worker = self.workers.get(key) if isinstance(key, bytes) else None
        if worker is None or not isinstance(key, bytes):
            return []
        match event:
            case engine.Forked(_, handle, unsupported):
                worker.handle, worker.forked = replace_node(handle, self.name), True
                return [engine.Forked(key, worker.handle, unsupported)]
            case engine.NotForked():
                del self.workers[key]
            case engine.Died():
                worker.died = True
            case engine.Ended():
                worker.ended = True
            case engine.Gone(_, left):
                del self.workers[key]
                handles = tuple(replace_node(one, self.name) for one in left)
                self.left |= set(handles)
                return [engine.Gone(key, handles)]
            case engine.Usage(_, used):
                used = replace(used, at=now)  # the node's clock is another one
                worker.measured = replace(worker.measured, tree=used)
                return [engine.Usage(key, used)]
            case _:
                return []
        return [event]

    def take_sample(self, sample: Sample, now: float) -> None:
        """Note what workers use now."""
        self.machine = sample.machine
        self.left = frozenset(replace_node(one, self.name) for one in sample.left)
        for one in sample.workers:
            if (worker := self.workers.get(one.key)) is not None:
                tree = one.measured.tree
                tree = replace(tree, at=now) if tree is not None else None
                worker.measured = replace(one.measured, tree=tree)
                worker.loop_s, worker.loop_at = one.loop_s, now

    def lost(self, key: Key, words: str = "") -> list[Happened]:
        """Return the events of a worker that has ended unseen; with words for how."""
        worker = self.workers.pop(key)
        happened: list[Happened] = []
        if not worker.died:
            happened.append(engine.Died(key))
        if not worker.ended:
            happened.append(engine.Ended(key, None, words=words))
        return [*happened, engine.Gone(key)]

    def fence(self, now: float, words: str) -> list[Happened]:
        """End everything that was on the node; with words for how it ended."""
        self.session, self.joined, self.since = None, False, now
        self.instance, self.left, self.machine = b"", frozenset(), UNKNOWN_MACHINE
        return [one for key in list(self.workers) for one in self.lost(key, words)]


def replace_node(handle: Handle, node: str) -> Handle:
    """Return a handle of a process on a node."""
    return Handle(handle.pid, handle.ticks, handle.log_began, node)
