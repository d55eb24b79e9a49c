"""The verb that runs one service of a running host on this terminal."""

import contextlib
import os
import sys
import termios
from collections.abc import Iterator
from typing import Any

import click

from .client import NO_LIMIT, request
from .completion import complete_names
from .errors import DONE, FAILED
from .output import Invocation, options
from .services import WAIT_S


@click.command(epilog="Example: garrison run hello")
@click.argument("name", metavar="NAME", shell_complete=complete_names)
@options
def run(invocation: Invocation, name: str) -> int:
    """Run one service on this terminal, as for pdb.

    The host is running, and has the service; nothing else of it is touched.

    Its input and output are this terminal's, so `breakpoint()` works. Other services call it as
    before; they wait as long as their own deadlines. It has no watchdog, no start timeout and no
    health check, and is not restarted. Ctrl-C ends that, and it runs as before.
    """
    home = invocation.home
    rows = request(home, "status", (name,))["services"]
    if len(rows) != 1:
        raise click.UsageError("run takes the NAME of one service", click.get_current_context())
    row = rows[0]
    name, wanted = row["name"], row["wanted"]
    text = f"{name} runs on this terminal, without watchdog and deadlines; Ctrl-C ends that"
    invocation.say(text, error=True)
    with _terminal_restored():
        try:
            data = request(home, "run", (name,), NO_LIMIT, pid=os.getpid())
        except KeyboardInterrupt:
            text = f"ending it, within its grace; then {name} " + ("runs" if wanted else "rests")
            invocation.say(text, error=True)
            request(home, "restart" if wanted else "stop", (name,), WAIT_S)
            data = {"service": name, "exit": None, "reason": None, "wanted": wanted}
    invocation.answer(data)
    return _print_outcome(invocation, data)


def _print_outcome(invocation: Invocation, data: dict[str, Any]) -> int:
    name, reason = data["service"], data["reason"] or data["exit"]
    after = f"{name} runs as before" if data["wanted"] else f"{name} is stopped, as before"
    ended = f"{name} ended here: {reason}; " if reason else ""
    invocation.say(f"{ended}{after}", error=True)
    clean = data["exit"] in {None, "", "exited with code 0"}
    return DONE if clean else FAILED


@contextlib.contextmanager
def _terminal_restored() -> Iterator[None]:
    """Give the terminal back as it was: a service that is killed in pdb leaves it changed."""
    try:
        before = termios.tcgetattr(sys.stdin.fileno())
    except (termios.error, OSError, ValueError):  # it is no terminal
        before = None
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)
