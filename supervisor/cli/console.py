"""The verb that opens the console in a browser: `console`."""

import contextlib
import html
import os
import shlex
import tempfile
import webbrowser
from pathlib import Path
from typing import Any

import click

from garrison.ipc.errors import GarrisonError

from .client import request
from .completion import complete_names
from .errors import DONE
from .output import Invocation, options

UNIX = "unix:"
PORT = 8420  # at the browser's end of a tunnel


@click.command(epilog="Examples: garrison console; garrison console --open; garrison console web")
@click.argument("name", required=False, default="", shell_complete=complete_names)
@click.option("--open", "opens", is_flag=True, help="Open it in this machine's browser.")
@options
def console(invocation: Invocation, name: str, opens: bool) -> int:
    """Print a link that opens the console.

    It works once, within a minute, and logs you in as the user who typed this. NAME is needed where
    there are several consoles.
    """
    data: dict[str, Any] = request(invocation.home, "console", service=name)
    link, tunnel = link_of(data["address"], data["ticket"]), ""
    if data["address"].startswith(UNIX):
        path = shlex.quote(data["address"].removeprefix(UNIX))
        tunnel = f"ssh -L {PORT}:{path} {os.uname().nodename}"
    if opens and not tunnel:
        _open(link)
    invocation.answer({**data, "link": link, "tunnel": tunnel or None})
    if tunnel:
        invocation.say("on the machine with the browser, type this first:")
        invocation.say(f"  {tunnel}")
    invocation.say(link)
    return DONE


def link_of(address: str, ticket: str) -> str:
    """Return the link of a ticket. A Unix socket is reached through a tunnel."""
    base = f"http://localhost:{PORT}" if address.startswith(UNIX) else address
    return f"{base}/enter?ticket={ticket}"


def _open(link: str) -> None:
    """Open a link by a file of this user's: others could read it in the browser's command."""
    handle, path = tempfile.mkstemp(prefix="garrison-", suffix=".html")
    refresh = f'<meta http-equiv="refresh" content="0;url={html.escape(link)}">'
    with os.fdopen(handle, "w") as file:
        file.write(f"<!doctype html><title>garrison</title>{refresh}")
    if not webbrowser.open(Path(path).as_uri()):
        with contextlib.suppress(OSError):
            Path(path).unlink()
        raise GarrisonError("this machine has no browser that could be started; leave out --open")
