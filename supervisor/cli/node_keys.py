"""The verb that makes and removes the keys of nodes: node keys."""

import contextlib

import click
import msgspec

from garrison.ipc.errors import GarrisonError
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.load import load
from garrison.supervisor.state.node_keys import make_keys, read_key, remove_keys

from .errors import DONE
from .output import Invocation, options


@click.command(epilog="Examples: garrison node keys gpu-box; garrison node keys a b --json")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("--address", metavar="HOST:PORT", help="Where nodes connect. Default: listen.")
@click.option("--remove", is_flag=True, help="Remove the keys: what these nodes run is ended.")
@options
def keys(invocation: Invocation, names: tuple[str, ...], address: str | None, remove: bool) -> int:
    """Make the key file of each node that has none.

    On the supervisor's machine. The file is all that a node needs: copy it there, so that only its
    user can read it, and start garrison node --key FILE.

    A node whose key is removed is disconnected by a running supervisor within seconds. It is
    ordered to end what it runs, and ends that by itself when its lease is over.
    """
    host = load(invocation.config, invocation.home_option).host
    if remove:
        removed = remove_keys(host.home, names)
        invocation.answer({"removed": [{"name": one.stem, "path": str(one)} for one in removed]})
        for path in removed:
            invocation.say(f"removed {path}")
        return DONE
    made = make_keys(host.home, names, f"tcp://{address}" if address else _address(host))
    for path, is_new in made:
        there = "" if is_new else f" (was there, and connects to {read_key(path).address})"
        invocation.say(f"{path}{there}")
    invocation.say("Copy it to its machine, mode 600, and start there: garrison node --key FILE")
    invocation.answer(
        {"keys": [{"name": path.stem, "path": str(path), "new": new} for path, new in made]}
    )
    return DONE


def _address(host: HostSpec) -> str:
    """Return where nodes connect: where the supervisor listens, or will."""
    listen = host.engine.listen
    anywhere = listen.startswith(("0.0.0.0:", "[::]:"))
    if not listen.endswith(":0"):
        if not listen or anywhere:
            raise GarrisonError(
                "it is not known where nodes connect: set kind and listen, an address of this "
                "machine, under [engine], or name it with --address HOST:PORT"
            )
        return f"tcp://{listen}"
    with contextlib.suppress(OSError, msgspec.MsgspecError, KeyError, TypeError):
        return str(msgspec.json.decode((host.run / "engine.json").read_bytes())["engine"])
    raise GarrisonError("any port is to be used (listen), and no supervisor runs: start it first")
