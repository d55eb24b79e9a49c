"""The verb that shows where a running service's threads and tasks are: `stack`."""

import linecache
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from garrison.ipc import OrderFailed
from garrison.ipc.system import process_tree

from .client import request
from .completion import complete_names
from .errors import DONE
from .open_calls import open_calls
from .output import Invocation, options

ANSWER_S = 1.0  # for the service's loop
WRITTEN_S = 3.0  # for the lines of a service whose loop is blocked
QUIET_S = 0.1  # for which they do not grow once they are complete
LOOK_S = 0.01
BYTES_MOST = 512 * 1024  # of those lines
THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)(?: \[(.*)\])? \(most recent")
FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')


@click.command(epilog="Examples: garrison stack discord; garrison stack discord --json")
@click.argument("name", metavar="NAME", shell_complete=complete_names)
@click.option("--all", "everything", is_flag=True, help="Show garrison's own frames, too.")
@options
def stack(invocation: Invocation, name: str, everything: bool) -> int:
    """Show where the threads and tasks of a running service are.

    Also the calls that it handles or waits for. It goes on running. If its loop is blocked, the
    threads write where they are to its log, from which they are shown.
    """
    home = invocation.home
    try:
        data: dict[str, Any] = request(home, "stack", (name,), ANSWER_S)
        data |= {"loop_blocked": False, "from_log": False}
    except OrderFailed as error:
        if error.code != "timed_out":
            raise
        data = _by_signal(home, name)
    data |= open_calls(Path(data.pop("flight", "")), time.time())
    for one in [*data["threads"], *data["tasks"]]:
        for frame in one["frames"]:
            frame["code"] = linecache.getline(frame["file"], frame["line"]).strip() or None
    invocation.answer(data)
    if not invocation.json:
        from .render.stack import stacks
        from .render.table import show

        show(*stacks(data, everything))
    return DONE


def _by_signal(home: Path, name: str) -> dict[str, Any]:
    """Return the stacks of the threads of a service whose loop does not answer.

    Raises:
        OrderFailed: It does not write them.
    """
    log = home / "logs" / f"{name}.log"
    before = _identity(log)
    data: dict[str, Any] = request(home, "stack", (name,), by_signal=True)
    text = _written(Path(data.pop("log")), before)
    threads = list(threads_of(text.splitlines()))
    if not threads:
        raise OrderFailed("failed", _silence(name, data["pid"], data.get("node")))
    age = data["beat_age_s"]  # the loop of an older release turns, and does not answer
    return data | {
        "loop_blocked": age is None or age >= ANSWER_S,
        "from_log": True,
        "threads": threads,
        "tasks": [],
        "more_threads": 0,
        "more_tasks": 0,
    }


def _identity(path: Path) -> tuple[int, int]:
    """Return a log's inode and size; zeros if there is none."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_ino, found.st_size


def _written(log: Path, before: tuple[int, int]) -> str:
    """Return what is added to a log until it does not grow any more."""
    deadline, text, grown = time.monotonic() + WRITTEN_S, "", time.monotonic()
    while (now := time.monotonic()) < deadline and (not text or now < grown + QUIET_S):
        time.sleep(LOOK_S)
        inode, _ = _identity(log)
        first = before[1] if inode == before[0] else 0  # it was rotated meanwhile
        added = _read(log, first)
        if added != text:
            text, grown = added, time.monotonic()
        if text and not any(map(THREAD.match, text.splitlines())):
            grown = time.monotonic()  # other lines of the service
    return text


def _read(log: Path, first: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(first)
            return file.read(BYTES_MOST).decode("utf-8", "replace")
    except OSError:
        return ""


def threads_of(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the threads that `faulthandler` has written, the main one first.

    Args:
        lines: Of a log; other lines are left out.
    """
    found: list[dict[str, Any]] = []
    inside = False
    for line in lines:
        if thread := THREAD.match(line):
            inside = True
            named: dict[str, Any] = {
                "name": thread[2] or f"0x{thread[1].lstrip('0')}",
                "ident": 0,
                "frames": [],
            }
            found.append({**named, "left_out": 0, "waits_for": ""})
        elif inside and (frame := FRAME.match(line)):
            place = {"file": frame[1], "line": int(frame[2]), "function": frame[3]}
            found[-1]["frames"].insert(0, place)
        else:
            inside = False
    if found:
        found[-1]["name"] = "MainThread"  # it is listed last
    yield from reversed(found)


def _silence(name: str, pid: int, node: str | None) -> str:
    if node is None and process_tree.stopped(pid):  # elsewhere the pid is another process's
        return f"{name} is stopped by a signal: kill -CONT {pid}, or garrison restart {name}"
    return (
        f"{name} (pid {pid}) wrote no stacks within {WRITTEN_S:g} s: it waits in the kernel, or "
        f"the machine is very busy. Try again, or: garrison restart {name}"
    )
