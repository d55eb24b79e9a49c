"""Every key of `[engine]`, and those of a service about where it runs, once (pure).

Amounts of resources are numbers; that of `memory` is bytes.
"""

from enum import Enum
from typing import Annotated

import msgspec

from .keys import Key, KeyGroup, duration
from .own_machine import SUPERVISOR

ANY = "any"  # in place of a node's NAME
LEASE_S = 10.0
JOIN_S, RAY_JOIN_S = 5.0, 60.0  # Ray first starts an agent on each machine


class EngineKind(Enum):
    """What runs the workers, and what says where."""

    LOCAL = "local"
    NODES = "nodes"
    RAY = "ray"


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One node, as the config describes it: [engine.nodes.NAME]."""

    resources: Annotated[
        dict[str, float],
        Key(
            "What the machine has for services. CPU and memory are counted there if they are not "
            'named. The NAME "supervisor" is the supervisor\'s own machine.',
            kind="node_resources",
            unset="CPU and memory",
            example="{ GPU = 1 }",
        ),
    ] = {}


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where the workers run: on this machine alone, or on nodes too."""

    kind: Annotated[
        EngineKind,
        Key(
            'Where services run: "local" is this machine alone, "nodes" this machine and its '
            'nodes, "ray" likewise, where the nodes are the machines of a Ray cluster.'
        ),
    ] = EngineKind.LOCAL
    listen: Annotated[
        str,
        Key(
            "The address at which nodes connect to the supervisor, needed with nodes. It takes "
            "this port and the two above it; port 0 is any three free ones.",
            kind="listen",
            unset="none",
            example='"10.0.0.1:7700"',
        ),
    ] = ""
    lease: Annotated[
        float,
        duration(
            "How long a node continues without contact to the supervisor. Then it ends what it "
            "runs, and the supervisor starts that elsewhere. At least `[host] orphan_grace`.",
            above=0,
        ),
    ] = LEASE_S
    join_wait: Annotated[
        float,
        duration(
            "How long after its start the host waits for nodes to report in, before services that "
            "may run on any node start on those that there are. With Ray 60 by default, and no "
            "longer than until Ray has reported and the nodes of its cluster have contact."
        ),
    ] = JOIN_S
    address: Annotated[
        str,
        Key(
            'The address of the Ray cluster; "auto" is the one that this machine is part of.',
            kind="ray_address",
            example='"10.0.0.1:6379"',
        ),
    ] = "auto"
    node_key: Annotated[
        str,
        Key(
            "The key file of each node, on its own machine: by it, Ray starts the node there. `~` "
            "is the home folder of Ray's user.",
            kind="node_path",
        ),
    ] = "~/.garrison-node/node.key"
    runtime_env: Annotated[
        dict[str, tuple[str, ...]],
        Key(
            "What Ray brings to each machine for the node and its services, as in Ray's own table: "
            "`pip` has requirements, `py_modules` wheels, zip files and folders of modules, by "
            "their paths here or addresses. Others of the cluster can read it.",
            kind="runtime_env",
            unset="none",
            example='{ pip = ["numpy==2.1.0"], py_modules = ["wheels/bots.whl"] }',
        ),
    ] = {}
    nodes: Annotated[
        dict[str, NodeSpec],
        Key("What the machines have for services, with kind nodes.", kind="node_tables"),
    ] = {}

    @property
    def has_nodes(self) -> bool:
        """Return whether services may run on other machines."""
        return self.kind is not EngineKind.LOCAL


class Placement(KeyGroup, frozen=True, kw_only=True):
    """Where a service runs, if the host has nodes."""

    node: Annotated[
        str,
        Key(
            "The node that the service runs on, and waits for while it is away. "
            '"supervisor" is the supervisor\'s own machine, "any" the least loaded node.',
            kind="node",
            unset="supervisor; with `resources` any",
            example='"any"',
        ),
    ] = ""
    resources: Annotated[
        dict[str, float],
        Key(
            "What a node must have free for the service: CPU, GPU, memory, or names of your own.",
            kind="resources",
            own=True,
            unset="none",
            example='{ GPU = 1, memory = "2 GiB" }',
        ),
    ] = {}
    movable: Annotated[
        bool,
        Key(
            "Let the service move to another node although it keeps files in its data folder, "
            "which stay behind.",
            own=True,
        ),
    ] = False

    @property
    def pinned(self) -> str:
        """Return the one node that the service may run on; empty: any."""
        if self.node:
            return "" if self.node == ANY else self.node
        return "" if self.resources else SUPERVISOR
