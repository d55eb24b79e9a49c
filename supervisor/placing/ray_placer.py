"""The program that speaks to Ray: `python -m garrison.supervisor.placing.ray_placer`.

The supervisor starts it, with a socket as its standard input, and does not import Ray itself: Ray
ends a process that has lost its cluster for a minute. When this program ends, what it has placed
stays; the next one finds it. Durations are seconds.
"""

import importlib
import importlib.util
import os
import select
import socket
import sys
import time
from hashlib import sha256
from typing import Any

import msgspec

from garrison.supervisor.config.own_machine import SUPERVISOR

from .devices import GPU
from .ray_agent import NodeAgent
from .ray_groups import CREATED, Group, NewGroup, plan, with_devices
from .ray_messages import Known, MessageReader, RayNode, Wanted, encoded

TICK_S = 0.5  # between two looks at Ray while something waits
IDLE_S = 2.0  # otherwise
READ_BYTES = 1 << 20
AGENT = "agent-"
DEVICES_S = 30.0  # for Ray to say which GPUs it holds by a group
SEEN_S = 30.0  # after the start, for the agents of all machines to answer


class Cluster:
    """What this program does with Ray.

    Args:
        address: Of the cluster.
        namespace: Of this host, in Ray.
        key: The path of the key file on each machine.
        brings: What Ray brings to each machine, as JSON; empty: nothing.

    Attributes:
        unseen: How many machines have not answered yet.
    """

    def __init__(self, address: str, namespace: str, key: str, brings: str) -> None:
        self._ray: Any = importlib.import_module("ray")
        self._groups: Any = importlib.import_module("ray.util.placement_group")
        strategies: Any = importlib.import_module("ray.util.scheduling_strategies")
        self._on_node: Any = strategies.NodeAffinitySchedulingStrategy
        self._in_group: Any = strategies.PlacementGroupSchedulingStrategy
        self._namespace, self._key = namespace, key
        self._ray.init(
            address=address,
            namespace=namespace,
            log_to_driver=False,
            logging_level="error",
            runtime_env=msgspec.json.decode(brings) if brings else None,
        )
        self._prefix = agent_prefix(brings)
        self._end_other_agents()
        self._own = self._ray.get_runtime_context().get_node_id()
        self._agents: dict[str, Any] = {}  # by the machine's id
        self._pending: dict[str, Any] = {}  # answers that have not arrived
        self._looks: dict[str, RayNode] = {}
        self._devices: dict[str, tuple[Any, float]] = {}  # by the group's name: request, time
        self.unseen = 0  # machines of which nothing is known yet

    def nodes(self) -> tuple[RayNode, ...]:
        """Return the machines of the cluster, as they were last seen; this one is the
        supervisor's."""
        has = {one["NodeID"]: one["Resources"] for one in self._ray.nodes() if one["Alive"]}
        alive = has.keys() - {self._own}
        for gone in self._looks.keys() - alive:
            del self._looks[gone]
        for node_id in alive:
            self._look(node_id)
        self.unseen = len(alive - self._looks.keys())
        seen = [self._looks[node_id] for node_id in sorted(alive & self._looks.keys())]
        own = RayNode(self._own, SUPERVISOR)
        return tuple(
            msgspec.structs.replace(one, resources=_resources(has.get(one.id, {})))
            for one in (own, *seen)
        )

    def _look(self, node_id: str) -> None:
        """Take an agent's answer, and ask it again."""
        ray = self._ray
        if (pending := self._pending.get(node_id)) is not None:
            if not ray.wait([pending], timeout=0)[0]:
                return
            del self._pending[node_id]
            try:
                answer: dict[str, str] = ray.get(pending)
                self._looks[node_id] = RayNode(node_id, answer["name"], answer["problem"])
            except ray.exceptions.RayError as error:
                self._agents.pop(node_id, None)
                words = " ".join(str(error).split())[:200]
                self._looks[node_id] = RayNode(node_id, "", f"Ray's agent has failed: {words}")
        try:
            self._pending[node_id] = self._agent(node_id).look.remote()
        except (ray.exceptions.RayError, ValueError) as error:
            words = " ".join(str(error).split())[:200]
            self._looks[node_id] = RayNode(node_id, "", f"Ray's agent cannot start: {words}")

    def _agent(self, node_id: str) -> Any:
        if node_id not in self._agents:
            made = self._ray.remote(NodeAgent).options(
                name=f"{self._prefix}{node_id}",
                namespace=self._namespace,
                lifetime="detached",
                get_if_exists=True,
                num_cpus=0,
                max_restarts=-1,
                scheduling_strategy=self._on_node(node_id=node_id, soft=False),
            )
            self._agents[node_id] = made.remote(self._key)
        return self._agents[node_id]

    def _end_other_agents(self) -> None:
        """End the agents of another `runtime_env`; the nodes that they have started run on."""
        for name in self._ray.util.list_named_actors():
            if name.startswith(AGENT) and not name.startswith(self._prefix):
                self._ray.kill(self._ray.get_actor(name), no_restart=True)

    def groups(self) -> list[Group]:
        """Return this host's placement groups."""
        table: dict[str, dict[str, Any]] = self._groups.placement_group_table()
        found = list[Group]()
        for row in table.values():
            prefix, _, name = row["name"].partition("/")
            if prefix == self._namespace:
                bundle = dict(next(iter(row["bundles"].values()), {}))
                node_id = next(iter(row["bundles_to_node_id"].values()), "")
                scheduling = row["stats"].get("scheduling_state", "")
                found.append(Group(name, row["state"], bundle, node_id, scheduling))
        return found

    def make(self, new: NewGroup) -> None:
        """Make a placement group, which outlives this program."""
        self._groups.placement_group(
            [new.bundle],
            strategy="STRICT_PACK",
            name=f"{self._namespace}/{new.name}",
            lifetime="detached",
            bundle_label_selector=[{"ray.io/node-id": f"in({','.join(new.node_ids)})"}],
        )

    def devices(self, groups: list[Group]) -> dict[str, tuple[int, ...]]:
        """Return the numbers of the GPUs that Ray holds by groups, as far as they are known.

        Ray says them to what runs in a group alone, so a function does for a moment.
        """
        here = {one.name: one for one in groups if one.state == CREATED and one.bundle.get(GPU)}
        for gone in self._devices.keys() - here.keys():
            self._devices.pop(gone)
        for name, group in here.items():
            if name not in self._devices:
                self._devices[name] = self._ask_devices(group), time.monotonic()
        found = dict[str, tuple[int, ...]]()
        for name, (answer, asked_at) in self._devices.items():
            is_ready = bool(self._ray.wait([answer], timeout=0)[0])
            if not is_ready and time.monotonic() < asked_at + DEVICES_S:
                continue
            try:
                numbers = tuple(int(one) for one in self._ray.get(answer, timeout=0))
            except (self._ray.exceptions.RayError, ValueError):
                numbers = ()  # the supervisor chooses
            found[here[name].service] = numbers
        return found

    def _ask_devices(self, group: Group) -> Any:
        found = self._groups.get_placement_group(f"{self._namespace}/{group.name}")
        ask = self._ray.remote(self._ray.get_gpu_ids).options(
            num_cpus=0,
            num_gpus=group.bundle[GPU],
            max_retries=0,
            scheduling_strategy=self._in_group(found, placement_group_bundle_index=0),
        )
        return ask.remote()

    def remove(self, name: str) -> None:
        """Remove a placement group."""
        found = self._groups.get_placement_group(f"{self._namespace}/{name}")
        self._groups.remove_placement_group(found)


def agent_prefix(brings: str) -> str:
    """Return how the names of agents begin; those of another `runtime_env` begin otherwise."""
    return f"{AGENT}{sha256(brings.encode()).hexdigest()[:8]}-" if brings else f"{AGENT}plain-"


def _resources(listed: dict[str, float]) -> dict[str, float]:
    """Return what a machine has, without what Ray counts for itself."""
    return {
        key: float(amount)
        for key, amount in listed.items()
        if key != "object_store_memory" and not key.startswith("node:")
    }


def serve(connection: socket.socket, cluster: Cluster) -> None:
    """Do what the supervisor wants, until it closes the connection."""
    reader, wanted, sent = MessageReader(), Wanted(), Known()
    seen_until = time.monotonic() + SEEN_S
    newest: Wanted | None = None
    while True:
        nodes = cluster.nodes()
        busy = bool(cluster.unseen) and time.monotonic() < seen_until
        if not busy and newest is not None:
            known = _work(cluster, wanted, nodes)
            busy = bool(known.waits) or known != sent or len(known.placed) < len(wanted.services)
            if known != sent:
                sent = known
                connection.sendall(encoded(sent))
        is_open, found = _wait(connection, reader, TICK_S if busy else IDLE_S)
        if found is not None:
            newest = wanted = found
        if not is_open:
            if newest is not None:
                _work(cluster, wanted, nodes)
            return


def _work(cluster: Cluster, wanted: Wanted, nodes: tuple[RayNode, ...]) -> Known:
    """Bring Ray in line with what is wanted; return what is known."""
    groups = cluster.groups()
    due = plan(wanted, groups, nodes)
    for name in due.remove:
        cluster.remove(name)
    for new in due.make:
        cluster.make(new)
    kept = [one for one in groups if one.name not in due.remove]
    return with_devices(due.known, cluster.devices(kept), wanted)


def _wait(
    connection: socket.socket, reader: MessageReader, seconds: float
) -> tuple[bool, Wanted | None]:
    """Wait for a message; return whether the connection is open, and the newest message."""
    until, found = time.monotonic() + seconds, None
    while (left := until - time.monotonic()) > 0 and found is None:
        if not select.select([connection], [], [], left)[0]:
            break
        data = connection.recv(READ_BYTES)
        if not data:
            return False, None
        reader.feed(data)
        found = reader.last(Wanted)
    return True, found


def main() -> None:
    """Connect to the cluster, and serve."""
    if importlib.util.find_spec("ray") is None:
        sys.exit(f"Ray is not installed: run {sys.executable} -m pip install 'garrison[ray]'")
    address, namespace, key, brings = sys.argv[1:]
    connection = socket.socket(fileno=os.dup(0))
    serve(connection, Cluster(address, namespace, key, brings))


if __name__ == "__main__":
    main()
