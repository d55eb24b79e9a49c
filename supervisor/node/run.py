"""Runs a node: opens its home, connects, and serves until it is ordered to end."""

import os
import platform
import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import zmq

from garrison.ipc.system import malloc, process_tree
from garrison.ipc.system.descriptors import raise_descriptor_limit
from garrison.ipc.system.installed import installed_version
from garrison.supervisor.processes import node_protocol
from garrison.supervisor.processes.node_lease import NodeLease
from garrison.supervisor.processes.node_protocol import INSTANCE_BYTES, NodeHello

from .home import NodeHome
from .link import NodeLink
from .machine import read_packages
from .process import NodeProcess

Context: TypeAlias = "zmq.Context[zmq.Socket[bytes]]"
# Returns a DEALER with a routing id that connects to the engine socket.
Connect: TypeAlias = Callable[[Context, bytes], "zmq.Socket[bytes]"]


def run_node(
    name: str,
    home: Path,
    folder: Path,
    connect: Connect,
    host: str,
    environ: Mapping[str, str],
    grace: float,
    say: Callable[[str], None],
) -> None:
    """Serve as a node until it is ordered to end.

    Args:
        name: The node's.
        home: Its home, which is made.
        folder: Of plugins.
        connect: Connects to the supervisor.
        host: The supervisor's machine, as this one reaches it.
        environ: The environment; workers get its allow-list.
        grace: Seconds for services to move, after the first SIGTERM.
        say: Prints a line for people.

    Raises:
        GarrisonError: The home cannot be used, or another process has it.
    """
    raise_descriptor_limit()
    malloc.keep_freed_memory()
    process_tree.forbid_cores()  # assignments have secrets
    opened = NodeHome(home)
    process = secrets.token_bytes(INSTANCE_BYTES)
    hello = NodeHello(
        name,
        node_protocol.VERSION,
        opened.instance,
        process,
        socket.gethostname(),
        platform.python_version(),
        installed_version(),
        read_packages(),
        os.getpid(),
    )
    context: Context = zmq.Context()
    identity, lease = node_protocol.routing_id(name, process), NodeLease()
    link = NodeLink(lambda: connect(context, identity), hello, lease)
    node = NodeProcess(opened, link, lease, folder, host, environ, grace, say)
    try:
        node.run()
    finally:
        context.term()
