"""The verb that runs services of a host on another machine: `node`. Durations are seconds."""

import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from garrison.ipc.errors import GarrisonError

from .durations import Seconds
from .errors import DONE
from .node_keys import keys
from .output import Invocation, options
from .verbs import VerbGroup

if TYPE_CHECKING:
    import zmq

HOME = ".garrison-node"
GRACE_S = 30.0


@click.group(
    cls=VerbGroup,
    invoke_without_command=True,
    epilog="Example: garrison node --key box.key",
)
@click.option(
    "--key",
    "key_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The node's key, which garrison node keys has made.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="The folder of plugins that are files; by default the current one.",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Where the supervisor is; by default as the key says.",
)
@click.option(
    "--grace",
    type=Seconds(),
    default=GRACE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long services may take to move, after the first Ctrl-C.",
)
@options
def node(
    invocation: Invocation,
    key_path: Path | None,
    folder: Path | None,
    address: str | None,
    grace: float,
) -> int:
    """Run services of another machine's host.

    Connects to the supervisor, which starts services here. Without contact to it, everything here
    is ended when the lease is over. A second Ctrl-C ends everything at once.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return DONE
    if key_path is None:
        raise click.UsageError("name the node's key: garrison node --key FILE")
    from garrison.ipc import sockets
    from garrison.ipc.messages import CurveKeys
    from garrison.supervisor.node.run import run_node
    from garrison.supervisor.signals import blocked_at_start
    from garrison.supervisor.state.node_keys import read_key

    signal.pthread_sigmask(signal.SIG_BLOCK, blocked_at_start())  # until the loop handles them
    key = read_key(key_path)
    where = f"tcp://{address}" if address else key.address
    if not (key.secret and key.supervisor and where):
        raise GarrisonError(
            f"{key_path} is no key of a node, or has no address: make it with garrison node keys "
            "NAME on the supervisor's machine, and copy it here"
        )
    curve = CurveKeys(key.supervisor, key.public, key.secret)

    def connect(context: "zmq.Context[zmq.Socket[bytes]]", token: bytes) -> "zmq.Socket[bytes]":
        return sockets.dealer(context, where, token, -1, curve=curve)

    home = (invocation.home_option or Path(HOME)).absolute()
    invocation.say(f"node {key.name} on {socket.gethostname()}, home {home}, supervisor at {where}")
    run_node(
        key.name,
        home,
        (folder or Path.cwd()).absolute(),
        connect,
        urlsplit(where).hostname or "",
        os.environ,
        grace,
        invocation.say,
    )
    return DONE


node.add_command(keys)
